"""Acts on what was read of functions: what needs no load is published at once, loads are begun, what is gone goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import replace
from typing import Any

import structlog

from fnsync.loading import Loading, same_files
from fnsync.model import FunctionId, FunctionRow, GoodRevision, LiveFunction, Problem, Revision, Touch, Tree, Unit
from fnsync.parts import Parts
from fnsync.places import source_of
from fnsync.plan import (
    Standing,
    Step,
    choose,
    conflict_of,
    decide,
    difference,
    from_good,
    good_of,
    governed,
    left_of,
    missing_of,
)
from fnsync.reports import Outcome
from fnsync.source.catalog import Changes

log = structlog.get_logger()

Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Taking:
    """The reconciler's, and used in its turn; on the loop."""

    def __init__(
        self,
        parts: Parts,
        *,
        loading: Loading,
        quarantine: Mapping[FunctionId, Revision],
        spawn: Spawn,
    ) -> None:
        """`spawn` has work go on in the background."""
        #: All that discovery refuses now.
        self.refused: tuple[Problem, ...] = ()
        #: The revision of a function that is not taken.
        self.quarantine = dict(quarantine)
        self._mounts = parts.mounts
        self._snapshots = parts.snapshots
        self._registry = parts.registry
        self._executor = parts.executor
        self._provenances = parts.provenances
        self._policy = parts.policy
        self._standings = parts.standings
        self._changes = parts.changes
        self._writer = parts.writer
        self._loading = loading
        self._spawn = spawn

    # ---- the start ----

    def keep_left(self, goods: Mapping[FunctionId, GoodRevision], sources: Collection[str]) -> None:
        """At a start, functions that their sources do not have any more, or not for now, stay."""
        there = self._mounts.trees
        for id, good in goods.items():
            source = source_of(good.path)
            if source not in sources or self._mounts.claims(id):
                continue
            if source not in there:
                self._mounts.keep(missing_of(good, source), self._snapshots.folder(good.revision))
            elif good.left is not None:
                self._mounts.keep(left_of(good, source), self._snapshots.folder(good.revision))
                self._provenances.keep(good.path, good.left)

    def restore(self, rows: Iterable[FunctionRow], goods: Mapping[FunctionId, GoodRevision]) -> None:
        """Put the last good revisions into the registry, before anything is loaded."""
        failures = {row.id: row for row in rows if row.error is not None}
        live = {}
        for id in self._mounts.ids():
            good = goods.get(id)
            claims = self._mounts.claims(id)
            unit = choose(claims, good.path if good else None)
            standing = Standing(unit, rivals(claims, unit))
            if good is not None and self._snapshots.has(good.revision):
                touch = self._provenances.touch(unit)
                live[id] = from_good(good, unit, self._policy.limits, self._policy.active, touch)
                standing = replace(standing, live=live[id])
            failed = failures.get(id)
            if failed is not None and (failed.revision, failed.path) == (unit.revision, unit.path):
                standing = replace(standing, problem=failed.error)
            self._standings[id] = standing
        self._registry.publish(self._registry.newest.changed(live))

    # ---- functions ----

    def take(
        self,
        changes: Changes,
        ids: Collection[FunctionId],
        outcome: Outcome,
        lost: Collection[FunctionId] = (),
    ) -> list[asyncio.Task[None]]:
        """Act on what was read: publish what needs no load, start the loads."""
        self.refused = changes.refused
        gone = {id for id in ids if not self._mounts.claims(id)}
        loads = [self.take_one(id, outcome, lost=id in lost) for id in sorted(set(ids) - gone)]
        self._drop(gone, outcome)
        if changes.read or changes.removed:
            self._writer.files(changes.read.values(), changes.removed)
        if changes.ids:
            self._provenances.files_changed({source_of(path) for path in (*changes.read, *changes.removed)})
        # Also of files that only have another time: rows tell it, of files that git does not know.
        told = {*ids, *(reading.unit.id for reading in changes.read.values())}
        if told:
            self._writer.functions(told)
        return [task for task in loads if task is not None]

    def take_one(self, id: FunctionId, outcome: Outcome, *, lost: bool = False) -> asyncio.Task[None] | None:
        """Do what a function's files ask for; the task is the part that takes time."""
        before = self._standings.get(id)
        live = before.live if before is not None else None
        claims = self._mounts.claims(id)
        unit = choose(claims, live.path if live is not None else None)
        if self._mounts.is_back(id) and self.let_go(id) and live is not None:
            self._spawn(self._loading.remember(live))
        if live is not None:
            live = self._govern(live, unit, outcome)
        standing = Standing(unit, rivals(claims, unit), live)
        self._note_conflicts(before, standing, outcome)
        denied, quarantined = self._policy.denied_imports, self.quarantine.get(id)
        step, problem = decide(unit, live, denied, lost=lost, quarantined=quarantined)
        loading = self._loading
        loading.stop(id)
        if before is not None and not same_files(before.unit, unit):
            loading.retries.forget(id)  # its waits were for other files
        if step in (Step.LOAD, Step.APPLY) and before is not None and loading.must_wait(before, unit):
            self._standings[id] = replace(standing, problem=before.problem)
            loading.retries.plan(id)
            self._changes.tell(id)
            return None
        if step in (Step.LOAD, Step.APPLY):
            return loading.begin(step, standing, outcome)
        loading.retries.forget(id)
        self._standings[id] = replace(standing, problem=problem)
        self._changes.tell(id)
        if problem is not None:
            outcome.failed.append((id, problem))
            log.warning("function_refused", function=id, problem=str(problem))
            if live is not None:  # git tells of its commit only while it is the newest
                self._spawn(loading.remember(live))
        return None

    def again(self, ids: Iterable[FunctionId], outcome: Outcome) -> list[asyncio.Task[None]]:
        """Act anew on functions whose files are as they were."""
        loads = [self.take_one(id, outcome) for id in sorted(ids)]
        self._writer.functions(ids)
        return [task for task in loads if task is not None]

    def _govern(self, live: LiveFunction, unit: Unit, outcome: Outcome) -> LiveFunction:
        """Apply at once what of the settings concerns no code, be the source broken or not."""
        after = governed(live, unit, self._policy.limits, self._policy.active)
        if after != live:
            self._registry.publish(self._registry.newest.changed({live.id: after}))
            self._executor.limit(after)
            what = difference(live, after)
            outcome.applied.append((live.id, what))
            log.info("settings_applied", function=live.id, what=what)
            self._spawn(self._loading.remember(after))
        return after

    def _note_conflicts(self, before: Standing | None, now: Standing, outcome: Outcome) -> None:
        for path in now.rivals:
            if before is None or path not in before.rivals:
                problem = conflict_of(now, path)
                outcome.failed.append((now.unit.id, problem))
                log.warning("function_conflict", function=now.unit.id, problem=str(problem))

    def _drop(self, gone: Collection[FunctionId], outcome: Outcome) -> None:
        """Functions without a file: no new calls, and no memory of them."""
        for id in gone:
            self._loading.stop(id)
            self._loading.retries.forget(id)
            if self._standings.pop(id, None) is not None:
                outcome.removed.append(id)
                log.info("function_removed", function=id)
            self._snapshots.forget(id)
            self._executor.retire(id)
            self._executor.logs.forget(id)
        if gone:
            self._registry.publish(self._registry.newest.changed({}, frozenset(gone)))
        for id in sorted(gone):
            self._changes.tell(id)

    # ---- sources ----

    def leavers(self, before: Tree, ids: Collection[FunctionId], prune: bool) -> frozenset[FunctionId]:
        """Let functions stay that a source does not have any more, or, with `prune`, no longer; returns the latter."""
        source = before.source
        if prune:
            left = self._mounts.left(source)
            for id in left:
                self.let_go(id)
            return left
        for id in ids:
            live = self._registry.newest.functions.get(id)
            if live is None or source_of(live.path) != source or self._mounts.claims(id):
                continue
            unit = self._standings[id].unit
            unknown = Touch(live.updated_at, live.updated_at, before.commit, "")
            touch = self._provenances.touch(unit) or unknown
            left_unit = left_of(good_of(live, unit.prefix), source)
            self._mounts.keep(left_unit, self._snapshots.folder(live.revision))
            self._provenances.keep(live.path, touch)
            self._spawn(self._loading.remember(live))
        return frozenset()

    def let_go(self, id: FunctionId) -> bool:
        """A function that had left its source is there again, or is to go; returns whether it was one."""
        paths = self._mounts.let_go(id)
        for path in paths:
            self._provenances.let_go(path)
        return bool(paths)

    def hold(self, ids: Iterable[FunctionId]) -> None:
        """Have the newest revision of functions not taken, unless it is what serves."""
        for id in ids:
            live, claims = self._registry.newest.functions.get(id), self._mounts.claims(id)
            unit = choose(claims, live.path if live is not None else None) if claims else None
            if unit is not None and unit.revision is not None and (live is None or live.revision != unit.revision):
                self.quarantine[id] = unit.revision


def rivals(claims: Iterable[Unit], chosen: Unit) -> tuple[str, ...]:
    """The paths of the claims that do not count."""
    return tuple(unit.path for unit in claims if unit.path != chosen.path)
