"""Reads functions of a commit: their files are put into a folder for the time of the reading.

Of one function only what it is made of is written: its own files, and what is shared around it. Blocking.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fnsync.errors import UnknownFunction
from fnsync.git import command, tree
from fnsync.git.bareview import BareView
from fnsync.git.materialize import Selection, materialize
from fnsync.model import FunctionId, Unit
from fnsync.places import IGNORE_FILE, enclosing, own_folder, settings_of
from fnsync.previews.refs import Where
from fnsync.source.discovery import id_of, scan
from fnsync.source.mounts import outer
from fnsync.source.reading import Reader
from fnsync.source.snapshots import Snapshots


@dataclass(frozen=True, slots=True)
class Read:
    """A function as it is in a commit."""

    unit: Unit
    #: Epoch seconds of the commit.
    committed_at: int


@dataclass(frozen=True, slots=True)
class Offered:
    """The functions of a commit, by id; each from the first file that claims it."""

    units: tuple[Unit, ...]
    #: Epoch seconds of the commit.
    committed_at: int


class Scratch:
    """A folder for folders that are only used while something is read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def clear(self) -> None:
        """Remove what a crash has left; blocking."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def materialized(self, where: Where, selection: Selection) -> Iterator[Path]:
        """The folder with a commit's files. Raises SourceRefused, NotWritable, RepositoryError."""
        target = self._folder / secrets.token_hex(8)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            yield materialize(where.repository, where.commit, target, selection).folder
        finally:
            shutil.rmtree(target, ignore_errors=True)


def read(where: Where, id: FunctionId, ref: str, scratch: Scratch, snapshots: Snapshots) -> Read:
    """The function `id` at a commit, with its snapshot written if it has a revision.

    Of several files that claim the id the first by path counts. Raises UnknownFunction that names id and `ref`.
    """
    own = FunctionId(id.removeprefix(where.prefix))
    if not id.startswith(where.prefix):
        raise unknown(id, ref)
    selection = _selection(where, own)
    if selection is None:
        raise unknown(id, ref)
    with scratch.materialized(where, selection) as folder:
        source = next((path for path in scan(folder).sources if id_of(path) == own), None)
        if source is None:
            raise unknown(id, ref)
        unit = Reader(folder).read(source).unit
        if unit.revision is not None:
            snapshots.write(folder, unit)
    return Read(outer(unit, where.source, where.prefix), committed_at(where))


def read_all(where: Where, scratch: Scratch) -> Offered:
    """All functions of a commit."""
    found: dict[FunctionId, Unit] = {}
    with scratch.materialized(where, where.selection) as folder:
        reader = Reader(folder)
        for path in scan(folder).sources:
            if id_of(path) not in found:
                found[id_of(path)] = reader.read(path).unit
    return Offered(
        tuple(outer(unit, where.source, where.prefix) for _, unit in sorted(found.items())), committed_at(where)
    )


def committed_at(where: Where) -> int:
    """When a commit was made, in epoch seconds."""
    _, found = command.run(where.repository, "show", "--no-patch", "--no-show-signature", "--format=%ct", where.commit)
    return int(found)


def unknown(id: str, ref: str) -> UnknownFunction:
    """Return the error for a function that is not there at a ref, or not for the caller."""
    return UnknownFunction(f"there is no function {id[:200]!r} at {ref[:200]!r}")


# ---- what one function is made of ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Chosen(Selection):
    """Some files of a selection."""

    within: Selection = Selection()
    paths: frozenset[str] = frozenset()

    def has(self, path: str) -> bool:
        return path in self.paths and self.within.has(path)


def _selection(where: Where, id: FunctionId) -> Selection | None:
    """The files that tell what a function is at a commit; None: there is none."""
    within = where.selection
    found = tree.files(BareView(where.repository, where.commit, within.path), where.commit)
    claims = [path for path in found if tree.is_function(path, found) and id_of(path) == id]
    if not claims:
        return None
    wanted = frozenset(path for source in claims for path in around(source, found))
    if any(found[path].is_link for path in wanted):
        return within  # it may lead to any of the others
    return _Chosen(path=within.path, within=within, paths=wanted)


def around(source: str, paths: Collection[str]) -> Iterator[str]:
    """Of all paths those that a function may be made of: its own files, and what is shared, seen from its folder."""
    folder = own_folder(source)
    beside = {source, settings_of(source), settings_of(source).removesuffix(".yaml") + ".yml"}
    bases = ["", *(f"{base}/" for base in enclosing(source))]
    for path in paths:
        is_own = path in beside or (folder is not None and path.startswith(f"{folder}/"))
        if is_own or any(path.startswith((f"{base}_", f"{base}{IGNORE_FILE}")) for base in bases):
            yield path
