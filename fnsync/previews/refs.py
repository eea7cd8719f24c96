"""Which commit a ref means for previews: of the local repository here, of sources wherever they are mirrored.

What is not in this repository, or is there only as it was at the last fetch, is asked for at the remote: one at a
time, not more often than every FRESH_S for each name, and FETCHES times a minute for all together.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from fnsync.errors import Draining, FnsyncError, PullRefused, Unavailable, UnknownRef
from fnsync.git import command, refs, remote
from fnsync.git.selection import Selection
from fnsync.git.worktree import WorkTree
from fnsync.model import LOCAL, CommitId

#: How long what the remote said of a name counts as new, in seconds, be it that it has none.
FRESH_S = 15.0
#: How long a remote that cannot be asked is spared, in seconds.
SPARED_S = 30.0
#: How long one fetch may take, in seconds.
FETCH_S = 30.0
#: How often the remote is asked in a minute at most.
FETCHES = 30
#: How many names and hashes are remembered.
KEPT = 1_000

_WHOLE_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Where:
    """A commit, and where it can be read."""

    #: A working tree's root, or a bare mirror.
    repository: Path
    commit: CommitId
    #: The folder of the functions in it, and which files count.
    selection: Selection
    #: Whose it is, and what the ids of its functions begin with here.
    source: str = LOCAL
    prefix: str = ""


class Refs(Protocol):
    """Finds commits."""

    async def resolve(self, source: str, ref: str) -> Where:
        """The commit that `ref` means in a source (`local`: the repository of the functions folder). Raises UnknownRef
        that names it, RepositoryError, Unavailable."""

    async def close(self) -> None:
        """End what is under way."""


class LocalRefs:
    """Of the repository that the functions folder lies in."""

    def __init__(self, worktree: WorkTree | None, remote: str) -> None:
        """None: there is no usable repository. `remote`: the name of the one that is asked for what is not here."""
        self._worktree = worktree
        self._remote = remote
        #: Whole hashes that are commits here.
        self._pinned: OrderedDict[str, Where] = OrderedDict()
        self._fetches = None if worktree is None else _Fetches(worktree, remote)

    async def resolve(self, source: str, ref: str) -> Where:
        """See Refs."""
        if source != LOCAL:
            raise UnknownRef(f"there is no {ref!r}: refs of the source {source} are not known here")
        pinned = self._pinned.get(ref)
        if pinned is not None:
            return pinned
        refs.check(ref)
        if self._worktree is None or self._fetches is None:
            raise UnknownRef(f"there is no {ref!r}: the functions folder lies in no git repository that can be used")
        commit, missing, asked = await asyncio.to_thread(self._look, self._worktree, ref)
        if asked is not None:
            try:
                has_asked = await self._fetches.ask(asked)
            except FnsyncError as exc:
                if commit is None:
                    raise
                log.warning("preview_not_fetched", ref=ref, error=exc.message)  # what was there before is used
                has_asked = False
            if has_asked:
                commit, missing, _ = await asyncio.to_thread(self._look, self._worktree, ref)
        if commit is None:
            raise missing or UnknownRef(f"there is no {ref!r}")
        where = Where(self._worktree.root, commit, Selection(self._worktree.prefix))
        if _WHOLE_HASH.fullmatch(ref):
            self._pinned[ref] = where
            while len(self._pinned) > KEPT:
                self._pinned.popitem(last=False)
        return where

    async def close(self) -> None:
        """See Refs."""
        if self._fetches is not None:
            await self._fetches.close()

    def _look(self, worktree: WorkTree, ref: str) -> tuple[CommitId | None, UnknownRef | None, str | None]:
        """The commit, or why there is none; and what to ask the remote for, if it may know better."""
        commit, missing = None, None
        try:
            commit = refs.resolve(worktree, ref, self._remote)
        except UnknownRef as exc:
            missing = exc
        return commit, missing, self._elsewhere(worktree, ref, commit is not None)

    def _elsewhere(self, worktree: WorkTree, ref: str, is_here: bool) -> str | None:
        """`pr/N`, or the branch of the remote that a name means; None: it is nothing of the remote's."""
        if refs.pull_number(ref) is not None:
            return ref
        if ref == "HEAD" or ref.startswith("refs/") or _WHOLE_HASH.fullmatch(ref):
            return None
        if worktree.ref(f"refs/heads/{ref}") is not None:
            return None
        branch = ref.removeprefix(f"{self._remote}/")
        if is_here and worktree.ref(remote.tracking(self._remote, branch)) is None:
            return None  # a tag, a hash, another remote's branch
        return branch


class _Fetches:
    """What is asked of one remote."""

    def __init__(self, worktree: WorkTree, remote: str) -> None:
        self._worktree = worktree
        self._remote = remote
        #: Name -> when it was asked for, time.monotonic().
        self._asked_at: OrderedDict[str, float] = OrderedDict()
        self._times: deque[float] = deque(maxlen=FETCHES)
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._spared_until = 0.0
        # Of its own: a remote that hangs holds up nobody but those who ask for what it has.
        self._thread = ThreadPoolExecutor(1, "preview-fetch")
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    async def ask(self, name: str) -> bool:
        """Have a name fetched if it is due; whether it was asked for. Raises Unavailable, and FetchFailed where the
        remote cannot be asked."""
        task = self._under_way.get(name)
        if task is None:
            now = time.monotonic()
            if now - self._asked_at.get(name, -FRESH_S) < FRESH_S or now < self._spared_until:
                return False
            if len(self._times) == FETCHES and now - self._times[0] < 60.0:
                raise Unavailable(
                    f"the remote was asked for {FETCHES} refs within a minute",
                    retry_after_s=60.0 - now + self._times[0],
                )
            self._times.append(now)
            task = self._under_way[name] = asyncio.create_task(self._fetched(name))
            task.add_done_callback(lambda done: (self._under_way.pop(name, None), done.cancelled() or done.exception()))
        await asyncio.shield(task)
        return True

    async def close(self) -> None:
        """End a fetch that runs, and have none begin any more."""
        self._is_closed = True
        if self._process is not None:
            command.end(self._process)
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _fetched(self, name: str) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._fetch, name)
        except (UnknownRef, remote.NoSuchRef, PullRefused):
            pass  # it has none of that name, or there is no remote at all: what is here counts
        except FnsyncError:
            self._spared_until = time.monotonic() + SPARED_S
            raise
        self._asked_at[name] = time.monotonic()
        self._asked_at.move_to_end(name)
        while len(self._asked_at) > KEPT:
            self._asked_at.popitem(last=False)

    def _fetch(self, name: str) -> None:
        if self._is_closed:
            raise Draining("the server is stopping")
        number = refs.pull_number(name)
        if number is not None:
            refs.fetch_pr(self._worktree, self._remote, number, self._on_start)
            return
        target = remote.tracking(self._remote, name)
        remote.fetch_ref(self._worktree, self._remote, f"refs/heads/{name}", target, FETCH_S, self._on_start)

    def _on_start(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        if self._is_closed:
            command.end(process)
