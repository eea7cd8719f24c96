"""Finds the function files below the functions folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fnsync.errors import SourceError
from fnsync.model import FileStamp, FunctionId, Problem
from fnsync.places import MAIN, enclosing, is_noise, is_source, stem
from fnsync.source import files
from fnsync.source.ignoring import Chain, Ignores, is_ignored

#: Longest id, in bytes of UTF-8; file names made of it must stay below the 255 that file systems take.
MAX_ID_BYTES = 200
#: Longest id that is made of a name; there is room for what tells it from another one.
_MADE_ID_BYTES = MAX_ID_BYTES - 20


@dataclass(frozen=True, slots=True)
class Scan:
    """What one walk found. Paths are relative to the functions folder."""

    #: Source files of functions, sorted.
    sources: tuple[str, ...]
    #: Every file that is not ignored.
    files: Mapping[str, FileStamp]
    #: What cannot be a function or a part of one: bad ids, links that lead outside, pipes, …; by path.
    refused: tuple[Problem, ...]


def scan(root: Path) -> Scan:
    """Walk the functions folder once; opens no file but `.fnsyncignore`."""
    listing = walk(root)
    sources, refused = [], dict(listing.refused)
    is_function_folder = function_folders(listing)
    for path in sorted(listing.files):
        if is_source(path, is_function_folder):
            problem = bad_id(path)
            if problem is None:
                sources.append(path)
            else:
                refused[path] = problem
    return Scan(tuple(sources), listing.files, tuple(refused[path] for path in sorted(refused)))


# ---- what is a function ----------------------------------------------------------------------------------


def function_folders(listing: Listing) -> Callable[[str], bool]:
    """The test whether a folder is a function's; a `main.py` that is refused counts, so its helpers stay helpers."""
    return lambda folder: (main := f"{folder}/{MAIN}") in listing.files or main in listing.refused


def id_of(path: str) -> FunctionId:
    return FunctionId(stem(path).lower())


def bad_id(path: str) -> Problem | None:
    """What is wrong with the id that a source's name makes."""
    name = stem(path)
    if len(id_of(path).encode()) > MAX_ID_BYTES:
        return Problem("bad_id", f"an id has at most {MAX_ID_BYTES} bytes", path, hint="shorten the name")
    if name.isidentifier() and id_of(path).isidentifier():
        folder, _, inside = path.partition("/")
        if inside and ":" in folder:
            message = f"the folder {folder!r} would be taken for a source's: paths in those are NAME:PATH"
            return Problem("bad_id", message, path, hint="rename the folder")
        return None
    message = f"{name!r} is no function id: expected letters, digits and _, not beginning with a digit"
    return Problem("bad_id", message, path, hint=f"rename it, for example to {like_id(name)}")


def like_id(name: str) -> FunctionId:
    """The id that a name which is none comes nearest to."""
    kept = "".join(char if f"a{char}".isidentifier() else " " for char in name.lower())
    good = "_".join(kept.split()).strip("_").encode()[:_MADE_ID_BYTES].decode(errors="ignore")
    return FunctionId(next((made for made in (good, f"f_{good}") if made.isidentifier() and made != "f_"), "function"))


# ---- the walk --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Listing:
    """The files below a folder (or the one file), by path relative to the functions folder."""

    files: dict[str, FileStamp] = field(default_factory=dict)
    refused: dict[str, Problem] = field(default_factory=dict)
    #: Symbolic links, and where they lead, relative to the functions folder.
    links: dict[str, str] = field(default_factory=dict)


#: Device and inode of the folders around, to notice links that lead back.
Trail = tuple[tuple[int, int], ...]


def walk(root: Path, start: str = "", *, ignores: Ignores | None = None, most: int | None = None) -> Listing:
    """List what lies at `start` and is not ignored; stops after `most` files. Nothing there: an empty listing."""
    walker = _Walker(root, ignores or Ignores(root), most)
    walker.begin(start)
    return walker.listing


class _Walker:
    def __init__(self, root: Path, ignores: Ignores, most: int | None) -> None:
        self.listing = Listing()
        self._root = os.path.realpath(root)
        self._ignores = ignores
        self._most = most
        self._folders: list[tuple[str, Chain, Trail]] = []

    def begin(self, start: str) -> None:
        """Go down to `start`, as a walk from the root would, and then through all below it."""
        try:
            self._folders.append(("", (), (_identity(os.stat(self._root)),)))
        except OSError as exc:
            self._refuse(files.os_problem(exc, "").problem, "")
            return
        for path in [*enclosing(start), start] if start else []:
            self.listing = Listing()  # what lies on the way is no part of the answer
            if not self._folders:
                return
            folder, chain, trail = self._folders.pop()
            chain = self._with_rules(folder, chain)
            try:
                found = os.lstat(os.path.join(self._root, path))
            except (OSError, ValueError):
                return
            self._visit(path, stat.S_ISLNK(found.st_mode), chain, trail)
        while self._folders:
            self._list(*self._folders.pop())

    def _list(self, folder: str, chain: Chain, trail: Trail) -> None:
        chain = self._with_rules(folder, chain)
        prefix = folder + "/" if folder else ""
        try:
            with os.scandir(os.path.join(self._root, folder)) as entries:
                for entry in entries:
                    if self._most is not None and len(self.listing.files) >= self._most:
                        return
                    if entry.is_file(follow_symlinks=False):
                        self._file(prefix + entry.name, entry, chain)
                    else:
                        self._visit(prefix + entry.name, entry.is_symlink(), chain, trail)
        except OSError as exc:
            problem = files.os_problem(exc, folder)
            if not isinstance(problem, files.Vanished):
                self._refuse(problem.problem, folder)

    def _with_rules(self, folder: str, chain: Chain) -> Chain:
        rules, problem = self._ignores.rules(folder)
        if problem is not None and problem.path is not None:
            self._refuse(problem, problem.path)
        return chain if rules is None else (*chain, rules)

    def _file(self, path: str, entry: os.DirEntry[str], chain: Chain) -> None:
        """A regular file: the common case, so without detours."""
        if is_noise(entry.name) or (chain and is_ignored(path, False, chain)):
            return
        if not _is_text(path):
            self._refuse(_bad_name(path), path)
            return
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:
            return
        self.listing.files[path] = files.stamp(found)

    def _visit(self, path: str, is_link: bool, chain: Chain, trail: Trail) -> None:
        """A file, a folder, a link or something else."""
        if is_noise(path.rpartition("/")[2]):
            return
        full = os.path.join(self._root, path)
        try:
            if is_link:
                self.listing.links[path] = os.path.relpath(os.path.realpath(full), self._root)
                full = files.resolve(Path(self._root), path)
            found = os.stat(full)
            is_folder = stat.S_ISDIR(found.st_mode)
            if is_ignored(path, is_folder, chain):
                self.listing.links.pop(path, None)
            elif not _is_text(path):
                self._refuse(_bad_name(path), path)
            elif is_folder:
                self._enter(path, found, chain, trail)
            elif stat.S_ISREG(found.st_mode):
                self.listing.files[path] = files.stamp(found)
            else:
                self._refuse(files.special(path).problem, path)
        except OSError as exc:
            self._problem(files.os_problem(exc, path), path, is_link, chain)
        except SourceError as exc:
            self._problem(exc, path, is_link, chain)

    def _enter(self, path: str, found: os.stat_result, chain: Chain, trail: Trail) -> None:
        if _identity(found) in trail:
            message = "the symbolic link leads to a folder it lies in"
            self._refuse(Problem("link_loop", message, path, hint="remove the link"), path)
        else:
            self._folders.append((path, chain, (*trail, _identity(found))))

    def _problem(self, exc: SourceError, path: str, is_link: bool, chain: Chain) -> None:
        if is_ignored(path, False, chain):
            self.listing.links.pop(path, None)
        elif not isinstance(exc, files.Vanished):
            self._refuse(exc.problem, path)
        elif is_link:
            message = "the symbolic link leads to nothing"
            self._refuse(Problem("broken_link", message, path, hint="remove the link"), path)

    def _refuse(self, problem: Problem, path: str) -> None:
        self.listing.refused[_shown(path)] = problem


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _is_text(path: str) -> bool:
    """Whether a name is UTF-8 on disk; Python stands in half surrogates for other bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(path: str) -> str:
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _bad_name(path: str) -> Problem:
    return Problem("bad_name", "the file's name is not UTF-8", _shown(path), hint="rename the file")
