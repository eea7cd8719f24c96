"""Moves the working tree and its branch on to another commit, and leaves uncommitted work alone.

Only paths that differ between the two commits are touched, each by one rename, so that whoever looks finds the old
file or the new one.

    step        then a crash leaves                          the next start
    staged      new files in a folder in git's folder        removes the folder
    put         …and some files as the new commit has them   completes the move (git.moving): it takes these for what
    indexed     …and the index as the new commit has it      they are, and goes on
    moved       nothing
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fnsync.errors import PullRefused
from fnsync.git import command, moving
from fnsync.git.commit import PREFIX, scratch_index
from fnsync.git.lock import writing
from fnsync.git.moving import Move
from fnsync.git.worktree import State, WorkTree
from fnsync.model import CommitId

#: How long filters may take that make the new files, in seconds.
CHECKOUT_S = 120.0
#: How many paths one command line names.
AT_ONCE = 1000
#: How many paths a message names.
NAMED = 10

_GONE, _LINK, _SUBMODULE = "000000", "120000", "160000"
#: Names of files that take the place of others where a rename cannot; discovery and the watcher look at none of them.
_TEMPORARY = ".fnsync-"

#: What tells that a file is still the same: its inode, size, time, mode; None: there is none.
Stamp = tuple[int, int, int, int] | None


@dataclass(frozen=True, slots=True)
class Entry:
    """What the new commit has at a path (from the root)."""

    path: str
    mode: str
    blob: str

    @property
    def is_gone(self) -> bool:
        return self.mode == _GONE


def forward(
    worktree: WorkTree,
    base: CommitId,
    target: CommitId,
    refs: Mapping[str, CommitId] = {},
    on_step: Callable[[str], None] = lambda step: None,
) -> tuple[str, ...]:
    """Go from `base`, which is HEAD, to `target`; returns the paths (from the root) that differ.

    `refs` are made together with it: all or none. Under the working tree's lock. Raises PullRefused, which names the
    paths in the way, RepositoryError, NotWritable; then everything is as it was. `on_step` is told each step.
    """
    entries = changes(worktree, base, target)
    seen = {entry.path: _stamp(worktree.root / entry.path) for entry in entries}
    same = _in_the_way(worktree, entries)
    with scratch_index(worktree) as index, _folder(worktree) as folder:
        variables = {"GIT_INDEX_FILE": str(index)}
        _make_index(worktree, index, same, base, target, variables)
        taken = set(same) | _left_out(worktree, variables)
        todo = [entry for entry in entries if entry.path not in taken and entry.mode != _SUBMODULE]
        fresh = folder / "new"
        _check_out(worktree, [entry.path for entry in todo if not entry.is_gone], fresh, variables)
        on_step("staged")
        with _noted(worktree, Move(base, target, refs)), _put(worktree, todo, seen, fresh, folder / "old"):
            on_step("put")
            command.run(worktree.root, "update-index", "-q", "--refresh", allowed=(0, 1), variables=variables)
            with _indexed(worktree, index):
                on_step("indexed")
                _move_refs(worktree, base, target, refs)
                on_step("moved")
    return tuple(entry.path for entry in entries)


def resume(worktree: WorkTree) -> Resumed | None:
    """Complete the move that a crash cut off, under the lock; None: there is none, or HEAD is elsewhere by now.

    Raises what `forward` raises.
    """
    move = moving.unfinished(worktree)
    if move is None:
        return None
    if worktree.head() != move.base:
        moving.end(worktree)
        return None
    return Resumed(move.target, forward(worktree, move.base, move.target, move.refs))


@dataclass(frozen=True, slots=True)
class Resumed:
    """A move that was completed. `paths`: those that differ, from the root."""

    target: CommitId
    paths: tuple[str, ...]


@contextmanager
def _noted(worktree: WorkTree, move: Move) -> Iterator[None]:
    moving.begin(worktree, move)
    try:
        yield
    finally:
        moving.end(worktree)


def _move_refs(worktree: WorkTree, base: CommitId, target: CommitId, refs: Mapping[str, CommitId]) -> None:
    lines = [f"update HEAD {target} {base}\n", *(f"update {ref} {commit}\n" for ref, commit in refs.items())]
    reason = "fnsync: pull"
    command.run(worktree.root, "update-ref", "-m", reason, "--stdin", stdin="".join(lines).encode())


def changes(worktree: WorkTree, base: CommitId, target: CommitId) -> list[Entry]:
    """What differs between two commits. Raises RepositoryError."""
    line = ("diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", "--no-ext-diff", base, target, "--")
    _, found = command.run(worktree.root, *line)
    fields = iter(found.split(b"\0"))
    entries = []
    for raw in fields:
        if raw:
            _, mode, _, blob, _ = raw.decode().split(" ")
            entries.append(Entry(os.fsdecode(next(fields)), mode, blob))
    return entries


# ---- what is in the way ----------------------------------------------------------------------------------


def _in_the_way(worktree: WorkTree, entries: Sequence[Entry]) -> dict[str, Entry]:
    """The entries whose files are on disk already as the new commit has them, though HEAD has not.

    Raises PullRefused if there are others that differ from HEAD: somebody's work.
    """
    states: dict[str, State] = {}
    for first in range(0, len(entries), AT_ONCE):
        states |= worktree.uncommitted([entry.path for entry in entries[first : first + AT_ONCE]])
    changed = [entry for entry in entries if states.get(entry.path) in ("changed", "untracked")]
    same = {entry.path: entry for entry in _already(worktree, changed)}
    foreign = sorted(path for path in states if path not in same)
    if foreign:
        raise PullRefused(
            f"changed both here and there: {_named(foreign)}; nothing was pulled",
            hint="commit, stash or discard what is uncommitted there",
        )
    return same


def _named(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(paths[:NAMED]) + more


def _already(worktree: WorkTree, entries: Sequence[Entry]) -> Iterator[Entry]:
    files = []
    for entry in entries:
        file = worktree.root / entry.path
        if _is_outside(worktree, file):
            continue
        if entry.is_gone:
            if not os.path.lexists(file):
                yield entry
        elif entry.mode == _LINK:
            if file.is_symlink() and _hash(worktree, os.fsencode(file.readlink())) == entry.blob:
                yield entry
        elif entry.mode != _SUBMODULE and _is_plain(file, entry) and "\n" not in entry.path:
            files.append(entry)
    if files:
        named = b"".join(os.fsencode(entry.path) + b"\n" for entry in files)
        _, found = command.run(worktree.root, "hash-object", "--stdin-paths", stdin=named)
        yield from (entry for entry, blob in zip(files, found.decode().split(), strict=True) if blob == entry.blob)


def _is_plain(file: Path, entry: Entry) -> bool:
    stamp = _stamp(file)
    if stamp is None or not stat.S_ISREG(stamp[3]):
        return False
    return bool(stamp[3] & stat.S_IXUSR) == (entry.mode == "100755")


def _hash(worktree: WorkTree, content: bytes) -> str:
    _, found = command.run(worktree.root, "hash-object", "--stdin", stdin=content)
    return found.decode().strip()


def _is_outside(worktree: WorkTree, file: Path) -> bool:
    """Whether a link leads to the file's folder: what git has below it is not there."""
    return file.parent.resolve() != file.parent


def _stamp(file: Path) -> Stamp:
    try:
        found = file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


# ---- the index -------------------------------------------------------------------------------------------


def _make_index(
    worktree: WorkTree,
    index: Path,
    same: Mapping[str, Entry],
    base: CommitId,
    target: CommitId,
    variables: Mapping[str, str],
) -> None:
    """Have `index` be as the working tree's own is to become. Git looks once more whether anything is in the way."""
    current = worktree.git_folder / "index"
    with writing(current.parent):
        if current.exists():
            shutil.copyfile(current, index)
    if same:
        named = b"".join(f"{e.mode} {e.blob}\t".encode() + os.fsencode(e.path) + b"\0" for e in same.values())
        command.run(worktree.root, "update-index", "-z", "--index-info", stdin=named, variables=variables)
    command.run(worktree.root, "update-index", "-q", "--refresh", allowed=(0, 1), variables=variables)
    tried = command.attempt(worktree.root, "read-tree", "-n", "-m", "-u", base, target, variables=variables)
    if tried.code:
        raise PullRefused(
            f"something is in the way of what is there; nothing was pulled: {tried.said}",
            hint="commit it, or move it away",
        )
    command.run(worktree.root, "read-tree", "-m", base, target, variables=variables)


def _left_out(worktree: WorkTree, variables: Mapping[str, str]) -> set[str]:
    """Paths that this working tree is to have no files of (sparse checkout)."""
    _, found = command.run(worktree.root, "ls-files", "-t", "-z", variables=variables)
    return {os.fsdecode(entry[2:]) for entry in found.split(b"\0") if entry[:1] == b"S"}


@contextmanager
def _indexed(worktree: WorkTree, index: Path) -> Iterator[None]:
    """Put `index` in the place of the working tree's own; if the block fails, the old one comes back."""
    current = worktree.git_folder / "index"
    with scratch_index(worktree) as old:
        with writing(current.parent):
            if current.exists():
                shutil.copyfile(current, old)
            index.replace(current)
        try:
            yield
        except BaseException:
            if old.exists():
                old.replace(current)
            else:
                current.unlink()
            raise


# ---- the files -------------------------------------------------------------------------------------------


@contextmanager
def _folder(worktree: WorkTree) -> Iterator[Path]:
    """A folder for files under way, in git's folder, where nobody looks for functions."""
    folder = worktree.git_folder / f"{PREFIX}{secrets.token_hex(8)}.pull"
    try:
        with writing(folder.parent):
            (folder / "old").mkdir(parents=True)
            (folder / "new").mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_out(worktree: WorkTree, paths: Collection[str], folder: Path, variables: Mapping[str, str]) -> None:
    """Write the index's files below `folder`, as git would write them in their place."""
    named = b"".join(os.fsencode(path) + b"\0" for path in paths)
    line = ("checkout-index", "-q", "-z", "--stdin", f"--prefix={folder}/")
    done = command.attempt(worktree.root, *line, stdin=named, variables=variables, limit_s=CHECKOUT_S)
    if done.code:
        raise command.failure(worktree.root, line, done)


@contextmanager
def _put(
    worktree: WorkTree, entries: Sequence[Entry], seen: Mapping[str, Stamp], fresh: Path, old: Path
) -> Iterator[None]:
    """Put the new files in their places; if that or the block fails, the old ones come back."""
    done: list[tuple[Path, Path | None]] = []
    # What goes makes room for what comes: a file for a folder, or the other way round.
    ordered = sorted(entries, key=lambda entry: not entry.is_gone)
    try:
        with writing(worktree.root):
            for number, entry in enumerate(ordered):
                file = worktree.root / entry.path
                if _stamp(file) != seen[entry.path] or _is_outside(worktree, file):
                    raise PullRefused(f"{entry.path} changed meanwhile; nothing was pulled", hint="try again")
                kept = old / str(number) if seen[entry.path] is not None else None
                if kept is not None:
                    _keep(file, kept)
                done.append((file, kept))
                if not entry.is_gone:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    _move(fresh / entry.path, file)
                elif kept is not None:
                    file.unlink()
                    _remove_empty(file.parent, worktree)
        yield
    except BaseException:
        for file, kept in reversed(done):
            _take_back(worktree, file, kept)
        raise


def _keep(file: Path, kept: Path) -> None:
    """A second name for a file, or a copy where it lies on another disk."""
    try:
        os.link(file, kept, follow_symlinks=False)
    except OSError:
        shutil.copy2(file, kept, follow_symlinks=False)


def _move(source: Path, file: Path) -> None:
    """Put a file in its place at once, also from another disk."""
    try:
        source.replace(file)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        beside = file.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}.new")
        try:
            shutil.copy2(source, beside, follow_symlinks=False)
            beside.replace(file)
        finally:
            beside.unlink(missing_ok=True)


def _take_back(worktree: WorkTree, file: Path, kept: Path | None) -> None:
    if kept is None:
        with suppress(FileNotFoundError):
            file.unlink()
            _remove_empty(file.parent, worktree)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    _move(kept, file)


def _remove_empty(folder: Path, worktree: WorkTree) -> None:
    """Folders that nothing is left in go, as with git; the functions folder stays."""
    functions = worktree.root / worktree.prefix
    with suppress(OSError):  # not empty
        while folder not in (functions, worktree.root):
            folder.rmdir()
            folder = folder.parent
