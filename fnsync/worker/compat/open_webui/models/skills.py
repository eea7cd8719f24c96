"""Of `open_webui.models.skills`: skills that functions keep for the caller."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from fnsync.worker.compat import records
from fnsync.worker.compat.ready import Table, answers
from fnsync.worker.compat.records import Asking, Record

KIND = "skill"


class SkillMeta(BaseModel):
    model_config = ConfigDict(extra="allow")

    tags: list[str] | None = []


class SkillModel(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    user_id: str
    name: str
    description: str | None = None
    content: str = ""
    data: dict[str, Any] = {}
    meta: SkillMeta = SkillMeta()
    is_active: bool = True
    access_grants: list[Any] = []
    updated_at: int
    created_at: int


class SkillUserModel(SkillModel):
    user: Any = None


class SkillForm(BaseModel):
    id: str
    name: str
    description: str | None = None
    content: str | None = None
    data: dict[str, Any] = {}
    meta: SkillMeta = SkillMeta()
    is_active: bool = True
    access_grants: list[dict[str, Any]] | None = None


def _skill(record: Record | None) -> SkillUserModel | None:
    if record is None:
        return None
    about = {key: record[key] for key in ("id", "user_id", "created_at", "updated_at")}
    value = {key: item for key, item in record["value"].items() if item is not None}
    return SkillUserModel(**{**value, **about})


class SkillsTable(Table):
    """Keeps skills, and finds them again."""

    @answers
    def insert_new_skill(self, user_id: str, form_data: SkillForm, db: Any = None) -> Asking:
        return _skill((yield from records.keep(KIND, form_data.id, form_data.model_dump(exclude={"id"}))))

    @answers
    def get_skill_by_id(self, id: str, db: Any = None) -> Asking:
        return _skill((yield from records.kept(KIND, id)))

    @answers
    def get_skill_by_name(self, name: str, db: Any = None) -> Asking:
        found = map(_skill, (yield from records.all_kept(KIND)))
        return next((one for one in found if one is not None and one.name == name), None)

    @answers
    def get_skills(self, *_: Any, **__: Any) -> Asking:
        return list(map(_skill, (yield from records.all_kept(KIND))))

    @answers
    def get_skills_by_user_id(self, user_id: str, *_: Any, **__: Any) -> Asking:
        found = map(_skill, (yield from records.all_kept(KIND)))
        return [one for one in found if one is not None and one.user_id == user_id]

    @answers
    def update_skill_by_id(self, id: str, updated: dict[str, Any], db: Any = None) -> Asking:
        return _skill((yield from records.change(KIND, id, lambda value: value.update(updated))))

    @answers
    def delete_skill_by_id(self, id: str, db: Any = None) -> Asking:
        return (yield from records.drop(KIND, id))


Skills = SkillsTable("Skills")
