"""Of `open_webui.models.folders`: folders that functions keep for the caller."""

from __future__ import annotations

import uuid
from typing import Any

from pydantic import BaseModel, ConfigDict

from fnsync.worker.compat import records
from fnsync.worker.compat.ready import Table, answers
from fnsync.worker.compat.records import Asking, Record

KIND = "folder"


class FolderModel(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    parent_id: str | None = None
    user_id: str
    name: str
    items: dict[str, Any] | None = None
    meta: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    is_expanded: bool = False
    created_at: int
    updated_at: int


class FolderForm(BaseModel):
    name: str
    data: dict[str, Any] | None = None
    meta: dict[str, Any] | None = None
    parent_id: str | None = None


class FolderUpdateForm(BaseModel):
    name: str | None = None
    data: dict[str, Any] | None = None
    meta: dict[str, Any] | None = None


def _folder(record: Record | None) -> FolderModel | None:
    if record is None:
        return None
    about = {key: record[key] for key in ("id", "user_id", "created_at", "updated_at")}
    return FolderModel(**{**record["value"], **about})


class FolderTable(Table):
    """Keeps folders, and finds them again."""

    @answers
    def insert_new_folder(
        self, user_id: str, form_data: FolderForm, parent_id: str | None = None, db: Any = None
    ) -> Asking:
        value = {**form_data.model_dump(), "parent_id": parent_id or form_data.parent_id}
        return _folder((yield from records.keep(KIND, str(uuid.uuid4()), value)))

    @answers
    def get_folder_by_id(self, id: str, db: Any = None) -> Asking:
        return _folder((yield from records.kept(KIND, id)))

    @answers
    def get_folder_by_id_and_user_id(self, id: str, user_id: str, db: Any = None) -> Asking:
        found = _folder((yield from records.kept(KIND, id)))
        return found if found is not None and found.user_id == user_id else None

    @answers
    def get_folders_by_user_id(self, user_id: str, db: Any = None) -> Asking:
        found = map(_folder, (yield from records.all_kept(KIND)))
        return [one for one in found if one is not None and one.user_id == user_id]

    @answers
    def update_folder_by_id_and_user_id(
        self, id: str, user_id: str, form_data: FolderUpdateForm, db: Any = None
    ) -> Asking:
        found = _folder((yield from records.kept(KIND, id)))
        if found is None or found.user_id != user_id:
            return None
        given = form_data.model_dump(exclude_none=True)
        return _folder((yield from records.change(KIND, id, lambda value: value.update(given))))

    @answers
    def delete_folder_by_id_and_user_id(self, id: str, user_id: str, *_: Any, **__: Any) -> Asking:
        found = _folder((yield from records.kept(KIND, id)))
        return found is not None and found.user_id == user_id and (yield from records.drop(KIND, id))


Folders = FolderTable("Folders")
