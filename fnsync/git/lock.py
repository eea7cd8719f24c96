"""The lock under which a working tree is changed: git's own, so that git and fnsync keep out of each other's way.

    <git folder>/fnsync.lock    locked (flock) for as long as one fnsync changes the tree; the file itself stays
    <git folder>/index.lock     what every git command that changes the index or the tree makes first
    <git folder>/fnsync.running locked by `git commit` and its hooks, which go on when the server is killed

A crash leaves `index.lock`. It has our mark in it, so whoever takes `fnsync.lock` next knows that nobody holds it
and removes it. Git itself does not: until then its commands say that the lock is there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fnsync.errors import NotWritable, RepositoryBusy, RepositoryError

#: How long a lock is waited for, in seconds.
WAIT_S = 10.0
#: How long at least, for an edit that has waited for others before: they may have waited for the same lock.
LEAST_S = 0.5
#: How long a commit may take, its hooks included, in seconds.
COMMIT_S = 120.0
#: How often it is looked at meanwhile, in seconds.
POLL_S = 0.005
#: What our `index.lock` begins with.
MARK = b"fnsync edits this working tree\n"
#: Errors of a file system without hard links.
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
#: Errors of a disk that takes nothing.
_FULL_OR_FIXED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def locked(git_folder: Path, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold both locks. Raises RepositoryBusy when others keep them, NotWritable, and RepositoryError."""
    until = time.monotonic() + wait_s
    with _flock(git_folder / "fnsync.lock", until):
        _await_orphan(git_folder, until)
        lock = git_folder / "index.lock"
        with writing(git_folder):
            _take(lock, until, wait_s)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


@contextmanager
def running(git_folder: Path) -> Iterator[int]:
    """Hold what tells that a commit runs; under the lock. Gives a descriptor: while a program that has it lives, it is
    held, whatever becomes of this one. At the end of the block it is not, whoever has it."""
    with writing(git_folder):
        descriptor = os.open(_running(git_folder), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _is_taken(descriptor)  # if not, by what a hook left behind before a crash
        os.utime(descriptor)
        yield descriptor
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def is_running(git_folder: Path) -> bool:
    """Whether a commit, or what its hooks left, has outlived the server that began it; under the lock."""
    try:
        descriptor = os.open(_running(git_folder), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _is_taken(descriptor)
    finally:
        os.close(descriptor)


def _running(git_folder: Path) -> Path:
    return git_folder / "fnsync.running"


def _await_orphan(git_folder: Path, until: float) -> None:
    """A commit whose server was killed goes on; wait for it, but not longer than it would have been let run."""
    while is_running(git_folder) and time.time() - _running(git_folder).stat().st_mtime < COMMIT_S:
        _wait(
            until,
            f"a commit in {git_folder.parent} goes on that a server began before it was killed",
            "wait until the repository's hooks are done, or end them",
        )


def is_ours(lock: Path) -> bool:
    """Whether an `index.lock` was made by fnsync."""
    try:
        with lock.open("rb") as file:
            return file.read(len(MARK)) == MARK
    except OSError:
        return False


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """The one door for a disk that takes nothing. Raises NotWritable, and RepositoryError for other errors of it."""
    try:
        yield
    except OSError as exc:
        where = exc.filename or folder
        reason = exc.strerror or type(exc).__name__
        if exc.errno in _FULL_OR_FIXED:
            hint = "make room, or let the server's user write there"
            raise NotWritable(f"cannot write {where}: {reason}", retry_after_s=30.0, hint=hint) from exc
        raise RepositoryError(f"cannot write {where}: {reason}") from exc


@contextmanager
def _flock(path: Path, until: float) -> Iterator[None]:
    with writing(path.parent):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        while not _is_taken(descriptor):
            _wait(until, f"another fnsync changes {path.parent.parent} and does not end", None)
        yield
    finally:
        os.close(descriptor)


def _is_taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take(lock: Path, until: float, wait_s: float) -> None:
    """Make `index.lock`, with our mark in it from its first moment on."""
    fresh = lock.with_name(f"fnsync-{secrets.token_hex(8)}.lock")
    fresh.write_bytes(MARK)
    try:
        while not _is_made(fresh, lock):
            if is_ours(lock):  # left behind: who made it would hold fnsync.lock
                lock.unlink(missing_ok=True)
                continue
            message = f"git is at work in {lock.parent.parent}: it has held {lock} for {wait_s:g} s"
            _wait(until, message, f"try again; if no git command runs there, remove {lock}")
    finally:
        fresh.unlink(missing_ok=True)


def _is_made(fresh: Path, lock: Path) -> bool:
    try:
        os.link(fresh, lock)
    except FileExistsError:
        return False
    except OSError as exc:
        if exc.errno not in NO_LINKS:
            raise
        return _is_made_without_links(lock)
    return True


def _is_made_without_links(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "wb") as file:
        file.write(MARK)
    return True


def _wait(until: float, message: str, hint: str | None) -> None:
    if time.monotonic() >= until:
        raise RepositoryBusy(message, retry_after_s=2.0, hint=hint)
    time.sleep(POLL_S)
