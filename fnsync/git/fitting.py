"""Whether a commit that was made on other ground fits some files, and what becomes of these with it.

Beside lines that both sides changed, functions count: one is its source, its settings and its helpers together, and
has its id to itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from fnsync.git.blobs import Blobs
from fnsync.git.threeway import Leaf, merged
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId
from fnsync.places import MAIN, enclosing, is_source, own_folder, owners, settings_of, stem

#: Path from the working tree's root -> what is there.
Files = Mapping[str, Leaf]


@dataclass(frozen=True, slots=True)
class Clash:
    """Why a commit does not fit."""

    #: From the working tree's root.
    paths: tuple[str, ...]
    reason: str
    #: The commit that it builds on, if that is why.
    on: CommitId | None = None


def keys(worktree: WorkTree, paths: Iterable[str]) -> set[str]:
    """What commits have in common that belong together: paths, and the sources of the functions these may be of."""
    found = set(paths)
    return found | {worktree.outside(source) for path in _inside(worktree, found) for source in owners(path)}


def fitted(
    worktree: WorkTree,
    blobs: Blobs,
    changes: Mapping[str, tuple[Leaf | None, Leaf | None]],
    there: Files,
    before: Files,
    after: Files,
) -> dict[str, Leaf | None] | Clash:
    """What becomes of the paths that differ from `there` then; or why not.

    The commit made `after` of `before`, which `changes` tell. Raises RepositoryError, NotWritable.
    """
    todo: dict[str, Leaf | None] = {}
    torn = []
    for path, (old, new) in changes.items():
        now = there.get(path)
        if now == new:
            continue
        if now == old:
            todo[path] = new
        elif (leaf := merged(worktree, blobs, path, old, new, now)) is not None:
            todo[path] = leaf
        else:
            torn.append(path)
    if torn:
        return Clash(tuple(torn), "both sides changed it" if len(torn) == 1 else "both sides changed them")
    files = {path: leaf for path, leaf in {**there, **todo}.items() if leaf is not None}
    return _in_the_way(todo, files) or _halved(worktree, changes, files, before, after) or todo


def _in_the_way(todo: Mapping[str, Leaf | None], files: Files) -> Clash | None:
    """A file where a folder is to be, or the other way round."""
    comes = {path for path, leaf in todo.items() if leaf is not None}
    folders = {folder for path in files for folder in enclosing(path)} if comes else set()
    blocked = {path for path in comes if path in folders or any(folder in files for folder in enclosing(path))}
    return Clash(tuple(sorted(blocked)), "one side has a file where the other has a folder") if blocked else None


def _halved(worktree: WorkTree, changes: Collection[str], files: Files, before: Files, after: Files) -> Clash | None:
    """A function that would come out as neither side has it: without its source, with files left over, or twice."""
    was, ours, both = (_inside(worktree, side) for side in (before, after, files))
    for source in sorted({source for path in _inside(worktree, changes) for source in owners(path)}):
        clash = _halved_function(source, was, ours, both)
        if clash is not None:
            return Clash(tuple(worktree.outside(path) for path in clash.paths), clash.reason)
    return None


def _halved_function(source: str, was: set[str], ours: set[str], both: set[str]) -> Clash | None:
    """Paths from the functions folder: before our commit, after it, and as it would come out."""
    if source in ours and source not in both:
        return Clash((source,), "the function was removed there")
    if source in was and source not in ours:
        left = sorted(path for path in both - ours if _belongs(path, source))
        return Clash(tuple(left), "the function that was removed here was changed there") if left else None
    if source in ours and source not in was:
        twins = (path for path in sorted(both - ours) if _id(path) == _id(source))
        twin = next((path for path in twins if _is_source(path, both) and _is_source(source, both)), None)
        return Clash((source, twin), "both sides made a function of that id") if twin is not None else None
    return None


def _belongs(path: str, source: str) -> bool:
    folder = own_folder(source)
    return path == settings_of(source) or (folder is not None and path.startswith(f"{folder}/"))


def _id(path: str) -> str | None:
    return stem(path).lower() if path.endswith(".py") else None


def _is_source(path: str, files: set[str]) -> bool:
    return is_source(path, lambda folder: f"{folder}/{MAIN}" in files)


def _inside(worktree: WorkTree, paths: Iterable[str]) -> set[str]:
    """Those in the functions folder, as paths from there."""
    prefix = "" if worktree.prefix == "." else f"{worktree.prefix}/"
    return {path[len(prefix) :] for path in paths if path.startswith(prefix)}
