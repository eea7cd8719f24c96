"""The versions of a function: listed, shown, compared, and gone back to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from fnsync import editions
from fnsync.api.answers import Difference, Entry, Full, Snapshot, Versions
from fnsync.api.answers import Version as VersionAnswer
from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form, read_query
from fnsync.api.functions import EDIT_ERRORS, GROUP, PROPOSED, FunctionEndpoints, if_match
from fnsync.api.plans import DifferenceAnswer
from fnsync.api.routes import Route, api_route, ok
from fnsync.editions import Edition
from fnsync.edits import messages
from fnsync.edits.archive import Archive
from fnsync.edits.exports import full
from fnsync.edits.versions import BEFORE, DISK, Held, State, compared, history, meaning
from fnsync.errors import Conflict, Invalid, NotFound, Unavailable, UnknownFunction
from fnsync.git.versions import Version
from fnsync.model import LiveFunction, Unit

if TYPE_CHECKING:
    from fnsync.service import Service
    from fnsync.source.snapshots import Snapshots

#: Looks users up by id, or by the e-mail address that a commit has.
Users = Callable[[str], Mapping[str, Any] | None]
#: Entries of one answer; the peer's number.
PAGE = 20
#: What a version may be named by.
_VERSION = Field(max_length=100, description="A version's commit; its first digits do")


class PageQuery(Form):
    page: int = Field(1, le=1_000_000, description=f"From 1; a page has {PAGE} entries")


class DifferenceQuery(Form):
    from_id: str = _VERSION
    to_id: str = _VERSION


class ListQuery(Form):
    limit: int = Field(PAGE, ge=1, le=1_000)


class ComparisonQuery(Form):
    before: str = Field(BEFORE, max_length=100, description="A version's commit, `disk`, or `before`: the one before")
    after: str = Field(DISK, max_length=100, description="A version's commit, or `disk`: what is on disk now")


class Comparison(BaseModel):
    """How two states of a function differ. A state is a commit, or `disk`."""

    id: str
    before: str | None = Field(description="null: nothing came before")
    after: str
    changes: list[DifferenceAnswer] = Field(description="What that means for the function; values of valves never")
    diff: str = Field(description="A unified diff, of the source first; settings are in `changes`")
    line_endings_only: bool


class VersionForm(Form):
    version_id: str = _VERSION
    commit_message: str | None = Field(None, description="Of the commit that the rollback is")


class VersionEndpoints:
    """Answers what concerns versions."""

    def __init__(self, service: Service, functions: FunctionEndpoints) -> None:
        self._manager = service.manager
        self._archive = service.archive
        self._snapshots = service.snapshots
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
                "GET",
                f"{id}/versions",
                self.listing,
                "manager",
                "Its versions, newest first, and which of them is in use",
                GROUP,
                ok(Versions),
                query=ListQuery,
                errors=(UnknownFunction, NotFound, Unavailable),
            ),
            api_route(
                "GET",
                f"{id}/versions/diff",
                self.comparison,
                "manager",
                "How two versions differ, or one and what is on disk, and what that means",
                GROUP,
                ok(Comparison),
                query=ComparisonQuery,
                errors=(*errors, Invalid),
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
            return [entry(unit, version, users) for version in found]

        await exchange.json(200, await asyncio.to_thread(read))

    async def get(self, exchange: Exchange) -> None:
        unit = self._unit(exchange)
        text = exchange.scope["path_params"]["version"]

        def read() -> dict[str, Any]:
            version, was = self._archive.edition(unit, text)
            snapshot = Snapshot(name=was.name, content=was.content, meta=dict(was.meta))
            return {**entry(unit, version, self._functions.owners()), "snapshot": snapshot.model_dump()}

        await exchange.json(200, await asyncio.to_thread(read))

    async def difference(self, exchange: Exchange) -> None:
        unit = self._unit(exchange)
        query = read_query(exchange, DifferenceQuery)

        def read() -> dict[str, Any]:
            (before, old), (after, new) = (self._archive.edition(unit, text) for text in (query.from_id, query.to_id))
            return {"from_id": before.commit, "to_id": after.commit, **editions.difference(old, new)}

        await exchange.json(200, await asyncio.to_thread(read))

    async def listing(self, exchange: Exchange) -> None:
        standing = self._functions.managed(exchange)
        limit = read_query(exchange, ListQuery).limit

        def read() -> dict[str, Any]:
            users = self._functions.owners()
            return listed(self._archive, standing.unit, limit, users, standing.live, self._snapshots)

        await exchange.json(200, await asyncio.to_thread(read))

    async def comparison(self, exchange: Exchange) -> None:
        unit = self._unit(exchange)
        query = read_query(exchange, ComparisonQuery)
        await exchange.json(200, await asyncio.to_thread(comparison, self._archive, unit, query.before, query.after))

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


# ---- the answers -----------------------------------------------------------------------------------------


def listed(
    archive: Archive,
    unit: Unit,
    limit: int,
    users: Users,
    live: LiveFunction | None = None,
    snapshots: Snapshots | None = None,
) -> dict[str, Any]:
    """The newest versions, as Versions describes them; blocking. Raises what `history` does."""
    revision = live.revision if live is not None else None
    snapshot = snapshots.folder(revision) if snapshots is not None and revision is not None else None
    found = history(archive, unit, limit, revision, snapshot)
    return {
        "id": unit.id,
        "path": unit.path,
        "source": unit.source,
        "uncommitted": found.uncommitted,
        "disk": _held(found.disk),
        "live": None if found.live is None else _held(found.live),
        "versions": [entry(unit, version, users) for version in found.versions],
        "more": found.more,
    }


def comparison(archive: Archive, unit: Unit, before: str, after: str) -> dict[str, Any]:
    """How two states differ, as Comparison describes it; blocking. Raises what `compared` does."""
    old, new = compared(archive, unit, before, after)
    names = ("/dev/null" if old is None else _shown(old), _shown(new))
    found = editions.difference(Edition("", {}, {}) if old is None else old.edition, new.edition, names)
    return {
        "id": unit.id,
        "before": None if old is None else old.name,
        "after": new.name,
        "changes": [asdict(one) for one in meaning(old, new)],
        "diff": found["content_diff"],
        "line_endings_only": found["line_endings_only"],
    }


def _shown(state: State) -> str:
    return state.source if state.name == DISK else f"{state.source} @ {state.name[:8]}"


def _held(held: Held) -> dict[str, Any]:
    return {"revision": held.revision, "version": held.version}


def entry(unit: Unit, version: Version, users: Users) -> dict[str, Any]:
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
