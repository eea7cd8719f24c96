"""Calls counted in windows of time, by the library `limits`. In memory; for one loop.

Up to `EXACT` calls in a window each call's own moment is kept, so that a window is any stretch of time. Where more are
allowed, two counters are: what the window before has counted is taken to have come evenly.
"""

from __future__ import annotations

import math
import time
from functools import lru_cache

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage.memory import Entry, MemoryStorage
from limits.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter

from fnsync.model import Quota, Rate

#: Most calls in a window of which each is kept.
EXACT = 1_000
#: Most calls that are kept, of all keys together, some 150 bytes each; and most counters.
MOST_CALLS = 200_000
MOST_COUNTERS = 20_000


class Windows:
    """Counts calls by key."""

    def __init__(self) -> None:
        self.storage = _Storage()
        self._exact = MovingWindowRateLimiter(self.storage)
        self._counting = SlidingWindowCounterRateLimiter(self.storage)

    def take(self, key: str, rate: Rate) -> Quota:
        """Count one call, unless it is over the rate; returns how that stands then."""
        item = _item(rate)
        strategy = self._exact if item.amount <= EXACT else self._counting
        taken = strategy.hit(item, key)
        reset_at, remaining = strategy.get_window_stats(item, key)
        return Quota(item.amount, remaining, reset_at, taken)


@lru_cache(1024)
def _item(rate: Rate) -> RateLimitItem:
    """The rate as `limits` has it: periods are whole seconds there, so others are made longer, and hold more calls."""
    period_s = math.ceil(rate.period_s)
    return RateLimitItemPerSecond(max(1, math.floor(rate.count * (period_s / rate.period_s))), period_s)


class _Storage(MemoryStorage):
    """The library's storage without the threads that clear it: what is over goes when the key is used, and what is
    too much goes from the front, where the keys are that were used least recently. Their callers begin anew."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Keep one call, unless `limit` of them lie within `expiry` seconds."""
        events = self.events.pop(key, [])
        self.events[key] = events  # behind all others
        if len(events) >= limit and events[limit - 1].atime >= time.time() - expiry:
            return False
        events.insert(0, Entry(expiry))
        self.calls += 1 - len(events[limit:])
        del events[limit:]
        while self.calls > MOST_CALLS:
            oldest = next(iter(self.events))
            self.calls -= len(self.events.pop(oldest))
        return True

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count `amount`; the counter goes `expiry` seconds after its first call."""
        self.get(key)  # forgets one that is over
        self.expirations[key] = self.expirations.pop(key, 0.0) or time.time() + expiry
        self.storage[key] += amount
        while len(self.expirations) > MOST_COUNTERS:
            self.clear(next(iter(self.expirations)))
        return self.storage[key]
