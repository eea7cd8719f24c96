"""Which files git sees as renamed between two commits: as it does by itself, by how alike they are."""

from __future__ import annotations

import os
from pathlib import Path

from fnsync.git import command, tree
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId

#: Above so many files that came or went at once only those renamed without an edit are found: others would have to be
#: compared each with each.
MOST_COMPARED = 1_000


def renames(worktree: WorkTree, functions: Path, old: CommitId, new: CommitId) -> dict[str, str]:
    """Source in `old` -> source in `new`, of the functions that moved between the two.

    {} if one of the commits is not there (any more). Raises RepositoryError.
    """
    scope = worktree.of(functions)
    known, _ = command.run(scope.root, "cat-file", "-e", f"{old}^{{commit}}", allowed=(0, 1, 128))
    moved = {} if known else moves(scope, old, new)
    if not moved:
        return {}
    before, after = tree.files(scope, old), tree.files(scope, new)
    return {
        source: target
        for target, source in moved.items()
        if tree.is_function(source, before) and tree.is_function(target, after)
    }


def moves(scope: WorkTree, old: CommitId, new: CommitId) -> dict[str, str]:
    """Path in `new` -> path in `old`, of all files in the functions folder that moved. Raises RepositoryError."""
    options = ("-r", "-z", "--name-status", "-M", f"-l{MOST_COMPARED}", "--diff-filter=R")
    _, output = command.run(scope.root, "diff-tree", *options, old, new, "--", scope.pathspec)
    entries = iter(output.split(b"\0"))
    found = {}
    for status in entries:
        if status:
            source, target = (scope.inside(os.fsdecode(next(entries))) for _ in range(2))
            found[target] = source
    return found
