"""Many functions at once: making all of them what a list says, and giving them out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from fnsync.edits import messages, valves
from fnsync.edits.candidates import Candidate, candidates
from fnsync.edits.drafts import Drafting
from fnsync.edits.entries import Entry
from fnsync.edits.exports import exported
from fnsync.edits.manager import Manager, Terms
from fnsync.edits.naming import exactly
from fnsync.edits.writer import Edit, Written
from fnsync.errors import FnsyncError, Invalid, UnknownFunction
from fnsync.model import FunctionRow
from fnsync.vault import Undecipherable, Vault

#: How many functions one error tells of.
MANY_FAILURES = 10


class Transfer:
    """Makes and gives all functions at once."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    async def sync(self, entries: Sequence[Entry], terms: Terms) -> Written:
        """Make the functions exactly those of the list: adds, updates and removes, all or nothing, in one commit.

        Raises Invalid for a bad or repeated id, ContentRefused, InvalidValves, and what `Writer.apply` raises.
        """
        checked = await candidates(self._manager, exactly(entries), keep_valves=False)
        failed = [(one, one.refusal) for one in checked if one.refusal is not None]
        if failed:
            raise failed[0][1] if len(failed) == 1 else _all_of(failed)
        wanted = {one.id for one in checked}

        def make(drafting: Drafting) -> str:
            terms.author_now(drafting)
            owners = self._manager.owners()
            became = [one.put(self._manager, drafting, keep_valves=False, owners=owners) for one in checked]
            added = became.count("created")
            gone = [unit for unit in self._manager.units() if unit.id not in wanted]
            for unit in gone:
                drafting.delete(unit)
            return messages.SYNC.format(added=added, kept=len(checked) - added, removed=len(gone))

        origins = {one.path: one.origin(owner=False) for one in checked if one.entry.created_at is not None}
        return await self._manager.writer.apply(Edit(terms.author, make, terms.message, origins=origins))

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


def valves_of(row: FunctionRow, vault: Vault) -> dict[str, Any]:
    """A row's stored valves in clear. Raises Undecipherable, which names function and field."""
    try:
        return valves.shown(row.valves, vault)
    except Undecipherable as exc:
        raise Undecipherable(f"{row.id}: {exc.message}", hint=exc.hint) from exc


def _all_of(failed: Sequence[tuple[Candidate, FnsyncError]]) -> Invalid:
    """Several refusals in one."""
    told = "; ".join(f"{one.id}: {exc}" for one, exc in failed[:MANY_FAILURES])
    more = f"; and {len(failed) - MANY_FAILURES} more" if len(failed) > MANY_FAILURES else ""
    return Invalid(told + more)
