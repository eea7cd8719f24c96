"""A function's own files at a version, and whether they still are what is on disk."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fnsync import labels
from fnsync.errors import Conflict, Invalid, NotFound
from fnsync.git import command, tree
from fnsync.git.blobs import Blobs
from fnsync.git.labelling import Labelling
from fnsync.git.scope import Scope
from fnsync.git.tree import Leaf
from fnsync.git.versions import Version
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId
from fnsync.places import IGNORE_FILE, MAIN, own_folder, owners, settings_of, whereabouts

#: All files of a version together; a function may have no more on disk either.
MOST_BYTES = 50 * 1024 * 1024
#: Symbolic links that lead to symbolic links.
MAX_LINK_DEPTH = 10
MAX_LINK_BYTES = 4_096

_DIFF = (
    # Permissions are no part of a function, and a file that was only touched does not differ.
    *("-c", "core.fileMode=false", "-c", "diff.autoRefreshIndex=true"),
    *("diff", "--raw", "-z", "--no-abbrev", "--no-renames", "--no-color", "--no-ext-diff", "--ignore-submodules=all"),
)


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """What a function consisted of at a version, without shared modules."""

    #: `main.py` is the source, whatever its name; the others by their path beside it.
    files: Mapping[str, bytes]
    #: The text of its settings file; None: it had none.
    settings: bytes | None

    def at(self, source: str) -> dict[str, bytes]:
        """The files by the paths they have if the function's source is `source`.

        Raises Conflict if there are several and that source is a single file.
        """
        folder = own_folder(source)
        if folder is None and len(self.files) > 1:
            raise Conflict(
                f"at that version the function was a folder, with {len(self.files) - 1} files beside its source; "
                f"now it is the single file {source}",
                hint=f"move it to {source.removesuffix('.py')}/{MAIN} first",
            )
        return {source if place == MAIN else f"{folder}/{place}": data for place, data in self.files.items()}


def version_files(worktree: Scope, functions: Path, version: Version) -> VersionFiles:
    """The function's own files at a version, as they are in the commit. Links in the folder are followed, or left out.

    Raises NotFound if the source cannot be read there, Invalid if the files are too large, RepositoryError.
    """
    scope = worktree.of(functions)
    source, settings = version.path, settings_of(version.path)
    found = tree.files(scope, version.commit, *whereabouts(source))
    with Blobs(scope.root, scope.variables) as blobs:
        ids = _followed(scope, version.commit, found, blobs)
        if source not in ids:
            raise NotFound(f"{source} at {version.commit[:12]} is a link that leads to no file of the functions folder")
        wanted = [path for path in sorted(ids) if path == settings or _is_own(path, source)]
        contents = dict(zip(wanted, _read(blobs, [ids[path] for path in wanted], version), strict=True))
    files = {_place(path, source): data for path, data in contents.items() if path != settings}
    return VersionFiles(files, contents.get(settings))


def same_since(worktree: WorkTree, functions: Path, commit: CommitId, source: str) -> bool:
    """Whether a function on disk is what it was at a commit, under the same name: source, helpers, name and meta.

    Compares as git does, so that line endings and filters play no part. Raises RepositoryError.
    """
    scope = worktree.of(functions)
    folder, settings = own_folder(source), settings_of(source)
    before = tree.files(scope, commit, source, settings)
    if source not in before:
        return False
    altered = changed(scope, commit, [scope.spec(path) for path in whereabouts(source)])
    if any(_is_own(path, source) for path in altered):
        return False
    if folder is not None and any(_is_own(path, source) for path in _untracked(scope, scope.spec(folder))):
        return False
    if settings in before and settings not in altered:
        return True
    with Blobs(scope.root) as blobs:
        was = Labelling(blobs).key(before[settings].id if settings in before else None)
    return was == labels.read(_on_disk(functions / settings)).key


def same_in(scope: Scope, commit: CommitId, source: str) -> bool:
    """Whether a function at the newest commit is what it was at another one, under the same name.

    Raises RepositoryError.
    """
    head, settings = scope.head(), settings_of(source)
    if head is None:
        return False
    now, then = (tree.files(scope, at, *whereabouts(source)) for at in (head, commit))
    if source not in then or any(now.get(path) != then.get(path) for path in now | then if _is_own(path, source)):
        return False
    with Blobs(scope.root, scope.variables) as blobs:
        labelling = Labelling(blobs if scope.has_contents() else None)
        keys = [labelling.key(found[settings].id if settings in found else None) for found in (now, then)]
    return keys[0] == keys[1]


def _is_own(path: str, source: str) -> bool:
    """Whether a file is a function's source or helper."""
    return source in owners(path) and path != settings_of(source)


def _place(path: str, source: str) -> str:
    folder = own_folder(source)
    return MAIN if path == source or folder is None else path[len(folder) + 1 :]


def _followed(scope: Scope, commit: CommitId, found: Mapping[str, Leaf], blobs: Blobs) -> dict[str, str]:
    """The blobs of files, and of those that links lead to."""
    ids = {path: leaf.id for path, leaf in found.items() if not leaf.is_link}
    if len(ids) < len(found):
        everything = tree.files(scope, commit)
        for path in found.keys() - ids.keys():
            leaf = _target(path, everything, blobs)
            if leaf is not None:
                ids[path] = leaf.id
    return ids


def _target(path: str, everything: Mapping[str, Leaf], blobs: Blobs) -> Leaf | None:
    for _ in range(MAX_LINK_DEPTH):
        leaf = everything.get(path)
        if leaf is None or not leaf.is_link:
            return leaf
        text = os.fsdecode(blobs.read(leaf.id, MAX_LINK_BYTES) or b"")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), text))
    return None


def _read(blobs: Blobs, ids: Iterable[str], version: Version) -> Iterator[bytes]:
    left = MOST_BYTES
    for id in ids:
        data = blobs.read(id, left)
        if data is None:
            raise Invalid(f"{version.path} at {version.commit[:12]} has more than {MOST_BYTES:,} bytes")
        left -= len(data)
        yield data


def changed(scope: WorkTree, commit: CommitId, specs: list[str]) -> set[str]:
    """The tracked files whose content on disk is not that of a commit, as git compares them. Raises RepositoryError."""
    _, output = command.run(scope.root, *_DIFF, commit, "--", *specs)
    fields = iter(output.split(b"\0"))
    found = set()
    for raw in fields:
        if raw:
            mode_before, mode_after, before, after, _ = raw[1:].split(b" ")
            path = scope.inside(os.fsdecode(next(fields)))
            if before != after or mode_before[:3] != mode_after[:3]:
                found.add(path)
    return found


def _untracked(scope: WorkTree, spec: str) -> set[str]:
    """The files on disk that are not in git and that neither git nor fnsync ignores."""
    listing = ("ls-files", "--others", "-z")
    found: set[str] | None = None
    for ignoring in ("--exclude-standard", f"--exclude-per-directory={IGNORE_FILE}"):
        _, output = command.run(scope.root, *listing, ignoring, "--", spec)
        names = {scope.inside(os.fsdecode(name)) for name in output.split(b"\0") if name}
        found = names if found is None else found & names
        if not found:
            break
    return found or set()


def _on_disk(path: Path) -> bytes:
    try:
        if not path.is_file():  # a pipe would hold us up
            return b""
        with path.open("rb") as file:
            data = file.read(labels.MAX_BYTES + 1)
    except OSError:
        return b""
    return data if len(data) <= labels.MAX_BYTES else b""
