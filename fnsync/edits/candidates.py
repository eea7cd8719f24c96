"""Functions of a list before they are written: whether they load, and what their classes make of the values given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fnsync.edits import valves
from fnsync.edits.drafts import Drafting, encoded
from fnsync.edits.entries import Entry
from fnsync.edits.manager import Manager
from fnsync.edits.naming import Named
from fnsync.edits.writer import Inspected
from fnsync.errors import ContentRefused, Draining, FnsyncError, InvalidValves
from fnsync.git.trailers import Origin
from fnsync.model import FunctionId, Inspection, Unit, reference_of
from fnsync.runtime.executor import Trial
from fnsync.runtime.wire import Checked

#: How many are looked at at the same time; most of that is starting workers, which take turns anyway.
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry under its id here, with what a worker told of it."""

    id: FunctionId
    entry: Entry
    #: What has the id now.
    unit: Unit | None
    #: What is wrong with it.
    refusal: FnsyncError | None = None
    #: Of its class for valves; None: it has none, or nobody could tell.
    schema: Mapping[str, Any] | None = None
    inspection: Inspection = field(default_factory=Inspection)
    #: What its class told of the values given; None: it has none, or nobody could tell, or it does not take them.
    checked: Checked | None = None

    @property
    def path(self) -> str:
        """Where its source is, or will be."""
        return self.unit.path if self.unit is not None else f"{self.id}.py"

    def put(
        self, manager: Manager, drafting: Drafting, *, keep_valves: bool, owners: Collection[str]
    ) -> Literal["created", "updated"]:
        """Make the function what the entry says. With `keep_valves`, stored values stay where none are given.

        A new one that is not global stays the own of its user if they are one of `owners`.
        """
        entry = self.entry
        unit = manager.unit(self.id)
        # A worker has loaded it already, so nobody need try it once more.
        if unit is None:
            drafting.create(
                self.id,
                entry.content,
                active=entry.active,
                is_global=entry.is_global,
                owner=entry.user_id if entry.user_id in owners and not entry.is_global else None,
                valves=self._stored({}, manager),
                tried=False,
            )
            return "created"
        stored = drafting.settings(unit).valves
        drafting.update(unit, entry.content, tried=False)
        drafting.set_flags(unit, active=entry.active, is_global=entry.is_global)
        if entry.valves is not None or not keep_valves:
            drafting.set_valves(unit, self._stored(stored, manager))
        return "updated"

    def origin(self, *, owner: bool) -> Origin:
        """What the entry knows of the function; with `owner` also whose it is, and when it was changed last."""
        entry = self.entry
        return Origin(entry.created_at, entry.updated_at, entry.user_id) if owner else Origin(entry.created_at)

    def _stored(self, stored: Mapping[str, Any], manager: Manager) -> dict[str, Any]:
        """The stored form of the values: as they were given, and not as the class makes them, so that they come back
        the same, also those that the class does not know any more."""
        given = _given(self.entry)
        plain = {name: value for name, value in given.items() if reference_of(value) is None}
        is_secret = valves.secret_test(self.schema, self.inspection, self.checked)
        kept = valves.to_store(plain, given, stored, is_secret, manager.vault)
        return {name: kept.get(name, value) for name, value in given.items()}


async def candidates(
    manager: Manager, named: Sequence[Named], *, keep_valves: bool, tell: Callable[[int], None] = lambda done: None
) -> list[Candidate]:
    """Have all of them load, and their classes check the values given; `tell` hears how many were looked at.

    With `keep_valves`, stored values have to fit where none are given. Raises Draining.
    """
    places = asyncio.Semaphore(AT_ONCE)
    done = 0

    async def look(one: Named) -> Candidate:
        nonlocal done
        async with places:
            found = await _candidate(manager, one, keep_valves)
        done += 1
        tell(done)
        return found

    tasks = [asyncio.create_task(look(one)) for one in named]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def _candidate(manager: Manager, named: Named, keep_valves: bool) -> Candidate:
    made = Candidate(named.id, named.entry, manager.unit(named.id))
    try:
        if made.unit is not None:
            manager.writer.check_local(made.unit)
        source = encoded(named.entry.content.source)
        [inspected] = await manager.writer.inspect({made.path: source}, [made.path])
        made = replace(made, inspection=inspected.unit.inspection)
        trial = _trial(inspected)
        made = replace(made, schema=trial.manifest.valves_schema)
        if named.entry.valves is None and keep_valves and trial.wrong:
            raise InvalidValves(trial.wrong, about="the values stored here do not fit")
        given = _given(named.entry)
        if inspected.candidate is not None and made.schema is None:
            manager.resolved(inspected.candidate, given)  # nobody checks the values, but references have to hold
        elif given and inspected.candidate is not None:
            made = replace(made, checked=await manager.checked_valves(inspected.candidate, given))
        return made
    except Draining:
        raise
    except FnsyncError as exc:
        return replace(made, refusal=exc)


def _trial(inspected: Inspected) -> Trial:
    """What loading it told. Raises ContentRefused."""
    if inspected.problem is not None:
        raise ContentRefused(str(inspected.problem), inspected.problem)
    assert inspected.trial is not None, "without a problem it was loaded"
    return inspected.trial


def _given(entry: Entry) -> dict[str, Any]:
    """The values that say something: null means, not set."""
    return {name: value for name, value in (entry.valves or {}).items() if value is not None}
