"""How one function stands, and calls of its handlers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from fnsync.api.completions import CALL_ERRORS, UNWATCHED_S, Watch, described
from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form
from fnsync.api.functions import GROUP, FunctionEndpoints
from fnsync.api.results import send_result
from fnsync.api.routes import Answer, Route, api_route, ok
from fnsync.chat.invoking import invocation
from fnsync.chat.rates import Rates
from fnsync.chat.turns import Calls, identity
from fnsync.deadlines import Deadlines
from fnsync.errors import (
    LoadFailed,
    NotFound,
    RateLimited,
    Unavailable,
    UnknownFunction,
)
from fnsync.status import function_status

if TYPE_CHECKING:
    from fnsync.service import Service


class InvokeForm(Form):
    """A call."""

    handler: str | None = Field(None, description="pipe, inlet, outlet, action, …; without it that of the kind")
    body: Any = Field(None, description="The first argument")


class InvokingEndpoints:
    """Answers how a function stands, and what its handlers give."""

    def __init__(self, service: Service, functions: FunctionEndpoints, calls: Calls, rates: Rates) -> None:
        self._service = service
        self._calls = calls
        self._rates = rates
        self._functions = functions
        self._patience = Deadlines[Watch](UNWATCHED_S, Watch.begin)

    def routes(self) -> list[Route]:
        """What it answers."""
        at = "/functions/id/{id}"
        return [
            api_route(
                "GET",
                f"{at}/status",
                self.status,
                "manager",
                "How a function stands: revision, problem, workers",
                GROUP,
                ok(dict[str, Any]),
                errors=(UnknownFunction,),
            ),
            api_route(
                "POST",
                f"{at}/invoke",
                self.invoke,
                "manager",
                "Call a handler of a function, be it active or not",
                GROUP,
                {200: Answer(None, "What it returned; a response that it made itself is passed on")},
                body=InvokeForm,
                errors=(*CALL_ERRORS, UnknownFunction, NotFound, RateLimited),
            ),
        ]

    async def status(self, exchange: Exchange) -> None:
        standing = self._functions.managed(exchange)
        health = self._service.executor.health(standing.unit.id)
        service = self._service
        await exchange.json(200, function_status(standing, health, service.unfiltered, service.config.defaults.active))

    async def invoke(self, exchange: Exchange) -> None:
        self._functions.managed(exchange)
        form = await self._functions.body(exchange, InvokeForm)
        standing = self._functions.managed(exchange)
        world = self._service.registry.world
        function = world.functions.get(standing.unit.id)
        if function is None:
            if standing.problem is not None:
                raise LoadFailed(standing.unit.id, standing.problem)
            raise Unavailable(f"{standing.unit.id} is being loaded")
        exchange.quota = self._rates.of_caller(exchange.caller)
        exchange.quota = self._rates.of_function(function, exchange.caller, exchange.quota)
        call = await invocation(
            self._calls, world, function, form.handler, form.body, exchange.caller, lambda: described(exchange)
        )
        exchange.headers = identity(function)
        with Watch(exchange, self._patience):
            async with self._calls.call(function, call) as running:
                await send_result(exchange, function, running)
