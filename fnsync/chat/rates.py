"""Rate limits: so many calls in so much time, in any pattern."""

from __future__ import annotations

import time
from collections.abc import Callable, Container

from fnsync.errors import RateLimited
from fnsync.model import Rate
from fnsync.units import format_duration

#: Keys kept before those whose time is over are dropped; more only as long as so many have called of late.
MANY_KEYS = 10_000


class Rates:
    """Counts calls by key. One number per key: the moment at which all its calls so far would be spread evenly."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spread_until: dict[str, float] = {}
        self._many = MANY_KEYS

    def __len__(self) -> int:
        return len(self._spread_until)

    def take(self, key: str, rate: Rate, *, who: str | None = None) -> None:
        """Count one call of `who` (for the message; the key if not given).

        Raises RateLimited, with the time after which the call would have passed.
        """
        now = self._clock()
        step_s = rate.period_s / rate.count
        until = max(now, self._spread_until.get(key, now))
        wait_s = until + step_s - now - rate.period_s
        if wait_s > 1e-9:
            raise RateLimited(
                f"{who or key} has {rate.count} calls in {format_duration(rate.period_s)}, and has had them",
                retry_after_s=wait_s,
            )
        self._spread_until[key] = until + step_s
        if len(self._spread_until) > self._many:
            self._spread_until = {key: until for key, until in self._spread_until.items() if until > now}
            # Twice what is left, so that the looks at all of them stay few.
            self._many = max(MANY_KEYS, 2 * len(self._spread_until))

    def keep(self, keys: Container[str]) -> None:
        """Forget all others."""
        self._spread_until = {key: until for key, until in self._spread_until.items() if key in keys}
