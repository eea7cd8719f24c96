"""Many functions at once: making all of them what a list says, and giving them out."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from fnsync.edits import messages
from fnsync.edits.candidates import Candidate, candidates
from fnsync.edits.drafts import Drafting
from fnsync.edits.entries import Entry
from fnsync.edits.exports import exported
from fnsync.edits.manager import Manager, Terms
from fnsync.edits.naming import Named, exactly
from fnsync.edits.sameness import is_same
from fnsync.edits.valves import valves_of
from fnsync.edits.writer import Edit, Written
from fnsync.errors import FnsyncError, Invalid, UnknownFunction
from fnsync.model import LOCAL

#: How many functions one error tells of.
MANY_FAILURES = 10


class Transfer:
    """Makes and gives all functions at once."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    async def sync(self, entries: Sequence[Entry], terms: Terms) -> Written:
        """Make the functions exactly those of the list: adds, updates and removes, all or nothing, in one commit.

        Those of sources stay, listed or not. Raises Invalid for a bad or repeated id, ContentRefused, InvalidValves,
        ReadOnlySource where one of a source is to be something else, and what `Writer.apply` raises.
        """
        named = await asyncio.to_thread(self._local, exactly(entries))
        checked = await candidates(self._manager, named, keep_valves=False)
        failed = [(one, one.refusal) for one in checked if one.refusal is not None]
        if failed:
            raise failed[0][1] if len(failed) == 1 else _all_of(failed)
        wanted = {one.id for one in checked}

        def make(drafting: Drafting) -> str:
            terms.author_now(drafting)
            owners = self._manager.owners()
            became = [one.put(self._manager, drafting, keep_valves=False, owners=owners) for one in checked]
            added = became.count("created")
            gone = [unit for unit in self._manager.units() if unit.id not in wanted and unit.source == LOCAL]
            for unit in gone:
                drafting.delete(unit)
            return messages.SYNC.format(added=added, kept=len(checked) - added, removed=len(gone))

        origins = {one.path: one.origin(owner=False) for one in checked if one.entry.created_at is not None}
        return await self._manager.writer.apply(Edit(terms.author, make, terms.message, origins=origins))

    def _local(self, named: Sequence[Named]) -> list[Named]:
        """Without the functions of sources that are what the list says; blocking. Raises ReadOnlySource for others."""
        rows = {row.id: row for row in self._manager.rows() if row.source != LOCAL}
        found = []
        for one in named:
            row = rows.get(one.id)
            if row is None:
                found.append(one)
            elif not is_same(row, one.entry, self._manager.vault):
                self._manager.writer.check_local(self._manager.standing(one.id).unit)
        return found

    def exported(self, ids: Collection[str] | None = None, *, include_valves: bool) -> list[dict[str, Any]]:
        """The functions, or those named, oldest first, in the format of an export; blocking.

        Raises UnknownFunction, and Undecipherable which names function and field.
        """
        rows = sorted(self._manager.rows(), key=lambda row: (row.created_at, row.id))
        if ids is not None:
            unknown = sorted(set(ids) - {row.id for row in rows})
            if unknown:
                raise UnknownFunction(f"there is no function {', '.join(unknown)[:200]}")
            rows = [row for row in rows if row.id in ids]
        vault = self._manager.vault
        return [exported(row, valves_of(row, vault) if include_valves else None) for row in rows]


def _all_of(failed: Sequence[tuple[Candidate, FnsyncError]]) -> Invalid:
    """Several refusals in one."""
    told = "; ".join(f"{one.id}: {exc}" for one, exc in failed[:MANY_FAILURES])
    more = f"; and {len(failed) - MANY_FAILURES} more" if len(failed) > MANY_FAILURES else ""
    return Invalid(told + more)
