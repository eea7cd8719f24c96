"""The history of a function as it is told: which of its versions is on disk, which answers, and how two are found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fnsync.differences import Difference, differences, traits
from fnsync.editions import Edition, edition
from fnsync.edits.archive import Archive
from fnsync.errors import NotFound
from fnsync.git.contents import VersionFiles
from fnsync.git.versions import Version
from fnsync.model import CommitId, Revision, Unit
from fnsync.places import MAIN, settings_of
from fnsync.source.reading import Reader

#: What stands for a version: what is on disk now, and what came before the other one.
DISK, BEFORE = "disk", "before"
#: How many versions are compared with what answers, where that is not what is on disk.
SEARCHED = 20

_OWN = "function/"


@dataclass(frozen=True, slots=True)
class Held:
    """Something that a function is now."""

    #: None: the files cannot be read.
    revision: Revision | None
    #: The version it is; None: it is in no commit, or in one that is not among the newest.
    version: CommitId | None


@dataclass(frozen=True, slots=True)
class History:
    """The newest versions of a function, newest first."""

    versions: tuple[Version, ...]
    #: Whether there are older ones.
    more: bool
    disk: Held
    #: None: nothing answers, or no server runs.
    live: Held | None

    @property
    def uncommitted(self) -> bool:
        """Whether what is on disk is not what the last commit says."""
        return self.disk.version is None


@dataclass(frozen=True, slots=True)
class State:
    """What a function was at a version, or is on disk."""

    #: A commit, or DISK.
    name: str
    #: Where its source lies, from the functions folder.
    source: str
    files: VersionFiles

    @property
    def edition(self) -> Edition:
        """As callers are shown it."""
        return edition(self.source, self.files)

    def reading(self) -> Unit:
        """What reading its files tells; its shared modules are not among them."""
        files = self.files.at(self.source)
        if self.files.settings is not None:
            files[settings_of(self.source)] = self.files.settings
        with TemporaryDirectory(prefix="fnsync-") as folder:
            for path, content in files.items():
                file = Path(folder, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            return Reader(Path(folder)).read(self.source).unit


def history(
    archive: Archive, unit: Unit, limit: int, live: Revision | None = None, snapshot: Path | None = None
) -> History:
    """The newest `limit` versions. `live` is the revision that answers, and `snapshot` the folder it is kept in.

    Raises what the methods of Archive raise.
    """
    found = archive.versions(unit, 0, limit + 1)
    now = archive.now(unit)
    disk = Held(now.revision, found[0].commit if found and archive.is_same(now, found[0].commit) else None)
    versions = tuple(found[:limit])
    if live is None:
        answers = None
    elif live == now.revision:
        answers = Held(live, disk.version)
    else:
        answers = Held(live, _version_of(archive, unit, versions, snapshot))
    return History(versions, len(found) > limit, disk, answers)


def compared(archive: Archive, unit: Unit, before: str, after: str) -> tuple[State | None, State]:
    """Two states, each named by a version's hash, DISK, or for the first one BEFORE; None: nothing came before.

    Raises NotFound, Invalid for files that are too large, and what the methods of Archive raise.
    """
    new, parent = _state(archive, unit, after)
    if before != BEFORE:
        return _state(archive, unit, before)[0], new
    if after == DISK:
        parent = _before_disk(archive, unit)
    return (None if parent is None else _state(archive, unit, parent)[0]), new


def meaning(before: State | None, after: State) -> tuple[Difference, ...]:
    """What it means for the function that its files differ; of which of them do, and where, a diff tells."""
    new = after.reading()
    found = traits(new) if before is None else differences(before.reading(), new)
    return tuple(one for one in found if one.what not in ("source", "helpers"))


def _state(archive: Archive, unit: Unit, name: str) -> tuple[State, CommitId | None]:
    """A state, and the version before it, if it is one."""
    if name == DISK:
        return State(DISK, *archive.on_disk(unit)), None
    version, files = archive.files(unit, name)
    return State(version.commit, version.path, files), version.parent


def _before_disk(archive: Archive, unit: Unit) -> CommitId | None:
    """The version that what is on disk came after."""
    newest = archive.versions(unit, 0, 2)
    if newest and archive.is_same(archive.now(unit), newest[0].commit):
        del newest[0]
    return newest[0].commit if newest else None


def _version_of(archive: Archive, unit: Unit, versions: tuple[Version, ...], snapshot: Path | None) -> CommitId | None:
    """The version with the files of a snapshot; shared modules are no part of a version."""
    held = {} if snapshot is None else _own_files(snapshot)
    for version in versions[:SEARCHED] if held else ():
        try:
            if dict(archive.files(unit, version.commit)[1].files) == held:
                return version.commit
        except NotFound:  # its source is a link that leads nowhere
            continue
    return None


def _own_files(snapshot: Path) -> Mapping[str, bytes]:
    folder = snapshot / _OWN
    try:
        found = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
    except FileNotFoundError:  # collected meanwhile
        return {}
    return files if MAIN in files else {}
