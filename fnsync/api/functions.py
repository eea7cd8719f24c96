"""The Functions API: Open WebUI's routes and the REST forms, over the manager of edits."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from fnsync.api.answers import Full, Loaded, Owner, Proposed, Summary, WithOwner, WithValves
from fnsync.api.auth import Auth
from fnsync.api.exchange import Exchange
from fnsync.api.forms import F, Form, read_query
from fnsync.api.routes import Answer, Endpoint, Errors, Method, Route, api_route, ok
from fnsync.chat.access import may_use
from fnsync.edits.drafts import Content
from fnsync.edits.exports import full, listed, shown, summary
from fnsync.edits.fetching import fetch
from fnsync.edits.manager import Manager, Terms
from fnsync.edits.picking import pick
from fnsync.edits.transfer import Transfer
from fnsync.edits.writer import Written
from fnsync.errors import (
    CommitRefused,
    Conflict,
    ContentRefused,
    FetchFailed,
    Invalid,
    InvalidValves,
    NotFound,
    NotWritable,
    OutOfGit,
    ReadOnlySource,
    RepositoryBlocked,
    RepositoryBusy,
    RepositoryError,
    SourceRefused,
    StaleEdit,
    TimeLimit,
    Unauthorized,
    Unavailable,
    Uncommitted,
    UnknownFunction,
    WriteDenied,
)
from fnsync.git import location
from fnsync.git.proposals import Proposal
from fnsync.model import FunctionId, FunctionRow, Unit, User
from fnsync.plan import Standing
from fnsync.source.reading import SOURCE_BYTES
from fnsync.vault import Undecipherable

if TYPE_CHECKING:
    from fnsync.service import Service

GROUP = "Functions"
#: What an edit may be refused for.
EDIT_ERRORS: Errors = (
    Invalid,
    ContentRefused,
    InvalidValves,
    CommitRefused,
    Conflict,
    StaleEdit,
    Uncommitted,
    OutOfGit,
    RepositoryBlocked,
    WriteDenied,
    ReadOnlySource,
    TimeLimit,
    Unavailable,
    RepositoryBusy,
    RepositoryError,
    NotWritable,
)
#: The branch answer, besides that of an edit which is done.
PROPOSED = Answer(Proposed, "With `repository.write: branch`: the edit waits for review")


class FunctionForm(Form):
    """What a function is to be. `meta.manifest` and `meta.toggle` are worked out from the source."""

    id: str
    name: str
    content: str
    meta: dict[str, Any]
    commit_message: str | None = Field(None, description="Of the commit that the edit is")


class UpdateForm(FunctionForm):
    """As for a new function; the id is that of the address."""

    id: str = ""
    version_id: str | None = Field(None, description="The version that the edit was made from; another one gives 409")


class UrlForm(Form):
    url: str = Field(description="Of a raw file, a page of a code host, or git+https://HOST/REPOSITORY@REF#PATH")


class ExportQuery(Form):
    include_valves: bool = False
    ids: str | None = Field(None, description="Of these functions alone, with commas between them")

    @property
    def asked(self) -> list[str] | None:
        """The ids asked for; None: all."""
        return None if self.ids is None else [id for id in self.ids.split(",") if id]


class SearchQuery(Form):
    q: str = Field(max_length=500, description="Words, of which the last may be the beginning of one")
    limit: int = Field(50, ge=1, le=500)


class VersionQuery(Form):
    version_id: str | None = Field(None, description="The version that the edit was made from; also as If-Match")


class FunctionEndpoints:
    """Answers what lists, reads and edits functions."""

    def __init__(self, service: Service, auth: Auth) -> None:
        self._service = service
        self._auth = auth
        self._manager: Manager = service.manager
        self._transfer = Transfer(service.manager)
        self._limit = service.config.server.max_body

    def routes(self) -> builtins.list[Route]:
        """What it answers."""
        many, row = list[Summary], {**ok(Full), 202: PROPOSED}
        edit = (*EDIT_ERRORS, UnknownFunction)

        def route(method: Method, paths: str | tuple[str, ...], endpoint: Endpoint, *rest: Any, **more: Any) -> Route:
            who, summary, answers = rest
            return api_route(method, paths, endpoint, who, summary, GROUP, answers, **more)

        id, own = "/functions/id/{id}", "/functions/{id}"
        exported = list[WithValves] | list[Full]
        return [
            route("GET", ("/functions", "/functions/"), self.list, "caller", "List active functions", ok(many)),
            route("GET", "/functions/list", self.list_all, "admin", "List all, newest first", ok(list[WithOwner])),
            route("GET", "/functions/search", self.search, "caller", "Search", ok(many), query=SearchQuery),
            route(
                "GET",
                "/functions/export",
                self.export,
                "admin",
                "All functions with their sources and, if asked, their valves in clear",
                ok(exported),
                query=ExportQuery,
                errors=(UnknownFunction, Undecipherable),
            ),
            route(
                "POST",
                ("/functions", "/functions/", "/functions/create"),
                self.create,
                "manager",
                "Make a function; it is not active yet",
                {**ok(Summary), 202: PROPOSED},
                body=FunctionForm,
                errors=EDIT_ERRORS,
            ),
            route(
                "POST",
                "/functions/load/url",
                self.load_url,
                "admin",
                "Fetch a source; nothing is stored",
                ok(Loaded),
                body=UrlForm,
                errors=(TimeLimit, FetchFailed, NotFound, SourceRefused, RepositoryError, NotWritable),
            ),
            route("GET", (own, id), self.get, "manager", "One function", ok(Full), errors=(UnknownFunction,)),
            route("PUT", own, self.update, "manager", "Change a function", row, body=UpdateForm, errors=edit),
            route(
                "POST", f"{id}/update", self.update, "manager", "Change a function", row, body=UpdateForm, errors=edit
            ),
            route(
                "DELETE",
                (own, f"{id}/delete"),
                self.delete,
                "manager",
                "Remove a function; its history stays in git",
                {**ok(bool), 202: PROPOSED},
                query=VersionQuery,
                errors=edit,
            ),
            route(
                "POST",
                f"{id}/toggle",
                self.toggle,
                "manager",
                "Switch a function on or off",
                row,
                query=VersionQuery,
                errors=edit,
            ),
            route(
                "POST",
                f"{id}/toggle/global",
                self.toggle_global,
                "admin",
                "Make a function global, or not",
                row,
                query=VersionQuery,
                errors=edit,
            ),
        ]

    # ---- lists -------------------------------------------------------------------------------------------

    async def list(self, exchange: Exchange) -> None:
        rows = await asyncio.to_thread(self._service.index.summaries, active=True)
        rows = [row for row in rows if self.is_visible(row.id, exchange.caller)]
        await exchange.json(200, [listed(row) for row in rows])

    async def list_all(self, exchange: Exchange) -> None:
        def read() -> list[dict[str, Any]]:
            owners = self.owners()
            rows = self._service.index.summaries(newest_first=True)
            return [{**listed(row), "user": owners(row.user_id)} for row in rows]

        await exchange.json(200, await asyncio.to_thread(read))

    async def export(self, exchange: Exchange) -> None:
        query = read_query(exchange, ExportQuery)
        await exchange.json(200, await self.exported(query.asked, include_valves=query.include_valves))

    async def exported(self, ids: builtins.list[str] | None, *, include_valves: bool) -> builtins.list[dict[str, Any]]:
        return await asyncio.to_thread(self._transfer.exported, ids, include_valves=include_valves)

    async def search(self, exchange: Exchange) -> None:
        query = read_query(exchange, SearchQuery)
        is_admin = exchange.caller.is_admin
        # Whoever may not read a source learns nothing of it by searching either.
        rows = await asyncio.to_thread(self._service.index.search, query.q, sources=is_admin)
        found = [row for row in rows if is_admin or (row.is_active and self.is_visible(row.id, exchange.caller))]
        await exchange.json(200, [listed(row) for row in found[: query.limit]])

    def owners(self) -> Callable[[str], Mapping[str, Any] | None]:
        """Looks users up by id, or by the e-mail address that a commit has; blocking."""
        users = self._service.state.users()
        known = {user.email: user for user in users} | {user.id: user for user in users}

        def owner(id: str) -> Mapping[str, Any] | None:
            user = known.get(id) or known.get(id.lower())
            return None if user is None else Owner(**{name: getattr(user, name) for name in _OWNER}).model_dump()

        return owner

    # ---- one function ------------------------------------------------------------------------------------

    async def get(self, exchange: Exchange) -> None:
        standing = self.managed(exchange)
        row = await asyncio.to_thread(self._manager.confirmed, await self._row(standing.unit.id))
        await exchange.json(200, shown(row), [etag(row)])

    async def create(self, exchange: Exchange) -> None:
        form = await self.body(exchange, FunctionForm)
        caller = exchange.caller
        content = Content(form.name, form.content, form.meta)
        owner = None if caller.is_admin else caller.id
        written = await self._manager.create(form.id, content, self.terms(exchange, form.commit_message), owner=owner)
        await self.answer(exchange, written, summary)

    async def update(self, exchange: Exchange) -> None:
        self.managed(exchange)
        form = await self.body(exchange, UpdateForm)
        id = self.managed(exchange).unit.id
        content = Content(form.name, form.content, form.meta)
        terms = self.terms(exchange, form.commit_message, based_on(exchange, form.version_id))
        await self.answer(exchange, await self._manager.update(id, content, terms), full)

    async def delete(self, exchange: Exchange) -> None:
        written = await self._manager.delete(self.managed(exchange).unit.id, self._asked(exchange))
        await self.answer(exchange, written, None)

    async def toggle(self, exchange: Exchange) -> None:
        written = await self._manager.toggle(self.managed(exchange).unit.id, self._asked(exchange))
        await self.answer(exchange, written, full)

    async def toggle_global(self, exchange: Exchange) -> None:
        written = await self._manager.toggle_global(self.managed(exchange).unit.id, self._asked(exchange))
        await self.answer(exchange, written, full)

    # ---- many --------------------------------------------------------------------------------------------

    async def load_url(self, exchange: Exchange) -> None:
        form = await self.body(exchange, UrlForm)
        if location.is_one(form.url):
            fetched = await pick(self._service.checkouts, location.parse(form.url))
        else:
            fetched = await fetch(form.url, SOURCE_BYTES)
        await exchange.json(200, {"name": fetched.name, "content": fetched.content})

    # ---- what they share ---------------------------------------------------------------------------------

    def managed(self, exchange: Exchange) -> Standing:
        """The function of the address, which the caller may manage. Raises UnknownFunction, Unauthorized."""
        return self.managed_function(exchange, FunctionId(exchange.scope["path_params"]["id"]))

    def managed_function(self, exchange: Exchange, id: FunctionId) -> Standing:
        """The function, which the caller may manage. Raises UnknownFunction, Unauthorized."""
        standing = self._manager.standing(id)
        self._check_manages(exchange.caller, standing.unit)
        return standing

    def _check_manages(self, caller: User, unit: Unit) -> None:
        """Raise UnknownFunction or Unauthorized for a caller who may not manage the function."""
        owner = unit.settings.owner
        if caller.is_admin or (owner is not None and owner == caller.id):
            return
        if not self._sees(caller, unit):
            raise UnknownFunction(f"there is no function {unit.id!r}")
        raise Unauthorized(f"{unit.id} is managed by admins, and by whose own it is")

    def is_visible(self, id: FunctionId, caller: User) -> bool:
        """Whether a function is there for a caller."""
        if caller.is_admin:
            return True
        standing = self._service.reconciler.standings.get(id)
        return standing is not None and self._sees(caller, standing.unit)

    def _sees(self, caller: User, unit: Unit) -> bool:
        """Whether a caller may know of a function. Where nobody can read the settings, the last that served count."""
        if unit.settings_known:
            return may_use(unit.settings, caller)
        standing = self._service.reconciler.standings.get(unit.id)
        return standing is not None and standing.live is not None and may_use(standing.live.settings, caller)

    async def body(self, exchange: Exchange, form: type[F]) -> F:
        """The body; raises what `Auth.body` does."""
        return await self._auth.body(exchange, form, self._limit)

    async def raw_body(self, exchange: Exchange, limit: int) -> bytes:
        """The body as it came; raises what `Auth.body` does."""
        return await self._auth.raw_body(exchange, limit)

    def terms(self, exchange: Exchange, message: str | None = None, expected: str | None = None) -> Terms:
        """How the caller makes an edit: only if they still may when it takes effect."""

        def authorize(unit: Unit | None) -> User:
            caller = self._auth.caller_now(exchange)
            if unit is not None:
                self._check_manages(caller, unit)
            return caller

        return Terms(exchange.caller, message, expected, authorize)

    def _asked(self, exchange: Exchange) -> Terms:
        """The terms of an edit that has no body."""
        query = read_query(exchange, VersionQuery)
        return self.terms(exchange, None, based_on(exchange, query.version_id))

    async def _row(self, id: FunctionId) -> FunctionRow:
        row = await asyncio.to_thread(self._service.index.row, id)
        if row is None:
            raise UnknownFunction(f"there is no function {id!r}")
        return row

    async def answer(
        self, exchange: Exchange, written: Written, shape: Callable[[FunctionRow], dict[str, Any]] | None
    ) -> None:
        """Answer an edit: the function as it is now, or where it waits for review; without `shape`, true."""
        if written.proposal is not None:
            await propose(exchange, written)
            return
        headers = commit_headers(written)
        if shape is None:
            await exchange.json(200, True, headers)
            return
        if not written.rows:
            raise StaleEdit("the function was removed meanwhile", hint="see its history in git")
        await exchange.json(200, shape(written.rows[0]), [*headers, etag(written.rows[0])])


_OWNER = ("id", "name", "role", "email")


def if_match(exchange: Exchange) -> str | None:
    """What the caller's edit is based on, by its If-Match header: an ETag, a version or a revision; `*` is any."""
    for name, value in exchange.scope["headers"]:
        if name == b"if-match":
            text = value.decode("latin-1").strip().removeprefix("W/").strip('"')
            return None if text == "*" else text
    return None


def based_on(exchange: Exchange, given: str | None) -> str | None:
    """What the caller's edit is based on: If-Match says it first, then what was `given` elsewhere.

    An empty text is something too: nothing fits it.
    """
    header = if_match(exchange)
    return given if header is None else header


def commit_headers(written: Written) -> list[tuple[bytes, bytes]]:
    """Which commit an edit is."""
    return [(b"x-fnsync-commit", written.commit.encode())] if written.commit else []


async def propose(exchange: Exchange, written: Written) -> None:
    """Answer 202: the edit waits for review."""
    assert written.proposal is not None
    await exchange.json(202, proposed(written.proposal))


def proposed(proposal: Proposal) -> dict[str, Any]:
    """Where an edit waits for review, as the API tells it."""
    return {
        "branch": proposal.branch,
        "commit": proposal.commit,
        "pushed": proposal.pushed,
        "compare_url": proposal.compare_url,
        "detail": proposal.problem or f"the edit waits for review on the branch {proposal.branch}",
    }


def etag(of: FunctionRow | Unit) -> tuple[bytes, bytes]:
    """The header that tells what a function is, code and settings; an edit may name it in If-Match."""
    return b"etag", f'"{of.tag}"'.encode()
