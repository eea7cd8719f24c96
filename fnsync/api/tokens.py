"""Tokens over HTTP, for admins. What they change counts from the next request on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import BaseModel, Field

from fnsync.api.auth import Auth
from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form
from fnsync.api.routes import Answer, Route, prefixed
from fnsync.errors import Conflict, Invalid, NotFound
from fnsync.model import Ceiling
from fnsync.store.state import Token
from fnsync.store.tokens import LABEL_CHARACTERS

if TYPE_CHECKING:
    from fnsync.service import Service

GROUP = "Tokens"

log = structlog.get_logger(__name__)


class NewToken(Form):
    #: What it is for.
    label: str = Field("", max_length=LABEL_CHARACTERS)
    #: Makes it a service token, which may say for whom it calls: the most that these get.
    ceiling: Ceiling | None = None


class TokenAnswer(BaseModel):
    id: str
    user_id: str
    label: str
    #: Of a service token.
    ceiling: Ceiling | None
    created_at: int
    last_used_at: int | None


class TokenList(BaseModel):
    tokens: list[TokenAnswer]


class MadeToken(TokenAnswer):
    #: The token itself, which is not kept.
    token: str


class TokenEndpoints:
    """Answers what is asked about tokens."""

    def __init__(self, service: Service, auth: Auth) -> None:
        self._state = service.state
        self._max_body = service.config.server.max_body
        self._auth = auth

    def routes(self) -> list[Route]:
        """What it answers."""
        of_user = prefixed("/users/{id}/tokens")
        tokens = {200: Answer(TokenList)}
        return [
            Route(
                "GET",
                of_user,
                self.list_of_user,
                "admin",
                "List a user's tokens",
                GROUP,
                answers=tokens,
                errors=(NotFound,),
            ),
            Route(
                "POST",
                of_user,
                self.make,
                "admin",
                "Make a token for a user; its text is answered this once",
                GROUP,
                body=NewToken,
                answers={200: Answer(MadeToken)},
                errors=(Invalid, NotFound, Conflict),
            ),
            Route("GET", prefixed("/tokens"), self.list_all, "admin", "List all tokens", GROUP, answers=tokens),
            Route(
                "DELETE",
                prefixed("/tokens/{id}"),
                self.revoke,
                "admin",
                "Revoke a token",
                GROUP,
                answers={200: Answer(bool, "true")},
                errors=(NotFound,),
            ),
        ]

    async def list_all(self, exchange: Exchange) -> None:
        await self._send(exchange, await asyncio.to_thread(self._state.tokens))

    async def list_of_user(self, exchange: Exchange) -> None:
        id: str = exchange.scope["path_params"]["id"]
        if await asyncio.to_thread(self._state.user, id) is None:
            raise NotFound(f"there is no user {id[:64]!r}")
        await self._send(exchange, await asyncio.to_thread(self._state.tokens, id))

    async def make(self, exchange: Exchange) -> None:
        id: str = exchange.scope["path_params"]["id"]
        form = await self._auth.body(exchange, NewToken, self._max_body)
        token, text = await asyncio.to_thread(self._state.add_token, id, form.label, ceiling=form.ceiling)
        log.info("token_made", token=token.id, user=id, ceiling=token.ceiling, by=exchange.caller.id)
        await self._auth.refresh()
        await exchange.json(200, MadeToken(**_fields(token), token=text).model_dump())

    async def revoke(self, exchange: Exchange) -> None:
        id: str = exchange.scope["path_params"]["id"]
        if not await asyncio.to_thread(self._state.revoke, id):
            raise NotFound(f"there is no token {id[:64]!r}")
        log.info("token_revoked", token=id, by=exchange.caller.id)
        await self._auth.refresh()
        await exchange.json(200, True)

    async def _send(self, exchange: Exchange, tokens: list[Token]) -> None:
        answer = TokenList(tokens=[TokenAnswer(**_fields(token)) for token in tokens])
        await exchange.json(200, answer.model_dump())


def _fields(token: Token) -> dict[str, Any]:
    names = ("id", "user_id", "label", "ceiling", "created_at", "last_used_at")
    return {name: getattr(token, name) for name in names}
