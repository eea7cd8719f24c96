"""The base models: those of the upstreams, found by the id that a request names, and listed.

Each upstream's list is kept. One that is older than `refresh` is used once more while a new one is fetched; one that
is older than `cache`, since the upstream is down, is used no more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import structlog

from fnsync.chat.answers import Plain, Streamed
from fnsync.chat.requests import ChatRequest, renamed
from fnsync.config import UpstreamConfig
from fnsync.errors import FnsyncError

if TYPE_CHECKING:
    from fnsync.chat.providers import BaseModel, Provider

#: How long a client that lists models waits for upstreams that have no list to use.
PATIENCE_S = 1.0
#: How long a client that names a model waits for them.
CALL_PATIENCE_S = 10.0
#: How long a failure is believed.
BELIEVED_S = 5.0

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
        async with self.upstream.provider.completion(body, request.stream) as answer:
            yield answer


class Upstream:
    """One upstream and the list of its models."""

    def __init__(self, config: UpstreamConfig, environ: Mapping[str, str]) -> None:
        """Raises ConfigError when the variable with its key is not set."""
        from fnsync.chat.providers import Provider  # start time, for servers without upstreams

        self.config = config
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
    """All upstreams, in the order of the configuration: of two models with one id, the first counts."""

    def __init__(self, configs: Sequence[UpstreamConfig], environ: Mapping[str, str]) -> None:
        """Raises ConfigError when a variable with a key is not set."""
        self._all = tuple(Upstream(config, environ) for config in configs)

    async def models(self) -> dict[str, Found]:
        """Id -> model of all that can be listed; waits PATIENCE_S at most."""
        listings = [(upstream, upstream.look()) for upstream in self._all]
        await _wait((listing for upstream, listing in listings if not upstream.models), PATIENCE_S)
        return self._known()

    async def find(self, model: str) -> Found | None:
        """The base model with that id. What is in no list may have come since: then the upstreams are asked."""
        for upstream in self._all:
            upstream.look()
        known = self._known()
        if model not in known:
            await _wait((upstream.look(BELIEVED_S) for upstream in self._all), CALL_PATIENCE_S)
            known = self._known()
        return known.get(model)

    def failing(self) -> list[str]:
        """The names of those that cannot be asked."""
        return [upstream.config.name for upstream in self._all if upstream.error is not None]

    def states(self) -> list[dict[str, Any]]:
        """How each stands."""
        return [upstream.state() for upstream in self._all]

    async def close(self) -> None:
        """End everything that is under way."""
        for upstream in self._all:
            await upstream.close()

    def _known(self) -> dict[str, Found]:
        known: dict[str, Found] = {}
        for upstream in reversed(self._all):
            known |= upstream.models
        return known


async def _wait(listings: Iterable[asyncio.Task[None] | None], patience_s: float) -> None:
    waited = [listing for listing in listings if listing is not None]
    if waited:
        await asyncio.wait(waited, timeout=patience_s)
