"""Goes over to other trees of sources, and goes back: for a whole source, or for one function of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace

from fnsync.errors import Conflict, LoadFailed, NotFound, UnknownFunction
from fnsync.loading import Loading
from fnsync.model import FunctionId, Revision, Tree, Unit
from fnsync.parts import Parts
from fnsync.plan import denied_import, quarantine_of
from fnsync.reports import Outcome, ReloadReport
from fnsync.source.mounts import read_from
from fnsync.taking import Taking

#: How long a switch that goes live at once is held back for functions that are slow to load, in seconds.
HELD_S = 5.0


class Switching:
    """The reconciler's. Each method takes its turn, and must not be cancelled."""

    def __init__(
        self,
        parts: Parts,
        *,
        turn: asyncio.Lock,
        taking: Taking,
        loading: Loading,
        mounted: Callable[[Iterable[Tree]], None],
        finish: Callable[[Iterable[asyncio.Task[None]], Outcome], Awaitable[None]],
    ) -> None:
        """`mounted` is told of trees that are looked at from now on; `finish` waits for loads, and for the index."""
        self._turn = turn
        self._registry = parts.registry
        self._mounts = parts.mounts
        self._provenances = parts.provenances
        self._policy = parts.policy
        self._standings = parts.standings
        self._taking = taking
        self._loading = loading
        self._mounted = mounted
        self._finish = finish

    async def switch(
        self,
        source: str,
        tree: Tree | None,
        paths: Collection[str] | None,
        prune: bool,
        held: Collection[FunctionId],
        at_once: bool,
    ) -> ReloadReport:
        """As `Reconciler.switch`."""
        outcome = Outcome()
        with self._registry.held() if at_once else nullcontext():
            loads = await self._begun(source, tree, paths, prune, held, outcome)
            if at_once and loads:
                await asyncio.wait(loads, timeout=HELD_S)
        return await self._finished(loads, outcome)

    async def _begun(
        self,
        source: str,
        tree: Tree | None,
        paths: Collection[str] | None,
        prune: bool,
        held: Collection[FunctionId],
        outcome: Outcome,
    ) -> list[asyncio.Task[None]]:
        async with self._turn:
            before = self._mounts.trees.get(source)
            if tree is None:
                changes = self._mounts.unmount(source)
                self._provenances.unmount(source)
                ids = changes.ids
            else:
                changes = await asyncio.to_thread(self._mounts.mount, tree, paths)
                self._mounted([tree])
                ids = changes.ids | self._taking.leavers(before or tree, changes.ids, prune)
            outcome.changed = tuple(sorted(changes.read.keys() | changes.removed))
            self._taking.hold(held)
            return self._taking.take(changes, ids, outcome)

    async def set_quarantine(self, revisions: Mapping[FunctionId, Revision]) -> ReloadReport:
        """As `Reconciler.set_quarantine`."""
        outcome = Outcome()
        async with self._turn:
            differing = dict(self._taking.quarantine.items() ^ revisions.items())
            self._taking.quarantine = dict(revisions)
            loads = self._taking.again(differing.keys() & self._standings.keys(), outcome)
        return await self._finished(loads, outcome)

    async def bring_back(self, id: FunctionId, tree: Tree) -> ReloadReport:
        """As `Reconciler.bring_back`."""
        outcome = Outcome()
        async with self._turn:
            standing = self._standings.get(id)
            if standing is None or standing.unit.source != tree.source:
                raise UnknownFunction(f"the source {tree.source} has no function {id[:200]!r}")
            newest, known = standing.unit, self._taking.quarantine.get(id)
            older = self._usable(await asyncio.to_thread(read_from, tree, newest), newest, tree)
            if newest.revision is not None:
                self._taking.quarantine[id] = newest.revision
            self._loading.stop(id)
            held = replace(standing, problem=newest.problem or quarantine_of(newest), loading=False)
            load = self._loading.bring_back(held, older, tree, outcome)
        await asyncio.wait([load])
        if load.cancelled() or load.exception() is not None:
            await self._undo(newest, known)
            if load.cancelled():
                raise Conflict(f"{id} changed meanwhile", hint="look at it, and try again")
            load.result()
        return await self._finished([], outcome)

    def _usable(self, older: Unit | None, newest: Unit, tree: Tree) -> Unit:
        """What a function was in another tree, if it can answer. Raises why not."""
        if older is None:
            raise NotFound(f"{newest.id} is not in the commit {tree.commit[:12]} of {tree.source}")
        problem = older.problem or denied_import(older, self._policy.denied_imports)
        if problem is not None:
            raise LoadFailed(newest.id, problem)
        if older.revision == newest.revision:
            raise Conflict(f"the code of {newest.id} is the same in {tree.commit[:12]} and now")
        return older

    async def _undo(self, newest: Unit, known: Revision | None) -> None:
        """A function could not be brought back: its newest revision is quarantined as little as before."""
        quarantine, id = self._taking.quarantine, newest.id
        async with self._turn:
            if quarantine.get(id) == newest.revision:
                quarantine.pop(id, None)
                if known is not None:
                    quarantine[id] = known
            self._taking.again({id} & self._standings.keys(), Outcome())

    async def _finished(self, loads: Iterable[asyncio.Task[None]], outcome: Outcome) -> ReloadReport:
        await self._finish(loads, outcome)
        return outcome.summary()
