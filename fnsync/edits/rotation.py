"""Has everything that is encrypted be so with the newest key, and then forgets the others.

    step                  then a crash leaves
    key_added             a new key in front of those that decrypt; nothing uses it yet
    (those of the edit)   settings files as with any edit; users' values under the old key
    settings_renewed      the same
    users_renewed         what serves and is older than its files under the old key
    serving_renewed       an old key that nothing needs
    keys_dropped          nothing

At each of them there is a key for everything, and rotating once more completes it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fnsync.edits.ciphertexts import LOST, Kept, Renewal, holds_old, left, renewed
from fnsync.edits.drafts import Drafting
from fnsync.edits.manager import Manager, Terms
from fnsync.edits.writer import Edit, Written
from fnsync.errors import FnsyncError
from fnsync.model import LOCAL
from fnsync.places import settings_of, source_of
from fnsync.reconcile import Reconciler
from fnsync.source.discovery import walk
from fnsync.source.reading import SETTINGS_BYTES
from fnsync.uservalves import UserValves


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation came to."""

    written: Written
    #: How many values in settings files are under a newer key now, and how many users' values for a function.
    settings: int
    user_valves: int
    #: Whether FNSYNC_SECRET_KEY says which key is the newest.
    is_given: bool
    #: How many keys of the data folder went: none while something needs them, or waits for review.
    dropped: int
    kept: tuple[Kept, ...]


class Rotation:
    """One for each server; on the loop."""

    def __init__(
        self,
        manager: Manager,
        reconciler: Reconciler,
        user_valves: UserValves,
        root: Path,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        """`root` is the functions folder; `on_step` is told each step as it is reached."""
        self._manager = manager
        self._vault = manager.vault
        self._reconciler = reconciler
        self._user_valves = user_valves
        self._root = root
        self._on_step = on_step
        self._turn = asyncio.Lock()

    async def run(self, terms: Terms) -> Rotated:
        """Rotate. Raises what `Writer.apply` raises; then what was renewed stays so, and no key is dropped."""
        async with self._turn:
            if await asyncio.to_thread(self._has_old):
                self._manager.writer.check_allowed()
            if not self._vault.is_given:
                await asyncio.to_thread(self._vault.add_key)
                self._on_step("key_added")
            renewal = Renewal(self._vault)
            written = await self._settings(renewal, terms)
            self._on_step("settings_renewed")
            users, lost = await self._user_valves.renew()
            self._on_step("users_renewed")
            await self._reconciler.renew_valves(lambda valves: renewed(valves, self._vault))
            self._on_step("serving_renewed")
            kept = [*renewal.kept, *(Kept(row.function, LOST, user=row.user_id) for row in lost)]
            kept += self._serving(kept)
            needed = bool(kept) or written.proposal is not None
            dropped = 0 if needed else await asyncio.to_thread(self._vault.drop_old_keys)
            self._on_step("keys_dropped")
            return Rotated(written, renewal.renewed, users, self._vault.is_given, dropped, tuple(kept))

    # ---- settings files ----------------------------------------------------------------------------------

    async def _settings(self, renewal: Renewal, terms: Terms) -> Written:
        def make(drafting: Drafting) -> str:
            renewal.renewed = 0
            renewal.kept.clear()
            for path, function in self._files():
                renewal.take(drafting, path, function)
            return "Encrypt secrets with a new key"

        if self._manager.writer.denies:  # there is nothing to change, but maybe something that no key decrypts
            await asyncio.to_thread(make, self._drafting())
            return Written(())
        return await self._manager.writer.apply(Edit(terms.author, make, terms.message))

    def _has_old(self) -> bool:
        """Whether a settings file has to change."""
        drafting = self._drafting()
        found = []

        def look(text: str) -> str:
            found.append(holds_old(text, self._vault))
            return text

        for path, _ in self._files():
            try:
                drafting.rewrite(path, look)
            except FnsyncError:
                continue
        return any(found)

    def _drafting(self) -> Drafting:
        return Drafting(self._root, self._reconciler.find, active=True)

    def _files(self) -> Iterator[tuple[str, str | None]]:
        """Every file that may hold encrypted values, with the function whose settings it is: those of functions, those
        of files that claim the same id, and those whose source is away."""
        owners = {
            settings_of(path): id
            for id, standing in self._reconciler.standings.items()
            for path in (standing.unit.path, *standing.rivals)
            if source_of(path) == LOCAL
        }
        others = {
            path
            for path, stamp in walk(self._root).files.items()
            if path.endswith(".yaml") and stamp.size <= SETTINGS_BYTES
        }
        seen: set[str] = set()
        for path in [*sorted(owners), *sorted(others - owners.keys())]:
            real = os.path.realpath(self._root / path)
            if real not in seen and os.path.exists(real):
                seen.add(real)
                yield path, owners.get(path)

    # ---- what serves -------------------------------------------------------------------------------------

    def _serving(self, kept: list[Kept]) -> list[Kept]:
        """What of that which serves no key decrypts, as far as its settings file does not say the same."""
        known = {(one.function, one.field) for one in kept}
        found = [
            one
            for id, standing in self._reconciler.standings.items()
            if standing.live is not None
            for one in self._left(id, standing.unit.source, standing.live.settings.valves)
        ]
        return [one for one in found if (one.function, one.field) not in known]

    def _left(self, id: str, source: str, valves: Mapping[str, Any]) -> Iterator[Kept]:
        found = left(id, valves, self._vault)
        if source == LOCAL:
            yield from found
            return
        for one in found:
            if one.reason != LOST:  # what our keys never decrypted keeps none of them
                yield replace(one, reason=f"it is in a file of the source {source}")
