"""What is told of syncs to the outside, and which events follow from others. Pure: no I/O, no clock.

    {"id", "event", "at", "source", "url", "ref", "commit": {"hash", "subject", "author"}, "previous",
     "functions": {"loaded", "applied", "removed", "failed": [{"id", "message", "place"}]},
     "error": {"code", "message", "hint"}}

What is not known, or does not apply, is null.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from fnsync.git.remote import redacted
from fnsync.model import REPOSITORY

COMPLETED, FAILED, PUSHED = "sync.completed", "sync.failed", "sync.pushed"
DEGRADED, RECOVERED, TEST = "sync.degraded", "sync.recovered", "sync.test"
#: After these, what serves is looked at.
LIVE = frozenset({COMPLETED, PUSHED})
#: How much of a text is told, and how many functions are of each sort.
TEXT_CHARACTERS = 1_000
MOST_FUNCTIONS = 200
#: What the code of functions that do not load is called.
FUNCTIONS_FAILED = "functions_failed"
_PUSH = "push_"


@dataclass(frozen=True, slots=True)
class Failing:
    """A function whose newest files do not load."""

    id: str
    message: str
    #: `path:line:column`, as far as known.
    place: str


@dataclass(frozen=True, slots=True)
class Notice:
    """One message; it is the same at each try."""

    event: str
    body: bytes
    id: str


def named(data: Mapping[str, Any]) -> str:
    """What an event is about: a source, or `repository`."""
    return str(data.get("source") or REPOSITORY)


def notice(
    event: str,
    at: float,
    data: Mapping[str, Any],
    failing: Sequence[Failing] = (),
    error: Mapping[str, Any] | None = None,
) -> Notice:
    """The message of an event. `at`: seconds since the epoch; `data`: what was published with it; `failing`: the
    functions of that source that do not load now; `error`: in place of the one in `data`."""
    url, commit = data.get("url"), data.get("commit")
    id = str(uuid.uuid4())
    body = {
        "id": id,
        "event": event,
        "at": round(at, 3),
        "source": None if event == TEST else named(data),
        "url": redacted(url, url) if isinstance(url, str) else None,
        "ref": _text(data.get("ref") or data.get("branch")),
        "commit": {"hash": commit, "subject": _text(data.get("subject")), "author": _text(data.get("author"))}
        if isinstance(commit, str)
        else None,
        "previous": _text(data.get("before")),
        "functions": _functions(data, failing),
        "error": error or _error(data),
    }
    return Notice(event, msgspec.json.encode(body), id)


class Conditions:
    """How the sources stand as far as it was told; says when that turns."""

    def __init__(self) -> None:
        #: Source -> code of what is wrong; those that are not here are well.
        self._wrong: dict[str, str] = {}

    def turned(
        self, event: str, data: Mapping[str, Any], failing: Sequence[Failing]
    ) -> tuple[str, Mapping[str, Any] | None] | None:
        """The event that follows from one, and what is wrong; None: nothing turned."""
        source = named(data)
        error = self._wrong_by(event, data, failing)
        was_wrong = source in self._wrong
        if error is not None:
            self._wrong[source] = str(error["code"])
            return None if was_wrong else (DEGRADED, error)
        # That something came does not mean that what is here can be pushed.
        if event not in LIVE or not was_wrong or (event != PUSHED and self._wrong[source].startswith(_PUSH)):
            return None
        del self._wrong[source]
        return RECOVERED, None

    def _wrong_by(self, event: str, data: Mapping[str, Any], failing: Sequence[Failing]) -> Mapping[str, Any] | None:
        if event == FAILED:
            return _error(data) or {"code": "unknown", "message": None, "hint": None}
        if event not in LIVE or not failing:
            return None
        names = ", ".join(one.id for one in failing[:10])
        verb = "function does" if len(failing) == 1 else "functions do"
        message = f"{len(failing)} {verb} not load: {names}{', …' if len(failing) > 10 else ''}"
        return {"code": FUNCTIONS_FAILED, "message": message, "hint": None}


def _functions(data: Mapping[str, Any], failing: Sequence[Failing]) -> dict[str, Any]:
    told = data.get("functions")
    known: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    lists = {key: _some(known.get(key)) for key in ("loaded", "applied", "removed")}
    failed = [
        {"id": one.id, "message": _text(one.message), "place": _text(one.place)} for one in failing[:MOST_FUNCTIONS]
    ]
    return {**lists, "failed": failed}


def _some(ids: Any) -> list[str] | None:
    return [str(id) for id in ids[:MOST_FUNCTIONS]] if isinstance(ids, list | tuple) else None


def _error(data: Mapping[str, Any]) -> dict[str, Any] | None:
    message, hint = data.get("error"), data.get("hint")
    if message is None and hint is None:
        return None
    return {"code": data.get("code") or data.get("reason"), "message": _text(message), "hint": _text(hint)}


def _text(value: Any) -> str | None:
    """Addresses lose what is secret in them, should whoever wrote the text have left it in."""
    if not isinstance(value, str):
        return None
    # Cut before and after: looking for addresses takes long in long texts, and one must not be cut in two.
    value = value[: 2 * TEXT_CHARACTERS]
    return (redacted(value) if "://" in value else value)[:TEXT_CHARACTERS]
