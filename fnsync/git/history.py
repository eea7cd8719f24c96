"""What git knows of each path: who created it, its last commit, and which commit made each function what it is.

All branches that were merged are walked, so that a change belongs to who made it and not to who merged it; a
merge counts for the paths that it changed itself (a conflict's resolution). A path's history begins when it
was last created under that name: renames are not followed, and what was deleted and made anew is new.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fnsync.git import command, tree
from fnsync.git.blobs import Blobs
from fnsync.git.labelling import Labelling
from fnsync.git.log import Entry, entries
from fnsync.git.present import Present
from fnsync.git.traces import Change, Touches, Trace
from fnsync.git.trailers import Origin
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId
from fnsync.places import owners


def touches(worktree: WorkTree, functions: Path, before: Touches | None = None) -> Touches:
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
    with Blobs(scope.root) as blobs:
        labelling = Labelling(blobs)
        if before is not None and before.head is not None and _is_ancestor(scope, before.head, head):
            found = _since(before, before.head, scope, head, tracked, labelling)
            if found is not None:
                return found
        return _from_the_beginning(scope, head, tracked, labelling)


def _is_ancestor(worktree: WorkTree, old: CommitId, new: CommitId) -> bool:
    # 128: the old commit is not even there any more
    code, _ = command.run(worktree.root, "merge-base", "--is-ancestor", old, new, allowed=(0, 1, 128))
    return code == 0


def _from_the_beginning(scope: WorkTree, head: CommitId, tracked: Collection[str], labelling: Labelling) -> Touches:
    present = Present(_sources(tracked), labelling)
    walk = _Walk(scope, entries(scope, head, [scope.pathspec]), present)
    orders = walk.orders()
    traces = {path: walk.trace(span, orders) for path, span in walk.spans.items() if path in tracked and span.changes}
    return Touches(head, max(orders, default=0), traces, walk.removals(orders), present.found)


def _since(
    before: Touches,
    since: CommitId,
    scope: WorkTree,
    head: CommitId,
    tracked: Collection[str],
    labelling: Labelling,
) -> Touches | None:
    """`before`, carried on with what came after it; None: that would not do."""
    new = list(entries(scope, f"{since}..{head}", [scope.pathspec]))
    sources = _sources(tracked)
    present = Present(sources, labelling, _leading(new, since))
    walk = _Walk(scope, new, present)
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
    versions = {source: present.found.get(source) or before.versions.get(source) for source in sources}
    if present.reached - {since} or None in versions.values():
        return None  # some came to be before
    known = {source: version for source, version in versions.items() if version is not None}
    return Touches(head, max(orders, default=before.latest), traces, removals, known)


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
    if old is None or (span.is_whole and not has_merges):
        return walk.trace(span, orders)
    if has_merges and (span.is_whole or span.origin != Origin()):
        return None  # created, or imported, on two branches
    origin = span.origin
    return replace(
        old,
        last=_later(old.last, walk.last(span, orders)),
        created_at=old.created_at if origin.created_at is None else origin.created_at,
        user_id=origin.user_id or old.user_id,
        updated=old.updated if span.updated is None else (walk.commits[span.updated].id, origin.updated_at or 0),
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
    #: Its creation was seen; what is older belongs to a file that was deleted.
    is_whole: bool = False
    #: What imports say, the newest first; `updated` is of the commit of that number.
    origin: Origin = Origin()
    updated: int | None = None


class _Walk:
    """Goes through a log once."""

    def __init__(self, scope: WorkTree, log: Iterable[Entry], present: Present) -> None:
        self.commits: list[_Commit] = []
        self.spans: dict[str, _Span] = {}
        self._removals: dict[str, int] = {}
        self._scope = scope
        for entry in log:
            self._see(entry)
            present.see(entry)

    def _see(self, entry: Entry) -> None:
        number = len(self.commits)
        self.commits.append(_Commit(entry.commit, entry.parents, entry.at, entry.user_id or entry.author))
        for path, origin in self._origins(entry):
            _take_origin(self.spans.setdefault(path, _Span()), origin, number)
        for path, is_created, is_removed in _touched(entry):
            if is_removed:
                for owner in owners(path):
                    if owner != path:
                        self._removals.setdefault(owner, number)
                continue
            span = self.spans.setdefault(path, _Span())
            if not span.is_whole:
                span.changes.append(number)
                span.is_whole = is_created

    def _origins(self, entry: Entry) -> Iterator[tuple[str, Origin]]:
        for path, origin in entry.origins.items():
            if self._scope.prefix == "." or path.startswith(self._scope.prefix + "/"):
                yield self._scope.inside(path), origin

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
            updated=None if span.updated is None else (self.commits[span.updated].id, origin.updated_at or 0),
        )

    def last(self, span: _Span, orders: list[int]) -> Change | None:
        return self._change(max(span.changes, key=orders.__getitem__), orders) if span.changes else None

    def removals(self, orders: list[int]) -> Mapping[str, Change]:
        return {source: self._change(number, orders) for source, number in self._removals.items()}

    def _change(self, number: int, orders: list[int]) -> Change:
        commit = self.commits[number]
        return Change(commit.id, commit.at, commit.user_id, orders[number])


def _take_origin(span: _Span, origin: Origin, number: int) -> None:
    """Note what an import says, where no newer one says something else."""
    if span.is_whole:
        return
    known = span.origin
    if known.updated_at is None and origin.updated_at is not None:
        span.updated = number
    span.origin = Origin(
        origin.created_at if known.created_at is None else known.created_at,
        origin.updated_at if known.updated_at is None else known.updated_at,
        known.user_id or origin.user_id,
    )


def _touched(entry: Entry) -> Iterator[tuple[str, bool, bool]]:
    """The paths that differ from all parents: whether each was created, and whether removed."""
    first, *others = entry.deltas
    for path, delta in first.items():
        sides = [delta, *(deltas[path] for deltas in others if path in deltas)]
        if len(sides) == len(entry.deltas):
            yield path, all(side.before is None for side in sides), delta.after is None
