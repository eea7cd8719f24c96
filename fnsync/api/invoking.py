"""How one function stands, and calls of its handlers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from fnsync.api.completions import CALL_ERRORS, PREVIEW_ERRORS, UNWATCHED_S, Watch, described
from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form
from fnsync.api.functions import GROUP, FunctionEndpoints
from fnsync.api.results import send_result
from fnsync.api.routes import Answer, Route, api_route, ok
from fnsync.chat.invoking import invocation
from fnsync.chat.previewing import AT, Asked, Previewing
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
from fnsync.model import LiveFunction
from fnsync.registry import World
from fnsync.status import function_status

if TYPE_CHECKING:
    from fnsync.service import Service


class InvokeForm(Form):
    """A call."""

    handler: str | None = Field(None, description="pipe, inlet, outlet, action, …; without it that of the kind")
    body: Any = Field(None, description="The first argument")


class InvokingEndpoints:
    """Answers how a function stands, and what its handlers give."""

    def __init__(
        self, service: Service, functions: FunctionEndpoints, calls: Calls, rates: Rates, previewing: Previewing
    ) -> None:
        self._service = service
        self._calls = calls
        self._rates = rates
        self._previewing = previewing
        self._functions = functions
        self._patience = Deadlines[Watch](UNWATCHED_S, Watch.begin)

    def routes(self) -> list[Route]:
        """What it answers."""
        at, at_any = "/functions/id/{id}", "/functions/id/{id:path}"  # a ref may have slashes
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
                f"{at_any}/invoke",
                self.invoke,
                "manager",
                "Call a handler of a function, be it active or not; with `@` and a ref behind the id as of that",
                GROUP,
                {200: Answer(None, "What it returned; a response that it made itself is passed on")},
                body=InvokeForm,
                errors=(*CALL_ERRORS, *PREVIEW_ERRORS, NotFound, RateLimited),
            ),
        ]

    async def status(self, exchange: Exchange) -> None:
        standing = self._functions.managed(exchange)
        health = self._service.executor.health(standing.unit.id)
        service = self._service
        await exchange.json(200, function_status(standing, health, service.unfiltered, service.config.defaults.active))

    async def invoke(self, exchange: Exchange) -> None:
        self._check(exchange)
        form = await self._functions.body(exchange, InvokeForm)
        world, function = await self._function(exchange)
        exchange.quota = self._rates.of_caller(exchange.caller)
        exchange.quota = self._rates.of_function(function, exchange.caller, exchange.quota)
        call = await invocation(
            self._calls, world, function, form.handler, form.body, exchange.caller, lambda: described(exchange)
        )
        exchange.headers = identity(function)
        with Watch(exchange, self._patience):
            async with self._calls.call(function, call) as running:
                await send_result(exchange, function, running)

    def _check(self, exchange: Exchange) -> Asked | None:
        """What is asked for as of a ref, None where no ref is named. Raises UnknownFunction, Unauthorized where the
        caller may not manage the function."""
        id: str = exchange.scope["path_params"]["id"]
        if AT not in id:
            self._functions.managed(exchange)
            return None
        asked = self._previewing.asked(id, exchange.caller)
        if asked is None:
            raise UnknownFunction(f"there is no function {id[:200]!r}")
        if not exchange.caller.is_admin:
            self._functions.managed_function(exchange, asked.id)
        return asked

    async def _function(self, exchange: Exchange) -> tuple[World, LiveFunction]:
        """The function to call, and its world. Raises as `_check`, LoadFailed, Unavailable, and what previews raise."""
        world, asked = self._service.registry.world, self._check(exchange)
        if asked is not None:
            entered = await self._previewing.enter(world, asked, exchange.caller)
            return entered.world, entered.function
        standing = self._functions.managed(exchange)
        function = world.functions.get(standing.unit.id)
        if function is None:
            if standing.problem is not None:
                raise LoadFailed(standing.unit.id, standing.problem)
            raise Unavailable(f"{standing.unit.id} is being loaded")
        return world, function
