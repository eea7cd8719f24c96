"""When revisions that failed to load are tried again: what the load needed may be back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fnsync.model import FunctionId

#: The first wait and the longest, in seconds; it doubles with each try.
FIRST_S, LONGEST_S = 10.0, 600.0


class Retries:
    """Calls `start` with an id when its time has come; at most one wait for each."""

    def __init__(self, start: Callable[[FunctionId], object]) -> None:
        self._start = start
        #: Tries so far, and the timer of the next.
        self._waits: dict[FunctionId, tuple[int, asyncio.TimerHandle]] = {}

    def plan(self, id: FunctionId) -> None:
        """Have a function tried again, unless that is planned already."""
        loop = asyncio.get_running_loop()
        tries, timer = self._waits.get(id, (0, None))
        if timer is not None and timer.when() > loop.time():
            return
        wait_s = min(FIRST_S * 2**tries, LONGEST_S)
        self._waits[id] = (tries + 1, loop.call_later(wait_s, self._start, id))

    def tries(self, id: FunctionId) -> int:
        """How many tries were planned since the files changed."""
        return self._waits[id][0] if id in self._waits else 0

    def due(self, id: FunctionId) -> bool:
        """Whether the planned time has come."""
        return id in self._waits and self._waits[id][1].when() <= asyncio.get_running_loop().time()

    def forget(self, id: FunctionId) -> None:
        """The function loads, is gone, or its files are others now."""
        wait = self._waits.pop(id, None)
        if wait is not None:
            wait[1].cancel()

    def close(self) -> None:
        """Plan nothing any more."""
        for id in list(self._waits):
            self.forget(id)
