"""Valves over HTTP: those of a function, for who manages it, and each user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import RootModel

from fnsync.api.exchange import Exchange
from fnsync.api.forms import read_query
from fnsync.api.functions import (
    EDIT_ERRORS,
    PROPOSED,
    FunctionEndpoints,
    VersionQuery,
    based_on,
    commit_headers,
    etag,
    propose,
)
from fnsync.api.routes import Errors, Route, api_route, ok
from fnsync.edits.manager import Manager
from fnsync.errors import (
    Conflict,
    ContentRefused,
    CrashLoop,
    EnvironmentFailed,
    FunctionError,
    Invalid,
    InvalidValves,
    LoadFailed,
    NotFound,
    TimeLimit,
    Unavailable,
    UnknownFunction,
    WorkerDied,
)
from fnsync.model import FunctionId
from fnsync.vault import Undecipherable

if TYPE_CHECKING:
    from fnsync.service import Service

GROUP = "Valves"
#: What asking a function's worker may come to.
WORKER_ERRORS: Errors = (
    ContentRefused,
    TimeLimit,
    FunctionError,
    LoadFailed,
    WorkerDied,
    EnvironmentFailed,
    Unavailable,
    CrashLoop,
)


class Values(RootModel[dict[str, Any]]):
    """Values by name; null takes one out."""


class ValvesEndpoints:
    """Answers what is asked about valves."""

    def __init__(self, service: Service, functions: FunctionEndpoints) -> None:
        self._manager: Manager = service.manager
        self._functions = functions

    def routes(self) -> list[Route]:
        """What it answers."""
        values, schema = ok(dict[str, Any]), ok(dict[str, Any] | None, "A JSON schema; null without the class")
        at, own = "/functions/id/{id}/valves", "/functions/id/{id}/valves/user"
        told: Errors = (UnknownFunction, Undecipherable)
        spec: Errors = (UnknownFunction, *WORKER_ERRORS)
        return [
            api_route("GET", at, self.get, "manager", "The stored values", GROUP, values, errors=told),
            api_route("GET", f"{at}/spec", self.spec, "manager", "What values there are", GROUP, schema, errors=spec),
            api_route(
                "POST",
                f"{at}/update",
                self.update,
                "manager",
                "Replace the stored values; references to the environment stay unless they are named",
                GROUP,
                {**values, 202: PROPOSED},
                body=Values,
                query=VersionQuery,
                errors=(*EDIT_ERRORS, *told, NotFound, *WORKER_ERRORS),
            ),
            api_route("GET", own, self.get_own, "caller", "The caller's own values", GROUP, values, errors=told),
            api_route(
                "GET", f"{own}/spec", self.own_spec, "caller", "What values users have", GROUP, schema, errors=spec
            ),
            api_route(
                "POST",
                f"{own}/update",
                self.update_own,
                "caller",
                "Replace the caller's own values",
                GROUP,
                values,
                body=Values,
                errors=(Invalid, InvalidValves, Conflict, *told, NotFound, *WORKER_ERRORS),
            ),
        ]

    # ---- the function's ----------------------------------------------------------------------------------

    async def get(self, exchange: Exchange) -> None:
        unit = self._functions.managed(exchange).unit
        await exchange.json(200, self._manager.valves(unit.id), [etag(unit)])

    async def spec(self, exchange: Exchange) -> None:
        id = self._functions.managed(exchange).unit.id
        await exchange.json(200, await self._manager.schema(id, "valves", exchange.caller))

    async def update(self, exchange: Exchange) -> None:
        self._functions.managed(exchange)
        posted = await self._functions.body(exchange, Values)
        id = self._functions.managed(exchange).unit.id
        query = read_query(exchange, VersionQuery)
        terms = self._functions.terms(exchange, None, based_on(exchange, query.version_id))
        written, values = await self._manager.set_valves(id, posted.root, terms)
        if written.proposal is not None:
            await propose(exchange, written)
        else:
            await exchange.json(200, values, [*commit_headers(written), *map(etag, written.rows)])

    # ---- the caller's own --------------------------------------------------------------------------------

    async def get_own(self, exchange: Exchange) -> None:
        id = self._visible(exchange)
        await exchange.json(200, await self._manager.own_values(id, exchange.caller))

    async def own_spec(self, exchange: Exchange) -> None:
        id = self._visible(exchange)
        live = self._manager.standing(id).live
        is_active = live is not None and live.active
        schema = await self._manager.schema(id, "user_valves", exchange.caller) if is_active else None
        await exchange.json(200, schema)

    async def update_own(self, exchange: Exchange) -> None:
        self._visible(exchange)
        posted = await self._functions.body(exchange, Values)
        id = self._visible(exchange)
        await exchange.json(200, await self._manager.set_own_values(id, exchange.caller, posted.root))

    def _visible(self, exchange: Exchange) -> FunctionId:
        """The function of the address, which is there for the caller. Raises UnknownFunction."""
        id = FunctionId(exchange.scope["path_params"]["id"])
        if not self._functions.is_visible(id, exchange.caller):
            raise UnknownFunction(f"there is no function {id[:200]!r}")
        return self._manager.standing(id).unit.id
