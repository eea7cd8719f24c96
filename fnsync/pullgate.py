"""Whether what a pull would bring may go live: windows, the guard and the gate of the repository."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

from fnsync import holds
from fnsync.configgit import RepositoryConfig, SyncConfig
from fnsync.git.forward import Entry, changes
from fnsync.git.materialize import Selection, TreeLimits, materialize
from fnsync.git.pull import Way
from fnsync.git.tree import files
from fnsync.git.worktree import WorkTree
from fnsync.holds import Held
from fnsync.model import LOCAL, REPOSITORY, CommitId, Tree
from fnsync.planning import Planner
from fnsync.syncplan import FunctionChange, SyncPlan


class PullGate:
    """Decides for one server. On the loop."""

    def __init__(
        self, worktree: WorkTree, config: RepositoryConfig, sync: SyncConfig, planner: Planner, previews: Path
    ) -> None:
        """`previews`: the folder that commits are put into to be looked at."""
        #: Whether a commit is taken only if all of its functions load.
        self.is_whole = config.gate == "all"
        self._worktree = worktree
        self._config = config
        self._guard = sync.guard
        self._limits = TreeLimits(sync.max_files, sync.max_size)
        self._planner = planner
        self._previews = previews

    def by_window(self, commit: CommitId) -> Held | None:
        """Whether it is not the time to apply anything."""
        return holds.by_window(REPOSITORY, self._config.windows, commit, time.time())

    async def by_plan(self, way: Way, *, forced: bool) -> Held | None:
        """What guard and gate say of where a way leads; `forced`: the gate alone. Raises SourceRefused,
        RepositoryError, NotWritable, Draining."""
        if not way.apart.behind:
            return None
        entries = await asyncio.to_thread(self._entries, way)
        guarded = (
            not forced and self._guard < 1 and any(holds.may_remove(one.path, is_gone=one.is_gone) for one in entries)
        )
        if not self.is_whole and not guarded:
            return None
        tree, loose = await asyncio.to_thread(self._tree, way.tip)
        changed = frozenset(entry.path for entry in entries)
        plan = await self._planner.plan(tree, changed | loose, load=self.is_whole, before=way.head)
        plan = _of_commit(replace(plan, after=way.target), tree.folder)
        held = holds.by_guard(REPOSITORY, plan, self._guard) if guarded else None
        return held or holds.by_gate(REPOSITORY, self._config.gate, plan)

    # ---- blocking ----

    def _entries(self, way: Way) -> list[Entry]:
        """What differs in the functions folder, by path from there."""
        inside = self._worktree.prefix + "/"
        return [
            replace(entry, path=self._worktree.inside(entry.path))
            for entry in changes(self._worktree, way.head, way.tip)
            if self._worktree.prefix == "." or entry.path.startswith(inside)
        ]

    def _tree(self, commit: CommitId) -> tuple[Tree, frozenset[str]]:
        """A commit's files, and which of them are others on disk without being in a commit."""
        worktree = self._worktree
        folder = self._previews / commit
        if files(worktree, commit):
            folder = materialize(worktree.root, commit, folder, Selection(worktree.prefix), self._limits).folder
        else:  # the folder itself is gone, and with it all functions
            folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)  # it is kept by when it was used last
        # Only with the gate: uncommitted work is no part of the commit, and is not what it is judged by.
        dirty = worktree.dirty() if self.is_whole else ()
        loose = frozenset(path for path in dirty if os.path.lexists(folder / path))
        return Tree(LOCAL, "", folder, commit, worktree.root, worktree.prefix), loose


def _of_commit(plan: SyncPlan, folder: Path) -> SyncPlan:
    """Without what is no part of the commit: functions that are only on disk may be broken, but still answer calls."""

    def kept(one: FunctionChange) -> FunctionChange:
        is_loose = one.action == "unchanged" and not os.path.lexists(folder / one.path)
        return replace(one, error=None) if is_loose else one

    return replace(plan, functions=tuple(map(kept, plan.functions)))
