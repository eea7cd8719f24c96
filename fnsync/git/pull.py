"""One pull: fetch the branch that the working tree follows, and go on to it; and one push of what is here.

Commits of the API that the remote lacks are made anew on top of what it has (git.replay). A person's own never are.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fnsync.errors import Draining, PullRefused, PushRefused, RepositoryBusy
from fnsync.git import command, conflicts, push
from fnsync.git.edit import TreeEditor
from fnsync.git.forward import forward
from fnsync.git.remote import Commit, Distance, address, between, distance, fetch, redacted, tracking
from fnsync.git.replay import Dropped, Local, Replayed, only_here, replay
from fnsync.model import CommitId

#: How many commits a message names.
NAMED = 5


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
    #: How many commits that were only here were made anew on top.
    replayed: int = 0
    #: Those that did not fit, and the branch that they are on.
    dropped: tuple[Dropped, ...] = ()
    aside: str | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push came to."""

    #: How many commits the remote got.
    count: int = 0
    #: What the remote said if it did not take the branch because it has moved on: pull first.
    problem: str | None = None
    #: Branches with conflicts that the remote got, and what it said against others.
    branches: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def is_behind(self) -> bool:
        return self.problem is not None


class Overtaken(RepositoryBusy):
    """HEAD is another than when the way on was looked for."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What the remote has, and how HEAD stands to it."""

    branch: str
    target: CommitId
    head: CommitId
    apart: Distance

    @property
    def stays(self) -> Pulled:
        """What a pull came to that does not go on to it."""
        return Pulled(self.branch, self.head, self.head, self.apart)


@dataclass(frozen=True, slots=True)
class Way:
    """How to get on to what was fetched, from a HEAD."""

    branch: str
    target: CommitId
    head: CommitId
    apart: Distance
    #: None: there is nothing to make anew.
    replayed: Replayed | None = None

    @property
    def tip(self) -> CommitId:
        """Where it leads."""
        return self.target if self.replayed is None else self.replayed.tip


class Puller:
    """Pulls into one working tree, and pushes. Blocking; one at a time, but `stop` and what only looks at any time."""

    def __init__(self, editor: TreeEditor, remote: str, branch: str | None, *, replays: bool = False) -> None:
        """`branch`: the only one that is followed; None: whichever is checked out. `replays`: whether commits of the
        API may be made anew."""
        self.remote = remote
        #: The remote's address without credentials, and the branch, as of the last pull.
        self.url: str | None = None
        self.branch = branch
        #: When the remote last answered, in seconds since the epoch.
        self.fetched_at: float | None = None
        self._editor = editor
        self._worktree = editor.worktree
        self._asked = branch
        self._replays = replays
        #: Branches with conflicts that the remote does not take; not tried again.
        self._unwanted: set[str] = set()
        self._talking: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def look(self) -> None:
        """See what the remote's address is, and the branch, before the first pull. Raises RepositoryError."""
        url = address(self._worktree, self.remote)
        self.url = None if url is None else redacted(url, url)
        self.branch = self._asked or self._worktree.branch()

    def pull(self) -> Pulled:
        """Fetch, and go on to what came. Raises FetchFailed, PullRefused, RepositoryBusy, RepositoryError, NotWritable;
        then nothing was moved."""
        fetched = self.fetch()
        return self.go(self.way(fetched)) if fetched.apart.behind else fetched.stays

    def fetch(self) -> Fetched:
        """Ask the remote; nothing is moved. Raises as `pull`."""
        branch = self._branch()
        target = fetch(self._worktree, self.remote, branch, self._on_start)
        self.fetched_at = time.time()
        head = self._head()
        return Fetched(branch, target, head, distance(self._worktree, target))

    def way(self, fetched: Fetched) -> Way:
        """How to get on from what is checked out now; nothing is moved. Raises as `pull`."""
        return self._way(fetched.branch, fetched.target)

    def go(self, way: Way, *, anew: bool = True) -> Pulled:
        """Go on. If HEAD has moved since: `anew`, from there, else Overtaken is raised. Raises as `pull`."""
        if way.apart.behind:
            self._check_free()
        with self._editor.locked():
            self._check_still_on(way.branch)
            if self._head() != way.head:  # an edit came meanwhile
                if not anew:
                    raise Overtaken(
                        f"edits come faster than {way.target[:12]} can be looked at",
                        retry_after_s=1.0,
                        hint="it is tried again by itself",
                    )
                way = self._way(way.branch, way.target)
            return self._go(way)

    def push(self) -> Pushed:
        """Push what is to be: commits of the API, and what they build on; branches with conflicts.

        Raises PushFailed, PushRefused, PullRefused, RepositoryError, NotWritable.
        """
        branch = self._branch()
        head = self._head()
        self._check_still_on(branch)  # so it is the head of that branch
        count = push.pending(self._worktree, self.remote, branch, head)
        aside = conflicts.unpushed(self._worktree, self.remote)
        branches = {name: commit for name, commit in aside.items() if name not in self._unwanted}
        if count:
            branches[branch] = head
        if not branches:
            return Pushed()
        answers = push.push(self._worktree, self.remote, branches, self._on_start)
        problem = answers.pop(branch, None)
        if problem is not None and not push.moved_on(problem):
            raise PushRefused(
                f"{self.remote} does not take what is pushed to {branch}: {problem}",
                hint="what is here goes on serving, and is pushed as soon as the remote takes it",
            )
        refused = {name: said for name, said in answers.items() if said is not None}
        self._unwanted |= refused.keys()
        return Pushed(
            0 if problem is not None else count,
            problem,
            tuple(answers.keys() - refused.keys()),
            tuple(f"{name}: {said}" for name, said in refused.items()),
        )

    def pending(self) -> int:
        """How many commits are to be pushed. Raises RepositoryError."""
        branch, head = self._worktree.branch(), self._worktree.head()
        if branch is None or self._asked not in (None, branch) or head is None:
            return 0
        return push.pending(self._worktree, self.remote, branch, head)

    def conflicts(self) -> tuple[conflicts.ConflictBranch, ...]:
        """Edits that did not fit, and wait for somebody. Raises RepositoryError."""
        return () if self._worktree.head() is None else conflicts.waiting(self._worktree, self.remote)

    def distance(self) -> Distance | None:
        """How far HEAD is from what was fetched last; None: nothing was. Raises RepositoryError."""
        if self.fetched_at is None or self.branch is None:
            return None
        return distance(self._worktree, tracking(self.remote, self.branch))

    def stop(self) -> None:
        """End a fetch or push that runs, and have none begin any more; from any thread."""
        self._is_stopped = True
        if self._talking is not None:
            command.end(self._talking)

    def _branch(self) -> str:
        """The branch to follow, once it is known that this can be done. Raises PullRefused, Draining."""
        url = address(self._worktree, self.remote)
        self.url = None if url is None else redacted(url, url)
        self.branch = self._checked_out()
        return self.branch

    def _on_start(self, process: subprocess.Popen[bytes]) -> None:
        self._talking = process
        if self._is_stopped:
            command.end(process)

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

    def _check_still_on(self, branch: str) -> None:
        """Raises PullRefused when somebody has gone over to another branch meanwhile."""
        if self._checked_out() != branch:
            raise PullRefused(
                f"{self._worktree.root} went over from {branch} to another branch meanwhile; nothing was pulled",
                hint="the next try takes the branch that is checked out then",
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

    # ---- the way on ----

    def _way(self, branch: str, target: CommitId) -> Way:
        """Raises PullRefused where there is none."""
        head = self._head()
        apart = distance(self._worktree, target)
        if not (apart.behind and apart.ahead):
            return Way(branch, target, head, apart)
        commits = only_here(self._worktree, head, target)
        reason = self._reason_against(commits, branch, target)
        if reason is not None:
            there = f"{self.remote}/{branch}"
            raise PullRefused(
                f"{branch} and {there} have diverged: {_commits(apart.ahead)} only here, {_commits(apart.behind)} "
                f"only there{reason}; nothing was pulled",
                hint=f"git pull --rebase {self.remote} {branch} && git push {self.remote} {branch}",
            )
        return Way(branch, target, head, apart, replay(self._worktree, commits, target))

    def _reason_against(self, commits: Sequence[Local], branch: str, target: CommitId) -> str | None:
        """Why what is only here cannot be made anew."""
        by_hand = [commit for commit in commits if not commit.is_ours or len(commit.parents) != 1]
        if not self._replays:
            return "" if by_hand else " (with repository.push, edits over the API are made anew on top of it)"
        if by_hand:
            named = ", ".join(commit.commit[:8] for commit in by_hand[:NAMED])
            return f", and of these {_commits(len(by_hand))} made by hand, which fnsync does not rewrite ({named})"
        begin = commits[0].parents[0]
        if self._published(branch) not in (None, begin):
            return ", and of these some were there before: its history was rewritten"
        return None

    def _published(self, branch: str) -> CommitId | None:
        """The newest commit of ours that the remote is known to have had."""
        line = ("merge-base", "--fork-point", tracking(self.remote, branch), "HEAD")
        code, found = command.run(self._worktree.root, *line, allowed=(0, 1))
        return CommitId(found.decode().strip()) if code == 0 else None

    def _go(self, way: Way) -> Pulled:
        """Under the lock."""
        if not way.apart.behind:
            return Pulled(way.branch, way.head, way.head, way.apart)
        commits = between(self._worktree, way.head, way.target)
        found = way.replayed or Replayed(way.target, 0)
        aside, refs = None, {}
        if found.aside is not None:
            conflicts.check_room(self._worktree)
            aside = conflicts.name(found.aside, found.dropped[-1].at)
            refs = {f"refs/heads/{aside}": found.aside}
        paths = forward(self._worktree, way.head, found.tip, refs)
        return Pulled(
            branch=way.branch,
            before=way.head,
            after=found.tip,
            distance=Distance(found.count, 0),
            count=way.apart.behind,
            commits=commits,
            paths=paths,
            replayed=found.count,
            dropped=found.dropped,
            aside=aside,
        )


def _commits(count: int) -> str:
    return f"{count} commit" if count == 1 else f"{count} commits"
