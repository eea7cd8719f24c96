"""The processes below the server: zygotes, the workers they fork, and what these use."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from fnsync.errors import LoadFailed, TimeLimit, ValvesUnfit, WorkerDied
from fnsync.model import Handler, Kind, Manifest, Misfit, PipelineFacts, Problem
from fnsync.periodic import every
from fnsync.runtime import monitor, valves, wire
from fnsync.runtime.call import MEMORY_REASON
from fnsync.runtime.environments import BASE, Environment, Environments
from fnsync.runtime.logs import LogLine
from fnsync.runtime.pool import NESTED, Pool, Request
from fnsync.runtime.spec import WorkerSpec
from fnsync.runtime.worker import Worker
from fnsync.runtime.zygote import Zygote, ZygoteGone, scrubbed_environment

log = structlog.get_logger()

#: How long loading a revision may take beyond what its time limit says, in seconds: imports can be large.
LOAD_S = 60.0
#: How long the zygote of an environment without workers is kept, in seconds.
ZYGOTE_IDLE_S = 60.0
#: Address space a worker may have beyond its zygote's: so many times its memory limit, and so much more. Only a
#: backstop, since libraries reserve much and touch little.
ADDRESS_SPACE_FACTOR, ADDRESS_SPACE_BYTES = 4, 4 * 1024**3
#: The longest type and id that a pipeline may call itself, and how many models one may be for.
MOST_CHARACTERS, MOST_TARGETS = 200, 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A worker, who forked it and whom it works for."""

    worker: Worker
    zygote: Zygote
    pool: Pool


class Processes:
    """The one owner of zygotes and workers."""

    def __init__(
        self,
        environments: Environments,
        scratch: Path,
        next_id: Callable[[], int],
        on_line: Callable[[LogLine], None],
    ) -> None:
        """`scratch`: the folder for the workers' private folders."""
        self.environments = environments
        #: By environment.
        self.zygotes: dict[str, Zygote] = {}
        #: By process id.
        self.workers: dict[int, Entry] = {}
        self._scratch = scratch
        self._next_id = next_id
        self._on_line = on_line
        self._folders = itertools.count(1)
        self._watching: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    async def start(self, *, warm: bool = True) -> None:
        """Start the watch over workers, and if `warm` the base zygote; does not wait for its imports."""
        await asyncio.to_thread(_empty, self._scratch)
        if warm:
            self._zygote(self.environments.base)
        self._watching = asyncio.create_task(every(monitor.INTERVAL_S, self._watch_usage, "usage of workers"))

    async def close(self) -> None:
        """End every process."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await asyncio.gather(*(zygote.stop() for zygote in self.zygotes.values()), *self._background)
        await asyncio.to_thread(_empty, self._scratch)

    # ---- starting ----

    async def start_worker(self, pool: Pool, spec: WorkerSpec) -> Worker:
        """Fork a worker that is ready for calls; a pipeline has started up. Raises LoadFailed (ValvesUnfit where only
        the valves are in the way; the pool knows the manifest then), TimeLimit, WorkerDied, EnvironmentFailed."""
        worker, misfits = await self.load_worker(pool, spec, start=True)
        if misfits:
            worker.kill("its valves do not fit")
            raise ValvesUnfit(spec.function, valves.problem_of(misfits), misfits, pool.manifest)
        manifest = pool.manifest
        worker.shuts_down = manifest is not None and bool(manifest.pipeline and manifest.handler("on_shutdown"))
        return worker

    async def load_worker(
        self, pool: Pool, spec: WorkerSpec, *, start: bool = False
    ) -> tuple[Worker, tuple[Misfit, ...]]:
        """Fork a worker and have it load the revision; with misfits among its valves it is not to be called. Raises
        LoadFailed, TimeLimit, WorkerDied, EnvironmentFailed."""
        environment = await self.environments.ensure(spec.requirements, spec.requires_python, spec.inferred)
        zygote = self.zygotes.get(environment.name)
        try:
            return await self._fork_and_load(pool, spec, environment, start)
        except WorkerDied:
            if zygote is None or zygote.alive:
                raise
        return await self._fork_and_load(pool, spec, environment, start)  # its zygote had gone, and it with it

    def _zygote(self, environment: Environment) -> Zygote:
        """The environment's zygote, started anew if it is gone."""
        zygote = self.zygotes.get(environment.name)
        if zygote is None or not zygote.alive:
            zygote = self.zygotes[environment.name] = Zygote(environment, self._on_exit)
            zygote.start()
        zygote.used_at = time.monotonic()
        return zygote

    async def _fork_and_load(
        self, pool: Pool, spec: WorkerSpec, environment: Environment, start: bool
    ) -> tuple[Worker, tuple[Misfit, ...]]:
        limit_s = max(LOAD_S, pool.limits.timeout_s)
        worker = await self._fork(pool, spec, environment)
        try:
            async with asyncio.timeout(limit_s):
                await worker.hello
                misfits = await self._describe(pool, spec, worker, start)
        except TimeoutError:
            worker.kill("loading took too long")
            raise TimeLimit(f"{spec.function} did not load within {limit_s:g} s") from None
        except ConnectionResetError as exc:
            raise WorkerDied(spec.function, f"{spec.function}: {exc}") from exc
        except BaseException:
            worker.kill("it did not load")
            raise
        return worker, misfits

    async def _fork(self, pool: Pool, spec: WorkerSpec, environment: Environment) -> Worker:
        """Have a worker forked; a zygote that went away is replaced once."""
        function = spec.function
        folder = self._scratch / str(next(self._folders))
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
        worker = Worker(spec.function, spec.revision, self._on_line, self._on_gone)
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
        self.workers[pid] = Entry(worker, zygote, pool)
        await worker.attach(ours, output)
        return worker

    async def _describe(self, pool: Pool, spec: WorkerSpec, worker: Worker, start: bool) -> tuple[Misfit, ...]:
        """Have the worker load, and return which valves do not fit; what the revision is, is asked only the first time:
        schemas cost it memory."""
        request = Request(self._next_id(), worker)
        reply = await request.answer(
            wire.Describe(
                request.id,
                spec.id,
                spec.revision,
                str(spec.snapshot),
                spec.entry,
                dict(spec.shown),
                dict(spec.valves),
                NESTED * pool.limits.concurrency,
                pool.manifest is None,
                sorted(spec.sealed),
                start,
            )
        )
        try:
            loaded = valves.told(reply, wire.Loaded)
            if pool.manifest is None:
                pool.manifest = manifest_of(loaded.description)
        except ValueError as exc:  # function code can write to its worker's socket
            problem = Problem("load_failed", f"what its worker told of it is not understood: {exc}")
            raise LoadFailed(spec.function, problem) from exc
        return valves.misfits_of(loaded.misfits)

    # ---- ending ----

    def _on_exit(self, pid: int, status: int) -> None:
        entry = self.workers.get(pid)
        if entry is not None:
            entry.worker.on_exit(status)

    def _on_gone(self, worker: Worker) -> None:
        entry = self.workers.pop(worker.pid)
        alone = not entry.zygote.alive
        if alone:  # nobody else is left to end what the worker started
            with contextlib.suppress(ProcessLookupError):  # it had started nothing
                os.killpg(worker.pid, signal.SIGKILL)
        entry.pool.on_gone(worker, blameless=not worker.blamed or alone)
        if worker.folder is not None:
            asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, worker.folder, True)

    def reap_zygotes(self, now: float) -> None:
        """Stop the zygotes of environments that have had no worker for a while; a need starts them again."""
        busy = {entry.zygote for entry in self.workers.values()}
        for name, zygote in list(self.zygotes.items()):
            if zygote in busy or name == BASE:
                zygote.used_at = now
            elif now - zygote.used_at > ZYGOTE_IDLE_S:
                del self.zygotes[name]
                self._spawn(zygote.stop())

    def reap_surplus(self, most: int) -> None:
        """Stop idle workers above the number that is kept: those of previews first, then the longest idle."""
        idle = [entry for entry in self.workers.values() if entry.worker.alive and not entry.worker.calls]
        surplus = len(idle) - most
        if surplus > 0:
            for entry in sorted(idle, key=lambda entry: (not entry.pool.preview, entry.worker.idle_since))[:surplus]:
                entry.worker.end("idle")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # ---- watching ----

    def _watch_usage(self) -> None:
        for entry in list(self.workers.values()):
            if entry.worker.alive:
                _check_usage(entry.worker, entry.pool)


def _check_usage(worker: Worker, pool: Pool) -> None:
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


def manifest_of(description: wire.Description | None) -> Manifest:
    """The manifest that a worker's description tells. The worker is not trusted: types were checked on decoding, and
    ValueError is raised for the rest."""
    if description is None:
        raise ValueError("it does not say what it is")
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
        pipeline=_facts_of(description),
    )


def _facts_of(description: wire.Description) -> PipelineFacts | None:
    told = description.pipeline
    if description.kind != Kind.PIPELINE or told is None:
        return None
    if len(told.type) > MOST_CHARACTERS or len(told.targets or ()) > MOST_TARGETS or not math.isfinite(told.priority):
        raise ValueError("its type, its targets or its priority are none")
    id = told.id if told.id and len(told.id) <= MOST_CHARACTERS and told.id.isprintable() else None
    return PipelineFacts(told.type, id, None if told.targets is None else tuple(told.targets), told.priority)


def _empty(folder: Path) -> None:
    """Remove what this or an earlier run left in it."""
    shutil.rmtree(folder, ignore_errors=True)
