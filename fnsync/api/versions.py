"""The versions of a function: listed, shown, compared, and gone back to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from fnsync import editions
from fnsync.api.answers import Difference, Entry, Full, Snapshot
from fnsync.api.answers import Version as VersionAnswer
from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form, read_query
from fnsync.api.functions import EDIT_ERRORS, GROUP, PROPOSED, FunctionEndpoints, if_match
from fnsync.api.routes import Route, api_route, ok
from fnsync.edits import messages
from fnsync.edits.exports import full
from fnsync.errors import Conflict, Invalid, NotFound, Unavailable, UnknownFunction
from fnsync.git.versions import Version
from fnsync.model import Unit

if TYPE_CHECKING:
    from fnsync.service import Service

#: Entries of one answer; the peer's number.
PAGE = 20
#: What a version may be named by.
_VERSION = Field(max_length=100, description="A version's commit; its first digits do")


class PageQuery(Form):
    page: int = Field(1, le=1_000_000, description=f"From 1; a page has {PAGE} entries")


class DifferenceQuery(Form):
    from_id: str = _VERSION
    to_id: str = _VERSION


class VersionForm(Form):
    version_id: str = _VERSION
    commit_message: str | None = Field(None, description="Of the commit that the rollback is")


class VersionEndpoints:
    """Answers what concerns versions."""

    def __init__(self, service: Service, functions: FunctionEndpoints) -> None:
        self._manager = service.manager
        self._archive = service.archive
        self._functions = functions

    def routes(self) -> list[Route]:
        """What it answers."""
        id = "/functions/id/{id}"
        history = f"{id}/history"
        one = f"{history}/{{version}}"
        errors = (UnknownFunction, NotFound, Unavailable)
        return [
            api_route(
                "GET",
                history,
                self.list,
                "manager",
                "Its versions, newest first",
                GROUP,
                ok(list[Entry]),
                query=PageQuery,
                errors=(UnknownFunction, Unavailable),
            ),
            api_route(
                "GET",
                f"{history}/diff",
                self.difference,
                "manager",
                "How two versions differ",
                GROUP,
                ok(Difference),
                query=DifferenceQuery,
                errors=(*errors, Invalid),
            ),
            api_route(
                "GET",
                one,
                self.get,
                "manager",
                "What it was at a version",
                GROUP,
                ok(VersionAnswer),
                errors=(*errors, Invalid),
            ),
            api_route(
                "DELETE",
                one,
                self.delete,
                "manager",
                "Always refused: git keeps every version",
                GROUP,
                {},
                errors=(*errors, Conflict),
            ),
            api_route(
                "POST",
                f"{id}/update/version",
                self.roll_back,
                "manager",
                "Go back to a version, in a new commit",
                GROUP,
                {**ok(Full), 202: PROPOSED},
                body=VersionForm,
                errors=(*EDIT_ERRORS, UnknownFunction, NotFound),
            ),
        ]

    async def list(self, exchange: Exchange) -> None:
        unit = self._unit(exchange)
        page = max(1, read_query(exchange, PageQuery).page)

        def read() -> list[dict[str, Any]]:
            found = self._archive.versions(unit, (page - 1) * PAGE, PAGE)
            users = self._functions.owners()
            return [_entry(unit, version, users) for version in found]

        await exchange.json(200, await asyncio.to_thread(read))

    async def get(self, exchange: Exchange) -> None:
        unit = self._unit(exchange)
        text = exchange.scope["path_params"]["version"]

        def read() -> dict[str, Any]:
            version, was = self._archive.edition(unit, text)
            snapshot = Snapshot(name=was.name, content=was.content, meta=dict(was.meta))
            return {**_entry(unit, version, self._functions.owners()), "snapshot": snapshot.model_dump()}

        await exchange.json(200, await asyncio.to_thread(read))

    async def difference(self, exchange: Exchange) -> None:
        unit = self._unit(exchange)
        query = read_query(exchange, DifferenceQuery)

        def read() -> dict[str, Any]:
            (before, old), (after, new) = (self._archive.edition(unit, text) for text in (query.from_id, query.to_id))
            return {"from_id": before.commit, "to_id": after.commit, **editions.difference(old, new)}

        await exchange.json(200, await asyncio.to_thread(read))

    async def delete(self, exchange: Exchange) -> None:
        version = await asyncio.to_thread(
            self._archive.version, self._unit(exchange), exchange.scope["path_params"]["version"]
        )
        raise Conflict(
            f"{version.commit[:12]} is a commit: git keeps every version, and none is taken out of its history here"
        )

    async def roll_back(self, exchange: Exchange) -> None:
        self._functions.managed(exchange)
        form = await self._functions.body(exchange, VersionForm)
        id = self._unit(exchange).id
        terms = self._functions.terms(exchange, form.commit_message, if_match(exchange))
        await self._functions.answer(exchange, await self._manager.roll_back(id, form.version_id, terms), full)

    def _unit(self, exchange: Exchange) -> Unit:
        return self._functions.managed(exchange).unit


def _entry(unit: Unit, version: Version, users: Callable[[str], Mapping[str, Any] | None]) -> dict[str, Any]:
    """A version as the API lists it."""
    user_id = version.user_id or version.email
    user = users(user_id)
    return {
        "id": version.commit,
        "function_id": unit.id,
        "parent_id": version.parent,
        "user_id": user["id"] if user else user_id,
        "commit_message": messages.said(version.message, unit.id) if version.user_id else version.message,
        "created_at": version.at,
        "user": {"name": user["name"] if user else version.author},
    }
