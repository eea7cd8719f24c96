"""One pull: fetch the branch that the working tree follows, and go on to it if that is a fast-forward."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass

from fnsync.errors import Draining, PullRefused
from fnsync.git.edit import TreeEditor
from fnsync.git.forward import forward
from fnsync.git.remote import Commit, Distance, address, between, distance, fetch, redacted, tracking
from fnsync.model import CommitId


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull came to: `before` and `after` are the same where nothing was new."""

    branch: str
    before: CommitId
    after: CommitId
    distance: Distance
    #: How many came, and the newest of them.
    count: int = 0
    commits: tuple[Commit, ...] = ()
    #: Files that became others, from the working tree's root.
    paths: tuple[str, ...] = ()


class Puller:
    """Pulls into one working tree. Blocking; one pull at a time, but `stop` and `distance` at any time."""

    def __init__(self, editor: TreeEditor, remote: str, branch: str | None) -> None:
        """`branch`: the only one that is pulled; None: whichever is checked out."""
        self.remote = remote
        #: The remote's address without credentials, and the branch, as of the last pull.
        self.url: str | None = None
        self.branch = branch
        #: When the remote last answered, in seconds since the epoch.
        self.fetched_at: float | None = None
        self._editor = editor
        self._worktree = editor.worktree
        self._asked = branch
        self._fetching: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def pull(self) -> Pulled:
        """Raises FetchFailed, PullRefused, RepositoryBusy, RepositoryError, NotWritable; then nothing was moved."""
        url = address(self._worktree, self.remote)
        self.url = None if url is None else redacted(url, url)
        branch = self.branch = self._checked_out()
        target = fetch(self._worktree, self.remote, branch, self._on_start)
        self.fetched_at = time.time()
        head = self._head()
        apart = distance(self._worktree, target)
        if not apart.behind:
            return Pulled(branch, head, head, apart)
        self._check_free()
        with self._editor.locked():
            return self._forward(branch, target)

    def distance(self) -> Distance | None:
        """How far HEAD is from what was fetched last; None: nothing was. Raises RepositoryError."""
        if self.fetched_at is None or self.branch is None:
            return None
        return distance(self._worktree, tracking(self.remote, self.branch))

    def stop(self) -> None:
        """End a fetch that runs, and have none begin any more; from any thread."""
        self._is_stopped = True
        if self._fetching is not None:
            _kill(self._fetching)

    def _on_start(self, process: subprocess.Popen[bytes]) -> None:
        self._fetching = process
        if self._is_stopped:
            _kill(process)

    def _checked_out(self) -> str:
        """The branch to pull. Raises PullRefused when it is not checked out."""
        if self._is_stopped:
            raise Draining("the server is stopping")
        branch = self._worktree.branch()
        if branch is not None and self._asked in (None, branch):
            return branch
        here = f"the branch {branch}" if branch else "no branch (HEAD is detached)"
        wanted = f", and {self._asked} is followed" if self._asked else ""
        raise PullRefused(
            f"{here} is checked out in {self._worktree.root}{wanted}; nothing was pulled",
            hint=f"git switch {self._asked or 'BRANCH'}; or set repository.branch",
        )

    def _head(self) -> CommitId:
        head = self._worktree.head()
        if head is None:
            raise PullRefused(
                f"nothing is committed in {self._worktree.root} yet, so there is nothing to go on from",
                hint=f"once: git pull {self.remote} {self.branch}",
            )
        return head

    def _check_free(self) -> None:
        under_way = self._worktree.under_way()
        if under_way is not None:
            raise PullRefused(
                f"{under_way} is under way in {self._worktree.root}; nothing was pulled",
                hint="finish or abort it there",
            )

    def _forward(self, branch: str, target: CommitId) -> Pulled:
        """Under the lock, where things may be others than before."""
        self._checked_out()
        head = self._head()
        apart = distance(self._worktree, target)
        if not apart.behind:
            return Pulled(branch, head, head, apart)
        if apart.ahead:
            there = f"{self.remote}/{branch}"
            raise PullRefused(
                f"{branch} and {there} have diverged: {_commits(apart.ahead)} only here, {_commits(apart.behind)} "
                "only there; nothing was pulled",
                hint=f"git pull --rebase {self.remote} {branch} && git push {self.remote} {branch}",
            )
        commits = between(self._worktree, head, target)
        paths = forward(self._worktree, head, target)
        return Pulled(branch, head, target, Distance(0, 0), apart.behind, commits, paths)


def _commits(count: int) -> str:
    return f"{count} commit" if count == 1 else f"{count} commits"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session of its own, with all that it started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
