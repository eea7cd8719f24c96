"""Of `open_webui.models.users`: the users of this server; of others than the caller, hardly anything."""

from __future__ import annotations

import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from fnsync.worker.compat.ready import Question, Table, answers
from fnsync.worker.compat.records import Asking


class UserSettings(BaseModel):
    """What a user has set in the chat's page: nothing here."""

    model_config = ConfigDict(extra="allow")

    ui: dict[str, Any] | None = {}


class UserModel(BaseModel):
    """A user, with the fields of `__user__`; what this server does not know has its default."""

    model_config = ConfigDict(from_attributes=True, extra="ignore")

    id: str
    email: str = ""
    username: str | None = None
    role: str = "pending"
    name: str = ""
    profile_image_url: str | None = "/user.png"
    profile_banner_image_url: str | None = None
    bio: str | None = None
    gender: str | None = None
    date_of_birth: datetime.date | None = None
    timezone: str | None = None
    presence_state: str | None = None
    status_emoji: str | None = None
    status_message: str | None = None
    status_expires_at: int | None = None
    info: dict[str, Any] | None = None
    variables: dict[str, Any] = {}
    settings: UserSettings | None = None
    oauth: dict[str, Any] | None = None
    scim: dict[str, Any] | None = None
    last_active_at: int = 0
    updated_at: int = 0
    created_at: int = 0


class User(UserModel):
    """As UserModel; functions name it in annotations."""


class UserNameResponse(BaseModel):
    id: str
    name: str
    role: str


class UserResponse(UserNameResponse):
    email: str


def _one(told: Any) -> UserModel | None:
    return None if told.value is None else UserModel(**told.value)


class UsersTable(Table):
    """Asks for users. Whom the caller may not see beyond id, name and role has no e-mail address."""

    @answers
    def get_user_by_id(self, id: str, db: Any = None) -> Asking:
        return _one((yield Question("user", {"id": str(id)})))

    @answers
    def get_user_by_email(self, email: str, db: Any = None) -> Asking:
        return _one((yield Question("user_by_email", {"email": str(email)})))

    @answers
    def get_first_user(self, db: Any = None) -> Asking:
        return _one((yield Question("first_user", {})))

    @answers
    def get_super_admin_user(self, db: Any = None) -> Asking:
        return _one((yield Question("first_user", {})))

    @answers
    def get_users_by_user_ids(self, user_ids: list[str], db: Any = None) -> Asking:
        found = []
        for id in user_ids:
            one = _one((yield Question("user", {"id": str(id)})))
            found += [one] if one is not None else []
        return found

    @answers
    def get_valid_user_ids(self, user_ids: list[str], db: Any = None) -> Asking:
        found = []
        for id in user_ids:
            told = yield Question("user", {"id": str(id)})
            found += [id] if told.value is not None else []
        return found


Users = UsersTable("Users")
