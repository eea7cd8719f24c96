"""The versions of one function: the commits that changed what it is, under all names that it had.

A history begins where the function was last created. What was deleted and made anew is new, unless git sees a
rename; another function that had the same name before or afterwards is not mixed in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fnsync.errors import NotFound
from fnsync.git import command
from fnsync.git.lineage import Station, lineage
from fnsync.git.log import GAP, GROUP, USERS, UTF8, last_user
from fnsync.git.scope import Scope
from fnsync.git.trailers import without_ours
from fnsync.model import CommitId

#: How much of a text that is no version goes into an error.
SHOWN_CHARS = 80
_LISTED = "the history of the function lists those there are"

_HEX = re.compile(r"[0-9a-fA-F]{4,64}")
_LOG = (
    *UTF8,
    "log",
    "-z",
    f"--format=%H%x1d%an%x1d%ae%x1d{USERS}%x1d%B",
    "--no-patch",
    "--no-color",
    "--no-show-signature",
    "--no-walk=unsorted",
    "--stdin",
)


@dataclass(frozen=True, slots=True)
class Version:
    """A commit that changed what a function is."""

    commit: CommitId
    #: The version before it in the list; None: it is the first.
    parent: CommitId | None
    #: Without our own trailers.
    message: str
    author: str
    #: The author's address.
    email: str
    #: The user whose edit over the API it was.
    user_id: str | None
    #: Committer's time, seconds since the epoch.
    at: int
    #: The function's source at that commit, relative to the functions folder.
    path: str


def versions(
    worktree: Scope, functions: Path, source: str, *, skip: int = 0, limit: int | None = None
) -> list[Version]:
    """The versions of the function whose source is `source` at HEAD, newest first; [] if it is in no commit.

    Raises RepositoryError.
    """
    scope = worktree.of(functions)
    found = _versions(scope, source)
    return _described(scope, found, skip, len(found) if limit is None else skip + limit)


def version(worktree: Scope, functions: Path, source: str, text: str) -> Version:
    """The version that a full or shortened hash names. Raises NotFound, RepositoryError."""
    commit = resolve(worktree, text)
    scope = worktree.of(functions)
    found = _versions(scope, source)
    at = next((at for at, station in enumerate(found) if station.commit == commit), None)
    if at is None:
        raise NotFound(f"the commit {commit} is no version of {source}", hint=_LISTED)
    return _described(scope, found, at, at + 1)[0]


def resolve(worktree: Scope, text: str) -> CommitId:
    """The commit that a full or shortened hash names, be it whose it may. Raises NotFound, RepositoryError."""
    shown = repr(text[:SHOWN_CHARS])
    if _HEX.fullmatch(text) is None:
        raise NotFound(
            f"{shown} is no version: expected 4 to 64 hexadecimal digits of a commit",
            hint=_LISTED,
        )
    # Unlike a plain argument this takes no name of a branch, which may look like a hash.
    _, output = command.run(worktree.root, "rev-parse", f"--disambiguate={text.lower()}", variables=worktree.variables)
    candidates = output.decode().split()
    asked = ("cat-file", "--batch-check=%(objectname) %(objecttype)")
    _, kinds = command.run(worktree.root, *asked, stdin=output, variables=worktree.variables)
    commits = [line.split()[0] for line in kinds.decode().splitlines() if line.endswith(" commit")]
    if len(commits) > 1:
        raise NotFound(f"{shown} is ambiguous: {len(commits)} commits begin with it", hint="give more digits")
    if not commits:
        what = "names no commit" if candidates else "is no commit of this repository"
        raise NotFound(f"{shown} {what}", hint=_LISTED)
    return CommitId(commits[0])


def _versions(scope: Scope, source: str) -> list[Station]:
    head = scope.head()
    return [] if head is None else [station for station in lineage(scope, head, source) if station.is_version]


def _described(scope: Scope, found: Sequence[Station], start: int, end: int) -> list[Version]:
    """Those from `start` to `end`, with what their commits say."""
    asked = found[start:end]
    if not asked:
        return []
    lines = "".join(f"{station.commit}\n" for station in asked)
    _, output = command.run(scope.root, *_LOG, stdin=lines.encode(), variables=scope.variables)
    said: dict[str, list[str]] = {}
    for record in output.decode(errors="replace").split("\0"):
        commit, *rest = record.split(GROUP, 4)
        said[commit.strip()] = rest
    parents = [station.commit for station in found[start + 1 : end + 1]] + [None]
    return [_version(station, parent, *said[station.commit]) for station, parent in zip(asked, parents, strict=False)]


def _version(station: Station, parent: CommitId | None, author: str, email: str, users: str, message: str) -> Version:
    return Version(
        commit=station.commit,
        parent=parent,
        message=without_ours(message),
        author=author,
        email=email,
        user_id=last_user(users.split(GAP)),
        at=station.at,
        path=station.path,
    )
