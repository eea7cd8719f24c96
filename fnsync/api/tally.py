"""What the server counts while it serves: plain numbers, so that counting costs next to nothing.

`metrics` turns them into Prometheus' text when somebody asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container

from fnsync.durations import Durations


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
