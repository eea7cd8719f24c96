"""Says who calls: the user of a token, or the one whom a chat server's token names."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

import structlog

from fnsync.admin import VARIABLE
from fnsync.api.chatusers import ChatUsers
from fnsync.api.exchange import Exchange
from fnsync.api.forms import F, read_body
from fnsync.api.forwarded import EMAIL, ID, NAME, ROLE, SIGNED, user_headers, user_of
from fnsync.api.jwts import ChatTokens
from fnsync.api.logins import Logins
from fnsync.api.tokentable import Entry, TokenTable
from fnsync.config import AuthConfig
from fnsync.errors import FnsyncError, RateLimited, Unauthorized
from fnsync.model import Rate, User, lesser
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

    def __init__(
        self,
        state: State,
        config: AuthConfig,
        failures: Rate | None,
        environ: Mapping[str, str],
        ready: asyncio.Event,
    ) -> None:
        """`failures`: wrong tokens per address; None: any number. `ready`: the server has started.

        Raises ConfigError for secrets that are named but not there.
        """
        self._tokens = TokenTable(state, environ.get(VARIABLE))
        self._chat_users = ChatUsers(state)
        self._chat_tokens = ChatTokens(config.jwt, environ) if config.jwt is not None else None
        self._logins = Logins(failures)
        self._takes_names = config.forwarded_user_headers
        self._user_functions = config.user_functions
        self._ready = ready
        self._generation = -1
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Keep up with the state until `close`, once the start is over: the first look loads SQLAlchemy."""
        self._task = asyncio.create_task(self._keep_up(), name="auth")

    async def close(self) -> None:
        """End that, and tell the state what it was not told yet."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._chat_users.remember()
            await self._tokens.mark_used(final=True)

    async def caller(self, exchange: Exchange) -> User:
        """Return who calls, if the route is for them.

        Raises Unauthorized, RateLimited after too many wrong tokens from the client's address, and Invalid when
        headers that name a user cannot be understood.
        """
        token = _token(exchange)
        digest = hashlib.sha256(token).digest()
        address = _address(exchange)
        wait_s = self._logins.wait_s(address)
        if wait_s and not self._logins.knows(address, digest):
            raise _blocked(wait_s)
        entry = self._tokens.find(token, digest)
        if entry is None:
            try:
                entry = await self._look_further(token, digest, wait_s)
            except Unauthorized:
                self._failed(address)
                raise
        self._logins.accepted(address, digest)
        caller = self._meant(entry, exchange)
        if caller is not entry.user:
            self._chat_users.named(caller)
        # A service token speaks for others; where headers say for whom, nothing else does.
        speaks = entry.ceiling is not None and self._takes_names and caller is entry.user
        exchange.names_users = speaks or caller.is_admin
        exchange.is_service = entry.ceiling is not None
        return self._admitted(caller, exchange)

    def caller_now(self, exchange: Exchange) -> User:
        """Return who calls, by what the state says at this moment: a request may take long. Blocking.

        Raises Unauthorized and StoreError.
        """
        token = _token(exchange)
        digest = hashlib.sha256(token).digest()
        entry = self._tokens.find_now(token, digest)
        if entry is None:
            if self._chat_tokens is None or not _is_signed(token):
                raise _unknown()
            id = self._chat_tokens.login(token)
            return self._admitted(self._login(id, self._chat_users.known_now(id), self._chat_tokens), exchange)
        return self._admitted(self._meant(entry, exchange), exchange)

    # ---- senders of webhooks, who have no token but a secret --------------------------------------------------

    def check_sender(self, exchange: Exchange, digest: bytes) -> None:
        """Raise RateLimited after too many wrong tokens and signatures from the client's address, unless the secret
        with that SHA-256 was right from there before."""
        address = _address(exchange)
        wait_s = self._logins.wait_s(address)
        if wait_s and not self._logins.knows(address, digest):
            raise _blocked(wait_s)

    def sender_failed(self, exchange: Exchange) -> None:
        """Count a wrong signature."""
        self._failed(_address(exchange))

    def sender_accepted(self, exchange: Exchange, digest: bytes) -> None:
        """Note that the secret with that SHA-256 was right."""
        self._logins.accepted(_address(exchange), digest)

    # ---- what was decided, later -------------------------------------------------------------------------------

    async def body(self, exchange: Exchange, form: type[F], limit: int) -> F:
        """The body of a request, of `limit` bytes at most. The caller is from then on who they are once it has come,
        which may take a while.

        Raises Unauthorized, StoreError, and what `read_body` does.
        """
        read = await read_body(exchange, form, limit)
        exchange.caller = await asyncio.to_thread(self.caller_now, exchange)
        return read

    async def raw_body(self, exchange: Exchange, limit: int) -> bytes:
        """The body of a request as it came, otherwise as `body`."""
        data = await exchange.body(limit)
        exchange.caller = await asyncio.to_thread(self.caller_now, exchange)
        return data

    def _admitted(self, caller: User, exchange: Exchange) -> User:
        """Return the caller, for whom the route is. Raises Unauthorized."""
        if caller.role == "pending":
            raise Unauthorized("the account is waiting for an admin to accept it")
        is_for_all = exchange.who in ("anyone", "caller") or (exchange.who == "manager" and self._user_functions)
        if not (is_for_all or caller.is_admin):
            raise Unauthorized("this needs an admin's token")
        return caller

    async def refresh(self) -> None:
        """Let what was changed in the state count from now on. Raises StoreError."""
        await self._tokens.refresh()
        if self._tokens.generation != self._generation:
            self._generation = self._tokens.generation
            self._chat_users.forget()

    # ---- tokens that are not in the table -----------------------------------------------------------------

    def _failed(self, address: str) -> None:
        self._logins.failed(address)
        if self._logins.wait_s(address):
            log.warning("too_many_wrong_tokens", address=address)

    async def _look_further(self, token: bytes, digest: bytes, wait_s: float) -> Entry:
        """Return the entry of a token that was not found. Raises Unauthorized, and RateLimited if one has to wait."""
        if self._chat_tokens is not None and _is_signed(token):
            return Entry("", digest, await self._logged_in(token, self._chat_tokens))
        if wait_s:
            raise _blocked(wait_s)
        entry = await self._tokens.find_new(token, digest)
        if entry is None:
            raise _unknown()
        return entry

    async def _logged_in(self, token: bytes, chat_tokens: ChatTokens) -> User:
        """Return the user who logged in at the chat server with that token. Raises Unauthorized."""
        id = chat_tokens.login(token)
        if self._tokens.generation < 0:
            await self._tokens.refresh()
        return self._login(id, await self._chat_users.known(id), chat_tokens)

    def _login(self, id: str, known: User | None, chat_tokens: ChatTokens) -> User:
        """Return the user of that id at the chat server, of whom nothing need be known. Raises Unauthorized."""
        self._check_foreign(id)
        if known is None:
            return User(id, id, "", "user")
        return replace(known, role=lesser(known.role, chat_tokens.ceiling))

    def _meant(self, entry: Entry, exchange: Exchange) -> User:
        """Return the user for whom a token calls: whom it names if it is a service token, else its owner."""
        ceiling = entry.ceiling
        if ceiling is None or entry.user.role == "pending" or not self._takes_names:
            return entry.user
        said = user_headers(exchange.scope["headers"])
        if not said:
            return entry.user
        if SIGNED not in said:
            user = user_of(ceiling, said.get(ID), said.get(NAME), said.get(EMAIL), said.get(ROLE))
        elif self._chat_tokens is not None:
            user = self._chat_tokens.forwarded(said[SIGNED], ceiling)
        else:
            # Taking the owner instead would make all users of the chat server one.
            hint = "name the secret it is signed with: auth.jwt.secret"
            raise Unauthorized("the token in X-OpenWebUI-User-Jwt cannot be checked", hint=hint)
        self._check_foreign(user.id)
        return user

    def _check_foreign(self, id: str) -> None:
        """Raise Unauthorized for a user of a chat server who would get what is a local user's: functions and valves."""
        if id in self._tokens.local_ids:
            raise Unauthorized(
                f"the chat server's user {id!r} has the id of a user who was added here, and would be taken for them",
                hint="the chat server has to call its user by another id; a local user calls with a token of their own",
            )

    # ---- keeping up ---------------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        await self._ready.wait()
        while True:
            try:
                await self.refresh()
            except FnsyncError as exc:
                log.warning("tokens_not_refreshed", error=str(exc))
            await self._chat_users.remember()
            await self._tokens.mark_used()
            await asyncio.sleep(REFRESH_S)


def _address(exchange: Exchange) -> str:
    client = exchange.scope.get("client")
    return client[0] if client else ""


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


def _is_signed(token: bytes) -> bool:
    """Whether a token looks like a chat server's: a JWT."""
    return token.count(b".") == 2


def _unknown() -> Unauthorized:
    return Unauthorized("the token is not known, or was revoked")


def _blocked(wait_s: float) -> RateLimited:
    return RateLimited("too many wrong tokens came from this address", retry_after_s=wait_s)
