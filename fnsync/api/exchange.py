"""One HTTP request and its answer: a short-lived object in front of ASGI's three arguments."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import msgspec
from starlette.datastructures import QueryParams
from starlette.types import Message, Receive, Scope, Send

from fnsync.api import errors
from fnsync.api.errors import ClientGone, Headers
from fnsync.chat.answers import is_media
from fnsync.errors import BodyTooLarge, Draining, FnsyncError, Invalid, RateLimited
from fnsync.model import Quota, User
from fnsync.units import format_size

#: How long the first part of a body may take, and each next one.
BODY_PATIENCE_S = 30.0
#: What a body that takes longer than that must have come with on average, in bytes per second.
SLOWEST_BODY = 16 * 1024
#: How long a body may take that is under way when the server begins to stop.
BODY_DRAIN_S = 2.0
#: How often a body that is waited for looks whether the server is stopping.
BODY_TICK_S = 0.5
#: How long a body that is too large is read on and thrown away, so that a client that sends before it reads
#: gets the answer and no broken connection.
LINGER_S = 5.0

#: ASGI extension of our server: a Connection.
CONNECTION = "fnsync.connection"

#: Whom a route is for: without a token; without one, but signed as the endpoint checks; with any token; with an
#: admin's; with that of an admin or, where users may have functions of their own, of whoever the endpoint finds to be
#: its owner.
Who = Literal["anyone", "sender", "caller", "admin", "manager"]
#: For them nobody is asked for a token.
WITHOUT_TOKEN: frozenset[Who] = frozenset({"anyone", "sender"})

#: Who calls where nobody was asked to say.
NOBODY = User("", "", "", "pending")

_CLOSE = (b"connection", b"close")


class Connection(Protocol):
    """What our server can do for a request beyond ASGI."""

    def hold_head(self) -> None:
        """Send the answer's head together with what follows it."""

    def has_body(self) -> bool:
        """Whether the whole body has arrived."""


class Exchange:
    """Reads a request's body and sends its answer."""

    __slots__ = (
        "scope",
        "status",
        "openai",
        "authorization",
        "events",
        "is_service",
        "who",
        "caller",
        "names_users",
        "headers",
        "quota",
        "event_stream",
        "left",
        "ended",
        "receive",
        "send",
        "_connection",
        "_draining",
        "_length",
        "_expects",
        "_unread",
        "_stalled",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, draining: Callable[[], bool]) -> None:
        """`draining`: whether the server is stopping."""
        self.scope = scope
        #: The answer's status; 0: not begun.
        self.status = 0
        path: str = scope["path"]
        self.openai = path.startswith("/v1/") or path == "/v1"
        self.authorization = b""
        #: Whether the client wants to see what functions emit; None: it does not say.
        self.events: bool | None = None
        #: Whether its token was made for a chat service.
        self.is_service = False
        #: Whom the route is for.
        self.who: Who = "anyone"
        #: Who calls; set before a route that needs a token is entered.
        self.caller = NOBODY
        #: Whether the caller may say in the body whom they call for.
        self.names_users = False
        #: Headers that an answer has even if it is an error.
        self.headers: Sequence[tuple[bytes, bytes]] = ()
        #: How it stands with the caller's rate limit, which every answer then tells.
        self.quota: Quota | None = None
        self.event_stream = False
        #: Whether the client closed the connection before the answer was complete.
        self.left = False
        self.ended = False
        self.receive = receive
        self.send = send
        self._connection: Connection | None = scope.get("extensions", {}).get(CONNECTION)
        self._draining = draining
        self._length = 0
        self._expects = False
        self._unread = True
        self._stalled = False
        for name, value in scope["headers"]:
            if name == b"authorization":
                self.authorization = value
            elif name == b"content-length":
                self._length = int(value)
            elif name == b"expect":
                self._expects = True
            elif name == b"x-fnsync-events":
                self.events = value.strip() not in (b"", b"0", b"false")

    # ---- the request -------------------------------------------------------------------------------------

    @property
    def query(self) -> QueryParams:
        """The query of the address, decoded."""
        return QueryParams(self.scope["query_string"])

    async def body(self, limit: int) -> bytes:
        """Return the whole body.

        Raises BodyTooLarge above `limit` bytes, ClientGone, Invalid when it stalls or trickles, and Draining when
        the server stops before it has come.
        """
        if self._length > limit:
            raise _too_large(limit)
        # A timer for each request would cost much where a call takes so little; most bodies come with their head.
        here = self._connection is not None and self._connection.has_body()
        receive = self.receive if here else _Patience(self.receive, self._draining).receive
        parts, size = [], 0
        while self._unread:
            try:
                message = await receive()
            except (Invalid, Draining):
                self._stalled = True
                raise
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            self._unread = bool(message.get("more_body", False))
            if size > limit:
                raise _too_large(limit)
        return b"".join(parts)

    async def gone(self) -> None:
        """Return when the client has closed the connection. For after the body was read."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    # ---- the answer --------------------------------------------------------------------------------------

    async def plain(self, status: int, media_type: str, body: bytes, headers: Headers) -> None:
        """Send a whole answer."""
        self.status = status
        head = [(b"content-type", media_type.encode("latin-1")), (b"content-length", b"%d" % len(body)), *headers]
        if self.quota is not None:
            head = _with_quota(head, self.quota)
        if self._unread and (self._expects or self._stalled):
            head.append(_CLOSE)  # the client may or may not send its body now; nobody could tell
        self._hold_head()
        await self.send({"type": "http.response.start", "status": status, "headers": head})
        self.ended = True
        await self.send({"type": "http.response.body", "body": body})

    async def json(self, status: int, value: Any, headers: Headers | None = None) -> None:
        """Send a whole answer: `value` as JSON."""
        await self.plain(status, "application/json", msgspec.json.encode(value), headers or [])

    async def start(self, status: int, media_type: str, headers: Headers) -> None:
        """Begin a streamed answer."""
        self.status = status
        self.event_stream = is_media(media_type, "text/event-stream")
        head = [(b"content-type", media_type.encode("latin-1")), *headers]
        if self.quota is not None:
            head = _with_quota(head, self.quota)
        self._hold_head()
        await self.send({"type": "http.response.start", "status": status, "headers": head})

    async def part(self, data: bytes) -> None:
        """Send some of a streamed answer; waits while the client does not read."""
        await self.send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """End a streamed answer."""
        self.ended = True
        await self.send({"type": "http.response.body", "body": b""})

    async def error(self, exc: FnsyncError, *, close: bool = False) -> None:
        """Answer with an error. Not for an answer that has begun."""
        body = errors.body(exc, openai=self.openai, admin=self.caller.is_admin)
        if isinstance(exc, RateLimited):
            self.quota = None  # the error has its own
        head = [*errors.headers(exc), *self.headers]
        if isinstance(exc, BodyTooLarge):
            await self._refuse(exc.status, msgspec.json.encode(body), head)
            return
        await self.json(exc.status, body, [*head, _CLOSE] if close else head)

    def _hold_head(self) -> None:
        """Have the head go out with the body, if the server can do that and there will be one."""
        if self._connection is not None and self.scope["method"] != "HEAD":
            self._connection.hold_head()

    async def _refuse(self, status: int, body: bytes, headers: Headers) -> None:
        """Answer while the body is still coming, then throw it away for a while and close."""
        self.status = status
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers, _CLOSE]
        await self.send({"type": "http.response.start", "status": status, "headers": head})
        await self.send({"type": "http.response.body", "body": body, "more_body": True})
        if not self._expects:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    while self._unread:
                        self._unread = bool((await self.receive()).get("more_body", False))
        await self.end()


class _Patience:
    """Receives the parts of one body, and loses patience when it stalls, trickles, or holds up a stop."""

    def __init__(self, receive: Receive, draining: Callable[[], bool]) -> None:
        self._receive = receive
        self._draining = draining
        self._began_at = time.monotonic()
        self._size = 0
        self._stop_at = math.inf

    async def receive(self) -> Message:
        """Return the next message. Raises Invalid and Draining."""
        asked_at = time.monotonic()
        until = min(asked_at, self._began_at + self._size / SLOWEST_BODY) + BODY_PATIENCE_S
        while True:
            now = time.monotonic()
            if self._stop_at is math.inf and self._draining():
                self._stop_at = now + BODY_DRAIN_S
            if now >= self._stop_at:
                raise Draining("the server is stopping, and the body of the request had not come")
            if now >= until:
                waited = f"{now - self._began_at:.0f} s"
                raise Invalid(f"the body does not come fast enough: {self._size} bytes of it in {waited}")
            try:
                # What arrives in the moment of the timeout is there at the next turn.
                async with asyncio.timeout(min(BODY_TICK_S, until - now)):
                    message = await self._receive()
            except TimeoutError:
                continue
            self._size += len(message.get("body", b""))
            return message


def _with_quota(head: Headers, quota: Quota) -> Headers:
    """Add what tells of the limits here; what an upstream or a function tells of its own would be taken for them."""
    ours = errors.quota_headers(quota)
    names = {name for name, _ in ours}
    return [*(one for one in head if one[0] not in names), *ours]


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {format_size(limit)}, the server's limit")
