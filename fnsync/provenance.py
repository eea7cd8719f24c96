"""What git says of each function: created, updated, by whom, in which commit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path

from fnsync.git.history import touches
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId, FunctionId, FunctionRow, Touch, Unit
from fnsync.plan import touch_of


class Provenance:
    """Kept in step with HEAD; until git was asked, what the index remembers."""

    def __init__(self, worktree: WorkTree | None, root: Path) -> None:
        #: The commit that `touch` speaks of; None: none yet.
        self.head: CommitId | None = None
        self._worktree = worktree
        self._root = root
        self._touches: Mapping[str, Touch] | None = None
        self._remembered: dict[FunctionId, Touch] = {}
        self._outdated = False

    def restore(self, rows: Iterable[FunctionRow], head: str | None) -> None:
        """Begin with the index's columns, which were computed at `head`."""
        self.head = CommitId(head) if head else None
        for row in rows:
            if row.commit is not None:
                self._remembered[row.id] = Touch(row.created_at, row.updated_at, row.commit, row.user_id)

    def touch(self, unit: Unit) -> Touch | None:
        """First and last commit of a function; None for files that git does not know."""
        if self._touches is None:
            return self._remembered.get(unit.id)
        return touch_of(unit, self._touches)

    def files_changed(self) -> None:
        """What the index remembers goes by id, and may be of another file now: the next refresh asks git."""
        self._outdated = self._touches is None

    async def refresh(self) -> bool:
        """Look at HEAD, and read what came since. Returns whether anything changed. Raises RepositoryError."""
        worktree = self._worktree
        if worktree is None:
            return False
        head = worktree.head()
        if head == self.head and not self._outdated:
            return False
        self._outdated = False
        since = self.head if self._touches is not None else None
        self._touches = await asyncio.to_thread(touches, worktree, self._root, since, self._touches or {})
        self.head = head
        return True
