"""Puts the files of one commit into a folder of their own, as git has them: no filter, line ending or hook is applied.

The folder is made beside, under a name that begins with `.tmp-`, forced to disk, and renamed in: nobody sees half a
commit. A crash leaves such a name, which `clean` removes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fnsync.errors import NotWritable, SourceRefused
from fnsync.git.blobs import Blobs, Provide, sizes
from fnsync.git.selection import Listing, Selection, TreeLimits, changed, listing
from fnsync.model import CommitId

__all__ = ["Materialized", "Selection", "TreeLimits", "clean", "materialize"]

_TEMPORARY = ".tmp-"
#: File systems without hard links, or with too many to one file: the content is copied.
_NO_LINK = (errno.EMLINK, errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.ENOSYS)
#: The longest target of a link, in bytes.
_MAX_TARGET_BYTES = 4096
#: With more files and folders than this, it is quicker to force the whole file system to disk than each of them.
_FEW = 32


@dataclass(frozen=True, slots=True)
class Made:
    """A folder that is complete but for what lies outside of the repository."""

    folder: Path
    listing: Listing
    #: The files that were not taken from an earlier folder.
    fresh: Collection[str]
    #: What may still be added.
    left: TreeLimits


#: Adds to a folder what lies elsewhere; returns how many files and bytes more there are.
Finish = Callable[[Made], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Materialized:
    """A commit's files on disk, in a folder that nobody changes."""

    #: What the selection's path is in the commit.
    folder: Path
    commit: CommitId
    #: Symbolic links are counted too.
    files: int
    bytes: int


def materialize(
    repository: Path,
    commit: CommitId,
    target: Path,
    selection: Selection = Selection(),  # noqa: B008 - immutable
    limits: TreeLimits = TreeLimits(),  # noqa: B008 - immutable
    *,
    beside: tuple[CommitId, Path] | None = None,
    provide: Provide | None = None,
    finish: Finish | None = None,
) -> Materialized:
    """Make `target` from a commit of any repository; what is there already is used as it is.

    `beside`: an earlier commit and the folder that was made of it with the same selection: files that are the same
    become hard links. Submodules are left to `finish`. Raises SourceRefused, naming path and limit; LostObject,
    RepositoryError, NotWritable.
    """
    try:
        if target.is_dir():
            return _found(commit, target)
        return _make(repository, commit, target, selection, limits, beside, provide, finish)
    except OSError as exc:
        raise NotWritable(
            f"the files of {commit[:12]} cannot be written: {exc}",
            retry_after_s=30.0,
            hint="make room, or let the server's user write there",
        ) from exc


def clean(folder: Path) -> None:
    """Remove what crashes have left in the folder that targets are in; nobody may be making one meanwhile."""
    if folder.is_dir():
        for path in list(folder.iterdir()):
            if path.name.startswith(_TEMPORARY):
                shutil.rmtree(path, ignore_errors=True)


def _make(
    repository: Path,
    commit: CommitId,
    target: Path,
    selection: Selection,
    limits: TreeLimits,
    beside: tuple[CommitId, Path] | None,
    provide: Provide | None,
    finish: Finish | None,
) -> Materialized:
    found = listing(repository, commit, selection, limits)
    temporary = target.with_name(_TEMPORARY + secrets.token_hex(8))
    try:
        temporary.mkdir(parents=True)
        fresh, bytes_ = _fill(repository, commit, temporary, selection, found, limits, beside, provide)
        files = len(found.files) + len(found.links)
        if finish is not None:
            left = TreeLimits(limits.files - files, limits.bytes - bytes_)
            more_files, more_bytes = finish(Made(temporary, found, fresh, left))
            files, bytes_ = files + more_files, bytes_ + more_bytes
            # Again: one may lead through a link of what was added.
            _check_links(temporary, {path: os.readlink(temporary / path) for path in found.links}, commit)
        _settle(temporary, fresh)
        try:
            temporary.rename(target)
        except OSError as exc:
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return _found(commit, target)  # made by another meanwhile
        _sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Materialized(target, commit, files, bytes_)


def _fill(
    repository: Path,
    commit: CommitId,
    folder: Path,
    selection: Selection,
    found: Listing,
    limits: TreeLimits,
    beside: tuple[CommitId, Path] | None,
    provide: Provide | None,
) -> tuple[Collection[str], int]:
    """Write all files; returns which of them are not from an earlier folder, and the bytes of all."""
    old = _Earlier(repository, commit, selection, beside)
    known = old.sizes(found.files)
    wanted = {path: id for path, id in found.files.items() if path not in known}
    targets = old.targets(found.links)
    read = [*wanted.values(), *(id for path, id in found.links.items() if path not in targets)]
    if read:
        size = sizes(repository, dict.fromkeys(read), provide)
        known |= {path: size[id] for path, id in wanted.items()}
    total = _total(known, commit, limits)
    _make_folders(folder, [*found.files, *found.links])
    _link_all(old.folder, folder, [path for path in found.files if path not in wanted])
    with Blobs(repository) as blobs:
        for path, id in wanted.items():
            _write(folder / path, blobs.pieces(id))
        for path, id in found.links.items():
            if path not in targets:
                targets[path] = _target(path, blobs.read(id, _MAX_TARGET_BYTES), commit)
    # Behind all files, so that none is written through one.
    for path, target in targets.items():
        os.symlink(target, folder / path)
    _check_links(folder, targets, commit)
    return wanted, total


class _Earlier:
    """A folder that was made of an earlier commit, as far as it can be used."""

    def __init__(
        self, repository: Path, commit: CommitId, selection: Selection, beside: tuple[CommitId, Path] | None
    ) -> None:
        self.folder = "" if beside is None else str(beside[1])
        self._changed = None if beside is None else changed(repository, beside[0], commit, selection)

    def sizes(self, files: Collection[str]) -> dict[str, int]:
        """The files that are there as they are wanted, and their sizes."""
        found = {}
        for path, about in self._same(files):
            if stat.S_ISREG(about.st_mode):
                found[path] = about.st_size
        return found

    def targets(self, links: Collection[str]) -> dict[str, str]:
        """The links that are there as they are wanted, and where they lead."""
        return {
            path: os.readlink(os.path.join(self.folder, path))
            for path, about in self._same(links)
            if stat.S_ISLNK(about.st_mode)
        }

    def _same(self, paths: Collection[str]) -> Iterator[tuple[str, os.stat_result]]:
        if self._changed is None:
            return
        for path in paths:
            if path not in self._changed:
                try:
                    yield path, os.lstat(os.path.join(self.folder, path))
                except (FileNotFoundError, NotADirectoryError):
                    continue  # somebody has damaged it: read from the repository again


def _total(known: dict[str, int], commit: CommitId, limits: TreeLimits) -> int:
    total = 0
    for path, size in known.items():
        total += size
        if total > limits.bytes:
            largest = max(known, key=known.__getitem__)
            raise SourceRefused(
                f"the files of {commit[:12]} have {sum(known.values()):,} bytes, more than the {limits.bytes:,} that "
                f"are taken; {path} goes over it, the largest is {largest} with {known[largest]:,}",
                hint="leave files out with the source's ignore, or raise sync.max_size",
            )
    return total


def _make_folders(folder: Path, paths: Collection[str]) -> None:
    for name in sorted({path.rpartition("/")[0] for path in paths} - {""}):
        os.makedirs(folder / name, exist_ok=True)


def _link_all(earlier: str, folder: Path, paths: Collection[str]) -> None:
    """Take files over from an earlier folder."""
    if not paths:
        return
    with _opened(earlier) as source, _opened(folder) as target:  # shorter ways for the system to go, for each file
        for path in paths:
            try:
                os.link(path, path, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            except OSError as exc:
                if exc.errno not in _NO_LINK:
                    raise
                shutil.copyfile(os.path.join(earlier, path), folder / path, follow_symlinks=False)
                os.chmod(folder / path, 0o444)


@contextmanager
def _opened(folder: Path | str) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444)
    with open(descriptor, "wb", buffering=0) as file:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[file.write(rest) :]
        os.fchmod(descriptor, 0o444)


def _target(path: str, content: bytes | None, commit: CommitId) -> str:
    """Where a link leads. Raises SourceRefused."""
    if content is None or not content or b"\0" in content:
        raise SourceRefused(f"{path} in {commit[:12]} is a symbolic link to no path")
    return os.fsdecode(content)


def _check_links(folder: Path, targets: dict[str, str], commit: CommitId) -> None:
    """Ask the file system where links lead, since one may lead through another. Raises SourceRefused."""
    if not targets:
        return
    root = os.path.realpath(folder)
    for path, target in targets.items():
        real = os.path.realpath(folder / path)
        if target.startswith("/") or not (real == root or real.startswith(root + os.sep)):
            raise SourceRefused(
                f"the symbolic link {path} in {commit[:12]} leads out of the source's folder: {target!r}",
                hint="copy what it leads to into the folder, or leave the link out with the source's ignore",
            )


# ---- to disk -----------------------------------------------------------------------------------------------


def _settle(folder: Path, fresh: Collection[str]) -> None:
    """Force all to disk: a commit that was renamed in is taken as it is after a power failure."""
    written = [*(folder / path for path in fresh), *(Path(around) for around, _, _ in os.walk(folder))]
    if len(written) > _FEW and _sync_all(folder):
        return
    for path in written:
        _sync(path)


def _sync_all(folder: Path) -> bool:
    """Force the file system that a folder is on to disk; False: this system has no such call."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is None:
        return False
    with _opened(folder) as descriptor:
        if call(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _found(commit: CommitId, folder: Path) -> Materialized:
    """What is there already."""
    files = total = 0
    for around, folders, names in os.walk(folder):
        for name in [*names, *folders]:
            about = os.lstat(os.path.join(around, name))
            files += not stat.S_ISDIR(about.st_mode)
            total += about.st_size if stat.S_ISREG(about.st_mode) else 0
    return Materialized(folder, commit, files, total)
