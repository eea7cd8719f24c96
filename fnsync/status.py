"""How everything stands, as `/api/status` and `fnsync status` tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from fnsync.chat.unfiltered import Unfiltered
from fnsync.errors import FnsyncError
from fnsync.git.worktree import WorkTree
from fnsync.model import FunctionId, Problem, Status
from fnsync.notices import Failing
from fnsync.places import source_of
from fnsync.plan import QUARANTINED, REMOVED_UPSTREAM, Standing, conflict_of
from fnsync.runtime.pool import Health


def functions_status(
    standings: Mapping[FunctionId, Standing], healths: Mapping[str, Health], unfiltered: Unfiltered, active: bool
) -> list[dict[str, Any]]:
    """An entry for each function by id, and one behind it for each file that claims its id in vain.

    `active`: what holds for functions whose settings do not say.
    """
    entries = []
    for standing in sorted(standings.values(), key=lambda standing: standing.unit.id):
        entries.append(function_status(standing, healths.get(standing.unit.id, Health()), unfiltered, active))
        entries += [_rival(standing, path, unfiltered, active) for path in standing.rivals]
    return entries


def function_status(standing: Standing, health: Health, unfiltered: Unfiltered, active: bool) -> dict[str, Any]:
    """How one function stands. `active`: what holds if its settings do not say."""
    unit, live = standing.unit, standing.live
    kind = unit.inspection.kind or (live.kind if live else None)
    asked = active if unit.settings.active is None else unit.settings.active
    return {
        "id": unit.id,
        "name": unit.name,
        "type": kind,
        "status": standing.status,
        "active": live.active if live else asked,
        "global": unit.settings.is_global,
        "path": unit.path,
        "source": unit.source,
        "revision": unit.revision,
        "live_revision": live.revision if live else None,
        "commit": live.commit if live else None,
        "updated_at": live.updated_at if live else None,
        "error": _problem(standing.problem),
        "rivals": list(standing.rivals),
        "workers": health.workers,
        "calls": health.calls,
        "waiting": health.waiting,
        "crashes": health.crashes,
        "retry_at": health.retry_at,
        "health": health.message,
        "unfiltered": unfiltered.of(unit.id, live.revision if live else None),
        "environment": live.environment if live else None,
    }


def _rival(standing: Standing, path: str, unfiltered: Unfiltered, active: bool) -> dict[str, Any]:
    """The entry of a file whose claim to an id does not count."""
    return {
        **function_status(Standing(standing.unit), Health(), unfiltered, active),
        "path": path,
        "source": source_of(path),
        "status": "conflict",
        "revision": None,
        "error": _problem(conflict_of(standing, path)),
        "rivals": [standing.unit.path],
    }


def repository_status(worktree: WorkTree | None, write: str) -> dict[str, Any] | None:
    """Where HEAD is, what is not committed, and what becomes of edits; asks git. None: no usable repository.

    `write` is `repository.write`.
    """
    if worktree is None:
        return None
    known: dict[str, Any] = {
        "root": str(worktree.root),
        "branch": None,
        "head": None,
        "dirty": [],
        "write": write,
        "under_way": None,
    }
    try:
        return {
            **known,
            "branch": worktree.branch(),
            "head": worktree.head(),
            "dirty": list(worktree.dirty()),
            "under_way": worktree.under_way(),
        }
    except FnsyncError as exc:
        return {**known, "error": str(exc)}


#: What is told of functions that stay as they are since somebody wants it: `prune: false`, and a rollback.
_WANTED = frozenset({REMOVED_UPSTREAM, QUARANTINED})


def failing_of(standings: Iterable[Standing], source: str) -> list[Failing]:
    """The functions of a source, or of the local folder, whose newest files do not load; not those that somebody wants
    to stay as they are."""
    return [
        Failing(standing.unit.id, standing.problem.message, standing.problem.place)
        for standing in standings
        if standing.problem is not None and standing.unit.source == source and standing.problem.code not in _WANTED
    ]


def counted_by_source(standings: Iterable[Standing]) -> dict[str, Counter[str]]:
    """How many functions of each source have which status; files that claim an id in vain are in conflict."""
    found: dict[str, Counter[str]] = {}
    for standing in standings:
        found.setdefault(standing.unit.source, Counter())[standing.status.value] += 1
        for path in standing.rivals:
            found.setdefault(source_of(path), Counter())[Status.CONFLICT.value] += 1
    return found


def _problem(problem: Problem | None) -> dict[str, Any] | None:
    return asdict(problem) if problem is not None else None
