"""What models a ref offers, each by the id that it can be called by: `translate@feature-x`.

Reading a pipe tells all of its entry. What a manifold or a pipeline is, only its worker knows, so those are loaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import structlog

from fnsync.chat.access import may_use
from fnsync.chat.entries import Entry, View, without
from fnsync.chat.models import Models
from fnsync.chat.pipelines import Pipelines, is_model
from fnsync.chat.previewing import AT, Asked, Previewing
from fnsync.errors import FnsyncError, UnknownRef
from fnsync.model import FunctionId, Kind, Limits, LiveFunction, Manifest, Unit, User
from fnsync.plan import candidate_of
from fnsync.registry import World

#: How many functions are loaded for one list, and for how long a client waits for them, in seconds.
MOST_LOADED, PATIENCE_S = 8, 10.0

log = structlog.get_logger(__name__)


class Offers:
    """Lists the models of refs. One per server."""

    def __init__(self, models: Models, previewing: Previewing) -> None:
        self._models = models
        self._previewing = previewing

    async def entries(self, world: World, ref: str, caller: User) -> list[Entry]:
        """The entries of a ref's models that the caller may use, by function id.

        What cannot be loaded, or not in time, is left out and logged. Raises UnknownRef, also for who may not preview.
        """
        if not self._previewing.may(caller):
            raise UnknownRef(f"there is no branch, tag or commit {ref[:200]!r} in this repository")
        offered = await self._previewing.previews.offered(ref)
        read = {
            unit.id: _unloaded(unit, one.committed_at)
            for one in reversed(offered)
            for unit in one.units
            if unit.problem is None
        }
        usable = [function for function in read.values() if self._is_usable(world, function, caller)]
        asking = [function for function in usable if _needs_worker(function)]
        found = {function.id: function for function in usable if not _needs_worker(function)}
        found |= await self._loaded(world, ref, caller, asking)
        seen = World(world.generation, MappingProxyType({**world.functions, **found}))
        view = View(seen, Pipelines(seen))
        hidden = view.hidden(caller)
        entries = [entry for id in sorted(found) for entry in await self._of(view, found[id])]
        return [at_ref(without(entry, hidden), ref) for entry in entries]

    def _is_usable(self, world: World, function: LiveFunction, caller: User) -> bool:
        live = world.functions.get(function.id)
        return (
            function.kind in (Kind.PIPE, Kind.PIPELINE)
            and may_use(function.settings, caller)
            and (live is None or may_use(live.settings, caller))
        )

    async def _loaded(
        self, world: World, ref: str, caller: User, asking: list[LiveFunction]
    ) -> dict[FunctionId, LiveFunction]:
        """Those functions that could be loaded."""
        for function in asking[MOST_LOADED:]:
            log.warning("preview_not_listed", function=function.id, ref=ref, error=f"only {MOST_LOADED} are loaded")
        works = {
            function.id: asyncio.create_task(self._previewing.enter(world, Asked(function.id, ref), caller))
            for function in asking[:MOST_LOADED]
        }
        if works:
            await asyncio.wait(works.values(), timeout=PATIENCE_S)
        found: dict[FunctionId, LiveFunction] = {}
        for id, work in works.items():
            if not work.done():
                work.cancel()
                log.warning("preview_not_listed", function=id, ref=ref, waited_s=PATIENCE_S)
            elif not work.cancelled() and work.exception() is None:
                found[id] = work.result().function
            elif not isinstance(work.exception(), FnsyncError):
                work.result()  # nobody foresaw it
        return found

    async def _of(self, view: View, function: LiveFunction) -> list[Entry]:
        if not is_model(function):
            return []
        if not function.manifest.manifold:
            return [view.single(function)]
        names = await self._models.names(function)
        return [view.sub(function, sub, names) for sub in names]


def at_ref(entry: Entry, ref: str) -> Entry:
    """The entry of a model as of a ref."""
    return {**entry, "id": f"{entry['id']}{AT}{ref}"}


def _unloaded(unit: Unit, committed_at: int) -> LiveFunction:
    """A function as far as reading it tells; without the limits that it would have."""
    candidate = candidate_of(unit, Limits(), True, None)
    schema: Mapping[str, Any] | None = None if unit.inspection.user_valves is None else {}
    manifest = Manifest(candidate.kind, handlers=unit.inspection.handlers, user_valves_schema=schema)
    return replace(candidate, active=True, manifest=manifest, updated_at=committed_at)


def _needs_worker(function: LiveFunction) -> bool:
    return function.kind is Kind.PIPELINE or function.manifest.handler("pipes") is not None
