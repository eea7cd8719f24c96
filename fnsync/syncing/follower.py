"""Follows one source: fetches again and again and whenever somebody asks, and goes over to what came.

    ask, interval ─► fetch ─► verify ─► pinned? window? ─► materialize ─► guard, gate ─► record ─► switch
                     (Workshop, in a thread of its own)                              (what serves)  (reconcile)

What goes wrong at any step leaves the last good commit serving.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from fnsync import holds
from fnsync.configgit import SourceConfig, SyncConfig
from fnsync.durations import Durations
from fnsync.errors import Conflict, Draining, FnsyncError, NotFound, RepositoryError
from fnsync.git.githubapp import GithubTokens
from fnsync.git.passage import Passage
from fnsync.holds import Held, Hold
from fnsync.model import CommitId, FunctionId, Revision, Tree
from fnsync.periodic import jittered, wait_s
from fnsync.planning import Planner, Rules
from fnsync.plans import Candidate
from fnsync.previews.refs import Where
from fnsync.reconcile import Reconciler
from fnsync.reports import ReloadReport
from fnsync.sourcestate import SourceState
from fnsync.syncing.record import Record
from fnsync.syncing.trees import Trees
from fnsync.syncing.work import Found

log = structlog.get_logger()

T = TypeVar("T")
#: Tells of an event: its name, and what is told of it.
Publish = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Synced:
    """What a sync came to."""

    source: str
    before: CommitId | None
    #: What serves now.
    after: CommitId | None
    passage: Passage = Passage()
    held: Held | None = None
    report: ReloadReport | None = None

    @property
    def has_moved(self) -> bool:
        return self.before != self.after

    @property
    def told(self) -> dict[str, Any]:
        """What an event tells of it."""
        report = self.report
        functions: dict[str, Any] = {"loaded": [], "applied": [], "removed": [], "failed": []}
        if report is not None:
            functions["loaded"] = [id for id, _, _ in report.loaded]
            functions["applied"] = [id for id, _ in report.applied]
            functions["removed"] = list(report.removed)
            functions["failed"] = [
                {"id": id, "message": problem.message, "place": problem.place} for id, problem in report.failed
            ]
        return {
            "before": self.before,
            "commit": self.after,
            "commits": self.passage.count,
            "rewritten": self.passage.rewritten,
            "functions": functions,
        }


class Follower:
    """One source. On the loop; `start` before use, `close` after."""

    def __init__(
        self,
        config: SourceConfig,
        sync: SyncConfig,
        folder: Path,
        environ: Mapping[str, str],
        tokens: GithubTokens,
        publish: Publish,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        """`folder` is the source's own, in the data folder. `on_step` is told each step of a sync as it is reached."""
        self.config = config
        #: Syncs so far by what they came to: `moved`, `same`, `held`, `failed`.
        self.counts: Counter[str] = Counter()
        self.durations: dict[str, Durations] = {}
        self.error: FnsyncError | None = None
        self.failing_since: float | None = None
        self.hold = Hold()
        #: When the last sync began, and when the next one comes, epoch seconds.
        self.tried_at: float | None = None
        self.next_at: float | None = None
        #: Failures on end.
        self.failures = 0
        self._guard = sync.guard
        self._trees = Trees(config, sync, folder, environ, tokens, on_step)
        self._publish = publish
        self._on_step = on_step
        self._turn = asyncio.Lock()
        self._asked = asyncio.Event()
        self._next: asyncio.Future[Synced | FnsyncError] | None = None
        self._forced = False
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def record(self) -> Record:
        """What serves, what it is held at, what came before."""
        return self._trees.record

    # ---- life ----

    def tree(self) -> Tree | None:
        """What served when the server stopped, for the reconciler's start; blocking."""
        return self._trees.tree()

    def take_over(self, before: Follower) -> None:
        """Begin with what another one, of the same source under another configuration, has mounted."""
        self._trees.take_over(before._trees)

    def start(self, reconciler: Reconciler, planner: Planner) -> None:
        """Begin to follow."""
        self._reconciler = reconciler
        self._planner = planner
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Begin no sync any more, and end what runs with the remote; a switch goes on."""
        self._is_closing = True
        self._asked.set()
        self._trees.stop()

    async def close(self) -> None:
        """End; what runs is ended, a switch is awaited."""
        self.stop()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        async with self._turn:  # a rollback that is under way goes on to its end: what it records is what comes next
            await self._trees.close()

    async def leave(self) -> None:
        """End, and take its functions away."""
        await self.close()
        await self._reconciler.switch(self.config.name, None, None)

    async def forget(self) -> None:
        """Remove all that is kept of it. After `leave`."""
        await self._trees.forget()

    # ---- what is asked of it ----

    def ask(self) -> None:
        """Have a sync begin now, or when the one that runs has ended."""
        self._asked.set()

    async def sync(self, *, force: bool = False) -> Synced:
        """Return what a sync came to that began after this was called. `force`: also past the guard and outside of
        windows. Raises FnsyncError."""
        self._check_open()
        if self.config.suspend:
            name = self.config.name
            raise Conflict(f"the source {name} is suspended", hint=f"first: fnsync source resume {name}")
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        self._forced = self._forced or force
        self.ask()
        result = await asyncio.shield(self._next)
        if isinstance(result, FnsyncError):
            raise result
        return result

    async def candidate(self) -> Candidate:
        """Fetch, and make the tree that a sync would go over to; nothing is switched. Raises FnsyncError."""
        self._check_open()
        found = await self._trees.fetch()
        async with self._in_turn():
            commit, before = found.fetched.commit, self._trees.commit
            tree, changed = await self._trees.made(commit)
            held = holds.by_window(self.config.name, self.config.windows, commit, time.time())
            if self.record.pin is not None:
                held = holds.by_pin(self.config.name, commit, self.record.pin)
            notes = (held.message,) if held is not None and commit != before else ()
            return Candidate(tree, changed, self.config.ref, before, notes, self._rules)

    async def where(self, ref: str) -> Where:
        """The commit that a ref means at the remote, and where it can be read. Raises FnsyncError."""
        self._check_open()
        return await self._trees.find(ref)

    @property
    def mark(self) -> tuple[int, int]:
        """Another one once commits that `where` found may be gone from the mirror."""
        return self._trees.mark

    def state(self, functions: Mapping[str, int]) -> SourceState:
        """How it stands, for metrics; `functions`: how many of its functions have which status."""
        record, config = self.record, self.config
        live = None if record.live is None else record.live.commit
        return SourceState(
            config.name, config.ref, live, record.fetched_at, self.counts["failed"], dict(self.durations), functions
        )

    @property
    def quarantine(self) -> Mapping[FunctionId, Revision]:
        """The revisions of its functions that are not taken."""
        return {FunctionId(id): Revision(revision) for id, revision in self.record.quarantine.items()}

    @property
    def _rules(self) -> Rules:
        return Rules(self.config.prune, quarantine=self.quarantine)

    async def rollback(self, to: str | None) -> Synced:
        """Go back to a commit (None: the one that served before), and stay there until `unpin`.

        Raises NotFound, FnsyncError.
        """
        async with self._in_turn():
            target = await self._trees.earlier(to)
            before = self._trees.commit
            report = await self._trees.switch(self._reconciler, target, None, pin=target.commit)
            log.info("source_rolled_back", source=self.config.name, before=before, commit=target.commit)
            synced = Synced(self.config.name, before, CommitId(target.commit), report=report)
            self._tell_completed(synced, rolled_back=True)
            return synced

    async def rollback_function(self, id: FunctionId, to: str | None) -> ReloadReport:
        """Have one function answer as it was at a commit (None: the last that is kept in which it was another); its
        newest revision is quarantined, while all else follows. Raises NotFound, Conflict, LoadFailed, FnsyncError."""
        async with self._in_turn():
            candidates = list(self.record.history) if to is None else [await self._trees.earlier(to)]
            same: FnsyncError = NotFound(f"no commit is kept in which {id} was another", hint="name a COMMIT")
            for one in candidates:
                tree = self._trees.tree_of(one)
                if tree is None:
                    continue
                try:
                    report = await self._reconciler.bring_back(id, tree)
                except (Conflict, NotFound) as exc:  # the same there, or not there
                    if to is not None:
                        raise
                    same = exc
                    continue
                quarantine = {**self.record.quarantine, id: self._reconciler.quarantine[id]}
                brought = {**self.record.brought_back, id: one.folder}
                await self._trees.remember(
                    msgspec.structs.replace(self.record, quarantine=quarantine, brought_back=brought)
                )
                log.info("function_rolled_back", source=self.config.name, function=id, commit=one.commit)
                return report
            raise same

    async def release(self, id: FunctionId) -> ReloadReport:
        """Take the newest revision of a function again. Raises NotFound if none is quarantined."""
        async with self._in_turn():
            if id not in self.record.quarantine:
                raise NotFound(f"no revision of {id[:200]!r} is quarantined in {self.config.name}")
            quarantine = {key: value for key, value in self.record.quarantine.items() if key != id}
            brought = {key: value for key, value in self.record.brought_back.items() if key != id}
            await self._trees.remember(
                msgspec.structs.replace(self.record, quarantine=quarantine, brought_back=brought)
            )
            others = {key: value for key, value in self._reconciler.quarantine.items() if key != id}
            return await self._reconciler.set_quarantine(others)

    async def unpin(self) -> None:
        """Have it follow its ref again."""
        async with self._in_turn():
            await self._trees.remember(msgspec.structs.replace(self.record, pin=None))
            self._held_by(None)
        if not self.config.suspend:
            self.ask()

    # ---- the loop ----

    async def _run(self) -> None:
        if not self.config.suspend:
            self._asked.set()  # at once: much may have come while no server ran
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._plan()):
                    await self._asked.wait()
            self._asked.clear()
            waiting, self._next = self._next, None
            forced, self._forced = self._forced, False
            if self._is_closing:
                result: Synced | FnsyncError = self._closed()
            else:
                result = await self._try(forced, explicit=waiting is not None)
            if waiting is not None:
                waiting.set_result(result)
            if not self._is_closing:
                async with self._turn:  # whoever waited has an answer already
                    await self._trees.tidy()
            if self._is_closing:
                if self._next is not None:  # asked for while the last one ran
                    self._next.set_result(self._closed())
                return

    def _plan(self) -> float | None:
        """How long to wait for the next sync, if nobody asks for one before."""
        if self.config.suspend:
            self.next_at = None
            return None
        wait = jittered(wait_s(self.config.interval, self.failures))
        now = time.time()
        # A window that has opened already was tried: what failed then is tried again as any failure is.
        if self.hold.held is not None and self.hold.held.until is not None and self.hold.held.until > now:
            wait = min(wait, self.hold.held.until - now)
        self.next_at = now + wait
        return wait

    async def _try(self, forced: bool, *, explicit: bool) -> Synced | FnsyncError:
        started, self.tried_at = time.perf_counter(), time.time()
        try:
            synced = await self._sync(forced, explicit=explicit)
        except FnsyncError as exc:
            result: Synced | FnsyncError = self._failed(exc)
        except Exception:  # whatever it is, the next one may work, and nobody else does this
            log.exception("sync_broken", source=self.config.name)
            broken = RepositoryError("the sync failed in a way that nobody foresaw; the server's log says more")
            result = self._failed(broken)
        else:
            self._came(synced)
            result = synced
        word = "failed"
        if isinstance(result, Synced):
            word = "moved" if result.has_moved else ("held" if result.held is not None else "same")
        self.counts[word] += 1
        self.durations.setdefault(word, Durations()).add(time.perf_counter() - started)
        return result

    async def _sync(self, forced: bool, *, explicit: bool) -> Synced:
        self._on_step("fetching")
        found = await self._trees.fetch()  # takes no turn: a remote that hangs holds up no rollback
        self._on_step("fetched")
        async with self._turn:
            return await self._go_over(found, forced, explicit=explicit)

    async def _go_over(self, found: Found, forced: bool, *, explicit: bool) -> Synced:
        """Have what was fetched serve, if nothing holds it."""
        commit, before = found.fetched.commit, self._trees.commit
        pin = self.record.pin
        if pin is not None:
            self._held_by(holds.by_pin(self.config.name, commit, pin))
            if not self._trees.is_mounted(CommitId(pin)):  # its files were lost, or it is taken in another way now
                target = await self._trees.earlier(pin)
                report = await self._trees.switch(self._reconciler, target, None, pin=pin)
                return Synced(self.config.name, before, CommitId(pin), held=self.hold.held, report=report)
            return Synced(self.config.name, before, before, held=self.hold.held)
        if self._trees.is_mounted(commit):
            self._held_by(None)
            return Synced(self.config.name, before, before)
        held = None if forced else holds.by_window(self.config.name, self.config.windows, commit, time.time())
        if held is None and not explicit and self.hold.stands(commit):
            held = self.hold.held
        if held is None:
            tree, changed = await self._trees.made(commit)
            self._on_step("materialized")
            held = await self._refused(tree, changed, forced)
        self._held_by(held)
        if held is not None:
            return Synced(self.config.name, before, before, held=held)
        passage = await self._trees.passage(before, commit)
        report = await self._trees.switch(self._reconciler, await self._trees.described(found, passage), changed)
        return Synced(self.config.name, before, commit, passage, report=report)

    # ---- whether to go over to it ----

    async def _refused(self, tree: Tree, changed: frozenset[str] | None, forced: bool) -> Held | None:
        """What guard and gate say of a tree."""
        config, gated = self.config, self.config.gate == "all"
        guarded = not forced and config.prune and self.record.live is not None
        if not gated and not (guarded and may_remove(tree, changed)):
            return None
        plan = await self._planner.plan(tree, changed, load=gated, rules=self._rules)
        held = holds.by_guard(config.name, plan, self._guard) if guarded else None
        return held or holds.by_gate(config.name, config.gate, plan)

    def _held_by(self, held: Held | None) -> None:
        if self.hold.set(held) and held is not None:
            log.warning("sync_held", source=self.config.name, reason=held.reason, why=held.message, hint=held.hint)
            about = {"commit": held.commit, "reason": held.reason, "error": held.message, "hint": held.hint}
            self._tell("sync.held", about)

    # ---- what is told ----

    def _came(self, synced: Synced) -> None:
        was_failing, self.error = self.error is not None, None
        self.failing_since, self.failures = None, 0
        if synced.has_moved or (was_failing and synced.held is None):
            self._tell_completed(synced)
            log.info("source_synced", source=synced.source, before=synced.before, commit=synced.after)

    def _tell_completed(self, synced: Synced, *, rolled_back: bool = False) -> None:
        live = self.record.live
        about = {
            **synced.told,
            "subject": live.subject if live is not None else "",
            "author": live.author if live is not None else "",
        }
        self._tell("sync.completed", {**about, "rolled_back": True} if rolled_back else about)

    def _failed(self, error: FnsyncError) -> FnsyncError:
        is_new = self.error is None or self.error.code != error.code
        self.error = error
        self.failing_since = self.failing_since or time.time()
        self.failures += 1
        if self._is_closing:
            return error
        told = log.warning if is_new else log.debug
        told("sync_failed", source=self.config.name, error=error.message, hint=error.hint)
        if is_new:
            self._tell("sync.failed", {"code": error.code, "error": error.message, "commit": self._trees.commit})
        return error

    def _tell(self, event: str, about: Mapping[str, Any]) -> None:
        config = self.config
        self._publish(event, {"source": config.name, "url": config.url, "ref": config.ref, **about})

    # ---- small things ----

    def _check_open(self) -> None:
        if self._is_closing:
            raise self._closed()

    def _closed(self) -> FnsyncError:
        return Draining(f"the server is stopping, or {self.config.name} was changed or removed")

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """Nothing else is done with the source meanwhile. Raises Draining where it ended before its turn came."""
        async with self._turn:
            self._check_open()
            yield

    @property
    def progress(self) -> str | None:
        """What is being done now, for people."""
        progress = self._trees.progress
        if progress is None:
            return None
        return progress.phase if progress.percent is None else f"{progress.phase} {progress.percent} %"


def may_remove(tree: Tree, changed: frozenset[str] | None) -> bool:
    """Whether functions may be gone from a tree, as far as paths tell; `changed`: what differs, None: anything may."""
    if changed is None:
        return True
    return any(holds.may_remove(path, is_gone=not (tree.folder / path).exists()) for path in changed)
