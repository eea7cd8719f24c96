"""Why a commit that was fetched does not go live, though nothing went wrong: of a source, or of the repository."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from fnsync.configgit import Gate, Windows
from fnsync.model import REPOSITORY, CommitId
from fnsync.places import IGNORE_FILE
from fnsync.syncplan import SyncPlan
from fnsync.windows import opens_at

#: After how long a commit whose functions did not load is tried again, in seconds.
GATE_AGAIN_S = 600.0
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


class Hold:
    """What holds one branch or source now."""

    def __init__(self) -> None:
        self.held: Held | None = None
        #: Since when, epoch seconds.
        self.since: float | None = None
        #: When guard and gate were asked, on the monotonic clock.
        self._judged_at = 0.0

    def set(self, held: Held | None) -> bool:
        """What holds it from now on; returns whether that is to be told: another commit, or another reason."""
        before, self.held = self.held, held
        if held is None:
            self.since = None
            return False
        if held is not before:
            self._judged_at = time.monotonic()
        if before is not None and (before.reason, before.commit) == (held.reason, held.commit):
            return False
        self.since = time.time()
        return True

    def stands(self, commit: CommitId) -> bool:
        """Whether a commit was looked at already, and only people can make a difference."""
        held = self.held
        if held is None or held.commit != commit or held.reason not in ("guard", "gate"):
            return False
        # A package index that was not there may have been why functions did not load.
        return held.reason == "guard" or time.monotonic() - self._judged_at < GATE_AGAIN_S


def held_of(held: Held | None, since: float | None) -> dict[str, Any] | None:
    """As the API tells it."""
    if held is None:
        return None
    return {
        "reason": held.reason,
        "message": held.message,
        "hint": held.hint,
        "commit": held.commit,
        "until": held.until,
        "since": since,
    }


# ---- what can hold one; `name` is the source's, or `repository` --------------------------------------------


def by_pin(name: str, commit: CommitId, pin: str) -> Held | None:
    """A rollback holds the source at another commit."""
    if pin == commit:
        return None
    message = f"{name} is pinned at {pin[:12]} by a rollback; {commit[:12]} was fetched and waits"
    return Held("pinned", message, f"fnsync rollback {name} --unpin", commit)


def by_window(name: str, windows: Windows, commit: CommitId, now: float) -> Held | None:
    """It is not the time to apply anything."""
    until = opens_at(windows, now)
    if until is None:
        return None
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(until))
    message = f"{commit[:12]} was fetched and is applied when the next window opens: {when}"
    return Held("window", message, f"fnsync sync {name} --force", commit, until)


def may_remove(path: str, *, is_gone: bool) -> bool:
    """Whether functions may be gone by a change to a file, as far as its path tells: if not, no guard need be asked."""
    return is_gone or path.rpartition("/")[2] == IGNORE_FILE


def by_guard(name: str, plan: SyncPlan, most: float) -> Held | None:
    """It removes a greater share of the functions that serve than `most`."""
    if plan.removed_share <= most:
        return None
    message = f"{plan.after[:12]} removes {plan.removed} of the {plan.live} functions that {_whose(name)} serves"
    return Held("guard", message, f"if that is meant: fnsync sync {name} --force", plan.after, plan=plan)


def by_gate(name: str, gate: Gate, plan: SyncPlan) -> Held | None:
    """Some of its functions do not load, and all or none are taken."""
    if plan.applies(gate):
        return None
    failing, whose = plan.failing, _whose(name)
    told = "; ".join(f"{one.id}: {one.error}" for one in failing[:_NAMED])
    more = f" and {len(failing) - _NAMED} more" if len(failing) > _NAMED else ""
    message = f"{plan.after[:12]} has functions that do not load, and {whose} takes all or none: {told}{more}"
    return Held("gate", message, f"mend them in {whose}, or set its gate to each", plan.after, plan=plan)


def _whose(name: str) -> str:
    return "the repository" if name == REPOSITORY else name
