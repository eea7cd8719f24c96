"""`/api/chat/completed`: outlets for chat services that keep the chat themselves, and ask when it is complete."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import ConfigDict, Field

from fnsync.api.completions import CALL_ERRORS, LARGE_BODY_BYTES, PREVIEW_ERRORS, UNWATCHED_S, Watch, described
from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form, parse
from fnsync.api.routes import Route, ok, prefixed
from fnsync.chat.completions import Completions
from fnsync.chat.events import Hub
from fnsync.chat.listening import listener_of
from fnsync.chat.requests import ChatRequest, Private, read
from fnsync.chat.turns import Turn
from fnsync.deadlines import Deadlines
from fnsync.errors import Draining, UnknownModel

if TYPE_CHECKING:
    from fnsync.service import Service

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class CompletedForm(Form):
    """A chat whose last message is the answer; other keys reach the filters as they are."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    chat_id: str
    session_id: str | None
    id: str = Field(description="Of the answer's message")
    filter_ids: list[str] | None = None


class CompletedEndpoint:
    """Answers what the outlets make of a chat."""

    def __init__(self, service: Service, completions: Completions, hub: Hub) -> None:
        self._service = service
        self._hub = hub
        self._completions = completions
        self._max_body = service.config.server.max_body
        self._patience = Deadlines[Watch](UNWATCHED_S, Watch.begin)

    def routes(self) -> list[Route]:
        """What it answers."""
        return [
            Route(
                "POST",
                prefixed("/chat/completed"),
                self,
                "caller",
                "Have the outlets of a chat's filters look at an answer that is complete",
                "Chat",
                body=CompletedForm,
                answers=ok(dict[str, Any]),
                errors=(UnknownModel, *CALL_ERRORS, *PREVIEW_ERRORS),
            )
        ]

    async def __call__(self, exchange: Exchange) -> None:
        if self._service.draining:
            raise Draining("the server is stopping", retry_after_s=self._service.config.server.drain)
        data = await exchange.body(self._max_body)
        read_whole = partial(_read, data)
        form, body = await asyncio.to_thread(read_whole) if len(data) > LARGE_BODY_BYTES else read_whole()
        sent = {"filter_ids": form.filter_ids or [], "chat_id": form.chat_id, "session_id": form.session_id}
        request = ChatRequest(form.model, False, data, Private(**{key: _raw(value) for key, value in sent.items()}))
        request.private.id = _raw(form.id)
        turn = Turn(
            self._service.registry.world,
            exchange.caller,
            request,
            lambda: described(exchange),
            listener=listener_of(self._hub, exchange.caller, request),
        )
        turn.metadata = _raw({**sent, "message_id": form.id, "user_id": exchange.caller.id})
        with Watch(exchange, self._patience):
            await exchange.json(200, await self._completions.completed(turn, body))


def _read(data: bytes) -> tuple[CompletedForm, dict[str, Any]]:
    """The chat, as a form and whole. Raises Invalid."""
    return parse(CompletedForm, data), read(data, _decode)


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
