"""The protocol of a Pipelines server, at the root: what it lists, and its filters.

Every address is under /v1 too, but for those that mean something else there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fnsync.api.completions import CALL_ERRORS, UNWATCHED_S, Watch, described
from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form
from fnsync.api.models import OPENAI_KEYS, OpenAIModels
from fnsync.api.routes import Errors, Route, ok
from fnsync.chat import requests
from fnsync.chat.access import may_use
from fnsync.chat.answers import JSON
from fnsync.chat.models import Models
from fnsync.chat.pipelines import facts
from fnsync.chat.requests import NO_KEYS, ChatRequest
from fnsync.chat.stages import REFUSALS
from fnsync.chat.turns import Calls, Turn
from fnsync.deadlines import Deadlines
from fnsync.errors import (
    Draining,
    FilterRefused,
    FunctionRaised,
    UnknownFunction,
    Unrenderable,
)
from fnsync.model import Kind, LiveFunction
from fnsync.runtime import wire

if TYPE_CHECKING:
    from fnsync.service import Service

GROUP = "Pipelines"
#: What is told of a model.
_ENTRY_KEYS = (*OPENAI_KEYS, "pipeline")

Hook = Literal["inlet", "outlet"]


class Alive(BaseModel):
    status: bool


class PipelineModels(OpenAIModels):
    pipelines: bool = Field(True, description="By this Open WebUI knows a Pipelines server")


class PipelineEntry(BaseModel):
    id: str
    name: str = Field(description="The file's")
    type: str
    valves: bool


class PipelineList(BaseModel):
    data: list[PipelineEntry]


class FilterForm(Form):
    model_config = ConfigDict(extra="allow")

    body: dict[str, Any]
    user: dict[str, Any] | None = None


class PipelineEndpoints:
    """Answers what a client of a Pipelines server asks, but for chats."""

    def __init__(self, service: Service, models: Models, calls: Calls) -> None:
        self._service = service
        self._models = models
        self._calls = calls
        self._max_body = service.config.server.max_body
        self._patience = Deadlines[Watch](UNWATCHED_S, Watch.begin)

    def routes(self) -> list[Route]:
        """What it answers."""
        calls: Errors = (UnknownFunction, *CALL_ERRORS)
        body = ok(dict[str, Any], "The body, as the filter left it")
        return [
            Route("GET", ("/", "/v1"), self.alive, "anyone", "Whether the server answers", GROUP, answers=ok(Alive)),
            Route(
                "GET",
                ("/models",),
                self.list_models,
                "caller",
                "List the models, and the filters that are pipelines, as a Pipelines server does",
                GROUP,
                answers=ok(PipelineModels),
            ),
            Route(
                "GET", both("/pipelines"), self.list, "caller", "List the pipelines", GROUP, answers=ok(PipelineList)
            ),
            # These are under /v1 by themselves: an id may have slashes.
            Route(
                "POST",
                ("/{id:path}/filter/inlet",),
                self.inlet,
                "caller",
                "Have a filter look at a request",
                GROUP,
                FilterForm,
                answers=body,
                errors=(*calls, FilterRefused),
            ),
            Route(
                "POST",
                ("/{id:path}/filter/outlet",),
                self.outlet,
                "caller",
                "Have a filter look at a complete chat",
                GROUP,
                FilterForm,
                answers=body,
                errors=calls,
            ),
        ]

    # ---- lists -------------------------------------------------------------------------------------------

    async def alive(self, exchange: Exchange) -> None:
        await exchange.json(200, {"status": True})

    async def list_models(self, exchange: Exchange) -> None:
        world, caller = self._service.registry.world, exchange.caller
        entries = await self._models.entries(world, caller)
        found = [_entry(entry) for entry in (*entries, *self._models.pipeline_filters(world, caller))]
        await exchange.json(200, {"data": found, "object": "list", "pipelines": True})

    async def list(self, exchange: Exchange) -> None:
        world = self._service.registry.world
        ids = self._models.pipelines(world)
        found = [
            {
                "id": ids.id_of(function),
                "name": function.id,
                "type": facts(function).type,
                "valves": function.manifest.valves_schema is not None,
            }
            for _, function in sorted(world.functions.items())
            if function.kind is Kind.PIPELINE and function.active and may_use(function.settings, exchange.caller)
        ]
        await exchange.json(200, {"data": found})

    # ---- filters -----------------------------------------------------------------------------------------

    async def inlet(self, exchange: Exchange) -> None:
        try:
            await self._filter(exchange, "inlet")
        except FunctionRaised as exc:  # a filter's refusal is meant for the caller
            status = exc.http_status if exc.http_status in REFUSALS else None
            raise FilterRefused(exc.function, exc.message, status, exc.traceback) from exc

    async def outlet(self, exchange: Exchange) -> None:
        await self._filter(exchange, "outlet")

    async def _filter(self, exchange: Exchange, hook: Hook) -> None:
        if self._service.draining:
            raise Draining("the server is stopping", retry_after_s=self._service.config.server.drain)
        request = requests.parse_filter(await exchange.body(self._max_body))
        body = bytes(request.body)
        world = self._service.registry.world
        function = self._hooked(exchange)
        plan = self._calls.plan(function)
        exchange.headers = plan.identity
        if function.manifest.handler(hook) is None:
            await exchange.plain(200, JSON, body, [*plan.identity])
            return
        turn = Turn(world, exchange.caller, ChatRequest(function.id, False, body, NO_KEYS), lambda: described(exchange))
        if exchange.names_users:
            turn.named = request.user
        invocation = await self._calls.invocation(turn, function, hook, body, staged=True)
        with Watch(exchange, self._patience):
            async with self._calls.call(function, invocation) as running:
                made = _body_of(function, hook, await running.first(), body)
            await exchange.plain(200, JSON, made, [*plan.identity])

    def _hooked(self, exchange: Exchange) -> LiveFunction:
        """The pipeline whose hooks the address means. Raises UnknownFunction."""
        asked: str = exchange.scope["path_params"]["id"].removeprefix("v1/")
        pipelines = self._models.pipelines(self._service.registry.world)
        function, _ = pipelines.behind(asked)
        if function is None:  # Open WebUI does not take the prefix of a connection off again
            function, _ = pipelines.behind(asked.partition(".")[2])
        is_there = function is not None and function.active and function.kind is Kind.PIPELINE
        if function is None or not is_there or not may_use(function.settings, exchange.caller):
            raise UnknownFunction(f"Filter {asked[:200]} not found")
        return function


def _body_of(function: LiveFunction, hook: Hook, first: wire.Reply | wire.Begin, body: bytes) -> bytes:
    """The body that a hook left. Raises Unrenderable."""
    if isinstance(first, wire.Reply) and first.kind == "none":
        return body  # the function's log says so
    if isinstance(first, wire.Reply) and first.kind == "json" and first.data.startswith(b"{"):
        return first.data
    raise Unrenderable(function.id, f"{function.id}: `{hook}` returned what is no body", hint="return the body, a dict")


def both(path: str) -> tuple[str, str]:
    """An address of the protocol, at the root and under /v1."""
    return path, f"/v1{path}"


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in _ENTRY_KEYS if key in entry}
