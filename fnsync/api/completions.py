"""`POST …/chat/completions`: the one endpoint that every chat goes through, so it takes no detours.

Registered by exact path in front of the router. The order is: who calls, the body, what it asks for, the call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydantic import ConfigDict, Field

from fnsync.api import errors
from fnsync.api.errors import ClientGone
from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form
from fnsync.api.routes import Answer, Errors, Route, prefixed
from fnsync.api.tally import Tally
from fnsync.chat import requests
from fnsync.chat.access import may_use
from fnsync.chat.answers import JSON, Plain
from fnsync.chat.completions import Completions
from fnsync.chat.context import CREDENTIAL_HEADERS
from fnsync.chat.events import Hub
from fnsync.chat.listening import listener_of
from fnsync.chat.live import Live
from fnsync.chat.models import Models
from fnsync.chat.pipelines import facts, is_model
from fnsync.chat.previewing import AT
from fnsync.chat.rates import Rates
from fnsync.chat.turns import Turn
from fnsync.deadlines import Deadlines
from fnsync.errors import (
    CrashLoop,
    Draining,
    EnvironmentFailed,
    FetchFailed,
    FnsyncError,
    FunctionError,
    FunctionRaised,
    Invalid,
    LoadFailed,
    MemoryLimit,
    NotWritable,
    RateLimited,
    RepositoryError,
    Saturated,
    SourceRefused,
    TimeLimit,
    Unavailable,
    UnknownFunction,
    UnknownModel,
    UnknownRef,
    Unrenderable,
    UpstreamFailed,
    UpstreamTimeout,
    WorkerDied,
)
from fnsync.model import FunctionId, Kind, LiveFunction, Status, User
from fnsync.registry import World

if TYPE_CHECKING:
    from fnsync.service import Service

EVENT_STREAM = "text/event-stream"
#: Where a client of a Pipelines server asks.
PIPELINES_PATH = "/chat/completions"
#: What a call of a function may come to.
CALL_ERRORS: Errors = (
    Invalid,
    TimeLimit,
    FunctionRaised,
    FunctionError,
    LoadFailed,
    Unrenderable,
    WorkerDied,
    MemoryLimit,
    EnvironmentFailed,
    Unavailable,
    Saturated,
    CrashLoop,
    Draining,
)
#: What may keep a function from being had as of a ref.
PREVIEW_ERRORS: Errors = (UnknownFunction, UnknownRef, RepositoryError, SourceRefused, NotWritable, FetchFailed)
ONLY_PIPES = "only pipes answer a chat; the list of models names them"
#: Bodies above this are decoded off the loop.
LARGE_BODY_BYTES = 1024 * 1024
#: How many models of a manifold an error names.
MANY_NAMES = 20
#: A call that takes longer than this is watched for its client going away; most are done before.
UNWATCHED_S = 0.05


class ChatForm(Form):
    """OpenAI's body; keys that are not named here reach the function as they are."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: bool = False


class CompletionsEndpoint:
    """Answers `/v1/chat/completions` and the same under `/api` and `/api/v1`."""

    def __init__(
        self, service: Service, models: Models, completions: Completions, rates: Rates, tally: Tally, hub: Hub
    ) -> None:
        self._service = service
        self._models = models
        self._completions = completions
        self._tally = tally
        self._hub = hub
        self._max_body = service.config.server.max_body
        self._patience = Deadlines[Watch](UNWATCHED_S, Watch.begin)
        self._rates = rates
        #: Of the world that was served last.
        self._generation = 0

    def routes(self) -> list[Route]:
        """What it answers."""
        paths = ("/v1/chat/completions", *prefixed("/chat/completions"), PIPELINES_PATH)
        return [
            Route(
                "POST",
                paths,
                self,
                "caller",
                "Answer a chat with a model",
                "Chat",
                body=ChatForm,
                answers={200: Answer(None, "A completion; with `stream: true` an event stream", (JSON, EVENT_STREAM))},
                errors=(
                    UnknownModel,
                    UnknownFunction,
                    UnknownRef,
                    RateLimited,
                    *CALL_ERRORS,
                    UpstreamFailed,
                    UpstreamTimeout,
                ),
            )
        ]

    async def __call__(self, exchange: Exchange) -> None:
        if self._service.draining:
            raise Draining("the server is stopping", retry_after_s=self._service.config.server.drain)
        caller = exchange.caller
        body = await exchange.body(self._max_body)
        large = len(body) > LARGE_BODY_BYTES
        is_pipelines = exchange.scope["path"] == PIPELINES_PATH
        parse = partial(requests.parse, body, pipelines=is_pipelines)
        request = await asyncio.to_thread(parse) if large else parse()
        exchange.quota = self._rates.of_caller(caller)
        world = self._service.registry.world
        if world.generation > self._generation:
            self._generation = world.generation
            self._completions.keep(world)
            self._tally.keep(world.functions)
        with Watch(exchange, self._patience):
            await self._answer(exchange, request, caller, world, is_pipelines)

    async def _answer(
        self, exchange: Exchange, request: requests.ChatRequest, caller: User, world: World, is_pipelines: bool
    ) -> None:
        def describe(exc: FnsyncError) -> dict[str, Any]:
            return errors.openai_error(exc, admin=caller.is_admin)

        try:
            # A chat service, or a client of a Pipelines server, expects events in the stream, but has no way to answer.
            asks = exchange.events or request.wants_events
            events = asks or (exchange.events is not False and (is_pipelines or exchange.is_service))
            listener = listener_of(self._hub, caller, request, events=events, answers=asks)
            turn = Turn(world, caller, request, lambda: described(exchange), events, listener, quota=exchange.quota)
            turn.filters_itself = is_pipelines
            if exchange.names_users and (named := requests.named_user(request)) is not None:
                turn.named = named
            completion = await self._completions.prepare(turn, describe=describe)
        except UnknownModel as exc:
            if AT in request.model:
                raise
            raise await self._explained(exc, request.model, caller, world) from exc
        exchange.headers, exchange.quota = completion.headers, turn.quota
        began = time.perf_counter()
        self._tally.running += 1
        try:
            stream = listener.stream if listener is not None else None
            async with completion if stream is None else Live(completion, stream, describe) as answer:
                headers = [*answer.headers, *completion.headers]
                if isinstance(answer, Plain):
                    await exchange.plain(answer.status, answer.media_type, answer.body, headers)
                    return
                await exchange.start(answer.status, answer.media_type, headers)
                async for part in answer.parts:
                    await exchange.part(part)
                await exchange.end()
        except FnsyncError:
            exchange.headers = completion.headers  # filters may have come in between
            raise
        finally:
            self._tally.running -= 1
            if completion.function is not None and turn.asked is None:
                self._tally.call(completion.function, time.perf_counter() - began)

    async def _explained(self, exc: UnknownModel, model: str, caller: User, world: World) -> FnsyncError:
        """Say more of a model that names a function: what it is, that it is loading, or why it does not load."""
        pipelines = self._models.pipelines(world)
        live = pipelines.find(model) or pipelines.find(model.partition(".")[0])
        id = live.id if live is not None else FunctionId(model.partition(".")[0])
        if live is not None and may_use(live.settings, caller):
            return await self._no_model(exc, world, live)
        standing = self._service.reconciler.standings.get(id)
        if standing is None or standing.live is not None or not may_use(standing.unit.settings, caller):
            return exc
        if standing.status is Status.LOADING:
            return Unavailable(f"{id} is being loaded")
        if standing.problem is not None and caller.is_admin:
            return UnknownModel(f"{id} has no revision that loads: {standing.problem}", hint=standing.problem.hint)
        return exc

    async def _no_model(self, exc: UnknownModel, world: World, live: LiveFunction) -> FnsyncError:
        """Say what a function is that is live, but not the model that was asked for."""
        if not live.active:
            return UnknownModel(f"{live.id} is switched off", hint="set active: true in its settings file")
        if live.kind is Kind.PIPELINE and not is_model(live):
            return UnknownModel(
                f"{live.id} is a pipeline of the type {facts(live).type!r}, and no model", hint=ONLY_PIPES
            )
        if live.kind not in (Kind.PIPE, Kind.PIPELINE):
            article = "an" if live.kind.value[0] in "aeiou" else "a"
            return UnknownModel(f"{live.id} is {article} {live.kind.value}, and no model", hint=ONLY_PIPES)
        if live.manifest.manifold:
            models = await self._models.sub_models(world, live)
            hint = f"its models are {_some(models)}" if models else "it lists no models"
            return UnknownModel(f"{exc.message}: {live.id} is a manifold, which has models of its own", hint=hint)
        return exc


def _some(names: list[str]) -> str:
    more = len(names) - MANY_NAMES
    return ", ".join(names[:MANY_NAMES]) + (f" and {more} more" if more > 0 else "")


class Watch:
    """Cancels the task that is in its block when the client goes away; the block then ends with ClientGone."""

    __slots__ = ("_exchange", "_patience", "_task", "_watcher")

    def __init__(self, exchange: Exchange, patience: Deadlines[Watch]) -> None:
        self._exchange = exchange
        self._patience = patience
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._patience.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._patience.discard(self)
        if self._watcher is not None:
            self._watcher.cancel()
        if self._exchange.left and kind is asyncio.CancelledError:
            self._task.uncancel()
            raise ClientGone from exc

    def begin(self) -> None:
        """Watch from now on; called when the block has taken UNWATCHED_S."""
        self._watcher = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        await self._exchange.gone()
        if not self._exchange.ended:
            self._exchange.left = True
            self._task.cancel()


def described(exchange: Exchange) -> Mapping[str, Any]:
    """Return what `__request__` is made from; credentials are left out."""
    scope = exchange.scope
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name not in CREDENTIAL_HEADERS:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    host = headers.get("host") or ":".join(str(part) for part in scope.get("server") or ("localhost",))
    return {
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode("latin-1"),
        "headers": headers,
        "client": list(scope["client"]) if scope.get("client") else None,
        "base_url": f"{scope['scheme']}://{host}/",
    }
