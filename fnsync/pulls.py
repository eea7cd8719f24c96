"""Follows the working tree's remote branch: pulls again and again, and whenever somebody asks.

However many ask while a pull runs, one more follows it, and answers them all. What a pull brings are files on disk,
which `reconcile` takes as it takes any others.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import structlog

from fnsync.chat.lifecycle import Lifecycle
from fnsync.errors import Draining, FnsyncError, PullRefused, RepositoryBlocked, RepositoryBusy, RepositoryError
from fnsync.git.pull import Pulled, Puller
from fnsync.git.worktree import WorkTree
from fnsync.reconcile import Reconciler

log = structlog.get_logger()

#: The longest wait after failures, in seconds, unless the interval itself is longer.
LONGEST_S = 600.0
#: By which part each wait is shorter or longer, so that many servers do not ask at once.
JITTER = 0.1
#: What is wrong is here, and may be put right at any moment; the remote need not be spared.
_HERE = (PullRefused, RepositoryBlocked, RepositoryBusy)


def wait_s(interval_s: float, failures: int) -> float:
    """How long to wait for the next pull after so many failures on end, before jitter."""
    return min(interval_s * 2.0 ** min(failures, 30), max(interval_s, LONGEST_S))


class Pulls:
    """All pulls of one server. On the loop, but for `status`."""

    def __init__(
        self,
        puller: Puller,
        worktree: WorkTree,
        interval_s: float | None,
        reconciler: Reconciler,
        lifecycle: Lifecycle,
    ) -> None:
        """`interval_s`: None: only when somebody asks."""
        self.interval_s = interval_s
        #: Pulls so far by what they came to: `moved`, `same`, `failed`.
        self.counts: Counter[str] = Counter()
        self._puller = puller
        self._worktree = worktree
        self._reconciler = reconciler
        self._lifecycle = lifecycle
        self._asked = asyncio.Event()
        self._next: asyncio.Future[Pulled | FnsyncError] | None = None
        self._error: FnsyncError | None = None
        self._failing_since: float | None = None
        #: Failures on end for which the remote is spared.
        self._failures = 0
        self._next_at: float | None = None
        self._is_closing = False
        self._task = asyncio.create_task(self._run())

    @property
    def fetched_at(self) -> float | None:
        """When the remote last answered, in seconds since the epoch."""
        return self._puller.fetched_at

    def ask(self) -> None:
        """Have a pull begin now, or when the one that runs has ended."""
        self._asked.set()

    async def sync(self) -> Pulled:
        """Return what a pull came to that began after this was called. Raises FnsyncError."""
        if self._is_closing:
            raise Draining("the server is stopping")
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        self.ask()
        result = await asyncio.shield(self._next)
        if isinstance(result, FnsyncError):
            raise result
        return result

    def told(self, pulled: Pulled) -> dict[str, Any]:
        """What a pull came to, as the API tells it."""
        return {
            "remote": self._puller.remote,
            "url": self._puller.url,
            "branch": pulled.branch,
            "before": pulled.before,
            "commit": pulled.after,
            "count": pulled.count,
            "commits": [asdict(commit) for commit in pulled.commits],
            "ahead": pulled.distance.ahead,
        }

    async def close(self) -> None:
        """End; a fetch that runs is ended, a move of the working tree is awaited."""
        self._is_closing = True
        self._asked.set()
        self._puller.stop()
        await asyncio.gather(self._task, return_exceptions=True)

    def status(self) -> dict[str, Any]:
        """How it stands; blocking (it asks git)."""
        error, fetched_at = self._error, self._puller.fetched_at
        try:
            apart = self._puller.distance()
        except FnsyncError:
            apart = None  # the repository's own status tells
        return {
            "remote": self._puller.remote,
            "url": self._puller.url,
            "branch": self._puller.branch,
            "interval_s": self.interval_s,
            "fetched_at": fetched_at,
            "age_s": None if fetched_at is None else round(max(0.0, time.time() - fetched_at), 3),
            "ahead": None if apart is None else apart.ahead,
            "behind": None if apart is None else apart.behind,
            "error": None if error is None else {"code": error.code, "message": error.message, "hint": error.hint},
            "failing_since": self._failing_since,
            "next_at": self._next_at,
        }

    async def _run(self) -> None:
        if self.interval_s is not None:
            self._asked.set()  # at once: much may have come while no server ran
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._plan()):
                    await self._asked.wait()
            self._asked.clear()
            waiting, self._next = self._next, None
            result = Draining("the server is stopping") if self._is_closing else await self._pull()
            if waiting is not None:
                waiting.set_result(result)
            if self._is_closing:
                return

    def _plan(self) -> float | None:
        """How long to wait for the next pull, if nobody asks for one before."""
        if self.interval_s is None:
            return None
        wait = wait_s(self.interval_s, self._failures) * random.uniform(1 - JITTER, 1 + JITTER)
        self._next_at = time.time() + wait
        return wait

    async def _pull(self) -> Pulled | FnsyncError:
        try:
            pulled = await asyncio.to_thread(self._puller.pull)
        except FnsyncError as exc:
            return self._failed(exc)
        except Exception:  # whatever it is, the next one may work, and nobody else does this
            log.exception("pull_broken")
            return self._failed(RepositoryError("the pull failed in a way that nobody foresaw; the log says more"))
        await self._came(pulled)
        return pulled

    async def _came(self, pulled: Pulled) -> None:
        was_failing, self._error = self._error is not None, None
        self._failing_since, self._failures = None, 0
        has_moved = pulled.before != pulled.after
        self.counts["moved" if has_moved else "same"] += 1
        if has_moved or was_failing:
            about = {"branch": pulled.branch, "before": pulled.before, "commit": pulled.after, "commits": pulled.count}
            log.info("pulled", **about)
            self._tell("sync.completed", about)
        prefix = self._worktree.prefix
        inside = [path for path in pulled.paths if prefix == "." or path.startswith(prefix + "/")]
        if inside and not self._is_closing:
            try:
                await self._reconciler.reconcile([self._worktree.inside(path) for path in inside])
            except Exception:  # the watcher tells of the same files
                log.exception("reconcile_failed", paths=inside[:20])

    def _failed(self, error: FnsyncError) -> FnsyncError:
        self.counts["failed"] += 1
        is_new = self._error is None or self._error.code != error.code
        self._error = error
        self._failing_since = self._failing_since or time.time()
        self._failures = 0 if isinstance(error, _HERE) else self._failures + 1
        if self._is_closing:
            return error
        (log.warning if is_new else log.debug)("pull_failed", error=error.message, hint=error.hint)
        if is_new:
            self._tell("sync.failed", {"branch": self._puller.branch, "code": error.code, "error": error.message})
        return error

    def _tell(self, event: str, about: dict[str, Any]) -> None:
        self._lifecycle.publish(event, data={"remote": self._puller.remote, "url": self._puller.url, **about})
