"""The base models: those of the upstreams, found by the id that a request names, and listed.

Each upstream's list is kept. One that is older than `refresh` is used once more while a new one is fetched; one that
is older than `cache`, since the upstream is down, is used no more.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import structlog

from fnsync.chat.access import is_named
from fnsync.chat.answers import Plain, Streamed
from fnsync.chat.requests import ChatRequest, renamed
from fnsync.config import UpstreamConfig
from fnsync.durations import Durations
from fnsync.errors import FnsyncError
from fnsync.model import Access, User

if TYPE_CHECKING:
    from fnsync.chat.providers import BaseModel, Provider

#: How long a client that lists models waits for upstreams that have no list to use.
PATIENCE_S = 1.0
#: How long a client that names a model waits for them.
CALL_PATIENCE_S = 10.0
#: How long a failure is believed, and how long a list that lacks a model asked for.
BELIEVED_S = 5.0
#: How long a list counts as new where a client wants a new one.
ANEW_S = 1.0
#: The status that the tally gives a completion whose client left before there was an answer.
CLIENT_LEFT = 499

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A base model as clients name it, and where it is."""

    upstream: Upstream
    #: With the upstream's prefix.
    id: str
    model: BaseModel

    @asynccontextmanager
    async def completion(self, request: ChatRequest) -> AsyncIterator[Plain | Streamed]:
        """The upstream's own answer. Raises UpstreamFailed, UpstreamTimeout."""
        body = request.body if self.id == self.model.id else renamed(request.body, self.model.id)
        with self.upstream.tally.timed() as status:
            async with self.upstream.provider.completion(body, request.stream) as answer:
                status.append(answer.status)
                yield answer


class UpstreamTally:
    """What was asked of one upstream: completions by the status of their answers, and how long they took in all."""

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()
        self.durations = Durations()

    @contextmanager
    def timed(self) -> Iterator[list[int]]:
        """Count what the block comes to. It puts the status into the list; without one, what it raises tells it."""
        began = time.perf_counter()
        status: list[int] = []
        try:
            yield status
        except FnsyncError as exc:
            status[:] = status or [exc.status]
            raise
        finally:
            self.answers[status[0] if status else CLIENT_LEFT] += 1
            self.durations.add(time.perf_counter() - began)


class Upstream:
    """One upstream and the list of its models."""

    def __init__(self, config: UpstreamConfig, environ: Mapping[str, str]) -> None:
        """Raises ConfigError when the variable with its key is not set."""
        from fnsync.chat.providers import Provider  # start time, for servers without upstreams

        self.config = config
        self.tally = UpstreamTally()
        access = config.access
        self._access = None if access is None else Access(access.users, access.roles)
        key = config.key.value(environ) if config.key is not None else None
        self.provider: Provider = Provider(config.name, config.kind, config.url, key, config.timeout)
        self.error: FnsyncError | None = None
        #: time.monotonic() of the last answer, and of the last failure.
        self._listed_at: float | None = None
        self._failed_at: float | None = None
        self._models: dict[str, Found] = {}
        self._listing: asyncio.Task[None] | None = None

    @property
    def models(self) -> Mapping[str, Found]:
        """Id -> model, as far as the list can be used."""
        usable = self._listed_at is not None and time.monotonic() - self._listed_at < self.config.cache
        return self._models if usable else {}

    def is_for(self, caller: User) -> bool:
        """Whether the caller may use its models."""
        return is_named(self._access, caller)

    def look(self, new_s: float | None = None) -> asyncio.Task[None] | None:
        """Have a list fetched if the last one is older than `new_s` (`refresh`); returns the fetching under way."""
        now = time.monotonic()
        is_new = self._listed_at is not None and now - self._listed_at < (new_s or self.config.refresh)
        is_believed = self._failed_at is not None and now - self._failed_at < BELIEVED_S
        if self._listing is None and not is_new and not is_believed:
            self._listing = asyncio.create_task(self._list())
        return self._listing

    def state(self) -> dict[str, Any]:
        """How it stands."""
        address = urlsplit(self.config.url)
        return {
            "name": self.config.name,
            "kind": self.config.kind,
            "url": urlunsplit(address._replace(query="", fragment="")),
            "models": len(self.models),
            "error": self.error.message if self.error is not None else None,
        }

    async def close(self) -> None:
        """End the listing under way, and all connections."""
        if self._listing is not None:
            self._listing.cancel()
            await asyncio.gather(self._listing, return_exceptions=True)
        await self.provider.close()

    async def _list(self) -> None:
        try:
            models = await self.provider.models()
        except FnsyncError as exc:
            if self.error is None:
                log.warning("upstream_failed", upstream=self.config.name, error=exc.message)
            self.error, self._failed_at = exc, time.monotonic()
        else:
            if self.error is not None:
                log.info("upstream_recovered", upstream=self.config.name)
            self.error, self._listed_at = None, time.monotonic()
            prefix = self.config.prefix
            found = (Found(self, prefix + model.id, model) for model in models if self._is_wanted(model.id))
            self._models = {one.id: one for one in found}
        finally:
            self._listing = None

    def _is_wanted(self, id: str) -> bool:
        allow, deny = self.config.allow, self.config.deny
        allowed = allow is None or any(fnmatchcase(id, glob) for glob in allow)
        return allowed and not any(fnmatchcase(id, glob) for glob in deny)


class Upstreams:
    """All upstreams, in the order of the configuration: of two models with one id, the first counts that the caller
    may use."""

    def __init__(self, configs: Sequence[UpstreamConfig], environ: Mapping[str, str]) -> None:
        """Raises ConfigError when a variable with a key is not set."""
        self._all = tuple(Upstream(config, environ) for config in configs)

    async def models(self, caller: User, *, anew: bool = False) -> dict[str, Found]:
        """Id -> model of all that can be listed, and that the caller may use; waits PATIENCE_S at most. `anew`: the
        upstreams are asked again first."""
        theirs = self._of(caller)
        listings = [(upstream, upstream.look(ANEW_S if anew else None)) for upstream in theirs]
        await _wait((listing for upstream, listing in listings if anew or not upstream.models), PATIENCE_S)
        known: dict[str, Found] = {}
        for upstream in theirs:
            known = {**known, **{id: found for id, found in upstream.models.items() if id not in known}}
        return known

    async def listed(self, model: str, caller: User) -> Found | None:
        """The base model with that id as far as lists are there, if the caller may use it; waits PATIENCE_S at most for
        those that are not."""
        theirs = self._of(caller)
        listings = [(upstream, upstream.look()) for upstream in theirs]
        await _wait((listing for upstream, listing in listings if not upstream.models), PATIENCE_S)
        return _first(theirs, model)

    async def find(self, model: str, caller: User) -> Found | None:
        """The base model with that id, if the caller may use it. What is in no list may have come since: then the
        upstreams are asked."""
        theirs = self._of(caller)
        for upstream in theirs:
            upstream.look()
        found = _first(theirs, model)
        if found is None:
            await _wait((upstream.look(BELIEVED_S) for upstream in theirs), CALL_PATIENCE_S)
            found = _first(theirs, model)
        return found

    def failing(self, caller: User) -> list[str]:
        """The names of those that cannot be asked, of those that the caller may use."""
        return [upstream.config.name for upstream in self._of(caller) if upstream.error is not None]

    def tallies(self) -> dict[str, UpstreamTally]:
        """What was asked of each, by name."""
        return {upstream.config.name: upstream.tally for upstream in self._all}

    def states(self) -> list[dict[str, Any]]:
        """How each stands."""
        return [upstream.state() for upstream in self._all]

    async def close(self) -> None:
        """End everything that is under way."""
        for upstream in self._all:
            await upstream.close()

    def _of(self, caller: User) -> list[Upstream]:
        return [upstream for upstream in self._all if upstream.is_for(caller)]


def _first(upstreams: Iterable[Upstream], model: str) -> Found | None:
    return next((found for upstream in upstreams if (found := upstream.models.get(model)) is not None), None)


async def _wait(listings: Iterable[asyncio.Task[None] | None], patience_s: float) -> None:
    waited = [listing for listing in listings if listing is not None]
    if waited:
        await asyncio.wait(waited, timeout=patience_s)
