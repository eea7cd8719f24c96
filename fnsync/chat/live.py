"""A streamed completion whose client sees events as they come: what waits for it stands between the answer's own.

The answer begins with the first event, even if the functions in front of it still work. What then goes wrong is told
in the stream, since the status is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from types import TracebackType
from typing import Any

import msgspec

from fnsync.chat.answers import Plain, Streamed
from fnsync.chat.events import EventQueue
from fnsync.chat.render import DONE, Renderer, stream_error
from fnsync.errors import FnsyncError

#: How much of an answer that is no JSON an error has, in bytes.
TOLD_BYTES = 2000


class Live:
    """The completion with its events, for the time of an `async with` block."""

    def __init__(
        self,
        completion: AbstractAsyncContextManager[Plain | Streamed],
        events: EventQueue,
        describe: Callable[[FnsyncError], dict[str, Any]],
    ) -> None:
        self._completion = completion
        self._events = events
        self._describe = describe
        self._preparing: asyncio.Task[Plain | Streamed] | None = None
        self._parts: AsyncGenerator[bytes, None] | None = None

    async def __aenter__(self) -> Plain | Streamed:
        preparing = self._preparing = asyncio.ensure_future(self._completion.__aenter__())
        try:
            await self._first(preparing)
        except BaseException:
            await self._leave(None, None, None)
            raise
        if not preparing.done() or self._events:
            self._parts = self._from_the_start(preparing)
            return Streamed(self._parts)
        answer = await preparing
        if isinstance(answer, Streamed) and answer.is_events:
            self._parts = self._merged(answer.parts)
            return Streamed(self._parts, answer.status, answer.media_type, answer.headers)
        return answer

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.closed = True
        if self._parts is not None:
            await self._parts.aclose()
        await self._leave(kind, exc, trace)

    async def _leave(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the completion, be it under way or not."""
        preparing = self._preparing
        assert preparing is not None, "it was entered"
        preparing.cancel()
        await asyncio.wait([preparing])
        if not preparing.cancelled() and preparing.exception() is None:
            await self._completion.__aexit__(kind, exc, trace)

    async def _first(self, work: asyncio.Future[Any]) -> None:
        """Wait until the work is done or an event waits."""
        await asyncio.wait((work, self._events.news()), return_when=asyncio.FIRST_COMPLETED)

    async def _from_the_start(self, preparing: asyncio.Task[Plain | Streamed]) -> AsyncGenerator[bytes, None]:
        """Yield the events that come before there is an answer, then the answer."""
        while not preparing.done() or self._events:
            if events := self._events.take():
                yield events
            await self._first(preparing)
        try:
            answer = preparing.result()
        except FnsyncError as exc:
            yield self._events.take() + stream_error(self._describe(exc))
            return
        if isinstance(answer, Plain):
            yield self._events.take() + _rendered(answer)
        elif answer.status < 400 and answer.is_events:
            async with aclosing(self._merged(answer.parts)) as parts:
                async for part in parts:
                    yield part
        else:
            told = f"an answer of status {answer.status} and type {answer.media_type} cannot follow events"
            yield self._events.take() + _error(told)

    async def _merged(self, parts: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Yield the parts of a stream, and events where one of its own has ended."""
        between, ended = True, False
        following = asyncio.ensure_future(anext(parts, None))
        try:
            while True:
                if between and not following.done():
                    await self._first(following)
                else:
                    await asyncio.wait([following])
                if not following.done():
                    yield self._events.take()
                    continue
                part = following.result()
                if part is None:
                    break
                ended = part.endswith(DONE)
                if between and ended:
                    part = self._events.take() + part
                yield part
                between = part.endswith(b"\n\n")
                following = asyncio.ensure_future(anext(parts, None))
            if between and not ended and (events := self._events.take()):
                yield events
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def _rendered(answer: Plain) -> bytes:
    """A whole answer as the rest of a stream."""
    try:
        value = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _error(answer.body[:TOLD_BYTES].decode(errors="replace"))
    if answer.status >= 400 and not (isinstance(value, dict) and "error" in value):
        detail = value.get("detail") if isinstance(value, dict) else None
        return _error(str(detail or f"the answer has the status {answer.status}"))
    return Renderer("").value(msgspec.json.encode(value))


def _error(message: str) -> bytes:
    return stream_error({"message": message, "type": "server_error", "param": None, "code": "unrenderable_result"})
