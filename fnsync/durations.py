"""How long things took, counted in plain numbers, so that counting costs next to nothing."""

from __future__ import annotations

from bisect import bisect_left
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
