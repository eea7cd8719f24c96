"""Access tokens in the state: their hashes, never their texts."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fnsync.errors import Conflict, NotFound
from fnsync.model import Ceiling, User
from fnsync.store.generation import advance
from fnsync.store.opening import Opened
from fnsync.store.users import one_line

LABEL_CHARACTERS = 255


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
    #: Of a service token, which may say for whom it calls: the most that these get. None: no service token.
    ceiling: Ceiling | None = None


class Tokens(Opened):
    """The part of the state that holds tokens."""

    def add_token(self, user_id: str, label: str, *, ceiling: Ceiling | None = None) -> tuple[Token, str]:
        """Make a token, with a `ceiling` a service token; returns it and its text, which cannot be had again.

        Raises NotFound for an unknown user, Conflict for one of a chat server, Invalid for a label that is no line.
        """
        from fnsync.store import tables  # start time

        label = one_line(label.strip(), "label", LABEL_CHARACTERS)
        id = secrets.token_hex(4)
        secret = f"fns_{id}_{secrets.token_urlsafe(32)}"
        token = Token(id, user_id, label, digest(secret), int(time.time()), None, ceiling)
        with self._writing() as connection:
            owner = connection.execute(tables.users.select().where(tables.users.c.id == user_id)).one_or_none()
            if owner is None:
                raise NotFound(f"there is no user {user_id!r}")
            if owner.origin != "local":
                raise Conflict(
                    f"{owner.name} is a user of a chat server, for whom its own token calls",
                    hint="add a user here for a token of their own",
                )
            values = {"label": label, "digest": token.digest, "created_at": token.created_at, "ceiling": ceiling}
            connection.execute(tables.tokens.insert().values(id=id, user_id=user_id, **values))
            advance(connection)
        return token, secret

    def tokens(self, user_id: str | None = None) -> list[Token]:
        """All tokens, or those of one user; oldest first."""
        from fnsync.store import tables  # start time

        query = tables.tokens.select().order_by(tables.tokens.c.created_at, tables.tokens.c.id)
        if user_id is not None:
            query = query.where(tables.tokens.c.user_id == user_id)
        with self._reading() as connection:
            return [_token(row) for row in connection.execute(query)]

    def holders(self) -> list[tuple[Token, User]]:
        """Each token with the user whose it is."""
        from sqlalchemy import select  # start time

        from fnsync.store import tables

        owner = tables.users.c
        columns = (owner.name, owner.email, owner.role)
        query = select(tables.tokens, *columns).join(tables.users, owner.id == tables.tokens.c.user_id)
        with self._reading() as connection:
            return [
                (_token(row), User(row.user_id, row.name, row.email, row.role)) for row in connection.execute(query)
            ]

    def revoke(self, token_id: str) -> bool:
        """Remove a token; false when there is none of that id."""
        from fnsync.store import tables  # start time

        with self._writing() as connection:
            removed = connection.execute(tables.tokens.delete().where(tables.tokens.c.id == token_id)).rowcount > 0
            if removed:
                advance(connection)
        return removed

    def mark_used(self, used: Mapping[str, int]) -> None:
        """Note when tokens were last used (id -> epoch seconds); does not change `generation`."""
        from fnsync.store import tables  # start time

        with self._writing() as connection:
            for id, at in used.items():
                connection.execute(tables.tokens.update().where(tables.tokens.c.id == id).values(last_used_at=at))


def digest(text: str) -> str:
    """What is stored of a token's text: SHA-256, 64 hex digits. Tokens have 256 random bits, so no salt is needed."""
    return hashlib.sha256(text.encode()).hexdigest()


def _token(row: Any) -> Token:
    return Token(row.id, row.user_id, row.label, row.digest, row.created_at, row.last_used_at, row.ceiling)
