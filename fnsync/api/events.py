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
#: How often a feed looks whether the server is stopping.
TICK_S = 0.5
#: How often it asks whether its client may still listen, and sends a comment.
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
        with (
            self._hub.subscribe(Place(exchange.caller.id, query.chat_id)) as feed,
            Watch(exchange, self._patience),
        ):
            await exchange.start(200, EVENT_STREAM, [(b"cache-control", b"no-cache")])
            await exchange.part(LISTENING)
            await self._send(exchange, feed)
            await exchange.end()

    async def _send(self, exchange: Exchange, feed: Feed) -> None:
        asked_at = time.monotonic()
        waiting = asyncio.ensure_future(feed.queue.wait())
        try:
            while not self._service.draining:
                await asyncio.wait([waiting], timeout=TICK_S)
                is_due = time.monotonic() - asked_at >= KEEP_ALIVE_S
                if is_due:
                    exchange.caller = await asyncio.to_thread(self._auth.caller_now, exchange)
                    asked_at = time.monotonic()
                if waiting.done():
                    await exchange.part(feed.queue.take())
                    waiting = asyncio.ensure_future(feed.queue.wait())
                elif is_due:
                    await exchange.part(KEEP_ALIVE)
        except Unauthorized:
            pass  # who may no longer listen is told no more
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    async def answer(self, exchange: Exchange) -> None:
        """`POST /api/events/{call}`: any JSON."""
        data = await exchange.body(self._limit)
        try:
            msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise Invalid(f"the body is not JSON: {exc}") from exc
        self._hub.answer(exchange.caller.id, exchange.scope["path_params"]["call"], data)
        await exchange.json(200, True)
