"""Which files git sees as renamed between commits: as it does by itself, by how alike they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from fnsync.git import command, tree
from fnsync.git.scope import Scope
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId

#: Above so many files that came or went at once only those renamed without an edit are found: others would have to be
#: compared each with each.
MOST_COMPARED = 1_000


#: So many commits are looked at one by one; of more, the first and the last are compared.
MOST_STEPS = 50


def renames(worktree: WorkTree, functions: Path, old: CommitId, new: CommitId) -> dict[str, str]:
    """Source in `old` -> source in `new`, of the functions that moved on the way from the one to the other.

    {} if one of the commits is not there (any more). Raises RepositoryError.
    """
    scope = worktree.of(functions)
    known, _ = command.run(scope.root, "cat-file", "-e", f"{old}^{{commit}}", allowed=(0, 1, 128))
    moved: dict[str, str] = {}
    if not known:
        for before, after in pairwise([old, *_steps(scope, old, new)]):
            moved = _moved_on(moved, moves(scope, before, after))
    if not moved:
        return {}
    at_old, at_new = tree.files(scope, old), tree.files(scope, new)
    return {
        source: target
        for source, target in moved.items()
        if source != target and tree.is_function(source, at_old) and tree.is_function(target, at_new)
    }


def _steps(scope: Scope, old: CommitId, new: CommitId) -> list[CommitId]:
    """The commits after `old` up to `new`, without side branches; only `new` if they are many, or if it goes back.

    A file that is renamed in one commit and rewritten in another one is not like itself any more between the ends.
    """
    listing = ("rev-list", "--first-parent", f"--max-count={MOST_STEPS + 1}", f"{old}..{new}", "--")
    _, output = command.run(scope.root, *listing)
    commits = [CommitId(line) for line in output.decode().split()]
    return commits[::-1] if 0 < len(commits) <= MOST_STEPS else [new]


def _moved_on(moved: Mapping[str, str], step: Mapping[str, str]) -> dict[str, str]:
    """The first name -> the last one, after a step (new -> old) more."""
    following = {source: target for target, source in step.items()}
    on = {first: following.pop(last, last) for first, last in moved.items()}
    return on | {source: target for source, target in following.items() if source not in on}


def moves(scope: Scope, old: CommitId, new: CommitId) -> dict[str, str]:
    """Path in `new` -> path in `old`, of all files in the functions folder that moved. Raises RepositoryError."""
    # Without the contents git can only tell the same ones.
    alike = "-M" if scope.has_contents() else "-M100%"
    options = ("-r", "-z", "--name-status", alike, f"-l{MOST_COMPARED}", "--diff-filter=R")
    _, output = command.run(
        scope.root, "diff-tree", *options, old, new, "--", scope.pathspec, variables=scope.variables
    )
    entries = iter(output.split(b"\0"))
    found = {}
    for status in entries:
        if status:
            source, target = (scope.inside(os.fsdecode(next(entries))) for _ in range(2))
            found[target] = source
    return found
