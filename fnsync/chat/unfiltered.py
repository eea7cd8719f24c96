"""Answers that went out although a filter failed on them: kept for the status."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from fnsync.model import FunctionId


@dataclass(frozen=True, slots=True)
class Failing:
    """What a filter's last failure was."""

    #: How often it failed since the server started, or since the filter last changed.
    count: int
    #: Seconds since the epoch.
    at: float
    message: str
    #: The revision that failed.
    revision: str


class Unfiltered:
    """Filter -> its failures in `outlet`. One per server."""

    def __init__(self) -> None:
        self._failing: dict[FunctionId, Failing] = {}

    def note(self, id: FunctionId, revision: str, message: str) -> None:
        """An answer went out as it was."""
        last = self._failing.get(id)
        count = last.count if last is not None and last.revision == revision else 0
        self._failing[id] = Failing(count + 1, time.time(), message, revision)

    def of(self, id: FunctionId, revision: str | None) -> dict[str, Any] | None:
        """The failures of the revision that is live, as the status tells them."""
        failing = self._failing.get(id)
        return asdict(failing) if failing is not None and failing.revision == revision else None

    def keep(self, ids: Collection[FunctionId]) -> None:
        """Forget all others."""
        self._failing = {id: failing for id, failing in self._failing.items() if id in ids}
