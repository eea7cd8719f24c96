"""Bearer tokens: a table in memory, kept in step with the state by its generation number.

A token's text is `fns_<id>_<secret>`. The table holds the SHA-256 of whole texts by id, compared in constant time.
No token is ever logged.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from fnsync.errors import FnsyncError, Unauthorized
from fnsync.model import User
from fnsync.store.state import ADMIN, State

#: How often the state is asked whether something changed.
REFRESH_S = 1.0
#: How often, at most, an unknown id makes the table be read again.
UNKNOWN_S = 0.2
#: How often, at most, the state is told that a token was used.
MARK_S = 60.0
#: Longer ones are refused unread.
MAX_TOKEN_BYTES = 1024

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A token: its id, the SHA-256 of its text, and whose it is."""

    id: str
    digest: bytes
    user: User


@dataclass(frozen=True, slots=True)
class Table:
    """The tokens by id, as of one generation of the state."""

    generation: int = -1
    entries: Mapping[str, Entry] | None = None


class Auth:
    """Says who a request's bearer token belongs to."""

    def __init__(self, state: State, admin_token: str | None, ready: asyncio.Event) -> None:
        """`admin_token`: one more token, of the built-in admin, given from outside. `ready`: the server has started."""
        self._state = state
        self._admin_digest = hashlib.sha256(admin_token.encode()).digest() if admin_token else None
        self._ready = ready
        self._table = Table()
        #: time.monotonic() when the last reading began.
        self._read_at = 0.0
        self._reading = asyncio.Lock()
        #: Ids of tokens used since the state was told last.
        self._used: set[str] = set()
        #: Id -> time.monotonic() when the state was told.
        self._marked_at: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Refresh the table until `close`; its first reading loads SQLAlchemy, so it waits for the start to be over."""
        self._task = asyncio.create_task(self._keep_fresh(), name="token table")

    async def close(self) -> None:
        """End the refreshing, and note the last uses."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._mark_used(self._used)

    async def caller(self, authorization: bytes) -> User:
        """Return whose token an Authorization header holds. Raises Unauthorized."""
        token = _token(authorization)
        digest = hashlib.sha256(token).digest()
        caller = self._find(token, digest)
        if caller is None:
            await self._read_again()
            caller = self._find(token, digest)
        if caller is None:
            raise Unauthorized("the token is not known, or was revoked")
        if caller.role == "pending":
            raise Unauthorized("the account is waiting for an admin to accept it")
        return caller

    async def admin(self, authorization: bytes) -> User:
        """Return the caller if it is an admin. Raises Unauthorized."""
        caller = await self.caller(authorization)
        if not caller.is_admin:
            raise Unauthorized("this needs an admin's token")
        return caller

    def _find(self, token: bytes, digest: bytes) -> User | None:
        if self._admin_digest is not None and hmac.compare_digest(digest, self._admin_digest):
            return ADMIN
        parts = token.split(b"_", 2)
        if len(parts) != 3 or self._table.entries is None:
            return None
        entry = self._table.entries.get(parts[1].decode("latin-1"))
        if entry is None or not hmac.compare_digest(digest, entry.digest):
            return None
        self._used.add(entry.id)
        return entry.user

    async def _read_again(self) -> None:
        """Read the state as it is now, for a token that may have been made a moment ago.

        Wrong tokens cost one reading each UNKNOWN_S, however many there are; they wait for it together.
        """
        asked_at = time.monotonic()
        async with self._reading:
            if self._read_at > asked_at:
                return
            if self._table.entries is not None:
                await asyncio.sleep(self._read_at + UNKNOWN_S - asked_at)
            await self._refresh()

    async def _keep_fresh(self) -> None:
        await self._ready.wait()
        while True:
            try:
                async with self._reading:
                    await self._refresh()
            except FnsyncError as exc:
                log.warning("tokens_not_refreshed", error=str(exc))
            await self._mark_used(self._due())
            await asyncio.sleep(REFRESH_S)

    def _due(self) -> set[str]:
        """Return the used tokens that the state was not told of within MARK_S."""
        now = time.monotonic()
        self._marked_at = {id: at for id, at in self._marked_at.items() if now - at < MARK_S}
        return self._used - self._marked_at.keys()

    async def _mark_used(self, ids: set[str]) -> None:
        """Tell the state of these tokens' use. That it cannot be told is no reason to refuse anybody."""
        if not ids:
            return
        self._used = self._used - ids
        self._marked_at |= dict.fromkeys(ids, time.monotonic())
        try:
            await asyncio.to_thread(self._state.mark_used, dict.fromkeys(ids, int(time.time())))
        except FnsyncError as exc:
            log.warning("token_use_not_noted", error=str(exc))

    async def _refresh(self) -> None:
        """Read the table if it changed; under the lock."""
        began_at = time.monotonic()
        self._table = await asyncio.to_thread(self._read, self._table)
        self._read_at = began_at

    def _read(self, table: Table) -> Table:
        """Return the table of the state's present generation. Blocking."""
        generation = self._state.generation()
        if generation == table.generation:
            return table
        users = {user.id: user for user in self._state.users()}
        entries = {
            token.id: Entry(token.id, bytes.fromhex(token.digest), users[token.user_id])
            for token in self._state.tokens()
            if token.user_id in users
        }
        return Table(generation, entries)


def _token(authorization: bytes) -> bytes:
    """Return the token of `Bearer <token>`. Raises Unauthorized."""
    scheme, _, token = authorization.partition(b" ")
    token = token.strip()
    if not authorization:
        raise Unauthorized("no token: send the header Authorization: Bearer <token>")
    if scheme.lower() != b"bearer" or not token or len(token) > MAX_TOKEN_BYTES:
        raise Unauthorized("the Authorization header is not of the form: Bearer <token>")
    return token
