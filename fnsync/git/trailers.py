"""The lines at the end of a commit message that are ours: who edited over the API, and what an import knows better.

    Fnsync-User: <user id>
    Fnsync-Kept: <id of the user whose edit would have overwritten what was in no commit>
    Fnsync-Origin: created=<s> updated=<s> user=<user id> path=<path from the repository's root>

Times are seconds since the epoch; user and path of an origin are percent-encoded, so that a line has no other spaces
than those between its words. An origin says of one function file what another server knew of it; it goes before what
the commit itself would tell.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

USER = "Fnsync-User"
KEPT = "Fnsync-Kept"
ORIGIN = "Fnsync-Origin"

_OURS = re.compile(r"fnsync-[a-z0-9-]+[ \t]*:", re.IGNORECASE)
_TIME = re.compile(r"-?[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Origin:
    """What an import says of a function; None: nothing. Times in seconds since the epoch."""

    created_at: int | None = None
    updated_at: int | None = None
    #: Whose function it is.
    user_id: str | None = None

    def below(self, newer: Origin) -> Origin:
        """What `newer` says, and for the rest this."""
        return Origin(
            self.created_at if newer.created_at is None else newer.created_at,
            self.updated_at if newer.updated_at is None else newer.updated_at,
            newer.user_id or self.user_id,
        )


def user_line(user_id: str) -> str:
    """The trailer that names the user whose edit a commit is."""
    return f"{USER}: {' '.join(user_id.split())}"


def kept_line(user_id: str) -> str:
    """The trailer of a commit that keeps what somebody left uncommitted, before a user's edit."""
    return f"{KEPT}: {' '.join(user_id.split())}"


def origin_line(path: str, origin: Origin) -> str:
    """The trailer for the source at `path`, from the repository's root."""
    words = {
        "created": None if origin.created_at is None else str(origin.created_at),
        "updated": None if origin.updated_at is None else str(origin.updated_at),
        "user": quote(origin.user_id.encode(errors="replace"), safe="@") if origin.user_id else None,
        "path": quote(os.fsencode(path), safe="/"),
    }
    return f"{ORIGIN}: " + " ".join(f"{key}={value}" for key, value in words.items() if value is not None)


def read_origin(value: str) -> tuple[str, Origin] | None:
    """Path and origin of such a trailer's value; None if it names no path. What cannot be read counts as not said."""
    words = dict(word.split("=", 1) for word in value.split() if "=" in word)
    path = os.fsdecode(unquote_to_bytes(words.get("path", "")))
    user = unquote_to_bytes(words.get("user", "")).decode(errors="replace")
    origin = Origin(_time(words.get("created", "")), _time(words.get("updated", "")), user or None)
    return (path, origin) if path else None


def without_ours(message: str) -> str:
    """A commit message without our trailers and the blank lines at its end; other trailers stay."""
    lines = message.rstrip().split("\n")
    last = next((at for at in range(len(lines) - 1, 0, -1) if not lines[at].strip()), None)
    if last is None:  # a message's first paragraph holds no trailers
        return "\n".join(lines)
    kept: list[str] = []
    is_ours = False
    for line in lines[last:]:
        is_ours = _OURS.match(line) is not None or (is_ours and line[:1] in (" ", "\t"))
        if not is_ours:
            kept.append(line)
    return "\n".join(lines[:last] + kept).rstrip()


def _time(text: str) -> int | None:
    return int(text) if _TIME.fullmatch(text) else None
