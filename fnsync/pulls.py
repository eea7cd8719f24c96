"""Follows the working tree's remote branch: pulls again and again, and whenever somebody asks; pushes what is edited.

One exchange with the remote runs at a time. However many ask while it runs, one more follows it, and answers them all.
A pull is fetch, look (`pullgate`), move, push; an edit is pushed at once, and only if the remote has moved on is it
pulled before. What a pull brings are files on disk, which `reconcile` takes as it takes any others.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any, TypeVar

import structlog

from fnsync.chat.lifecycle import Lifecycle
from fnsync.durations import Durations
from fnsync.errors import Draining, FnsyncError, PullHeld, RepositoryError
from fnsync.git.pull import Fetched, Overtaken, Pulled, Puller
from fnsync.git.remote import NoSuchRef, address
from fnsync.git.worktree import WorkTree
from fnsync.holds import Held, Hold, held_of
from fnsync.model import REPOSITORY
from fnsync.periodic import jittered, wait_s
from fnsync.pullgate import PullGate
from fnsync.pushes import HERE, ROUNDS, Pushes, pause_s, too_slow
from fnsync.reconcile import Reconciler
from fnsync.sourcestate import SourceState
from fnsync.webhooks import Followed

log = structlog.get_logger()

T = TypeVar("T")

#: How long a failure at a window's opening waits where no interval says so, in seconds.
UNASKED_S = 60.0


class Pulls:
    """All exchanges of one server with the remote. On the loop, but for `status`."""

    def __init__(
        self,
        puller: Puller,
        worktree: WorkTree,
        interval_s: float | None,
        gate: PullGate,
        reconciler: Reconciler,
        lifecycle: Lifecycle,
        *,
        pushes: bool = False,
    ) -> None:
        """`interval_s`: None: only when somebody asks. `pushes`: whether edits are pushed."""
        self.interval_s = interval_s
        #: Pulls so far by what they came to: `moved`, `same`, `held`, `failed`.
        self.counts: Counter[str] = Counter()
        self.pushes = Pushes(puller, self._tell, enabled=pushes)
        #: How long they took, by the same.
        self.durations: dict[str, Durations] = {}
        #: What was checked out after the last one that did not fail.
        self._commit: str | None = None
        self._puller = puller
        self._worktree = worktree
        self._gate = gate
        self._hold = Hold()
        self._forced = False
        #: What guard and gate are asked, while they are.
        self._judging: asyncio.Future[Held | None] | None = None
        self._reconciler = reconciler
        self._lifecycle = lifecycle
        self._woken = asyncio.Event()
        self._is_asked = interval_s is not None  # at once: much may have come while no server ran
        self._next: asyncio.Future[Pulled | FnsyncError] | None = None
        self._error: FnsyncError | None = None
        self._failing_since: float | None = None
        #: Failures on end for which the remote is spared.
        self._failures = 0
        self._next_at: float | None = None
        #: The same on the monotonic clock.
        self._due: float | None = None
        self._is_closing = False
        self.pushes.ask()  # what a server before this one did not push any more
        self._task = asyncio.create_task(self._run())

    @property
    def fetched_at(self) -> float | None:
        """When the remote last answered, in seconds since the epoch."""
        return self._puller.fetched_at

    def followed(self) -> Followed:
        """What a webhook has to name."""
        return Followed(REPOSITORY, self._puller.url, self._puller.branch)

    def ask(self) -> None:
        """Have a pull begin now, or when the exchange that runs has ended."""
        self._is_asked = True
        self._woken.set()

    def edited(self) -> None:
        """An edit was committed: have it pushed, if edits are."""
        self.pushes.ask()
        self._woken.set()

    async def sync(self, *, force: bool = False) -> Pulled:
        """Return what a pull came to that began after this was called. `force`: also past the guard and outside of
        windows. Raises FnsyncError."""
        if self._is_closing:
            raise Draining("the server is stopping")
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        self._forced = self._forced or force
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
            "replayed": pulled.replayed,
            "conflict": pulled.aside,
            "push_error": None if self.pushes.error is None else self.pushes.error.message,
            "held": held_of(self._hold.held, self._hold.since),
        }

    async def close(self) -> None:
        """End; a fetch or push that runs is ended, a move of the working tree is awaited."""
        self._is_closing = True
        self._woken.set()
        self._puller.stop()
        if self._judging is not None:
            self._judging.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def status(self) -> dict[str, Any]:
        """How it stands; blocking (it asks git)."""
        error, fetched_at = self._error, self._puller.fetched_at
        try:
            apart = self._puller.distance()
        except FnsyncError:
            apart = None  # the repository's own status tells
        return {
            "has_remote": self._has_remote(),
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
            "held": held_of(self._hold.held, self._hold.since),
            "next_at": self._next_at,
        }

    def _has_remote(self) -> bool:
        try:
            return address(self._worktree, self._puller.remote) is not None
        except FnsyncError:
            return False  # the repository's own status tells

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._woken.wait()
            self._woken.clear()
            if self._is_closing:
                if self._next is not None:
                    self._next.set_result(Draining("the server is stopping"))
                return
            now = time.monotonic()
            if self._is_asked or (self._due is not None and now >= self._due):
                self._is_asked = False
                waiting, self._next = self._next, None
                forced, self._forced = self._forced, False
                result = await self._pull(forced, explicit=waiting is not None)
                self._plan()
                if waiting is not None:
                    waiting.set_result(result)
            elif self.pushes.due is not None and now >= self.pushes.due:
                await self._push()

    def _wait_s(self) -> float | None:
        """How long there is nothing to do, if nobody asks for it."""
        if self._is_asked:
            return 0
        due = [at for at in (self._due, self.pushes.due) if at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _plan(self) -> None:
        """Say when the next pull is, if nobody asks for one before."""
        held, waits = self._hold.held, []
        if self.interval_s is not None:
            waits.append(jittered(wait_s(self.interval_s, self._failures)))
        if held is not None and held.until is not None:
            left = held.until - time.time()
            # A window that has opened was tried: what failed then is tried again as any failure is.
            waits.append(left if left > 0 else wait_s(self.interval_s or UNASKED_S, self._failures))
        wait = min(waits, default=None)
        self._next_at = None if wait is None else time.time() + wait
        self._due = None if wait is None else time.monotonic() + wait

    def state(self, functions: Mapping[str, int]) -> SourceState:
        """How it stands, for metrics; `functions`: how many of its functions have which status."""
        puller, failed = self._puller, self.counts["failed"]
        return SourceState(
            REPOSITORY, puller.branch, self._commit, puller.fetched_at, failed, dict(self.durations), functions
        )

    async def _pull(self, forced: bool, *, explicit: bool) -> Pulled | FnsyncError:
        began = time.perf_counter()
        result = await self._pulled(forced, explicit=explicit)
        outcome = "failed" if isinstance(result, FnsyncError) else self._outcome(result)
        self.counts[outcome] += 1
        self.durations.setdefault(outcome, Durations()).add(time.perf_counter() - began)
        return result

    async def _pulled(self, forced: bool, *, explicit: bool) -> Pulled | FnsyncError:
        try:
            pulled = await self._take(forced, explicit=explicit)
            if self._hold.held is not None:
                pending = await self._in_thread(self._puller.pending) if self.pushes.enabled else 0
                if pending:
                    self.pushes.wait(_waits_for(self._hold.held))
                return pulled
        except NoSuchRef as exc:
            # Perhaps the first push makes it.
            is_made = self.pushes.enabled and await self._push()
            return await self._pulled(forced, explicit=explicit) if is_made else self._failed(exc)
        except FnsyncError as exc:
            return self._failed(exc)
        count = await self._push() if self.pushes.enabled else 0
        return replace(pulled, distance=replace(pulled.distance, ahead=0)) if count else pulled

    async def _take(self, forced: bool = False, *, explicit: bool = False) -> Pulled:
        """Fetch, and go on to what came unless something holds it. Raises FnsyncError."""
        fetched = await self._in_thread(self._puller.fetch)
        pulled, held = fetched.stays, self._standing(fetched, forced, explicit)
        for round in range(ROUNDS):
            if held is not None or not fetched.apart.behind:
                break
            way = await self._in_thread(partial(self._puller.way, fetched))
            held = await self._judged(self._gate.by_plan(way, forced=forced))
            if held is None:
                try:
                    pulled = await self._in_thread(partial(self._puller.go, way, anew=not self._gate.is_whole))
                    break
                except Overtaken:  # what is to be gone on to is another now
                    if round == ROUNDS - 1:
                        raise
        self._held_by(held)
        await self._came(pulled)
        return pulled

    def _standing(self, fetched: Fetched, forced: bool, explicit: bool) -> Held | None:
        """What holds a commit without a look at it."""
        if not fetched.apart.behind:
            return None
        held = None if forced else self._gate.by_window(fetched.target)
        if held is None and not explicit and self._hold.stands(fetched.target):
            held = self._hold.held
        return held

    async def _judged(self, judging: Awaitable[Held | None]) -> Held | None:
        """What guard and gate say; a stop does not wait for it."""
        self._judging = asyncio.ensure_future(judging)
        try:
            if self._is_closing:
                self._judging.cancel()
            return await _foreseen(self._judging)
        except asyncio.CancelledError:
            if not self._is_closing:
                raise
            raise Draining("the server is stopping") from None
        finally:
            self._judging = None

    def _held_by(self, held: Held | None) -> None:
        if self._hold.set(held) and held is not None:
            about = {"branch": self._puller.branch, "commit": held.commit, "reason": held.reason, "hint": held.hint}
            log.warning("pull_held", **about, why=held.message)
            self._tell("sync.held", {**about, "error": held.message})

    async def _push(self) -> int:
        """Push, and pull before where the remote has moved on; returns how many commits it got."""
        self.pushes.begin()
        try:
            problem = None
            for round in range(ROUNDS):
                pushed = await self._in_thread(self._puller.push)
                if not pushed.is_behind:
                    self.pushes.came(pushed)
                    return pushed.count
                problem = pushed.problem
                self.pushes.counts["behind"] += 1
                await asyncio.sleep(pause_s(round))
                await self._take()
                if self._hold.held is not None:
                    self.pushes.wait(_waits_for(self._hold.held))
                    self._plan()
                    return 0
            raise too_slow(self._puller.remote, problem)
        except FnsyncError as exc:
            if not self._is_closing:
                self.pushes.failed(exc)
            return 0

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await _foreseen(asyncio.to_thread(work))

    async def _came(self, pulled: Pulled) -> None:
        was_failing, self._error = self._error is not None, None
        self._failing_since, self._failures = None, 0
        self._commit = pulled.after
        about = {"branch": pulled.branch, "before": pulled.before, "commit": pulled.after, "commits": pulled.count}
        is_news = pulled.before != pulled.after or (was_failing and self._hold.held is None)
        if is_news:
            log.info("pulled", **about, replayed=pulled.replayed)
        self.pushes.set_aside(pulled)
        prefix = self._worktree.prefix
        inside = [path for path in pulled.paths if prefix == "." or path.startswith(prefix + "/")]
        if inside and not self._is_closing:
            try:
                await self._reconciler.reconcile([self._worktree.inside(path) for path in inside])
            except Exception:  # the watcher tells of the same files
                log.exception("reconcile_failed", paths=inside[:20])
        if is_news:  # now that what came is being loaded: who is told may wait for what becomes of it
            newest = (
                {"subject": pulled.commits[0].subject, "author": pulled.commits[0].author} if pulled.commits else {}
            )
            self._tell("sync.completed", about | newest)

    def _failed(self, error: FnsyncError) -> FnsyncError:
        is_new = self._error is None or self._error.code != error.code
        self._error = error
        self._failing_since = self._failing_since or time.time()
        self._failures = 0 if isinstance(error, HERE) else self._failures + 1
        if self._is_closing:
            return error
        (log.warning if is_new else log.debug)("pull_failed", error=error.message, hint=error.hint)
        if is_new:
            self._tell("sync.failed", {"branch": self._puller.branch, "code": error.code, "error": error.message})
        return error

    def _outcome(self, pulled: Pulled) -> str:
        if pulled.before != pulled.after:
            return "moved"
        return "same" if self._hold.held is None else "held"

    def _tell(self, event: str, about: dict[str, Any]) -> None:
        self._lifecycle.publish(event, data={"remote": self._puller.remote, "url": self._puller.url, **about})


async def _foreseen(work: Awaitable[T]) -> T:
    """What comes of some work, whose errors are FnsyncErrors then."""
    try:
        return await work
    except FnsyncError:
        raise
    except Exception as exc:  # whatever it is, the next one may work, and nobody else does this
        log.exception("exchange_broken")
        raise RepositoryError("it failed in a way that nobody foresaw; the log says more") from exc


def _waits_for(held: Held) -> PullHeld:
    return PullHeld(f"edits wait until what was fetched is applied: {held.message}", hint=held.hint)
