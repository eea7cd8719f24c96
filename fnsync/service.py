"""Builds the parts once and hands them to each other: everything one server has."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from typing import IO, Any

import structlog

from fnsync.chat.lifecycle import Lifecycle
from fnsync.chat.unfiltered import Unfiltered
from fnsync.chat.upstreams import Upstreams
from fnsync.config import Config
from fnsync.datafolder import take_folders
from fnsync.edits.archive import Archive
from fnsync.edits.checkouts import Checkouts
from fnsync.edits.manager import Manager
from fnsync.edits.readonly import ReadOnly
from fnsync.edits.rotation import Rotation
from fnsync.edits.vendoring import Vendor
from fnsync.edits.writer import Writer
from fnsync.errors import FnsyncError, RepositoryError
from fnsync.git.edit import Recovered, TreeEditor
from fnsync.git.journal import Journal
from fnsync.git.materialize import TreeLimits
from fnsync.git.proposals import Target, clean
from fnsync.git.pull import Puller
from fnsync.git.worktree import WorkTree
from fnsync.model import LOCAL, FunctionId
from fnsync.notifying import Notifier
from fnsync.periodic import every
from fnsync.plan import Policy
from fnsync.planning import Planner
from fnsync.plans import Plans
from fnsync.previews.previews import Previews
from fnsync.previews.refs import LocalRefs
from fnsync.previews.trees import collect
from fnsync.provenance import Provenance
from fnsync.pullgate import PullGate
from fnsync.pulls import Pulls
from fnsync.reconcile import HEAD_S, Reconciler
from fnsync.registry import Registry
from fnsync.remotes import Remotes
from fnsync.reports import ReloadReport
from fnsync.runtime.environments import Environments, EnvironmentState, RequirementsPolicy
from fnsync.runtime.executor import Executor, ExecutorOptions
from fnsync.runtime.logs import LogLine
from fnsync.source.catalog import Catalog
from fnsync.source.snapshots import Snapshots
from fnsync.status import functions_status, repository_status
from fnsync.store.filing import filing_of
from fnsync.store.index import Index
from fnsync.store.state import State
from fnsync.syncing.editing import SourceEditor
from fnsync.syncing.refs import SourceRefs
from fnsync.syncing.sources import Sources
from fnsync.uservalves import UserValves
from fnsync.vault import Vault
from fnsync.watch import Watcher
from fnsync.webhooks import Webhooks

log = structlog.get_logger()

#: How often git is asked whether it wants to pack what edits left, and old trees of plans are removed, in seconds.
TIDY_S = 600.0


def _nothing(_: object) -> None:
    """For what nobody listens to."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who is told what happens, besides the log; called on the loop, so they must not block."""

    reload: Callable[[ReloadReport], None] = _nothing
    environment: Callable[[EnvironmentState], None] = _nothing
    #: What functions print and log.
    line: Callable[[LogLine], None] = _nothing
    #: Each step of an edit, as it is reached; called from a thread.
    step: Callable[[str], None] = _nothing


class Service:
    """Everything one server has. Made on the loop; `start` before use, `close` after."""

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        listeners: Listeners = Listeners(),
        *,
        serving: bool = True,
    ) -> None:
        """Without `serving` it is here for one piece of work: its start and stop are told to no function, and what
        workers are forked from is started when the first one is needed."""
        self.config = config
        self.environ = environ
        self.started_at = time.time()
        self.draining = False
        self.version = version("fnsync")
        data = config.data
        self.worktree: WorkTree | None = None
        self.editor: TreeEditor | None = None
        #: None: this is no server.
        self.plans: Plans | None = None
        self._serving = serving
        self.registry = Registry()
        self.snapshots = Snapshots(data)
        self.vault = Vault(data, environ)
        requirements = config.policy.requirements
        environments = Environments(
            data / "environments",
            RequirementsPolicy(
                requirements.install,
                str(requirements.index) if requirements.index else None,
                requirements.allow,
                requirements.infer and requirements.install,
            ),
            environ,
            listeners.environment,
        )
        self.executor = Executor(
            environments,
            self.snapshots.folder,
            environ,
            ExecutorOptions(data / "scratch", config.runtime.idle_workers, serving),
            self.vault.decrypt,
        )
        self.executor.logs.on_line = listeners.line
        self.vault.check()
        #: Git repositories that are followed beside the local functions.
        self.sources = Sources(config, environ, self._publish, listeners.step)
        #: Those, and the repository's own remote.
        self.remotes = Remotes(self.sources, lambda: tuple(self.reconciler.standings.values()))
        self.checkouts = Checkouts(
            data / "scratch", config.sync, environ, lambda: [one.config for one in self.sources.followers.values()]
        )
        self.lifecycle = Lifecycle(self.executor, self.registry, self.version, self._added_at, serving=serving)
        self.unfiltered = Unfiltered()
        self.filing = filing_of(data)
        self.upstreams = Upstreams(config.upstreams, environ)
        self.notifier = Notifier(
            config.notifications if serving else (), environ, self.version, self._settled, self.remotes.failing
        )
        self.lifecycle.listen(self.notifier.hear)
        self.webhooks = Webhooks(config.webhooks if serving else (), environ, self.remotes)
        self._on_reload = listeners.reload
        self._on_step = listeners.step
        self._watching: asyncio.Task[None] | None = None
        self._periodic: list[asyncio.Task[None]] = []
        self._lock: IO[str] | None = None

    async def start(self) -> None:
        """Bring everything up; functions that need loading are loaded in the background (see reconciler.ready)."""
        config = self.config
        self._lock = take_folders(config.functions, config.data)
        # First, since its imports take the longest; they run beside all that follows.
        await self.executor.start()
        await asyncio.to_thread(self._open)
        provenance = Provenance(self.worktree, config.functions)
        policy = Policy(config.limits, config.defaults.active, config.policy.imports.deny)
        self.reconciler = Reconciler(
            root=config.functions,
            catalog=Catalog(config.functions),
            snapshots=self.snapshots,
            index=self.index,
            registry=self.registry,
            executor=self.executor,
            provenance=provenance,
            policy=policy,
            on_reload=self._on_reload,
            listener=self.lifecycle,
            trees=await asyncio.to_thread(self.sources.trees),
            quarantine=self.sources.quarantine(),
        )
        self.archive = Archive(self.worktree, config.functions, lambda: self.reconciler.trees)
        writer = Writer(
            root=config.functions,
            editor=self.editor,
            staging=config.data / "staging",
            reconciler=self.reconciler,
            executor=self.executor,
            snapshots=self.snapshots,
            index=self.index,
            policy=policy,
            write=config.repository.write,
            target=Target(config.repository.remote, config.repository.branch, config.data / "proposals"),
            archive=self.archive,
            check=ReadOnly(self.sources.url).check,
            on_commit=self._committed,
        )
        self.user_valves = UserValves(self.state, self.vault, on_set=self.lifecycle.user_valves_set)
        self.manager = Manager(
            writer,
            self.reconciler,
            self.executor,
            self.index,
            self.vault,
            self.user_valves,
            self.archive,
            owners=self._owners,
        )
        self.source_editor = SourceEditor(config, self.environ, self.editor, self._committed)
        self.vendor = Vendor(self.manager, self.checkouts)
        self.rotation = Rotation(self.manager, self.reconciler, self.user_valves, config.functions, self._on_step)
        self.previews = Previews(
            SourceRefs(LocalRefs(self.worktree, config.repository.remote), self.sources.find),
            self.executor,
            self.snapshots,
            policy,
            config.data / "previews" / "reading",
            self._sources_of,
        )
        await self.previews.start()
        # Watching begins before the first look, so that nothing is missed between the two.
        self.watcher = Watcher(config.functions, locked=self._locked, rescan_s=config.watch.rescan)
        await self.reconciler.start()
        self._watching = asyncio.create_task(self._watch())
        if self.worktree is not None:
            self._periodic.append(asyncio.create_task(self._follow(self.worktree)))
        if self.editor is not None:
            tidy = partial(asyncio.to_thread, self.editor.tidy)
            self._periodic.append(asyncio.create_task(every(TIDY_S, tidy, "packing the repository")))
        repository = config.repository
        if self._serving:
            planner = Planner(self.reconciler.known, self.executor, self.snapshots, policy)
            self.plans = Plans(
                planner,
                self.worktree,
                config.functions,
                config.data / "previews",
                remote=repository.remote,
                branch=repository.branch,
                limits=TreeLimits(config.sync.max_files, config.sync.max_size),
                sources=self.sources,
            )
            self.sources.start(self.reconciler, planner)
            clear = partial(asyncio.to_thread, collect, config.data / "previews")
            self._periodic.append(asyncio.create_task(every(TIDY_S, clear, "clearing trees of plans", at_once=True)))
            if self.editor is not None:
                puller = Puller(self.editor, repository.remote, repository.branch, replays=repository.push)
                if config.webhooks:
                    await asyncio.to_thread(_look, puller)
                self.remotes.pulls = Pulls(
                    puller,
                    self.editor.worktree,
                    repository.pull,
                    PullGate(self.editor.worktree, repository, config.sync, planner, config.data / "previews"),
                    self.reconciler,
                    self.lifecycle,
                    pushes=repository.push,
                )

    def _sources_of(self, id: FunctionId | None) -> list[str]:
        """Where a function is from; of one that is not here, or of all (None), where it may be from."""
        unit = None if id is None else self.reconciler.find(id)
        return [unit.source] if unit is not None else [LOCAL, *self.sources.may_have(id)]

    def _committed(self) -> None:
        if self.remotes.pulls is not None:
            self.remotes.pulls.edited()

    def _publish(self, event: str, about: Mapping[str, Any]) -> None:
        self.lifecycle.publish(event, data=about)

    async def _settled(self) -> None:
        await self.reconciler.settled()

    def _added_at(self, id: str) -> int | None:
        account = self.state.account(id)
        return account.created_at if account is not None else None

    def _owners(self) -> frozenset[str]:
        return self.state.ids_with_role("user") if self.config.auth.user_functions else frozenset()

    def _open(self) -> None:
        data = self.config.data
        self.index = Index.open(data / "index.sqlite3")
        if self.index.reason is not None:
            log.info("index_rebuilt", reason=self.index.reason)
        self.state = State.open(f"sqlite:///{data / 'state.sqlite3'}")
        try:
            self.worktree = WorkTree.ensure(self.config.functions, self.config.root)
        except RepositoryError as exc:
            # Functions are served all the same; only what git would tell of them is missing, and edits.
            log.warning("repository_unusable", error=str(exc), hint=exc.hint)
        else:
            self._recover(self.worktree)

    def _recover(self, worktree: WorkTree) -> None:
        """Before the files are looked at: complete the edits that a crash interrupted."""
        data = self.config.data
        shutil.rmtree(data / "staging", ignore_errors=True)
        self.editor = TreeEditor(worktree, Journal(data / "edits"), self._on_step)
        try:
            clean(worktree, data / "proposals")
            recovered = self.editor.recover()
        except FnsyncError as exc:
            log.warning("edits_not_recovered", error=str(exc), hint=exc.hint)
            return
        for found in recovered:
            told = log.info if found.problem is None else log.error
            told("edit_recovered", message=found.message, outcome=found.outcome, problem=found.problem)

    def _recovered(self) -> tuple[Recovered, ...]:
        """What became of edits that a crash interrupted."""
        return (self.editor.recovered or ()) if self.editor is not None else ()

    def _locked(self) -> bool:
        return self.worktree is not None and self.worktree.locked()

    async def _watch(self) -> None:
        async for paths in self.watcher.changes():
            try:
                await self.reconciler.reconcile(paths)
            except Exception:  # one bad batch must not end the watch; the next re-scan looks at everything again
                log.exception("reconcile_failed", paths=sorted(paths or ())[:20])

    async def _follow(self, worktree: WorkTree) -> None:
        """Keep user valves with functions that are renamed; at once, since they may have been while nobody looked."""

        async def look() -> None:
            await self.user_valves.follow(worktree, self.config.functions)

        await every(HEAD_S, look, "renamed functions", at_once=True)

    async def close(self) -> None:
        """Stop everything, in the order in which parts need each other."""
        self.draining = True
        self.lifecycle.stopping()
        await self.checkouts.close()
        if self.plans is not None:
            self.plans.close()
        await self.sources.close()
        if self.remotes.pulls is not None:
            await self.remotes.pulls.close()
        await self.notifier.close()
        for task in self._periodic:
            task.cancel()
        await asyncio.gather(*self._periodic, return_exceptions=True)
        if self._watching is not None:
            self.watcher.close()
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            await self.previews.close()
            await self.reconciler.close()
        self.lifecycle.stopped()
        await self.lifecycle.close()
        await self.executor.close()
        await self.upstreams.close()
        if self._lock is not None:
            await asyncio.to_thread(self._close_stores)
            (self.config.data / "server.json").unlink(missing_ok=True)
            self._lock.close()

    def _close_stores(self) -> None:
        for store in (getattr(self, "index", None), getattr(self, "state", None), self.filing):
            if store is not None:
                store.close()

    def status(self) -> dict[str, Any]:
        """What `/api/status` answers; blocking (it asks git)."""
        reconciler, executor, pulls = self.reconciler, self.executor, self.remotes.pulls
        return {
            "version": self.version,
            "ready": reconciler.ready.is_set() and not self.draining,
            "draining": self.draining,
            "started_at": self.started_at,
            "uptime_s": round(time.time() - self.started_at, 3),
            "repository": repository_status(self.worktree, self.config.repository.write),
            "pull": pulls.status() if pulls is not None else None,
            "sources": self.remotes.sources_status(),
            "sources_problem": self.sources.problem,
            "push": pulls.pushes.status() if pulls is not None else None,
            "watcher": {"mode": self.watcher.mode, "problem": self.watcher.problem},
            "sandbox": executor.sandbox(),
            "environments": [asdict(state) for state in executor.environments.states()],
            "functions": functions_status(
                reconciler.standings, executor.healths(), self.unfiltered, self.config.defaults.active
            ),
            "previews": self.previews.status(),
            "upstreams": self.upstreams.states(),
            "notifications": self.notifier.status(),
            "refused": [asdict(problem) for problem in reconciler.refused],
            "recovered": [asdict(found) for found in self._recovered()],
        }


def _look(puller: Puller) -> None:
    """See what is pulled, so that the first webhook can name it."""
    try:
        puller.look()
    except FnsyncError as exc:  # the first pull says so, to whom it concerns
        log.info("remote_unknown", error=str(exc))
