"""Files -> registry and index: the one way by which anything on disk goes live."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from fnsync.changes import Listener, LiveChanges
from fnsync.errors import FnsyncError, LoadFailed, RepositoryError, SourceError
from fnsync.git.traces import Made
from fnsync.indexing import HEAD_NOTE, IndexWriter
from fnsync.model import FunctionId, FunctionRow, GoodRevision, Limits, LiveFunction, Problem, Revision, Unit, User
from fnsync.periodic import every
from fnsync.plan import (
    Known,
    Standing,
    Step,
    applied,
    candidate_of,
    choose,
    conflict_of,
    decide,
    difference,
    from_good,
    good_of,
    governed,
)
from fnsync.provenance import Provenance
from fnsync.registry import Registry
from fnsync.reports import LoadTally, Outcome, ReloadReport
from fnsync.retries import Retries
from fnsync.runtime.executor import Executor
from fnsync.source.catalog import Catalog, Changes
from fnsync.source.snapshots import Snapshots
from fnsync.standings import Standings
from fnsync.store.index import Index

log = structlog.get_logger()

#: How often the repository's HEAD is looked at, in seconds: a commit changes no file that we watch.
HEAD_S = 2.0
#: How often snapshots and environments that nobody needs are removed, in seconds.
COLLECT_S = 600.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configuration says about functions that say nothing themselves."""

    limits: Limits = Limits()
    active: bool = True
    denied_imports: tuple[str, ...] = ()


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
    ) -> None:
        #: Set when all that was there at the start has been loaded, or has failed.
        self.ready = asyncio.Event()
        self.tally = LoadTally()
        #: All that discovery refuses now.
        self.refused: tuple[Problem, ...] = ()
        self._root = root
        self._catalog = catalog
        self._snapshots = snapshots
        self._index = index
        self._registry = registry
        self._executor = executor
        self._provenance = provenance
        self._policy = policy
        self._on_reload = on_reload
        self._changes = LiveChanges(registry, listener)
        self._standings = Standings(policy.active)
        self._writer = IndexWriter(index, root, self._standings, provenance, policy.active)
        self._turn = asyncio.Lock()
        self._loads: dict[FunctionId, asyncio.Task[None]] = {}
        self._retries = Retries(lambda id: self._spawn(self._retry(id)))
        self._tasks: list[asyncio.Task[None]] = []
        self._first_look: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    @property
    def standings(self) -> Standings:
        """How each function stands now."""
        return self._standings

    # ---- life ----

    async def start(self) -> None:
        """Bring back what served before, look at the files, and begin to load what changed meanwhile."""
        outcome = Outcome()
        units, rows, goods, head = await asyncio.to_thread(self._read_stored)
        self._provenance.restore(rows, head)
        self._writer.head = self._provenance.head
        self._catalog.restore(units)
        changes = await asyncio.to_thread(self._catalog.refresh, None)
        self._restore(rows, goods)
        self._changes.restored(goods.keys(), first=not rows and not goods)
        known = {row.id for row in rows} | goods.keys()
        loads = self._take(changes, self._catalog.ids() | changes.ids | known, outcome)
        self._first_look = asyncio.create_task(self._watch_head())
        self._tasks = [
            asyncio.create_task(self._writer.run()),
            self._first_look,
            asyncio.create_task(every(HEAD_S, self._watch_head, "the repository's HEAD")),
            asyncio.create_task(every(COLLECT_S, self._collect, "cleaning")),
        ]
        self._spawn(self._finish_start(loads, outcome))

    def _read_stored(
        self,
    ) -> tuple[list[Unit], list[FunctionRow], dict[FunctionId, GoodRevision], str | None]:
        return self._index.units(), self._index.rows(), self._snapshots.goods(), self._index.note(HEAD_NOTE)

    def _restore(self, rows: Iterable[FunctionRow], goods: Mapping[FunctionId, GoodRevision]) -> None:
        """Put the last good revisions into the registry, before anything is loaded."""
        failures = {row.id: row for row in rows if row.error is not None}
        live = {}
        for id in self._catalog.ids():
            good = goods.get(id)
            claims = self._catalog.claims(id)
            unit = choose(claims, good.path if good else None)
            standing = Standing(unit, _rivals(claims, unit))
            if good is not None and self._snapshots.has(good.revision):
                touch = self._provenance.touch(unit)
                live[id] = from_good(good, unit, self._policy.limits, self._policy.active, touch)
                standing = replace(standing, live=live[id])
            failed = failures.get(id)
            if failed is not None and (failed.revision, failed.path) == (unit.revision, unit.path):
                standing = replace(standing, problem=failed.error)
            self._standings[id] = standing
        self._registry.publish(self._registry.world.changed(live))

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
        self._retries.close()
        await _cancelled([*self._tasks[1:], *self._loads.values(), *self._background])
        if self._tasks:
            await self.flush()
            await _cancelled(self._tasks[:1])

    async def flush(self) -> None:
        """Wait until the index holds what is known now."""
        await self._writer.flush()

    async def informed(self) -> None:
        """Wait until git was asked once, and the index holds what is known."""
        if self._first_look is not None:
            await asyncio.wait([self._first_look])
        await self.flush()

    async def settled(self) -> None:
        """Wait until nothing is being loaded, git was asked once, and the index holds what came of it."""
        await self.informed()
        while self._loads or self._background:
            await asyncio.gather(*self._loads.values(), *self._background, return_exceptions=True)
        await self.flush()

    # ---- changes ----

    async def reconcile(self, paths: Collection[str] | None) -> None:
        """Look at `paths` (None: at everything) and act on what changed; returns when the loads are under way."""
        outcome = Outcome()
        async with self._turn:
            changes = await asyncio.to_thread(self._catalog.refresh, paths)
            lost = await asyncio.to_thread(self._lost) if paths is None else frozenset()
            outcome.changed = _told(paths, changes)
            loads = self._take(changes, changes.ids | lost, outcome, lost)
        self._spawn(self._finish(loads, outcome))
        if changes.ids:  # by a checkout or a pull, perhaps, which moved HEAD before
            self._spawn(self._watch_head())

    async def settle(self, paths: Collection[str], ids: Collection[FunctionId]) -> None:
        """Look at `paths`, and return when what changed there, and `ids`, answer calls or have failed, and the index
        holds it."""
        outcome = Outcome()
        async with self._turn:
            changes = await asyncio.to_thread(self._catalog.refresh, paths)
            outcome.changed = _told(paths, changes)
            loads = self._take(changes, changes.ids, outcome)
            # The watcher may have been faster.
            loads += [self._loads[id] for id in ids if id in self._loads]
        await self._finish(loads, outcome)
        self._writer.functions(ids)
        await self.flush()

    def acting(self, ids: Collection[FunctionId], actor: User) -> AbstractContextManager[None]:
        """For the time of an edit: what changes of these functions is told to be its author's doing."""
        return self._changes.acting(ids, actor)

    def committed(self, made: Made) -> None:
        """The server has made a commit: what is told of its functions needs no look at git."""
        self._provenance.committed(made)
        if self._writer.head == made.parent:
            self._writer.head = made.commit

    async def renew_valves(self, renewed: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        """Write the stored valves of what serves in another form that means the same.

        What serves may be older than its files, and then has values of its own.
        """
        async with self._turn:
            live = {id: standing.live for id, standing in self._standings.items() if standing.live is not None}
            valves = await asyncio.to_thread(
                lambda: {id: renewed(function.settings.valves) for id, function in live.items()}
            )
            for id, function in live.items():
                standing = self._standings.get(id)
                if standing is None or standing.live is not function or valves[id] == function.settings.valves:
                    continue
                after = replace(function, settings=replace(function.settings, valves=valves[id]))
                self._standings[id] = replace(standing, live=after)
                self._registry.publish(self._registry.world.changed({id: after}))
                self._changes.same({id: after})
                await self._remember(after)

    async def known(self) -> Known:
        """What is here now, as the files were last read."""
        async with self._turn:
            return Known(tuple(self._catalog.units.values()), dict(self._standings))

    def find(self, id: FunctionId) -> Unit | None:
        """The claim to an id that counts, as its files were last read."""
        standing = self._standings.get(id)
        return standing.unit if standing is not None else None

    async def _finish(self, loads: Iterable[asyncio.Task[None]], outcome: Outcome) -> None:
        await asyncio.gather(*loads, return_exceptions=True)
        self._report(outcome)

    def _report(self, outcome: Outcome) -> None:
        report = outcome.report()
        if report is not None and self._on_reload is not None:
            self._on_reload(report)

    def _lost(self) -> frozenset[FunctionId]:
        """Functions whose live snapshot is not there any more: somebody cleared the data folder."""
        live = self._registry.world.functions.items()
        lost = frozenset(id for id, function in live if not self._snapshots.has(function.revision))
        if lost:
            log.error("snapshots_lost", functions=sorted(lost)[:20], hint="they are made again from the files")
        return lost

    def _take(
        self,
        changes: Changes,
        ids: Collection[FunctionId],
        outcome: Outcome,
        lost: Collection[FunctionId] = (),
    ) -> list[asyncio.Task[None]]:
        """Act on what was read: publish what needs no load, start the loads."""
        self.refused = changes.refused
        gone = {id for id in ids if not self._catalog.claims(id)}
        loads = [self._take_one(id, outcome, lost=id in lost) for id in sorted(set(ids) - gone)]
        self._drop(gone, outcome)
        if changes.read or changes.removed:
            self._writer.files(changes.read.values(), changes.removed)
        if changes.ids:
            self._provenance.files_changed()
        # Also of files that only have another time: rows tell it, of files that git does not know.
        told = {*ids, *(reading.unit.id for reading in changes.read.values())}
        if told:
            self._writer.functions(told)
        return [task for task in loads if task is not None]

    def _take_one(self, id: FunctionId, outcome: Outcome, *, lost: bool = False) -> asyncio.Task[None] | None:
        """Do what a function's files ask for; the task is the part that takes time."""
        before = self._standings.get(id)
        live = before.live if before is not None else None
        claims = self._catalog.claims(id)
        unit = choose(claims, live.path if live is not None else None)
        if live is not None:
            live = self._govern(live, unit, outcome)
        standing = Standing(unit, _rivals(claims, unit), live)
        self._note_conflicts(before, standing, outcome)
        step, problem = decide(unit, live, self._policy.denied_imports, lost=lost)
        self._stop_load(id)
        if before is not None and not _same_files(before.unit, unit):
            self._retries.forget(id)  # its waits were for other files
        if step in (Step.LOAD, Step.APPLY) and before is not None and self._must_wait(before, unit):
            self._standings[id] = replace(standing, problem=before.problem)
            self._retries.plan(id)
            self._changes.tell(id)
            return None
        if step is Step.LOAD:
            self._standings[id] = replace(standing, loading=True)
            return self._work(id, self._guarded(self._load(standing, outcome), standing, outcome))
        if step is Step.APPLY:
            self._standings[id] = standing
            return self._work(id, self._guarded(self._apply(standing, outcome), standing, outcome))
        self._retries.forget(id)
        self._standings[id] = replace(standing, problem=problem)
        self._changes.tell(id)
        if problem is not None:
            outcome.failed.append((id, problem))
            log.warning("function_refused", function=id, problem=str(problem))
        return None

    def _govern(self, live: LiveFunction, unit: Unit, outcome: Outcome) -> LiveFunction:
        """Apply at once what of the settings concerns no code, be the source broken or not."""
        after = governed(live, unit, self._policy.limits, self._policy.active)
        if after != live:
            self._registry.publish(self._registry.world.changed({live.id: after}))
            self._executor.limit(after)
            what = difference(live, after)
            outcome.applied.append((live.id, what))
            log.info("settings_applied", function=live.id, what=what)
            self._spawn(self._remember(after))
        return after

    def _note_conflicts(self, before: Standing | None, now: Standing, outcome: Outcome) -> None:
        for path in now.rivals:
            if before is None or path not in before.rivals:
                problem = conflict_of(now, path)
                outcome.failed.append((now.unit.id, problem))
                log.warning("function_conflict", function=now.unit.id, problem=str(problem))

    def _must_wait(self, before: Standing, unit: Unit) -> bool:
        """Whether these very files failed already: their next try is timed."""
        return _same_files(before.unit, unit) and before.problem is not None and not self._retries.due(unit.id)

    def _drop(self, gone: Collection[FunctionId], outcome: Outcome) -> None:
        """Functions without a file: no new calls, and no memory of them."""
        for id in gone:
            self._stop_load(id)
            self._retries.forget(id)
            if self._standings.pop(id, None) is not None:
                outcome.removed.append(id)
                log.info("function_removed", function=id)
            self._snapshots.forget(id)
            self._executor.retire(id)
            self._executor.logs.forget(id)
        if gone:
            self._registry.publish(self._registry.world.changed({}, frozenset(gone)))
        for id in sorted(gone):
            self._changes.tell(id)

    # ---- work that takes time ----

    def _work(self, id: FunctionId, work: Awaitable[None]) -> asyncio.Task[None]:
        task = self._loads[id] = asyncio.ensure_future(work)
        task.add_done_callback(lambda done: self._loads.pop(id) if self._loads.get(id) is done else None)
        return task

    def _stop_load(self, id: FunctionId) -> None:
        """Files changed again: what is being loaded is not wanted any more."""
        task = self._loads.pop(id, None)
        if task is not None:
            task.cancel()

    async def _guarded(self, work: Awaitable[None], standing: Standing, outcome: Outcome) -> None:
        """Whatever goes wrong with one function is told in its status and ends there."""
        try:
            await work
        except Exception as exc:
            log.exception("function_failed_unexpectedly", function=standing.unit.id)
            self._failed(standing, exc, outcome)

    async def _remember(self, live: LiveFunction) -> None:
        """Record the good revision, so that it serves after a restart too."""
        try:
            await asyncio.to_thread(self._snapshots.record_good, good_of(live))
        except (OSError, SourceError) as exc:
            log.error("good_revision_not_recorded", function=live.id, error=str(exc))

    async def _load(self, standing: Standing, outcome: Outcome) -> None:
        """Load the newest revision; it answers new calls from the moment it is published."""
        unit = standing.unit
        started = time.perf_counter()
        try:
            await asyncio.to_thread(self._snapshots.write, self._root, unit)
            touch = self._provenance.touch(unit)
            candidate = candidate_of(unit, self._policy.limits, self._policy.active, touch)
            environment = self._executor.environments.named(
                unit.frontmatter.requirements, unit.frontmatter.requires_python, unit.frontmatter.inferred
            )
            manifest = await self._executor.load(candidate)
        except (FnsyncError, OSError) as exc:
            self._failed(standing, exc, outcome)
            return
        live = replace(candidate, manifest=manifest, kind=manifest.kind, environment=environment)
        self._go_live(standing, live)
        took_s = time.perf_counter() - started
        took_ms = took_s * 1000
        self.tally.good += 1
        self.tally.took_s += took_s
        outcome.loaded.append((unit.id, live.revision[:8], took_ms))
        log.info("function_loaded", function=unit.id, revision=live.revision[:8], took_ms=round(took_ms, 1))
        await self._remember(live)

    async def _apply(self, standing: Standing, outcome: Outcome) -> None:
        """Settings, path or title changed: the code that serves stays."""
        before = standing.live
        assert before is not None
        live = applied(before, standing.unit, self._policy.limits, self._policy.active)
        if (before.settings.valves, before.limits) != (live.settings.valves, live.limits):
            try:
                await self._executor.configure(live)
            except FnsyncError as exc:
                self._failed(standing, exc, outcome)
                return
        self._go_live(standing, live)
        what = difference(before, live)
        outcome.applied.append((live.id, what))
        log.info("settings_applied", function=live.id, what=what)
        await self._remember(live)

    def _go_live(self, standing: Standing, live: LiveFunction) -> None:
        touch = self._provenance.touch(standing.unit)
        if touch is not None:  # git may have answered while the revision was loading
            live = replace(live, commit=touch.commit, updated_at=touch.updated_at)
        self._standings[live.id] = Standing(standing.unit, standing.rivals, live)
        self._registry.publish(self._registry.world.changed({live.id: live}))
        self._changes.tell(live.id)
        self._executor.retire(live.id, keep=live.revision)
        self._retries.forget(live.id)
        self._writer.functions([live.id])

    def _failed(self, standing: Standing, exc: Exception, outcome: Outcome) -> None:
        id, problem = standing.unit.id, problem_of(exc, standing.unit)
        known = self._retries.tries(id) > 0  # the same files failed before, and that was logged
        self.tally.failed += 1
        self._standings[id] = replace(standing, problem=problem)
        self._changes.tell(id)  # of what its settings changed at once
        outcome.failed.append((id, problem))
        serves = standing.live.revision[:8] if standing.live is not None else None
        (log.debug if known else log.warning)("function_failed", function=id, problem=str(problem), serves=serves)
        self._writer.functions([id])
        self._retries.plan(id)

    # ---- retries ----

    async def _retry(self, id: FunctionId) -> None:
        outcome = Outcome()
        async with self._turn:
            if not self._catalog.claims(id) or id in self._loads:
                return
            task = self._take_one(id, outcome)
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)
        if outcome.loaded or outcome.applied:
            self._report(outcome)

    # ---- in the background ----

    async def _watch_head(self) -> None:
        """Keep created, updated, author and commit in step with the repository."""
        try:
            # Long histories take seconds: no save waits for them.
            if await self._provenance.refresh():
                async with self._turn:
                    self._take_provenance()
        except (RepositoryError, OSError) as exc:
            log.warning("repository_unreadable", error=str(exc))

    def _take_provenance(self) -> None:
        live = {}
        for id, standing in self._standings.items():
            touch = self._provenance.touch(standing.unit)
            if standing.live is not None and touch is not None and standing.live.commit != touch.commit:
                live[id] = replace(standing.live, commit=touch.commit, updated_at=touch.updated_at)
                self._standings[id] = replace(standing, live=live[id])
        if live:
            self._registry.publish(self._registry.world.changed(live))
        self._writer.functions(self._standings)
        self._writer.head = self._provenance.head

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

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


async def _cancelled(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _same_files(before: Unit, now: Unit) -> bool:
    return (before.revision, before.settings) == (now.revision, now.settings)


def _told(paths: Collection[str] | None, changes: Changes) -> tuple[str, ...]:
    """The changed paths to name to people: without the temporary files of editors."""
    known = {path for reading in changes.read.values() for path in reading.unit.stamps} | changes.removed
    return tuple(sorted(known & set(paths) if paths is not None else changes.read.keys() | changes.removed))


def _rivals(claims: Iterable[Unit], chosen: Unit) -> tuple[str, ...]:
    return tuple(unit.path for unit in claims if unit.path != chosen.path)


def problem_of(exc: Exception, unit: Unit) -> Problem:
    """What a failed load says, in the function's own file where it names none."""
    if isinstance(exc, LoadFailed | SourceError):
        problem = exc.problem
        if problem.code == "valves" and unit.settings_path is not None:
            return replace(problem, path=unit.settings_path, line=None)
        return problem if problem.path is not None else replace(problem, path=unit.path)
    if isinstance(exc, FnsyncError):
        return Problem(exc.code, exc.message, unit.path, hint=exc.hint)
    code = "unreadable" if isinstance(exc, OSError) else "unexpected"
    return Problem(code, f"{type(exc).__name__}: {exc}", unit.path)
