"""Takes an export in: what is wrong with one function is told of it, and stops no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from fnsync.edits.candidates import Candidate, candidates
from fnsync.edits.drafts import Drafting
from fnsync.edits.entries import Became, Entry, Outcome, Progress
from fnsync.edits.manager import Manager, Terms
from fnsync.edits.naming import Named, renamed
from fnsync.edits.sameness import is_same
from fnsync.edits.writer import Edit, Written
from fnsync.errors import Conflict, FnsyncError, Uncommitted
from fnsync.git.trailers import Origin
from fnsync.model import LOCAL, FunctionId, FunctionRow

#: How often the loading of functions is looked at, for telling how far it is, in seconds.
TICK_S = 0.2
#: How much of an export's name is in the commit's message, in characters.
ORIGIN_CHARACTERS = 200


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
class Imported:
    """What an import came to: one outcome for each entry, in their order."""

    outcomes: tuple[Outcome, ...]
    written: Written


class Importer:
    """Takes functions in. One for each server; on the loop."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    async def take(
        self,
        entries: Sequence[Entry | Outcome],
        options: ImportOptions,
        terms: Terms,
        tell: Callable[[Progress], None] = lambda progress: None,
    ) -> Imported:
        """Take functions in, in one commit. What is an Outcome already was no entry, and stays what it is.

        Raises what `Writer.apply` raises; then nothing was written.
        """
        self._manager.writer.check_allowed()
        await self._manager.informed()
        outcomes, wanted = await asyncio.to_thread(self._planned, entries, options)

        def checked(done: int) -> None:
            tell(Progress("checking", done, len(wanted)))

        tried = await candidates(self._manager, list(wanted.values()), keep_valves=True, tell=checked)
        writing = _Writing(self._manager, options)
        writing.candidates = [one for one in tried if one.refusal is None or options.broken]
        writing.loose = await self._manager.writer.uncommitted(
            [one.path for one in tried if one.unit is not None and one.unit.source == LOCAL]
        )
        tell(Progress("writing", 0, len(writing.candidates)))
        with self._loading(writing, tell):
            written = await writing.run(terms)
        for (place, named), one in zip(wanted.items(), tried, strict=True):
            outcomes[place] = self._outcome(named, one, writing)
        return Imported(tuple(outcomes[place] for place in sorted(outcomes)), written)

    # ---- before ------------------------------------------------------------------------------------------

    def _planned(
        self, entries: Sequence[Entry | Outcome], options: ImportOptions
    ) -> tuple[dict[int, Outcome], dict[int, Named]]:
        """By place: what needs no look, with what becomes of it, and what is to be taken in; blocking."""
        outcomes: dict[int, Outcome] = {}
        fresh: dict[int, Entry] = {}
        seen: dict[str, list[Entry]] = {}
        for place, entry in enumerate(entries):
            if isinstance(entry, Outcome):
                outcomes[place] = replace(entry, source=entry.source or f"functions[{place}]")
            elif entry in seen.get(entry.id, ()):
                outcomes[place] = Outcome(entry.id, "skipped", None, "it is in the export twice")
            else:
                fresh[place] = entry
                seen.setdefault(entry.id, []).append(entry)
        rows = {row.id: row for row in self._manager.rows()}
        wanted: dict[int, Named] = {}
        for place, named in zip(fresh, renamed(list(fresh.values()), rows), strict=True):
            outcome = self._known(named, rows.get(named.id), options)
            if outcome is None:
                wanted[place] = named
            else:
                outcomes[place] = outcome
        return outcomes, wanted

    def _known(self, named: Named, row: FunctionRow | None, options: ImportOptions) -> Outcome | None:
        """What becomes of an entry whose function is here already; None: it is to be taken in."""
        if row is None:
            return None
        if is_same(row, named.entry, self._manager.vault):
            return Outcome(named.entry.id, "unchanged", named.id, named.reason)
        if options.replace:
            return None
        reason = f"there is another function {named.id} here; with replace it becomes what the export says"
        return Outcome(named.entry.id, "skipped", None, reason)

    # ---- after -------------------------------------------------------------------------------------------

    def _outcome(self, named: Named, one: Candidate, writing: _Writing) -> Outcome:
        problem = _told(one.refusal) if one.refusal is not None else None
        became = writing.done.get(one.id)
        if became is None:
            return Outcome(named.entry.id, "refused", None, writing.refusals.get(one.id) or problem)
        wrong = self._wrong(one.id) or problem
        reasons = [named.reason, f"it does not serve: {wrong}" if wrong else None]
        return Outcome(named.entry.id, became, one.id, "; ".join(filter(None, reasons)) or None)

    def _wrong(self, id: FunctionId) -> str | None:
        """Why a function does not serve although it is here."""
        problem = self._manager.standing(id).problem if self._manager.unit(id) is not None else None
        return None if problem is None else str(problem)

    @contextmanager
    def _loading(self, writing: _Writing, tell: Callable[[Progress], None]) -> Iterator[None]:
        """Tell how many of the functions are live or have failed, while they load."""

        async def watch() -> None:
            total = len(writing.candidates)
            while True:
                await asyncio.sleep(TICK_S)
                under_way = sum(self._is_loading(one.id) for one in writing.candidates)
                if under_way:
                    tell(Progress("loading", total - under_way, total))

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()

    def _is_loading(self, id: FunctionId) -> bool:
        return self._manager.unit(id) is not None and self._manager.standing(id).loading


@dataclass(slots=True)
class _Writing:
    """The one edit that an import is."""

    manager: Manager
    options: ImportOptions
    candidates: list[Candidate] = field(default_factory=list)
    #: Sources that hold what is in no commit.
    loose: frozenset[str] = frozenset()
    #: What was done about each, and what could not be.
    done: dict[FunctionId, Became] = field(default_factory=dict)
    refusals: dict[FunctionId, str] = field(default_factory=dict)
    #: Of those that are written.
    origins: dict[str, Origin] = field(default_factory=dict)

    async def run(self, terms: Terms) -> Written:
        if not self.candidates:
            return Written(())

        def make(drafting: Drafting) -> str:
            terms.author_now(drafting)
            return self._make(drafting)

        # The mapping of origins is filled in when the edit is drafted: only what changes has one.
        return await self.manager.writer.apply(Edit(terms.author, make, terms.message, origins=self.origins))

    def _make(self, drafting: Drafting) -> str:
        for known in (self.done, self.refusals, self.origins):
            known.clear()
        owners = self.manager.owners()
        for one in self.candidates:
            try:
                self.done[one.id] = drafting.attempt(lambda part, one=one: self._put(part, one, owners))  # type: ignore[misc]
            except FnsyncError as exc:
                self.refusals[one.id] = _told(exc)
        for one in self.candidates:
            origin = one.origin(owner=True)
            if self.done.get(one.id) in ("created", "updated") and origin != Origin():
                self.origins[one.path] = origin
        count = sum(outcome != "unchanged" for outcome in self.done.values())
        return f"Import {count} function{'s' if count != 1 else ''} from {_one_line(self.options.origin)}"

    def _put(self, part: Drafting, one: Candidate, owners: Collection[str]) -> Became:
        if self.manager.unit(one.id) is not None and (one.unit is None or not self.options.replace):
            raise Conflict(f"somebody made a function {one.id} meanwhile", hint="import it again")
        became = one.put(self.manager, part, keep_valves=True, owners=owners)
        if part.changed & self.loose:
            message = f"{one.path} holds changes that are in no commit; the import would overwrite them"
            raise Uncommitted(message, hint="commit or discard them first (git status)")
        return became if part.changed else "unchanged"


def _told(exc: FnsyncError) -> str:
    return f"{exc.message}: {exc.hint}" if exc.hint else exc.message


def _one_line(text: str) -> str:
    """A client's text as it can stand in a commit's first line."""
    return " ".join(text.encode(errors="replace").decode().split())[:ORIGIN_CHARACTERS] or "an export"
