"""What the function of one call asks of the server: answered in tasks, within bounds, until the call ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import structlog

from fnsync.errors import FnsyncError
from fnsync.runtime import wire

#: Questions of one call that may be under way, and how many bytes they may come to.
MOST_ASKED, MOST_ASKED_BYTES = 32, 64 * 1024 * 1024
#: The largest piece of a stream in one frame, in bytes.
PIECE_BYTES = 64 * 1024

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """An answer that is whole. `body`: JSON, or with `head` a response's own; `data`: a file's content."""

    body: bytes = b"null"
    data: bytes = b""
    head: wire.Head | None = None


@dataclass(frozen=True, slots=True)
class Flowing:
    """An answer that is still being made; `text`: whether the function gets its parts as text."""

    head: wire.Head
    parts: AsyncIterator[bytes]
    text: bool


class Host(Protocol):
    """Answers what a function asks of the server, for the user of one call alone."""

    def ask(self, name: str, body: bytes, data: bytes) -> AbstractAsyncContextManager[Told | Flowing]:
        """The answer, for the time of the block. A worker is not trusted: neither is anything of this. Raises
        FnsyncError."""


class Hosting:
    """The questions of one call."""

    def __init__(self, call: int, host: Host | None, send: Callable[[wire.Frame], None]) -> None:
        """`send`: hands a frame to the worker."""
        self._call = call
        self._host = host
        self._send = send
        self._asked: dict[int, _Question] = {}
        self._bytes = 0
        self._closed = False

    def on_call(self, frame: wire.HostCall) -> None:
        """Answer a question; what is over a bound is refused."""
        size = len(frame.body) + len(frame.data)
        if self._closed:
            self._send(over(frame))
        elif self._host is None:
            self._refuse(frame.number, "not_here", 400, f"this call cannot ask the server for anything ({frame.name})")
        elif frame.number in self._asked:
            self._refuse(frame.number, "invalid", 400, f"the number {frame.number} is taken")
        elif len(self._asked) >= MOST_ASKED:
            self._refuse(frame.number, "saturated", 503, f"a call may ask for {MOST_ASKED} things at once")
        elif self._bytes + size > MOST_ASKED_BYTES:
            self._refuse(frame.number, "body_too_large", 413, f"a call may send {MOST_ASKED_BYTES:,} bytes at once")
        else:
            self._bytes += size
            question = _Question(self._send, frame, lambda: self._forget(question, frame.number, size))
            self._asked[frame.number] = question
            question.task = asyncio.create_task(question.answer(self._host))
            question.task.add_done_callback(lambda _: question.over())

    def on_credit(self, frame: wire.HostCredit) -> None:
        """The function has read on."""
        if question := self._asked.get(frame.number):
            question.add_credit(frame.size)

    def on_cancel(self, frame: wire.HostCancel) -> None:
        """The function does not want the answer any more."""
        if question := self._asked.get(frame.number):
            question.cancel()

    def close(self) -> None:
        """The call is over: end what is under way, and tell whoever waits for it."""
        self._closed = True
        for number, question in list(self._asked.items()):
            question.cancel()
            self._refuse(number, "cancelled", 499, "the call was ended")

    def _refuse(self, number: int, code: str, status: int, message: str) -> None:
        self._send(wire.HostFailure(self._call, number, code, status, message))

    def _forget(self, question: _Question, number: int, size: int) -> None:
        if self._asked.get(number) is question:
            del self._asked[number]
            self._bytes -= size


class _Question:
    def __init__(self, send: Callable[[wire.Frame], None], frame: wire.HostCall, over: Callable[[], None]) -> None:
        #: Has it forgotten: before the function learns of its end, and may ask the next.
        self.over = over
        self.task: asyncio.Task[None] | None = None
        self._send = send
        self._frame: wire.HostCall | None = frame
        self._key = (frame.id, frame.number)
        self._credit = wire.HOST_WINDOW_BYTES
        self._more = asyncio.Event()

    def add_credit(self, size: int) -> None:
        # Never above the window, whatever the worker says that it has read.
        self._credit = min(self._credit + max(size, 0), wire.HOST_WINDOW_BYTES)
        self._more.set()

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def answer(self, host: Host) -> None:
        assert self._frame is not None
        frame, self._frame = self._frame, None  # not kept while a stream goes on
        try:
            async with host.ask(frame.name, frame.body, frame.data) as told:
                del frame
                if isinstance(told, Flowing):
                    await self._pass_on(told)
            if isinstance(told, Told):
                self._end(wire.HostReply(*self._key, told.body, told.data, told.head))
            else:
                self._end(wire.HostEnd(*self._key))
        except FnsyncError as exc:
            self._end(wire.HostFailure(*self._key, exc.code, exc.status, exc.message, exc.hint))
        except wire.WireError as exc:
            self._end(wire.HostFailure(*self._key, "body_too_large", 413, f"the answer is too large: {exc}"))
        except Exception:
            log.exception("host_call_failed", call=self._key[0])
            self._end(wire.HostFailure(*self._key, "internal", 500, "the server failed; its log says why"))

    def _end(self, frame: wire.Frame) -> None:
        self.over()
        self._send(frame)

    async def _pass_on(self, told: Flowing) -> None:
        self._send(wire.HostBegin(*self._key, told.head, told.text))
        async for part in told.parts:
            for start in range(0, len(part), PIECE_BYTES):
                piece = part[start : start + PIECE_BYTES]
                while self._credit <= 0:
                    self._more.clear()
                    await self._more.wait()
                self._credit -= len(piece)
                self._send(wire.HostChunk(*self._key, piece))


def over(frame: wire.HostCall) -> wire.HostFailure:
    """The answer to a question of a call that has ended."""
    return wire.HostFailure(frame.id, frame.number, "over", 409, "the call is over")
