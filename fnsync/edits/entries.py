"""The functions of a list that somebody sends, and what becomes of each, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fnsync.edits.drafts import Content
from fnsync.model import FunctionId

#: Most functions that one list may have.
MOST = 10_000

Became = Literal["created", "updated", "unchanged", "skipped", "refused"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A function of an export."""

    id: str
    content: Content
    active: bool = False
    is_global: bool = False
    #: Values in clear; None: none were given.
    valves: Mapping[str, Any] | None = None
    #: Times in seconds since the epoch.
    created_at: int | None = None
    updated_at: int | None = None
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one function of an import."""

    #: As the export calls it.
    source: str
    outcome: Became
    #: What it is called here; None: it is not here.
    id: FunctionId | None = None
    #: Why it is called otherwise, was skipped or refused; or what is wrong with it although it is here.
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far work on many functions has come."""

    step: Literal["fetching", "checking", "writing", "loading"]
    done: int
    total: int
