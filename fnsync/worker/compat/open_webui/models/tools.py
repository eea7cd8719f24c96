"""Of `open_webui.models.tools`: there are no workspace tools here, so nothing is found."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from fnsync.worker.compat.ready import Table, answers
from fnsync.worker.compat.records import Asking


class ToolMeta(BaseModel):
    model_config = ConfigDict(extra="allow")

    description: str | None = None
    manifest: dict[str, Any] | None = {}


class ToolModel(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    user_id: str | None = None
    name: str
    content: str | None = None
    specs: list[dict[str, Any]] = []
    meta: ToolMeta = ToolMeta()
    access_grants: list[Any] = []
    updated_at: int = 0
    created_at: int = 0


class ToolUserModel(ToolModel):
    user: Any = None


class ToolsTable(Table):
    """Finds none."""

    @answers
    def get_tool_by_id(self, id: str, db: Any = None) -> Asking:
        yield from ()
        return None

    @answers
    def get_tools(self, *_: Any, **__: Any) -> Asking:
        yield from ()
        return []

    @answers
    def get_tools_by_user_id(self, user_id: str, *_: Any, **__: Any) -> Asking:
        yield from ()
        return []

    @answers
    def get_tools_by_ids(self, ids: list[str], db: Any = None) -> Asking:
        yield from ()
        return {}

    @answers
    def get_tool_valves_by_id(self, id: str, db: Any = None) -> Asking:
        yield from ()
        return None


Tools = ToolsTable("Tools")
