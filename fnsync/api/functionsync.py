"""`POST /functions/sync`: the functions become those of a list, or are copied from a git repository."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, field_validator

from fnsync.api.answers import Proposed, WithValves
from fnsync.api.exchange import Exchange
from fnsync.api.following import follow
from fnsync.api.forms import LARGE_BODY_BYTES, F, Form, parse, read_query
from fnsync.api.functions import EDIT_ERRORS, GROUP, PROPOSED, FunctionEndpoints, commit_headers, propose, proposed
from fnsync.api.operations import JSON, NDJSON
from fnsync.api.plans import PlanAnswer
from fnsync.api.routes import Answer, Route, api_route
from fnsync.api.sources import SourceAnswer, add_source
from fnsync.api.syncing import CommitAnswer
from fnsync.configgit import SourceAuth
from fnsync.edits.drafts import Content
from fnsync.edits.entries import MOST, Entry, Progress
from fnsync.edits.transfer import Transfer
from fnsync.edits.vendoring import Order, Vendored, check_prefix
from fnsync.errors import FetchFailed, Invalid, NotFound, SourceRefused
from fnsync.git import location
from fnsync.vault import Undecipherable

if TYPE_CHECKING:
    from fnsync.service import Service

#: Keys that say where functions are to be copied from; a body with one of them is no list.
_GIT_KEYS = frozenset({"url", "ref", "path", "prefix", "prune", "dry_run", "mode", "force", "auth", "name"})
#: The server's own variables, which no remote is to be sent.
_OURS = "FNSYNC_"


class SyncEntry(Form):
    """A function of an export."""

    id: str
    name: str
    content: str
    meta: dict[str, Any]
    type: str | None = Field(description="Ignored: the source tells it; null in the export of one that cannot be read")
    is_active: bool = False
    is_global: bool = False
    updated_at: int
    created_at: int
    user_id: str | None = Field(None, description="Of a new function: with `auth.user_functions`, whose own it is")
    valves: dict[str, Any] | None = Field(None, description="In clear; without it the function has no stored valves")

    def entry(self) -> Entry:
        return Entry(
            self.id,
            Content(self.name, self.content, self.meta),
            self.is_active,
            self.is_global,
            self.valves,
            self.created_at,
            self.updated_at,
            self.user_id,
        )


class SyncForm(Form):
    """All functions that there are to be."""

    functions: list[SyncEntry] = Field(default_factory=list, max_length=MOST)
    commit_message: str | None = None


class Variable(Form):
    """A secret by reference; over the API never itself, and never a file of the server's."""

    model_config = ConfigDict(extra="forbid")

    env: str = Field(min_length=1, max_length=200, description="A variable of the server's environment")

    @field_validator("env")
    @classmethod
    def _not_ours(cls, value: str) -> str:
        if value.startswith(_OURS):
            raise ValueError("is the server's own, which no remote is sent")
        return value


class AuthForm(Form):
    """How the repository is fetched: one of token, password and ssh_key."""

    model_config = ConfigDict(extra="forbid")

    token: Variable | None = None
    username: str | None = Field(None, min_length=1, max_length=200)
    password: Variable | None = None
    ssh_key: Variable | None = None

    @property
    def auth(self) -> SourceAuth:
        """As a source has it. Raises Invalid for what does not go together."""
        try:
            return SourceAuth(**self.model_dump(exclude_none=True))
        except ValidationError as exc:
            raise Invalid(f"auth {exc.errors()[0]['msg'].removeprefix('Value error, ')}", param="auth") from exc


class GitForm(Form):
    """A git repository whose functions are copied here, or followed."""

    url: str = Field(max_length=location.MOST_CHARS, description="https, ssh or git; of a source also a path")
    mode: Literal["vendor", "mirror"] = Field(description="vendor: copied once, in one commit; mirror: followed")
    ref: str | None = Field(None, max_length=200, description="Branch, tag, commit, a range of versions, pr/N")
    path: str | None = Field(None, max_length=1_000, description="Folder of the functions, or one file or function")
    prefix: str = Field("", max_length=100, description="Goes before the name of each function")
    prune: bool | None = Field(
        None,
        description="Whether functions that came from there and are there no more go; unset: vendor no, mirror yes",
    )
    dry_run: bool = Field(False, description="Answer the plan, and write nothing")
    force: bool = Field(False, description="vendor: what was changed here since it came becomes what is there")
    auth: AuthForm | None = Field(None, description="unset: that of a source of the same URL, else git's own")
    name: str | None = Field(None, max_length=64, description="mirror: what the source is called")
    commit_message: str | None = None

    @property
    def order(self) -> Order:
        """What is asked for. Raises Invalid."""
        place = location.located(self.url, self.ref, self.path)
        auth = None if self.auth is None else self.auth.auth
        return Order(place, check_prefix(self.prefix), bool(self.prune), self.force, auth)

    @property
    def source(self) -> dict[str, Any]:
        """As an entry of `sources`."""
        said = self.model_dump(exclude_none=True, include={"name", "url", "ref", "path", "prefix", "prune", "auth"})
        return {key: value for key, value in said.items() if value != ""}


class SyncBody(RootModel[SyncForm | GitForm]):
    """Which of the two it is, the keys tell."""


class SyncQuery(Form):
    progress: bool = Field(False, description="From git: answer with NDJSON that tells how far it is, and the outcome")


class OriginAnswer(BaseModel):
    url: str = Field(description="Without credentials")
    path: str | None
    prefix: str
    commit: CommitAnswer


class VendoredAnswer(BaseModel):
    """What copying came to, or would."""

    mode: Literal["vendor"]
    dry_run: bool
    origin: OriginAnswer
    commit: str | None = Field(description="The commit here; null: nothing is different, or it was a dry run")
    plan: PlanAnswer = Field(description="What became of each function, or would")


class VendoredProposed(VendoredAnswer):
    """Copies that wait for review."""

    proposal: Proposed


class FunctionSyncEndpoint:
    """Answers it."""

    def __init__(self, service: Service, functions: FunctionEndpoints) -> None:
        self._functions = functions
        self._transfer = Transfer(service.manager)
        self._service = service
        self._vendor = service.vendor
        self._limit = service.config.server.max_body

    def routes(self) -> list[Route]:
        """What it answers."""
        return [
            api_route(
                "POST",
                "/functions/sync",
                self.sync,
                "admin",
                "Make the functions exactly those of a list, or copy those of a git repository; all or nothing",
                GROUP,
                {
                    200: Answer(list[WithValves] | VendoredAnswer | SourceAnswer, "Done", (JSON, NDJSON)),
                    202: Answer(Proposed | VendoredProposed, PROPOSED.description),
                },
                body=SyncBody,
                query=SyncQuery,
                errors=(*EDIT_ERRORS, Undecipherable, FetchFailed, SourceRefused, NotFound),
            )
        ]

    async def sync(self, exchange: Exchange) -> None:
        """`POST /api/functions/sync`."""
        query = read_query(exchange, SyncQuery)
        body = await self._functions.raw_body(exchange, self._limit)
        keys = _keys(body)
        if not _GIT_KEYS & keys:
            await self._from_list(exchange, await _parsed(SyncForm, body))
            return
        if "functions" in keys:
            raise Invalid(
                "the body has functions and keys of a git repository", hint="send a list, or an address, in one request"
            )
        form = await _parsed(GitForm, body)
        if form.mode == "mirror":
            await self._mirror(exchange, form)
        else:
            await self._copy(exchange, form, query.progress)

    async def _from_list(self, exchange: Exchange, form: SyncForm) -> None:
        entries = [entry.entry() for entry in form.functions]
        written = await self._transfer.sync(entries, self._functions.terms(exchange, form.commit_message))
        if written.proposal is not None:
            await propose(exchange, written)
            return
        answer = await self._functions.exported(None, include_valves=True)
        await exchange.json(200, answer, commit_headers(written))

    async def _copy(self, exchange: Exchange, form: GitForm, progress: bool) -> None:
        order = form.order
        terms = self._functions.terms(exchange, form.commit_message)

        async def work(tell: Callable[[Progress], None]) -> dict[str, Any]:
            return told_of(await self._vendor.run(order, terms, dry_run=form.dry_run, tell=tell), form.dry_run)

        if progress:
            await follow(exchange, work)
            return
        answer = await work(lambda progress: None)
        headers = [(b"x-fnsync-commit", answer["commit"].encode())] if answer["commit"] else []
        await exchange.json(202 if "proposal" in answer else 200, answer, headers)

    async def _mirror(self, exchange: Exchange, form: GitForm) -> None:
        """Follow the repository, as `POST /api/sources` does."""
        if form.dry_run:
            hint = "add it with suspend, then GET /api/plan?source=NAME"
            raise Invalid("dry_run: what a source would do is told once there is one", param="dry_run", hint=hint)
        if form.force:
            raise Invalid("force: nothing is overwritten by following a repository", param="force")
        place = form.order.location
        if location.scheme(place.url) not in location.REMOTE:
            raise Invalid(f"url: {location.shown(place.url)} is on the server's own disk", param="url")
        await exchange.json(200, await add_source(self._service, exchange, form.source))


def told_of(vendored: Vendored, dry_run: bool) -> dict[str, Any]:
    """What copying came to, as the API tells it."""
    source, commit, written = vendored.source, vendored.commit, vendored.written
    answer: dict[str, Any] = {
        "mode": "vendor",
        "dry_run": dry_run,
        "origin": {
            "url": source.url,
            "path": source.path,
            "prefix": source.prefix,
            "commit": {
                "commit": commit.commit,
                "author": commit.author,
                "at": commit.at,
                "subject": commit.subject,
            },
        },
        "commit": written.commit,
        "plan": vendored.plan.to_dict(),
    }
    if written.proposal is not None:
        answer["proposal"] = proposed(written.proposal)
    return answer


def _keys(body: bytes) -> set[str]:
    """The keys of a JSON object; what is none has no keys, and is told as a list that is wrong."""
    try:
        return set(msgspec.json.decode(body, type=dict[str, msgspec.Raw]))
    except (msgspec.MsgspecError, RecursionError):
        return set()


async def _parsed(form: type[F], body: bytes) -> F:
    if len(body) > LARGE_BODY_BYTES:
        return await asyncio.to_thread(parse, form, body)
    return parse(form, body)
