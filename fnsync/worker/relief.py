"""Reads for the worker's loop while a function holds it up, waiting there for a thread of its own that asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fnsync.worker.channel import Channel

#: How long the loop may leave alone what it could read, in seconds.
PATIENCE_S = 0.02
#: How often it is looked whether anything is still asked, in seconds.
LOOK_S = 0.5


class Relief:
    """A thread that is there once a thread has asked, and works only while answers are waited for."""

    def __init__(self, channel: Channel, is_waiting: Callable[[], bool]) -> None:
        self._channel = channel
        self._is_waiting = is_waiting
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._started = False

    def want(self) -> None:
        """A thread beside the loop has asked."""
        with self._lock:
            is_first, self._started = not self._started, True
        if is_first:
            threading.Thread(target=self._run, name="relief", daemon=True).start()
        self._wanted.set()

    def _run(self) -> None:
        while self._wanted.wait():
            self._wanted.clear()
            time.sleep(PATIENCE_S)  # most answers come sooner
            while self._is_waiting():
                self._channel.stand_in(PATIENCE_S, LOOK_S)
