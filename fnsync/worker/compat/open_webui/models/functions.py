"""Of `open_webui.models.functions`: the functions that the caller may use, without secrets."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from fnsync.worker.compat.ready import Question, Table, answers
from fnsync.worker.compat.records import Asking


class FunctionMeta(BaseModel):
    model_config = ConfigDict(extra="allow")

    description: str | None = None
    manifest: dict[str, Any] | None = {}


class FunctionModel(BaseModel):
    """A function; its source is there for who manages it."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    user_id: str | None = None
    name: str
    type: str
    content: str = ""
    meta: FunctionMeta = FunctionMeta()
    is_active: bool = False
    is_global: bool = False
    updated_at: int = 0
    created_at: int = 0


class FunctionForm(BaseModel):
    id: str
    name: str
    content: str
    meta: FunctionMeta


class FunctionsTable(Table):
    """Asks for functions."""

    @answers
    def get_function_by_id(self, id: str, db: Any = None) -> Asking:
        told = yield Question("function", {"id": str(id)})
        return None if told.value is None else FunctionModel(**told.value)

    @answers
    def get_functions(self, active_only: bool = False, include_valves: bool = False, db: Any = None) -> Asking:
        told = yield Question("functions", {})
        found = [FunctionModel(**entry) for entry in told.value]
        return [one for one in found if one.is_active or not active_only]

    @answers
    def get_functions_by_type(self, type: str, active_only: bool = False, db: Any = None) -> Asking:
        told = yield Question("functions", {})
        found = [FunctionModel(**entry) for entry in told.value]
        return [one for one in found if one.type == type and (one.is_active or not active_only)]

    @answers
    def get_function_valves_by_id(self, id: str, db: Any = None) -> Asking:
        told = yield Question("function_valves", {"id": str(id)})
        return told.value


Functions = FunctionsTable("Functions")
