"""How a source stands, and what a sync of it came to, as the API tells it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgspec

from fnsync.git.remote import redacted
from fnsync.holds import held_of
from fnsync.syncing.follower import Follower, Synced
from fnsync.syncing.record import Switched


def state_of(follower: Follower) -> str:
    """How it stands, in one word."""
    if follower.progress is not None:
        return "syncing"
    if follower.error is not None:
        return "failing"
    if follower.record.pin is not None:
        return "pinned"
    if follower.config.suspend:
        return "suspended"
    if follower.hold.held is not None:
        return "held"
    return "new" if follower.record.live is None else "following"


def source_status(follower: Follower, functions: Mapping[str, int]) -> dict[str, Any]:
    """How a source stands. `functions`: how many of its functions have which status."""
    config, record, error = follower.config, follower.record, follower.error
    fetched_at = record.fetched_at
    return {
        "name": config.name,
        "state": state_of(follower),
        "url": redacted(config.url, config.url),
        "ref": config.ref,
        "path": config.path,
        "prefix": config.prefix,
        "interval_s": config.interval,
        "gate": config.gate,
        "prune": config.prune,
        "suspended": config.suspend,
        "pinned": record.pin,
        "commit": None if record.live is None else _commit(record.live),
        "history": [_commit(one) for one in record.history],
        "fetched_at": fetched_at,
        "age_s": None if fetched_at is None else round(max(0.0, time.time() - fetched_at), 3),
        "tried_at": follower.tried_at,
        "next_at": follower.next_at,
        "progress": follower.progress,
        "error": None
        if error is None
        else {"code": error.code, "message": error.message, "hint": error.hint, "since": follower.failing_since},
        "failures": follower.failures,
        "held": held_of(follower.hold.held, follower.hold.since),
        "functions": dict(functions),
        "quarantine": dict(record.quarantine),
    }


def synced_of(synced: Synced) -> dict[str, Any]:
    """What a sync came to."""
    report = synced.report
    return {
        "source": synced.source,
        "before": synced.before,
        "commit": synced.after,
        "count": synced.passage.count,
        "commits": [asdict(commit) for commit in synced.passage.commits],
        "rewritten": synced.passage.rewritten,
        "held": held_of(synced.held, None),
        "loaded": [] if report is None else [id for id, _, _ in report.loaded],
        "applied": [] if report is None else [id for id, _ in report.applied],
        "removed": [] if report is None else list(report.removed),
        "failed": [] if report is None else [{"id": id, "error": asdict(problem)} for id, problem in report.failed],
    }


def _commit(switched: Switched) -> dict[str, Any]:
    told = {**dict.fromkeys(Switched.__struct_fields__), **msgspec.to_builtins(switched)}
    del told["folder"]
    return told
