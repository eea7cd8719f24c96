"""Sources over HTTP, for admins: how they stand, which there are, and what they are to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form, read_body
from fnsync.api.routes import Route, api_route, ok
from fnsync.errors import (
    Conflict,
    FetchFailed,
    Invalid,
    LoadFailed,
    NotFound,
    NotWritable,
    RepositoryBlocked,
    RepositoryBusy,
    RepositoryError,
    SourceRefused,
    UnknownFunction,
    VerificationFailed,
    WriteDenied,
)
from fnsync.model import FunctionId
from fnsync.reports import ReloadReport
from fnsync.syncing.telling import synced_of

if TYPE_CHECKING:
    from fnsync.service import Service

GROUP = "Sync"
#: What a sync of a source may raise.
SYNC_ERRORS = (NotFound, Conflict, FetchFailed, NotWritable, RepositoryError, SourceRefused, VerificationFailed)
#: What an edit of the configuration file may raise.
EDIT_ERRORS = (
    Invalid,
    NotFound,
    Conflict,
    WriteDenied,
    NotWritable,
    RepositoryBlocked,
    RepositoryBusy,
    RepositoryError,
)


class NewSource(BaseModel):
    """The keys of an entry of `sources` in the configuration; unknown ones are refused."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str | None = Field(None, description="None: made of the URL")
    url: str


class Sync(Form):
    force: bool = Field(False, description="Also past the guard, and outside of windows")


class SourceRollback(Form):
    commit: str | None = Field(None, description="Full or shortened to 7 digits; null: the one that served before")


class SourceFunction(Form):
    id: str = Field(description="The function, with the source's prefix", max_length=200)


class SourceFunctionRollback(SourceFunction):
    commit: str | None = Field(None, description="null: the last that is kept in which it was another")


class SourceReload(BaseModel):
    loaded: list[str]
    failed: list[dict[str, Any]]


class SourceCommit(BaseModel):
    commit: str
    ref: str
    tag: str | None = Field(description="Of a range of versions, the tag that it came to")
    at: float = Field(description="When it went live, in seconds since 1970")
    subject: str | None
    author: str | None
    committed_at: int | None
    signer: str | None = Field(description="Whose signature was found good")


class SourceHeld(BaseModel):
    reason: str = Field(description="`pinned`, `window`, `guard` or `gate`")
    message: str
    hint: str
    commit: str
    until: float | None = Field(description="When it goes live by itself")
    since: float | None


class SourceProblem(BaseModel):
    code: str
    message: str
    hint: str | None
    since: float | None


class SourceAnswer(BaseModel):
    name: str
    state: str = Field(description="`following`, `new`, `syncing`, `failing`, `held`, `pinned` or `suspended`")
    url: str = Field(description="Without credentials")
    ref: str | None
    path: str
    prefix: str
    interval_s: float
    gate: str
    prune: bool
    suspended: bool
    pinned: str | None = Field(description="The commit it is held at by a rollback")
    commit: SourceCommit | None = Field(description="What serves")
    history: list[SourceCommit] = Field(description="What served before and is kept, the newest first")
    fetched_at: float | None = Field(description="When the remote last answered")
    age_s: float | None
    tried_at: float | None = Field(description="When the last sync began")
    next_at: float | None
    progress: str | None = Field(description="What is being done now")
    error: SourceProblem | None
    failures: int = Field(description="Failures on end")
    held: SourceHeld | None = Field(description="Why a commit that was fetched does not serve")
    functions: dict[str, int] = Field(description="How many there are by status")
    quarantine: dict[str, str] = Field(description="Function -> the revision that is not taken again")


class SourceList(BaseModel):
    sources: list[SourceAnswer]
    problem: str | None = Field(description="What is wrong with the configuration file as it is now")


class SourceSynced(BaseModel):
    source: str
    before: str | None
    commit: str | None
    count: int
    commits: list[dict[str, Any]]
    rewritten: bool = Field(description="Whether the history before was replaced by another")
    held: SourceHeld | None
    loaded: list[str]
    applied: list[str]
    removed: list[str]
    failed: list[dict[str, Any]]


class SourceEndpoints:
    """Answers what is asked about sources."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._max_body = service.config.server.max_body

    def routes(self) -> list[Route]:
        """What it answers."""
        one = "/sources/{name}"
        synced = ok(SourceSynced, "What came; its functions answer, or have failed")
        source = ok(SourceAnswer, "How it stands")
        return [
            api_route("GET", "/sources", self.list, "admin", "List the sources", GROUP, ok(SourceList)),
            api_route(
                "POST",
                "/sources",
                self.add,
                "admin",
                "Follow a source: it is added to the configuration file",
                GROUP,
                source,
                body=NewSource,
                errors=EDIT_ERRORS,
            ),
            api_route("GET", one, self.get, "admin", "How a source stands", GROUP, source, errors=(NotFound,)),
            api_route(
                "DELETE",
                one,
                self.remove,
                "admin",
                "Follow a source no longer: its functions go",
                GROUP,
                ok(bool, "true"),
                errors=EDIT_ERRORS,
            ),
            api_route(
                "POST",
                f"{one}/sync",
                self.sync,
                "admin",
                "Sync a source now",
                GROUP,
                synced,
                body=Sync,
                errors=(Invalid, *SYNC_ERRORS),
            ),
            api_route(
                "POST",
                f"{one}/rollback",
                self.rollback,
                "admin",
                "Go back to a commit, and stay there until `unpin`",
                GROUP,
                synced,
                body=SourceRollback,
                errors=(Invalid, *SYNC_ERRORS),
            ),
            api_route(
                "POST",
                f"{one}/functions/rollback",
                self.rollback_function,
                "admin",
                "Have one function of a source answer as it was; its newest revision is quarantined",
                GROUP,
                ok(SourceReload),
                body=SourceFunctionRollback,
                errors=(Invalid, UnknownFunction, LoadFailed, *SYNC_ERRORS),
            ),
            api_route(
                "POST",
                f"{one}/functions/release",
                self.release,
                "admin",
                "Take the newest revision of a function again",
                GROUP,
                ok(SourceReload),
                body=SourceFunction,
                errors=(Invalid, *SYNC_ERRORS),
            ),
            api_route(
                "POST",
                f"{one}/unpin",
                self.unpin,
                "admin",
                "Follow again after a rollback",
                GROUP,
                source,
                errors=(NotFound, NotWritable, RepositoryError),
            ),
            api_route(
                "POST",
                f"{one}/suspend",
                self.suspend,
                "admin",
                "Leave a source as it is",
                GROUP,
                source,
                errors=EDIT_ERRORS,
            ),
            api_route(
                "POST",
                f"{one}/resume",
                self.resume,
                "admin",
                "Follow a suspended source again",
                GROUP,
                source,
                errors=EDIT_ERRORS,
            ),
        ]

    async def list(self, exchange: Exchange) -> None:
        """`GET /api/sources`."""
        service = self._service
        found = {"sources": service.remotes.sources_status(), "problem": service.sources.problem}
        await exchange.json(200, found)

    async def get(self, exchange: Exchange) -> None:
        """`GET /api/sources/{name}`."""
        await exchange.json(200, self._told(_name(exchange)))

    async def add(self, exchange: Exchange) -> None:
        """`POST /api/sources`."""
        form = await read_body(exchange, NewSource, self._max_body)
        await exchange.json(200, await add_source(self._service, exchange, form.model_dump(exclude_none=True)))

    async def remove(self, exchange: Exchange) -> None:
        """`DELETE /api/sources/{name}`."""
        name = _name(exchange)
        self._service.sources.find(name)
        await self._service.source_editor.remove(name, exchange.caller)
        await self._service.sources.reload()
        await exchange.json(200, True)

    async def sync(self, exchange: Exchange) -> None:
        """`POST /api/sources/{name}/sync`."""
        form = await read_body(exchange, Sync, self._max_body, optional=True)
        synced = await self._service.sources.find(_name(exchange)).sync(force=form.force)
        await exchange.json(200, synced_of(synced))

    async def rollback(self, exchange: Exchange) -> None:
        """`POST /api/sources/{name}/rollback`."""
        form = await read_body(exchange, SourceRollback, self._max_body, optional=True)
        synced = await self._service.sources.find(_name(exchange)).rollback(form.commit)
        await exchange.json(200, synced_of(synced))

    async def rollback_function(self, exchange: Exchange) -> None:
        """`POST /api/sources/{name}/functions/rollback`."""
        form = await read_body(exchange, SourceFunctionRollback, self._max_body)
        follower = self._service.sources.find(_name(exchange))
        await exchange.json(200, _reloaded(await follower.rollback_function(FunctionId(form.id), form.commit)))

    async def release(self, exchange: Exchange) -> None:
        """`POST /api/sources/{name}/functions/release`."""
        form = await read_body(exchange, SourceFunction, self._max_body)
        follower = self._service.sources.find(_name(exchange))
        await exchange.json(200, _reloaded(await follower.release(FunctionId(form.id))))

    async def unpin(self, exchange: Exchange) -> None:
        """`POST /api/sources/{name}/unpin`."""
        name = _name(exchange)
        await self._service.sources.find(name).unpin()
        await exchange.json(200, self._told(name))

    async def suspend(self, exchange: Exchange) -> None:
        """`POST /api/sources/{name}/suspend`."""
        await self._suspend(exchange, True)

    async def resume(self, exchange: Exchange) -> None:
        """`POST /api/sources/{name}/resume`."""
        await self._suspend(exchange, False)

    async def _suspend(self, exchange: Exchange, suspended: bool) -> None:
        name = _name(exchange)
        self._service.sources.find(name)
        await self._service.source_editor.suspend(name, suspended, exchange.caller)
        await self._service.sources.reload()
        await exchange.json(200, self._told(name))

    def _told(self, name: str) -> dict[str, Any]:
        return self._service.remotes.source_status(name)


async def add_source(service: Service, exchange: Exchange, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Add a source by its entry in the configuration, in the caller's name; returns how it stands."""
    name = entry.get("name") or name_of(entry["url"])
    named = {"name": name, **{key: value for key, value in entry.items() if key != "name"}}
    await service.source_editor.add(named, exchange.caller)
    await service.sources.reload()
    return service.remotes.source_status(name)


def name_of(url: str) -> str:
    """A name for a source without one: what its repository is called."""
    path = urlsplit(url).path if "://" in url else url.rpartition(":")[2]
    last = path.rstrip("/").rpartition("/")[2].removesuffix(".git").lower()
    made = re.sub(r"[^a-z0-9_-]+", "-", last).strip("-_")
    return made if re.match(r"[a-z]", made) else f"source-{made}".rstrip("-")


def _reloaded(report: ReloadReport) -> dict[str, Any]:
    return {
        "loaded": [id for id, _, _ in report.loaded],
        "failed": [{"id": id, "error": asdict(problem)} for id, problem in report.failed],
    }


def _name(exchange: Exchange) -> str:
    name: str = exchange.scope["path_params"]["name"]
    return name
