"""Many functions at once: making all of them what a list says, taking an export in, giving one out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fnsync.edits import valves
from fnsync.edits.drafts import COMPUTED, Content, Drafting, checked_id, encoded
from fnsync.edits.manager import Manager, Terms
from fnsync.edits.writer import Edit, Inspected, Written
from fnsync.errors import ContentRefused, Invalid, InvalidValves
from fnsync.git.trailers import Origin
from fnsync.model import FunctionId, FunctionRow, Unit
from fnsync.source.discovery import MAX_ID_BYTES
from fnsync.vault import Undecipherable

#: Most functions that one list may have.
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A function of an export."""

    id: str
    content: Content
    active: bool = False
    is_global: bool = False
    #: Values in clear; None: none were given.
    valves: Mapping[str, Any] | None = None
    created_at: int | None = None
    updated_at: int | None = None
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one function of an import."""

    #: As the export calls it.
    source: str
    outcome: Literal["created", "updated", "unchanged", "skipped", "refused"]
    #: What it is called here; None: it is not here.
    id: FunctionId | None = None
    #: Why it is called otherwise, was skipped or refused; or what is wrong with it although it is here.
    reason: str | None = None

    @property
    def renamed(self) -> bool:
        return self.id is not None and self.id != self.source


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How an import goes about what is there, and what does not load."""

    #: Functions that are there already are made what the export says; else they are skipped.
    replace: bool = False
    #: Functions that do not load are written all the same; their status then says why they do not serve.
    broken: bool = False
    #: Where the export came from, for the commit's message.
    origin: str = "an export"


@dataclass(frozen=True, slots=True)
class _Checked:
    """An entry under its id here, with what a worker told of it."""

    id: FunctionId
    entry: Entry
    unit: Unit | None
    inspected: Inspected
    #: What its class makes of the values that were given.
    values: Mapping[str, Any] = field(default_factory=dict)


class Transfer:
    """Takes and gives many functions."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    # ---- sync --------------------------------------------------------------------------------------------

    async def sync(self, entries: Sequence[Entry], terms: Terms) -> Written:
        """Make the functions exactly those of the list: adds, updates and removes, all or nothing, in one commit.

        Raises Invalid for a bad or repeated id, ContentRefused, InvalidValves, and what `Writer.apply` raises.
        """
        named = _named(entries)
        checked, failed = await self._check(named)
        if failed:
            raise failed[0][1] if len(failed) == 1 else _all_of(failed)
        wanted = {one.id for one in checked}

        def make(drafting: Drafting) -> str:
            added = sum(self._put(drafting, one) == "created" for one in checked)
            gone = [unit for unit in self._manager.units() if unit.id not in wanted]
            for unit in gone:
                drafting.delete(unit)
            return f"Sync functions: {added} added, {len(checked) - added} kept or updated, {len(gone)} removed"

        origins = _origins(checked, owners=False)
        return await self._manager.writer.apply(Edit(terms.author, make, terms.message, origins=origins))

    # ---- import ------------------------------------------------------------------------------------------

    async def take(self, entries: Sequence[Entry], options: ImportOptions, terms: Terms) -> list[Outcome]:
        """Take functions in, in one commit; what is wrong with one of them is told in its outcome, and stops no other.

        Raises what `Writer.apply` raises.
        """
        outcomes: dict[int, Outcome] = {}
        named: dict[int, tuple[FunctionId, Entry]] = {}
        there = await asyncio.to_thread(self._there)
        used: set[FunctionId] = set()
        for place, entry in enumerate(entries):
            id, reason = _id_for(entry, used, there)
            used.add(id)
            if id in there and not options.replace and not self._is_same(there[id], entry):
                reason = f"there is a function {id} already, and it differs; --replace makes it what the export says"
                outcomes[place] = Outcome(entry.id, "skipped", None, reason)
            else:
                named[place] = (id, entry)
                outcomes[place] = Outcome(entry.id, "created", id, reason)
        checked, failed = await self._check([named[place] for place in named])
        refused = {id: str(exc) for id, exc in failed}
        by_id = {one.id: one for one in checked}
        written: list[_Checked] = []
        for place, (id, entry) in named.items():
            reason = refused.get(id)
            if reason is None:
                written.append(by_id[id])
            elif options.broken and id in by_id:
                written.append(by_id[id])
                outcomes[place] = Outcome(entry.id, "created", id, reason)
            else:
                outcomes[place] = Outcome(entry.id, "refused", None, reason)
        done = await self._write(written, refused, options, terms)
        return [_with(outcomes[place], done) for place in sorted(outcomes)]

    async def _write(
        self, written: Sequence[_Checked], refused: Mapping[FunctionId, str], options: ImportOptions, terms: Terms
    ) -> dict[FunctionId, str]:
        """Write what was not refused; returns what each came to."""
        done: dict[FunctionId, str] = {}

        def make(drafting: Drafting) -> str:
            for one in written:
                before = drafting.changed
                outcome = self._put(drafting, one, tried=one.id not in refused)
                done[one.id] = outcome if drafting.changed != before else "unchanged"
            count = sum(outcome != "unchanged" for outcome in done.values())
            return f"Import {count} function{'s' if count != 1 else ''} from {options.origin}"

        if written:
            origins = _origins(written, owners=True)
            await self._manager.writer.apply(Edit(terms.author, make, terms.message, origins=origins))
        return done

    def _there(self) -> dict[FunctionId, FunctionRow]:
        """The functions that are there already, by id."""
        return {row.id: row for row in self._manager.rows()}

    def _is_same(self, row: FunctionRow, entry: Entry) -> bool:
        """Whether a function is what the entry says already."""
        content = entry.content
        meta = {key: value for key, value in content.meta.items() if key not in COMPUTED and value is not None}
        is_now = {key: value for key, value in row.meta.items() if key not in COMPUTED}
        return (
            (row.content, row.is_active, row.is_global) == (content.source, entry.active, entry.is_global)
            and content.name in ("", row.name)
            and {**is_now, **meta} == is_now
            and (entry.valves is None or self.valves(row) == dict(entry.valves))
        )

    # ---- export ------------------------------------------------------------------------------------------

    def valves(self, row: FunctionRow) -> dict[str, Any]:
        """A row's stored values in clear. Raises Undecipherable."""
        try:
            return valves.shown(row.valves, self._manager.vault)
        except Undecipherable as exc:
            raise Undecipherable(f"{row.id}: {exc.message}", hint=exc.hint) from exc

    # ---- both --------------------------------------------------------------------------------------------

    async def _check(
        self, named: Sequence[tuple[FunctionId, Entry]]
    ) -> tuple[list[_Checked], list[tuple[FunctionId, Exception]]]:
        """Have all of them load, and their classes check the values given; returns also what is wrong with which.

        One that does not load is among both, so that it can be written all the same.
        """
        units = {id: self._manager.unit(id) for id, _ in named}
        paths = {id: unit.path if unit is not None else f"{id}.py" for id, unit in units.items()}
        failed: list[tuple[FunctionId, Exception]] = []
        contents: dict[str, bytes | None] = {}
        for id, entry in named:
            try:
                contents[paths[id]] = encoded(entry.content.source)
            except Invalid as exc:
                failed.append((id, exc))
        usable = [(id, entry) for id, entry in named if paths[id] in contents]
        found = await self._manager.writer.inspect(contents, [paths[id] for id, _ in usable])
        checked = []
        for (id, entry), inspected in zip(usable, found, strict=True):
            one = _Checked(id, entry, units[id], inspected)
            try:
                checked.append(await self._with_values(one))
            except (ContentRefused, InvalidValves, Invalid) as exc:
                failed.append((id, exc))
                checked.append(one)
        return checked, failed

    async def _with_values(self, one: _Checked) -> _Checked:
        inspected = one.inspected
        if inspected.problem is not None:
            raise ContentRefused(str(inspected.problem), inspected.problem)
        assert inspected.candidate is not None
        given = {name: value for name, value in (one.entry.valves or {}).items() if value is not None}
        if not given:
            return one
        values = await self._manager.checked_valves(inspected.candidate, given)
        return _Checked(one.id, one.entry, one.unit, inspected, values)

    def _put(self, drafting: Drafting, one: _Checked, *, tried: bool = True) -> Literal["created", "updated"]:
        """Make one function what its entry says."""
        entry = one.entry
        unit = self._manager.unit(one.id)
        stored = {} if unit is None else drafting.settings(unit).valves
        kept = self._stored(one, stored)
        if unit is None:
            drafting.create(
                one.id,
                entry.content,
                active=entry.active,
                is_global=entry.is_global,
                valves=kept,
                tried=tried,
            )
            return "created"
        drafting.update(unit, entry.content, tried=tried)
        drafting.set_flags(unit, active=entry.active, is_global=entry.is_global)
        drafting.set_valves(unit, kept)
        return "updated"

    def _stored(self, one: _Checked, stored: Mapping[str, Any]) -> dict[str, Any]:
        trial = one.inspected.trial
        given = dict(one.entry.valves or {})
        if trial is None:  # nobody can check them; what may be a secret is kept as one
            values: Mapping[str, Any] = {name: value for name, value in given.items() if value is not None}
            is_secret = valves.secret_test(None, one.inspected.unit.inspection)
        else:
            values = one.values
            is_secret = valves.secret_test(trial.manifest.valves_schema, one.inspected.unit.inspection)
        return valves.to_store(values, given, stored, is_secret, self._manager.vault)


def _origins(checked: Iterable[_Checked], *, owners: bool) -> dict[str, Origin]:
    """What entries know of their functions; with `owners`, also whose they are and when they were changed last."""
    found = {}
    for one in checked:
        entry = one.entry
        origin = Origin(entry.created_at, entry.updated_at, entry.user_id) if owners else Origin(entry.created_at)
        if origin != Origin():
            found[one.unit.path if one.unit is not None else f"{one.id}.py"] = origin
    return found


def _named(entries: Sequence[Entry]) -> list[tuple[FunctionId, Entry]]:
    """The entries by id. Raises Invalid for an id that is none, or that is there twice."""
    named: dict[FunctionId, Entry] = {}
    for place, entry in enumerate(entries):
        try:
            id = checked_id(entry.id)
        except Invalid as exc:
            raise Invalid(f"functions[{place}].id: {entry.id[:100]!r}: {exc.message}", hint=exc.hint) from exc
        if id in named:
            raise Invalid(f"functions[{place}].id: {id} is there twice")
        named[id] = entry
    return list(named.items())


def _id_for(
    entry: Entry, used: Collection[FunctionId], there: Mapping[FunctionId, FunctionRow]
) -> tuple[FunctionId, str | None]:
    """An id that a file can have, and why it is not the one asked for. `used`: by the same import."""
    text = entry.id
    try:
        id = checked_id(text)
        is_asked = True
    except Invalid:
        good = re.sub(r"\W+", "_", text.lower()).strip("_") or "function"
        good = good.encode()[: MAX_ID_BYTES - 10].decode(errors="ignore")
        id = FunctionId(good if good.isidentifier() else f"f_{good}")
        is_asked = False

    def is_free(made: FunctionId) -> bool:
        """A name that we chose must not meet another function by accident; the same one may be there already."""
        if made in used:
            return False
        return is_asked or made not in there or there[made].content == entry.content.source

    made, number = id, 2
    while not is_free(made):
        made, number = FunctionId(f"{id}_{number}"), number + 1
    if made == text:
        return made, None
    why = "another function has that id" if made != id else "an id is a Python name in lower case"
    return made, f"renamed from {text}: {why}"


def _with(outcome: Outcome, done: Mapping[FunctionId, str]) -> Outcome:
    if outcome.id is None or outcome.id not in done:
        return outcome
    made = done[outcome.id]
    if made == "unchanged":
        return Outcome(outcome.source, "unchanged", outcome.id, outcome.reason or "it is the same here")
    return Outcome(outcome.source, "updated" if made == "updated" else "created", outcome.id, outcome.reason)


def _all_of(failed: Sequence[tuple[FunctionId, Exception]]) -> Exception:
    """Several refusals in one."""
    return Invalid("; ".join(f"{id}: {exc}" for id, exc in failed[:10]))
