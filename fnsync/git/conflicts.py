"""Branches with edits that did not fit what the remote had: `fnsync/conflict/<day>-<commit>`.

They are the only record of them, and gone when somebody has merged or deleted them.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from fnsync.errors import PullRefused
from fnsync.git import command
from fnsync.git.remote import tracking
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId

PREFIX = "fnsync/conflict/"
#: How many are told of.
MOST = 50

_FIELDS = ("%(refname)", "%(objectname)", "%(authorname)", "%(committerdate:unix)", "%(contents:subject)")


@dataclass(frozen=True, slots=True)
class ConflictBranch:
    """A branch that waits for somebody. Of its last commit, but for `paths` and `commits`."""

    branch: str
    commit: CommitId
    author: str
    #: Committer's time, seconds since the epoch.
    at: int
    subject: str
    #: How many commits HEAD has not, and the files that they change, from the working tree's root.
    commits: int
    paths: tuple[str, ...]
    #: Whether the remote got it.
    pushed: bool


def name(commit: CommitId, at: int) -> str:
    """The branch for a line that ends with `commit`."""
    return f"{PREFIX}{time.strftime('%Y%m%d', time.gmtime(at))}-{commit[:8]}"


def check_room(worktree: WorkTree) -> None:
    """Raise PullRefused where a branch is in the way of such branches: git has none below another one."""
    for branch in ("fnsync", "fnsync/conflict"):
        code, _ = command.run(worktree.root, "show-ref", "--verify", "--quiet", f"refs/heads/{branch}", allowed=(0, 1))
        if code == 0:
            raise PullRefused(
                f"edits do not fit what the remote has, and the branch {branch} is in the way of the one that would "
                "keep them; nothing was pulled",
                hint=f"git branch -m {branch} OTHER",
            )


def waiting(worktree: WorkTree, remote: str) -> tuple[ConflictBranch, ...]:
    """Those that are not merged, newest first. Raises RepositoryError."""
    options = (f"--format={'%00'.join(_FIELDS)}", "--sort=-committerdate", f"--count={MOST}", "--no-merged=HEAD")
    _, output = command.run(worktree.root, "for-each-ref", *options, f"refs/heads/{PREFIX}")
    lines = os.fsdecode(output).splitlines()
    unknown = unpushed(worktree, remote) if lines else {}
    found = []
    for line in lines:
        ref, commit, author, at, subject = line.split("\0")
        branch = ref.removeprefix("refs/heads/")
        _, count = command.run(worktree.root, "rev-list", "--count", f"HEAD..{commit}", "--")
        _, changed = command.run(worktree.root, "diff", "--name-only", "-z", "--no-renames", f"HEAD...{commit}", "--")
        paths = tuple(os.fsdecode(path) for path in changed.split(b"\0") if path)
        is_pushed = branch not in unknown
        found.append(ConflictBranch(branch, CommitId(commit), author, int(at), subject, int(count), paths, is_pushed))
    return tuple(found)


def unpushed(worktree: WorkTree, remote: str) -> dict[str, CommitId]:
    """Branch -> commit of those that are not merged, and that the remote did not get. Raises RepositoryError."""
    here, there = (_commits(worktree, place) for place in ("refs/heads/", tracking(remote, "")))
    return {branch: commit for branch, commit in here.items() if there.get(branch) != commit}


def _commits(worktree: WorkTree, place: str) -> dict[str, CommitId]:
    options = ("--format=%(objectname) %(refname)", "--no-merged=HEAD")
    _, output = command.run(worktree.root, "for-each-ref", *options, f"{place}{PREFIX}")
    entries = (line.split(" ", 1) for line in os.fsdecode(output).splitlines())
    return {ref.removeprefix(place): CommitId(commit) for commit, ref in entries}
