"""A bounded pool of daemon threads for sync handlers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class ThreadPool:
    """Threads start when there is work and none is idle; they never keep the process from ending."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work` in a thread; it must not raise. Called from the loop's thread only."""
        self._work.put(work)
        if self._started < self.most and not self._idle.acquire(blocking=False):
            self._started += 1
            threading.Thread(target=self._run, name=f"handler-{self._started}", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._work.get()()
            self._idle.release()
