"""The workers of one revision: who takes the next call, who waits, and when a new worker is started."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from fnsync.deadlines import Deadlines
from fnsync.errors import CrashLoop, FnsyncError, LoadFailed, Saturated, TimeLimit, WorkerDied
from fnsync.model import Limits, Manifest
from fnsync.runtime import wire
from fnsync.runtime.call import RunningCall, error_of
from fnsync.runtime.spec import WorkerSpec
from fnsync.runtime.worker import Worker

#: Deaths without a finished call between them, after which new workers have to wait.
CRASHES = 3
#: The first wait and the longest, in seconds; it doubles with each further death.
BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0
#: How long a worker whose call is over its time limit may take before another is started, in seconds.
HESITATION_S = 0.05
#: How long a call waits at least while the first worker starts, in seconds.
START_S = 15.0
#: How many times its `concurrency` of calls a function may run where some of them wait for others.
NESTED = 4
#: How long the workers of a replaced revision stay for requests that pinned it, in seconds.
LINGER_S = 2.0
#: How long an idle worker of a preview is kept at most, in seconds.
PREVIEW_IDLE_S = 60.0
#: How long the workers of a revision that was tried wait for it to go live, in seconds: above what a commit takes.
TRIAL_S = 30.0


@dataclass(frozen=True, slots=True)
class Health:
    """How a function's processes are doing."""

    workers: int = 0
    calls: int = 0
    waiting: int = 0
    #: Workers that died by themselves, or over their memory limit, since the server started.
    crashes: int = 0
    #: When the next worker may start (seconds since the epoch), while it is in a crash loop.
    retry_at: float | None = None
    message: str | None = None

    def __add__(self, other: Health) -> Health:
        """Two revisions of one function together."""
        return Health(
            workers=self.workers + other.workers,
            calls=self.calls + other.calls,
            waiting=self.waiting + other.waiting,
            crashes=self.crashes + other.crashes,
            retry_at=max(filter(None, (self.retry_at, other.retry_at)), default=None),
            message=other.message or self.message,
        )


class Request:
    """A frame to a worker that is answered by a Reply or a Failure: Describe, Configure, Check."""

    def __init__(self, id: int, worker: Worker) -> None:
        self.id = id
        self._worker = worker
        self._answer: asyncio.Future[wire.Reply] = asyncio.get_running_loop().create_future()
        worker.add_call(self)

    async def answer(self, frame: wire.Frame, limit_s: float | None = None) -> wire.Reply:
        """Send and wait, not longer than `limit_s`. Raises LoadFailed, WorkerDied, TimeLimit."""
        try:
            self._worker.send(frame)
            async with asyncio.timeout(limit_s):
                return await self._answer
        except TimeoutError:
            raise TimeLimit(f"{self._worker.function} did not answer within {limit_s:g} s") from None
        finally:
            self._worker.end_call(self)

    def on_frame(self, frame: wire.FromWorker) -> None:
        if self._answer.done():
            return
        if isinstance(frame, wire.Reply):
            self._answer.set_result(frame)
        elif isinstance(frame, wire.Failure):
            self._answer.set_exception(error_of(self._worker.function, frame))

    def on_lost(self, worker: Worker) -> None:
        if not self._answer.done():
            self._answer.set_exception(WorkerDied(worker.function, f"{worker.function}: {worker.epitaph}"))


class Pool:
    """`start` makes a worker that has loaded the spec; it raises what loading raises."""

    def __init__(
        self,
        spec: WorkerSpec,
        limits: Limits,
        start: Callable[[Pool, WorkerSpec], Awaitable[Worker]],
        next_id: Callable[[], int],
        *,
        preview: bool = False,
    ) -> None:
        self.spec = spec
        #: Of a commit that is tried; its idle workers are the first to go.
        self.preview = preview
        self.limits = limits
        #: The calls under way, and when each is over its time limit.
        self.deadlines = self._new_deadlines(limits.timeout_s)
        self.workers: list[Worker] = []
        #: What the revision is; None until its first worker has told.
        self.manifest: Manifest | None = None
        #: A newer revision answers new requests.
        self.retired = False
        #: Loaded to see whether it may go live; nobody has asked for it yet.
        self.trial = False
        #: Requests that will call it again, so that its workers must stay.
        self.pins = 0
        self.touched_at = time.monotonic()
        self.running = 0
        self.crashes = 0
        self._start = start
        self._next_id = next_id
        self._starting: set[asyncio.Task[None]] = set()
        self._waiting: deque[asyncio.Future[Worker]] = deque()
        self._streak = 0
        self._not_before = 0.0
        self._last_crash: str | None = None
        #: Why the last worker did not start.
        self._trouble: str | None = None

    def take_limits(self, limits: Limits) -> None:
        """Changed limits hold for calls from now on."""
        if limits.timeout_s != self.limits.timeout_s:
            self.deadlines = self._new_deadlines(limits.timeout_s)
        self.limits = limits

    @staticmethod
    def _new_deadlines(limit_s: float) -> Deadlines[RunningCall]:
        return Deadlines(limit_s, lambda call: call.on_time_limit(limit_s))

    # ---- calls ----

    async def acquire(self, *, inside: bool = False) -> Worker:
        """A worker for one call; give it back with `release`. `inside`: a call that has a place waits for this one, so
        that it must not wait for places itself. Raises Saturated, CrashLoop, and what loading raises."""
        self.touched_at = time.monotonic()
        if inside and self.running >= NESTED * self.limits.concurrency:
            raise self._saturated()
        if inside or (self.running < self.limits.concurrency and not self._waiting):
            worker = self._free()
            if worker is not None:
                self.running += 1
                if self.limits.workers > 1:
                    self._grow()
                return worker
        return await self._wait()

    async def _wait(self) -> Worker:
        limit = self.limits
        # Together, so that a burst finds as much room while the first worker starts.
        if self.running + len(self._waiting) >= 2 * limit.concurrency:
            raise self._saturated()
        self._check_backoff()
        turn: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._grow()
        # A short time limit is about the function's own work, not about how long a process takes to start.
        patience_s = limit.timeout_s if any(worker.usable for worker in self.workers) else max(limit.timeout_s, START_S)
        try:
            async with asyncio.timeout(patience_s):
                return await turn
        except TimeoutError:
            if _granted(turn):  # a worker came free in the very moment the wait ended
                return turn.result()
            raise Saturated(f"{self.spec.function} had no free worker within {patience_s:g} s") from None
        except asyncio.CancelledError:
            if _granted(turn):
                self.release(True)
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def _saturated(self) -> Saturated:
        return Saturated(
            f"{self.spec.function} has {self.running} calls running and {len(self._waiting)} waiting",
            hint="try again, or raise `limits: {concurrency: …}` in the function's settings file",
        )

    def release(self, survived: bool) -> None:
        """A call is over. `survived`: its worker lives on."""
        self.running -= 1
        self.touched_at = time.monotonic()
        if survived:
            self._streak = 0
        self._dispatch()

    def _free(self) -> Worker | None:
        if len(self.workers) == 1:
            return self.workers[0] if self.workers[0].usable else None
        usable = [worker for worker in self.workers if worker.usable]
        if len(usable) < 2:
            return usable[0] if usable else None
        return min(usable, key=lambda worker: len(worker.calls))

    def _dispatch(self) -> None:
        while self._waiting and self.running < self.limits.concurrency:
            worker = self._free()
            if worker is None:
                self._grow()
                return
            turn = self._waiting.popleft()
            if not turn.done():
                self.running += 1
                turn.set_result(worker)

    def _fail_waiting(self, error: Exception) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(error)

    # ---- workers ----

    def _grow(self, *, patient: bool = True) -> None:
        """Start a worker if there are more calls than workers and more are allowed."""
        usable = sum(worker.usable for worker in self.workers)
        if self._starting or usable >= self.limits.workers or self.running + len(self._waiting) <= usable:
            return
        if patient and any(worker.hesitates for worker in self.workers):
            asyncio.get_running_loop().call_later(HESITATION_S, lambda: self._grow(patient=False))
            return
        task = asyncio.create_task(self._add_worker())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _add_worker(self) -> None:
        try:
            self._check_backoff()
            await self.start_worker()
        except FnsyncError as exc:
            self._starting.clear()
            self._trouble = exc.message
            if isinstance(exc, WorkerDied):
                self._count_crash(exc.message)
            self._fail_waiting(exc)
        else:
            self._starting.clear()
            self._trouble = None
            self._dispatch()
            self._grow()

    async def start_worker(self) -> Worker:
        """Start one worker and take it in. Raises what loading raises."""
        while True:
            spec = self.spec
            worker = await self._start(self, spec)
            if self.spec == spec:
                break
            # Settings changed while it loaded.
            if replace(self.spec, valves=spec.valves) == spec:
                await self._configure_one(worker, self.spec)
                break
            worker.end("its settings changed while it was loading")
        self.workers.append(worker)
        return worker

    async def worker_to_ask(self) -> Worker | None:
        """A worker that is there, or that may be started now, for a question about the revision."""
        self.touched_at = time.monotonic()
        worker = self._free()
        if worker is not None:
            return worker
        try:
            self._check_backoff()
            return await self.start_worker()
        except FnsyncError:
            return None

    def on_gone(self, worker: Worker, *, blameless: bool) -> None:
        """A worker's process ended. `blameless`: its zygote went, or this server stopped it."""
        if worker in self.workers:
            self.workers.remove(worker)
            if not blameless:
                self._count_crash(worker.epitaph)
        if self._waiting:
            self._dispatch()

    def _count_crash(self, message: str) -> None:
        self.crashes += 1
        self._streak += 1
        self._last_crash = message
        if self._streak >= CRASHES:
            wait = min(BACKOFF_S * 2 ** (self._streak - CRASHES), LONGEST_BACKOFF_S)
            self._not_before = time.monotonic() + wait

    def _check_backoff(self) -> None:
        wait = self._not_before - time.monotonic()
        if wait > 0 and self._free() is None:
            raise CrashLoop(
                f"{self.spec.function} crashed {self._streak} times in a row; last: {self._last_crash}",
                retry_after_s=wait,
                hint="a new worker starts by itself after the wait; `fnsync logs` shows what it printed",
            )

    async def configure(self, spec: WorkerSpec) -> None:
        """Give the valve values of a spec to each worker. Raises LoadFailed; see `put_back`."""
        for worker in [worker for worker in self.workers if worker.alive]:
            with contextlib.suppress(WorkerDied):  # the next worker starts with the new values
                await self._configure_one(worker, spec)

    async def _configure_one(self, worker: Worker, spec: WorkerSpec) -> None:
        request = Request(self._next_id(), worker)
        values, sealed = dict(spec.valves), sorted(spec.sealed)
        await request.answer(wire.Configure(request.id, values, NESTED * self.limits.concurrency, sealed))

    async def put_back(self) -> None:
        """Give the values of the spec to the workers again, since some may have taken others meanwhile."""
        with contextlib.suppress(LoadFailed):  # they were in use a moment ago
            await self.configure(self.spec)

    def health(self) -> Health:
        wait = self._not_before - time.monotonic()
        looping = wait > 0
        message = f"no worker starts: {self._trouble}" if self._trouble else None
        if looping:
            message = f"crash loop, next try in {wait:.0f} s: {self._last_crash}"
        return Health(
            workers=sum(worker.alive for worker in self.workers),
            calls=self.running,
            waiting=len(self._waiting),
            crashes=self.crashes,
            retry_at=time.time() + wait if looping else None,
            message=message,
        )

    # ---- the end ----

    def reap(self, now: float) -> None:
        """Stop workers that were idle for too long, and those above the number that is allowed."""
        kept_s = min(self.limits.idle_s, PREVIEW_IDLE_S) if self.preview else self.limits.idle_s
        idle_s = TRIAL_S if self.trial else LINGER_S if self.retired else kept_s
        for worker in [worker for worker in self.workers if worker.usable][self.limits.workers :]:
            worker.retire()
        if self.pins:
            return
        for worker in self.workers:
            if worker.alive and not worker.calls and now - max(worker.idle_since, self.touched_at) > idle_s:
                worker.end("idle")

    async def renew(self) -> None:
        """Replace the workers by one that is started anew. Raises what loading raises; the old ones then stay."""
        old = list(self.workers)
        if old:
            await self.start_worker()
            for worker in old:
                worker.retire()

    def dismiss(self) -> None:
        """Take no new calls in any worker; each ends with its last call."""
        for worker in list(self.workers):
            worker.retire()

    @property
    def ready(self) -> Worker | None:
        """A worker that has loaded the spec, be it busy or not."""
        return next((worker for worker in self.workers if worker.alive and not worker.retired), None)

    @property
    def empty(self) -> bool:
        return not (self.workers or self._starting or self._waiting or self.running or self.pins)

    async def close(self) -> None:
        """End all workers and whoever waits for one."""
        for task in list(self._starting):
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        for turn in self._waiting:
            turn.cancel()
        workers = list(self.workers)
        for worker in workers:
            worker.end("the server is stopping")
        await asyncio.gather(*(worker.ended() for worker in workers))


def _granted(turn: asyncio.Future[Worker]) -> bool:
    return turn.done() and not turn.cancelled() and turn.exception() is None
