"""Of `open_webui.models.files`: files that functions keep for the caller."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from fnsync.worker.compat import contents, records
from fnsync.worker.compat.ready import Table, answers, at_once
from fnsync.worker.compat.records import Asking, Record

KIND = "file"


class FileModel(BaseModel):
    """A file. Reading its `path` has the content there, so that it can be opened."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    user_id: str
    hash: str | None = None
    filename: str
    path: str | None = None
    data: dict[str, Any] | None = None
    meta: dict[str, Any] | None = None
    created_at: int | None = None
    updated_at: int | None = None

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return at_once(contents.fetch(value)) if name == "path" and value else value


class FileMeta(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str | None = None
    content_type: str | None = None
    size: int | None = None


class FileModelResponse(BaseModel):
    id: str
    user_id: str
    hash: str | None = None
    filename: str
    data: dict[str, Any] | None = None
    meta: FileMeta | None = None
    created_at: int
    updated_at: int | None = None


class FileMetadataResponse(BaseModel):
    id: str
    hash: str | None = None
    meta: dict[str, Any] | None = None
    created_at: int
    updated_at: int


class FileForm(BaseModel):
    id: str
    hash: str | None = None
    filename: str
    path: str
    data: dict[str, Any] = {}
    meta: dict[str, Any] = {}


class FileUpdateForm(BaseModel):
    hash: str | None = None
    data: dict[str, Any] | None = None
    meta: dict[str, Any] | None = None


def _file(record: Record | None) -> FileModel | None:
    if record is None:
        return None
    value = record["value"]
    key = value.get("path")
    return FileModel(
        id=record["id"],
        user_id=record["user_id"],
        hash=value.get("hash"),
        filename=value.get("filename") or record["id"],
        path=str(contents.path_of(key)) if key else None,
        data=value.get("data") or {},
        meta=value.get("meta") or {},
        created_at=record["created_at"],
        updated_at=record["updated_at"],
    )


def _metadata(record: Record | None) -> FileMetadataResponse | None:
    if record is None:
        return None
    return FileMetadataResponse(
        id=record["id"],
        hash=record["value"].get("hash"),
        meta=record["value"].get("meta"),
        created_at=record["created_at"],
        updated_at=record["updated_at"],
    )


def _update(id: str, **values: Any) -> Asking:
    def edit(value: dict[str, Any]) -> None:
        for key, given in values.items():
            value[key] = {**(value.get(key) or {}), **given} if isinstance(given, dict) else given

    return _file((yield from records.change(KIND, id, edit)))


class FilesTable(Table):
    """Keeps files, and finds them again."""

    @answers
    def insert_new_file(self, user_id: str, form_data: FileForm, db: Any = None) -> Asking:
        """The file; its content is what Storage.upload_file kept, or what the function wrote at `path`."""
        value = form_data.model_dump(exclude={"id"})
        value["path"] = yield from contents.adopt(form_data.path)
        return _file((yield from records.keep(KIND, form_data.id, value)))

    @answers
    def get_file_by_id(self, id: str, db: Any = None) -> Asking:
        return _file((yield from records.kept(KIND, id)))

    @answers
    def get_file_by_id_and_user_id(self, id: str, user_id: str, db: Any = None) -> Asking:
        found = _file((yield from records.kept(KIND, id)))
        return found if found is not None and found.user_id == user_id else None

    @answers
    def get_file_metadata_by_id(self, id: str, db: Any = None) -> Asking:
        return _metadata((yield from records.kept(KIND, id)))

    @answers
    def get_files(self, db: Any = None) -> Asking:
        return list(map(_file, (yield from records.all_kept(KIND))))

    @answers
    def get_files_by_user_id(self, user_id: str, db: Any = None) -> Asking:
        found = map(_file, (yield from records.all_kept(KIND)))
        return [one for one in found if one is not None and one.user_id == user_id]

    @answers
    def get_files_by_ids(self, ids: list[str], db: Any = None) -> Asking:
        found = []
        for id in ids:
            one = _file((yield from records.kept(KIND, id)))
            found += [one] if one is not None else []
        return found

    @answers
    def update_file_by_id(self, id: str, form_data: FileUpdateForm, db: Any = None) -> Asking:
        return (yield from _update(id, **form_data.model_dump(exclude_none=True)))

    @answers
    def update_file_hash_by_id(self, id: str, hash: str | None, db: Any = None) -> Asking:
        return (yield from _update(id, hash=hash))

    @answers
    def update_file_data_by_id(self, id: str, data: dict[str, Any], db: Any = None) -> Asking:
        return (yield from _update(id, data=data))

    @answers
    def update_file_metadata_by_id(self, id: str, meta: dict[str, Any], db: Any = None) -> Asking:
        return (yield from _update(id, meta=meta))

    @answers
    def update_file_name_by_id(self, id: str, name: str, db: Any = None) -> Asking:
        return (yield from _update(id, filename=name, meta={"name": name}))

    @answers
    def delete_file_by_id(self, id: str, db: Any = None) -> Asking:
        """Forget a file and its content."""
        record = yield from records.kept(KIND, id)
        if record is None:
            return False
        yield from contents.drop(record["value"].get("path"))
        return (yield from records.drop(KIND, id))


Files = FilesTable("Files")
