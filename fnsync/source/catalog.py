"""What is on disk, kept up to date in proportion to the change."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from fnsync.model import FunctionId, Problem, Unit
from fnsync.places import MAIN, enclosing, is_noise, is_source
from fnsync.source import files, ignoring
from fnsync.source.discovery import Listing, bad_id, function_folders, walk
from fnsync.source.ignoring import Ignores
from fnsync.source.reading import Reader, Reading
from fnsync.source.tree import Tree

_K = TypeVar("_K")

#: How often what changes while it is read is looked at again; the next refresh sees the rest.
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Changes:
    """What a refresh came to."""

    #: Units that were read anew, by path; some may differ in their stamps only.
    read: Mapping[str, Reading]
    #: Paths that are no function any more.
    removed: frozenset[str]
    #: Ids with a claim that came, went, or differs in more than its stamps.
    ids: frozenset[FunctionId]
    #: All that is refused now, by path.
    refused: tuple[Problem, ...]


class Catalog:
    """The units of a functions folder. Not for use by several threads at once."""

    def __init__(self, root: Path, *, is_fixed: bool = False) -> None:
        """`is_fixed`: nobody changes the files, so that stamps say nothing: they are of hard links."""
        self._is_fixed = is_fixed
        self._begin_in(root)
        self._tree = Tree()
        self._units: dict[str, Unit] = {}
        self._claims: dict[FunctionId, set[str]] = {}
        #: A file or folder -> the units that depend on it, or on its absence.
        self._dependents: dict[str, set[str]] = {}
        self._bad_ids: dict[str, Problem] = {}

    def _begin_in(self, root: Path) -> None:
        self._root = root
        self._ignores = Ignores(root)
        self._reader = Reader(root, self._ignores)

    @property
    def units(self) -> Mapping[str, Unit]:
        """Path of the source -> unit."""
        return MappingProxyType(self._units)

    @property
    def refused(self) -> tuple[Problem, ...]:
        """All that looks like a function or a part of one and cannot be, by path."""
        found = {**self._tree.refused, **self._bad_ids}
        return tuple(found[path] for path in sorted(found))

    def ids(self) -> frozenset[FunctionId]:
        return frozenset(self._claims)

    def claims(self, id: FunctionId) -> tuple[Unit, ...]:
        """The units that claim an id, by path."""
        return tuple(self._units[path] for path in sorted(self._claims.get(id, ())))

    def restore(self, units: Iterable[Unit]) -> None:
        """Begin with units that an earlier process read; the next full refresh compares their stamps."""
        found = Listing()
        for unit in units:
            self._put(unit)
            found.files.update((path, stamp) for path, stamp in unit.stamps.items() if stamp is not None)
        self._tree.reset(found)

    def refresh(self, paths: Collection[str] | None) -> Changes:
        """Look at `paths` and all below them, or with None at everything.

        Paths are relative files or folders, also such that are gone. A function is read again if a file it
        depends on is named in `paths`, came, went, or has another stamp, or had one that cannot be trusted.
        """
        asked = {start for path in paths or () for start in self._meant(path)}
        if paths is None or "" in asked:
            changed = self._tree.reset(walk(self._root, ignores=self._ignores))
            return self._apply(changed | asked, () if self._is_fixed else self._stale())
        changed = set(asked)
        for start in _outermost(asked):
            changed |= self._tree.replace(start, walk(self._root, start, ignores=self._ignores))
        return self._apply(changed, ())

    def move(self, root: Path, paths: Collection[str] | None) -> Changes:
        """Go over to another folder, which differs from the one before at `paths`; None: perhaps everywhere."""
        self._begin_in(root)
        if paths is not None:
            return self.refresh(paths)
        changed = self._tree.reset(walk(self._root, ignores=self._ignores))
        return self._apply(changed, list(self._units))

    # ---- what to look at ----------------------------------------------------------------------------------

    def _meant(self, path: str) -> Iterator[str]:
        """What a changed path stands for: itself, all an ignore file rules over, and links that lead there."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if parts and parts[-1] == ignoring.NAME:
            parts = parts[:-1]
        if any(map(is_noise, parts)):
            return
        real = "/".join(parts)
        yield real
        links = self._tree.listing.links
        if os.path.islink(self._root / real) or any(link == real or link.startswith(real + "/") for link in links):
            yield from links  # one link may lead through another
            return
        for link, target in links.items():
            if target.startswith(real + "/") or (link in self._tree.refused and _is_at(real, target)):
                yield link
            elif _is_at(real, target):
                yield link + real[len(target) :]

    def _stale(self) -> list[str]:
        """The units with a file whose stamp is not the one it was read with."""
        now = self._tree.files.get
        return [
            path for path, unit in self._units.items() if any(now(name) != stamp for name, stamp in unit.stamps.items())
        ]

    # ---- what follows -------------------------------------------------------------------------------------

    def _apply(self, changed: set[str], stale: Iterable[str]) -> Changes:
        """Bring the units up to date with the tree: those that depend on `changed`, and those in `stale`."""
        read: dict[str, Reading] = {}
        removed: dict[str, Unit] = {}
        before: dict[str, Unit | None] = {}
        for _ in range(_ROUNDS):
            coming, going = self._plan(changed, stale)
            for path in going:
                before.setdefault(path, self._units[path])
                removed[path] = self._drop(path)
                read.pop(path, None)
            changed, stale = set(), ()
            for path in sorted(coming):
                reading = self._reader.read(path)
                if _is_gone(self._root, reading.unit):
                    changed |= {path} | self._tree.replace(path, Listing())
                    continue
                before.setdefault(path, self._units.get(path))
                self._put(reading.unit)
                read[path] = reading
                removed.pop(path, None)
            if not changed:
                break
        return Changes(MappingProxyType(read), frozenset(removed), frozenset(self._touched(before)), self.refused)

    def _plan(self, changed: set[str], stale: Iterable[str]) -> tuple[set[str], set[str]]:
        """Return the sources to read, and those that are none any more."""
        candidates = {path for path in changed if path.endswith(".py")}
        for path in changed:
            folder, _, name = path.rpartition("/")
            if name == MAIN and folder:
                # The folder became a function, or is none any more: its other files change sides.
                candidates.update(found for found in self._tree.below(folder) if found.endswith(".py"))
        coming = {path for name in changed for path in self._depending(name)} | set(stale)
        going = set()
        for path in candidates:
            if self._is_source(path):
                coming.update({path} - self._units.keys())
            elif path in self._units:
                going.add(path)
        return coming - going, going

    def _is_source(self, path: str) -> bool:
        """Whether a path is a function's source with a good id; notes a bad one."""
        self._bad_ids.pop(path, None)
        if path not in self._tree.files or not is_source(path, function_folders(self._tree.listing)):
            return False
        problem = bad_id(path)
        if problem is not None:
            self._bad_ids[path] = problem
        return problem is None

    def _depending(self, path: str) -> Iterator[str]:
        yield from self._dependents.get(path, ())
        for folder in enclosing(path):
            yield from self._dependents.get(folder, ())

    def _touched(self, before: Mapping[str, Unit | None]) -> Iterator[FunctionId]:
        for path, old in before.items():
            new = self._units.get(path)
            if old is None or new is None or replace(old, stamps={}) != replace(new, stamps={}):
                yield from {unit.id for unit in (old, new) if unit is not None}

    # ---- bookkeeping --------------------------------------------------------------------------------------

    def _put(self, unit: Unit) -> None:
        if unit.path in self._units:
            self._drop(unit.path)
        self._units[unit.path] = unit
        self._claims.setdefault(unit.id, set()).add(unit.path)
        for name in _dependencies(unit):
            self._dependents.setdefault(name, set()).add(unit.path)

    def _drop(self, path: str) -> Unit:
        unit = self._units.pop(path)
        _discard(self._claims, unit.id, path)
        for name in _dependencies(unit):
            _discard(self._dependents, name, path)
        return unit


def _dependencies(unit: Unit) -> set[str]:
    """The files a unit was read from or looked for, and the folders it takes whole.

    A shared folder is among the stamps by its own name: it was looked for.
    """
    folder, _, name = unit.path.rpartition("/")
    return {*unit.stamps, *([folder] if name == MAIN and folder else [])}


def _outermost(paths: Collection[str]) -> set[str]:
    """Those files and folders that lie in no other one."""
    return {path for path in paths if not any(around in paths for around in enclosing(path))}


def _is_at(path: str, place: str) -> bool:
    return path == place or path.startswith(place + "/") or place == "."


def _discard(index: dict[_K, set[str]], key: _K, path: str) -> None:
    found = index[key]
    found.discard(path)
    if not found:
        del index[key]


def _is_gone(root: Path, unit: Unit) -> bool:
    """Whether a source vanished between the walk and the reading."""
    problem = unit.problem
    is_vanished = problem is not None and problem.code == "vanished" and problem.path == unit.path
    return is_vanished and files.look(root, unit.path) is None
