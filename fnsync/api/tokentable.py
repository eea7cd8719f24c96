"""The tokens and the ids of local users in memory, kept in step with the state by its generation number.

A token's text is `fns_<id>_<secret>`. The table holds the SHA-256 of whole texts by id, compared in constant time.
No token is ever logged.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import structlog

from fnsync.errors import FnsyncError
from fnsync.model import Ceiling, User, lesser
from fnsync.store.state import ADMIN, State

#: How often, at most, an unknown id makes the table be read again.
UNKNOWN_S = 0.2
#: How often, at most, the state is told that a token was used.
MARK_S = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A token: its id, the SHA-256 of its text, and whose it is."""

    id: str
    digest: bytes = field(repr=False)
    #: The owner, capped by the ceiling.
    user: User
    #: Of a service token; None: no service token.
    ceiling: Ceiling | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """The tokens by id, and who is local, as of one generation of the state."""

    generation: int = -1
    entries: Mapping[bytes, Entry] | None = None
    local_ids: frozenset[str] = frozenset()


class TokenTable:
    """Finds tokens by their texts."""

    def __init__(self, state: State, admin_token: str | None) -> None:
        """`admin_token`: one more token, of the built-in admin, given from outside."""
        self._state = state
        given = hashlib.sha256(admin_token.encode()).digest() if admin_token else None
        self._admin = Entry("", given, ADMIN) if given else None
        self._table = Table()
        #: time.monotonic() when the last reading began.
        self._read_at = 0.0
        self._reading = asyncio.Lock()
        #: Ids of tokens used since the state was told last.
        self._used: set[str] = set()
        #: Id -> time.monotonic() when the state was told.
        self._marked_at: dict[str, float] = {}

    @property
    def generation(self) -> int:
        """The generation of the state that the table was read at; -1: not yet."""
        return self._table.generation

    @property
    def local_ids(self) -> frozenset[str]:
        """The ids of users who were added here."""
        return self._table.local_ids

    def find(self, token: bytes, digest: bytes) -> Entry | None:
        """The entry of a token, whose SHA-256 is `digest`, as far as the table is known to hold it."""
        entry = self._find(self._table, token, digest)
        if entry is not None and entry is not self._admin:
            self._used.add(entry.id)
        return entry

    def find_now(self, token: bytes, digest: bytes) -> Entry | None:
        """The entry of a token by what the state says at this moment; blocking. Raises StoreError."""
        return self._find(self._now(self._table), token, digest)

    def _find(self, table: Table, token: bytes, digest: bytes) -> Entry | None:
        if self._admin is not None and hmac.compare_digest(digest, self._admin.digest):
            return self._admin
        entry = None if table.entries is None else table.entries.get(token[4:12])
        return entry if entry is not None and hmac.compare_digest(digest, entry.digest) else None

    async def find_new(self, token: bytes, digest: bytes) -> Entry | None:
        """The entry of a token that may have been made a moment ago: the state is read as it is now.

        Wrong tokens cost one reading each UNKNOWN_S, however many there are; they wait for it together. What does not
        look like a token costs none.
        """
        if token[:4] != b"fns_" or token[12:13] != b"_":
            return None
        asked_at = time.monotonic()
        async with self._reading:
            if self._read_at <= asked_at:
                if self._table.entries is not None:
                    await asyncio.sleep(self._read_at + UNKNOWN_S - asked_at)
                await self._read()
        return self.find(token, digest)

    async def refresh(self) -> None:
        """Read the table if the state has changed. Raises StoreError."""
        async with self._reading:
            await self._read()

    # ---- when tokens were used ---------------------------------------------------------------------------

    async def mark_used(self, *, final: bool = False) -> None:
        """Tell the state of uses: of each token once in MARK_S, and when it is `final` of all.

        That it cannot be told is no reason to refuse anybody.
        """
        now = time.monotonic()
        self._marked_at = {id: at for id, at in self._marked_at.items() if now - at < MARK_S}
        ids = self._used if final else self._used - self._marked_at.keys()
        if not ids:
            return
        self._used = self._used - ids
        self._marked_at |= dict.fromkeys(ids, now)
        try:
            await asyncio.to_thread(self._state.mark_used, dict.fromkeys(ids, int(time.time())))
        except FnsyncError as exc:
            log.warning("token_use_not_noted", error=str(exc))

    # ---- reading -----------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Under the lock."""
        began_at = time.monotonic()
        self._table = await asyncio.to_thread(self._now, self._table)
        self._read_at = began_at

    def _now(self, table: Table) -> Table:
        """The table of the state's present generation. Blocking."""
        generation = self._state.generation()
        if generation == table.generation:
            return table
        entries = {}
        for token, owner in self._state.holders():
            user = owner if token.ceiling is None else replace(owner, role=lesser(owner.role, token.ceiling))
            entries[token.id.encode()] = Entry(token.id, bytes.fromhex(token.digest), user, token.ceiling)
        return Table(generation, entries, self._state.local_ids())
