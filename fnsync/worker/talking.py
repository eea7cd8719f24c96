"""`__event_emitter__` and `__event_call__`: what functions tell and ask the client, and its answers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
from collections.abc import Mapping
from typing import Any

import msgspec

from fnsync.runtime import wire
from fnsync.worker import results
from fnsync.worker.arguments import Ask, Emit
from fnsync.worker.calls import ActiveCall, Cancelled, check_size
from fnsync.worker.channel import Channel


class Talk:
    """What calls have to say, and the questions that wait for an answer. Answers come on the loop, all else from any
    thread."""

    def __init__(self, calls: Mapping[int, ActiveCall], channel: Channel) -> None:
        """`calls`: those under way, by id; live."""
        self._calls = calls
        self._channel = channel
        self._numbers = itertools.count(1)
        self._waiting: dict[tuple[int, int], concurrent.futures.Future[bytes]] = {}

    def emitter(self, call: int) -> Emit:
        """`__event_emitter__` of a call."""

        async def emit(event: Any) -> None:
            """Send an event to the client; returns nothing."""
            data = _encoded(event)
            active = self._calls.get(call)
            if active is not None:  # else the call is over, and nobody listens
                await active.emit(data)

        return emit

    def event_call(self, call: int) -> Ask:
        """`__event_call__` of a call."""

        async def ask(event: Any) -> Any:
            """Ask the client and return its answer."""
            data = _encoded(event)
            if call not in self._calls:
                raise Cancelled("the call is over")
            return msgspec.json.decode(await self._answer(call, data))

        return ask

    async def _answer(self, call: int, event: bytes) -> bytes:
        """The answer, JSON. Raises Fault for a question that is too long, and Cancelled when the call ends."""
        check_size(event)
        # Never used again: the answer to a question that was given up must not become that of another.
        key = (call, next(self._numbers))
        future = self._waiting[key] = concurrent.futures.Future()
        try:
            self._channel.post_now(wire.Ask(*key, event))
            return await asyncio.wrap_future(future)
        finally:
            self._waiting.pop(key, None)

    def on_answer(self, frame: wire.Answer) -> None:
        """The server has an answer."""
        future = self._waiting.pop((frame.id, frame.ask), None)
        if future is not None and future.set_running_or_notify_cancel():
            future.set_result(frame.data)

    def end(self, call: int) -> None:
        """Nobody answers any more: the call is over, or is to be."""
        if not self._waiting:
            return
        for key in [key for key in self._waiting.copy() if key[0] == call]:
            future = self._waiting.pop(key, None)
            if future is not None and future.set_running_or_notify_cancel():
                future.set_exception(Cancelled())


def _encoded(event: Any) -> bytes:
    if not isinstance(event, dict):
        raise TypeError(f"an event is a dict with `type` and `data`, not {type(event).__name__}")
    return results.to_json(event)
