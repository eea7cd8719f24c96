"""Has the server pull now, and tells what came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from fnsync.api.exchange import Exchange
from fnsync.api.forms import read_body
from fnsync.api.routes import Route, api_route, ok
from fnsync.api.sources import SourceHeld, Sync
from fnsync.errors import (
    FetchFailed,
    Invalid,
    NotWritable,
    PullRefused,
    RepositoryBlocked,
    RepositoryBusy,
    RepositoryError,
    SourceRefused,
)

if TYPE_CHECKING:
    from fnsync.service import Service

GROUP = "Sync"


class CommitAnswer(BaseModel):
    commit: str
    author: str
    at: int = Field(description="When it was committed, in seconds since 1970")
    subject: str


class PulledAnswer(BaseModel):
    remote: str
    url: str | None = Field(description="The remote's address, without credentials")
    branch: str
    before: str = Field(description="The commit that was checked out before")
    commit: str = Field(description="The commit that is checked out now")
    count: int = Field(description="How many commits came")
    commits: list[CommitAnswer] = Field(description="The newest of them, at most 100, newest first")
    ahead: int = Field(description="How many commits the remote lacks")
    replayed: int = Field(description="How many edits that the remote lacked were made anew on top of what came")
    conflict: str | None = Field(description="The branch with edits that do not fit what came, if there are any")
    push_error: str | None = Field(description="Why what the remote lacks is not pushed, with `repository.push`")
    held: SourceHeld | None = Field(description="Why what was fetched is not applied")


class SyncEndpoints:
    """Answers what is asked about the remote."""

    def __init__(self, service: Service) -> None:
        self._pulls = service.remotes.pulls
        self._max_body = service.config.server.max_body

    def routes(self) -> list[Route]:
        """What it answers."""
        return [
            api_route(
                "POST",
                "/sync",
                self.sync,
                "admin",
                "Pull the branch that is followed, and push what is to be pushed, now",
                GROUP,
                ok(PulledAnswer, "What came; the functions concerned are being loaded"),
                body=Sync,
                errors=(
                    FetchFailed,
                    Invalid,
                    NotWritable,
                    PullRefused,
                    RepositoryBlocked,
                    RepositoryBusy,
                    RepositoryError,
                    SourceRefused,
                ),
            )
        ]

    async def sync(self, exchange: Exchange) -> None:
        """`POST /api/sync`."""
        if self._pulls is None:
            raise RepositoryError(
                "no git repository can be used, so nothing can be pulled", hint="see the server's log"
            )
        form = await read_body(exchange, Sync, self._max_body, optional=True)
        await exchange.json(200, self._pulls.told(await self._pulls.sync(force=form.force)))
