"""What becomes of the files here when functions are copied from another repository. Decides; nothing is written.

Each file is one of three: as it came the last time (base), as it is here, as it comes now.

    here is the base, or there was none here       it becomes what comes
    what comes is the base                         what was changed here stays
    both are something else                        settings stay; anything else is a conflict, unless it is forced
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace

from fnsync.differences import Difference, differences, traits
from fnsync.edits.drafts import Drafting
from fnsync.edits.incoming import Incoming, IncomingFunction
from fnsync.git.origins import Origins
from fnsync.model import LOCAL, FunctionId, Problem, Unit
from fnsync.places import MAIN, enclosing, own_folder, settings_of
from fnsync.syncplan import Action, FunctionChange, bounded, sorted_changes

#: How many functions a note names.
NAMED = 10


@dataclass(frozen=True, slots=True)
class Conflicting:
    """Something here that is in the way."""

    #: A function's id, or the path of a file.
    name: str
    message: str


@dataclass(slots=True)
class Merged:
    """What is to become of which files, and what that means for functions."""

    #: Path from the functions folder -> content; None: gone.
    files: dict[str, bytes | None] = field(default_factory=dict)
    changes: list[FunctionChange] = field(default_factory=list)
    conflicts: list[Conflicting] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: Functions that it is about.
    ids: dict[FunctionId, None] = field(default_factory=dict)
    #: Those whose code changes; they have to load.
    sources: set[str] = field(default_factory=set)

    def count(self, action: Action) -> int:
        """How many functions have an action."""
        return sum(one.action == action for one in self.changes)


@dataclass(frozen=True, slots=True)
class _Taken:
    """What became of one function's files."""

    files: dict[str, bytes | None]
    conflicts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    #: Whether all of its code, or its settings, is what comes.
    code: bool = True
    settings: bool = True


class Merge:
    """One pass over all that comes. Blocking: it reads files and asks git."""

    def __init__(
        self,
        drafting: Drafting,
        origins: Origins,
        find: Callable[[FunctionId], Unit | None],
        units: Collection[Unit],
        *,
        prune: bool = False,
        force: bool = False,
    ) -> None:
        """`find` gives the claim to an id that counts; `units` are those here. `force`: what was changed here, and
        there too, becomes what comes."""
        self._drafting = drafting
        self._origins = origins
        self._find = find
        self._units = units
        self._prune = prune
        self._force = force
        self._merged = Merged()

    def run(self, incoming: Incoming) -> Merged:
        """Decide. Raises Conflict for a file here that cannot be read."""
        merged = self._merged
        repeated = {id for id, count in Counter(one.id for one in incoming.functions).items() if count > 1}
        self._shared(incoming)
        for one in incoming.functions:
            if one.id in repeated:
                self._conflict(one, f"{_paths_of(one.id, incoming)} both claim the id {one.id}")
            else:
                self._function(one, incoming)
        for unit in incoming.unreadable:
            there = self._find(unit.id)
            self._add(unit, there, "added" if there is None else "changed", error=unit.problem)
        self._gone(incoming)
        merged.sources = {path for path in merged.sources if merged.files.get(path, b"") is not None}
        merged.changes = list(sorted_changes(merged.changes))
        if incoming.skipped:
            merged.notes.append(f"no functions, so left out: {_named(incoming.skipped)}")
        return merged

    # ---- a function that comes ---------------------------------------------------------------------------

    def _function(self, one: IncomingFunction, incoming: Incoming) -> None:
        unit = self._find(one.id)
        problem = self._in_the_way(one, unit, incoming)
        if problem is not None:
            self._conflict(one, problem, unit)
            return
        taken = self._moved(one, unit) if unit is not None and unit.path != one.path else self._merged_into(one, unit)
        if taken.conflicts:
            self._conflict(one, taken.conflicts[0], unit)
            return
        seen = one.unit
        if unit is not None and not taken.settings:
            seen = replace(seen, settings=unit.settings, settings_path=unit.settings_path)
        details = traits(seen) if unit is None else differences(unit, seen) if taken.code else ()
        is_changed = taken.files or any(part.path in self._merged.files for part in one.unit.parts)
        action: Action = "added" if unit is None else "changed" if is_changed else "unchanged"
        self._add(one.unit, unit, action, taken.warnings, details=details)
        self._merged.files |= taken.files
        if is_changed:
            self._merged.ids[one.id] = None
            self._merged.sources.add(one.path)

    def _merged_into(self, one: IncomingFunction, unit: Unit | None) -> _Taken:
        """File by file; `unit` lies where the function goes."""
        settings_path = settings_of(one.path)
        here = self._drafting.own_files(unit) if unit is not None else set()
        found: dict[str, bytes | None] = {}
        conflicts, warnings = [], []
        is_all = True
        for path in sorted(one.files.keys() | (here - {settings_path})):
            became = self._resolve(path, one.files.get(path))
            if became == "take":
                found[path] = one.files.get(path)
            elif became == "conflict":
                conflicts.append(f"{path} was changed here and there; with force it becomes what is there")
            elif became == "keep":
                is_all = False
        if not is_all and not conflicts:
            warnings.append("what was changed here stays")
        kept = self._settings(settings_path, one.settings, found)
        if kept:
            warnings.append(f"{settings_path} stays as it was changed here")
        return _Taken(found, tuple(conflicts), tuple(warnings), is_all, not kept)

    def _moved(self, one: IncomingFunction, unit: Unit) -> _Taken:
        """It came from there before, and lay elsewhere: it goes where it is now, with the settings that it has here."""
        own = self._drafting.own_files(unit)
        edited = sorted(path for path in own - {settings_of(unit.path)} if self._is_edited(path))
        if edited and not self._force:
            return _Taken({}, (f"{', '.join(edited)} was changed here, and lies elsewhere there",))
        found: dict[str, bytes | None] = dict.fromkeys(own)
        found |= one.files
        before, after = settings_of(unit.path), settings_of(one.path)
        kept = before in own and self._is_edited(before)
        content = self._drafting.read(before) if kept else one.settings
        if content is not None:
            found[after] = content
        warnings = (f"{after} stays as it was changed here",) if kept else ()
        return _Taken(found, (), warnings, settings=not kept)

    def _settings(self, path: str, comes: bytes | None, found: dict[str, bytes | None]) -> bool:
        """Have the settings file become what comes, unless it was changed here; returns whether it was."""
        became = self._resolve(path, comes)
        if became == "take":
            found[path] = comes
        return became in ("keep", "conflict")

    # ---- one file ----------------------------------------------------------------------------------------

    def _resolve(self, path: str, comes: bytes | None) -> str:
        """What becomes of a file: `same`, `take`, `keep` or `conflict`."""
        here = self._drafting.read(path)
        if here == comes:
            return "same"
        if here is None:
            return "take"
        if path not in self._origins.files:
            return "keep" if comes is None else "conflict"
        if path not in self._origins.edited:
            return "take"
        if comes is not None and comes == self._origins.base(path):
            return "keep"
        return "take" if self._force and not path.endswith(".yaml") else "conflict"

    def _is_edited(self, path: str) -> bool:
        """Whether a file here is not as it came."""
        return path not in self._origins.files or path in self._origins.edited

    def _in_the_way(self, one: IncomingFunction, unit: Unit | None, incoming: Incoming) -> str | None:
        """Why the function cannot go where it belongs; None: it can."""
        if unit is not None and unit.source != LOCAL:
            return f"the id {one.id} is taken, by a function of the source {unit.source}"
        if unit is not None and unit.path not in self._origins.files and not self._is_here(one):
            return f"the id {one.id} is taken, by {unit.path}, which did not come from there"
        for folder in enclosing(one.path):
            main = f"{folder}/{MAIN}"
            if main != one.path and (self._drafting.read(main) is not None or _has(incoming, main)):
                return f"{one.path} would be a helper of the function {main}"
        own = own_folder(one.path)
        if own is not None and unit is None:
            others = self._drafting.folder(own) - one.files.keys() - {settings_of(one.path)}
            if others:
                return f"the folder {own} is there already, with {_named(sorted(others))}"
        if unit is None:
            for place, content in one.files.items():
                if self._drafting.read(place) not in (None, content):
                    return f"the file {place} is there already"
        return None

    def _is_here(self, one: IncomingFunction) -> bool:
        """Whether all of its code is here already, whoever brought it."""
        return all(self._drafting.read(path) == content for path, content in one.files.items())

    # ---- shared modules ----------------------------------------------------------------------------------

    def _shared(self, incoming: Incoming) -> None:
        merged = self._merged
        for path, content in sorted(incoming.shared.items()):
            became = self._resolve(path, content)
            if became == "conflict":
                merged.conflicts.append(Conflicting(path, f"the shared module {path} is there with another content"))
            elif became == "keep":
                merged.notes.append(f"{path} stays as it was changed here")
            elif became == "take":
                merged.files[path] = content
                users = self._using(path)
                merged.sources |= {unit.path for unit in users}
                others = {unit.id for unit in users} - {one.id for one in incoming.functions}
                if others:
                    merged.notes.append(f"{path} changes, which {_named(sorted(others))} use here too")

    def _using(self, path: str) -> list[Unit]:
        """The functions here that import a shared module."""
        return [
            unit
            for unit in self._units
            if unit.source == LOCAL
            and any(part.path == path and not part.place.startswith("function/") for part in unit.parts)
        ]

    # ---- what went there ---------------------------------------------------------------------------------

    def _gone(self, incoming: Incoming) -> None:
        """Functions that came from the same place and are there no more; with prune they go here too."""
        come = {one.id for one in incoming.functions} | {unit.id for unit in incoming.unreadable}
        for unit in sorted(self._units, key=lambda unit: unit.id):
            if unit.source == LOCAL and unit.id not in come and self._is_from_there(unit.path, incoming):
                self._remove(unit)
        if not self._prune:
            return
        used = {*incoming.shared, *self._merged.files}
        used |= {part.path for unit in self._units for part in unit.parts if not self._goes(unit)}
        for path in sorted(self._origins.files):
            is_shared = any(part.startswith("_") for part in path.split("/")) and path not in used
            if is_shared and self._is_from_there(path, incoming) and not self._is_edited(path):
                self._merged.files[path] = None

    def _remove(self, unit: Unit) -> None:
        own = self._drafting.own_files(unit)
        edited = [path for path in sorted(own - {settings_of(unit.path)}) if self._is_edited(path)]
        warnings: tuple[str, ...] = ()
        if not self._prune:
            warnings = ("it is not there any more, and stays: with prune it goes here too",)
        elif edited and not self._force:
            warnings = (f"it stays, since {_named(edited)} was changed here; with force it goes",)
        self._add(unit, unit, "unchanged" if warnings else "removed", warnings)
        if not warnings:
            self._merged.files |= dict.fromkeys(own)
            self._merged.ids[unit.id] = None

    def _goes(self, unit: Unit) -> bool:
        return self._merged.files.get(unit.path, b"") is None

    def _is_from_there(self, path: str, incoming: Incoming) -> bool:
        known = self._origins.files.get(path)
        return known is not None and known.source.is_place_of(incoming.source)

    # ---- what is told ------------------------------------------------------------------------------------

    def _conflict(self, one: IncomingFunction, message: str, unit: Unit | None = None) -> None:
        self._merged.conflicts.append(Conflicting(one.id, message))
        problem = Problem("conflict", message, one.path, hint="give what comes another prefix, or rename what is here")
        self._add(one.unit, unit, "conflict", error=problem)

    def _add(
        self,
        seen: Unit,
        unit: Unit | None,
        action: Action,
        warnings: tuple[str, ...] = (),
        details: tuple[Difference, ...] = (),
        error: Problem | None = None,
    ) -> None:
        told, more = bounded(details)
        self._merged.changes.append(
            FunctionChange(
                id=seen.id,
                path=seen.path,
                source=LOCAL,
                action=action,
                details=told,
                more_details=more,
                error=error,
                warnings=warnings,
                before=None if unit is None else unit.revision,
                after=None if action == "removed" else seen.revision,
            )
        )


def _has(incoming: Incoming, source: str) -> bool:
    return any(one.path == source for one in incoming.functions)


def _paths_of(id: FunctionId, incoming: Incoming) -> str:
    return " and ".join(one.path for one in incoming.functions if one.id == id)


def _named(names: Iterable[str]) -> str:
    known = list(names)
    more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    return ", ".join(known[:NAMED]) + more
