"""Commit messages of edits: what the caller says or a plain default, and trailers that only fnsync writes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fnsync.git.trailers import user_line
from fnsync.model import User

#: Longest message taken from a caller, in characters.
MOST_CHARACTERS = 10_000

#: The plain messages of a source that was sent.
CREATE, UPDATE = "Create {id}", "Update {id}"
SYNC = "Sync functions: {added} added, {kept} kept or updated, {removed} removed"

_SYNC = re.compile(re.sub(r"\\{\w+\\}", r"[0-9]+", re.escape(SYNC)))
_OURS = re.compile(r"^[ \t]*(fnsync|origin)-[\w-]*[ \t]*:.*(?:\n|$)", re.IGNORECASE | re.MULTILINE)
_TRAILER = re.compile(r"[A-Za-z0-9-]+:[ \t].*")


def compose(said: str | None, default: str, author: User, trailers: Iterable[str] = ()) -> str:
    """The message of a commit: what was said, else the default, then the trailers.

    What was said cannot hold trailers of ours: they tell who made an edit, and where files came from.
    """
    text = _clean(said or "") or default
    lines = [user_line(author.id), *trailers]
    gap = "\n" if _ends_with_trailers(text) else "\n\n"
    return text + gap + "\n".join(lines) + "\n"


def said(message: str, id: str) -> str | None:
    """What somebody said of an edit; None for a plain message, which only repeats that there was one."""
    plain = message in (CREATE.format(id=id), UPDATE.format(id=id)) or _SYNC.fullmatch(message)
    return None if plain else message


def _clean(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")[:MOST_CHARACTERS]
    return _OURS.sub("", text.encode(errors="replace").decode()).strip()


def _ends_with_trailers(text: str) -> bool:
    *before, last = text.split("\n\n")
    return bool(before) and all(_TRAILER.fullmatch(line) for line in last.splitlines())
