"""The one way in which fnsync changes functions: draft, try, write and commit, swap.

    draft    what the edit makes of the files as they are now
    try      its functions are read, and load in workers, from copies; nothing is written before they do
    write    files and commit, all or nothing, under the working tree's lock (git.edit)
    swap     reconcile takes the files as it takes any; the revision that was tried serves at once

What changed between draft and write is noticed under the lock; then all is done again from the new state.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import structlog

from fnsync import labels
from fnsync.edits import messages
from fnsync.edits.archive import Archive
from fnsync.edits.basis import Basis
from fnsync.edits.drafts import Draft, Drafting
from fnsync.edits.readonly import Check
from fnsync.edits.staging import Staging
from fnsync.errors import (
    Conflict,
    ContentRefused,
    EnvironmentFailed,
    FunctionError,
    InvalidValves,
    LoadFailed,
    RepositoryBlocked,
    SourceError,
    StaleEdit,
    Unavailable,
    Uncommitted,
    WriteDenied,
)
from fnsync.git import lock, traces
from fnsync.git.commit import Author, Made
from fnsync.git.edit import Moved, TreeEditor
from fnsync.git.journal import Change, Intent
from fnsync.git.lock import writing
from fnsync.git.proposals import Proposal, Target, propose
from fnsync.git.trailers import Origin, kept_line, origin_line
from fnsync.model import CommitId, FunctionId, FunctionRow, LiveFunction, Problem, Unit, User
from fnsync.plan import Policy, candidate_of, denied_import
from fnsync.reconcile import Reconciler
from fnsync.runtime.executor import Executor, Trial
from fnsync.source.snapshots import Snapshots
from fnsync.store.index import Index

log = structlog.get_logger(__name__)

#: How often an edit is drafted anew because the files it was made from changed.
ROUNDS = 10
#: How many sources that do not load one error tells of.
MANY_PROBLEMS = 10
#: What the peer calls stored values that new code does not take.
_UNFIT = "Current Valves are incompatible with this code"


@dataclass(frozen=True, slots=True)
class Edit:
    """What somebody asks for."""

    author: User
    #: Makes the draft; returns the plain message of its commit. Blocking; may raise any FnsyncError.
    make: Callable[[Drafting], str]
    #: The message that the caller gave.
    message: str | None = None
    #: Function -> the version or revision that the edit was made from.
    expected: Mapping[FunctionId, str] = field(default_factory=dict)
    #: Source, from the functions folder -> what is known of its function from elsewhere.
    origins: Mapping[str, Origin] = field(default_factory=dict)
    #: More lines for the end of its commit's message.
    trailers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """What an edit came to."""

    #: The functions it was about as they are now, without those that are gone.
    rows: tuple[FunctionRow, ...]
    #: None: nothing was different.
    commit: CommitId | None = None
    #: With `repository.write: branch`, where the edit waits for review; nothing here has changed.
    proposal: Proposal | None = None


@dataclass(frozen=True, slots=True)
class Inspected:
    """A function as an edit would make it: what would serve, and what trying it told; or why it cannot serve."""

    unit: Unit
    candidate: LiveFunction | None
    trial: Trial | None
    problem: Problem | None = None

    @property
    def wrong(self) -> Problem | None:
        """Why it would not go live: it does not load, or its stored values do not fit."""
        if self.problem is not None or self.trial is None or not self.trial.wrong:
            return self.problem
        return Problem("invalid_valves", f"{_UNFIT}: {'; '.join(map(str, self.trial.wrong))}", self.unit.path)


@dataclass(frozen=True, slots=True)
class _Drafted:
    """A draft of an edit."""

    draft: Draft
    #: The plain message of its commit.
    default: str
    #: Sources of which the caller has seen what is on disk.
    seen: frozenset[str]


class Writer:
    """Applies edits. One for each server; on the loop."""

    def __init__(
        self,
        *,
        root: Path,
        editor: TreeEditor | None,
        staging: Path,
        reconciler: Reconciler,
        executor: Executor,
        snapshots: Snapshots,
        index: Index,
        policy: Policy,
        write: Literal["commit", "branch", "deny"],
        target: Target,
        archive: Archive,
        check: Check,
        on_commit: Callable[[], None],
    ) -> None:
        """`root` is the functions folder; without `editor` there is no usable repository. `target` is where edits
        go with `write` at `branch`. `check` raises for functions that are not changed here. `on_commit` is told on the
        loop that an edit was committed."""
        #: Raises ReadOnlySource for a function of a source.
        self.check_local = check
        self._root = root
        self._editor = editor
        self._staging = staging
        self._reconciler = reconciler
        self._executor = executor
        self._snapshots = snapshots
        self._index = index
        self._policy = policy
        self._mode = write
        self._target = target
        self._on_commit = on_commit
        self._basis = Basis(reconciler.find, archive)
        self._turn = asyncio.Lock()

    async def apply(self, edit: Edit) -> Written:
        """Carry an edit out; returns when what came of it answers calls, and the index holds it.

        Raises what `edit.make` raises; ContentRefused for a source that does not load; StaleEdit, Uncommitted,
        RepositoryBlocked, RepositoryBusy, NotWritable, CommitRefused, WriteDenied.
        """
        self.check_allowed()
        until = time.monotonic() + lock.WAIT_S
        for _ in range(ROUNDS):
            draft = (await asyncio.to_thread(self._draft, edit)).draft
            if not draft.after:
                return Written(await self._rows(draft.ids))
            await self._try(draft)
            try:
                return await self._in_turn(edit, draft, until)
            except Moved as exc:
                log.info("edit_starts_again", functions=list(draft.ids), reason=exc.message)
                await self._reconciler.settle(draft.after, draft.ids)
        raise StaleEdit("the function's files keep changing", hint="try again")

    @property
    def denies(self) -> bool:
        """Whether no edit is made, whatever it is."""
        return self._mode == "deny"

    def check_allowed(self) -> None:
        """Raise WriteDenied where no edit is made."""
        if self.denies:
            raise WriteDenied(
                "functions are changed through git here (repository.write: deny)",
                hint="commit the change to the functions repository",
            )

    def drafting(self) -> Drafting:
        """A draft of the files as they are now."""
        return Drafting(self._root, self._reconciler.find, self._policy.active, self.check_local)

    async def uncommitted(self, paths: Sequence[str]) -> frozenset[str]:
        """Which files, from the functions folder, hold what is in no commit, so that no edit overwrites it."""
        if self._editor is None or not paths:
            return frozenset()
        there = {self.tree_path(path): path for path in paths}
        found = await asyncio.to_thread(self._editor.worktree.uncommitted, there)
        return frozenset(there[path] for path in found)

    async def _in_turn(self, edit: Edit, tried: Draft, until: float) -> Written:
        """Write what was tried, drafted anew: other edits may have come before it. Raises Moved where that matters."""
        with ExitStack() as stack:
            async with self._turn:
                stack.enter_context(self._reconciler.acting(tried.ids, edit.author))
                if self._mode == "branch":
                    proposal = await asyncio.to_thread(self._push, tried, edit)
                    return Written(await self._rows(tried.ids), None, proposal)
                draft, made = await asyncio.to_thread(self._write, tried, edit, until)
                if made is not None:
                    self._reconciler.committed(_told_to_git(made, edit, draft))
                    self._on_commit()
            await self._reconciler.settle(draft.after, draft.ids)
        rows = await self._rows(draft.ids)
        return Written(tuple(_of_edit(row, draft) for row in rows), made.commit if made else None)

    # ---- draft -------------------------------------------------------------------------------------------

    def _draft(self, edit: Edit) -> _Drafted:
        drafting = self.drafting()
        default = edit.make(drafting)
        return _Drafted(drafting.draft(), default, self._basis.check(edit.expected))

    async def _rows(self, ids: Sequence[FunctionId]) -> tuple[FunctionRow, ...]:
        def read() -> tuple[FunctionRow, ...]:
            return tuple(row for id in ids if (row := self._index.row(id)) is not None)

        return await asyncio.to_thread(read)

    # ---- try ---------------------------------------------------------------------------------------------

    async def _try(self, draft: Draft) -> None:
        """Have all functions load whose code the edit changes. Raises ContentRefused, InvalidValves."""
        if not draft.sources:
            return
        found = await self.inspect(draft.after, draft.sources)
        failed = [one for one in found if one.problem is not None]
        if failed:
            raise _refused(failed)
        for one in found:
            if one.trial is not None and one.trial.wrong:
                raise InvalidValves(one.trial.wrong, about=_UNFIT)

    async def inspect(self, changes: Mapping[str, bytes | None], sources: Sequence[str]) -> list[Inspected]:
        """What the functions of `sources` would be with `changes`, in that order; they are read, and loaded in workers.

        Raises what is nobody's fault in particular, such as a server that is stopping.
        """
        units = await asyncio.to_thread(self._stage, changes, sources)
        return await asyncio.gather(*(self._inspect(unit) for unit in units))

    def _stage(self, changes: Mapping[str, bytes | None], sources: Sequence[str]) -> list[Unit]:
        with writing(self._staging), Staging(self._staging, self._root) as staging:
            staging.place(changes, sources)
            units = staging.units(sources)
            for unit in units:
                if self._problem(unit) is None:
                    self._snapshots.write(staging.root, unit)
            return units

    def _problem(self, unit: Unit) -> Problem | None:
        return unit.problem or denied_import(unit, self._policy.denied_imports)

    async def _inspect(self, unit: Unit) -> Inspected:
        problem = self._problem(unit)
        if problem is not None:
            return Inspected(unit, None, None, problem)
        candidate = self.candidate(unit)
        try:
            return Inspected(unit, candidate, await self._executor.try_load(candidate))
        except (FunctionError, EnvironmentFailed, SourceError) as exc:
            return Inspected(unit, None, None, _told(unit, exc))

    def candidate(self, unit: Unit) -> LiveFunction:
        """What would serve if these files were live."""
        return candidate_of(unit, self._policy.limits, self._policy.active, None)

    # ---- write -------------------------------------------------------------------------------------------

    def _write(self, tried: Draft, edit: Edit, until: float) -> tuple[Draft, Made | None]:
        """Draft once more and carry it out, both under the lock: while it was waited for, git may have changed what the
        edit was made from, and who may make it."""
        editor = self._usable()
        with editor.locked(max(lock.LEAST_S, until - time.monotonic())):
            drafted = self._drafted_again(edit, tried)
            if not drafted.draft.after:
                return drafted.draft, None
            intent = self._intent(drafted, edit)
            editor.admit(intent.paths)
            editor.check(intent)
            self._keep_uncommitted(editor, drafted, edit.author)
            return drafted.draft, editor.carry_out(intent)

    def _drafted_again(self, edit: Edit, tried: Draft) -> _Drafted:
        drafted = self._draft(edit)
        if drafted.draft.code != tried.code:
            raise Moved("the function's files changed meanwhile")
        return drafted

    def _usable(self) -> TreeEditor:
        if self._editor is None:
            raise Unavailable("there is no usable git repository around the functions folder, so nothing is changed")
        return self._editor

    def _intent(self, drafted: _Drafted, edit: Edit) -> Intent:
        draft = drafted.draft
        author = Author(edit.author.name, edit.author.email)
        message = messages.compose(edit.message, drafted.default, edit.author, self._trailers(edit))
        changes = tuple(
            Change(self.tree_path(path, after), draft.before[path], after) for path, after in draft.after.items()
        )
        return Intent(changes, message, author)

    def _trailers(self, edit: Edit) -> list[str]:
        return [origin_line(self.tree_path(path), origin) for path, origin in edit.origins.items()] + [*edit.trailers]

    def _push(self, tried: Draft, edit: Edit) -> Proposal | None:
        editor = self._usable()
        drafted = self._drafted_again(edit, tried)
        intent = self._intent(drafted, edit)
        assert intent.author is not None
        editor.admit(intent.paths)
        editor.check(intent)
        loose = editor.worktree.uncommitted([change.path for change in intent.changes if change.before is not None])
        if loose:
            raise Uncommitted(
                f"{', '.join(sorted(loose))}: what is on disk is in no commit, so no branch can change it",
                hint="commit or discard it first (git status)",
            )
        ids = drafted.draft.ids
        name = ids[0] if len(ids) == 1 else "functions"
        changes = {change.path: change.after for change in intent.changes}
        return propose(editor.worktree, self._target, changes, name, intent.author, intent.message)

    def _keep_uncommitted(self, editor: TreeEditor, drafted: _Drafted, author: User) -> None:
        """What is in no commit yet is committed by itself before it is overwritten, or it is not overwritten.

        It may be where the edit goes on with it (settings), or where the caller named the very revision on disk.
        """
        draft = drafted.draft
        there = {self.tree_path(path): path for path, before in draft.before.items() if before is not None}
        loose = editor.worktree.uncommitted(there)
        if not loose:
            return
        for tree_path, state in loose.items():
            path = there[tree_path]
            if state == "unmerged":
                raise RepositoryBlocked(f"{path} has a merge conflict that nobody has resolved")
            if state == "staged":
                raise Uncommitted(
                    f"what is staged of {path} is in no commit, and not what is on disk; the edit would lose it",
                    hint="commit it, or take it out of the index: git restore --staged",
                )
            if path not in draft.carried and path not in drafted.seen:
                raise Uncommitted(
                    f"{path} holds changes that are in no commit; the edit would overwrite them",
                    hint="commit or discard them (git status); or fetch the function, and send its ETag in If-Match",
                )
        names = ", ".join(sorted(there[path] for path in loose))
        why = f"It was in no commit when an edit came over the API.\n\n{kept_line(author.id)}\n"
        editor.keep(sorted(loose), f"Keep what was on disk of {names}\n\n{why}")

    def tree_path(self, path: str, after: bytes | None = None) -> str:
        """A path from the functions folder as one from the working tree's root, for a file that becomes `after`.

        Raises Conflict where that would change another file than the one that is named: through a link.
        """
        assert self._editor is not None
        folder, name = os.path.split(path)
        functions = os.path.realpath(self._root)
        there = os.path.join(functions, folder) if folder else functions
        if os.path.realpath(there) != there:
            raise Conflict(f"{folder} leads through a link, so the edit would change files that lie elsewhere")
        if after is not None and os.path.islink(os.path.join(there, name)):
            target = os.readlink(os.path.join(there, name))
            raise Conflict(f"{path} is a link to {target}, so the edit would change that file", hint="edit that one")
        return os.path.relpath(os.path.join(there, name), self._editor.worktree.root)


def _of_edit(row: FunctionRow, draft: Draft) -> FunctionRow:
    """The row, without a version if the function is something else again by now than the edit made of it."""
    written = draft.after.get(row.path)
    is_it = written is None or written.decode(errors="replace").removeprefix("\ufeff") == row.content
    return row if is_it else replace(row, version=None)


def _told_to_git(made: Made, edit: Edit, draft: Draft) -> traces.Made:
    """What was committed, so that nobody has to ask git for it."""
    written = frozenset(path for path, content in draft.after.items() if content is not None)
    settings = [path for path in draft.after if path.endswith(".yaml")]
    labelled = {path for path in settings if _label(draft.before[path]) != _label(draft.after[path])}
    return traces.Made(
        made.commit,
        made.parent,
        made.at,
        edit.author.id,
        written,
        frozenset(draft.after) - written,
        frozenset(labelled),
        edit.origins,
    )


def _label(settings: bytes | None) -> bytes:
    return labels.read(settings or b"").key


def _told(unit: Unit, exc: FunctionError | EnvironmentFailed | SourceError) -> Problem:
    if isinstance(exc, LoadFailed | SourceError):
        problem = exc.problem
        return problem if problem.path is not None else replace(problem, path=unit.path)
    return Problem(exc.code, exc.message, unit.path, hint=exc.hint)


def _refused(failed: Sequence[Inspected]) -> ContentRefused:
    problems = [one.problem for one in failed if one.problem is not None]
    message = "; ".join(map(str, problems[:MANY_PROBLEMS]))
    if len(problems) > MANY_PROBLEMS:
        message += f"; and {len(problems) - MANY_PROBLEMS} more"
    return ContentRefused(message, problems[0])
