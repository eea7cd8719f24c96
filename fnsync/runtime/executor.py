"""Runs functions: a pool of workers for each revision, and the way a call takes through it."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import structlog

from fnsync.errors import Draining, FunctionError, TimeLimit, ValvesUnfit, WorkerDied
from fnsync.model import FunctionId, LiveFunction, Manifest, Misfit, Revision
from fnsync.periodic import every
from fnsync.runtime import sandbox, valves, wire
from fnsync.runtime.call import Invocation, RunningCall
from fnsync.runtime.environments import Environments
from fnsync.runtime.logs import LogBook
from fnsync.runtime.pool import Health, Pool, Request
from fnsync.runtime.processes import Processes
from fnsync.runtime.spec import Decrypt, Sources, WorkerSpec, resolvable_spec_of, resolve_valves, sealed_of, spec_of
from fnsync.runtime.worker import Worker

log = structlog.get_logger()

T = TypeVar("T")
#: Makes the frame, given its id.
Question = Callable[[int], wire.Frame]

#: How long one load keeps others from starting, in seconds.
LOAD_TURN_S = 1.0
#: How long a worker may take to answer a question about valves, in seconds. One that also serves calls is given less
#: time where the answer should take none: it may have its loop blocked, and another one can tell as well.
ANSWER_S, CHECK_S = 7.0, 2.0
#: How often idle workers are looked for, in seconds.
REAP_S = 0.5


@dataclass(frozen=True, slots=True)
class ExecutorOptions:
    """How many processes are kept, and where they work."""

    #: Folder for the workers' private folders.
    scratch: Path
    #: Idle workers kept at most, all functions together.
    idle_workers: int = 32
    #: Whether the base zygote is started with the executor, or when the first worker is needed.
    warm: bool = True


@dataclass(frozen=True, slots=True)
class Trial:
    """What a revision is, and which of its stored valves do not fit; it does not answer calls by that."""

    manifest: Manifest
    #: What refers to something that is not there counts as missing.
    misfits: tuple[Misfit, ...] = ()

    @property
    def wrong(self) -> tuple[Misfit, ...]:
        """The misfits that are more than missing values."""
        return tuple(misfit for misfit in self.misfits if not misfit.missing)


class Executor:
    """The pools of all functions, and what is asked of them."""

    def __init__(
        self,
        environments: Environments,
        snapshot_folder: Callable[[Revision], Path],
        environ: Mapping[str, str],
        options: ExecutorOptions,
        decrypt: Decrypt | None = None,
    ) -> None:
        """`environ`: the server's environment, which valves and permissions may name variables of. Without `decrypt`,
        `{secret: …}` values are refused."""
        self.logs = LogBook()
        self.environments = environments
        self.processes = Processes(environments, options.scratch, self.next_id, self.logs.add)
        self.draining = False
        self._sources = Sources(snapshot_folder, environ, decrypt)
        self._options = options
        self._pools: dict[tuple[str, Revision], Pool] = {}
        self._ids = itertools.count(1)
        self._crashes: dict[str, int] = {}
        #: Revisions that are being loaded, as often as they are; their requirements may be installed first.
        self._loading: Counter[Revision] = Counter()
        #: The revision that answers new requests, of functions that were loaded or removed.
        self._kept: dict[str, Revision | None] = {}
        self._loads = asyncio.Semaphore(max(2, os.cpu_count() or 2))
        self._reaping: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def start(self) -> None:
        """Start the base zygote, where it is to be warm, and the watch over processes; does not wait for imports."""
        await self.processes.start(warm=self._options.warm)
        self._reaping = asyncio.create_task(every(REAP_S, self._reap, "idle workers"))

    async def close(self) -> None:
        """End every process; calls under way fail."""
        self.draining = True
        if self._reaping is not None:
            await _cancel(self._reaping)
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))
        await asyncio.gather(self.processes.close(), *self._background)
        await self.environments.close()

    # ---- calls ----

    def call(self, function: LiveFunction, invocation: Invocation) -> CallContext:
        """Call a handler: `async with executor.call(…) as call`. Leaving the block cancels what still runs."""
        return CallContext(self, function, invocation)

    @contextmanager
    def pinned(self, functions: Iterable[LiveFunction]) -> Iterator[None]:
        """Keep the workers and snapshots of revisions for a request that calls them more than once, be they replaced
        meanwhile."""
        pools = [self.pool(function) for function in functions]
        for pool in pools:
            pool.pins += 1
        try:
            yield
        finally:
            for pool in pools:
                pool.pins -= 1
                pool.touched_at = time.monotonic()

    def pool(self, function: LiveFunction) -> Pool:
        """The workers of the function's revision."""
        pool = self._pools.get(_key(function))
        if pool is None:
            pool = self._add_pool(function)
        elif pool.trial:  # it answered calls before the server started anew, and was tried before it did so again
            pool.trial = False
            pool.retired = self._is_replaced(function)
        return pool

    def _new_pool(self, function: LiveFunction, spec: WorkerSpec) -> Pool:
        is_preview = function.preview is not None
        return Pool(spec, function.limits, self.processes.start_worker, self.next_id, preview=is_preview)

    def _add_pool(self, function: LiveFunction) -> Pool:
        pool = self._new_pool(function, spec_of(function, self._sources))
        pool.manifest = function.manifest if function.manifest.told else None
        pool.retired = self._is_replaced(function)
        self._pools[_key(function)] = pool
        return pool

    def _is_replaced(self, function: LiveFunction) -> bool:
        """Whether another revision answers: a request may have pinned one that was replaced, and cleared away."""
        return self._kept.get(function.runs_as, function.revision) != function.revision

    def next_id(self) -> int:
        return next(self._ids)

    # ---- what reconcile asks for ----

    async def load(self, function: LiveFunction) -> Manifest:
        """Load a revision in a worker, which then stays for calls. Raises LoadFailed (ValvesUnfit where only its valves
        keep it from going live), EnvironmentFailed, TimeLimit, WorkerDied."""
        return await self._in_turn(function, self._load)

    async def try_load(self, function: LiveFunction) -> Trial:
        """Load a revision that is not to go live yet. If it could, its worker waits a while for the `load` that makes
        it so. Raises LoadFailed, but not for valves, EnvironmentFailed, TimeLimit, WorkerDied."""
        return await self._in_turn(function, self._try)

    async def _in_turn(self, function: LiveFunction, load: Callable[[LiveFunction], Coroutine[Any, Any, T]]) -> T:
        self._loading[function.revision] += 1
        try:
            return await self._after_others(function, load)
        finally:
            self._loading[function.revision] -= 1
            self._loading += Counter()  # forgets those that are at none

    async def _after_others(self, function: LiveFunction, load: Callable[[LiveFunction], Coroutine[Any, Any, T]]) -> T:
        frontmatter = function.frontmatter
        # Before it takes a place among the loads: a build can take minutes.
        await self.environments.ensure(frontmatter.requirements, frontmatter.requires_python, frontmatter.inferred)
        async with self._loads:
            task = asyncio.create_task(load(function))
            try:
                # Only the start is worth a processor; a source that waits while it is imported holds up nobody.
                await asyncio.wait([task], timeout=LOAD_TURN_S)
            except asyncio.CancelledError:
                await _cancel(task)
                raise
        try:
            return await task
        finally:
            await _cancel(task)

    async def _load(self, function: LiveFunction) -> Manifest:
        key = _key(function)
        spec = spec_of(function, self._sources)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._new_pool(function, spec)
            await pool.start_worker()
            tried = self._pools.get(key)
            if tried is not None:  # meanwhile
                tried.dismiss()
            self._pools[key] = pool
            return _known(pool)
        # One that was tried, one that still has workers, or the same one under another environment.
        standing = (pool.retired, pool.trial)
        pool.retired = pool.trial = False
        pool.take_limits(function.limits)
        if pool.spec == spec and pool.ready is not None:
            return _known(pool)
        old, before, pool.spec = list(pool.workers), pool.spec, spec
        try:
            await pool.start_worker()
        except BaseException:
            pool.spec = before
            pool.retired, pool.trial = standing
            raise
        for other in old:
            other.retire()
        return _known(pool)

    async def _try(self, function: LiveFunction) -> Trial:
        key = _key(function)
        spec, refused = resolvable_spec_of(function, self._sources)
        pool = self._pools.get(key)
        if pool is not None and pool.spec == spec and pool.ready is not None and not refused:
            pool.touched_at = time.monotonic()
            return Trial(_known(pool))
        tried = self._new_pool(function, spec)
        misfits: tuple[Misfit, ...] = ()
        try:
            await tried.start_worker()
        except ValvesUnfit as exc:
            misfits = exc.misfits
        standing = self._pools.get(key)
        if refused or misfits or (standing is not None and not standing.trial):
            tried.dismiss()
        else:
            if standing is not None:  # it was tried with other settings
                standing.dismiss()
            tried.trial = True
            tried.touched_at = time.monotonic()
            self._pools[key] = tried
        return Trial(_known(tried), _with_refused(misfits, refused))

    def resolved_valves(self, function: LiveFunction) -> dict[str, Any]:
        """The stored values as the function is given them, references replaced. Raises LoadFailed."""
        return resolve_valves(function, self._sources)

    async def valves_schema(
        self, function: LiveFunction, model: wire.ValvesModel, user: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """The JSON schema of the function's class, or None without one, with the options that methods of the class give
        `user` (a value for `__user__`); where one gives none, its name stays. The function need not be live, nor its
        stored valves fit. Raises what `try_load` raises."""
        schema = valves.schema_of(await self.manifest(function), model)
        methods = valves.option_methods(schema) if schema is not None else []
        if schema is None or not methods:
            return schema
        try:
            reply = await self._ask(function, lambda id: wire.Options(id, model, methods, dict(user)), ANSWER_S)
            return valves.with_options(schema, valves.options_of(function.id, reply))
        except (FunctionError, TimeLimit) as exc:
            log.warning("options_not_resolved", function=function.id, methods=methods, error=str(exc))
            return schema

    async def manifest(self, function: LiveFunction) -> Manifest:
        """What a revision is, loaded for it if need be. Raises what `try_load` raises."""
        pool = self._pools.get(_key(function))
        if pool is not None and pool.manifest is not None:
            return pool.manifest
        if function.manifest.told:
            return function.manifest
        return (await self.try_load(function)).manifest

    async def check_valves(
        self, function: LiveFunction, model: wire.ValvesModel, values: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What to store of values, as in `checked_valves`."""
        return (await self.checked_valves(function, model, values)).values

    async def checked_valves(
        self,
        function: LiveFunction,
        model: wire.ValvesModel,
        values: Mapping[str, Any],
        sealed: Collection[str] = (),
        *,
        whole: bool = False,
    ) -> wire.Checked:
        """Hold values against the function's own class; return what to store: JSON values of the fields that were set,
        in the order of the class; with `whole` also what all fields are then. Null means: not set. What is told of
        values that are `sealed` does not tell them. The function need not be live, nor its stored valves fit. Raises
        InvalidValves, NotFound without such a class, and what `load` raises, but not for valves."""
        valves.check_sendable(values)
        reply = await self._ask(
            function, lambda id: wire.Check(id, model, dict(values), sorted(sealed), whole), CHECK_S
        )
        return valves.checked_of(function.id, model, reply)

    async def _ask(self, function: LiveFunction, question: Question, patience_s: float) -> wire.Reply:
        """Ask a worker of the function's revision; where none can answer, one that is started for the question."""
        if self.draining:
            raise Draining("the server is stopping", retry_after_s=5)
        pool = self._pools.get(_key(function))
        worker = await pool.worker_to_ask() if pool is not None else None
        if worker is not None:
            try:
                return await self._answer(worker, question, patience_s)
            except (TimeLimit, WorkerDied) as exc:
                log.warning("worker_did_not_answer", function=function.id, error=str(exc))
        return await self._in_turn(function, lambda _: self._ask_another(function, question))

    async def _ask_another(self, function: LiveFunction, question: Question) -> wire.Reply:
        spec, _ = resolvable_spec_of(function, self._sources)
        pool = self._new_pool(function, spec)
        pool.manifest = function.manifest  # nobody looks at it: the worker need not describe itself
        worker, _ = await self.processes.load_worker(pool, spec)
        try:
            return await self._answer(worker, question, ANSWER_S)
        finally:
            worker.kill("it was only started for a question")

    async def _answer(self, worker: Worker, question: Question, limit_s: float) -> wire.Reply:
        request = Request(self.next_id(), worker)
        return await request.answer(question(request.id), limit_s)

    async def configure(self, function: LiveFunction) -> None:
        """Apply changed valves and limits without loading code again. Raises as `load` does; the old ones then hold."""
        pool = self.pool(function)
        values = resolve_valves(function, self._sources)
        limits = pool.limits
        pool.take_limits(function.limits)
        if values == pool.spec.valves and limits.concurrency >= function.limits.concurrency:
            return
        before, pool.spec = pool.spec, replace(pool.spec, valves=values, sealed=sealed_of(function.settings.valves))
        try:
            if any(worker.alive for worker in pool.workers):
                await pool.configure(pool.spec)
            else:
                await pool.start_worker()  # only its own model can tell whether the values fit
        except BaseException:
            pool.spec = before
            pool.take_limits(limits)
            self._spawn(pool.put_back())
            raise

    async def renew(self, function: LiveFunction) -> None:
        """Have the function's calls answered by a worker that is started now; a function without workers starts one at
        its next call anyway. Raises as `load` does; the old workers then stay."""
        await self.pool(function).renew()

    def limit(self, function: LiveFunction) -> None:
        """Apply changed limits alone; nothing of them concerns a worker that runs."""
        pool = self._pools.get(_key(function))
        if pool is not None:
            pool.take_limits(function.limits)

    def retire(self, id: FunctionId, *, keep: Revision | None = None) -> None:
        """Another revision answers now, or none: the others' workers end when their calls are done."""
        self._kept[id] = keep
        for (function, revision), pool in self._pools.items():
            if function == id and revision != keep:
                pool.retired = True
                pool.touched_at = time.monotonic()

    def drop(self, function: LiveFunction) -> None:
        """Nobody asks for a preview any more: its workers end when their calls are done."""
        pool = self._pools.get(_key(function))
        if pool is not None:
            pool.retired = True
            pool.touched_at = time.monotonic()

    def in_use(self) -> set[Revision]:
        """Revisions that have workers or calls, or will; their snapshots are needed."""
        return {revision for _, revision in self._pools} | self._loading.keys()

    def health(self, id: str) -> Health:
        """How the processes of a function are doing, all its revisions together."""
        return self.healths().get(id, Health())

    def healths(self) -> dict[str, Health]:
        """The health of each function that has, or had, processes, without previews; from any thread."""
        total = {id: Health(crashes=crashes) for id, crashes in list(self._crashes.items())}
        for (id, _), pool in list(self._pools.items()):
            if pool.preview:
                continue
            total[id] = total[id] + pool.health() if id in total else pool.health()
        return total

    def preview_health(self, function: LiveFunction) -> Health:
        """The health of a preview; from any thread."""
        pool = self._pools.get(_key(function))
        return pool.health() if pool is not None else Health()

    def sandbox(self) -> dict[str, Any]:
        """What confines workers here."""
        return sandbox.report()

    @property
    def worker_count(self) -> int:
        """Worker processes now, of all functions."""
        return len(self.processes.workers)

    def environments_in_use(self) -> set[str]:
        """Names of environments that have a zygote."""
        return set(self.processes.zygotes)

    def _reap(self) -> None:
        now = time.monotonic()
        for key, pool in list(self._pools.items()):
            pool.reap(now)
            if pool.empty and (pool.retired or pool.trial):
                del self._pools[key]
                if pool.preview:
                    self.logs.forget(key[0])
                else:
                    self._crashes[key[0]] = self._crashes.get(key[0], 0) + pool.crashes
        self.processes.reap_surplus(self._options.idle_workers)
        self.processes.reap_zygotes(now)


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
        worker = await pool.acquire(inside=self._invocation.inside)
        call = self._call = RunningCall(executor.next_id(), function.runs_as, self._invocation, pool.release)
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


def _key(function: LiveFunction) -> tuple[str, Revision]:
    """What its pool goes by; a preview shares none with the live function, whatever its revision."""
    return function.runs_as, function.revision


async def _cancel(task: asyncio.Task[Any]) -> None:
    """End a task, if it has not ended yet."""
    if not task.done():
        task.cancel()
        await asyncio.wait([task])


def _with_refused(misfits: tuple[Misfit, ...], refused: list[ValvesUnfit]) -> tuple[Misfit, ...]:
    """All misfits; of a value that could not be resolved the class can only say that it is not there."""
    unresolved = tuple(misfit for exc in refused for misfit in exc.misfits)
    names = {misfit.field for misfit in unresolved}
    return unresolved + tuple(misfit for misfit in misfits if misfit.field not in names)


def _known(pool: Pool) -> Manifest:
    assert pool.manifest is not None, "its first worker told it"
    return pool.manifest
