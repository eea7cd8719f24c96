"""Immutable copies of revisions, and the record of which revision of a function last loaded well.

    snapshots/<revision[:2]>/<revision>/{function,shared}/…   hard links into the objects
    snapshots/objects/<digest[:2]>/<digest>                   each content once, read-only
    live/<id>.json                                            the last good revision of an id

Everything is made beside, under a name that begins with `.tmp-`, and renamed in. A crash leaves such a name,
an object without a snapshot, or a snapshot that no function uses; `collect` removes all three. Snapshots are
not forced to disk when they are written, so a power failure can empty files of one: a snapshot's name is the
hash of what it should hold, and `write` checks those it did not make itself. `record_good` forces the snapshot
and its record to disk.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from fnsync.errors import SourceError
from fnsync.model import FunctionId, GoodRevision, Part, Problem, Revision, Unit
from fnsync.source import files, revisions
from fnsync.source.reading import TOTAL_BYTES

_log = logging.getLogger(__name__)

_TEMPORARY = ".tmp-"
_OBJECTS = "objects"
_CACHE = "__pycache__"
#: File systems without hard links, or with too many to one file: the content is copied.
_NO_LINK = (errno.EMLINK, errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.ENOSYS)
_ATTEMPTS = 3


class Snapshots:
    """The folders `snapshots` and `live` of the data folder. Safe from any thread, and beside another process."""

    def __init__(self, folder: Path, *, grace_s: float = 600.0) -> None:
        """`folder` is the data folder; what is younger than `grace_s` is never collected."""
        self._snapshots = folder / "snapshots"
        self._objects = self._snapshots / _OBJECTS
        self._live = folder / "live"
        self._grace_s = grace_s
        #: Between telling a writer that a snapshot is there, and taking it away.
        self._lock = threading.Lock()
        self._verified: set[Revision] = set()

    # ---- snapshots ----------------------------------------------------------------------------------------

    def folder(self, revision: Revision) -> Path:
        """Where the revision's snapshot is, or would be."""
        return self._snapshots / revision[:2] / revision

    def has(self, revision: Revision) -> bool:
        """Whether the snapshot is there; the rename that ends `write` makes it so."""
        return self.folder(revision).is_dir()

    def verify(self, revision: Revision) -> bool:
        """Whether the snapshot is there and holds what its name says; reads all of it, once per process."""
        if revision in self._verified and self.has(revision):
            return True
        good = self.has(revision) and revisions.revision_of(_contents(self.folder(revision))) == revision
        if good:
            self._verified.add(revision)
        return good

    def write(self, root: Path, unit: Unit) -> Path:
        """Return the folder of the unit's snapshot, made if needed.

        Raises SourceError: `changed_meanwhile` if a file is no longer what the unit says, or the unit's own
        problem if it has no revision.
        """
        if unit.revision is None:
            raise SourceError(unit.problem or Problem("no_revision", "the files were not read", unit.path))
        folder = self.folder(unit.revision)
        if self._renewed(unit.revision):
            return folder
        temporary = self._temporary(folder.parent)
        try:
            temporary.mkdir(parents=True)
            made: set[Path] = set()
            for part in unit.parts:
                target = temporary / part.place
                if target.parent not in made:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    made.add(target.parent)
                self._place(root, part, target)
            self._commit(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._verified.add(unit.revision)
        return folder

    def _renewed(self, revision: Revision) -> bool:
        """Whether a good snapshot is there; then its grace begins anew."""
        with self._lock:
            if not self.verify(revision):
                return False
            os.utime(self.folder(revision))
            return True

    def _commit(self, temporary: Path, folder: Path) -> None:
        """Rename a finished snapshot in; one that is there already is replaced if it is damaged."""
        with self._lock:
            try:
                temporary.rename(folder)
            except OSError as exc:
                if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                if revisions.revision_of(_contents(folder)) != folder.name:
                    _log.warning("the snapshot %s is damaged and is made again", folder.name)
                    folder.rename(self._temporary(folder.parent))
                    temporary.rename(folder)

    def _place(self, root: Path, part: Part, target: Path) -> None:
        """Put a part's content at its place in a snapshot."""
        stored = self._objects / part.digest[:2] / part.digest
        for _ in range(_ATTEMPTS):
            if not _holds(stored, part.digest):
                self._store(root, part, stored)
            try:
                os.link(stored, target)
                return
            except FileNotFoundError:
                continue  # collected meanwhile
            except OSError as exc:
                if exc.errno not in _NO_LINK:
                    raise
                shutil.copy(stored, target)
                return
        raise SourceError(_changed(part))

    def _store(self, root: Path, part: Part, stored: Path) -> None:
        """Read a part from the functions folder into the objects."""
        try:
            data = files.load(root, part.path, TOTAL_BYTES).data
        except files.Vanished as exc:
            raise SourceError(_changed(part)) from exc
        if revisions.digest(data) != part.digest:
            raise SourceError(_changed(part))
        stored.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._temporary(stored.parent)
        try:
            temporary.write_bytes(data)
            temporary.chmod(0o444)
            temporary.rename(stored)
        finally:
            temporary.unlink(missing_ok=True)

    @staticmethod
    def _temporary(folder: Path) -> Path:
        return folder / (_TEMPORARY + secrets.token_hex(8))

    # ---- the last good revision ---------------------------------------------------------------------------

    def record_good(self, good: GoodRevision) -> None:
        """Remember what loaded well. Forces the snapshot and the record to disk, about 1 ms per file."""
        folder = self.folder(good.revision)
        if folder.is_dir():
            for path in [*_walk_files(folder), *_walk_folders(folder), folder.parent]:
                _sync(path)
        self._live.mkdir(parents=True, exist_ok=True)
        temporary = self._temporary(self._live)
        try:
            temporary.write_bytes(msgspec.json.encode(good))
            _sync(temporary)
            temporary.rename(self._record(good.id))
            _sync(self._live)
        finally:
            temporary.unlink(missing_ok=True)

    def good(self, id: FunctionId) -> GoodRevision | None:
        """The revision of an id that last loaded well; a record that cannot be read is logged, and counts as none."""
        try:
            found = msgspec.json.decode(self._record(id).read_bytes(), type=GoodRevision)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
            _log.warning("the record of the last good revision of %s cannot be read: %s", id, exc)
            return None
        return found if found.id == id else None

    def goods(self) -> dict[FunctionId, GoodRevision]:
        """All records, by id."""
        found = (self.good(id) for id in self._recorded())
        return {good.id: good for good in found if good is not None}

    def forget(self, id: FunctionId) -> None:
        """Remove an id's record."""
        self._record(id).unlink(missing_ok=True)

    def _record(self, id: FunctionId) -> Path:
        return self._live / f"{id}.json"

    def _recorded(self) -> list[FunctionId]:
        names = (entry.name for entry in _entries(self._live))
        return sorted(FunctionId(name.removesuffix(".json")) for name in names if name.endswith(".json"))

    # ---- clean-up -----------------------------------------------------------------------------------------

    def collect(self, keep: Collection[Revision]) -> int:
        """Remove what nobody needs; return how many snapshots went.

        Kept are the revisions in `keep`, the last good one of every id, and all that is younger than the grace.
        If a record cannot be read, nothing is removed: the revision it names is not known.
        """
        goods = self.goods()
        if len(goods) != len(self._recorded()):
            return 0
        kept = {*keep, *(good.revision for good in goods.values())}
        removed = 0
        for group in _entries(self._snapshots):
            if group.name != _OBJECTS:
                removed += sum(self._remove(Path(entry.path), kept) for entry in _entries(Path(group.path)))
        self._collect_objects()
        self._collect_leftovers(self._live)
        return removed

    def _remove(self, path: Path, kept: set[Revision]) -> bool:
        """Remove a snapshot that is not needed, or a leftover; return whether it was a snapshot."""
        if path.name.startswith(_TEMPORARY):
            if self._is_old(path):
                shutil.rmtree(path, ignore_errors=True)
            return False
        gone = self._temporary(path.parent)
        with self._lock:
            if path.name in kept or not self._is_old(path):
                return False
            # Away in one step, so that nobody sees half a snapshot.
            path.rename(gone)
            self._verified.discard(Revision(path.name))
        shutil.rmtree(gone, ignore_errors=True)
        return True

    def _collect_objects(self) -> None:
        for group in _entries(self._objects):
            self._collect_leftovers(Path(group.path))
            for entry in _entries(Path(group.path)):
                if not entry.name.startswith(_TEMPORARY) and self._is_unused(Path(entry.path)):
                    Path(entry.path).unlink(missing_ok=True)

    def _collect_leftovers(self, folder: Path) -> None:
        for entry in _entries(folder):
            if entry.name.startswith(_TEMPORARY) and self._is_old(Path(entry.path)):
                Path(entry.path).unlink(missing_ok=True)

    def _is_unused(self, stored: Path) -> bool:
        """Whether no snapshot has a link to an object. One that gets its first link right now is made again."""
        return stored.stat().st_nlink == 1 and self._is_old(stored)

    def _is_old(self, path: Path) -> bool:
        try:
            return time.time() - path.stat().st_mtime >= self._grace_s
        except FileNotFoundError:
            return False


def _holds(stored: Path, digest: str) -> bool:
    try:
        return revisions.digest(stored.read_bytes()) == digest
    except FileNotFoundError:
        return False


def _changed(part: Part) -> Problem:
    return Problem("changed_meanwhile", "the file changed after it was read", part.path, hint="it is read again")


def _contents(folder: Path) -> Iterator[tuple[str, str]]:
    """Place and digest of each file of a snapshot."""
    for path in _walk_files(folder):
        yield path.relative_to(folder).as_posix(), revisions.digest(path.read_bytes())


def _walk_files(folder: Path) -> Iterator[Path]:
    for around, folders, names in os.walk(folder):
        if _CACHE in folders:
            folders.remove(_CACHE)  # a worker's Python may have written one
        yield from (Path(around, name) for name in names)


def _walk_folders(folder: Path) -> Iterator[Path]:
    yield from (Path(around) for around, _, _ in os.walk(folder))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
