"""What git knows of each path: its first and its last commit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId, Touch


def touches(
    worktree: WorkTree, functions: Path, since: CommitId | None = None, before: Mapping[str, Touch] | None = None
) -> dict[str, Touch]:
    raise NotImplementedError
