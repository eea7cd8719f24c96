"""The feed of a chat's events, and the answers to what functions ask through `__event_call__`."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import Field, RootModel

from fnsync.api.auth import Auth
from fnsync.api.completions import UNWATCHED_S, Watch
from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form, read_query
from fnsync.api.routes import Answer, Route, api_route, ok
from fnsync.chat.answers import EVENT_STREAM
from fnsync.chat.events import Feed, Hub, Place
from fnsync.deadlines import Deadlines
from fnsync.errors import BodyTooLarge, Draining, Invalid, NotFound, RateLimited, Unauthorized

if TYPE_CHECKING:
    from fnsync.service import Service

GROUP = "Chat"
#: The largest answer to a question, in bytes.
ANSWER_BYTES = 4 * 1024 * 1024
#: How often a feed looks whether the server is stopping, and whether its client may still listen.
TICK_S = 0.5
#: How often it sends a comment when it has nothing else to say.
KEEP_ALIVE_S = 15.0
#: What a feed begins with, so that its client knows that it listens.
LISTENING = b": listening\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


class FeedQuery(Form):
    chat_id: str = Field(min_length=1, max_length=1000, description="The chat whose events are wanted")


class AnswerForm(RootModel[Any]):
    """The answer: any JSON. `false` is what a client sends whose user cancelled."""


class EventEndpoints:
    """Answers who listens to events, and who answers them."""

    def __init__(self, service: Service, auth: Auth, hub: Hub) -> None:
        self._service = service
        self._auth = auth
        self._hub = hub
        self._limit = min(ANSWER_BYTES, service.config.server.max_body)
        self._patience = Deadlines[Watch](UNWATCHED_S, Watch.begin)

    def routes(self) -> list[Route]:
        """What it answers."""
        return [
            api_route(
                "GET",
                "/events",
                self.feed,
                "caller",
                "What the caller's calls emit in a chat, as it comes",
                GROUP,
                {200: Answer(None, "An event stream that goes on", ("text/event-stream",))},
                query=FeedQuery,
                errors=(Invalid, RateLimited, Draining),
            ),
            api_route(
                "POST",
                "/events/{call}",
                self.answer,
                "caller",
                "Answer what a function asks",
                GROUP,
                ok(bool, "The function has the answer"),
                body=AnswerForm,
                errors=(Invalid, NotFound, BodyTooLarge),
            ),
        ]

    async def feed(self, exchange: Exchange) -> None:
        """`GET /api/events?chat_id=…`: until the client leaves, may no longer listen, or the server stops."""
        query = read_query(exchange, FeedQuery)
        await exchange.body(0)
        if self._service.draining:
            raise Draining("the server is stopping", retry_after_s=self._service.config.server.drain)
        if exchange.scope["method"] == "HEAD":
            await exchange.plain(200, EVENT_STREAM, b"", [])
            return
        with (
            self._hub.subscribe(Place(exchange.caller.id, query.chat_id)) as feed,
            Watch(exchange, self._patience),
        ):
            await exchange.start(200, EVENT_STREAM, [(b"cache-control", b"no-cache")])
            await exchange.part(LISTENING)
            await self._send(exchange, feed)
            await exchange.end()

    async def _send(self, exchange: Exchange, feed: Feed) -> None:
        sent_at = time.monotonic()
        while not self._service.draining and await self._may_listen(exchange, feed):
            await asyncio.wait([feed.queue.news()], timeout=TICK_S)
            if frames := feed.queue.take():
                await exchange.part(frames)
            elif time.monotonic() - sent_at >= KEEP_ALIVE_S:
                await exchange.part(KEEP_ALIVE)
            else:
                continue
            sent_at = time.monotonic()

    async def _may_listen(self, exchange: Exchange, feed: Feed) -> bool:
        """Whether the client's token still counts, for the same user."""
        try:
            return (await self._auth.caller(exchange)).id == feed.place.user
        except (Unauthorized, RateLimited):
            return False

    async def answer(self, exchange: Exchange) -> None:
        """`POST /api/events/{call}`: any JSON."""
        data = await exchange.body(self._limit)
        try:
            msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise Invalid(f"the body is not JSON: {exc}") from exc
        self._hub.answer(exchange.caller.id, exchange.scope["path_params"]["call"], data)
        await exchange.json(200, True)
