"""Why a commit that was fetched does not go live, though nothing went wrong. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass

from fnsync.configgit import SourceConfig
from fnsync.model import CommitId
from fnsync.syncing.windows import opens_at
from fnsync.syncplan import SyncPlan

#: How many functions that would fail are named.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Held:
    """What holds a commit, and the way out."""

    #: `pinned`, `window`, `guard` or `gate`.
    reason: str
    message: str
    hint: str
    commit: CommitId
    #: When it goes live by itself, epoch seconds; None: not by itself.
    until: float | None = None
    #: What it would do, where that is the reason.
    plan: SyncPlan | None = None


def by_pin(config: SourceConfig, commit: CommitId, pin: str) -> Held | None:
    """A rollback holds the source at another commit."""
    if pin == commit:
        return None
    message = f"{config.name} is pinned at {pin[:12]} by a rollback; {commit[:12]} was fetched and waits"
    return Held("pinned", message, f"fnsync rollback {config.name} --unpin", commit)


def by_window(config: SourceConfig, commit: CommitId, now: float) -> Held | None:
    """It is not the time to apply anything."""
    until = opens_at(config.windows, now)
    if until is None:
        return None
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(until))
    message = f"{commit[:12]} was fetched and is applied when the next window opens: {when}"
    return Held("window", message, f"fnsync sync {config.name} --force", commit, until)


def by_guard(config: SourceConfig, plan: SyncPlan, most: float) -> Held | None:
    """It removes a greater share of the source's functions than `most`."""
    if not config.prune or plan.removed_share <= most:
        return None
    message = f"{plan.after[:12]} removes {plan.removed} of the {plan.live} functions that {config.name} serves"
    hint = f"if that is meant: fnsync sync {config.name} --force"
    return Held("guard", message, hint, plan.after, plan=plan)


def by_gate(config: SourceConfig, plan: SyncPlan) -> Held | None:
    """Some of its functions do not load, and the source takes all or none."""
    if plan.applies(config.gate):
        return None
    failing = plan.failing
    told = "; ".join(f"{one.id}: {one.error}" for one in failing[:_NAMED])
    more = f" and {len(failing) - _NAMED} more" if len(failing) > _NAMED else ""
    message = f"{plan.after[:12]} has functions that do not load, and {config.name} takes all or none: {told}{more}"
    return Held("gate", message, f"mend them in {config.name}, or set its gate to each", plan.after, plan=plan)
