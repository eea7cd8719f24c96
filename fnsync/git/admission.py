"""Whether git takes changes of files at all. What it does not take, no edit may touch: it would be in no history."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import PurePosixPath

from fnsync.errors import OutOfGit
from fnsync.git import command
from fnsync.git.worktree import WorkTree


def admit(worktree: WorkTree, paths: Collection[str]) -> None:
    """Raise OutOfGit for the first of `paths` (files, from the root) that git does not take; RepositoryError."""
    for path in paths:
        _check_repositories(worktree, path)
    unknown = set(paths) - _check_flags(worktree, paths)
    if unknown:
        _check_ignored(worktree, unknown)


def _check_repositories(worktree: WorkTree, path: str) -> None:
    """What lies in a submodule, or in another repository that was put there, is that one's."""
    for folder in PurePosixPath(path).parents[:-1]:
        if os.path.lexists(worktree.root / folder / ".git"):
            raise OutOfGit(
                f"{path} lies in another git repository, {folder}, so no commit of this one can hold it",
                hint="change it there, and commit it there",
            )


def _check_flags(worktree: WorkTree, paths: Collection[str]) -> set[str]:
    """The paths that git knows."""
    listing = ("ls-files", "-v", "-z", "--", *(f":(literal){path}" for path in paths))
    _, output = command.run(worktree.root, *listing)
    known = set()
    for entry in output.split(b"\0"):
        tag, _, name = entry.partition(b" ")
        path = os.fsdecode(name)
        if tag.upper() == b"S":
            raise OutOfGit(
                f"{path} is left out of this working tree (skip-worktree), so git sees no change of it",
                hint=f"git sparse-checkout add …, or: git update-index --no-skip-worktree '{path}'",
            )
        if tag.islower():
            raise OutOfGit(
                f"git was told to see no change of {path} (assume-unchanged)",
                hint=f"git update-index --no-assume-unchanged '{path}'",
            )
        known.add(path)
    return known


def _check_ignored(worktree: WorkTree, paths: Collection[str]) -> None:
    named = b"".join(os.fsencode(path) + b"\0" for path in sorted(paths))
    _, output = command.run(worktree.root, "check-ignore", "-v", "-z", "--stdin", allowed=(0, 1), stdin=named)
    fields = [os.fsdecode(field) for field in output.split(b"\0")]
    for source, line, pattern, path in zip(*(fields[place::4] for place in range(4)), strict=False):
        if not pattern.startswith("!"):
            raise OutOfGit(
                f"{path} is ignored by {source}:{line} ({pattern}), so no commit can hold it",
                hint="take the rule away, or add the file with `git add --force` if it is to be kept",
            )
