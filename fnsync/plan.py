"""What the files on disk ask for, next to what is live. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from fnsync.git.traces import Change, Touches, Trace
from fnsync.model import (
    LOCAL,
    Frontmatter,
    FunctionId,
    FunctionRow,
    GoodRevision,
    Inspection,
    Kind,
    Limits,
    LiveFunction,
    Manifest,
    Problem,
    Revision,
    Status,
    Touch,
    Unit,
    display_name,
)
from fnsync.source import imports

#: The codes of problems of a revision that is not taken, and of a function that its source has no more.
QUARANTINED = "quarantined"
REMOVED_UPSTREAM = "removed_upstream"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configuration says about functions that say nothing themselves."""

    limits: Limits = Limits()
    active: bool = True
    denied_imports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """How one function stands: the claim that counts, what became of it, and what serves."""

    unit: Unit
    #: The other paths that claim the id.
    rivals: tuple[str, ...] = ()
    live: LiveFunction | None = None
    #: Why the newest files are not what serves.
    problem: Problem | None = None
    loading: bool = False

    @property
    def status(self) -> Status:
        if self.loading:
            return Status.LOADING
        if self.problem is not None:
            return Status.FAILED if self.live is None else Status.STALE
        if self.live is not None and not self.live.active:
            return Status.INACTIVE
        return Status.READY if self.live is not None else Status.LOADING


@dataclass(frozen=True, slots=True)
class Known:
    """What is here at one moment."""

    #: Every claim to an id, of the functions folder and of sources.
    units: tuple[Unit, ...] = ()
    standings: Mapping[FunctionId, Standing] = field(default_factory=dict)


class Step(Enum):
    """What to do about a function whose files were looked at."""

    KEEP = "keep"
    #: The newest files cannot be used; what is live stays.
    REFUSE = "refuse"
    LOAD = "load"
    #: Same code: settings, path or title changed.
    APPLY = "apply"


def choose(claims: Sequence[Unit], live_path: str | None) -> Unit:
    """The claim that counts: the one already live, else the first."""
    return next((unit for unit in claims if unit.path == live_path), claims[0])


def decide(
    unit: Unit,
    live: LiveFunction | None,
    denied: Collection[str],
    *,
    lost: bool = False,
    quarantined: Revision | None = None,
) -> tuple[Step, Problem | None]:
    """The step for a claim, given what serves. `lost`: the snapshot of what serves is gone; `quarantined`: the revision
    of the function that is not taken."""
    problem = unit.problem or denied_import(unit, denied)
    if problem is not None:
        return Step.REFUSE, problem
    if unit.revision is None:
        return Step.REFUSE, Problem("unreadable", "the file could not be read", unit.path)
    if unit.revision == quarantined:
        return Step.REFUSE, quarantine_of(unit)
    if live is None or lost or live.revision != unit.revision:
        return Step.LOAD, None
    if live.settings.permissions.env != unit.settings.permissions.env:
        return Step.LOAD, None  # a process's environment is given once
    if (live.settings, live.path, live.name) != (unit.settings, unit.path, unit.name):
        return Step.APPLY, None
    return Step.KEEP, None


def quarantine_of(unit: Unit) -> Problem:
    """Why a revision is not taken that a rollback has gone back from."""
    return Problem(
        QUARANTINED,
        f"the revision {(unit.revision or '')[:8]} is quarantined: it is not taken until it changes, or is released",
        unit.path,
        hint=f"fnsync rollback {unit.source} --release {unit.id}",
    )


def left_of(good: GoodRevision, source: str) -> Unit:
    """What stands for a function's files once its source does not have them any more."""
    message = f"the source {source} does not have it any more; it stays as it was (prune: false)"
    hint = "have it removed with prune: true, or take it over into the functions folder with fnsync import git+URL"
    return _remaining(good, source, Problem(REMOVED_UPSTREAM, message, good.path, hint=hint))


def missing_of(good: GoodRevision, source: str) -> Unit:
    """What stands for a function's files while its source's tree is missing from the data folder."""
    message = f"the files of the source {source} are missing from the data folder; it stays as it was"
    problem = Problem("tree_missing", message, good.path, hint=f"fnsync sync {source} brings them back")
    return _remaining(good, source, problem)


def _remaining(good: GoodRevision, source: str, problem: Problem) -> Unit:
    return Unit(
        id=good.id,
        path=good.path,
        revision=good.revision,
        settings=good.settings,
        frontmatter=good.frontmatter,
        inspection=Inspection(kind=good.manifest.kind),
        problem=problem,
        source=source,
        prefix=good.prefix,
    )


def denied_import(unit: Unit, denied: Collection[str]) -> Problem | None:
    """The first import that the policy denies."""
    for item in unit.inspection.imports:
        module = imports.meant(item, unit.inspection.kind)
        name = next((name for name in denied if _is_below(item.module, name) or _is_below(module, name)), None)
        if name is not None:
            return Problem(
                "import_denied",
                f"import of {item.module} is denied by policy.imports.deny ({name})",
                unit.path,
                item.line,
                hint="do without it, or have it taken off the list in fnsync.yaml",
            )
    return None


def _is_below(module: str, name: str) -> bool:
    return module == name or module.startswith(name + ".")


def shown_paths(unit: Unit) -> dict[str, str]:
    """Place in the snapshot -> path in the functions folder."""
    return {part.place: part.path for part in unit.parts if part.place.endswith(".py")}


def from_good(good: GoodRevision, unit: Unit, limits: Limits, active: bool, touch: Touch | None) -> LiveFunction:
    """What serves after a restart: the last good revision, with the settings that worked. `touch` is of `unit`, which
    may be newer."""
    commit, updated_at = good.commit, good.updated_at
    if touch is not None and good.revision == unit.revision:
        commit, updated_at = touch.commit, touch.updated_at
    return LiveFunction(
        id=good.id,
        name=display_name(unit.own_id, good.frontmatter, good.settings),
        kind=good.manifest.kind,
        revision=good.revision,
        path=unit.path,
        entry=good.entry,
        manifest=good.manifest,
        frontmatter=good.frontmatter,
        settings=good.settings,
        limits=good.settings.limits.over(limits),
        active=active if good.settings.active is None else good.settings.active,
        environment=good.environment,
        updated_at=modified_at(unit) if updated_at is None else updated_at,
        commit=commit,
        shown=good.shown,
    )


def candidate_of(unit: Unit, limits: Limits, active: bool, touch: Touch | None) -> LiveFunction:
    """What would serve once the newest revision has loaded; its manifest is not known yet."""
    assert unit.revision is not None
    kind = unit.inspection.kind or Kind.PIPE
    return LiveFunction(
        id=unit.id,
        name=unit.name,
        kind=kind,
        revision=unit.revision,
        path=unit.path,
        entry=unit.entry,
        manifest=Manifest(kind),
        frontmatter=unit.frontmatter,
        settings=unit.settings,
        limits=unit.settings.limits.over(limits),
        active=active if unit.settings.active is None else unit.settings.active,
        environment="",
        updated_at=touch.updated_at if touch else modified_at(unit),
        commit=touch.commit if touch else None,
        shown=shown_paths(unit),
    )


def applied(live: LiveFunction, unit: Unit, limits: Limits, active: bool) -> LiveFunction:
    """The same revision under the settings, path and name of `unit`."""
    return replace(
        live,
        name=unit.name,
        path=unit.path,
        settings=unit.settings,
        limits=unit.settings.limits.over(limits),
        active=active if unit.settings.active is None else unit.settings.active,
        shown=shown_paths(unit),
    )


def governed(live: LiveFunction, unit: Unit, limits: Limits, active: bool) -> LiveFunction:
    """What serves, under those settings of `unit` that concern no code: they hold whatever the source is like."""
    if not unit.settings_known:
        return live
    wanted = unit.settings
    settings = replace(wanted, valves=live.settings.valves, permissions=live.settings.permissions)
    return replace(
        live,
        settings=settings,
        limits=wanted.limits.over(limits),
        active=active if wanted.active is None else wanted.active,
    )


def good_of(live: LiveFunction, prefix: str = "", left: Touch | None = None) -> GoodRevision:
    """The record that lets `live` serve again after a restart. `prefix`: of its source; `left`: it has left that."""
    return GoodRevision(
        id=live.id,
        revision=live.revision,
        path=live.path,
        entry=live.entry,
        environment=live.environment,
        manifest=live.manifest,
        frontmatter=live.frontmatter,
        settings=live.settings,
        shown=live.shown,
        left=left,
        prefix=prefix,
        commit=live.commit,
        updated_at=live.updated_at,
    )


def touch_of(unit: Unit, touches: Touches, before: Touch | None = None) -> Touch | None:
    """What git knows of a function; None: its source is in no commit.

    `before` is what was known without `touches`, if those begin later than the function.
    """
    if before is None and unit.path not in touches.traces:
        return None
    source = touches.traces.get(unit.path, Trace())
    last = _last_change(unit, touches)
    if last is None:
        known = before
    elif before is None:
        known = Touch(last.at, last.at, last.commit, last.user_id)
    else:
        known = replace(before, updated_at=last.at, commit=last.commit)
    if known is None:
        return None
    if source.updated is not None and source.updated[0] == known.commit:
        known = replace(known, updated_at=source.updated[1])
    return replace(
        known,
        created_at=known.created_at if source.created_at is None else source.created_at,
        user_id=source.user_id or known.user_id,
        version=touches.versions[unit.path].commit if unit.path in touches.versions else known.version,
    )


def paths_of(unit: Unit) -> set[str]:
    """The files of a function, its settings among them."""
    return {unit.path, *(part.path for part in unit.parts), *([unit.settings_path] if unit.settings_path else [])}


def _last_change(unit: Unit, touches: Touches) -> Change | None:
    """The last change to any file of a function, of those that are there and those that were removed, or to it all."""
    changes = [trace.last for path in paths_of(unit) if (trace := touches.traces.get(path)) and trace.last]
    changes += [found[unit.path] for found in (touches.removals, touches.versions) if unit.path in found]
    return max(changes, key=lambda change: change.order, default=None)


def modified_at(unit: Unit) -> int:
    """When the source was written last, for files that git does not know; seconds since the epoch."""
    stamp = unit.stamps.get(unit.path)
    return stamp.mtime_ns // 1_000_000_000 if stamp is not None else 0


def row_of(standing: Standing, content: str, touch: Touch | None, active: bool) -> FunctionRow:
    """The index row of a function; a function of its files, of git and of the last good revision only."""
    unit, live = standing.unit, standing.live
    manifest = live.manifest if live is not None else None
    at = modified_at(unit)
    asked = active if unit.settings.active is None else unit.settings.active
    return FunctionRow(
        id=unit.id,
        user_id=unit.settings.owner or (touch.user_id if touch else ""),
        name=unit.name,
        type=unit.inspection.kind or (manifest.kind if manifest else None),
        content=content,
        meta={
            **meta_of(unit.frontmatter, unit.settings.meta),
            "manifest": dict(unit.frontmatter.entries),
            "toggle": bool(manifest and manifest.toggle),
        },
        valves=dict(unit.settings.valves),
        is_active=live.active if live is not None else asked,
        is_global=unit.settings.is_global,
        created_at=touch.created_at if touch else at,
        updated_at=touch.updated_at if touch else at,
        path=unit.path,
        revision=unit.revision,
        live_revision=live.revision if live is not None else None,
        status=standing.status,
        error=standing.problem,
        source=unit.source,
        commit=touch.commit if touch else None,
        rivals=standing.rivals,
        version=touch.version if touch else None,
        tag=unit.tag,
    )


def meta_of(frontmatter: Frontmatter, meta: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a function besides what its frontmatter says: `meta` of its settings goes above that."""
    return {"description": str(frontmatter.entries.get("description") or ""), **meta}


def conflict_of(standing: Standing, path: str) -> Problem:
    """What is wrong with the claim at `path`, which does not count."""
    return Problem(
        "conflict",
        f"{path} and {standing.unit.path} both claim the id {standing.unit.id}; {standing.unit.path} is used",
        path,
        hint="rename one of the files, or give the source another prefix"
        if standing.unit.source != LOCAL or ":" in path
        else "rename one of the files, or start its name with _",
    )


def difference(before: LiveFunction, after: LiveFunction) -> str:
    """What changed between two settings of one revision, for people."""
    changes = []
    if before.active != after.active:
        changes.append("activated" if after.active else "deactivated")
    names = ("valves", "models", "access", "permissions", "is_global", "required", "name", "meta", "owner")
    changes += [
        name.removeprefix("is_") for name in names if getattr(before.settings, name) != getattr(after.settings, name)
    ]
    if before.limits != after.limits:
        changes.append("limits")
    if before.path != after.path:
        changes.append(f"moved to {after.path}")
    return ", ".join(changes) or "settings"
