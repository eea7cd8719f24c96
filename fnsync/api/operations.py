"""What operators and their tools ask: health, readiness, status, metrics, logs of functions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from ipaddress import ip_address
from typing import TYPE_CHECKING, cast

import msgspec

from fnsync.api.auth import Auth
from fnsync.api.completions import UNWATCHED_S, Watch
from fnsync.api.exchange import Exchange
from fnsync.api.tally import Tally
from fnsync.deadlines import Deadlines
from fnsync.errors import Invalid, UnknownFunction
from fnsync.model import FunctionId
from fnsync.runtime.logs import KEPT_LINES, LogLine

if TYPE_CHECKING:
    from fnsync.service import Service

#: How often a log that is followed looks whether the server is stopping.
FOLLOW_TICK_S = 0.5
#: How often a log that is followed sends a blank line when it has nothing else to say.
KEEP_OPEN_S = 15.0
NDJSON = "application/x-ndjson"


class Operations:
    """Answers operators and their tools."""

    def __init__(self, service: Service, auth: Auth, tally: Tally) -> None:
        self._service = service
        self._auth = auth
        self._tally = tally
        self._patience = Deadlines[Watch](UNWATCHED_S, Watch.begin)

    async def healthz(self, exchange: Exchange) -> None:
        """`GET /healthz`: the process answers."""
        exchange.only("GET")
        await exchange.json(200, {"status": True})

    async def readyz(self, exchange: Exchange) -> None:
        """`GET /readyz`: 200 while calls are taken, else 503."""
        exchange.only("GET")
        if self._service.draining:
            await exchange.json(503, {"ready": False, "reason": "draining"}, [(b"connection", b"close")])
        elif not self._service.reconciler.ready.is_set():
            await exchange.json(503, {"ready": False, "reason": "starting"}, [(b"retry-after", b"1")])
        else:
            await exchange.json(200, {"ready": True})

    async def status(self, exchange: Exchange) -> None:
        """`GET /api/status`, for admins."""
        exchange.only("GET")
        await self._auth.admin(exchange.authorization)
        await exchange.json(200, await asyncio.to_thread(self._service.status))

    async def metrics(self, exchange: Exchange) -> None:
        """`GET /metrics`: for any token, and without one for a direct connection from this machine."""
        exchange.only("GET")
        if exchange.authorization or not _is_local(exchange):
            await self._auth.caller(exchange.authorization)
        from fnsync.api import metrics  # start time: prometheus_client

        body = await asyncio.to_thread(metrics.text, self._service, self._tally)
        await exchange.plain(200, metrics.MEDIA_TYPE, body, [])

    # ---- logs of functions ----

    async def logs(self, exchange: Exchange) -> None:
        """`GET /api/functions/id/{id}/logs?tail=N&follow=true`, for admins.

        Lines as JSON; followed, as NDJSON that goes on.
        """
        exchange.only("GET")
        await self._auth.admin(exchange.authorization)
        id: str = exchange.scope["path_params"]["id"]
        count = _tail(exchange.query.get("tail"))
        book = self._service.executor.logs
        if not book.tail(id, 1) and await asyncio.to_thread(self._service.index.row, FunctionId(id)) is None:
            raise UnknownFunction(f"there is no function {id[:200]!r}")
        if exchange.query.get("follow", "").lower() in ("1", "true", "yes"):
            await self._follow(exchange, id, count)
        else:
            await exchange.json(200, {"lines": book.tail(id, count)})

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
                await self._send_lines(exchange, lines, following)
            await exchange.end()

    async def _send_lines(
        self, exchange: Exchange, lines: AsyncGenerator[LogLine, None], following: asyncio.Future[LogLine]
    ) -> None:
        sent_at = time.monotonic()
        try:
            while not self._service.draining:
                done, _ = await asyncio.wait([following], timeout=FOLLOW_TICK_S)
                if done:
                    await exchange.part(_ndjson([following.result()]))
                    following = asyncio.ensure_future(anext(lines))
                elif time.monotonic() - sent_at > KEEP_OPEN_S:
                    await exchange.part(b"\n")
                else:
                    continue
                sent_at = time.monotonic()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def _ndjson(lines: list[LogLine]) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def _tail(text: str | None) -> int:
    if text is None:
        return KEPT_LINES
    if not text.isdecimal() or int(text) > KEPT_LINES:
        raise Invalid(f"tail must be a number from 0 to {KEPT_LINES}", param="tail")
    return int(text)


_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip"})


def _is_local(exchange: Exchange) -> bool:
    """Whether the client itself is on this machine; a proxy on it does not make its clients local."""
    client = exchange.scope.get("client")
    if not client or any(name in _FORWARDED for name, _ in exchange.scope["headers"]):
        return False
    return ip_address(client[0]).is_loopback
