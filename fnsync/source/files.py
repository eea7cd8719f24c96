"""Opens files below the functions folder, and nothing else: no links outside, no pipes, no devices."""

from __future__ import annotations

import errno
import os
import stat
import time
from dataclasses import dataclass, replace
from pathlib import Path

from fnsync.errors import SourceError
from fnsync.model import FileStamp, Problem

#: A file that changed this shortly before it was read may change again without a new time stamp.
RACY_NS = 50_000_000

#: Codes of problems with which a walk refuses what it finds, so that it is listed as no file.
REFUSED = frozenset({"outside", "link_loop", "special_file"})

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
_GONE = (errno.ENOENT, errno.ENOTDIR)
_READ_BYTES = 1024 * 1024


class Vanished(SourceError):
    """The file was there a moment ago."""

    def __init__(self, path: str) -> None:
        message = "the file is not there, or vanished while it was read"
        super().__init__(Problem("vanished", message, path, hint="save it again"))


@dataclass(frozen=True, slots=True)
class Content:
    data: bytes
    stamp: FileStamp


def load(root: Path, path: str, limit_bytes: int) -> Content:
    """Read a regular file. Raises Vanished, or SourceError with the reason and the path."""
    real = resolve(root, path)
    for _ in range(3):
        content, settled = _load(real, path, limit_bytes)
        if settled:
            break
    return content if settled else replace(content, stamp=replace(content.stamp, trusted=False))


def _load(real: str, path: str, limit_bytes: int) -> tuple[Content, bool]:
    """Return the content, and whether the file stayed as it was meanwhile."""
    try:
        descriptor = os.open(real, _FLAGS)
    except OSError as exc:
        raise os_problem(exc, path) from exc
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise special(path)
        if before.st_size > limit_bytes:
            raise too_large(path, before.st_size, limit_bytes)
        data = _read(descriptor, limit_bytes + 1)
        after = os.fstat(descriptor)
    except OSError as exc:
        raise os_problem(exc, path) from exc
    finally:
        os.close(descriptor)
    if len(data) > limit_bytes:
        raise too_large(path, len(data), limit_bytes)
    found = stamp(after)
    racy = abs(time.time_ns() - found.ctime_ns) < RACY_NS
    return Content(data, replace(found, trusted=not racy)), stamp(before) == found and len(data) == found.size


def _read(descriptor: int, most: int) -> bytes:
    chunks: list[bytes] = []
    while most > 0:
        chunk = os.read(descriptor, min(most, _READ_BYTES))
        if not chunk:
            break
        chunks.append(chunk)
        most -= len(chunk)
    return b"".join(chunks)


def stamp(found: os.stat_result) -> FileStamp:
    return FileStamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def look(root: Path, path: str) -> FileStamp | None:
    """The stamp of what a path leads to, whatever it is; None if nothing is there."""
    try:
        return stamp(os.stat(root / path))
    except (OSError, ValueError):
        return None


def resolve(root: Path, path: str) -> str:
    """The real place of a path, which lies below the real place of the root. Raises Vanished or SourceError."""
    real_root = os.path.realpath(root)
    try:
        real = os.path.realpath(os.path.join(real_root, path), strict=True)
    except OSError as exc:
        raise os_problem(exc, path) from exc
    except ValueError as exc:
        raise SourceError(Problem("unreadable", f"no path: {exc}", path.replace("\0", "\\0"))) from exc
    if not is_below(real, real_root):
        raise outside(path)
    return real


def is_below(real: str, real_root: str) -> bool:
    return real == real_root or real.startswith(real_root.rstrip(os.sep) + os.sep)


def outside(path: str) -> SourceError:
    message = "the symbolic link leads outside the functions folder"
    return SourceError(Problem("outside", message, path, hint="copy what it points to into the folder"))


def special(path: str) -> SourceError:
    message = "neither a regular file nor a folder (a pipe, a socket or a device)"
    return SourceError(Problem("special_file", message, path, hint="move it out of the functions folder"))


def too_large(path: str, size: int, limit_bytes: int) -> SourceError:
    message = f"{size:,} bytes, more than the {limit_bytes:,} that are read"
    return SourceError(Problem("too_large", message, path, hint="move data out of the file"))


def os_problem(exc: OSError, path: str) -> SourceError:
    """The operating system's reason as an error of ours."""
    if exc.errno in _GONE:
        return Vanished(path)
    if exc.errno == errno.ELOOP:
        message = "the symbolic link leads in a circle"
        return SourceError(Problem("link_loop", message, path, hint="remove the link"))
    reason = exc.strerror or type(exc).__name__
    return SourceError(Problem("unreadable", f"cannot be read: {reason}", path, hint="check the file's permissions"))
