"""What functions ask of the server: from handlers in threads, on the loop, and from threads and loops of their own.

A question belongs to the call that the asking code runs for, and is answered for the user of that call alone.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import os
import threading
from collections.abc import AsyncGenerator, Callable, Container
from dataclasses import dataclass
from typing import Any

import msgspec

from fnsync.runtime import wire
from fnsync.worker import results
from fnsync.worker.channel import Channel
from fnsync.worker.output import current_call
from fnsync.worker.relief import Relief

#: Read bytes are told to the server in portions of this size.
CREDIT_BYTES = wire.HOST_WINDOW_BYTES // 4


class Refused(Exception):
    """The server refused a question, or failed to answer it; `code` and `status` as in wire.HostFailure."""

    def __init__(self, failure: wire.HostFailure) -> None:
        super().__init__(f"{failure.message}; {failure.hint}" if failure.hint else failure.message)
        self.code = failure.code
        self.status = failure.status
        self.message = failure.message


class OutsideCall(RuntimeError):
    """There is no call whose user the question could be asked for."""


@dataclass(frozen=True, slots=True)
class Told:
    """A whole answer. `body`: JSON, or with `head` a response's own; `data`: a file's content."""

    body: bytes
    data: bytes
    head: wire.Head | None

    @property
    def value(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


class Stream:
    """An answer that comes in chunks; read by one loop at a time."""

    def __init__(self, begin: wire.HostBegin, credit: Callable[[int], None], cancel: Callable[[], None]) -> None:
        self.head = begin.head
        self.text = begin.text
        self._credit = credit
        self._cancel = cancel
        self._lock = threading.Lock()
        self._chunks: list[bytes] = []
        self._read = 0
        self._ended = False
        self._failure: BaseException | None = None
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None

    # ---- from the server, on the worker's loop ----

    def add(self, chunk: bytes) -> None:
        with self._lock:
            self._chunks.append(chunk)
        self._wake()

    def end(self, failure: BaseException | None = None) -> None:
        with self._lock:
            self._ended = True
            self._failure = self._failure or failure
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            loop, future = waiter
            try:
                loop.call_soon_threadsafe(_set, future)
            except RuntimeError:  # the loop that read was closed in the middle of it
                self._cancel()

    # ---- for the function ----

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """What comes, as it comes. Raises Refused where it breaks; leaving early ends it."""
        try:
            while (chunk := await self._next()) is not None:
                yield chunk
        finally:
            if not self._ended:
                self._cancel()

    async def _next(self) -> bytes | None:
        while True:
            with self._lock:
                if self._chunks:
                    found = b"".join(self._chunks)
                    self._chunks.clear()
                    break
                if self._failure is not None:
                    raise self._failure
                if self._ended:
                    return None
                loop = asyncio.get_running_loop()
                future = loop.create_future()
                self._waiter = (loop, future)
            await future
        self._read += len(found)
        if self._read >= CREDIT_BYTES and not self._ended:
            self._credit(self._read)
            self._read = 0
        return found


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


Answer = Told | Stream


class Host:
    """The questions of this worker. One per worker."""

    def __init__(self, channel: Channel, calls: Container[int]) -> None:
        """`calls`: the ids of the calls under way."""
        self._channel = channel
        self._calls = calls
        self._numbers = itertools.count(1)
        self._asked: dict[int, tuple[int, concurrent.futures.Future[Answer]]] = {}
        self._streams: dict[int, tuple[int, Stream]] = {}
        self._endings: dict[int, list[Callable[[], None]]] = {}
        self._pid = os.getpid()
        self._relief = Relief(channel, lambda: bool(self._asked or self._streams))

    # ---- for functions, from any thread ----

    def ask(self, name: str, value: Any = None, data: bytes = b"") -> Answer:
        """Ask and wait. On the worker's loop that holds it up, but for the answer. Raises Refused, OutsideCall."""
        number, future = self._send(name, value, data)
        try:
            if self._channel.on_its_loop():
                self._channel.wait(future.done)
            return future.result()
        finally:
            self._asked.pop(number, None)

    async def ask_async(self, name: str, value: Any = None, data: bytes = b"") -> Answer:
        """Ask and wait, on any loop. Raises Refused, OutsideCall."""
        number, future = self._send(name, value, data)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._cancel(number)
            raise
        finally:
            self._asked.pop(number, None)

    def _send(self, name: str, value: Any, data: bytes) -> tuple[int, concurrent.futures.Future[Answer]]:
        call = current_call.get()
        if call not in self._calls:
            raise OutsideCall(_outside(call, name))
        if os.getpid() != self._pid:
            raise OutsideCall("a process that the function forked cannot ask the server; do it before, in the call")
        number = next(self._numbers)
        future: concurrent.futures.Future[Answer] = concurrent.futures.Future()
        self._asked[number] = (call, future)
        try:
            self._channel.post_now(wire.HostCall(call, number, name, results.to_json(value), data))
        except BaseException:
            del self._asked[number]
            raise
        if not self._channel.on_its_loop():
            self._relief.want()
        return number, future

    def _cancel(self, number: int) -> None:
        known = self._streams.pop(number, None) or self._asked.pop(number, None)
        if known is not None and known[0] in self._calls:
            self._channel.post_now(wire.HostCancel(known[0], number))

    # ---- from the server, on the loop ----

    def on_frame(self, frame: wire.HostFrame) -> None:
        """Take an answer; one that nobody waits for is dropped."""
        match frame:
            case wire.HostReply():
                self._resolve(frame.number, Told(frame.body, frame.data, frame.head))
            case wire.HostBegin():
                self._begin(frame)
            case wire.HostChunk():
                if known := self._streams.get(frame.number):
                    known[1].add(frame.data)
            case wire.HostEnd():
                if known := self._streams.pop(frame.number, None):
                    known[1].end()
            case wire.HostFailure():
                self._fail(frame.number, Refused(frame))

    def _begin(self, frame: wire.HostBegin) -> None:
        call, number = frame.id, frame.number

        def credit(size: int) -> None:
            self._channel.post_now(wire.HostCredit(call, number, size))

        stream = Stream(frame, credit, lambda: self._cancel(number))
        if self._resolve(number, stream):
            self._streams[number] = (call, stream)
        else:
            self._channel.post_now(wire.HostCancel(call, number))

    def _resolve(self, number: int, answer: Answer) -> bool:
        asked = self._asked.get(number)
        if asked is None or asked[1].done():
            return False
        try:
            asked[1].set_result(answer)
        except concurrent.futures.InvalidStateError:  # whoever waited was cancelled in this moment
            return False
        return True

    def _fail(self, number: int, failure: Refused) -> None:
        if stream := self._streams.pop(number, None):
            stream[1].end(failure)
        elif (asked := self._asked.get(number)) and not asked[1].done():
            asked[1].set_exception(failure)

    def at_end(self, call: int, work: Callable[[], None]) -> None:
        """Have something done when a call ends; it must not raise, nor take long."""
        self._endings.setdefault(call, []).append(work)

    def on_call_over(self, call: int) -> None:
        """What a call that has ended still waits for will not come."""
        for work in self._endings.pop(call, ()):
            work()
        if not self._asked and not self._streams:
            return
        numbers = [number for number, (owner, _) in list(self._asked.items()) if owner == call]
        numbers += [number for number, (owner, _) in list(self._streams.items()) if owner == call]
        for number in numbers:
            self._fail(number, Refused(wire.HostFailure(call, number, "over", 409, "the call is over")))


def _outside(call: int, name: str) -> str:
    when = "the call is over" if call else "no call is under way here"
    return (
        f"{when}, so the server cannot be asked ({name}): whatever open_webui gives belongs to the user of a call. "
        "Ask within a handler (pipe, inlet, action, …), not while the file is loaded, in `__init__` or after the answer"
    )


#: The one of this worker; set as it begins to serve.
_host: Host | None = None


def install(host: Host) -> None:
    """Make it the one that modules for functions use."""
    global _host
    _host = host


def current() -> Host:
    """The one of this worker. Raises OutsideCall where none serves."""
    if _host is None:
        raise OutsideCall(_outside(0, "open_webui"))
    return _host
