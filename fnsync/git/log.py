"""Commits with what each changed, as a stream: children before parents, else by time.

The walk is limited to some paths. Commits that touch none of them are left out and the parents of the others
rewritten, so that the stream is a graph of its own. Merges are in it (unless both sides lead to the same commit),
and so is each branch that was merged.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

from fnsync.git import command
from fnsync.git.scope import Scope
from fnsync.git.trailers import ORIGIN, USER, Origin, read_origin
from fnsync.model import CommitId

#: A process compares the merges of so many commits at most.
MOST_IN_LOT = 4_096

#: So that what is printed does not depend on the user's configuration.
UTF8 = ("-c", "i18n.logOutputEncoding=UTF-8")
#: Stands between a commit's entries, and between the values of one.
GROUP, GAP = "\x1d", "\x1f"
#: The trailer with the user's id, which may be there several times.
USERS = f"%(trailers:key={USER},valueonly,separator=%x1f)"

_MARK = b"\x1e"
_ORIGINS = f"%(trailers:key={ORIGIN},valueonly,separator=%x1f)"
_LOG = (
    *UTF8,
    "-c",
    "log.showRoot=true",
    "log",
    "-z",
    f"--format=%x1e%H%x1d%P%x1d%ct%x1d%ae%x1d{USERS}%x1d{_ORIGINS}",
    "--raw",
    "--no-abbrev",
    "--no-renames",
    "--no-color",
    "--no-show-signature",
    "--full-history",
    "--parents",
    "--date-order",
)
_DIFF = ("diff-tree", "--stdin", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", "--always")


class Delta(NamedTuple):
    """What became of a file from a parent to a commit. Blob ids; None: it is not there."""

    before: str | None
    after: str | None
    #: False: only its permissions changed.
    alters: bool


#: Path from the functions folder -> what became of it.
Deltas = dict[str, Delta]


@dataclass(frozen=True, slots=True)
class Entry:
    """A commit of the stream."""

    commit: CommitId
    #: Those in the graph, or at its edge.
    parents: tuple[CommitId, ...]
    #: Committer's time, seconds since the epoch.
    at: int
    #: E-mail address.
    author: str
    #: The user id in the trailer.
    user_id: str | None
    #: Path from the repository's root -> what an import says of it.
    origins: dict[str, Origin]
    #: What changed from each parent, or, without parents, from nothing.
    deltas: tuple[Deltas, ...]


def entries(scope: Scope, commits: str, specs: Sequence[str]) -> Generator[Entry, None, None]:
    """The commits of a range (or up to a commit) that touch what `specs` name, with what they did to it.

    Raises RepositoryError.
    """
    stream = _entries(scope, command.fields(scope.root, *_LOG, commits, "--", *specs, variables=scope.variables))
    size = 1  # the caller may soon have enough, but a process for each merge would take long
    while lot := list(islice(stream, size)):
        if any(len(entry.parents) > 1 for entry in lot):
            lot = _with_merges(scope, lot, specs)
            size = min(size * 2, MOST_IN_LOT)
        yield from lot


def differences(scope: Scope, pairs: list[tuple[CommitId, CommitId]], specs: Sequence[str]) -> list[Deltas]:
    """What changed in each pair of a commit and a parent. Raises RepositoryError."""
    lines = "".join(f"{commit} {parent}\n" for commit, parent in pairs)
    _, output = command.run(scope.root, *_DIFF, "--", *specs, stdin=lines.encode(), variables=scope.variables)
    found: list[Deltas] = []
    raw: bytes | None = None
    for field in output.split(b"\0"):
        if raw is not None:
            found[-1][scope.inside(os.fsdecode(field))] = _delta(raw)
            raw = None
        elif field.startswith(b":"):
            raw = field
        elif field:
            found.append({})
    return found


def last_user(users: Iterable[str]) -> str | None:
    """The user id among a trailer's values: the last that is not blank, since ours goes last."""
    return next((user.strip() for user in reversed(list(users)) if user.strip()), None)


def _entries(scope: Scope, fields: Iterable[bytes]) -> Iterator[Entry]:
    """The entries of a log; merges are without deltas."""
    header: list[str] | None = None
    deltas: Deltas = {}
    raw: bytes | None = None
    for field in fields:
        if raw is not None:
            deltas[scope.inside(os.fsdecode(field))] = _delta(raw)
            raw = None
        elif (text := field.lstrip(b"\n")).startswith(_MARK):
            if header is not None:
                yield _entry(header, deltas)
            header, deltas = text[1:].decode(errors="replace").split(GROUP, 5), {}
        elif text:
            raw = text
    if header is not None:
        yield _entry(header, deltas)


def _entry(header: list[str], deltas: Deltas) -> Entry:
    commit, parents, time, author, users, origins = header
    return Entry(
        commit=CommitId(commit),
        parents=tuple(CommitId(parent) for parent in parents.split()),
        at=int(time),
        author=author,
        user_id=last_user(users.split(GAP)) if users else None,
        origins=dict(filter(None, map(read_origin, origins.split(GAP)))) if origins else {},
        deltas=(deltas,),
    )


def _delta(raw: bytes) -> Delta:
    mode_before, mode_after, before, after, *_ = raw[1:].decode().split(" ")
    was, is_ = before.strip("0") != "", after.strip("0") != ""
    # The first digits tell a file from a link; the others are permissions.
    alters = before != after or mode_before[:3] != mode_after[:3]
    return Delta(before if was else None, after if is_ else None, alters)


def _with_merges(scope: Scope, lot: list[Entry], specs: Sequence[str]) -> list[Entry]:
    """The entries with what merges changed from each parent."""
    pairs = [(entry.commit, parent) for entry in lot if len(entry.parents) > 1 for parent in entry.parents]
    found = iter(differences(scope, pairs, specs))
    return [
        replace(entry, deltas=tuple(islice(found, len(entry.parents)))) if len(entry.parents) > 1 else entry
        for entry in lot
    ]
