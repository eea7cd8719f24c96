"""A completion with filters around it: their stages before the model, on its answer as it is made, and behind it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol

import msgspec
import structlog

from fnsync.chat import assembly, sse
from fnsync.chat.answers import EVENT_STREAM, JSON, Plain, Streamed, is_media
from fnsync.chat.filters import Chain
from fnsync.chat.outlets import Outlets
from fnsync.chat.render import Renderer, is_completion, stream_error
from fnsync.chat.stages import Stages
from fnsync.chat.turns import Calls, Plan, Turn
from fnsync.errors import FnsyncError, FunctionError, UpstreamFailed
from fnsync.model import FunctionId

log = structlog.get_logger(__name__)

#: The largest answer that is collected for outlets, in bytes.
WHOLE_BYTES = 64 * 1024**2

#: Turns an error into the `error` object of a stream's last event.
Describe = Callable[[FnsyncError], dict[str, Any]]


class Source(Protocol):
    """What answers: a function, or a base model. Its answer is there for the time of an `async with` block."""

    @property
    def function(self) -> FunctionId | None:
        """The function that answers."""

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Who answers."""

    async def __aenter__(self) -> Plain | Streamed: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Filtered:
    """One completion and its filters, for the time of an `async with` block."""

    def __init__(
        self,
        calls: Calls,
        chain: Chain,
        stages: Stages,
        outlets: Outlets,
        turn: Turn,
        plan: Plan | None,
        source: Callable[[], Awaitable[Source]],
        describe: Describe,
    ) -> None:
        """`plan`: of the function that the request names. `source`: what answers the turn's request as the filters
        left it."""
        self._calls = calls
        self._chain = chain
        self._stages = stages
        self._outlets = outlets
        self._turn = turn
        #: As the client sent it.
        self._asked = turn.request
        self._plan = plan
        self._make_source = source
        self._source: Source | None = None
        self._describe = describe
        self._stack = AsyncExitStack()
        self._parts: AsyncGenerator[bytes, None] | None = None

    @property
    def function(self) -> FunctionId | None:
        """The function that answers."""
        if self._source is not None:
            return self._source.function
        return self._plan.function.id if self._plan is not None else None

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Who answers; the filter, while it is at work."""
        if self._stages.at is not None:
            return self._calls.plan(self._stages.at).identity
        if self._source is not None:
            return self._source.headers
        return self._plan.identity if self._plan is not None else ()

    async def __aenter__(self) -> Plain | Streamed:
        async with AsyncExitStack() as stack:
            pinned = [*self._chain.filters, *([self._plan.function] if self._plan is not None else ())]
            stack.enter_context(self._calls.executor.pinned(pinned))
            await self._stages.before()
            self._source = await self._make_source()
            answer = await self._as_asked(await stack.enter_async_context(self._source))
            if isinstance(answer, Streamed) and self._chain.stage("outlet") and is_media(answer.media_type, JSON):
                answer = await _collected(answer)
            if isinstance(answer, Plain):
                answer = await self._whole(answer)
            elif answer.is_events and answer.status < 400:
                self._parts = self._events(answer.parts)
                answer = replace(answer, parts=self._parts)
            elif answer.status < 400:
                self._need_none(f"an answer of the type {answer.media_type}", "stream", "outlet")
            self._stack = stack.pop_all()
        return answer

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._parts is not None:
            await self._parts.aclose()
        await self._stack.__aexit__(kind, exc, trace)

    # ---- what the client asked for ----

    async def _as_asked(self, answer: Plain | Streamed) -> Plain | Streamed:
        """The answer in the form that the client asked for, also where a filter changed `stream`."""
        if self._asked.stream == self._turn.request.stream or answer.status >= 400:
            return answer
        render = Renderer(self._turn.shown(self._turn.request.model))
        if isinstance(answer, Plain) and self._asked.stream and is_media(answer.media_type, JSON):
            return Streamed(_once(render.value(answer.body)), answer.status, EVENT_STREAM, answer.headers)
        if isinstance(answer, Streamed) and answer.is_events:
            collected = assembly.Assembly()
            async for events in _events_of(answer.parts):
                for event in events if isinstance(events, list) else ():
                    if event.data is not None:
                        self._collect(event.data, collected)
            if collected.error is not None:
                raise self._failure(collected.error)
            return Plain(render.completion(collected.text), answer.status, JSON, answer.headers)
        return answer

    def _failure(self, said: str) -> FnsyncError:
        """The error that a stream ended with, for a client that has not been answered yet."""
        return FunctionError(self.function, said) if self.function is not None else UpstreamFailed(said)

    # ---- a whole answer ----

    async def _whole(self, answer: Plain) -> Plain:
        """The answer as the outlets leave it."""
        if not self._chain.stage("outlet") or answer.status >= 400:
            return answer
        value: Any = _decoded(answer.body) if b'"choices"' in answer.body or self._chain.requires("outlet") else None
        if not is_completion(value):
            if not (isinstance(value, dict) and value.get("error")):
                self._need_none("an answer that is no completion", "outlet")
            return answer
        said = assembly.answered(value)
        content = await self._content_after(said)
        if content is None or content == said["content"]:
            return answer
        message = value["choices"][0]["message"]
        value["choices"][0]["message"] = {**(message if isinstance(message, dict) else {}), "content": content}
        return replace(answer, body=msgspec.json.encode(value))

    def _need_none(self, what: str, *stages: str) -> None:
        """Raise Unrenderable where a filter is required that cannot look at the answer."""
        for stage in stages:
            if (function := self._chain.requires(stage)) is not None:
                raise self._stages.fault(function, f"it is required, and its `{stage}` cannot look at {what}")

    async def _content_after(self, said: dict[str, Any]) -> str | None:
        """What the outlets make the answer say."""
        return assembly.content_of(await self._outlets.run(self._stages, self._chain, self._chat(said)))

    def _chat(self, said: dict[str, Any]) -> dict[str, Any]:
        return assembly.chat_of(self._asked.model, self._turn.request, said)

    # ---- a stream ----

    async def _events(self, parts: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """A stream's events as the filters leave them; what waits together goes through them together.

        The last `[DONE]` waits for the outlets.
        """
        collected = assembly.Assembly() if self._chain.stage("outlet") else None
        held = b""
        try:
            async with aclosing(_events_of(parts)) as found:
                async for events in found:
                    if isinstance(events, sse.Aside):
                        out, held = held + events, b""
                    else:
                        events, error = await self._through(events, collected)
                        out, held = _all_but_done(held, events)
                        if error is not None:
                            yield out + self._broken(error)
                            return
                    if out:
                        yield out
            if collected is not None and collected.error is None:
                asked, collected = collected, None
                yield await self._after_stream(asked) + held
            else:
                yield held
        except FnsyncError as exc:
            yield self._broken(exc)
        finally:
            if collected is not None and collected.is_complete:
                # The client left with the last chunk; the outlets see the answer all the same.
                self._outlets.start(self._stages, self._chain, self._chat(collected.message()))

    async def _through(
        self, events: list[sse.Event], collected: assembly.Assembly | None
    ) -> tuple[list[sse.Event], FnsyncError | None]:
        """The events behind the stream filters; and the error of one that failed."""
        error = None
        places = [place for place, event in enumerate(events) if event.data is not None]
        if places and self._chain.stage("stream"):
            made, error = await self._stages.events([data for event in events if (data := event.data) is not None])
            changed = dict(zip(places, made, strict=True))
            events = [
                event if data in (b"", event.data) else sse.with_data(event, data)
                for place, event in enumerate(events)
                if (data := changed.get(place, b"")) is not None
            ]
        if collected is not None:
            for event in events:
                if event.data is not None:
                    self._collect(event.data, collected)
        return events, error

    def _collect(self, data: bytes, collected: assembly.Assembly) -> None:
        """Add an event to the answer. Raises for an answer that is too long: what outlets see is kept here."""
        try:
            value = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise self._failure(f"an event behind the filters cannot be read: {exc}") from exc
        collected.add(value, len(data))
        if collected.is_too_long:
            most = f"{assembly.MOST_BYTES // 1024**2} MB"
            raise self._failure(f"the answer is longer than {most}, too long for the filters around it")

    async def _after_stream(self, collected: assembly.Assembly) -> bytes:
        """What follows a stream when the outlets have seen its answer: an event for clients that take them."""
        content = await self._content_after(collected.message())
        if content is None or content == collected.text or not self._turn.events:
            return b""
        replaced = {"event": {"type": "replace", "data": {"content": content}}}
        return sse.rendered(msgspec.json.encode(replaced))

    def _broken(self, exc: FnsyncError) -> bytes:
        log.info("stream_broke", model=self._asked.model, error=exc.code)
        return stream_error(self._describe(exc))


def _decoded(body: bytes) -> Any:
    """The value of an answer, also where it is no strict JSON; None: it is no object."""
    strict = sse.object_of(body.strip())
    return None if strict is None else msgspec.json.decode(strict)


async def _events_of(parts: AsyncGenerator[bytes, None]) -> AsyncGenerator[list[sse.Event] | sse.Aside, None]:
    """The events of a stream, all that came together; what is no part of the answer as it is."""
    splitter = sse.Splitter()
    async for part in parts:
        if isinstance(part, sse.Aside):
            yield part
        elif events := splitter.feed(part):
            yield events
    if events := splitter.rest():
        yield events


def _all_but_done(held: bytes, events: list[sse.Event]) -> tuple[bytes, bytes]:
    """The bytes of `held` and of the events; and a `[DONE]` at their end, which may not be the stream's."""
    if not events:
        return b"", held
    *first, last = events
    out = held + b"".join(event.raw for event in first)
    return (out, last.raw) if last.is_done else (out + last.raw, b"")


async def _collected(answer: Streamed) -> Plain:
    """The whole of an answer that came in parts though it is one object. Raises UpstreamFailed."""
    data = bytearray()
    async for part in answer.parts:
        data += part
        if len(data) > WHOLE_BYTES:
            raise UpstreamFailed(f"an answer has more than {WHOLE_BYTES // 1024**2} MB, too much for outlets")
    return Plain(bytes(data), answer.status, answer.media_type, answer.headers)


async def _once(part: bytes) -> AsyncGenerator[bytes, None]:
    yield part
