"""The ASGI application: finds the route, asks who calls, and is the one place where errors become answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import structlog
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from fnsync.api import errors
from fnsync.api.actions import ActionEndpoint
from fnsync.api.auth import Auth
from fnsync.api.completed import CompletedEndpoint
from fnsync.api.completions import CompletionsEndpoint
from fnsync.api.documents import Documents
from fnsync.api.errors import ClientGone, MethodNotAllowed, Unexpected
from fnsync.api.events import EventEndpoints
from fnsync.api.exchange import WITHOUT_TOKEN, Exchange
from fnsync.api.files import FileEndpoints
from fnsync.api.functions import FunctionEndpoints
from fnsync.api.functionsync import FunctionSyncEndpoint
from fnsync.api.imports import ImportEndpoints
from fnsync.api.invoking import InvokingEndpoints
from fnsync.api.models import ModelEndpoints
from fnsync.api.notifications import NotificationEndpoints
from fnsync.api.operations import Operations
from fnsync.api.pipelinefiles import PipelineFileEndpoints
from fnsync.api.pipelines import PipelineEndpoints
from fnsync.api.plans import PlanEndpoints
from fnsync.api.routes import Route, by_path
from fnsync.api.secrets import SecretEndpoints
from fnsync.api.sources import SourceEndpoints
from fnsync.api.syncing import SyncEndpoints
from fnsync.api.tally import Tally
from fnsync.api.tokens import TokenEndpoints
from fnsync.api.users import UserEndpoints
from fnsync.api.valves import ValvesEndpoints
from fnsync.api.versions import VersionEndpoints
from fnsync.api.webhooks import WebhookEndpoints
from fnsync.chat.actions import Actions
from fnsync.chat.completions import Completions
from fnsync.chat.events import Hub
from fnsync.chat.filters import Filters
from fnsync.chat.host import Desk
from fnsync.chat.models import Models
from fnsync.chat.previewing import Previewing
from fnsync.chat.rates import Rates
from fnsync.chat.render import stream_error
from fnsync.chat.turns import Calls
from fnsync.errors import Draining, FnsyncError, NotFound
from fnsync.model import FunctionId

if TYPE_CHECKING:
    from fnsync.service import Service

_OPERATIONS = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json"})
#: The status that the metrics give a request whose client left.
CLIENT_LEFT = 499

log = structlog.get_logger(__name__)


def create_app(service: Service) -> ASGIApp:
    """Return the application that serves `service`. Its lifespan starts and ends what the application owns."""
    return App(service)


class App:
    """The application of one server. It raises only where an answer has begun and has to be cut."""

    def __init__(self, service: Service) -> None:
        self._service = service
        config = service.config
        self._auth = Auth(
            service.state, config.auth, config.rate_limits.logins, service.environ, service.reconciler.ready
        )
        self._models = Models(service.executor, service.upstreams)
        self._tally = Tally()
        hub = Hub(config.server.event_call_timeout)
        calls = Calls(service.executor, service.user_valves)
        filters = Filters(service.reconciler.standings.missing)
        rates = Rates(config.rate_limits)
        previewing = Previewing(self._models, service.previews, config.auth.preview)
        completions = Completions(
            calls, self._models, service.upstreams, rates, filters, service.unfiltered, previewing
        )
        self._completions = completions
        calls.host = Desk(
            completions,
            self._models,
            service.state,
            service.filing,
            lambda id: service.index.row(FunctionId(id)),
            lambda exc, admin: errors.openai_error(exc, admin=admin),
        ).host
        chat = CompletionsEndpoint(service, self._models, completions, rates, self._tally, hub)
        models = ModelEndpoints(service, self._models, previewing)
        functions = FunctionEndpoints(service, self._auth)
        operations = Operations(service, self._auth, self._tally, functions, previewing)
        valves = ValvesEndpoints(service, functions)
        routes: tuple[Route, ...] = (
            *functions.routes(),
            *FunctionSyncEndpoint(service, functions).routes(),
            *ImportEndpoints(service, functions).routes(),
            *SecretEndpoints(service).routes(),
            *SyncEndpoints(service).routes(),
            *PlanEndpoints(service).routes(),
            *SourceEndpoints(service).routes(),
            *WebhookEndpoints(service, self._auth).routes(),
            *NotificationEndpoints(service).routes(),
            *valves.routes(),
            *VersionEndpoints(service, functions).routes(),
            *InvokingEndpoints(service, functions, calls, rates, previewing).routes(),
            *chat.routes(),
            *CompletedEndpoint(service, completions, hub).routes(),
            *ActionEndpoint(service, calls, Actions(calls, self._models, rates, previewing), rates, hub).routes(),
            *models.routes(),
            *EventEndpoints(service, self._auth, hub).routes(),
            *FileEndpoints(service).routes(),
            *UserEndpoints(service, self._auth).routes(),
            *TokenEndpoints(service, self._auth).routes(),
            *operations.routes(),
            # The last: ids are in the first part of their addresses.
            *PipelineFileEndpoints(service, functions, self._models).routes(),
            *PipelineEndpoints(service, self._models, calls).routes(),
        )
        documents = Documents(routes, service.version)
        table = by_path((*routes, *documents.routes(), *documents.files()))
        #: Addresses without parts that vary, which go first.
        self._exact = {path: methods for path, methods in table.items() if "{" not in path}
        self._varying = [(compile_path(path)[0], methods) for path, methods in table.items() if "{" in path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            exchange = Exchange(scope, receive, send, self._is_draining)
            await self._serve(exchange)
            self._tally.request(_surface(scope["path"]), exchange.status)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _serve(self, exchange: Exchange) -> None:
        """Run the endpoint; nothing leaves here but an answer."""
        try:
            route = self._route(exchange)
            exchange.who = route.who
            if route.who not in WITHOUT_TOKEN:
                exchange.caller = await self._auth.caller(exchange)
            await route.endpoint(exchange)
        except FnsyncError as exc:
            await self._failed(exchange, exc)
        except ClientGone:
            exchange.status = CLIENT_LEFT
        except asyncio.CancelledError:
            if not await self._ended(exchange):
                raise
        except Exception:
            log.exception("request_failed", method=exchange.scope["method"], path=exchange.scope["path"])
            if exchange.status:
                raise  # the answer has begun: the connection has to be cut
            await exchange.error(Unexpected(), close=True)

    def _route(self, exchange: Exchange) -> Route:
        """The route of a request. Raises NotFound and MethodNotAllowed."""
        scope = exchange.scope
        method: str = scope["method"]
        allowed: set[str] = set()
        for methods, parts in self._at(scope["path"]):
            route = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
            if route is not None:
                scope["path_params"] = parts
                return route
            allowed |= methods.keys()
        if not allowed:
            raise NotFound(f"there is nothing at {scope['path'][:200]}")
        raise MethodNotAllowed(method, ", ".join(sorted(allowed)))

    def _at(self, path: str) -> Iterator[tuple[Mapping[str, Route], dict[str, str]]]:
        """The routes at an address, each with the parts that vary: a function may be called what a fixed one is."""
        exact = self._exact.get(path)
        if exact is not None:
            yield exact, {}
        for pattern, methods in self._varying:
            match = pattern.match(path)
            if match is not None:
                yield methods, match.groupdict()

    async def _failed(self, exchange: Exchange, exc: FnsyncError) -> None:
        if exchange.status:
            # A response that the function streams itself broke; cutting it is all that tells the client.
            log.warning("response_broke", path=exchange.scope["path"], error=exc.code)
            return
        await exchange.error(exc, close=isinstance(exc, Draining))

    async def _ended(self, exchange: Exchange) -> bool:
        """End a request whose task was cancelled: its client left, or the time to drain is over."""
        if exchange.left:
            exchange.status = CLIENT_LEFT
            return True
        if not self._service.draining:
            return False
        stopping = Draining("the server stopped before the answer was complete")
        if not exchange.status:
            await exchange.error(stopping, close=True)
        elif exchange.event_stream and not exchange.ended:
            await exchange.part(stream_error(errors.openai_error(stopping)))
            await exchange.end()
        return True

    def _is_draining(self) -> bool:
        return self._service.draining

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._auth.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._completions.close()
        await self._models.close()
        await self._auth.close()
        await send({"type": "lifespan.shutdown.complete"})


def _surface(path: str) -> str:
    if path.startswith("/v1/"):
        return "openai"
    if path.startswith("/api/"):
        return "api"
    return "operations" if path in _OPERATIONS or path.startswith("/docs") else "pipelines"
