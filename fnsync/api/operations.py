"""What operators and their tools ask: health, readiness, status, metrics, logs of functions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, cast

import msgspec
from pydantic import BaseModel, Field

from fnsync.api.auth import Auth
from fnsync.api.completions import PREVIEW_ERRORS, UNWATCHED_S, Watch
from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form, read_query
from fnsync.api.functions import FunctionEndpoints
from fnsync.api.routes import Answer, Route, prefixed
from fnsync.api.tally import Tally
from fnsync.chat.previewing import AT, Previewing
from fnsync.deadlines import Deadlines
from fnsync.errors import Invalid, Unauthorized, UnknownFunction
from fnsync.model import FunctionId
from fnsync.runtime.logs import KEPT_LINES, LogLine

if TYPE_CHECKING:
    from fnsync.service import Service

#: How often a log that is followed looks whether the server is stopping.
FOLLOW_TICK_S = 0.5
#: How often a log that is followed sends a blank line when it has nothing else to say.
KEEP_OPEN_S = 15.0
JSON, NDJSON = "application/json", "application/x-ndjson"


GROUP = "Operations"


class Healthy(BaseModel):
    status: bool = True


class Ready(BaseModel):
    ready: bool
    reason: str | None = None


class LogQuery(Form):
    #: How many lines to begin with.
    tail: int = Field(KEPT_LINES, ge=0, le=KEPT_LINES)
    #: Whether to go on with new lines.
    follow: bool = False


class LogLines(BaseModel):
    lines: list[LogLine]


class Operations:
    """Answers operators and their tools."""

    def __init__(
        self, service: Service, auth: Auth, tally: Tally, functions: FunctionEndpoints, previewing: Previewing
    ) -> None:
        self._service = service
        self._auth = auth
        self._functions = functions
        self._tally = tally
        self._previewing = previewing
        self._patience = Deadlines[Watch](UNWATCHED_S, Watch.begin)

    def routes(self) -> list[Route]:
        """What it answers."""
        return [
            Route(
                "GET",
                ("/healthz",),
                self.healthz,
                "anyone",
                "Whether the process answers",
                GROUP,
                answers={200: Answer(Healthy)},
            ),
            Route(
                "GET",
                ("/readyz",),
                self.readyz,
                "anyone",
                "Whether calls are taken",
                GROUP,
                answers={200: Answer(Ready), 503: Answer(Ready, "The server starts or stops")},
            ),
            Route(
                "GET",
                ("/metrics",),
                self.metrics,
                "anyone",
                "What Prometheus collects; with any token, and without one from the same machine; "
                "by function for admins and that machine",
                GROUP,
                answers={200: Answer(str, "Metrics", ("text/plain",))},
                errors=(Unauthorized,),
            ),
            Route(
                "GET",
                ("/api/status",),
                self.status,
                "admin",
                "How everything stands",
                GROUP,
                answers={200: Answer(dict[str, Any])},
            ),
            Route(
                "GET",
                prefixed("/functions/id/{id:path}/logs"),
                self.logs,
                "manager",
                "What a function printed and logged; with `@` and a ref behind the id as of that",
                "Functions",
                query=LogQuery,
                answers={200: Answer(LogLines, "The last lines; with `follow` NDJSON that goes on", (JSON, NDJSON))},
                errors=(Invalid, *PREVIEW_ERRORS),
            ),
        ]

    async def healthz(self, exchange: Exchange) -> None:
        """`GET /healthz`: the process answers."""
        await exchange.json(200, {"status": True})

    async def readyz(self, exchange: Exchange) -> None:
        """`GET /readyz`: 200 while calls are taken, else 503."""
        if self._service.draining:
            await exchange.json(503, {"ready": False, "reason": "draining"}, [(b"connection", b"close")])
        elif not self._service.reconciler.ready.is_set():
            await exchange.json(503, {"ready": False, "reason": "starting"}, [(b"retry-after", b"1")])
        else:
            await exchange.json(200, {"ready": True})

    async def status(self, exchange: Exchange) -> None:
        """`GET /api/status`, for admins."""
        await exchange.json(200, await asyncio.to_thread(self._service.status))

    async def metrics(self, exchange: Exchange) -> None:
        """`GET /metrics`: for any token, and without one for a direct connection from this machine.

        Functions are named to admins and to this machine only: somebody's own may be among them.
        """
        by_function = True
        if exchange.authorization or not _is_local(exchange):
            by_function = (await self._auth.caller(exchange)).is_admin
        from fnsync.api import metrics  # start time: prometheus_client

        body = await asyncio.to_thread(metrics.text, self._service, self._tally, by_function=by_function)
        await exchange.plain(200, metrics.MEDIA_TYPE, body, [])

    # ---- logs of functions ----

    async def logs(self, exchange: Exchange) -> None:
        """`GET /api/functions/id/{id}/logs?tail=N&follow=true`: lines as JSON; followed, as NDJSON that goes on."""
        id = await self._whose(exchange)
        query = read_query(exchange, LogQuery)
        if query.follow:
            await self._follow(exchange, id, query.tail)
        else:
            await exchange.json(200, {"lines": self._service.executor.logs.tail(id, query.tail)})

    async def _whose(self, exchange: Exchange) -> str:
        """What the log goes by that is asked for. Raises UnknownFunction, Unauthorized, UnknownRef."""
        id: str = exchange.scope["path_params"]["id"]
        if AT not in id:
            return self._functions.managed(exchange).unit.id
        asked = self._previewing.asked(id, exchange.caller)
        if asked is None:
            raise UnknownFunction(f"there is no function {id[:200]!r}")
        if not exchange.caller.is_admin:
            self._functions.managed_function(exchange, asked.id)
        return await self._previewing.previews.name(asked.id, asked.ref)

    async def _follow(self, exchange: Exchange, id: str, count: int) -> None:
        """Send the last lines, then each as it comes, until the client leaves or the server stops."""
        book = self._service.executor.logs
        await exchange.body(0)
        with Watch(exchange, self._patience):
            await exchange.start(200, NDJSON, [])
            async with aclosing(cast(AsyncGenerator[LogLine, None], book.follow(id))) as lines:
                following = asyncio.ensure_future(anext(lines))
                await asyncio.sleep(0)  # it listens now, so that no line is lost between the tail and the first
                await exchange.part(_ndjson(book.tail(id, count)))
                await self._send_lines(exchange, id, lines, following)
            await exchange.end()

    async def _send_lines(
        self, exchange: Exchange, id: str, lines: AsyncGenerator[LogLine, None], following: asyncio.Future[LogLine]
    ) -> None:
        sent_at = asked_at = time.monotonic()
        try:
            while not self._service.draining:
                done, _ = await asyncio.wait([following], timeout=FOLLOW_TICK_S)
                if time.monotonic() - asked_at >= FOLLOW_TICK_S:
                    exchange.caller = await asyncio.to_thread(self._auth.caller_now, exchange)
                    asked_at = time.monotonic()
                if not exchange.caller.is_admin:
                    self._functions.managed_function(exchange, FunctionId(id.partition(AT)[0]))
                if done:
                    await exchange.part(_ndjson([following.result()]))
                    following = asyncio.ensure_future(anext(lines))
                elif time.monotonic() - sent_at > KEEP_OPEN_S:
                    await exchange.part(b"\n")
                else:
                    continue
                sent_at = time.monotonic()
        except (Unauthorized, UnknownFunction):
            pass  # who may no longer read on is told no more; admins stay while a function is away
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def _ndjson(lines: list[LogLine]) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip"})


def _is_local(exchange: Exchange) -> bool:
    """Whether the client itself is on this machine; a proxy on it does not make its clients local."""
    client = exchange.scope.get("client")
    if not client or any(name in _FORWARDED for name, _ in exchange.scope["headers"]):
        return False
    return ip_address(client[0]).is_loopback
