"""How a source stands, as the metrics tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fnsync.durations import Durations


@dataclass(frozen=True, slots=True)
class SourceState:
    """One source, or the local repository, at a moment."""

    name: str
    #: What is followed, and the commit that is live; None: not known yet.
    ref: str | None
    commit: str | None
    #: When the remote last answered, in seconds since the epoch.
    fetched_at: float | None
    #: Syncs that failed since the start.
    failures: int
    #: How long syncs took, by what they came to.
    durations: Mapping[str, Durations]
    #: How many of its functions have which status.
    functions: Mapping[str, int]
