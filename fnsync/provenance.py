"""What git says of each function: created, updated, by whom, in which commit, and its version."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fnsync.git.history import touches
from fnsync.git.scope import Scope
from fnsync.git.traces import Made, Touches, carried_on, differing
from fnsync.model import CommitId, FunctionRow, Touch, Unit
from fnsync.plan import touch_of


@dataclass(frozen=True, slots=True)
class News:
    """What another look at HEAD told."""

    #: The files of which git knows something else now; None: any may be among them.
    paths: frozenset[str] | None


class Provenance:
    """Kept in step with HEAD; until git was asked, what the index remembers, and the commits made since."""

    def __init__(self, worktree: Scope | None, root: Path) -> None:
        #: The commit that `touch` speaks of; None: none yet.
        self.head: CommitId | None = None
        self._worktree = worktree
        self._root = root
        #: None: git was not asked yet.
        self._touches: Touches | None = None
        #: By source, until then.
        self._remembered: dict[str, Touch] = {}
        self._since = Touches()
        #: What was committed while git is asked.
        self._meanwhile: list[Made] = []
        self._outdated = False
        self._turn = asyncio.Lock()

    def follow(self, scope: Scope) -> None:
        """Look at another commit, of the same folder in the same repository, from the next refresh on."""
        self._worktree = scope

    def restore(self, rows: Iterable[FunctionRow], head: str | None) -> None:
        """Begin with the index's columns, which were computed at `head`."""
        self.head = CommitId(head) if head else None
        for row in rows:
            if row.commit is not None:
                touch = Touch(row.created_at, row.updated_at, row.commit, row.user_id, row.version)
                self._remembered[row.path] = touch

    def touch(self, unit: Unit) -> Touch | None:
        """What git knows of a function; None for files that git does not know."""
        if self._touches is None:
            return touch_of(unit, self._since, self._remembered.get(unit.path))
        return touch_of(unit, self._touches)

    def committed(self, made: Made) -> None:
        """Take a commit that the server has just made, so that `touch` tells of it without asking git.

        If HEAD was not where it was expected, because somebody else committed in between, the next `refresh`
        finds both commits.
        """
        self._meanwhile.append(made)
        if self._touches is None:
            self._since = carried_on(self._since, made, self._remembered)
            for path in made.removed:
                self._remembered.pop(path, None)
        else:
            self._touches = carried_on(self._touches, made)
        if made.parent == self.head:
            self.head = made.commit

    def files_changed(self) -> None:
        """What the index remembers may not be of the files that are there now: the next refresh asks git."""
        self._outdated = self._touches is None

    async def refresh(self) -> News | None:
        """Look at HEAD, and read what came since; None: it is where it was. Raises RepositoryError."""
        worktree = self._worktree
        if worktree is None:
            return None
        async with self._turn:
            head = worktree.head()
            if head == self.head and not self._outdated:
                return None
            self._meanwhile.clear()
            before = self._touches
            found = await asyncio.to_thread(touches, worktree, self._root, before)
            news = News(None if before is None else await asyncio.to_thread(differing, before, found))
            for made in self._meanwhile:
                if made.parent == found.head:  # else git told of it already, or the next look will
                    found = carried_on(found, made)
            self._touches, self.head = found, found.head
            self._outdated = False
            return news
