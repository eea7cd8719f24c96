"""Things that are due after a fixed delay, mostly discarded before: one timer for all of them.

A timer of the event loop's own for each call costs a few microseconds, which is much where a call takes sixty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Calls `due` with each item that was not discarded within `delay_s`. For use on one loop."""

    def __init__(self, delay_s: float, due: Callable[[T], None]) -> None:
        self.delay_s = delay_s
        self._due = due
        self._loop = asyncio.get_running_loop()
        #: Item -> when it is due; the delay is the same for all, so the order is that of the deadlines.
        self._items: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: T) -> None:
        """Have `item` be due after the delay."""
        self._items[item] = self._loop.time() + self.delay_s
        if self._timer is None:
            self._timer = self._loop.call_later(self.delay_s, self._tick)

    def discard(self, item: T) -> None:
        """Forget `item`, if it is there."""
        self._items.pop(item, None)

    def _tick(self) -> None:
        now = self._loop.time()
        overdue = []
        for item, at in self._items.items():
            if at > now:
                break
            overdue.append(item)
        for item in overdue:
            del self._items[item]
        self._timer = None
        if self._items:
            self._timer = self._loop.call_at(next(iter(self._items.values())), self._tick)
        for item in overdue:
            self._due(item)
