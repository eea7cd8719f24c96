"""Contents that Git LFS keeps: files of a commit that only point to them are replaced by what they point to."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fnsync.errors import SourceRefused
from fnsync.git import bare, command
from fnsync.git.materialize import TreeLimits
from fnsync.git.transfer import Remote

#: Longest pointer there is, in bytes.
_MOST_BYTES = 1024
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*oid sha256:([0-9a-f]{64})\nsize (\d{1,15})\n?"
)
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a file stands for."""

    path: str
    sha256: str
    size: int
    #: Of the file as it is in the repository.
    own: bytes


def expand(repository: Path, remote: Remote, folder: Path, paths: Collection[str], left: TreeLimits) -> int:
    """Put the contents in the places of their pointers; returns how many bytes more there are.

    Raises SourceRefused: too much, or git-lfs is not installed; FetchFailed.
    """
    pointers = [pointer for path in paths if (pointer := _pointer(folder, path)) is not None]
    more = sum(pointer.size - len(pointer.own) for pointer in pointers)
    if more > left.bytes:
        raise SourceRefused(
            f"the files that Git LFS keeps have {more:,} bytes more than the {left.bytes:,} that may still be taken",
            hint="leave files out with the source's ignore, or raise sync.max_size",
        )
    if not pointers:
        return 0
    if command.attempt(repository, "lfs", "version").code:
        raise SourceRefused(
            f"{pointers[0].path} is kept by Git LFS, and git-lfs is not installed",
            hint="install git-lfs, or set the source's lfs to false",
        )
    with _untouched(repository), tempfile.TemporaryDirectory(prefix=bare.TEMPORARY, dir=repository.parent) as beside:
        for pointer in pointers:
            _fetch(repository, remote, folder, pointer, Path(beside) / "content")
    return more


@contextmanager
def _untouched(repository: Path) -> Iterator[None]:
    """Take away what git-lfs leaves: what it keeps for the next time, and what it writes into the configuration."""
    config = (repository / "config").read_bytes()
    try:
        yield
    finally:
        shutil.rmtree(repository / "lfs", ignore_errors=True)
        if (repository / "config").read_bytes() != config:
            fresh = repository / "config.lock"
            fresh.write_bytes(config)
            fresh.rename(repository / "config")


def _pointer(folder: Path, path: str) -> Pointer | None:
    with (folder / path).open("rb") as file:
        own = file.read(_MOST_BYTES + 1)
    found = _POINTER.fullmatch(own)
    return None if found is None else Pointer(path, found[1].decode(), int(found[2]), own)


def _fetch(repository: Path, remote: Remote, folder: Path, pointer: Pointer, fresh: Path) -> None:
    # Where from is for the source's URL to say, not for a file in the repository.
    options = ("-c", f"remote.lfsdefault={remote.NAME}")
    with fresh.open("wb") as output:
        done = remote.run(repository, *options, "lfs", "smudge", stdin=pointer.own, output=output)
    if done.code or _sha256(fresh) != pointer.sha256:
        raise remote.failure(f"{pointer.path} cannot be fetched with git-lfs", done)
    target = folder / pointer.path
    target.unlink()
    # Not renamed: it may go to another disk.
    shutil.copyfile(fresh, target)
    target.chmod(0o444)


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            found.update(piece)
    return found.hexdigest()
