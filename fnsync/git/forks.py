"""Where a commit and what is checked out went apart, and which files changed since."""

from __future__ import annotations

from dataclasses import dataclass

from fnsync.git import command, remote
from fnsync.git.remote import Distance
from fnsync.git.selection import Selection, changed
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId


@dataclass(frozen=True, slots=True)
class Fork:
    """How a commit stands to HEAD."""

    head: CommitId
    #: How many commits HEAD has that it lacks (`ahead`), and the other way round (`behind`).
    distance: Distance
    #: Files of the functions folder that going over to it would change, relative to that; None: nobody can tell.
    paths: frozenset[str] | None


def fork(worktree: WorkTree, commit: CommitId) -> Fork | None:
    """How `commit` stands to HEAD; None: nothing is checked out. Raises RepositoryError.

    What is to come are the changes on its side since the two went apart, as a merge takes them. A commit that HEAD has
    already is gone back to, so all that came since is undone.
    """
    head = worktree.head()
    if head is None:
        return None
    apart = remote.distance(worktree, commit)
    base = head if apart.behind == 0 else _base(worktree, head, commit)
    return Fork(head, apart, None if base is None else changed(worktree.root, base, commit, Selection(worktree.prefix)))


def _base(worktree: WorkTree, head: CommitId, commit: CommitId) -> CommitId | None:
    """The last commit that both have; None: there is none, or the history here does not reach it."""
    code, output = command.run(worktree.root, "merge-base", head, commit, allowed=(0, 1))
    return None if code else CommitId(output.decode().split()[0])
