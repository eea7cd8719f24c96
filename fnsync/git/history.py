"""What git knows of each path: its first and its last commit, from one walk over the history.

All branches that were merged are walked, so that a change belongs to who made it and not to who merged it; a
merge counts for the paths that it changed itself (a conflict's resolution). A path's history begins when it
was last created under that name: renames are not followed, and what was deleted and made anew is new.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fnsync.git import command
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId, Touch

#: Names the user whose edit over the API a commit is.
TRAILER = "Fnsync-User"

_MARK, _GAP = "\x1e", "\x1f"
_FORMAT = f"%x1e%H%x1f%ct%x1f%ae%x1f%(trailers:key={TRAILER},valueonly,separator=%x1f)"
_LOG = (
    "-c",
    "i18n.logOutputEncoding=UTF-8",
    "-c",
    "log.showRoot=true",
    "log",
    "-z",
    f"--format={_FORMAT}",
    "--name-status",
    "--no-renames",
    "--no-color",
    "--no-show-signature",
    # Each merged branch, children before parents, else by time.
    "--full-history",
    "--date-order",
    # Of a merge, what differs from all of its parents.
    "-c",
)


def touches(
    worktree: WorkTree, functions: Path, since: CommitId | None = None, before: Mapping[str, Touch] | None = None
) -> dict[str, Touch]:
    """First and last commit of each path, relative to `functions`; {} without commits.

    With `since`, the commit that `before` was computed at, only what came after it is walked; if that commit is
    no ancestor of HEAD any more (the history was rewritten), everything is. Paths that were deleted keep what
    they had. Times are the committer's. Raises RepositoryError.
    """
    head = worktree.head()
    if head is None:
        return {}
    known = dict(before or {})
    if since == head:
        return known
    incremental = since is not None and _is_ancestor(worktree, since, head)
    commits = f"{since}..{head}" if incremental else head
    scope = WorkTree(worktree.root, functions.resolve())
    found = _walk(_changes(command.fields(scope.root, *_LOG, commits, "--", scope.pathspec)))
    inside = {scope.inside(os.fsdecode(path)): span for path, span in found.items()}
    return _joined(known, inside) if incremental else {path: span.touch for path, span in inside.items()}


@dataclass(slots=True)
class _Span:
    """What the walk, from new to old, has seen of a path."""

    touch: Touch
    #: Its creation was seen; what is older belongs to a file that was deleted.
    whole: bool = False


def _is_ancestor(worktree: WorkTree, old: CommitId, new: CommitId) -> bool:
    # 128: the old commit is not even there any more
    code, _ = command.run(worktree.root, "merge-base", "--is-ancestor", old, new, allowed=(0, 1, 128))
    return code == 0


def _changes(fields: Iterable[bytes]) -> Iterator[tuple[Touch, str, bytes]]:
    """Each (commit as a touch, status letters, path) of a log, newest first."""
    touch: Touch | None = None
    status: str | None = None
    for field in fields:
        if status is not None:
            assert touch is not None
            yield touch, status, field
            status = None
        elif (text := field.decode(errors="replace").lstrip("\n")).startswith(_MARK):
            touch = _touch(text)
        elif text:
            status = text


def _touch(text: str) -> Touch:
    commit, time, email, *trailers = text.removeprefix(_MARK).split(_GAP)
    user = next((value.strip() for value in reversed(trailers) if value.strip()), email)
    return Touch(created_at=int(time), updated_at=int(time), commit=CommitId(commit), user_id=user)


def _walk(changes: Iterable[tuple[Touch, str, bytes]]) -> dict[bytes, _Span]:
    spans: dict[bytes, _Span] = {}
    for touch, status, path in changes:
        if "D" in status:
            continue
        span = spans.setdefault(path, _Span(touch))
        if not span.whole:
            span.touch = replace(span.touch, created_at=touch.created_at)
            # A merge has a letter per parent.
            span.whole = set(status) == {"A"}
    return spans


def _joined(before: dict[str, Touch], found: Mapping[str, _Span]) -> dict[str, Touch]:
    """What was known, carried on with what is new."""
    for path, span in found.items():
        old, new = before.get(path), span.touch
        if old is not None and not span.whole:
            # A branch that was merged late may bring a change that is older than one known already.
            latest = old if old.updated_at > new.updated_at else new
            new = replace(latest, created_at=min(old.created_at, new.created_at))
        before[path] = new
    return before
