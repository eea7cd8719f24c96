"""Says who calls: whose token a request shows."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable

import structlog

from fnsync.api.exchange import Exchange
from fnsync.api.tokentable import TokenTable
from fnsync.errors import FnsyncError, Unauthorized
from fnsync.model import User
from fnsync.store.state import State

#: How often the state is asked whether something changed.
REFRESH_S = 1.0
#: Longer ones are refused unread.
MAX_TOKEN_BYTES = 1024
#: Methods for which a cookie counts: another site can have a browser send one with any other too.
COOKIE_METHODS = frozenset({"GET", "HEAD"})

log = structlog.get_logger(__name__)


class Auth:
    """Says who a request's caller is."""

    def __init__(self, state: State, admin_token: str | None, ready: asyncio.Event) -> None:
        """`admin_token`: one more token, of the built-in admin, given from outside. `ready`: the server has started."""
        self._tokens = TokenTable(state, admin_token)
        self._ready = ready
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Keep up with the state until `close`, once the start is over: the first look loads SQLAlchemy."""
        self._task = asyncio.create_task(self._keep_up(), name="auth")

    async def close(self) -> None:
        """End that, and tell the state what it was not told yet."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._tokens.mark_used(final=True)

    async def caller(self, exchange: Exchange) -> User:
        """Return who calls. Raises Unauthorized."""
        token = _token(exchange)
        digest = hashlib.sha256(token).digest()
        entry = self._tokens.find(token, digest) or await self._tokens.find_new(token, digest)
        if entry is None:
            raise Unauthorized("the token is not known, or was revoked")
        if entry.user.role == "pending":
            raise Unauthorized("the account is waiting for an admin to accept it")
        return entry.user

    async def admin(self, exchange: Exchange) -> User:
        """Return the caller if it is an admin. Raises Unauthorized."""
        caller = await self.caller(exchange)
        if not caller.is_admin:
            raise Unauthorized("this needs an admin's token")
        return caller

    async def _keep_up(self) -> None:
        await self._ready.wait()
        while True:
            try:
                await self._tokens.refresh()
            except FnsyncError as exc:
                log.warning("tokens_not_refreshed", error=str(exc))
            await self._tokens.mark_used()
            await asyncio.sleep(REFRESH_S)


def _token(exchange: Exchange) -> bytes:
    """Return the token of `Authorization: Bearer <token>`, or of the cookie. Raises Unauthorized."""
    authorization = exchange.authorization
    if not authorization:
        return _cookie_token(exchange)
    scheme, _, token = authorization.partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not token or len(token) > MAX_TOKEN_BYTES:
        raise Unauthorized("the Authorization header is not of the form: Bearer <token>")
    return token


def _cookie_token(exchange: Exchange) -> bytes:
    token = _cookie(exchange.scope["headers"])
    if not token:
        raise Unauthorized("no token: send the header Authorization: Bearer <token>")
    if exchange.scope["method"] not in COOKIE_METHODS:
        raise Unauthorized("a cookie counts for GET and HEAD only: send the header Authorization: Bearer <token>")
    if len(token) > MAX_TOKEN_BYTES:
        raise Unauthorized("the cookie named token holds no token")
    return token


def _cookie(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the value of the first cookie named `token`."""
    for header, value in headers:
        if header == b"cookie":
            for cookie in value.split(b";"):
                name, _, token = cookie.strip().partition(b"=")
                if name == b"token":
                    return token.strip(b'"')
    return b""
