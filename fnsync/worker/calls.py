"""One call in a worker: how its result, or its stream, becomes frames."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from fnsync.runtime import wire
from fnsync.worker import results
from fnsync.worker.channel import Channel
from fnsync.worker.faults import Fault

#: How often an event looks whether the server has read those before it, in seconds.
CROWDED_S = 0.01


class Cancelled(Exception):
    """The server ended this call."""


class ActiveCall:
    """The state that the loop and a handler's thread share for one call."""

    def __init__(self, frame: wire.Call, loop: asyncio.AbstractEventLoop, channel: Channel) -> None:
        self.id = frame.id
        self.handler = frame.handler
        self.stream = frame.stream
        self.turn = frame.turn
        #: The metadata that its body came with, where it is a filter's.
        self.metadata: Any = None
        #: What becomes of an item of its stream.
        self.to_item: Callable[[Any], str | bytes | None] = results.to_item
        self.task: asyncio.Task[None] | None = None
        self.cancelled = False
        #: Whether the server was told that a stream begins.
        self.begun = False
        self._events_in_stream = frame.stream and frame.events
        self._listened = frame.listened
        #: Whether events that a pipe yields go beside its answer.
        self._diverts = frame.listened and not self._events_in_stream
        #: What was emitted ahead of the stream, in bytes.
        self._ahead = 0
        #: Whether the stream is a response's own bytes.
        self._is_raw = False
        self._loop = loop
        self._channel = channel
        self._items: list[str | bytes] = []
        self._flush_scheduled = False
        self._lock = threading.Lock()
        self._credit = wire.STREAM_WINDOW_BYTES
        # What waits for credit is made only where a stream has to: most calls are none.
        self._more_credit: threading.Condition | None = None
        self._credit_event: asyncio.Event | None = None

    # ---- from the server, on the loop ----

    def cancel(self) -> None:
        """End the call as soon as it lets go."""
        self.cancelled = True
        self.add_credit(0)
        if self.task is not None:
            self.task.cancel()

    def add_credit(self, size: int) -> None:
        with self._lock:
            self._credit += size
            if self._more_credit is not None:
                self._more_credit.notify_all()
        if self._credit_event is not None:
            self._credit_event.set()

    # ---- items ----

    async def emit(self, event: bytes) -> None:
        """Send an event, JSON: among the stream's items, where it waits for the client as they do, or beside them.

        Raises Fault.
        """
        if self._goes_into_stream(len(event)):
            await self._emit_into_stream(event)
        elif self._listened:
            self._post_event(event)
            await self._readable()

    def _post_event(self, event: bytes) -> None:
        check_size(event)
        self._channel.post_now(wire.Event(self.id, event))

    def _divert(self, value: Any) -> bool:
        """Whether it was an event, and is sent."""
        event = value.get("event") if isinstance(value, dict) else None
        if not isinstance(event, dict):
            return False
        self._post_event(results.to_json(event))
        return True

    def _goes_into_stream(self, size: int) -> bool:
        if not self._events_in_stream or self._is_raw:
            return False
        if self.begun or not self._listened:
            return True
        # Ahead of the stream, since nobody knows yet what it will be; but no more than a stream may have under way.
        self._ahead += size
        if self._ahead <= wire.STREAM_WINDOW_BYTES:
            return False
        self.begin()
        return True

    async def _readable(self) -> None:
        """Let others run, and wait while the server reads slower than events come."""
        await asyncio.sleep(0)
        while self._channel.crowded:
            if self.cancelled:
                raise Cancelled
            await asyncio.sleep(CROWDED_S)

    async def _emit_into_stream(self, event: bytes) -> None:
        if self._append(wire.EMITTED + event):
            self._loop.call_soon_threadsafe(self.flush)
        if self._credit > 0:
            return
        self.begin()  # else nobody reads, and credit never comes
        if asyncio.get_running_loop() is self._loop:
            await self._credited()
        else:
            self._wait_for_credit()

    def _append(self, item: str | bytes) -> bool:
        """Take an item. Returns whether a flush must be scheduled. Raises Fault."""
        check_size(item)
        with self._lock:
            self._items.append(item)
            self._credit -= len(item) + wire.ITEM_BYTES
            if self._flush_scheduled:
                return False
            self._flush_scheduled = True
            return True

    def flush(self) -> None:
        """Send the items that wait, in one frame; from any thread."""
        with self._lock:
            self._flush_scheduled = False
            items, self._items = self._items, []
            if items:
                # Under the lock, so that two flushes cannot overtake each other.
                self._post(items)

    def _post(self, items: list[str | bytes]) -> None:
        try:
            self._channel.post_now(wire.Chunk(self.id, items))
        except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 cannot carry
            self._channel.post_now(wire.Chunk(self.id, [results.encodable(item) for item in items]))

    def begin(self, head: wire.Head | None = None) -> None:
        """Tell the server, once, that a stream begins."""
        with self._lock:
            if not self.begun:
                self.begun = True
                self._is_raw = head is not None
                self._channel.post_now(wire.Begin(self.id, head))

    def end(self) -> None:
        self.flush()
        self._channel.post_now(wire.End(self.id))

    # ---- from a handler's thread ----

    def stream_here(self, iterator: Iterator[Any]) -> None:
        """Send a sync generator's items from this thread. Raises what it raises, Fault and Cancelled."""
        try:
            for value in iterator:
                if self.cancelled:
                    raise Cancelled
                if self._diverts and self._divert(value):
                    continue
                item = self.to_item(value)
                if item is None:
                    continue
                if not self.begun:
                    self.begin()
                if self._append(item):
                    self._loop.call_soon_threadsafe(self.flush)
                if self._credit <= 0:
                    self._wait_for_credit()
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
            self.flush()
        self.begin()
        self.end()

    def _wait_for_credit(self) -> None:
        self.flush()
        with self._lock:
            if self._more_credit is None:
                self._more_credit = threading.Condition(self._lock)
            while self._credit <= 0 and not self.cancelled:
                self._more_credit.wait()
        if self.cancelled:
            raise Cancelled

    def join_here(self, iterator: Iterator[Any]) -> None:
        """Join a sync generator's text in this thread."""
        joined = results.Joined()
        try:
            for value in iterator:
                if self.cancelled:
                    raise Cancelled
                if self._diverts:
                    self._divert(value)
                joined.add(value)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
        self._channel.post_now(joined.reply(self.id))

    # ---- on the loop ----

    async def stream_async(self, iterator: AsyncIterator[Any], head: wire.Head | None = None) -> None:
        """Send an async generator's items, or with `head` a response's own bytes."""
        try:
            async for value in iterator:
                if self._diverts and head is None and self._divert(value):
                    continue
                item = _raw(value) if head is not None else self.to_item(value)
                if item is None:
                    continue
                if not self.begun:
                    self.begin(head)
                if self._append(item):
                    self._loop.call_soon(self.flush)
                if self._credit <= 0:
                    await self._credited()
        finally:
            await _close(iterator)
            self.flush()
        self.begin(head)
        self.end()

    async def _credited(self) -> None:
        """Wait, on the loop, until the client has taken what was sent."""
        if self._credit_event is None:
            self._credit_event = asyncio.Event()
        while self._credit <= 0:
            self.flush()
            self._credit_event.clear()
            await self._credit_event.wait()

    async def join_async(self, iterator: AsyncIterator[Any]) -> None:
        """Join an async generator's text."""
        joined = results.Joined()
        try:
            async for value in iterator:
                if self._diverts:
                    self._divert(value)
                joined.add(value)
        finally:
            await _close(iterator)
        self._channel.post_now(joined.reply(self.id))

    async def respond(self, response: Any) -> Any:
        """Pass a Starlette response through as it is; returns its background task, or None."""
        if self.begun:
            raise Fault("unrenderable", f"a {type(response).__name__} cannot follow events that were sent already")
        head = results.head_of(response)
        body = getattr(response, "body_iterator", None)
        if body is not None:
            await self.stream_async(body, head)
        elif isinstance(getattr(response, "body", None), bytes | memoryview):
            self._channel.post_now(wire.Reply(self.id, "response", bytes(response.body), head))
        else:
            raise results.unrenderable(response, "the result is")
        return getattr(response, "background", None)


def check_size(item: str | bytes) -> None:
    """Raise Fault for an item or an event that is too long."""
    if len(item) > wire.ITEM_LIMIT:
        raise Fault(
            "unrenderable",
            f"an item of {len(item):,} characters is too long for a stream; {wire.ITEM_LIMIT:,} are allowed",
            hint="yield it in pieces",
        )


def _raw(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise Fault("unrenderable", f"the response's body yielded a {type(value).__name__}; it must be str or bytes")


async def _close(iterator: AsyncIterator[Any]) -> None:
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()
