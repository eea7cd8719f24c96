"""Users over HTTP, for admins. What they change counts from the next request on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from pydantic import BaseModel, Field

from fnsync.api.auth import Auth
from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form
from fnsync.api.routes import Answer, Route, prefixed
from fnsync.errors import Conflict, Invalid, NotFound
from fnsync.model import Role
from fnsync.store.users import EMAIL_CHARACTERS, NAME_CHARACTERS, Account, Origin

if TYPE_CHECKING:
    from fnsync.service import Service

GROUP = "Users"

log = structlog.get_logger(__name__)


class NewUser(Form):
    email: str = Field(min_length=1, max_length=EMAIL_CHARACTERS)
    #: Empty: that of the address.
    name: str = Field("", max_length=NAME_CHARACTERS)
    role: Role = "user"


class UserChange(Form):
    """What is left out, or null, stays."""

    email: str | None = Field(None, min_length=1, max_length=EMAIL_CHARACTERS)
    name: str | None = Field(None, min_length=1, max_length=NAME_CHARACTERS)
    role: Role | None = None


class UserAnswer(BaseModel):
    id: str
    name: str
    email: str
    role: Role
    #: `local`: added here; `forwarded`: named by a chat server.
    origin: Origin
    created_at: int


class UserList(BaseModel):
    users: list[UserAnswer]


class UserEndpoints:
    """Answers what is asked about users."""

    def __init__(self, service: Service, auth: Auth) -> None:
        self._state = service.state
        self._filing = service.filing
        self._max_body = service.config.server.max_body
        self._auth = auth

    def routes(self) -> list[Route]:
        """What it answers."""
        users, one = prefixed("/users"), prefixed("/users/{id}")
        user = {200: Answer(UserAnswer)}
        return [
            Route("GET", users, self.list_all, "admin", "List the users", GROUP, answers={200: Answer(UserList)}),
            Route(
                "POST",
                users,
                self.add,
                "admin",
                "Add a user",
                GROUP,
                body=NewUser,
                answers=user,
                errors=(Invalid, Conflict),
            ),
            Route("GET", one, self.get, "admin", "Describe a user", GROUP, answers=user, errors=(NotFound,)),
            Route(
                "PUT",
                one,
                self.change,
                "admin",
                "Change a user's name, address or role",
                GROUP,
                body=UserChange,
                answers=user,
                errors=(Invalid, NotFound, Conflict),
            ),
            Route(
                "DELETE",
                one,
                self.remove,
                "admin",
                "Remove a user with their tokens, user valves, and what functions keep for them",
                GROUP,
                answers={200: Answer(bool, "true")},
                errors=(NotFound, Conflict),
            ),
        ]

    async def list_all(self, exchange: Exchange) -> None:
        accounts = await asyncio.to_thread(self._state.accounts)
        await exchange.json(200, {"users": [_answer(account) for account in accounts]})

    async def add(self, exchange: Exchange) -> None:
        form = await self._auth.body(exchange, NewUser, self._max_body)
        added = await asyncio.to_thread(self._state.add_user, name=form.name, email=form.email, role=form.role)
        log.info("user_added", user=added.id, role=added.role, by=exchange.caller.id)
        await self._auth.refresh()
        await self._send(exchange, added.id)

    async def get(self, exchange: Exchange) -> None:
        await self._send(exchange, exchange.scope["path_params"]["id"])

    async def change(self, exchange: Exchange) -> None:
        id: str = exchange.scope["path_params"]["id"]
        form = await self._auth.body(exchange, UserChange, self._max_body)
        if id == exchange.caller.id and form.role not in (None, exchange.caller.role):
            raise Conflict("this is your own account: another admin has to take the admin role from you")
        changed = await asyncio.to_thread(self._state.update_user, id, name=form.name, email=form.email, role=form.role)
        log.info("user_changed", user=id, role=changed.role, by=exchange.caller.id)
        await self._auth.refresh()
        await self._send(exchange, id)

    async def remove(self, exchange: Exchange) -> None:
        id: str = exchange.scope["path_params"]["id"]
        if id == exchange.caller.id:
            raise Conflict("this is your own account: another admin has to remove it")
        await asyncio.to_thread(self._state.remove_user, id)
        await asyncio.to_thread(self._filing.forget, id)
        log.info("user_removed", user=id, by=exchange.caller.id)
        await self._auth.refresh()
        await exchange.json(200, True)

    async def _send(self, exchange: Exchange, id: str) -> None:
        account = await asyncio.to_thread(self._state.account, id)
        if account is None:
            raise NotFound(f"there is no user {id[:64]!r}")
        await exchange.json(200, _answer(account))


def _answer(account: Account) -> dict[str, object]:
    user = account.user
    answer = UserAnswer(
        id=user.id,
        name=user.name,
        email=user.email,
        role=user.role,
        origin=account.origin,
        created_at=account.created_at,
    )
    return answer.model_dump()
