"""Functions as of any commit, loaded beside what is live and never published.

    preview = await previews.enter(world, id, ref)
    preview.function     the function at that commit, with its settings there; active, whatever they say
    preview.world        the world with that function in place of the live one

Each function and commit is loaded once, however many ask. The MOST used last are kept.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog

from fnsync.errors import (
    FnsyncError,
    LoadFailed,
    Saturated,
    SourceError,
    SourceRefused,
    Unavailable,
    UnknownFunction,
    UnknownRef,
)
from fnsync.loading import problem_of
from fnsync.model import LOCAL, CommitId, FunctionId, LiveFunction, Preview, Problem
from fnsync.plan import Policy, candidate_of, denied_import
from fnsync.previews.reading import Offered, Read, Scratch, read, read_all
from fnsync.previews.refs import Refs, Where
from fnsync.registry import World
from fnsync.runtime.executor import Executor
from fnsync.source.snapshots import Snapshots

#: How many previews are kept, those that do not load too; and how many there may be while some are being loaded.
MOST, MOST_AT_ONCE = 16, 64
#: How long a failure is believed that may have another reason than the commit, in seconds.
BELIEVED_S = 5.0
#: Commits that are read at once, and functions that are loaded: what is live has to be loaded beside them.
READS, LOADS = 2, 2
#: How many commits all functions are kept of.
LISTED = 4

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Entered:
    """A function of a commit, and the world it is called in."""

    function: LiveFunction
    world: World


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why a function does not load at a commit."""

    problem: Problem
    #: Whether it never will.
    is_final: bool
    #: time.monotonic()
    at: float

    @property
    def is_believed(self) -> bool:
        return time.monotonic() - self.at < BELIEVED_S


@dataclass(slots=True)
class _Kept:
    """A function at a commit."""

    where: Where
    #: The name by which it was asked for last.
    ref: str
    #: What was live when its loading began.
    live: LiveFunction | None
    loading: asyncio.Task[LiveFunction | _Failed]
    function: LiveFunction | None = None
    #: The world it was put into last, with that one's generation.
    world: World | None = None

    @property
    def failed(self) -> _Failed | None:
        """Why it did not load; None: it did, or is not through with it."""
        done = self.loading.done() and not self.loading.cancelled() and self.loading.exception() is None
        result = self.loading.result() if done else None
        return result if isinstance(result, _Failed) else None


class Previews:
    """All previews of one server. On the loop, but for `status`."""

    def __init__(
        self,
        refs: Refs,
        executor: Executor,
        snapshots: Snapshots,
        policy: Policy,
        folder: Path,
        sources_of: Callable[[FunctionId | None], Sequence[str]] = lambda _: (LOCAL,),
    ) -> None:
        """`folder`: for files while they are read. `sources_of`: where a function comes from, by its id; of one that is
        not here yet, where it may come from; None: where any does."""
        self.refs = refs
        self._executor = executor
        self._snapshots = snapshots
        self._policy = policy
        self._scratch = Scratch(folder)
        self._sources_of = sources_of
        self._kept: OrderedDict[tuple[FunctionId, CommitId], _Kept] = OrderedDict()
        self._units: OrderedDict[Where, asyncio.Task[Offered]] = OrderedDict()
        self._room = asyncio.Semaphore(READS)
        self._loads = asyncio.Semaphore(LOADS)

    async def start(self) -> None:
        """Clear what a crash has left."""
        await asyncio.to_thread(self._scratch.clear)

    async def close(self) -> None:
        """End what is being read or loaded."""
        await self.refs.close()
        tasks = [*(kept.loading for kept in self._kept.values()), *self._units.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def enter(self, world: World, id: FunctionId, ref: str) -> Entered:
        """The function as of a ref, loaded if it is not yet.

        Raises UnknownRef, UnknownFunction that names both, LoadFailed for what does not load there, Unavailable,
        RepositoryError.
        """
        refused: FnsyncError | None = None
        for source in self._sources_of(id):
            try:
                where = await self.refs.resolve(source, ref)
                function = await self._function(id, where, ref, world.functions.get(id))
            except (UnknownRef, UnknownFunction) as exc:
                refused = refused or exc
                continue
            return Entered(function, self._world(world, function))
        assert refused is not None
        raise refused

    async def offered(self, ref: str) -> list[Offered]:
        """All functions as of a ref, of each repository that has it, the local one first; read, not loaded.

        A source that cannot be asked is left out and logged. Raises UnknownRef, SourceRefused, RepositoryError,
        NotWritable.
        """
        sources = self._sources_of(None)
        results = await asyncio.gather(*(self._offered(source, ref) for source in sources), return_exceptions=True)
        refused = [result for result in results if isinstance(result, BaseException)]
        for source, result in zip(sources, results, strict=True):
            if isinstance(result, Offered | UnknownRef):
                continue
            if source == LOCAL or not isinstance(result, FnsyncError):
                raise result
            log.warning("preview_not_listed", source=source, ref=ref, error=result.message)
        if len(refused) == len(results):
            raise refused[0]
        return [result for result in results if isinstance(result, Offered)]

    async def _offered(self, source: str, ref: str) -> Offered:
        where = await self.refs.resolve(source, ref)
        task = self._units.get(where)
        if task is None:
            task = self._units[where] = asyncio.create_task(self._read_all(where))
            task.add_done_callback(lambda done: self._units_read(where, done))
        self._units.move_to_end(where)
        return await asyncio.shield(task)

    async def name(self, id: FunctionId, ref: str) -> str:
        """What the processes and logs of a preview go by. Raises UnknownRef, RepositoryError."""
        first, refused = None, None
        for source in self._sources_of(id):
            try:
                commit = (await self.refs.resolve(source, ref)).commit
            except UnknownRef as exc:
                refused = refused or exc
                continue
            if (id, commit) in self._kept:
                return Preview(commit).name(id)
            first = first or commit
        if first is None:
            assert refused is not None
            raise refused
        return Preview(first).name(id)

    def status(self) -> list[dict[str, Any]]:
        """How each stands, the one used last first; from any thread."""
        return [self._told(id, kept) for (id, _), kept in reversed(list(self._kept.items()))]

    # ---- one function ---------------------------------------------------------------------------------------

    async def _function(self, id: FunctionId, where: Where, ref: str, live: LiveFunction | None) -> LiveFunction:
        key = (id, where.commit)
        kept = self._kept.get(key)
        if kept is None or kept.where != where or self._is_over(kept, live):
            kept = self._begin(id, where, ref, live)
        self._kept.move_to_end(key)
        kept.ref = ref
        function = kept.function
        if function is None:
            result = await asyncio.shield(kept.loading)
            if isinstance(result, _Failed):
                raise LoadFailed(Preview(where.commit).name(id), result.problem)
            function = kept.function = kept.function or result
        preview, kept.live = function.preview, live
        if preview is not None and preview.live is not live:
            function = kept.function = replace(function, preview=replace(preview, live=live))
        return function

    def _is_over(self, kept: _Kept, live: LiveFunction | None) -> bool:
        """Whether a function has to be loaded anew: it failed a while ago, or may refer to other things now."""
        failed, commit = kept.failed, kept.where.commit
        if failed is not None and (failed.is_final or not failed.is_believed):
            return not failed.is_final
        return kept.live is not live and Preview(commit, kept.live).given != Preview(commit, live).given

    def _begin(self, id: FunctionId, where: Where, ref: str, live: LiveFunction | None) -> _Kept:
        if len(self._kept) >= MOST_AT_ONCE:
            raise Saturated(f"{len(self._kept)} previews are being loaded", hint="try again when they are")
        task = asyncio.create_task(self._load(id, where, ref, live), name=f"preview of {id}")
        kept = self._kept[id, where.commit] = _Kept(where, ref, live, task)
        task.add_done_callback(lambda done: self._loaded(id, kept))
        return kept

    def _loaded(self, id: FunctionId, kept: _Kept) -> None:
        """Keep what loading came to, and drop what is too much then."""
        key = (id, kept.where.commit)
        if (kept.loading.cancelled() or kept.loading.exception() is not None) and self._kept.get(key) is kept:
            del self._kept[key]
        for other, old in list(self._kept.items()):
            if len(self._kept) <= MOST:
                break
            if old.loading.done() and old is not kept:
                del self._kept[other]
                self._drop(other[0], old)

    def _drop(self, id: FunctionId, kept: _Kept) -> None:
        result = kept.function or kept.loading.result()
        if isinstance(result, LiveFunction):
            self._executor.drop(result)
        self._executor.logs.forget(Preview(kept.where.commit).name(id))

    async def _load(self, id: FunctionId, where: Where, ref: str, live: LiveFunction | None) -> LiveFunction | _Failed:
        began = time.perf_counter()
        try:
            async with self._room:
                found = await asyncio.to_thread(read, where, id, ref, self._scratch, self._snapshots)
        except (SourceRefused, SourceError) as exc:
            problem = Problem(exc.code, exc.message, hint=exc.hint)
            return self._refused(id, ref, where, _Failed(problem, True, time.monotonic()))
        unit = found.unit
        wrong = unit.problem or denied_import(unit, self._policy.denied_imports)
        if wrong is not None or unit.revision is None:
            wrong = wrong or Problem("unreadable", "the file could not be read", unit.path)
            return self._refused(id, ref, where, _Failed(wrong, True, time.monotonic()))
        candidate = self._candidate(found, where, live)
        try:
            needs = unit.frontmatter
            environment = await self._executor.environments.ensure(
                needs.requirements, needs.requires_python, needs.inferred
            )
            async with self._loads:
                manifest = await self._executor.load(candidate)
        except Unavailable:
            raise
        except (FnsyncError, OSError) as exc:
            self._executor.drop(candidate)  # it may have loaded with what it was given before
            return self._refused(id, ref, where, _Failed(problem_of(exc, unit), False, time.monotonic()))
        took_ms = round((time.perf_counter() - began) * 1000, 1)
        log.info("preview_loaded", function=id, ref=ref, commit=where.commit[:12], took_ms=took_ms)
        return replace(candidate, manifest=manifest, kind=manifest.kind, environment=environment.name)

    def _refused(self, id: FunctionId, ref: str, where: Where, failed: _Failed) -> _Failed:
        log.warning("preview_failed", function=id, ref=ref, commit=where.commit[:12], problem=str(failed.problem))
        return failed

    def _candidate(self, found: Read, where: Where, live: LiveFunction | None) -> LiveFunction:
        candidate = candidate_of(found.unit, self._policy.limits, True, None)
        return replace(
            candidate,
            active=True,
            commit=where.commit,
            updated_at=found.committed_at,
            preview=Preview(where.commit, live),
        )

    def _world(self, world: World, function: LiveFunction) -> World:
        """The world with a preview in it; the same for all requests that came into the same world."""
        preview = function.preview
        assert preview is not None
        kept = self._kept.get((function.id, preview.commit))
        known = kept.world if kept is not None else None
        if known is not None and known.generation == world.generation and known.functions.get(function.id) is function:
            return known
        made = World(world.generation, MappingProxyType({**world.functions, function.id: function}))
        if kept is not None:
            kept.world = made
        return made

    # ---- all functions --------------------------------------------------------------------------------------

    async def _read_all(self, where: Where) -> Offered:
        async with self._room:
            return await asyncio.to_thread(read_all, where, self._scratch)

    def _units_read(self, where: Where, done: asyncio.Task[Offered]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._units.pop(where, None)
        for other, task in list(self._units.items()):
            if len(self._units) > LISTED and task.done():
                del self._units[other]

    def _told(self, id: FunctionId, kept: _Kept) -> dict[str, Any]:
        function, failed = kept.function, kept.failed
        health = self._executor.preview_health(function) if function is not None else None
        return {
            "id": id,
            "ref": kept.ref,
            "commit": kept.where.commit,
            "revision": function.revision if function is not None else None,
            "status": "failed" if failed is not None else "ready" if function is not None else "loading",
            "error": asdict(failed.problem) if failed is not None else None,
            "workers": health.workers if health is not None else 0,
            "calls": health.calls if health is not None else 0,
            "crashes": health.crashes if health is not None else 0,
        }
