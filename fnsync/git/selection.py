"""What of a commit is wanted: its files at a path, filtered, counted, and checked before anything is written.

A repository may be anyone's: names and numbers are not trusted.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pathspec import GitIgnoreSpec

from fnsync.errors import RepositoryError, SourceRefused
from fnsync.git import command
from fnsync.model import CommitId

#: What file systems take, in bytes of UTF-8.
_MAX_NAME_BYTES = 255
#: Leaves room for the folder that the files go to.
_MAX_PATH_BYTES = 3000
#: How many entries are looked at for each file that may be taken; trees can be made that list without end.
_LOOKED_AT = 100
#: How many folders are looked through for one whose name is like that of a missing one.
_COMPARED = 5_000
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\\]")
#: Parts that no path may have, in lower case.
_ELSEWHERE = frozenset(("", ".", "..", ".git"))
_LINK, _SUBMODULE = "120000", "160000"


@dataclass(frozen=True)
class Selection:
    """Which files of a commit count. Patterns are those of .gitignore, about paths below `path`."""

    #: Folder in the repository, POSIX.
    path: str = "."
    #: Empty: all.
    include: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    #: What goes before a path when the patterns are asked; of a submodule, where it lies.
    prefix: str = ""

    def has(self, path: str) -> bool:
        """Whether a file counts; its path is relative to `path`."""
        path = self.prefix + path
        if self.include and not self._included.check_file(path).include:
            return False
        return not (self.ignore and self._ignored.check_file(path).include)

    def has_submodule(self, path: str) -> bool:
        """Whether anything of a submodule may count."""
        return not (self.ignore and self._ignored.check_file(f"{self.prefix}{path}/").include)

    def of_submodule(self, path: str) -> Selection:
        """The same about a submodule's own files."""
        return Selection(".", self.include, self.ignore, f"{self.prefix}{path}/")

    @cached_property
    def _included(self) -> GitIgnoreSpec:
        return _spec(self.include)

    @cached_property
    def _ignored(self) -> GitIgnoreSpec:
        return _spec(self.ignore)

    def tree(self, commit: CommitId) -> str:
        """What git calls the folder at a commit. Raises SourceRefused."""
        parts = [part for part in self.path.split("/") if part not in ("", ".")]
        if ".." in parts or "\0" in self.path:
            raise SourceRefused(f"{self.path!r} is no folder of a repository")
        return f"{commit}:{'/'.join(parts)}"


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """The most that is taken of one commit."""

    files: int = 20_000
    bytes: int = 512 * 1024**2
    #: How long its listing may take: folders can be nested in one another so that there is no end to it.
    seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Listing:
    """What a commit has, by path relative to the selection's folder; a value is the content's id."""

    files: dict[str, str]
    #: Symbolic links; the content is where they lead.
    links: dict[str, str]
    #: Folders that are another repository's commit.
    submodules: dict[str, CommitId]


def listing(repository: Path, commit: CommitId, selection: Selection, limits: TreeLimits) -> Listing:
    """What is selected at a commit. Raises SourceRefused, RepositoryError."""
    found = Listing({}, {}, {})
    for mode, id, raw in _entries(repository, commit, selection, (limits.files + 1) * _LOOKED_AT, limits.seconds):
        path = os.fsdecode(raw)
        if not (selection.has_submodule if mode == _SUBMODULE else selection.has)(path):
            continue
        _check_name(raw, path, commit)
        if path in found.files or path in found.links or path in found.submodules:
            raise SourceRefused(f"{commit[:12]} has {path} twice")
        if mode == _SUBMODULE:
            found.submodules[path] = CommitId(id)
            continue
        (found.links if mode == _LINK else found.files)[path] = id
        if len(found.files) + len(found.links) > limits.files:
            raise SourceRefused(
                f"{commit[:12]} has more than the {limits.files:,} files that are taken{_where(selection)}; "
                f"the first beyond is {path}",
                hint="name the folder of the functions as the source's path, or raise sync.max_files",
            )
    _check_folders(found, commit)
    return found


def changed(repository: Path, old: CommitId, new: CommitId, selection: Selection) -> frozenset[str] | None:
    """The paths in which two commits differ below the selection's folder, removed ones too, whatever is selected.

    None: git cannot tell, because it has not both.
    """
    line = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", selection.tree(old), selection.tree(new))
    done = command.attempt(repository, *line)
    return frozenset(map(os.fsdecode, filter(None, done.output.split(b"\0")))) if done.code == 0 else None


def moves_submodules(repository: Path, old: CommitId, new: CommitId, selection: Selection) -> bool:
    """Whether a submodule came, left or is at another commit: what its files are now, their own repository tells."""
    done = command.attempt(
        repository, "diff-tree", "-r", "-z", "--no-renames", selection.tree(old), selection.tree(new)
    )
    about = (entry.split(b" ") for entry in done.output.split(b"\0") if entry.startswith(b":"))
    return any(_SUBMODULE.encode() in (entry[0][1:], entry[1]) for entry in about)


def printable(path: str) -> str:
    """A path for people, whatever is in it."""
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace").encode("unicode_escape").decode()


def _entries(
    repository: Path, commit: CommitId, selection: Selection, most: int, limit_s: float
) -> Iterator[tuple[str, str, bytes]]:
    """Mode, id and path of each entry."""
    line = ("ls-tree", "-r", "-z", "--full-tree", selection.tree(commit))
    try:
        for number, entry in enumerate(command.fields(repository, *line, limit_s=limit_s)):
            if number >= most:
                raise SourceRefused(
                    f"{commit[:12]} has more than {most:,} entries{_where(selection)}, selected or not",
                    hint="name the folder of the functions as the source's path",
                )
            about, _, path = entry.partition(b"\t")
            mode, _, id = about.decode().split()
            yield mode, id, path
    except command.TookTooLong as exc:
        raise SourceRefused(
            f"the files of {commit[:12]} cannot be listed within {limit_s:g} s{_where(selection)}",
            hint="name the folder of the functions as the source's path; see who made such folders",
        ) from exc
    except RepositoryError as exc:
        raise _missing_path(repository, commit, selection) or exc from exc


def _check_name(raw: bytes, path: str, commit: CommitId) -> None:
    try:
        raw.decode()
    except UnicodeDecodeError:
        raise SourceRefused(f"{commit[:12]} has a file whose name is not UTF-8: {printable(path)}") from None
    if _UNPRINTABLE.search(path):
        raise SourceRefused(f"{commit[:12]} has a file with a control character or \\ in its name: {printable(path)}")
    if not _ELSEWHERE.isdisjoint(path.lower().split("/")):
        raise SourceRefused(f"{commit[:12]} has a path that leads elsewhere: {printable(path)}")
    if max(map(len, raw.split(b"/"))) > _MAX_NAME_BYTES or len(raw) > _MAX_PATH_BYTES:
        raise SourceRefused(
            f"{commit[:12]} has a name of more than {_MAX_NAME_BYTES} bytes, or a path of more than "
            f"{_MAX_PATH_BYTES:,}: {printable(path)[:200]}…"
        )


def _check_folders(found: Listing, commit: CommitId) -> None:
    """No path may lead through a file or a link: git makes no such tree, but one can be made."""
    leaves = found.files.keys() | found.links.keys() | found.submodules.keys()
    folders = {folder for path in leaves for folder in _around(path)}
    for path in sorted(folders & leaves):
        raise SourceRefused(f"{commit[:12]} has {path} both as a file and as a folder")


def _around(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _missing_path(repository: Path, commit: CommitId, selection: Selection) -> SourceRefused | None:
    """Why a commit has no such folder; None: that is not what is wrong."""
    tree = selection.tree(commit)
    if tree.endswith(":") or command.attempt(repository, "cat-file", "-e", f"{commit}^{{tree}}").code:
        return None
    kind = command.attempt(repository, "cat-file", "-t", tree).output.strip()
    if kind == b"tree":
        return None
    if kind:
        return SourceRefused(f"{selection.path} is no folder in {commit[:12]}")
    folders = []
    for name in command.fields(repository, "ls-tree", "-r", "-d", "-z", "--name-only", "--full-tree", commit):
        folders.append(printable(os.fsdecode(name)))
        if len(folders) >= _COMPARED:
            break
    wanted = selection.path.strip("/")
    near = difflib.get_close_matches(wanted, folders, 3, 0.5)
    near += [name for name in folders if name.rpartition("/")[2] == wanted.rpartition("/")[2] and name not in near][:3]
    top = [name for name in folders if "/" not in name][:10]
    there = (
        f"did you mean {' or '.join(near)}?" if near else f"there is {', '.join(top)}" if top else "it has no folders"
    )
    return SourceRefused(f"there is no folder {selection.path} in {commit[:12]}; {there}", hint="see the source's path")


def _spec(patterns: tuple[str, ...]) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError as exc:
        raise SourceRefused(
            f"{', '.join(patterns)} is no list of patterns as in .gitignore: {exc}",
            hint="see the source's include and ignore",
        ) from exc


def _where(selection: Selection) -> str:
    return "" if selection.path in ("", ".") else f" in {selection.path}"
