"""Has functions go live: loads revisions, applies settings, and records what works. The work that takes time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import structlog

from fnsync.errors import FnsyncError, LoadFailed, SourceError
from fnsync.model import FunctionId, LiveFunction, Problem, Tree, Unit
from fnsync.parts import Parts
from fnsync.plan import (
    QUARANTINED,
    Standing,
    Step,
    applied,
    candidate_of,
    difference,
    good_of,
    governed,
)
from fnsync.reports import LoadTally, Outcome
from fnsync.retries import Retries
from fnsync.source.mounts import told

log = structlog.get_logger()


class Loading:
    """What is being loaded, at most one thing for each function. The reconciler's; on the loop."""

    def __init__(self, parts: Parts, retry: Callable[[FunctionId], object]) -> None:
        """`retry` is called when a load that failed is to be tried again."""
        self.tally = LoadTally()
        #: The tasks by function.
        self.under_way: dict[FunctionId, asyncio.Task[None]] = {}
        self.retries = Retries(retry)
        self._mounts = parts.mounts
        self._snapshots = parts.snapshots
        self._registry = parts.registry
        self._executor = parts.executor
        self._provenances = parts.provenances
        self._policy = parts.policy
        self._standings = parts.standings
        self._changes = parts.changes
        self._writer = parts.writer

    def begin(self, step: Step, standing: Standing, outcome: Outcome) -> asyncio.Task[None]:
        """Load, or apply what concerns no code; the function's standing tells what came of it."""
        if step is Step.LOAD:
            standing = replace(standing, loading=True)
            work = self._load(standing, outcome)
        else:
            work = self._apply(standing, outcome)
        self._standings[standing.unit.id] = standing
        return self._start(standing.unit.id, self._guarded(work, standing, outcome))

    def bring_back(self, standing: Standing, unit: Unit, tree: Tree, outcome: Outcome) -> asyncio.Task[None]:
        """Load `unit`, what the function was in an older `tree`; the task raises why that fails.

        The standing then says what is wrong with the newest files, as it does now.
        """

        async def work() -> None:
            started = time.perf_counter()
            live = replace(await self._loaded(unit, tree.folder), commit=tree.commit)
            live = governed(live, standing.unit, self._policy.limits, self._policy.active)
            await self._loaded_well(standing, replace(live, path=standing.unit.path), outcome, started)

        return self._start(unit.id, work())

    def stop(self, id: FunctionId) -> None:
        """Files changed again: what is being loaded is not wanted any more."""
        task = self.under_way.pop(id, None)
        if task is not None:
            task.cancel()

    def must_wait(self, before: Standing, unit: Unit) -> bool:
        """Whether these very files failed to load already: their next try is timed."""
        is_refused = before.unit.problem is not None or before.problem is None or before.problem.code == QUARANTINED
        return same_files(before.unit, unit) and not is_refused and not self.retries.due(unit.id)

    async def remember(self, live: LiveFunction) -> None:
        """Record the good revision, so that it serves after a restart too."""
        left = self._provenances.left(live.path)
        standing = self._standings.get(live.id)
        prefix = standing.unit.prefix if standing is not None else ""
        try:
            await asyncio.to_thread(self._snapshots.record_good, good_of(live, prefix, left))
        except (OSError, SourceError) as exc:
            log.error("good_revision_not_recorded", function=live.id, error=str(exc))
            return
        now = self._standings.get(live.id)
        if now is not None and now.live is not None and now.live.revision != live.revision:
            await self.remember(now.live)  # it went live meanwhile, and may have been recorded before

    def _start(self, id: FunctionId, work: Awaitable[None]) -> asyncio.Task[None]:
        task = self.under_way[id] = asyncio.ensure_future(work)
        task.add_done_callback(lambda done: self.under_way.pop(id) if self.under_way.get(id) is done else None)
        return task

    async def _guarded(self, work: Awaitable[None], standing: Standing, outcome: Outcome) -> None:
        """Whatever goes wrong with one function is told in its status and ends there."""
        try:
            await work
        except Exception as exc:
            log.exception("function_failed_unexpectedly", function=standing.unit.id)
            self._failed(standing, exc, outcome)

    async def _load(self, standing: Standing, outcome: Outcome) -> None:
        """Load the newest revision; it answers new calls from the moment it is published."""
        started = time.perf_counter()
        try:
            live = await self._loaded(standing.unit)
        except (FnsyncError, OSError) as exc:
            self._failed(standing, exc, outcome)
            if standing.live is not None:  # git tells of its commit only while it is the newest
                await self.remember(standing.live)
            return
        await self._loaded_well(replace(standing, problem=None), live, outcome, started)

    async def _loaded(self, unit: Unit, folder: Path | None = None) -> LiveFunction:
        """The function with a worker that has loaded it. `folder`: where its files are, if not where they should be."""
        root, located = self._mounts.located(unit)
        try:
            await asyncio.to_thread(self._snapshots.write, folder or root, located)
        except SourceError as exc:
            raise SourceError(told(exc.problem, unit.source)) from exc
        touch = self._provenances.touch(unit)
        candidate = candidate_of(unit, self._policy.limits, self._policy.active, touch)
        environment = self._executor.environments.named(
            unit.frontmatter.requirements, unit.frontmatter.requires_python, unit.frontmatter.inferred
        )
        manifest = await self._executor.load(candidate)
        return replace(candidate, manifest=manifest, kind=manifest.kind, environment=environment)

    async def _loaded_well(self, standing: Standing, live: LiveFunction, outcome: Outcome, started: float) -> None:
        self._go_live(standing, live)
        took_s = time.perf_counter() - started
        self.tally.good += 1
        self.tally.took_s += took_s
        outcome.loaded.append((live.id, live.revision[:8], took_s * 1000))
        log.info("function_loaded", function=live.id, revision=live.revision[:8], took_ms=round(took_s * 1000, 1))
        await self.remember(live)

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
        await self.remember(live)

    def _go_live(self, standing: Standing, live: LiveFunction) -> None:
        touch = self._provenances.touch(standing.unit)
        # Git may have answered while the revision was loading; of an older one it says nothing here.
        if touch is not None and live.revision == standing.unit.revision:
            live = replace(live, commit=touch.commit, updated_at=touch.updated_at)
        self._standings[live.id] = Standing(standing.unit, standing.rivals, live, standing.problem)
        self._registry.publish(self._registry.newest.changed({live.id: live}))
        self._changes.tell(live.id)
        self._executor.retire(live.id, keep=live.revision)
        self.retries.forget(live.id)
        self._writer.functions([live.id])

    def _failed(self, standing: Standing, exc: Exception, outcome: Outcome) -> None:
        id, problem = standing.unit.id, problem_of(exc, standing.unit)
        known = self.retries.tries(id) > 0  # the same files failed before, and that was logged
        self.tally.failed += 1
        self._standings[id] = replace(standing, problem=problem, loading=False)
        self._changes.tell(id)  # of what its settings changed at once
        outcome.failed.append((id, problem))
        serves = standing.live.revision[:8] if standing.live is not None else None
        (log.debug if known else log.warning)("function_failed", function=id, problem=str(problem), serves=serves)
        self._writer.functions([id])
        self.retries.plan(id)


def same_files(before: Unit, now: Unit) -> bool:
    """Whether two units come to the same, but for when and where they were read."""
    return (before.revision, before.settings) == (now.revision, now.settings)


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
