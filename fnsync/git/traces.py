"""What git knows of each path in the functions folder, as values."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace

from fnsync.git.trailers import Origin
from fnsync.model import CommitId
from fnsync.places import owners, settings_of


@dataclass(frozen=True, slots=True)
class Change:
    """A commit that touched a path."""

    commit: CommitId
    #: Seconds since the epoch.
    at: int
    #: The user id in the commit's trailer, else the author's e-mail address.
    user_id: str
    #: Greater than that of all commits before it, also within one second; else the time.
    order: int


@dataclass(frozen=True, slots=True)
class Trace:
    """What git knows of a path. Times in seconds since the epoch."""

    #: None: it was not touched by these commits.
    last: Change | None = None
    #: When and by whom it was created, or what an import says; None: it was there before these commits.
    created_at: int | None = None
    user_id: str | None = None
    #: A commit, and the time at which, as an import says there, the function was changed.
    updated: tuple[CommitId, int] | None = None


@dataclass(frozen=True, slots=True)
class Touches:
    """What git knows of the functions folder at a commit. Paths are relative to the folder."""

    #: None: there is none yet.
    head: CommitId | None = None
    #: No change up to here has a greater order.
    latest: int = 0
    #: Of the files that are in the commit.
    traces: Mapping[str, Trace] = field(default_factory=dict)
    #: Source -> the last removal of another file of its function.
    removals: Mapping[str, Change] = field(default_factory=dict)
    #: Source -> the commit that made the function what it is; a merge may have touched none of its files by itself.
    versions: Mapping[str, Change] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """A commit that the server itself has just made. Paths are relative to the functions folder."""

    commit: CommitId
    #: What HEAD was before.
    parent: CommitId | None
    #: Committer's time, seconds since the epoch.
    at: int
    user_id: str
    #: Files with new content.
    written: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    #: The settings files among them whose name or meta differ from before.
    labelled: frozenset[str] = frozenset()
    #: Source -> what an import says of it.
    origins: Mapping[str, Origin] = field(default_factory=dict)


def differing(before: Touches, after: Touches) -> frozenset[str]:
    """The files, and the functions' sources, of which git knows something else."""
    pairs = ((before.traces, after.traces), (before.removals, after.removals), (before.versions, after.versions))
    return frozenset(path for old, new in pairs for path in old.keys() | new.keys() if old.get(path) != new.get(path))


def carried_on(touches: Touches, made: Made, elsewhere: Container[str] = ()) -> Touches:
    """What git knows with one commit more. `elsewhere`: paths that git knows though `touches` does not."""
    change = Change(made.commit, made.at, made.user_id, max(made.at, touches.latest + 1))
    traces = dict(touches.traces)
    for path in made.written:
        is_new = path not in traces and path not in elsewhere
        known = Trace(None, made.at, made.user_id) if is_new else traces.get(path, Trace())
        traces[path] = replace(known, last=change)
    for path, origin in made.origins.items():
        if path in traces or path in elsewhere:
            traces[path] = _with_origin(traces.get(path, Trace()), origin, made.commit)
    for path in made.removed:
        traces.pop(path, None)
    versions, removals = dict(touches.versions), dict(touches.removals)
    for path in made.written | made.removed:
        for owner in owners(path):
            if path != settings_of(owner) or path in made.labelled:
                versions[owner] = change
            if path in made.removed and path != owner:
                removals[owner] = change
    for path in made.removed:
        versions.pop(path, None)
    head = made.commit if made.parent == touches.head else touches.head
    return Touches(head, change.order, traces, removals, versions)


def _with_origin(trace: Trace, origin: Origin, commit: CommitId) -> Trace:
    return replace(
        trace,
        created_at=trace.created_at if origin.created_at is None else origin.created_at,
        user_id=origin.user_id or trace.user_id,
        updated=trace.updated if origin.updated_at is None else (commit, origin.updated_at),
    )
