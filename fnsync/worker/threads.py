"""Threads: a bounded pool of daemon threads for sync handlers, and which call the threads of functions run for."""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any


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


def inherit_contexts() -> None:
    """From now on a thread that a function starts runs in a copy of the context that it was started in, as a task
    does, and so does what it hands to a pool of threads: both belong to the call."""
    start = threading.Thread.start
    submit: Callable[..., Future[Any]] = ThreadPoolExecutor.submit

    @functools.wraps(start)
    def start_in_context(self: threading.Thread) -> None:
        context, run = contextvars.copy_context(), self.run

        def run_in_context() -> None:
            del self.run  # it holds the thread, and the thread holds it
            context.run(run)

        self.run = run_in_context  # type: ignore[method-assign]
        start(self)

    @functools.wraps(submit)
    def submit_in_context(self: ThreadPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return submit(self, contextvars.copy_context().run, fn, *args, **kwargs)

    threading.Thread.start = start_in_context  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submit_in_context  # type: ignore[assignment, method-assign]
