"""State: what belongs to users and not to reviewers, kept across rebuilds of the index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fnsync.model import User

#: The built-in admin, whom the generated admin token and FNSYNC_ADMIN_TOKEN stand for.
ADMIN = User(id="admin", name="Admin", email="admin@localhost", role="admin")


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of an access token; its text is shown once and never stored."""

    #: 8 hex digits; also the first part of the token's text, `fns_<id>_<secret>`.
    id: str
    user_id: str
    label: str
    #: SHA-256 of the whole text, 64 hex digits.
    digest: str
    created_at: int
    last_used_at: int | None = None


class State:
    """Users and tokens; safe from any thread."""

    @classmethod
    def open(cls, url: str) -> State:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def ensure_admin(self) -> User:
        raise NotImplementedError

    def add_user(self, *, name: str, email: str, role: Literal["admin", "user", "pending"] = "user") -> User:
        raise NotImplementedError

    def users(self) -> list[User]:
        raise NotImplementedError

    def user(self, id: str) -> User | None:
        raise NotImplementedError

    def add_token(self, user_id: str, label: str) -> tuple[Token, str]:
        raise NotImplementedError

    def tokens(self) -> list[Token]:
        raise NotImplementedError

    def revoke(self, token_id: str) -> bool:
        raise NotImplementedError

    def mark_used(self, token_id: str, at: int) -> None:
        raise NotImplementedError

    def generation(self) -> int:
        raise NotImplementedError
