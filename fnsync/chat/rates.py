"""Rate limits: so many calls in so much time, in any pattern."""

from __future__ import annotations

import time
from collections.abc import Callable

from fnsync.errors import RateLimited
from fnsync.model import Rate

#: Keys kept before those whose time is over are dropped.
MANY_KEYS = 10_000


class Rates:
    """Counts calls by key. One number per key: the moment at which all its calls so far would be spread evenly."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spread_until: dict[str, float] = {}

    def take(self, key: str, rate: Rate) -> None:
        """Count one call. Raises RateLimited, with the time after which it would have passed."""
        now = self._clock()
        step_s = rate.period_s / rate.count
        until = max(now, self._spread_until.get(key, now))
        wait_s = until + step_s - now - rate.period_s
        if wait_s > 1e-9:
            raise RateLimited(
                f"{key} takes {rate.count} calls in {rate.period_s:g} s, and has had them", retry_after_s=wait_s
            )
        self._spread_until[key] = until + step_s
        if len(self._spread_until) > MANY_KEYS:
            self._spread_until = {key: until for key, until in self._spread_until.items() if until > now}
