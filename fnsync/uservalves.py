"""Each user's own values for the functions they call: encrypted in the state, and kept in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import structlog

from fnsync.errors import FnsyncError
from fnsync.git.renames import renames
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId, FunctionId, LiveFunction, User
from fnsync.source.discovery import id_of
from fnsync.store.state import State, StoredValves
from fnsync.vault import Undecipherable, Vault

log = structlog.get_logger(__name__)

#: Values kept, and how much they may come to; above it all are forgotten, and read again as they are needed.
MOST_KEPT, MOST_KEPT_BYTES = 10_000, 64 * 1024**2
#: A user's id, a function, and whose own that is.
Key = tuple[str, FunctionId, str | None]
#: The note that holds the commit up to which renames were followed.
SEEN_NOTE = "user_valves_head"
#: How often the state is asked whether another process changed something, in seconds.
FRESH_S = 1.0


class _Known:
    """Values in memory, as JSON: decoded they take many times as much."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._texts: dict[Key, bytes] = {}
        self.bytes = 0

    def get(self, key: Key) -> Mapping[str, Any] | None:
        text = self._texts.get(key)
        return None if text is None else msgspec.json.decode(text, type=dict[str, Any])

    def keep(self, key: Key, values: Mapping[str, Any]) -> None:
        text = msgspec.json.encode(values)
        self.bytes += len(text) - len(self._texts.pop(key, b""))
        if len(self._texts) >= MOST_KEPT or self.bytes > self._most_bytes:
            self.clear()
            self.bytes = len(text)
        self._texts[key] = text

    def clear(self) -> None:
        self._texts.clear()
        self.bytes = 0


class UserValves:
    """One for each server, on the loop."""

    def __init__(
        self,
        state: State,
        vault: Vault,
        most_kept_bytes: int = MOST_KEPT_BYTES,
        on_set: Callable[[FunctionId, User], None] | None = None,
    ) -> None:
        """`on_set` is told what was set, on the loop."""
        self._state = state
        self._vault = vault
        self._known = _Known(most_kept_bytes)
        self._on_set = on_set
        self._generation = -1
        self._asked_at = -FRESH_S
        #: What is encrypted is written before the next is, so that a renewal meets every value.
        self._turn = asyncio.Lock()

    @property
    def kept_bytes(self) -> int:
        """How much of it is in memory."""
        return self._known.bytes

    async def for_call(self, function: LiveFunction, caller: User) -> Mapping[str, Any]:
        """The caller's values for a call of the function; none, if it has no class for them.

        What cannot be decrypted is told in the log, and counts as not set.
        """
        if function.manifest.user_valves_schema is None:
            return {}
        try:
            return await self.get(function.id, function.settings.owner, caller)
        except FnsyncError as exc:
            log.error("user_valves_unreadable", function=function.id, user=caller.id, error=exc.message, hint=exc.hint)
            return {}

    async def get(self, function: FunctionId, owner: str | None, user: User) -> Mapping[str, Any]:
        """What a user has set for the function while it was this owner's, or nobody's: another's function of the same
        id is another function. Raises Undecipherable, StoreError."""
        await self._refresh()
        key = (user.id, function, owner)
        known = self._known.get(key)
        if known is not None:
            return known
        found = await asyncio.to_thread(self._read, key)
        self._known.keep(key, found)
        return found

    async def set(self, function: FunctionId, owner: str | None, user: User, values: Mapping[str, Any]) -> None:
        """Keep what a user sets; none: forget it. Raises StoreError."""

        def write() -> None:
            text = self._vault.encrypt(dict(values)) if values else None
            self._state.set_user_valves(user.id, function, text, owner)

        async with self._turn:
            await asyncio.to_thread(write)
            self._known.keep((user.id, function, owner), values)
        if self._on_set is not None:
            self._on_set(function, user)

    async def renew(self) -> tuple[int, list[StoredValves]]:
        """Encrypt those of all users with the newest key, all or none. Raises StoreError.

        Returns how many were not yet, and those that no key decrypts, which stay as they are.
        """
        async with self._turn:
            return await asyncio.to_thread(self._renew)

    def _renew(self) -> tuple[int, list[StoredValves]]:
        renewed = 0
        while True:
            fresh, kept = [], []
            for row in self._state.all_user_valves():
                try:
                    if not self._vault.is_newest(row.text):
                        fresh.append(replace(row, text=self._vault.renew(row.text)))
                except Undecipherable:
                    kept.append(row)
            if not fresh:
                return renewed, kept
            # Of those that another process changed meanwhile, the next round looks at what they are now.
            renewed += self._state.replace_user_valves(fresh)

    def _read(self, key: Key) -> Mapping[str, Any]:
        text = self._state.user_valves(*key)
        found: dict[str, Any] = {} if text is None else self._vault.decrypt(text)
        return found

    async def follow(self, worktree: WorkTree, functions: Path) -> None:
        """Keep values with functions that git has renamed since this was last called, in this process or another.

        Raises RepositoryError, StoreError.
        """
        renamed = await asyncio.to_thread(self._renamed, worktree, functions)
        if renamed:
            self._known.clear()
            log.info("user_valves_moved", renamed=renamed)

    def _renamed(self, worktree: WorkTree, functions: Path) -> dict[str, str]:
        head, seen = worktree.head(), self._state.note(SEEN_NOTE)
        if head is None or head == seen:
            return {}
        found = renames(worktree, functions, CommitId(seen), head) if seen else {}
        renamed: dict[str, str] = {id_of(old): id_of(new) for old, new in found.items() if id_of(old) != id_of(new)}
        self._state.rename_user_valves(renamed)
        self._state.set_note(SEEN_NOTE, head)
        return renamed

    async def _refresh(self) -> None:
        """Forget what another process may have changed."""
        now = time.monotonic()
        if now - self._asked_at < FRESH_S:
            return
        self._asked_at = now
        generation = await asyncio.to_thread(self._state.generation)
        if generation != self._generation:
            self._known.clear()
            self._generation = generation
