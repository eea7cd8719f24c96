"""The functions folder, and beside it the trees of sources, as one set of units.

Inside a source its files are as those of a functions folder: it has its own `.fnsyncignore`, shared modules and ids.
Outside of this module a path of it is `NAME:PATH`, and its prefix goes before each id. A tree is read when it is
mounted, as far as it differs from the one before, and not looked at any more: nobody changes it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from fnsync.errors import SourceError
from fnsync.model import LOCAL, FunctionId, Problem, Tree, Unit
from fnsync.places import inside, outside, source_of
from fnsync.source.catalog import Catalog, Changes
from fnsync.source.discovery import MAX_ID_BYTES, id_of, scan
from fnsync.source.reading import Reader, Reading

_log = logging.getLogger(__name__)


def told(problem: Problem, source: str) -> Problem:
    """A problem of a source's file, with its path as it is elsewhere."""
    return problem if problem.path is None else replace(problem, path=outside(source, problem.path))


def inner(unit: Unit) -> Unit:
    """A unit as its source's catalog knows it: paths from the tree's root, and the id without the prefix."""
    if unit.source == LOCAL:
        return unit
    problem = unit.problem
    if problem is not None and problem.path is not None:
        problem = replace(problem, path=inside(problem.path))
    return replace(_with_paths(unit, inside), id=unit.own_id, problem=problem, source=LOCAL, prefix="")


def outer(unit: Unit, source: str, prefix: str) -> Unit:
    """The same the other way round."""
    made = _with_paths(unit, lambda path: outside(source, path))
    problem = None if unit.problem is None else told(unit.problem, source)
    return replace(made, id=FunctionId(prefix + unit.id), problem=problem, source=source, prefix=prefix)


def _with_paths(unit: Unit, renamed: Callable[[str], str]) -> Unit:
    return replace(
        unit,
        path=renamed(unit.path),
        parts=tuple(replace(part, path=renamed(part.path)) for part in unit.parts),
        settings_path=None if unit.settings_path is None else renamed(unit.settings_path),
        stamps={renamed(path): stamp for path, stamp in unit.stamps.items()},
    )


def mark_of(tree: Tree) -> str:
    """Equal for a tree that holds what it held when it was read, under the same prefix. Raises SourceError."""
    try:
        found = tree.folder.stat()
    except OSError as exc:
        raise _gone(tree) from exc
    # The folder is renamed in whole: one that was made again, of other files perhaps, is another.
    return f"{tree.commit} {found.st_ino} {found.st_mtime_ns} {tree.path} {tree.prefix}"


def _gone(tree: Tree) -> SourceError:
    message = f"the files of {tree.commit[:12]} are not in the data folder any more"
    hint = f"fnsync sync {tree.source} brings them back"
    return SourceError(Problem("tree_missing", message, outside(tree.source, ""), hint=hint))


@dataclass(slots=True)
class _Mounted:
    tree: Tree
    mark: str
    catalog: Catalog
    #: As they are outside.
    units: dict[str, Unit]
    claims: dict[FunctionId, set[str]]
    #: Sources whose id the prefix makes too long.
    too_long: dict[str, Problem]
    #: The last look did not end well: what the catalog knows may be of two trees.
    is_torn: bool = False

    def take(self, changes: Changes) -> Changes:
        """Bring the units up to date with the catalog; returns what changed, as it is outside."""
        source, prefix = self.tree.source, self.tree.prefix
        read: dict[str, Reading] = {}
        removed = {outside(source, path) for path in changes.removed}
        for path in removed | {outside(source, path) for path in changes.read}:
            self._drop(path)
        for reading in changes.read.values():
            unit = outer(reading.unit, source, prefix)
            if len(unit.id.encode()) > MAX_ID_BYTES:
                message = f"with the prefix {prefix!r} of its source the id has more than {MAX_ID_BYTES} bytes"
                self.too_long[unit.path] = Problem("bad_id", message, unit.path, hint="shorten the name, or the prefix")
                removed.add(unit.path)
                continue
            self.put(unit)
            read[unit.path] = Reading(unit, reading.text)
        ids = frozenset(FunctionId(prefix + id) for id in changes.ids)
        return Changes(MappingProxyType(read), frozenset(removed), ids, self.refused)

    @property
    def refused(self) -> tuple[Problem, ...]:
        found = [told(problem, self.tree.source) for problem in self.catalog.refused]
        return (*found, *(self.too_long[path] for path in sorted(self.too_long)))

    def put(self, unit: Unit) -> None:
        self.units[unit.path] = unit
        self.claims.setdefault(unit.id, set()).add(unit.path)

    def _drop(self, path: str) -> None:
        self.too_long.pop(path, None)
        unit = self.units.pop(path, None)
        if unit is not None:
            paths = self.claims[unit.id]
            paths.discard(path)
            if not paths:
                del self.claims[unit.id]


@dataclass(frozen=True, slots=True)
class _Left:
    """A function whose source does not have it any more, and where its files are."""

    unit: Unit
    folder: Path


class Mounts:
    """A Catalog over all of them. Not for use by several threads at once."""

    def __init__(self, root: Path, catalog: Catalog) -> None:
        """`root` is the functions folder, and `catalog` the one of it."""
        self._root = root
        self._local = catalog
        #: By name, in their order.
        self._mounted: dict[str, _Mounted] = {}
        self._left: dict[str, _Left] = {}
        #: What an earlier process read of sources that are not mounted yet, and of which trees.
        self._restored: dict[str, list[Unit]] = {}
        self._marks: Mapping[str, str] = {}

    # ---- as a catalog ------------------------------------------------------------------------------------

    @property
    def refused(self) -> tuple[Problem, ...]:
        """All that looks like a function or a part of one and cannot be."""
        found = [*self._local.refused]
        for mounted in self._mounted.values():
            found += mounted.refused
        return tuple(found)

    def ids(self) -> frozenset[FunctionId]:
        """All that are claimed."""
        ids = set(self._local.ids())
        for mounted in self._mounted.values():
            ids.update(mounted.claims)
        return frozenset(ids | {left.unit.id for left in self._left.values()})

    def claims(self, id: FunctionId) -> tuple[Unit, ...]:
        """The units that claim an id: local ones, then those of sources by name, each by path. What has left counts
        where nothing else does."""
        return self._claims(id) or tuple(left.unit for left in self._left.values() if left.unit.id == id)

    def _claims(self, id: FunctionId) -> tuple[Unit, ...]:
        found = [*self._local.claims(id)]
        for mounted in self._mounted.values():
            found += [mounted.units[path] for path in sorted(mounted.claims.get(id, ()))]
        return tuple(found)

    def units(self) -> tuple[Unit, ...]:
        """Every claim to an id."""
        mounted = (unit for one in self._mounted.values() for unit in one.units.values())
        return (*self._local.units.values(), *mounted, *(left.unit for left in self._left.values()))

    def refresh(self, paths: Collection[str] | None) -> Changes:
        """Look at paths of the functions folder, as `Catalog.refresh`."""
        changes = self._local.refresh(paths)
        return replace(changes, refused=self.refused)

    # ---- trees -------------------------------------------------------------------------------------------

    @property
    def marks(self) -> Mapping[str, str]:
        """Those of what is mounted."""
        return {name: mounted.mark for name, mounted in self._mounted.items()}

    @property
    def trees(self) -> Mapping[str, Tree]:
        """What is mounted, by name."""
        return MappingProxyType({name: mounted.tree for name, mounted in self._mounted.items()})

    def restore(self, units: Iterable[Unit], marks: Mapping[str, str]) -> None:
        """Begin with units that an earlier process read; `marks` are those of the trees that they were read from."""
        local = []
        for unit in units:
            if unit.source == LOCAL:
                local.append(unit)
            else:
                self._restored.setdefault(unit.source, []).append(unit)
        self._marks = marks
        self._local.restore(local)

    def first_look(self, trees: Iterable[Tree]) -> Changes:
        """Look at everything, trees too; one whose folder is not there is logged, and not mounted."""
        found = [self._local.refresh(None)]
        for tree in trees:
            try:
                found.append(self.mount(tree, None))
            except SourceError as exc:
                _log.error("%s (%s)", exc, exc.hint)
        # Of sources that are not mounted any more.
        gone = {unit.path for units in self._restored.values() for unit in units}
        self._restored.clear()
        return self._joined(*found, gone=gone)

    def mount(self, tree: Tree, paths: Collection[str] | None) -> Changes:
        """Go over to a source's tree. `paths` is what differs from the tree before; None: perhaps everything.

        Raises SourceError for a folder that is not there; then all stays as it is.
        """
        mark = mark_of(tree)
        mounted = self._mounted.get(tree.source)
        if mounted is not None and mounted.tree.prefix != tree.prefix:
            gone = self.unmount(tree.source)
            return self._joined(gone, self._mount_first(tree, mark))
        if mounted is None:
            return self._joined(self._mount_first(tree, mark))
        if mounted.is_torn or mounted.tree.path != tree.path:
            paths = None
        mounted.is_torn = True
        mounted.tree, mounted.mark = tree, mark
        changes = mounted.take(mounted.catalog.move(tree.folder, paths))
        mounted.is_torn = False
        return self._joined(changes)

    def unmount(self, source: str) -> Changes:
        """The source is gone, and what has left it."""
        mounted = self._mounted.pop(source, None)
        left = {path: left.unit for path, left in self._left.items() if left.unit.source == source}
        units = {**(mounted.units if mounted is not None else {}), **left}
        for path in left:
            del self._left[path]
        ids = frozenset(unit.id for unit in units.values())
        return Changes(MappingProxyType({}), frozenset(units), ids, self.refused)

    def _mount_first(self, tree: Tree, mark: str) -> Changes:
        catalog = Catalog(tree.folder, is_fixed=True)
        mounted = _Mounted(tree, mark, catalog, {}, {}, {})
        known = self._restored.pop(tree.source, [])
        gone = {unit.path for unit in known}
        if self._marks.get(tree.source) == mark:
            catalog.restore(inner(unit) for unit in known)
            for unit in known:
                mounted.put(unit)
        changes = mounted.take(catalog.refresh(None))
        self._mounted = dict(sorted({**self._mounted, tree.source: mounted}.items()))
        return replace(changes, removed=changes.removed | (gone - mounted.units.keys()))

    def _joined(self, *found: Changes, gone: Collection[str] = ()) -> Changes:
        read = {path: reading for changes in found for path, reading in changes.read.items()}
        removed = frozenset({path for changes in found for path in changes.removed} | set(gone)) - read.keys()
        ids = frozenset(id for changes in found for id in changes.ids)
        return Changes(MappingProxyType(read), removed, ids, self.refused)

    # ---- what has left -----------------------------------------------------------------------------------

    def keep(self, unit: Unit, folder: Path) -> None:
        """Let a function stay that its source does not have any more; `folder` is its snapshot."""
        self._left[unit.path] = _Left(unit, folder)

    def is_back(self, id: FunctionId) -> bool:
        """Whether a function that had left is claimed again."""
        return any(left.unit.id == id for left in self._left.values()) and bool(self._claims(id))

    def let_go(self, id: FunctionId) -> list[str]:
        """Keep such a function no longer; returns the paths it had."""
        paths = [path for path, left in self._left.items() if left.unit.id == id]
        for path in paths:
            del self._left[path]
        return paths

    def left(self, source: str) -> frozenset[FunctionId]:
        """The functions that stay though that source does not have them any more."""
        return frozenset(left.unit.id for left in self._left.values() if left.unit.source == source)

    # ---- files -------------------------------------------------------------------------------------------

    def root_of(self, path: str) -> tuple[Path, str]:
        """The folder that a path is in, and the path from there."""
        left = self._left.get(path)
        if left is not None:
            return left.folder, left.unit.entry
        mounted = self._mounted.get(source_of(path))
        return (self._root, path) if mounted is None else (mounted.tree.folder, inside(path))

    def located(self, unit: Unit) -> tuple[Path, Unit]:
        """The folder that a unit's files are in, and the unit with paths from there."""
        mounted = self._mounted.get(unit.source)
        return (self._root, unit) if mounted is None else (mounted.tree.folder, inner(unit))


def read_from(tree: Tree, unit: Unit) -> Unit | None:
    """What a source's function is in another tree of it, by its path or else by its id; None: it is not in there."""
    paths = [path for path in scan(tree.folder).sources if id_of(path) == unit.own_id]
    if not paths:
        return None
    path = inside(unit.path)
    found = Reader(tree.folder).read(path if path in paths else paths[0]).unit
    return outer(found, unit.source, unit.prefix)
