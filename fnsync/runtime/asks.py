"""What a call asks of its client through `__event_call__`, while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog

from fnsync.runtime import wire

log = structlog.get_logger()

#: Questions of one call that may wait at once.
MOST_ASKS = 64
#: What a function is told that asks while no client listens (function-contract §8.2).
NOBODY_ANSWERS = msgspec.json.encode({"error": "Client session disconnected."})
_TOO_MANY = msgspec.json.encode({"error": f"{MOST_ASKS} questions of this call wait for answers already."})


class Listener(Protocol):
    """Where the events of a request's calls go."""

    def emit(self, data: bytes) -> None:
        """Send an event, JSON that a worker made. Never waits."""

    async def ask(self, data: bytes) -> bytes:
        """Send an event and return the client's answer, JSON; the same, with `error`, when there is none."""


class Asks:
    """The questions of one call."""

    def __init__(self, listener: Listener | None, answer: Callable[[wire.Answer], None]) -> None:
        self._listener = listener
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()

    def on_ask(self, frame: wire.Ask) -> None:
        """The worker asks."""
        if self._listener is None:
            self._answer(wire.Answer(frame.id, frame.ask, NOBODY_ANSWERS))
        elif len(self._tasks) >= MOST_ASKS:
            self._answer(wire.Answer(frame.id, frame.ask, _TOO_MANY))
        else:
            task = asyncio.create_task(self._ask(self._listener, frame))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def end(self) -> None:
        """Nobody needs the answers any more."""
        for task in self._tasks:
            task.cancel()

    async def _ask(self, listener: Listener, frame: wire.Ask) -> None:
        try:
            data = await listener.ask(frame.data)
        except Exception:  # a mistake of ours must not leave the function waiting
            log.exception("ask_failed", call=frame.id)
            data = NOBODY_ANSWERS
        self._answer(wire.Answer(frame.id, frame.ask, data))
