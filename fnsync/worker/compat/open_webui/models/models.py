"""Of `open_webui.models.models`: the models that the caller may use. They have no presets, so no parameters."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from fnsync.worker.compat.open_webui.models.users import UserResponse
from fnsync.worker.compat.ready import Question, Table, answers
from fnsync.worker.compat.records import Asking


class ModelParams(BaseModel):
    model_config = ConfigDict(extra="allow")


class ModelMeta(BaseModel):
    model_config = ConfigDict(extra="allow")

    profile_image_url: str | None = None
    description: str | None = None
    capabilities: dict[str, Any] | None = None
    knowledge: list[Any] | None = None


class ModelModel(BaseModel):
    """A model."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    user_id: str = ""
    base_model_id: str | None = None
    name: str
    params: ModelParams = ModelParams()
    meta: ModelMeta = ModelMeta()
    access_grants: list[Any] = []
    is_active: bool = True
    updated_at: int = 0
    created_at: int = 0


class ModelUserResponse(ModelModel):
    user: UserResponse | None = None


class ModelResponse(ModelModel):
    """As ModelModel."""


class ModelForm(BaseModel):
    id: str
    base_model_id: str | None = None
    name: str
    meta: ModelMeta
    params: ModelParams
    access_grants: list[dict[str, Any]] | None = None
    is_active: bool = True


def _model(entry: dict[str, Any], cls: type[ModelModel] = ModelModel) -> ModelModel:
    created = entry.get("created")
    at = created if isinstance(created, int) else 0
    return cls(id=entry["id"], name=entry.get("name") or entry["id"], created_at=at, updated_at=at)


def _entries() -> Asking:
    told = yield Question("models", {})
    return told.value


class ModelsTable(Table):
    """Asks for models."""

    @answers
    def get_model_by_id(self, id: str, db: Any = None) -> Asking:
        entries = yield from _entries()
        return next((_model(entry) for entry in entries if entry["id"] == id), None)

    @answers
    def get_models_by_ids(self, ids: list[str], db: Any = None) -> Asking:
        entries = yield from _entries()
        return [_model(entry) for entry in entries if entry["id"] in ids]

    @answers
    def get_all_models(self, db: Any = None) -> Asking:
        entries = yield from _entries()
        return [_model(entry) for entry in entries]

    @answers
    def get_models(self, *_: Any, **__: Any) -> Asking:
        """Presets in Open WebUI; there are none here."""
        yield from ()
        return []

    @answers
    def get_base_models(self, *_: Any, **__: Any) -> Asking:
        entries = yield from _entries()
        return [_model(entry, ModelUserResponse) for entry in entries]


Models = ModelsTable("Models")
