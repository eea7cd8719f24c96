"""Plans on demand: of a ref of the local repository, of a pull, and of a source."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fnsync.errors import Draining, FetchFailed, FnsyncError, NotFound, PullRefused, RepositoryError, UnknownRef
from fnsync.git import command, refs, remote
from fnsync.git.forks import Fork, fork
from fnsync.git.materialize import Selection, TreeLimits, materialize
from fnsync.git.worktree import WorkTree
from fnsync.model import LOCAL, REPOSITORY, CommitId, Tree
from fnsync.planning import Planner, Rules
from fnsync.syncplan import SyncPlan

#: Fetches something, and tells the process that does.
Fetch = Callable[[remote.OnStart | None], CommitId]

#: Plans that are made at the same time; others wait.
AT_ONCE = 2
#: How many files that are in the way are named.
_NAMED = 5
#: What git says where another fetch brings the same.
_TAKEN = "cannot lock ref"


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a plan is made of: a tree that could be gone over to."""

    tree: Tree
    #: What differs from what is there now, relative to the tree's folder; None: everything is to be looked at.
    changed: frozenset[str] | None
    #: What was asked for, or the source's ref.
    ref: str | None = None
    #: The commit that is there now.
    before: CommitId | None = None
    notes: tuple[str, ...] = ()
    rules: Rules = Rules()


class SourceCandidates(Protocol):
    """What knows the sources."""

    async def candidate(self, name: str) -> Candidate:
        """Fetch a source and put its newest commit beside what is live, without going over to it. Raises NotFound for
        an unknown name, FetchFailed, SourceRefused, VerificationFailed, RepositoryError."""


class Plans:
    """All plans that are asked for of one server. On the loop."""

    def __init__(
        self,
        planner: Planner,
        worktree: WorkTree | None,
        functions: Path,
        previews: Path,
        *,
        remote: str,
        branch: str | None,
        limits: TreeLimits = TreeLimits(),  # noqa: B008 - immutable
        sources: SourceCandidates | None = None,
    ) -> None:
        """`previews`: the folder that commits are put into; `branch`: the one that is pulled, None: what is checked
        out."""
        self.sources = sources
        self._planner = planner
        self._worktree = worktree
        self._functions = functions
        self._previews = previews
        self._remote = remote
        self._branch = branch
        self._limits = limits
        self._places = asyncio.Semaphore(AT_ONCE)
        # Threads of their own: a fetch may take a minute, and nothing else is to wait for it.
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="plan")
        self._fetching: set[subprocess.Popen[bytes]] = set()
        self._is_closing = False

    async def of_ref(self, text: str, *, load: bool = True) -> SyncPlan:
        """What merging a ref would do, or going back to one. A pull request that is not here is fetched.

        Raises UnknownRef, FetchFailed, SourceRefused, RepositoryError, NotWritable, Draining.
        """
        return await self._plan(lambda: self._of_ref(text), load)

    async def of_pull(self, *, load: bool = True) -> SyncPlan:
        """What the next pull would do. Raises as `of_ref`, and PullRefused."""
        return await self._plan(self._of_pull, load)

    async def of_source(self, name: str, *, load: bool = True) -> SyncPlan:
        """What the next sync of a source would do. Raises NotFound, and what `SourceCandidates.candidate` raises."""
        if name == REPOSITORY:
            return await self.of_pull(load=load)
        if self.sources is None:
            raise NotFound(f"there is no source {name[:80]!r}", hint="`fnsync status` lists the sources")
        # Takes no place yet: a source that hangs would hold up the plans of all others.
        candidate = await self.sources.candidate(name)
        async with self._places:
            return await self._of(candidate, load)

    def close(self) -> None:
        """End fetches that run, and have none begin any more."""
        self._is_closing = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._fetching):
            command.end(process)

    async def _plan(self, find: Callable[[], Candidate], load: bool) -> SyncPlan:
        async with self._places:
            if self._is_closing:
                raise Draining("the server is stopping")
            candidate = await asyncio.get_running_loop().run_in_executor(self._threads, find)
            return await self._of(candidate, load)

    async def _of(self, found: Candidate, load: bool) -> SyncPlan:
        return await self._planner.plan(
            found.tree,
            found.changed,
            load=load,
            ref=found.ref,
            before=found.before,
            notes=found.notes,
            rules=found.rules,
        )

    # ---- blocking -------------------------------------------------------------------------------------------

    def _of_ref(self, text: str) -> Candidate:
        return ref_candidate(self._scope(), text, self._remote, self._previews, self._limits, self._fetched)

    def _of_pull(self) -> Candidate:
        scope = self._scope()
        branch = self._branch or scope.branch()
        if branch is None:
            raise RepositoryError(
                f"no branch is checked out in {scope.root} (HEAD is detached), so nothing is pulled",
                hint="set repository.branch, or ask for a plan of a ref",
            )
        tracked = remote.tracking(self._remote, branch)
        try:
            commit = self._fetched(lambda on_start: remote.fetch(scope, self._remote, branch, on_start))
        except FetchFailed as exc:
            if _TAKEN not in exc.message:
                raise
            commit = refs.resolve(scope, tracked)
        return _candidate(scope, commit, f"{self._remote}/{branch}", self._previews, self._limits, is_pull=True)

    def _fetched(self, fetch: Fetch) -> CommitId:
        running: list[subprocess.Popen[bytes]] = []

        def on_start(process: subprocess.Popen[bytes]) -> None:
            running.append(process)
            self._fetching.add(process)
            if self._is_closing:
                command.end(process)

        try:
            return fetch(on_start)
        finally:
            self._fetching.difference_update(running)

    def _scope(self) -> WorkTree:
        if self._worktree is None:
            raise RepositoryError("no git repository can be used, so there is nothing to plan", hint="see the log")
        return self._worktree.of(self._functions)


def ref_candidate(
    scope: WorkTree,
    text: str,
    remote: str,
    previews: Path,
    limits: TreeLimits = TreeLimits(),  # noqa: B008 - immutable
    fetched: Callable[[Fetch], CommitId] = lambda fetch: fetch(None),
) -> Candidate:
    """What a ref of the local repository means, its files put into the folder `previews`; pull requests are fetched,
    by `fetched`. Blocking. Raises UnknownRef, FetchFailed, SourceRefused, RepositoryError, NotWritable."""
    number = refs.pull_number(text)
    if number is None:
        return _candidate(scope, refs.resolve(scope, text, remote), text, previews, limits)
    try:
        commit = fetched(lambda on_start: refs.fetch_pr(scope, remote, number, on_start))
    except (UnknownRef, FetchFailed, PullRefused) as exc:
        commit = _known(scope, text, remote, exc)
    return _candidate(scope, commit, text, previews, limits)


def _candidate(
    scope: WorkTree, commit: CommitId, ref: str, previews: Path, limits: TreeLimits, *, is_pull: bool = False
) -> Candidate:
    """A commit of the local repository, its files put into `previews`."""
    found = materialize(scope.root, commit, previews / commit, Selection(scope.prefix), limits)
    with suppress(FileNotFoundError):  # what is done with it next says so
        os.utime(found.folder)  # it is kept by when it was used last
    apart = fork(scope, commit)
    changed = None if apart is None else apart.paths
    return Candidate(
        Tree(LOCAL, "", found.folder, commit, scope.root, scope.prefix),
        changed,
        ref,
        None if apart is None else apart.head,
        (*_standing(apart, ref, is_pull), *_in_the_way(scope, changed)),
        Rules(trusted=is_pull),
    )


def _known(scope: WorkTree, text: str, remote: str, unfetched: FnsyncError) -> CommitId:
    """What is here of a pull request that cannot be fetched. Raises `unfetched` where nothing is."""
    try:
        return refs.resolve(scope, text, remote)
    except UnknownRef:
        raise unfetched from None


def _standing(apart: Fork | None, ref: str, is_pull: bool) -> list[str]:
    """What is to be said of where a commit stands."""
    if apart is None or not apart.distance.ahead:
        return []
    count = apart.distance.ahead
    commits = f"{count} commit{'' if count == 1 else 's'} that {'is' if count == 1 else 'are'} here"
    if not apart.distance.behind:
        return [] if is_pull else [f"{ref} is older than what is checked out: this is what going back to it would do"]
    if is_pull:
        return [f"{ref} lacks {commits}: a pull would be refused until the two are brought together"]
    return [f"{ref} lacks {commits}: the functions that it changes are shown without what these did to them"]


def _in_the_way(scope: WorkTree, changed: frozenset[str] | None) -> list[str]:
    """Which files that would change hold what is in no commit."""
    if not changed:
        return []
    loose = sorted(changed.intersection(scope.dirty()))
    if not loose:
        return []
    more = f" and {len(loose) - _NAMED} more" if len(loose) > _NAMED else ""
    return [f"changes that are in no commit are in the way here: {', '.join(loose[:_NAMED])}{more}"]
