"""Where files that were copied out of another repository came from, as the commits that copied them say.

    Origin-Url: <address, without credentials>
    Origin-Commit: <hash>
    Origin-Path: <folder or file there>
    Origin-Prefix: <what was put before the names of functions>

What such a commit added or changed came from there. It does no more once it was removed: what has its name afterwards
is something else. Lines are found anywhere in a message, so that a host may squash commits into one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fnsync.git import command, contents
from fnsync.git.location import same
from fnsync.git.log import GROUP, UTF8
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId

URL, COMMIT, PATH, PREFIX = "Origin-Url", "Origin-Commit", "Origin-Path", "Origin-Prefix"

_LINE = re.compile(rf"^({URL}|{COMMIT}|{PATH}|{PREFIX}):[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_MARK = "\x1e"
_COPIES = (
    *UTF8,
    *("log", "-z", f"--format={_MARK}%H{GROUP}%B", "--name-status", "--no-renames", "--no-color"),
    *("--no-show-signature", "--topo-order", f"--grep=^{URL}: "),
)
_DELETED = ("log", "-z", "--format=", "--name-only", "--diff-filter=D", "--no-renames", "--no-show-signature")


@dataclass(frozen=True, slots=True)
class Source:
    """A place in another repository, and what it was at one commit."""

    #: Without credentials.
    url: str
    commit: str
    #: None: the whole repository.
    path: str | None = None
    prefix: str = ""

    @property
    def lines(self) -> list[str]:
        """As a commit's message tells it."""
        told = {URL: self.url, COMMIT: self.commit, PATH: self.path, PREFIX: self.prefix}
        return [f"{key}: {value}" for key, value in told.items() if value]

    def is_place_of(self, other: Source) -> bool:
        """Whether the two are the same place, at whatever commits."""
        return same(self.url, other.url) and (self.path, self.prefix) == (other.path, other.prefix)


@dataclass(frozen=True, slots=True)
class Copied:
    """Where a file came from, and the commit that brought it."""

    source: Source
    made: CommitId


class Origins:
    """What is known of copied files, and of what became of them here. Blocking; raises RepositoryError."""

    def __init__(self, scope: WorkTree, url: str) -> None:
        """Of the files that came from the repository at `url`."""
        self._scope = scope
        #: Path from the functions folder -> where it came from.
        self.files = {path: one for path, one in copied(scope).items() if same(one.source.url, url)}
        #: Those that are something else on disk than they were when they came.
        self.edited = frozenset(self._edited())

    def base(self, path: str) -> bytes:
        """What a file was when it came."""
        _, data = command.run(
            self._scope.root, "cat-file", "blob", f"{self.files[path].made}:{self._scope.outside(path)}"
        )
        return data

    def _edited(self) -> Iterator[str]:
        for commit in {one.made for one in self.files.values()}:
            for path in contents.changed(self._scope, commit, [self._scope.pathspec]):
                if path in self.files and self.files[path].made == commit:
                    yield path


def copied(scope: WorkTree) -> dict[str, Copied]:
    """The files of the functions folder, by path relative to it, that came from elsewhere. Raises RepositoryError."""
    if scope.head() is None:
        return {}
    found: dict[str, Copied | None] = {}
    made: CommitId | None = None
    source: Source | None = None
    status = ""
    for field in command.fields(scope.root, *_COPIES, "HEAD", "--", scope.pathspec):
        text = os.fsdecode(field).lstrip("\n")
        if text.startswith(_MARK):
            commit, _, message = text[1:].partition(GROUP)
            made, source = CommitId(commit), read(message)
        elif status:
            if made is not None and source is not None:
                found.setdefault(scope.inside(text), None if status == "D" else Copied(source, made))
            status = ""
        else:
            status = text[:1]
    there = {path: one for path, one in found.items() if one is not None}
    for commit in {one.made for one in there.values()}:
        for path in _deleted(scope, commit):
            if path in there and there[path].made == commit:
                del there[path]
    return there


def read(message: str) -> Source | None:
    """What a commit's message says; None: nothing. Of a line that is there twice the last counts."""
    said: Mapping[str, str] = dict(_LINE.findall(message))
    if not said.get(URL) or not said.get(COMMIT):
        return None
    return Source(said[URL], said[COMMIT], said.get(PATH) or None, said.get(PREFIX, ""))


def _deleted(scope: WorkTree, since: CommitId) -> set[str]:
    """What was removed after a commit."""
    fields = command.fields(scope.root, *_DELETED, f"{since}..HEAD", "--", scope.pathspec)
    return {scope.inside(os.fsdecode(field).lstrip("\n")) for field in fields if field.strip()}
