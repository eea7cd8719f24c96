"""Bytes of a source file to text; says where and why when they are none."""

from __future__ import annotations

import codecs
import re

from fnsync.errors import SourceError
from fnsync.model import Problem

_UTF8 = frozenset({"utf-8", "utf-8-sig", "ascii"})
_COOKIE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", re.ASCII)
_BLANK = re.compile(rb"^[ \t\f]*(?:#.*)?$")


def decode(data: bytes, path: str) -> str:
    """Return the text without a BOM, line ends as they are. Raises SourceError (code `encoding` or `nul_bytes`)."""
    _check_nul(data, path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise _not_utf8(exc, data, path) from exc
    _check_cookie(data, path)
    return text


def _check_nul(data: bytes, path: str) -> None:
    at = data.find(b"\0")
    if at >= 0:
        line, column = _place(data, at)
        hint = "save it as UTF-8; UTF-16 is not read" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "remove them"
        raise SourceError(Problem("nul_bytes", "the file holds NUL bytes", path, line, column, hint=hint))


def _not_utf8(exc: UnicodeDecodeError, data: bytes, path: str) -> SourceError:
    at = exc.start + (3 if data.startswith(b"\xef\xbb\xbf") and exc.object is not data else 0)
    line, column = _place(data, at)
    shown = data.splitlines()[line - 1].decode(errors="backslashreplace")[:200] if data.splitlines() else None
    message = f"the file is not UTF-8: byte 0x{data[at]:02x}"
    return SourceError(Problem("encoding", message, path, line, column, shown, hint="save it as UTF-8"))


def _check_cookie(data: bytes, path: str) -> None:
    """Refuse a declaration of another encoding: the text would mean one thing here and another to Python."""
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    for line in (1, 2):
        head, _, data = data.partition(b"\n")
        head = head.rstrip(b"\r")
        if match := _COOKIE.match(head):
            name = match[1].decode()
            if not _is_utf8(name):
                message = f"the file declares the encoding {name}; only utf-8 is read"
                hint = "save it as UTF-8 and remove the declaration"
                raise SourceError(Problem("encoding", message, path, line, hint=hint))
            return
        if not _BLANK.match(head):
            return


def _is_utf8(name: str) -> bool:
    if name.lower().replace("_", "-").startswith("utf-8-"):
        return True  # an editor's form, such as utf-8-unix
    try:
        return codecs.lookup(name).name in _UTF8
    except (LookupError, ValueError):
        return False


def _place(data: bytes, at: int) -> tuple[int, int]:
    """Line and column of a byte, from 1."""
    before = data[:at].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
