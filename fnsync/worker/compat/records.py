"""Documents that functions keep at the server, such as chats: read and changed by the generators that `ready` runs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from fnsync.worker import host
from fnsync.worker.compat.ready import Question

#: How often a change is tried anew when another one was faster. Of those that try at once one succeeds each time, so
#: this is how many may change one document at once.
ATTEMPTS = 64
#: A document as the server tells it: id, user_id, version, created_at, updated_at, value.
Record = dict[str, Any]
Asking = Generator[Question, host.Told, Any]


def kept(kind: str, id: Any) -> Asking:
    """The caller's document of that id, or None."""
    told = yield Question("kept", {"kind": kind, "id": str(id)})
    return told.value


def all_kept(kind: str, skip: int | None = 0, limit: int | None = None) -> Asking:
    """The caller's documents of a kind, the newest first."""
    asked = {"kind": kind, "skip": skip or 0, **({} if limit is None else {"limit": limit})}
    told = yield Question("all_kept", asked)
    return told.value


def keep(kind: str, id: Any, value: dict[str, Any], based_on: int | None = None) -> Asking:
    """Keep a document as it is now; return it."""
    told = yield Question("keep", {"kind": kind, "id": str(id), "value": value, "based_on": based_on})
    return told.value


def change(kind: str, id: Any, edit: Callable[[dict[str, Any]], None], *, make: bool = False) -> Asking:
    """Edit a document in place, and again if another call was faster; return it. None: it is not there, unless
    `make`."""
    for attempt in range(ATTEMPTS):
        found = yield from kept(kind, id)
        if found is None and not make:
            return None
        value = found["value"] if found else {}
        edit(value)
        try:
            return (yield from keep(kind, id, value, found["version"] if found else 0))
        except host.Refused as exc:
            if exc.code != "conflict" or attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def drop(kind: str, id: Any) -> Asking:
    """Forget a document; returns whether it was there."""
    told = yield Question("drop", {"kind": kind, "id": str(id)})
    return told.value
