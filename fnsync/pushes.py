"""How pushing to the remote stands: what waits, when it is tried again, and what did not fit."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import structlog

from fnsync.errors import FnsyncError, PullHeld, PullRefused, PushFailed, RepositoryBlocked, RepositoryBusy
from fnsync.git.pull import Pulled, Puller, Pushed
from fnsync.periodic import LONGEST_S, jittered, wait_s

log = structlog.get_logger()

#: The first wait after a failure, in seconds.
SHORTEST_S = 1.0
#: What is wrong is here, and may be put right at any moment; the remote need not be spared.
HERE = (PullRefused, RepositoryBlocked, RepositoryBusy)
LONGEST_HERE_S = 30.0
#: How often it is pulled and pushed again at once because others are faster, and the longest pause before, in seconds.
ROUNDS = 8
MOST_PAUSE_S = 1.0

Tell = Callable[[str, dict[str, Any]], None]


class Pushes:
    """The pushes of one server. On the loop, but for `status`."""

    def __init__(self, puller: Puller, tell: Tell, *, enabled: bool) -> None:
        """`tell` publishes an event."""
        self.enabled = enabled
        #: Pushes so far by what they came to: `pushed`, `behind`, `failed`.
        self.counts: Counter[str] = Counter()
        #: How many edits were kept aside because they did not fit.
        self.dropped = 0
        self._puller = puller
        self._tell = tell
        #: When the next push is due, on the monotonic clock; None: nothing waits.
        self.due: float | None = None
        self._not_before = 0.0
        #: Why the last push failed.
        self.error: FnsyncError | None = None
        self._failing_since: float | None = None
        self._failures = 0
        self._pushed_at: float | None = None

    def ask(self) -> None:
        """There is something to push; after failures the remote is spared for a while."""
        if self.enabled and self.due is None:
            self.due = max(time.monotonic(), self._not_before)

    def begin(self) -> None:
        """What was asked for is under way; what is asked for from now on comes after."""
        self.due = None

    def came(self, pushed: Pushed) -> None:
        """A push was not in vain, or nothing was to be pushed."""
        self.error, self._failing_since, self._failures, self._not_before = None, None, 0, 0.0
        self.due = None if self.due is None else time.monotonic()
        for problem in pushed.problems:
            log.warning("conflict_not_pushed", problem=problem)
        if pushed.count or pushed.branches:
            self.counts["pushed"] += 1
            self._pushed_at = time.time()
            about = {"branch": self._puller.branch, "commits": pushed.count, "branches": list(pushed.branches)}
            log.info("pushed", **about)
            self._tell("sync.pushed", about)

    def failed(self, error: FnsyncError) -> None:
        """A push failed; it is tried again after a while."""
        self.counts["failed"] += 1
        is_new = self.error is None or self.error.code != error.code
        self.error = error
        self._failing_since = self._failing_since or time.time()
        longest_s = LONGEST_HERE_S if isinstance(error, HERE) else LONGEST_S
        wait = jittered(wait_s(SHORTEST_S, self._failures, longest_s))
        self._failures += 1
        self.due = self._not_before = time.monotonic() + wait
        (log.warning if is_new else log.debug)("push_failed", error=error.message, hint=error.hint)
        if is_new:
            self._tell("sync.failed", {"branch": self._puller.branch, "code": error.code, "error": error.message})

    def wait(self, error: PullHeld) -> None:
        """What is to be pushed has to wait until what the remote has is applied; that pull pushes it."""
        self.error, self.due = error, None
        self._failing_since = self._failing_since or time.time()

    def set_aside(self, pulled: Pulled) -> None:
        """Tell of edits that did not fit what a pull brought."""
        if pulled.aside is None:
            return
        self.dropped += len(pulled.dropped)
        about = {"branch": pulled.aside, "commits": [asdict(dropped) for dropped in pulled.dropped]}
        log.error("conflict", **about, hint=way_back(pulled.aside))
        self._tell("sync.conflict", {**about, "hint": way_back(pulled.aside)})

    def status(self) -> dict[str, Any] | None:
        """How it stands; blocking (it asks git). None: nothing is pushed."""
        if not self.enabled:
            return None
        error = self.error
        pending, conflicts = self._asked_git()
        waits = self.due is not None and self._failures
        return {
            "pending": pending,
            "pushed_at": self._pushed_at,
            "error": None if error is None else {"code": error.code, "message": error.message, "hint": error.hint},
            "failing_since": self._failing_since,
            "next_at": time.time() + max(0.0, (self.due or 0) - time.monotonic()) if waits else None,
            "conflicts": conflicts,
        }

    def _asked_git(self) -> tuple[int | None, list[dict[str, Any]]]:
        try:
            conflicts = [asdict(one) | {"hint": way_back(one.branch)} for one in self._puller.conflicts()]
            return self._puller.pending(), conflicts
        except FnsyncError:
            return None, []  # the repository's own status tells


def way_back(branch: str) -> str:
    """How to bring back what did not fit."""
    return f"edit the function again, or: git merge {branch}, and resolve what git marks; then: git branch -D {branch}"


def pause_s(round: int) -> float:
    """How long to wait before the next try, after the remote has moved on so many times."""
    return random.uniform(0, min(MOST_PAUSE_S, 0.05 * 2.0**round))


def too_slow(remote: str, problem: str | None) -> PushFailed:
    """What is told when others were faster in all rounds; `problem`: what the remote said at last."""
    return PushFailed(
        f"{remote} seems to have moved on {ROUNDS} times while its commits came; nothing was pushed: {problem}",
        hint="it is tried again after a while",
    )
