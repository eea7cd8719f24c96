"""Files -> registry and index: the one way by which anything on disk goes live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import structlog

from fnsync.changes import Listener, LiveChanges
from fnsync.errors import RepositoryError
from fnsync.git.traces import Made
from fnsync.indexing import IndexWriter
from fnsync.loading import Loading
from fnsync.model import LOCAL, FunctionId, Problem, Revision, Tree, Unit, User
from fnsync.parts import Parts
from fnsync.periodic import every
from fnsync.plan import Known, Policy, paths_of
from fnsync.provenance import News, Provenance
from fnsync.provenances import HEAD_NOTE, Provenances
from fnsync.registry import Registry
from fnsync.reports import Outcome, ReloadReport
from fnsync.runtime.executor import Executor
from fnsync.source.catalog import Catalog, Changes
from fnsync.source.mounts import Mounts
from fnsync.source.snapshots import Snapshots
from fnsync.standings import Standings
from fnsync.store.index import Index
from fnsync.stored import mark_note, read_stored
from fnsync.switching import Switching
from fnsync.taking import Taking

T = TypeVar("T")
log = structlog.get_logger()

#: How often the repository's HEAD is looked at, in seconds: a commit changes no file that we watch.
HEAD_S = 2.0
#: How often snapshots and environments that nobody needs are removed, in seconds.
COLLECT_S = 600.0


class Reconciler:
    """Makes registry and index match the functions folder; the only one that publishes."""

    def __init__(
        self,
        *,
        root: Path,
        catalog: Catalog,
        snapshots: Snapshots,
        index: Index,
        registry: Registry,
        executor: Executor,
        provenance: Provenance,
        policy: Policy,
        on_reload: Callable[[ReloadReport], None] | None = None,
        listener: Listener | None = None,
        trees: Collection[Tree] = (),
        quarantine: Mapping[FunctionId, Revision] | None = None,
    ) -> None:
        """`root`, `catalog` and `provenance` are those of the functions folder; `trees` what was live of sources before
        the start; `quarantine` which revision of a function is not taken."""
        #: Set when all that was there at the start has been loaded, or has failed.
        self.ready = asyncio.Event()
        self._mounts = Mounts(root, catalog)
        self._trees = {tree.source: tree for tree in trees}
        self._snapshots = snapshots
        self._index = index
        self._registry = registry
        self._executor = executor
        self._provenances = Provenances(provenance)
        self._on_reload = on_reload
        self._changes = LiveChanges(registry, listener)
        self._standings = Standings(policy.active)
        self._writer = IndexWriter(index, self._mounts.root_of, self._standings, self._provenances, policy.active)
        self._turn = asyncio.Lock()
        parts = Parts(
            self._mounts,
            snapshots,
            registry,
            executor,
            self._provenances,
            policy,
            self._standings,
            self._changes,
            self._writer,
        )
        self._loading = Loading(parts, retry=lambda id: self._spawn(self._retry(id)))
        self._taking = Taking(parts, loading=self._loading, quarantine=quarantine or {}, spawn=self._spawn)
        self._switching = Switching(
            parts,
            turn=self._turn,
            taking=self._taking,
            loading=self._loading,
            mounted=self._mounted,
            finish=self._finish_whole,
        )
        self.tally = self._loading.tally
        self._tasks: list[asyncio.Task[None]] = []
        self._first_look: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[Any]] = set()

    @property
    def standings(self) -> Standings:
        """How each function stands now."""
        return self._standings

    @property
    def trees(self) -> Mapping[str, Tree]:
        """The trees of sources that functions are from, by the source's name."""
        return self._mounts.trees

    @property
    def refused(self) -> tuple[Problem, ...]:
        """All that discovery refuses now."""
        return self._taking.refused

    @property
    def quarantine(self) -> Mapping[FunctionId, Revision]:
        """The revision of a function that is not taken."""
        return MappingProxyType(self._taking.quarantine)

    # ---- life ----

    async def start(self) -> None:
        """Bring back what served before, look at the files, and begin to load what changed meanwhile."""
        outcome = Outcome()
        stored = await asyncio.to_thread(read_stored, self._index, self._snapshots, self._trees)
        self._provenances.restore(stored.rows, stored.heads)
        self._writer.heads = self._provenances.heads()
        self._mounts.restore(stored.units, stored.marks)
        changes = await asyncio.to_thread(self._mounts.first_look, self._trees.values())
        self._mounted(self._trees.values())
        self._taking.keep_left(stored.goods, self._trees)
        self._taking.restore(stored.rows, stored.goods)
        self._changes.restored(stored.goods.keys(), first=not stored.rows and not stored.goods)
        known = {row.id for row in stored.rows} | stored.goods.keys()
        loads = self._taking.take(changes, self._mounts.ids() | changes.ids | known, outcome)
        self._first_look = asyncio.create_task(self._watch_head())
        self._tasks = [
            asyncio.create_task(self._writer.run()),
            self._first_look,
            asyncio.create_task(every(HEAD_S, self._watch_head, "the repository's HEAD")),
            asyncio.create_task(every(COLLECT_S, self._collect, "cleaning")),
        ]
        self._spawn(self._finish_start(loads, outcome))

    async def _finish_start(self, loads: list[asyncio.Task[None]], outcome: Outcome) -> None:
        await asyncio.gather(*loads, return_exceptions=True)
        self.ready.set()
        self._changes.ready()
        log.info(
            "functions_ready",
            functions=len(self._standings),
            loaded=len(outcome.loaded),
            failed=len(outcome.failed),
            took_ms=round(outcome.took_ms, 1),
        )
        self._report(outcome)

    async def close(self) -> None:
        """Stop; what is not written to the index yet is written first."""
        self._loading.retries.close()
        await _cancelled([*self._tasks[1:], *self._loading.under_way.values(), *self._background])
        if self._tasks:
            await self.flush()
            await _cancelled(self._tasks[:1])

    async def flush(self) -> None:
        """Wait until the index holds what is known now."""
        await self._writer.flush()

    async def informed(self) -> None:
        """Wait until git was asked once about the functions folder, and the index holds what is known."""
        if self._first_look is not None:
            await asyncio.wait([self._first_look])
        await self.flush()

    async def settled(self) -> None:
        """Wait until nothing is being loaded, git was asked once, and the index holds what came of it."""
        await self.informed()
        while self._loading.under_way or self._background:
            await asyncio.gather(*self._loading.under_way.values(), *self._background, return_exceptions=True)
        await self.flush()

    # ---- changes ----

    async def reconcile(self, paths: Collection[str] | None) -> None:
        """Look at `paths` (None: at everything) and act on what changed; returns when the loads are under way."""
        outcome = Outcome()
        async with self._turn:
            changes = await asyncio.to_thread(self._mounts.refresh, paths)
            lost = await asyncio.to_thread(self._lost) if paths is None else frozenset()
            outcome.changed = _told(paths, changes)
            loads = self._taking.take(changes, changes.ids | lost, outcome, lost)
        self._spawn(self._finish(loads, outcome))
        if changes.ids:  # by a checkout or a pull, perhaps, which moved HEAD before
            self._spawn(self._watch_head())

    async def settle(self, paths: Collection[str], ids: Collection[FunctionId]) -> None:
        """Look at `paths`, and return when what changed there, and `ids`, answer calls or have failed, and the index
        holds it."""
        outcome = Outcome()
        async with self._turn:
            changes = await asyncio.to_thread(self._mounts.refresh, paths)
            outcome.changed = _told(paths, changes)
            loads = self._taking.take(changes, changes.ids, outcome)
            # The watcher may have been faster.
            loads += [self._loading.under_way[id] for id in ids if id in self._loading.under_way]
        await self._finish(loads, outcome)
        self._writer.functions(ids)
        await self.flush()

    # ---- sources ----

    async def switch(
        self,
        source: str,
        tree: Tree | None,
        paths: Collection[str] | None,
        *,
        prune: bool = True,
        held: Collection[FunctionId] = (),
        at_once: bool = False,
    ) -> ReloadReport:
        """Go over to another tree of a source; returns when what changed answers calls or has failed, and the index
        holds it. Goes on if the caller is cancelled.

        `tree` None: the source is gone. `paths`: what differs from the tree before; None: perhaps everything. Without
        `prune`, functions that left stay live, and are stale. `held` functions keep what serves; their new revision is
        quarantined. `at_once`: no request sees functions of both trees, unless they load longer than HELD_S.
        Raises SourceError for a tree that is not there; then all stays as it is.
        """
        return await asyncio.shield(self._spawn(self._switching.switch(source, tree, paths, prune, held, at_once)))

    async def set_quarantine(self, revisions: Mapping[FunctionId, Revision]) -> ReloadReport:
        """Have other revisions not taken; returns when what is released answers calls or has failed."""
        return await asyncio.shield(self._spawn(self._switching.set_quarantine(revisions)))

    async def bring_back(self, id: FunctionId, tree: Tree) -> ReloadReport:
        """Have a function of a source answer as it was in another tree of it; its newest revision is quarantined.

        Raises UnknownFunction, NotFound for a tree that does not have it, Conflict where it is the same there, and what
        loading raises; then all stays as it is.
        """
        return await asyncio.shield(self._spawn(self._switching.bring_back(id, tree)))

    def _mounted(self, trees: Iterable[Tree]) -> None:
        """Have git tell of trees, behind all else, and the index know what its units were read from."""
        for tree in trees:
            self._provenances.mount(tree)
            self._spawn(self._watch_head(tree.source))
        for source, mark in self._mounts.marks.items():
            self._writer.note(mark_note(source), mark)

    # ---- what edits ask ----

    def acting(self, ids: Collection[FunctionId], actor: User) -> AbstractContextManager[None]:
        """For the time of an edit: what changes of these functions is told to be its author's doing."""
        return self._changes.acting(ids, actor)

    def committed(self, made: Made) -> None:
        """The server has made a commit: what is told of its functions needs no look at git."""
        self._provenances.committed(made)
        if self._writer.heads.get(HEAD_NOTE) == made.parent:
            self._writer.heads = {**self._writer.heads, HEAD_NOTE: made.commit}

    async def renew_valves(self, renewed: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        """Write the stored valves of what serves of local functions in another form that means the same.

        What serves may be older than its files, and then has values of its own.
        """
        async with self._turn:
            local = {id: standing for id, standing in self._standings.items() if standing.unit.source == LOCAL}
            live = {id: standing.live for id, standing in local.items() if standing.live is not None}
            valves = await asyncio.to_thread(
                lambda: {id: renewed(function.settings.valves) for id, function in live.items()}
            )
            for id, function in live.items():
                standing = self._standings.get(id)
                if standing is None or standing.live is not function or valves[id] == function.settings.valves:
                    continue
                after = replace(function, settings=replace(function.settings, valves=valves[id]))
                self._standings[id] = replace(standing, live=after)
                self._registry.publish(self._registry.newest.changed({id: after}))
                self._changes.same({id: after})
                await self._loading.remember(after)

    async def known(self) -> Known:
        """What is here now, as the files were last read."""
        async with self._turn:
            return Known(tuple(self._mounts.units()), dict(self._standings))

    def find(self, id: FunctionId) -> Unit | None:
        """The claim to an id that counts, as its files were last read."""
        standing = self._standings.get(id)
        return standing.unit if standing is not None else None

    async def _finish(self, loads: Iterable[asyncio.Task[None]], outcome: Outcome) -> None:
        await asyncio.gather(*loads, return_exceptions=True)
        self._report(outcome)

    async def _finish_whole(self, loads: Iterable[asyncio.Task[None]], outcome: Outcome) -> None:
        await self._finish(loads, outcome)
        await self.flush()

    def _report(self, outcome: Outcome) -> None:
        report = outcome.report()
        if report is not None and self._on_reload is not None:
            self._on_reload(report)

    def _lost(self) -> frozenset[FunctionId]:
        """Functions whose live snapshot is not there any more: somebody cleared the data folder."""
        live = self._registry.newest.functions.items()
        lost = frozenset(id for id, function in live if not self._snapshots.has(function.revision))
        if lost:
            log.error("snapshots_lost", functions=sorted(lost)[:20], hint="they are made again from the files")
        return lost

    # ---- retries ----

    async def _retry(self, id: FunctionId) -> None:
        outcome = Outcome()
        async with self._turn:
            if not self._mounts.claims(id) or id in self._loading.under_way:
                return
            task = self._taking.take_one(id, outcome)
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)
        if outcome.loaded or outcome.applied:
            self._report(outcome)

    # ---- in the background ----

    async def _watch_head(self, source: str = LOCAL) -> None:
        """Keep created, updated, author and commit in step with the repository."""
        try:
            # Long histories take seconds: no save waits for them.
            news = await self._provenances.refresh(source)
            if news is not None:
                async with self._turn:
                    self._take_provenance(source, news)
        except (RepositoryError, OSError) as exc:
            log.warning("repository_unreadable", source=source, error=str(exc))

    def _take_provenance(self, source: str, news: News) -> None:
        """Bring up to date what git tells of the functions of a source that the news are about."""
        live = {}
        of_source = (one.unit for one in self._standings.values() if one.unit.source == source)
        ids = [unit.id for unit in of_source if news.paths is None or not news.paths.isdisjoint(paths_of(unit))]
        for id in ids:
            standing = self._standings[id]
            touch = self._provenances.touch(standing.unit)
            if touch is None or standing.live is None or standing.live.revision != standing.unit.revision:
                continue  # what serves may be older than the files, and then is of the commit that it was of
            if standing.live.commit != touch.commit:
                live[id] = replace(standing.live, commit=touch.commit, updated_at=touch.updated_at)
                self._standings[id] = replace(standing, live=live[id])
        if live:
            self._registry.publish(self._registry.newest.changed(live))
        self._writer.functions(ids)
        self._writer.heads = {**self._writer.heads, **self._provenances.heads_of(source)}

    async def _collect(self) -> None:
        """Remove snapshots and environments that nobody needs."""
        worlds = self._registry.worlds()
        environments = {live.environment for world in worlds for live in world.functions.values()}
        environments |= self._executor.environments_in_use()
        snapshots = await asyncio.to_thread(self._snapshots.collect, self._needed())
        removed = await asyncio.to_thread(self._executor.environments.collect, environments)
        log.debug("cleaned", snapshots=snapshots, environments=removed)

    def _needed(self) -> set[Revision]:
        """Revisions in use, on disk now, or live, also for requests that came before."""
        newest = {standing.unit.revision for standing in self._standings.values()}
        worlds = self._registry.worlds()
        live = {function.revision for world in worlds for function in world.functions.values()}
        return self._executor.in_use() | live | {revision for revision in newest if revision is not None}

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


async def _cancelled(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _told(paths: Collection[str] | None, changes: Changes) -> tuple[str, ...]:
    """The changed paths to name to people: without the temporary files of editors."""
    known = {path for reading in changes.read.values() for path in reading.unit.stamps} | changes.removed
    return tuple(sorted(known & set(paths) if paths is not None else changes.read.keys() | changes.removed))
