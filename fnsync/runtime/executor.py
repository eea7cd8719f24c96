"""Runs functions: zygotes, pools of workers, limits, and the way a call takes through them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import structlog

from fnsync.errors import Draining, LoadFailed, TimeLimit, WorkerDied
from fnsync.model import FunctionId, Handler, Kind, LiveFunction, Manifest, Problem, Revision
from fnsync.periodic import every
from fnsync.runtime import monitor, sandbox, wire
from fnsync.runtime.call import MEMORY_REASON, Invocation, RunningCall
from fnsync.runtime.environments import BASE, Environment, Environments
from fnsync.runtime.logs import LogBook
from fnsync.runtime.pool import Health, Pool, Request
from fnsync.runtime.spec import WorkerSpec, resolve_valves, spec_of
from fnsync.runtime.worker import Worker
from fnsync.runtime.zygote import Zygote, ZygoteGone, scrubbed_environment

log = structlog.get_logger()

#: How long loading a revision may take beyond what its time limit says, in seconds: imports can be large.
LOAD_S = 60.0
#: How long one load keeps others from starting, in seconds.
LOAD_TURN_S = 1.0
#: How long the zygote of an environment without workers is kept, in seconds.
ZYGOTE_IDLE_S = 60.0
#: How often idle workers are looked for, in seconds.
REAP_S = 0.5
#: Address space a worker may have beyond its zygote's: so many times its memory limit, and so much more. Only a
#: backstop, since libraries reserve much and touch little.
ADDRESS_SPACE_FACTOR, ADDRESS_SPACE_BYTES = 4, 4 * 1024**3


@dataclass(frozen=True, slots=True)
class ExecutorOptions:
    """How many processes are kept, and where they work."""

    #: Folder for the workers' private folders.
    scratch: Path
    #: Idle workers kept at most, all functions together.
    idle_workers: int = 32


class Executor:
    """The one owner of worker processes."""

    def __init__(
        self,
        environments: Environments,
        snapshot_folder: Callable[[Revision], Path],
        environ: Mapping[str, str],
        options: ExecutorOptions,
    ) -> None:
        self.logs = LogBook()
        self.environments = environments
        self.draining = False
        self._snapshot_folder = snapshot_folder
        self._environ = environ
        self._options = options
        self._pools: dict[tuple[str, Revision], Pool] = {}
        self._zygotes: dict[str, Zygote] = {}
        self._workers: dict[int, tuple[Worker, Zygote, Pool]] = {}
        self._ids = itertools.count(1)
        self._folders = itertools.count(1)
        self._crashes: dict[str, int] = {}
        #: The revision that answers new requests, of functions that were loaded or removed.
        self._kept: dict[str, Revision | None] = {}
        self._loads = asyncio.Semaphore(max(2, os.cpu_count() or 2))
        self._tasks: list[asyncio.Task[None]] = []
        self._background: set[asyncio.Task[None]] = set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def start(self) -> None:
        """Start the base zygote and the watch over processes; does not wait for imports."""
        await asyncio.to_thread(_empty, self._options.scratch)
        self._zygote(self.environments.base)
        self._tasks = [
            asyncio.create_task(every(monitor.INTERVAL_S, self._watch_usage, "usage of workers")),
            asyncio.create_task(every(REAP_S, self._reap, "idle workers")),
        ]

    async def close(self) -> None:
        """End every process; calls under way fail."""
        self.draining = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))
        await asyncio.gather(*(zygote.stop() for zygote in self._zygotes.values()), *self._background)
        await self.environments.close()
        await asyncio.to_thread(_empty, self._options.scratch)

    # ---- calls ----

    def call(self, function: LiveFunction, invocation: Invocation) -> CallContext:
        """Call a handler: `async with executor.call(…) as call`. Leaving the block cancels what still runs."""
        return CallContext(self, function, invocation)

    def pool(self, function: LiveFunction) -> Pool:
        """The workers of the function's revision."""
        pool = self._pools.get((function.id, function.revision))
        if pool is None:
            pool = self._add_pool(function)
        return pool

    def _add_pool(self, function: LiveFunction) -> Pool:
        spec = spec_of(function, self._snapshot_folder, self._environ)
        pool = Pool(spec, function.limits, self._start_worker, self.next_id)
        pool.manifest = function.manifest
        # A request may have pinned a revision that was replaced, and cleared away, since.
        pool.retired = self._kept.get(function.id, function.revision) != function.revision
        self._pools[function.id, function.revision] = pool
        return pool

    def next_id(self) -> int:
        return next(self._ids)

    # ---- what reconcile asks for ----

    async def load(self, function: LiveFunction) -> Manifest:
        """Load a revision in a worker, which then stays for calls. Raises LoadFailed, EnvironmentFailed, TimeLimit,
        WorkerDied."""
        frontmatter = function.frontmatter
        # Before it takes a place among the loads: a build can take minutes.
        await self.environments.ensure(frontmatter.requirements, frontmatter.requires_python)
        async with self._loads:
            load = asyncio.create_task(self._load(function))
            try:
                # Only the start is worth a processor; a source that waits while it is imported holds up nobody.
                await asyncio.wait([load], timeout=LOAD_TURN_S)
            except asyncio.CancelledError:
                await _cancel(load)
                raise
        try:
            return await load
        finally:
            await _cancel(load)

    async def _load(self, function: LiveFunction) -> Manifest:
        key = (function.id, function.revision)
        spec = spec_of(function, self._snapshot_folder, self._environ)
        pool = self._pools.get(key)
        if pool is None:
            pool = Pool(spec, function.limits, self._start_worker, self.next_id)
            await pool.start_worker()
            self._pools[key] = pool
            return _known(pool)
        # Back to a revision that still has workers, or the same one under another environment.
        pool.retired = False
        pool.take_limits(function.limits)
        ready = next((worker for worker in pool.workers if worker.alive and not worker.retired), None)
        if pool.spec == spec and ready is not None:
            return _known(pool)
        old, before, pool.spec = list(pool.workers), pool.spec, spec
        try:
            await pool.start_worker()
        except BaseException:
            pool.spec = before
            raise
        for other in old:
            other.retire()
        return _known(pool)

    async def configure(self, function: LiveFunction) -> None:
        """Apply changed valves and limits without loading code again. Raises as `load` does; the old ones then hold."""
        pool = self.pool(function)
        valves = resolve_valves(function, self._environ)
        limits = pool.limits
        pool.take_limits(function.limits)
        if valves == pool.spec.valves and limits.concurrency >= function.limits.concurrency:
            return
        before, pool.spec = pool.spec, replace(pool.spec, valves=valves)
        try:
            if any(worker.alive for worker in pool.workers):
                await pool.configure(valves)
            else:
                await pool.start_worker()  # only its own model can tell whether the values fit
        except BaseException:
            pool.spec = before
            pool.take_limits(limits)
            self._spawn(pool.put_back())
            raise

    def limit(self, function: LiveFunction) -> None:
        """Apply changed limits alone; nothing of them concerns a worker that runs."""
        pool = self._pools.get((function.id, function.revision))
        if pool is not None:
            pool.take_limits(function.limits)

    def retire(self, id: FunctionId, *, keep: Revision | None = None) -> None:
        """Another revision answers now, or none: the others' workers end when their calls are done."""
        self._kept[id] = keep
        for (function, revision), pool in self._pools.items():
            if function == id and revision != keep:
                pool.retired = True
                pool.touched_at = time.monotonic()

    def in_use(self) -> set[Revision]:
        """Revisions that have workers or calls; their snapshots are needed."""
        return {revision for _, revision in self._pools}

    def health(self, id: str) -> Health:
        """How the processes of a function are doing, all its revisions together."""
        return self.healths().get(id, Health())

    def healths(self) -> dict[str, Health]:
        """The health of each function that has, or had, processes; from any thread."""
        total = {id: Health(crashes=crashes) for id, crashes in list(self._crashes.items())}
        for (id, _), pool in list(self._pools.items()):
            total[id] = total[id] + pool.health() if id in total else pool.health()
        return total

    def sandbox(self) -> dict[str, Any]:
        """What confines workers here."""
        return sandbox.report()

    @property
    def worker_count(self) -> int:
        """Worker processes now, of all functions."""
        return len(self._workers)

    def environments_in_use(self) -> set[str]:
        """Names of environments that have a zygote."""
        return set(self._zygotes)

    # ---- workers ----

    def _zygote(self, environment: Environment) -> Zygote:
        """The environment's zygote, started anew if it is gone."""
        zygote = self._zygotes.get(environment.name)
        if zygote is None or not zygote.alive:
            zygote = self._zygotes[environment.name] = Zygote(environment, self._on_exit)
            zygote.start()
        zygote.used_at = time.monotonic()
        return zygote

    async def _start_worker(self, pool: Pool, spec: WorkerSpec) -> Worker:
        """Fork a worker and load the revision. Raises LoadFailed, TimeLimit, WorkerDied, EnvironmentFailed."""
        environment = await self.environments.ensure(spec.requirements, spec.requires_python)
        zygote = self._zygotes.get(environment.name)
        try:
            return await self._fork_and_load(pool, spec, environment)
        except WorkerDied:
            if zygote is None or zygote.alive:
                raise
        return await self._fork_and_load(pool, spec, environment)  # its zygote had gone, and it with it

    async def _fork_and_load(self, pool: Pool, spec: WorkerSpec, environment: Environment) -> Worker:
        limit_s = max(LOAD_S, pool.limits.timeout_s)
        worker = await self._fork(pool, spec, environment)
        try:
            async with asyncio.timeout(limit_s):
                await worker.hello
                await self._describe(pool, spec, worker)
        except TimeoutError:
            worker.kill("loading took too long")
            raise TimeLimit(f"{spec.function} did not load within {limit_s:g} s") from None
        except ConnectionResetError as exc:
            raise WorkerDied(spec.function, f"{spec.function}: {exc}") from exc
        except BaseException:
            worker.kill("it did not load")
            raise
        return worker

    async def _fork(self, pool: Pool, spec: WorkerSpec, environment: Environment) -> Worker:
        """Have a worker forked; a zygote that went away is replaced once."""
        function = spec.function
        folder = self._options.scratch / str(next(self._folders))
        try:
            folder.mkdir(parents=True)
            try:
                return await self._fork_from(self._zygote(environment), pool, spec, folder)
            except ZygoteGone:
                return await self._fork_from(self._zygote(environment), pool, spec, folder)
        except (ZygoteGone, OSError) as exc:
            shutil.rmtree(folder, ignore_errors=True)  # it is empty, if it is there
            raise WorkerDied(function, f"{function}: no worker can be started: {exc}") from exc
        except asyncio.CancelledError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    async def _fork_from(self, zygote: Zygote, pool: Pool, spec: WorkerSpec, folder: Path) -> Worker:
        worker = Worker(spec.function, spec.revision, self.logs.add, self._on_gone)
        worker.folder = folder
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        output, output_end = os.pipe()
        try:
            with theirs:
                ours.setblocking(False)
                pid = await zygote.fork(
                    theirs,
                    output_end,
                    environment={
                        **scrubbed_environment(),
                        "HOME": str(folder),
                        "TMPDIR": str(folder),
                        **spec.variables,
                    },
                    address_space_bytes=pool.limits.memory_bytes * ADDRESS_SPACE_FACTOR + ADDRESS_SPACE_BYTES,
                    folder=folder,
                )
            worker.adopt(pid)
        except BaseException:  # a worker without the other end of its socket ends by itself
            ours.close()
            os.close(output)
            raise
        finally:
            os.close(output_end)
        self._workers[pid] = (worker, zygote, pool)
        await worker.attach(ours, output)
        return worker

    async def _describe(self, pool: Pool, spec: WorkerSpec, worker: Worker) -> None:
        """Have the worker load; what the revision is, is asked only the first time: schemas cost it memory."""
        request = Request(self.next_id(), worker)
        reply = await request.answer(
            wire.Describe(
                request.id,
                spec.function,
                spec.revision,
                str(spec.snapshot),
                spec.entry,
                dict(spec.shown),
                dict(spec.valves),
                pool.limits.concurrency,
                pool.manifest is None,
            )
        )
        if pool.manifest is not None:
            return
        try:
            pool.manifest = manifest_of(msgspec.json.decode(reply.data, type=wire.Description))
        except (msgspec.DecodeError, ValueError) as exc:  # function code can write to its worker's socket
            problem = Problem("load_failed", f"what its worker told of it is not understood: {exc}")
            raise LoadFailed(spec.function, problem) from exc

    def _on_exit(self, pid: int, status: int) -> None:
        entry = self._workers.get(pid)
        if entry is not None:
            entry[0].on_exit(status)

    def _on_gone(self, worker: Worker) -> None:
        _, zygote, pool = self._workers.pop(worker.pid)
        if not zygote.alive:  # nobody else is left to end what the worker started
            with contextlib.suppress(ProcessLookupError):  # it had started nothing
                os.killpg(worker.pid, signal.SIGKILL)
        pool.on_gone(worker, blameless=not worker.blamed or not zygote.alive)
        if worker.folder is not None:
            asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, worker.folder, True)

    # ---- watch ----

    def _watch_usage(self) -> None:
        for worker, _, pool in list(self._workers.values()):
            if worker.alive:
                self._check_usage(worker, pool)

    def _check_usage(self, worker: Worker, pool: Pool) -> None:
        usage = monitor.usage(worker.pid)
        if usage is None:
            return
        worker.memory_bytes = usage.memory_bytes
        if usage.memory_bytes > pool.limits.memory_bytes:
            log.warning("worker_over_memory", function=worker.function, megabytes=usage.memory_bytes // 2**20)
            worker.kill(MEMORY_REASON, blame=True)
        elif usage.threads > monitor.MOST_THREADS:
            reason = f"the worker had {usage.threads} threads; {monitor.MOST_THREADS} are allowed"
            worker.kill(reason, blame=True)

    def _reap(self) -> None:
        now = time.monotonic()
        for key, pool in list(self._pools.items()):
            pool.reap(now)
            if pool.empty and pool.retired:
                self._crashes[key[0]] = self._crashes.get(key[0], 0) + pool.crashes
                del self._pools[key]
        self._reap_surplus()
        self._reap_zygotes(now)

    def _reap_zygotes(self, now: float) -> None:
        """Stop the zygotes of environments that have had no worker for a while; a need starts them again."""
        busy = {zygote for _, zygote, _ in self._workers.values()}
        for name, zygote in list(self._zygotes.items()):
            if zygote in busy or name == BASE:
                zygote.used_at = now
            elif now - zygote.used_at > ZYGOTE_IDLE_S:
                del self._zygotes[name]
                self._spawn(zygote.stop())

    def _reap_surplus(self) -> None:
        """Stop the longest idle workers above the number that is kept."""
        idle = [worker for worker, _, _ in self._workers.values() if worker.alive and not worker.calls]
        surplus = len(idle) - self._options.idle_workers
        if surplus > 0:
            for worker in sorted(idle, key=lambda worker: worker.idle_since)[:surplus]:
                worker.kill("idle")


class CallContext:
    """`async with` around one call."""

    __slots__ = ("_call", "_executor", "_function", "_invocation")

    def __init__(self, executor: Executor, function: LiveFunction, invocation: Invocation) -> None:
        self._executor = executor
        self._function = function
        self._invocation = invocation
        self._call: RunningCall | None = None

    async def __aenter__(self) -> RunningCall:
        executor, function = self._executor, self._function
        if executor.draining:
            raise Draining("the server is stopping", retry_after_s=5)
        pool = executor.pool(function)
        worker = await pool.acquire()
        call = self._call = RunningCall(executor.next_id(), function.id, self._invocation, pool.release)
        try:
            call.begin(worker, pool.deadlines)
        except BaseException:
            call.abandon()
            raise
        return call

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._call is not None:
            self._call.leave()


async def _cancel(task: asyncio.Task[Any]) -> None:
    """End a task, if it has not ended yet."""
    if not task.done():
        task.cancel()
        await asyncio.wait([task])


def _known(pool: Pool) -> Manifest:
    assert pool.manifest is not None, "its first worker told it"
    return pool.manifest


def manifest_of(description: wire.Description) -> Manifest:
    """The manifest that a worker's description tells. The worker is not trusted: types were checked on decoding."""
    return Manifest(
        kind=Kind(description.kind),
        name=description.name,
        handlers=tuple(
            Handler(
                handler.name,
                handler.line,
                handler.is_async,
                handler.is_generator,
                tuple(handler.parameters),
                handler.var_keyword,
            )
            for handler in description.handlers
        ),
        manifold=description.manifold,
        valves_schema=description.valves_schema,
        user_valves_schema=description.user_valves_schema,
        toggle=description.toggle,
        file_handler=description.file_handler,
        icon=description.icon,
        actions=tuple(description.actions),
    )


def _empty(folder: Path) -> None:
    """Remove what this or an earlier run left in it."""
    shutil.rmtree(folder, ignore_errors=True)
