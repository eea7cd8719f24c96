"""Finds out what going over to a tree would do: reads what differs, and has what comes load in workers.

    Known (what is here now) ─┐
                              ├─ draft ──► drafts ─ try, a few at once ─► SyncPlan
    Tree (one commit's files) ┘  (reads)            (workers)

`draft` is work in proportion to what differs, and executes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from fnsync.differences import differences, traits
from fnsync.errors import Draining, FnsyncError, ValvesUnfit
from fnsync.loading import problem_of
from fnsync.model import (
    LOCAL,
    CommitId,
    FunctionId,
    LiveFunction,
    Problem,
    Revision,
    Settings,
    Tree,
    Unit,
    reference_of,
)
from fnsync.plan import QUARANTINED, Known, Policy, Standing, Step, candidate_of, decide
from fnsync.runtime import valves
from fnsync.runtime.executor import Executor
from fnsync.source import mounts
from fnsync.source.catalog import Catalog
from fnsync.source.snapshots import Snapshots
from fnsync.syncplan import FunctionChange, SyncPlan, bounded, sorted_changes

#: How many functions are tried at the same time; most of that is starting workers, which take turns anyway.
AT_ONCE = 8
#: Codes of the problems of units that only stand for files which are not there: their source has them no more, or its
#: folder is missing.
_STAND_INS = frozenset({"removed_upstream", "tree_missing"})


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for one plan besides the files."""

    prune: bool = True
    #: Whether what comes would be taken anyway. Else it is tried without secrets that what serves does not have.
    trusted: bool = True
    #: Revisions that are not taken, by function.
    quarantine: Mapping[FunctionId, Revision] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Draft:
    """A change, and what has to be loaded to tell whether it would go live."""

    change: FunctionChange
    #: As the tree's catalog has it; None: nothing is to be loaded.
    unit: Unit | None = None
    live: LiveFunction | None = None


class Planner:
    """Plans for one server. On the loop."""

    def __init__(
        self, known: Callable[[], Awaitable[Known]], executor: Executor, snapshots: Snapshots, policy: Policy
    ) -> None:
        """`known`: tells what is here now."""
        self._known = known
        self._executor = executor
        self._snapshots = snapshots
        self._policy = policy

    async def plan(
        self,
        tree: Tree,
        changed: Collection[str] | None,
        *,
        load: bool = True,
        ref: str | None = None,
        before: CommitId | None = None,
        notes: tuple[str, ...] = (),
        rules: Rules = Rules(),
    ) -> SyncPlan:
        """What going over to `tree` would do to what is here of its source now.

        `changed`: the paths in which they differ, relative to the tree's folder; None: everything is looked at. With
        `load`, what comes is tried in workers, which then wait a while for the switch. Raises Draining.
        """
        known = await self._known()
        drafts, refused = await asyncio.to_thread(draft, tree, changed, known, self._policy, rules)
        if load:
            changes = await self._tried(tree, drafts, rules)
        else:
            changes = [one.change for one in drafts]
        return SyncPlan(
            tree.source, ref, before, tree.commit, sorted_changes(changes), refused, load, notes, rules.prune
        )

    async def _tried(self, tree: Tree, drafts: Iterable[Draft], rules: Rules) -> list[FunctionChange]:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(draft: Draft) -> FunctionChange:
            if draft.unit is None:
                return draft.change
            async with places:
                return await self._try(tree, draft, draft.unit, rules)

        tasks = [asyncio.create_task(one(draft)) for draft in drafts]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _try(self, tree: Tree, draft: Draft, unit: Unit, rules: Rules) -> FunctionChange:
        """The change with what a worker says of it; errors are those that a switch would give."""
        seen = _outer(tree, unit)
        candidate = candidate_of(seen, self._policy.limits, self._policy.active, None)
        withheld: tuple[str, ...] = ()
        if not rules.trusted:
            settings, withheld = guarded(seen.settings, None if draft.live is None else draft.live.settings)
            candidate = replace(candidate, settings=settings)
        change = replace(draft.change, warnings=(*draft.change.warnings, *_without(withheld)))
        try:
            await asyncio.to_thread(self._snapshots.write, tree.folder, unit)
            self._executor.resolved_valves(candidate)
            trial = await self._executor.try_load(candidate)
            misfits = tuple(one for one in trial.misfits if not (one.missing and f"valves.{one.field}" in withheld))
            if misfits:
                raise ValvesUnfit(seen.id, valves.problem_of(misfits), misfits)
        except Draining:
            raise
        except (FnsyncError, OSError) as exc:
            return replace(change, error=problem_of(exc, seen))
        return change


def guarded(settings: Settings, live: Settings | None) -> tuple[Settings, tuple[str, ...]]:
    """The settings without references to secrets that what serves now has not; and the keys left out.

    What nobody has merged yet must not get hold of them by naming them.
    """
    has = live.references if live is not None else frozenset()
    valves = {
        name: value for name, value in settings.valves.items() if (reference_of(value) or ("", "")) in has | {("", "")}
    }
    env = tuple(name for name in settings.permissions.env if ("env", name) in has)
    left_out = [f"valves.{name}" for name in settings.valves if name not in valves]
    left_out += [f"permissions.env: {name}" for name in settings.permissions.env if name not in env]
    permissions = replace(settings.permissions, env=env)
    return replace(settings, valves=valves, permissions=permissions), tuple(left_out)


def _without(withheld: tuple[str, ...]) -> Iterator[str]:
    if withheld:
        yield f"tried without {', '.join(withheld)}, since what serves now does not refer to the same"


# ---- reading ------------------------------------------------------------------------------------------------


def draft(
    tree: Tree, changed: Collection[str] | None, known: Known, policy: Policy, rules: Rules
) -> tuple[list[Draft], tuple[Problem, ...]]:
    """What would become of each function, and what is refused among the files that were looked at. Blocking."""
    before = [unit for unit in known.units if unit.source == tree.source]
    catalog = Catalog(tree.folder, is_fixed=True)
    if changed is not None:
        catalog.restore(mounts.inner(unit) for unit in before if not _is_stand_in(unit))
    catalog.refresh(changed)
    ids = {_outer(tree, unit).id for unit in catalog.units.values()} | {unit.id for unit in before}
    claims: dict[FunctionId, _Claims] = {id: _Claims(known.standings.get(id)) for id in ids}
    for unit in catalog.units.values():
        seen = _outer(tree, unit)
        claims[seen.id].after.append((seen, unit))
    for unit in known.units:
        if unit.id in claims:
            (claims[unit.id].before if unit.source == tree.source else claims[unit.id].others).append(unit)
    drafts = [one for id in sorted(ids) for one in claims[id].drafts(policy, rules)]
    return drafts, tuple(mounts.told(problem, tree.source) for problem in catalog.refused)


def _outer(tree: Tree, unit: Unit) -> Unit:
    """A unit as its tree's catalog has it, as everybody else sees it."""
    return unit if tree.source == LOCAL else mounts.outer(unit, tree.source, tree.prefix)


@dataclass(slots=True)
class _Claims:
    """All that claims one id: of the tree's source before and afterwards, and of others."""

    standing: Standing | None
    before: list[Unit] = field(default_factory=list)
    #: As everybody sees it, and as the tree's catalog has it.
    after: list[tuple[Unit, Unit]] = field(default_factory=list)
    others: list[Unit] = field(default_factory=list)

    def drafts(self, policy: Policy, rules: Rules) -> Iterator[Draft]:
        was = self._winner([*self.before, *self.others]) if self.before else None
        was = was if was in self.before else None
        claims = [seen for seen, _ in self.after]
        winner = self._winner([*claims, *self.others])
        for seen, unit in self.after:
            if seen is winner:
                yield self._taken(was, seen, unit, policy, rules)
            else:
                assert winner is not None
                yield Draft(_conflict(seen, winner))
        if not self.after:
            gone = was or min(self.before, key=_rank)
            yield Draft(self._removed(gone, was is not None, winner, rules))

    def _live(self, unit: Unit | None) -> LiveFunction | None:
        """What answers calls now, if it is of that claim."""
        live = self.standing.live if self.standing is not None else None
        return live if live is not None and unit is not None and live.path == unit.path else None

    def _winner(self, claims: list[Unit]) -> Unit | None:
        """As in `plan.choose`: the one already live, else the functions folder's, else by source and path."""
        path = self.standing.live.path if self.standing is not None and self.standing.live is not None else None
        return next((unit for unit in claims if unit.path == path), min(claims, key=_rank, default=None))

    def _taken(self, was: Unit | None, seen: Unit, unit: Unit, policy: Policy, rules: Rules) -> Draft:
        """What becomes of the claim that counts."""
        live = self._live(was)
        is_same = was is not None and _is_same(was, seen)
        step, problem = decide(seen, live, policy.denied_imports)
        details, more = bounded(() if is_same else traits(seen) if was is None else differences(was, seen))
        change = FunctionChange(
            id=seen.id,
            path=seen.path,
            source=seen.source,
            action="unchanged" if is_same else "added" if was is None else "changed",
            details=details,
            error=problem,
            before=was.revision if was is not None else None,
            after=seen.revision,
            live=live is not None,
            more_details=more,
        )
        if problem is not None:
            return Draft(change)
        if is_same:
            return Draft(replace(change, error=self._problem()))
        if seen.revision is not None and rules.quarantine.get(seen.id) == seen.revision:
            warning = "this revision was rolled back: it is not taken until it changes, or is released"
            return Draft(replace(change, warnings=(warning,)))
        return Draft(change, unit, live) if _is_to_try(step, live, seen) else Draft(change)

    def _problem(self) -> Problem | None:
        """Why what does not change does not serve as it is."""
        problem = self.standing.problem if self.standing is not None else None
        return None if problem is None or problem.code in (QUARANTINED, *_STAND_INS) else problem

    def _removed(self, gone: Unit, counted: bool, heir: Unit | None, rules: Rules) -> FunctionChange:
        warnings = [f"{heir.path} takes over the id"] if heir is not None and counted else []
        if not rules.prune:
            warnings.append("it stays as it is, since its source has `prune: false`")
        live = self._live(gone) is not None
        if _is_stand_in(gone) and not rules.prune:
            return FunctionChange(
                gone.id, gone.path, gone.source, "unchanged", before=gone.revision, after=gone.revision, live=live
            )
        return FunctionChange(
            gone.id, gone.path, gone.source, "removed", warnings=tuple(warnings), before=gone.revision, live=live
        )


def _is_stand_in(unit: Unit) -> bool:
    return unit.problem is not None and unit.problem.code in _STAND_INS


def _is_same(was: Unit, seen: Unit) -> bool:
    """Whether going over from one to the other changes nothing."""
    if _is_stand_in(was):
        return (was.path, was.revision, was.settings) == (seen.path, seen.revision, seen.settings)
    return replace(was, stamps={}) == replace(seen, stamps={})


def _rank(unit: Unit) -> tuple[bool, str, str]:
    return unit.source != LOCAL, unit.source, unit.path


def _is_to_try(step: Step, live: LiveFunction | None, seen: Unit) -> bool:
    """Whether only a worker can tell if it would go live."""
    changed_valves = step is Step.APPLY and live is not None and live.settings.valves != seen.settings.valves
    return step is Step.LOAD or changed_valves


def _conflict(claim: Unit, winner: Unit) -> FunctionChange:
    problem = Problem(
        "conflict",
        f"{claim.path} and {winner.path} both claim the id {claim.id}; {winner.path} is used",
        claim.path,
        hint="rename one of the files, start its name with _, or give the source another prefix",
    )
    return FunctionChange(claim.id, claim.path, claim.source, "conflict", error=problem, after=claim.revision)
