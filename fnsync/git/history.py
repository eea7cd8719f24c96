"""What git knows of each path: who created it, its last commit, and which commit made each function what it is.

All branches that were merged are walked, so that a change belongs to who made it and not to who merged it; a
merge counts for the paths that it changed itself (a conflict's resolution). A path's history begins when it
was last created under that name: renames are not followed, and what was deleted and made anew is new.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fnsync.git import command, tree
from fnsync.git.blobs import Blobs
from fnsync.git.labelling import Labelling
from fnsync.git.log import Delta, Entry, entries
from fnsync.git.present import Present
from fnsync.git.scope import Scope
from fnsync.git.traces import Change, Touches, Trace
from fnsync.git.trailers import Origin
from fnsync.model import CommitId
from fnsync.places import owners


def touches(worktree: Scope, functions: Path, before: Touches | None = None) -> Touches:
    """What git knows of the files in `functions` at HEAD. Times are the committer's. Raises RepositoryError.

    With `before`, what was known at an earlier HEAD, only what came after is walked; if that commit is no
    ancestor of HEAD any more (the history was rewritten), or the new commits bring back what lies further
    behind, everything is.
    """
    head = worktree.head()
    if head is None:
        return Touches()
    if before is not None and before.head == head:
        return before
    scope = worktree.of(functions)
    tracked = tree.files(scope, head)
    with Blobs(scope.root, scope.variables) as blobs:
        labelling = Labelling(blobs if scope.has_contents() else None)
        if before is not None and before.head is not None and _is_ancestor(scope, before.head, head):
            found = _since(before, before.head, scope, head, tracked, labelling)
            if found is not None:
                return found
        return _from_the_beginning(scope, head, tracked, labelling)


def _is_ancestor(worktree: Scope, old: CommitId, new: CommitId) -> bool:
    # 128: the old commit is not even there any more
    code, _ = command.run(
        worktree.root, "merge-base", "--is-ancestor", old, new, allowed=(0, 1, 128), variables=worktree.variables
    )
    return code == 0


def _from_the_beginning(scope: Scope, head: CommitId, tracked: Collection[str], labelling: Labelling) -> Touches:
    present = Present(_sources(tracked), labelling)
    walk = _Walk(scope, entries(scope, head, [scope.pathspec]), tracked, present)
    walk.mend()
    orders = walk.orders()
    traces = {path: walk.trace(span, orders) for path, span in walk.spans.items() if span.changes}
    return Touches(head, max(orders, default=0), traces, walk.removals(orders), walk.versions(present, orders))


def _since(
    before: Touches,
    since: CommitId,
    scope: Scope,
    head: CommitId,
    tracked: Collection[str],
    labelling: Labelling,
) -> Touches | None:
    """`before`, carried on with what came after it; None: that would not do."""
    new = list(entries(scope, f"{since}..{head}", [scope.pathspec]))
    sources = _sources(tracked)
    present = Present(sources, labelling, _leading(new, since))
    walk = _Walk(scope, new, tracked, present)
    orders = walk.orders(since, before.latest)
    has_merges = any(len(commit.parents) > 1 for commit in walk.commits)
    traces = {}
    for path in tracked:
        trace = _joined(before.traces.get(path), walk.spans.get(path), walk, orders, has_merges)
        if trace is None:
            return None
        traces[path] = trace
    removals = dict(before.removals)
    for source, change in walk.removals(orders).items():
        removals[source] = _later(removals.get(source), change) or change
    versions = {source: before.versions[source] for source in sources & before.versions.keys()}
    versions |= walk.versions(present, orders)
    if present.reached - {since} or len(versions) < len(sources):
        return None  # some came to be before
    return Touches(head, max(orders, default=before.latest), traces, removals, versions)


def _sources(tracked: Collection[str]) -> set[str]:
    """Every file that may be a function's source."""
    return {path for path in tracked if path.endswith(".py")}


def _leading(new: list[Entry], since: CommitId) -> set[CommitId]:
    """The commits from which `since` is reached."""
    found = {since}
    for entry in reversed(new):
        if not found.isdisjoint(entry.parents):
            found.add(entry.commit)
    return found


def _joined(old: Trace | None, span: _Span | None, walk: _Walk, orders: list[int], has_merges: bool) -> Trace | None:
    """What is known of a path, carried on; None: only a walk from the beginning tells."""
    if span is None or (old is None and not span.is_whole):
        return old
    if span.is_torn:
        return None
    if old is None or (span.is_whole and not has_merges):
        return walk.trace(span, orders)
    if has_merges and (span.is_whole or span.origins):
        return None  # created, or imported, on two branches
    origin = span.origin
    return replace(
        old,
        last=_later(old.last, walk.last(span, orders)),
        created_at=old.created_at if origin.created_at is None else origin.created_at,
        user_id=origin.user_id or old.user_id,
        updated=walk.updated(span) or old.updated,
    )


def _later(old: Change | None, new: Change | None) -> Change | None:
    """A branch that was merged late may bring a change that is older than one known already."""
    return new if old is None or (new is not None and new.order > old.order) else old


@dataclass(frozen=True, slots=True)
class _Commit:
    id: CommitId
    parents: tuple[CommitId, ...]
    at: int
    user_id: str


@dataclass(slots=True)
class _Span:
    """What the walk, from new to old, has seen of a path. Commits by their number in the walk."""

    changes: list[int] = field(default_factory=list)
    #: What imports say.
    origins: list[tuple[int, Origin]] = field(default_factory=list)
    #: Its creation was seen; what is older belongs to a file that was deleted.
    is_whole: bool = False
    #: A removal was seen before the creation: some of these commits are of another file, on a side of a merge.
    is_torn: bool = False
    #: A commit and which of its parents does not have the path.
    absences: list[tuple[int, int]] = field(default_factory=list)

    def see(self, number: int, sides: Sequence[Delta | None]) -> None:
        """Take a commit with what became of the path from each parent; None: nothing."""
        if self.is_whole:
            return
        if any(side is not None and side.after is None for side in sides):
            self.is_torn = True
            return
        absences = [(number, at) for at, side in enumerate(sides) if side is not None and side.before is None]
        self.absences += absences
        if None not in sides:
            self.changes.append(number)
            self.is_whole = len(absences) == len(sides) and not self.is_torn

    @property
    def origin(self) -> Origin:
        """What imports say, the newest first."""
        found = Origin()
        for _, origin in self.origins:
            found = origin.below(found)
        return found

    @property
    def updated(self) -> tuple[int, int] | None:
        """The newest commit of an import that says when the function was changed, and when that was."""
        times = ((number, origin.updated_at) for number, origin in self.origins)
        return next(((number, at) for number, at in times if at is not None), None)


class _Walk:
    """Goes through a log once."""

    def __init__(self, scope: Scope, log: Iterable[Entry], tracked: Collection[str], present: Present) -> None:
        self.commits: list[_Commit] = []
        #: Of the tracked paths.
        self.spans: dict[str, _Span] = {}
        self._removals: dict[str, int] = {}
        self._scope = scope
        self._tracked = tracked
        for entry in log:
            self._see(entry)
            present.see(entry)

    def _see(self, entry: Entry) -> None:
        number = len(self.commits)
        self.commits.append(_Commit(entry.commit, entry.parents, entry.at, entry.user_id or entry.author))
        for path, origin in self._origins(entry):
            if path in self._tracked and not (span := self._span(path)).is_whole:
                span.origins.append((number, origin))
        for path in {path for deltas in entry.deltas for path in deltas}:
            sides = [deltas.get(path) for deltas in entry.deltas]
            if path in self._tracked:
                self._span(path).see(number, sides)
            if all(side is not None and side.after is None for side in sides):
                for owner in owners(path):
                    if owner != path:
                        self._removals.setdefault(owner, number)

    def _span(self, path: str) -> _Span:
        span = self.spans.get(path)
        if span is None:
            span = self.spans[path] = _Span()
        return span

    def _origins(self, entry: Entry) -> Iterator[tuple[str, Origin]]:
        for path, origin in entry.origins.items():
            if self._scope.prefix == "." or path.startswith(self._scope.prefix + "/"):
                yield self._scope.inside(path), origin

    def mend(self) -> None:
        """Take the commits of other files out of the spans that are torn."""
        numbers = {commit.id: number for number, commit in enumerate(self.commits)}
        for span in self.spans.values():
            if span.is_torn:
                self._mend(span, numbers)

    def _mend(self, span: _Span, numbers: Mapping[CommitId, int]) -> None:
        absences = set(span.absences)
        having = {0}
        for number, commit in enumerate(self.commits):
            if number in having:
                sides = [parent for at, parent in enumerate(commit.parents) if (number, at) not in absences]
                having.update(numbers[parent] for parent in sides if parent in numbers)
        span.changes = [number for number in span.changes if number in having]
        created = (at for at, number in enumerate(span.changes) if self._is_created(number, absences))
        span.changes = span.changes[: next(created, len(span.changes)) + 1]
        span.origins = [said for said in span.origins if said[0] in having and said[0] <= span.changes[-1]]

    def _is_created(self, number: int, absences: Collection[tuple[int, int]]) -> bool:
        sides = max(1, len(self.commits[number].parents))
        return all((number, at) in absences for at in range(sides))

    def orders(self, since: CommitId | None = None, latest: int = 0) -> list[int]:
        """The order of each commit. `latest`: no commit up to `since` has a greater one."""
        known = {} if since is None else {since: latest}
        found = []
        for commit in reversed(self.commits):
            after = [known[parent] + 1 for parent in commit.parents if parent in known]
            known[commit.id] = max([commit.at, *after])
            found.append(known[commit.id])
        return found[::-1]

    def trace(self, span: _Span, orders: list[int]) -> Trace:
        first, origin = self.commits[span.changes[-1]], span.origin
        return Trace(
            last=self.last(span, orders),
            created_at=first.at if origin.created_at is None else origin.created_at,
            user_id=origin.user_id or first.user_id,
            updated=self.updated(span),
        )

    def last(self, span: _Span, orders: list[int]) -> Change | None:
        return self._change(max(span.changes, key=orders.__getitem__), orders) if span.changes else None

    def updated(self, span: _Span) -> tuple[CommitId, int] | None:
        return None if span.updated is None else (self.commits[span.updated[0]].id, span.updated[1])

    def removals(self, orders: list[int]) -> Mapping[str, Change]:
        return {source: self._change(number, orders) for source, number in self._removals.items()}

    def versions(self, present: Present, orders: list[int]) -> dict[str, Change]:
        numbers = {commit.id: number for number, commit in enumerate(self.commits)}
        return {source: self._change(numbers[commit], orders) for source, commit in present.found.items()}

    def _change(self, number: int, orders: list[int]) -> Change:
        commit = self.commits[number]
        return Change(commit.id, commit.at, commit.user_id, orders[number])
