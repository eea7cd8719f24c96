"""Chat completions: from a request to the answer of the pipe it names.

    completion = await completions.prepare(turn, describe=…)
    async with completion as answer:
        …            # a Plain, or a Streamed whose parts come as they are made

What goes wrong before the block is entered is raised, with the status it deserves; a stream that breaks later
ends with an error event. Leaving the block ends the call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from types import TracebackType
from typing import Any

import structlog

from fnsync.chat import requests
from fnsync.chat.answers import JSON, Headers, Plain, Streamed, is_media, is_text, passed_on
from fnsync.chat.filtering import Describe, Filtered, Source
from fnsync.chat.filters import Chain, Filters
from fnsync.chat.models import Models
from fnsync.chat.outlets import Outlets
from fnsync.chat.previewing import AT, Previewing
from fnsync.chat.rates import Rates
from fnsync.chat.render import Renderer, stream_error
from fnsync.chat.requests import ChatRequest
from fnsync.chat.stages import Stages
from fnsync.chat.turns import Calls, Plan, Turn
from fnsync.chat.unfiltered import Unfiltered
from fnsync.chat.upstreams import Found, Upstreams
from fnsync.errors import FnsyncError, NotFound, UnknownModel, Unrenderable
from fnsync.model import FunctionId, LiveFunction
from fnsync.registry import World
from fnsync.runtime import wire
from fnsync.runtime.call import RunningCall
from fnsync.runtime.executor import CallContext

log = structlog.get_logger(__name__)


class Completions:
    """Answers chat completion requests. One per server."""

    def __init__(
        self,
        calls: Calls,
        models: Models,
        upstreams: Upstreams,
        rates: Rates,
        filters: Filters,
        unfiltered: Unfiltered,
        previewing: Previewing | None = None,
    ) -> None:
        """Without `previewing` no model is found as of a ref."""
        self._calls = calls
        self._models = models
        self._upstreams = upstreams
        self._rates = rates
        self._filters = filters
        self._unfiltered = unfiltered
        self._previewing = previewing
        self._outlets = Outlets(calls.executor)

    async def prepare(self, turn: Turn, *, describe: Describe, filtered: bool = True) -> Source:
        """Return the completion, not yet under way. `filtered`: with the filters that concern it.

        Raises UnknownModel, RateLimited, Unavailable where a required filter is missing, and what made a manifold's
        listing fail; for a model as of a ref also UnknownRef, UnknownFunction, and what keeps it from loading.
        """
        answering = await self._answering(turn)
        self._count(turn, answering)
        if not filtered:
            return await self._source(turn, answering, describe)
        chain = self._chain(turn, answering)
        if not chain:
            return await self._source(turn, answering, describe)
        asked = turn.request.model

        async def source() -> Source:
            if turn.request.model == asked:
                return await self._source(turn, answering, describe)
            try:
                other = await self._resolve(turn)
            except UnknownModel as exc:
                raise UnknownModel(exc.message, hint=f"a filter sent the request there; it was for {asked}") from exc
            self._count(turn, other)
            return await self._source(turn, other, describe)

        plan = self._calls.plan(answering) if isinstance(answering, LiveFunction) else None
        stages = Stages(self._calls, chain, turn, self._unfiltered)
        return Filtered(self._calls, chain, stages, self._outlets, turn, plan, source, describe)

    async def completed(self, turn: Turn, chat: Mapping[str, Any]) -> dict[str, Any]:
        """What the outlets make of a chat whose answer is complete. Raises UnknownModel, and what a filter fails
        with."""
        chain = self._chain(turn, await self._answering(turn))
        with self._calls.executor.pinned(chain.filters):
            return await Stages(self._calls, chain, turn, self._unfiltered).after(chat, strict=True)

    def _chain(self, turn: Turn, answering: LiveFunction | Found) -> Chain:
        chosen = turn.request.value("filter_ids")
        return self._filters.chain(
            turn.world,
            turn.request.model,
            turn.caller,
            chosen if isinstance(chosen, list) else (),
            answering if isinstance(answering, LiveFunction) else None,
            pipelines=not turn.filters_itself,
        )

    async def _answering(self, turn: Turn) -> LiveFunction | Found:
        """What answers the request of a client, who may name a ref; functions and filters may not. Raises as
        `_resolve`, and what `Previewing.turn_to` raises."""
        previewing = None if turn.depth else self._previewing
        if previewing is None or AT not in turn.request.model:
            return await self._resolve(turn)
        asked = await previewing.asked_model(turn.world, turn.request.model, turn.caller)
        if asked is None:
            return await self._resolve(turn)
        try:
            await previewing.turn_to(turn, asked)
        except NotFound as exc:
            try:
                return await self._resolve(turn)
            except UnknownModel:
                raise exc from None
        try:
            return await self._resolve(turn)
        except UnknownModel as exc:
            raise UnknownModel(f"{exc.message} at {asked.ref!r}", hint=exc.hint) from exc

    async def _resolve(self, turn: Turn) -> LiveFunction | Found:
        """What answers the turn's request. Raises UnknownModel, and what made a manifold's listing fail."""
        world, model = turn.world, turn.request.model
        try:
            function, sub = self._models.resolve(world, model, turn.caller)
        except UnknownModel as exc:
            found = await self._upstreams.find(model, turn.caller)
            if found is None:
                failing = ", ".join(self._upstreams.failing(turn.caller))
                hint = f"it may be a model of what cannot be asked now: {failing}" if failing else exc.hint
                raise UnknownModel(exc.message, hint=hint) from exc
            turn.model = lambda: self._models.described_base(world, found)
            return found
        if sub is not None:
            await self._models.confirm(function, sub)
        turn.model = lambda: self._models.described(world, function, sub)
        return function

    def _count(self, turn: Turn, answering: LiveFunction | Found) -> None:
        """Count one call of what answers. Raises RateLimited."""
        if isinstance(answering, LiveFunction):
            turn.quota = self._rates.of_function(answering, turn.caller, turn.quota)

    async def _source(self, turn: Turn, answering: LiveFunction | Found, describe: Describe) -> Source:
        """The completion by what answers."""
        request = turn.request
        if isinstance(answering, Found):
            return PassedThrough(answering, request, describe)
        body = requests.for_pipe(request)
        invocation = await self._calls.invocation(turn, answering, "pipe", body, stream=request.stream)
        context = self._calls.call(answering, invocation)
        render = Renderer(turn.shown(request.model), events=turn.events)
        return Completion(self._calls.plan(answering), context, request, render, describe)

    async def close(self) -> None:
        """Let outlets that are under way end, for a while."""
        await self._outlets.close()

    def keep(self, world: World) -> None:
        """Forget what belongs to functions that are not in `world`, the newest."""
        self._calls.keep(world)
        self._models.keep(world)
        self._unfiltered.keep(world.functions)


class _Held:
    """What answers, and the parts of its answer: both end with the block."""

    __slots__ = ("_context", "_parts")

    def __init__(self, context: AbstractAsyncContextManager[Any]) -> None:
        self._context = context
        self._parts: AsyncGenerator[bytes, None] | None = None

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._parts is not None:
            await self._parts.aclose()
        await self._context.__aexit__(kind, exc, trace)


class PassedThrough(_Held):
    """One completion by a base model, for the time of an `async with` block: the upstream's own answer."""

    #: The function that answers.
    function = None

    def __init__(self, found: Found, request: ChatRequest, describe: Describe) -> None:
        self.headers: tuple[tuple[bytes, bytes], ...] = ((b"x-fnsync-upstream", found.upstream.config.name.encode()),)
        self._found = found
        super().__init__(found.completion(request))
        self._describe = describe

    async def __aenter__(self) -> Plain | Streamed:
        answer: Plain | Streamed = await self._context.__aenter__()
        if isinstance(answer, Streamed) and answer.is_events:
            self._parts = answer.parts
            return replace(answer, parts=self._events(answer.parts))
        return answer

    async def _events(self, parts: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        try:
            async for part in parts:
                yield part
        except FnsyncError as exc:
            log.info("stream_broke", upstream=self._found.upstream.config.name, error=exc.code)
            yield b"\n\n" + stream_error(self._describe(exc))


class Completion(_Held):
    """One completion by a function, for the time of an `async with` block."""

    __slots__ = ("plan", "_request", "_render", "_describe")

    def __init__(
        self, plan: Plan, context: CallContext, request: ChatRequest, render: Renderer, describe: Describe
    ) -> None:
        super().__init__(context)
        self.plan = plan
        self._request = request
        self._render = render
        self._describe = describe

    @property
    def function(self) -> FunctionId:
        """The function that answers."""
        return self.plan.function.id

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Which function, revision and commit answer."""
        return self.plan.identity

    async def __aenter__(self) -> Plain | Streamed:
        call = await self._context.__aenter__()
        try:
            answer = self._answer(call, await call.first())
        except BaseException as exc:
            await self._context.__aexit__(type(exc), exc, exc.__traceback__)
            raise
        if isinstance(answer, Streamed):
            self._parts = answer.parts
        return answer

    def _answer(self, call: RunningCall, first: wire.Reply | wire.Begin) -> Plain | Streamed:
        if isinstance(first, wire.Begin):
            head = first.head
            if head is None:
                return Streamed(self._events(call))
            return Streamed(self._raw(call, head), *checked_head(self.plan.function, head))
        if first.kind == "response":
            return Plain(first.data, *checked_head(self.plan.function, first.head or wire.Head(200, JSON, [])))
        if self._request.stream:
            return Streamed(_once(self._whole(first)))
        if first.kind == "json":
            return Plain(first.data)
        return Plain(self._render.completion(first.data.decode()))

    def _whole(self, reply: wire.Reply) -> bytes:
        """Return the stream of a call that gave one result."""
        if reply.kind == "json":
            return self._render.value(reply.data)
        if reply.kind == "none":
            return self._render.stop()
        return self._render.text(reply.data.decode()) + self._render.stop()

    async def _events(self, call: RunningCall) -> AsyncGenerator[bytes, None]:
        """Yield a stream's events; all items that wait become one part."""
        try:
            async for items in call.chunks():
                for part in self._render.parts(items):
                    if part:
                        yield part
        except FnsyncError as exc:
            yield self._broken(call, exc)
        else:
            yield self._render.stop()

    async def _raw(self, call: RunningCall, head: wire.Head) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a response that the function made itself."""
        try:
            async for items in call.chunks():
                yield b"".join(item.encode() if isinstance(item, str) else item for item in items)
        except FnsyncError as exc:
            if not is_media(head.media_type, "text/event-stream"):
                raise
            yield self._broken(call, exc)

    def _broken(self, call: RunningCall, exc: FnsyncError) -> bytes:
        log.info("stream_broke", function=self.plan.function.id, call=call.id, error=exc.code)
        return stream_error(self._describe(exc))


async def _once(part: bytes) -> AsyncGenerator[bytes, None]:
    yield part


def checked_head(function: LiveFunction, head: wire.Head) -> tuple[int, str, Headers]:
    """Return status, media type and headers of a response that the function made.

    What the server decides itself, and what cannot stand in a head, is left out. Raises Unrenderable for a status
    that no answer can have.
    """
    if not 200 <= head.status <= 599:
        raise Unrenderable(function.id, f"{function.id}: a response with the status {head.status}")
    media_type = head.media_type if is_text(head.media_type) else "application/octet-stream"
    return head.status, media_type, passed_on(head.headers)
