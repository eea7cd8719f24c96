"""Access tokens in the state: their hashes, never their texts."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

from fnsync.errors import NotFound
from fnsync.store.generation import advance
from fnsync.store.opening import Opened


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


class Tokens(Opened):
    """The part of the state that holds tokens."""

    def add_token(self, user_id: str, label: str) -> tuple[Token, str]:
        """Make a token; returns it and its text, which cannot be had again. Raises NotFound for an unknown user."""
        from fnsync.store import tables  # start time

        id = secrets.token_hex(4)
        secret = f"fns_{id}_{secrets.token_urlsafe(32)}"
        token = Token(id, user_id, label, digest(secret), int(time.time()))
        with self._writing() as connection:
            if not connection.execute(tables.users.select().where(tables.users.c.id == user_id)).all():
                raise NotFound(f"there is no user {user_id!r}")
            connection.execute(
                tables.tokens.insert().values(
                    id=id, user_id=user_id, label=label, digest=token.digest, created_at=token.created_at
                )
            )
            advance(connection)
        return token, secret

    def tokens(self) -> list[Token]:
        """All tokens, oldest first."""
        from fnsync.store import tables  # start time

        with self._reading() as connection:
            found = connection.execute(tables.tokens.select().order_by(tables.tokens.c.created_at, tables.tokens.c.id))
            return [Token(r.id, r.user_id, r.label, r.digest, r.created_at, r.last_used_at) for r in found]

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
