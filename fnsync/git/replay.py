"""Makes commits that are only here anew on top of what the remote has, each with its author, times and message.

No working tree is touched and no branch moved: what comes out are commits. One that does not fit what the remote has
is left out, with those that build on it; they come out as a line of their own, which begins where the two sides parted.
The same commits on the same ground come to the same hashes (unless they are signed), so it may be done again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fnsync.git import command
from fnsync.git.blobs import Blobs
from fnsync.git.commit import DURABLE, scratch_index
from fnsync.git.fitting import Clash, Files, fitted, keys
from fnsync.git.log import USERS, UTF8
from fnsync.git.threeway import Leaf
from fnsync.git.trailers import KEPT
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId

_FIELDS = ("%H", "%P", USERS, f"%(trailers:key={KEPT})", "%an", "%ae", "%ad", "%cn", "%ce", "%cd", "%ct", "%s", "%B")
_ABSENT = "000000"
#: Why a commit is left out that would fit by itself.
BUILDS_ON = "it builds on"


@dataclass(frozen=True, slots=True)
class Local:
    """A commit that is only here."""

    commit: CommitId
    parents: tuple[CommitId, ...]
    #: Whether it was made for the API, and not by a person's own git.
    is_ours: bool
    #: Name, address and time, as git takes them.
    author: tuple[str, str, str]
    committer: tuple[str, str, str]
    #: Committer's time, seconds since the epoch.
    at: int
    subject: str
    message: bytes


@dataclass(frozen=True, slots=True)
class Dropped:
    """A commit that does not fit what the remote has."""

    #: As it is on the line of its own.
    commit: CommitId
    author: str
    #: Committer's time, seconds since the epoch.
    at: int
    subject: str
    #: Files that do not fit, from the working tree's root.
    paths: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a replay."""

    #: The last commit on top of what the remote has; that itself if none fits.
    tip: CommitId
    #: How many commits are there.
    count: int
    dropped: tuple[Dropped, ...] = ()
    #: The end of the line with those that do not fit.
    aside: CommitId | None = None


def only_here(worktree: WorkTree, ours: CommitId, theirs: CommitId) -> list[Local]:
    """The commits that `ours` has and `theirs` has not, oldest first. Raises RepositoryError."""
    form = "%x00".join(_FIELDS)
    options = ("-z", "--reverse", "--topo-order", "--no-show-signature", "--date=raw", f"--format={form}")
    _, found = command.run(worktree.root, *UTF8, "log", *options, f"{theirs}..{ours}", "--")
    fields = found.split(b"\0")
    size = len(_FIELDS)
    return [_local(fields[at : at + size]) for at in range(0, len(fields) - size + 1, size)]


def _local(fields: Sequence[bytes]) -> Local:
    commit, parents, users, kept, *who, at, subject = (os.fsdecode(field) for field in fields[:-1])
    return Local(
        CommitId(commit),
        tuple(CommitId(parent) for parent in parents.split()),
        bool(users.strip() or kept.strip()),
        # Without the sign git takes small numbers for something else.
        (who[0], who[1], f"@{who[2]}"),
        (who[3], who[4], f"@{who[5]}"),
        int(at),
        subject,
        fields[-1],
    )


def replay(worktree: WorkTree, commits: Sequence[Local], theirs: CommitId) -> Replayed:
    """Make `commits` (from `only_here`, at least one, without merges) anew on top of `theirs`.

    A commit whose change is there already is kept as an empty one. Raises RepositoryError, NotWritable.
    """
    base = commits[0].parents[0]
    steps = [_Step(commit, changes(worktree, commit)) for commit in commits]
    with ExitStack() as stack:
        line = _Line(worktree, stack.enter_context(scratch_index(worktree)), theirs)
        blobs = stack.enter_context(Blobs(worktree.root))
        clashes = _take(worktree, blobs, line, steps, _files(worktree, base))
        if not clashes:
            return Replayed(line.tip, line.count)
        aside = _Line(worktree, stack.enter_context(scratch_index(worktree)), base)
        made = {step.local.commit: aside.add(step.local, step.after) for step in _whole(worktree, steps, clashes)}
    dropped = tuple(_dropped(step.local, made, clashes) for step in steps if step.local.commit in clashes)
    return Replayed(line.tip, line.count, dropped, aside.tip)


@dataclass(frozen=True, slots=True)
class _Step:
    """A commit, and what each path that it changed was before and is after."""

    local: Local
    changes: Mapping[str, tuple[Leaf | None, Leaf | None]]

    @property
    def after(self) -> dict[str, Leaf | None]:
        return {path: after for path, (_, after) in self.changes.items()}

    def keys(self, worktree: WorkTree) -> set[str]:
        return keys(worktree, self.changes)


def _take(worktree: WorkTree, blobs: Blobs, line: _Line, steps: Iterable[_Step], files: Files) -> dict[CommitId, Clash]:
    """Add what fits to `line`; returns what does not. `files`: those that the first one was made from."""
    clashes: dict[CommitId, Clash] = {}
    lost: dict[str, CommitId] = {}
    for step in steps:
        after = changed(files, step.after)
        on = [lost[key] for key in sorted(step.keys(worktree) & lost.keys())]
        if on:
            clash = Clash(tuple(step.changes), BUILDS_ON, on[0])
        else:
            found = fitted(worktree, blobs, step.changes, line.files, files, after)
            if not isinstance(found, Clash):
                line.add(step.local, found)
                files = after
                continue
            clash = found
        clashes[step.local.commit] = clash
        lost |= dict.fromkeys(step.keys(worktree), step.local.commit)
        files = after
    return clashes


def _whole(worktree: WorkTree, steps: Sequence[_Step], clashes: Collection[CommitId]) -> list[_Step]:
    """The commits that clash, and those before them that they build on: without these they would be torn."""
    wanted: set[str] = set()
    found = []
    for step in reversed(steps):
        if step.local.commit in clashes or wanted & step.keys(worktree):
            wanted |= step.keys(worktree)
            found.append(step)
    return found[::-1]


def _dropped(local: Local, made: Mapping[CommitId, CommitId], clashes: Mapping[CommitId, Clash]) -> Dropped:
    clash = clashes[local.commit]
    reason = clash.reason if clash.on is None else f"{clash.reason} {made[clash.on][:8]}"
    return Dropped(made[local.commit], local.author[0], local.at, local.subject, clash.paths, reason)


def changes(worktree: WorkTree, commit: Local) -> dict[str, tuple[Leaf | None, Leaf | None]]:
    """Path from the root -> what a commit found there and what it made of it; None: there is no file."""
    line = ("diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", "--no-ext-diff")
    _, found = command.run(worktree.root, *line, commit.parents[0], commit.commit, "--")
    fields = iter(found.split(b"\0"))
    told = {}
    for raw in fields:
        if raw:
            mode_before, mode_after, before, after, _ = raw[1:].decode().split(" ")
            told[os.fsdecode(next(fields))] = (_leaf(mode_before, before), _leaf(mode_after, after))
    return told


def _leaf(mode: str, blob: str) -> Leaf | None:
    return None if mode == _ABSENT else Leaf(mode, blob)


def changed(files: Files, after: Mapping[str, Leaf | None]) -> dict[str, Leaf]:
    """The files with a commit's changes made."""
    return {path: leaf for path, leaf in {**files, **after}.items() if leaf is not None}


def _files(worktree: WorkTree, commit: CommitId) -> dict[str, Leaf]:
    _, found = command.run(worktree.root, "ls-tree", "-r", "-z", "--full-tree", commit)
    files = {}
    for entry in found.split(b"\0"):
        if entry:
            about, _, name = entry.partition(b"\t")
            mode, _, blob = about.decode().split()
            files[os.fsdecode(name)] = Leaf(mode, blob)
    return files


class _Line:
    """Commits that are made one after the other, through an index of their own."""

    def __init__(self, worktree: WorkTree, index: Path, base: CommitId) -> None:
        self.tip = base
        self.count = 0
        self.files: Files = _files(worktree, base)
        self._worktree = worktree
        self._index = {"GIT_INDEX_FILE": str(index)}
        self._signs = (
            command.run(worktree.root, "config", "--type=bool", "--get", "commit.gpgSign", allowed=(0, 1))[1].strip()
            == b"true"
        )
        command.run(worktree.root, "read-tree", base, variables=self._index)

    def add(self, local: Local, after: Mapping[str, Leaf | None]) -> CommitId:
        """Commit what becomes of some paths; returns the commit."""
        self.count += 1
        if self.tip == local.parents[0]:
            self.tip = local.commit  # it is on this ground already
            self._stage(after)
            return self.tip
        self._stage(after)
        _, tree = command.run(self._worktree.root, *DURABLE, "write-tree", variables=self._index)
        line = ("commit-tree", *(["-S"] if self._signs else []), "-p", self.tip, tree.decode().strip())
        names = ("NAME", "EMAIL", "DATE")
        variables = {f"GIT_AUTHOR_{name}": text for name, text in zip(names, local.author, strict=True)}
        variables |= {f"GIT_COMMITTER_{name}": text for name, text in zip(names, local.committer, strict=True)}
        options = (*DURABLE, "-c", "i18n.commitEncoding=UTF-8")
        _, made = command.run(self._worktree.root, *options, *line, stdin=local.message, variables=variables)
        self.tip = CommitId(made.decode().strip())
        return self.tip

    def _stage(self, after: Mapping[str, Leaf | None]) -> None:
        # What goes makes room for what comes: a file for a folder, or the other way round.
        ordered = sorted(after.items(), key=lambda item: item[1] is not None)
        gone = Leaf("0", "0" * len(self.tip))
        lines = ((leaf or gone, path) for path, leaf in ordered)
        entries = b"".join(f"{leaf.mode} {leaf.blob}\t".encode() + os.fsencode(path) + b"\0" for leaf, path in lines)
        if entries:
            line = ("update-index", "-z", "--index-info")
            command.run(self._worktree.root, *line, stdin=entries, variables=self._index)
        self.files = changed(self.files, after)
