"""What manifolds list: their `pipes` run in their workers, so listings are kept, and fetched anew behind calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec
import structlog

from fnsync.errors import FnsyncError, TimeLimit
from fnsync.model import FunctionId, LiveFunction
from fnsync.registry import World
from fnsync.runtime.call import Invocation
from fnsync.runtime.executor import Executor

#: How long a manifold's listing counts as new.
FRESH_S = 60.0
#: How long a listing that failed, or that lacked a model asked for, is believed.
BELIEVED_S = 2.0
#: How long a listing counts as new where a client wants a new one.
ANEW_S = 1.0
#: How long `pipes` may take.
LISTING_LIMIT_S = 5.0
#: How long a client that lists models waits for manifolds that were never listed before.
PATIENCE_S = 2.0
#: How many manifolds are listed at once; each may need a worker.
LISTINGS_AT_ONCE = 8
#: How many listings are kept before those of previews push all out.
MOST_KNOWN = 1_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Listing:
    """What a manifold's `pipes` gave: sub id -> name, in order."""

    names: Mapping[str, str] = field(default_factory=dict)
    error: FnsyncError | None = None
    #: time.monotonic() when it was made.
    at: float = 0.0

    def age_s(self) -> float:
        """Return how long ago it was made, in seconds."""
        return time.monotonic() - self.at


@dataclass(slots=True)
class _Known:
    """A manifold's last listing, and the task that fetches the next."""

    #: The listing holds for this revision with these valves.
    revision: str
    valves: Mapping[str, Any]
    listing: Listing | None = None
    task: asyncio.Task[Listing] | None = None

    def holds_for(self, function: LiveFunction) -> bool:
        return self.revision == function.revision and self.valves == function.settings.valves


_NO_NAMES: Mapping[str, str] = MappingProxyType({})


class Manifolds:
    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._known: dict[str, _Known] = {}
        self._tasks: set[asyncio.Task[Listing]] = set()
        self._room = asyncio.Semaphore(LISTINGS_AT_ONCE)

    def names(self, function: LiveFunction) -> Mapping[str, str]:
        """Return the names of the last listing, none when there was none."""
        listing = self._of(function).listing
        return listing.names if listing else _NO_NAMES

    def keep(self, world: World) -> None:
        """Forget the listings of manifolds that are not in `world`, those of previews too."""
        self._known = {name: known for name, known in self._known.items() if FunctionId(name) in world.functions}

    def forget(self) -> None:
        """Ask again from here on; what is under way still answers those who wait for it."""
        self._known.clear()

    async def for_call(self, function: LiveFunction, sub: str) -> Listing:
        """Return a listing that decides whether `sub` exists."""
        known = self._of(function)
        listing = known.listing
        if listing is not None and sub in listing.names:
            if listing.age_s() > FRESH_S:
                self._fetch(function, known)
            return listing
        if listing is not None and listing.age_s() < BELIEVED_S:
            return listing
        return await asyncio.shield(self._fetch(function, known))

    async def for_list(self, functions: list[LiveFunction], *, anew: bool = False) -> dict[str, Listing]:
        """Return what is known of each, after waiting up to PATIENCE_S for those never listed, with `anew` for all."""
        first = []
        for function in functions:
            known = self._of(function)
            listing = known.listing
            fresh_s = ANEW_S if anew else BELIEVED_S if listing is not None and listing.error else FRESH_S
            if listing is None or listing.age_s() > fresh_s:
                task = self._fetch(function, known)
                if listing is None or anew:
                    first.append(task)
        if first:
            await asyncio.wait(first, timeout=PATIENCE_S)
        found = {function.id: self._of(function).listing for function in functions}
        for id in (id for id, listing in found.items() if listing is None):
            log.warning("models_not_listed_yet", function=id, waited_s=PATIENCE_S)
        return {id: listing for id, listing in found.items() if listing is not None}

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _of(self, function: LiveFunction) -> _Known:
        name = function.runs_as
        known = self._known.get(name)
        if known is None or not known.holds_for(function):
            if function.preview is not None and len(self._known) >= MOST_KNOWN:
                self._known.clear()
            known = self._known[name] = _Known(function.revision, function.settings.valves)
        return known

    def _fetch(self, function: LiveFunction, known: _Known) -> asyncio.Task[Listing]:
        if known.task is None:
            known.task = asyncio.create_task(self._listed(function, known), name=f"models of {function.id}")
            self._tasks.add(known.task)
            known.task.add_done_callback(self._tasks.discard)
        return known.task

    async def _listed(self, function: LiveFunction, known: _Known) -> Listing:
        try:
            async with self._room:
                listing = await self._ask(function)
            if listing.error is not None and known.listing is not None:
                # What was listed before goes on being listed.
                listing = Listing(known.listing.names, listing.error, listing.at)
            known.listing = listing
            return listing
        finally:
            known.task = None

    async def _ask(self, function: LiveFunction) -> Listing:
        try:
            async with asyncio.timeout(LISTING_LIMIT_S):
                async with self._executor.call(function, Invocation(handler="pipes")) as call:
                    reply = await call.first()
            names = _names(function, getattr(reply, "data", b""))
            return Listing(names, at=time.monotonic())
        except TimeoutError:
            error: FnsyncError = TimeLimit(f"pipes() of {function.id} took longer than {LISTING_LIMIT_S:g} s")
        except FnsyncError as exc:
            error = exc
        log.warning("models_not_listed", function=function.id, revision=function.revision[:8], error=str(error))
        return Listing(error=error, at=time.monotonic())


def _names(function: LiveFunction, data: bytes) -> dict[str, str]:
    """Read the JSON list of `pipes`: a bad entry loses itself only, of equal ids the first stays."""
    items = msgspec.json.decode(data) if data else None
    if not isinstance(items, list):
        log.warning("models_not_listed", function=function.id, error=f"pipes gave {type(items).__name__}, not a list")
        return {}
    names: dict[str, str] = {}
    for item in items:
        id, name = (item.get("id"), item.get("name")) if isinstance(item, dict) else (None, None)
        if isinstance(id, str) and id and isinstance(name, str) and id not in names:
            names[id] = name
        else:
            log.warning("model_left_out", function=function.id, entry=repr(item)[:200])
    return names
