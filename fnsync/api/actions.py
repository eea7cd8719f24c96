"""`POST /api/chat/actions/{id}`: the buttons under an answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import ConfigDict, Field

from fnsync.api.completions import CALL_ERRORS, LARGE_BODY_BYTES, PREVIEW_ERRORS, UNWATCHED_S, Watch, described
from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form, parse
from fnsync.api.results import send_result
from fnsync.api.routes import Answer, Route, prefixed
from fnsync.chat.actions import Actions
from fnsync.chat.answers import JSON
from fnsync.chat.events import Hub
from fnsync.chat.listening import listener_of
from fnsync.chat.rates import Rates
from fnsync.chat.requests import ChatRequest, Private, read
from fnsync.chat.turns import Calls, Turn, identity
from fnsync.deadlines import Deadlines
from fnsync.errors import Draining, RateLimited, Unauthorized, UnknownFunction, UnknownModel

if TYPE_CHECKING:
    from fnsync.service import Service

_decode_private = msgspec.json.Decoder(Private).decode


class ActionForm(Form):
    """A chat, and the message whose button was pressed; the action gets all of it, other keys too."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[dict[str, Any]] = Field(default_factory=list)
    chat_id: str
    session_id: str | None
    id: str = Field(description="The message's id")


class ActionEndpoint:
    """Answers what an action returns."""

    def __init__(self, service: Service, calls: Calls, actions: Actions, rates: Rates, hub: Hub) -> None:
        self._service = service
        self._calls = calls
        self._actions = actions
        self._rates = rates
        self._hub = hub
        self._max_body = service.config.server.max_body
        self._patience = Deadlines[Watch](UNWATCHED_S, Watch.begin)

    def routes(self) -> list[Route]:
        """What it answers."""
        told = "What it returned; a response that it made itself is passed on"
        return [
            Route(
                "POST",
                prefixed("/chat/actions/{id:path}"),
                self,
                "caller",
                "Call an action, or one of its sub-actions",
                "Chat",
                body=ActionForm,
                answers={200: Answer(None, told)},
                errors=(UnknownFunction, UnknownModel, Unauthorized, RateLimited, *CALL_ERRORS, *PREVIEW_ERRORS),
            )
        ]

    async def __call__(self, exchange: Exchange) -> None:
        if self._service.draining:
            raise Draining("the server is stopping", retry_after_s=self._service.config.server.drain)
        body = await exchange.body(self._max_body)
        request = await asyncio.to_thread(_request, body) if len(body) > LARGE_BODY_BYTES else _request(body)
        exchange.quota = self._rates.of_caller(exchange.caller)
        turn = Turn(
            self._service.registry.world,
            exchange.caller,
            request,
            lambda: described(exchange),
            listener=listener_of(self._hub, exchange.caller, request),
            quota=exchange.quota,
        )
        with Watch(exchange, self._patience):
            action, call = await self._actions.prepare(turn, exchange.scope["path_params"]["id"], body)
            exchange.headers, exchange.quota = identity(action), turn.quota
            if call is None:
                await exchange.plain(200, JSON, body, [*exchange.headers])
                return
            async with self._calls.call(action, call) as running:
                await send_result(exchange, action, running)


def _request(body: bytes) -> ChatRequest:
    """Read the body. Raises Invalid that names each wrong field."""
    form = parse(ActionForm, body)
    return ChatRequest(form.model, False, body, read(body, _decode_private))
