"""What the server counts while it serves: plain numbers, so that counting costs next to nothing.

`metrics` turns them into Prometheus' text when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field

#: Upper bounds in seconds.
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(slots=True)
class Durations:
    """A histogram: how many fell below each bound and above the one before; one more for the rest."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one call that took `seconds`."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total_s += seconds


class Tally:
    """Requests by surface and status, and how long calls took by function."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.calls: dict[str, Durations] = {}
        #: Calls under way.
        self.running = 0

    def keep(self, functions: Container[str]) -> None:
        """Forget the calls of all others."""
        self.calls = {id: durations for id, durations in self.calls.items() if id in functions}

    def request(self, surface: str, status: int) -> None:
        """Count one answer."""
        self.requests[surface, status] += 1

    def call(self, function: str, seconds: float) -> None:
        """Count one call that is over."""
        durations = self.calls.get(function)
        if durations is None:
            durations = self.calls[function] = Durations()
        durations.add(seconds)
