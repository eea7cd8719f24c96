"""A bounded pool of daemon threads for sync handlers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class ThreadPool:
    """Threads start when there is more work than threads; they never keep the process from ending."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        #: Work that was given and is not done.
        self._open = 0
        self._started = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work` in a thread; it must not raise. Called from the loop's thread only."""
        with self._lock:
            self._open += 1
            lacking = self._started < self.most and self._open > self._started
        self._work.put(work)
        if lacking:
            threading.Thread(target=self._run, name=f"handler-{self._started + 1}", daemon=True).start()
            self._started += 1

    def _run(self) -> None:
        while True:
            self._work.get()()
            with self._lock:
                self._open -= 1
