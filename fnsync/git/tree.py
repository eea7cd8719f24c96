"""What lies in the functions folder at a commit."""

from __future__ import annotations

import os
from dataclasses import dataclass

from fnsync.errors import RepositoryError
from fnsync.git import command
from fnsync.git.scope import Scope
from fnsync.model import CommitId
from fnsync.places import MAIN, is_source

#: A commit may be anybody's, and its folders nested so that they list without end.
MOST, LIMIT_S = 2_000_000, 30.0


@dataclass(frozen=True, slots=True)
class Leaf:
    """A file, or a symbolic link, whose content is where it leads."""

    id: str
    is_link: bool = False


def files(scope: Scope, commit: CommitId, *paths: str) -> dict[str, Leaf]:
    """The files at `paths` and below them, without any all there are; by path from the functions folder.

    Raises RepositoryError.
    """
    where = [scope.outside(path) for path in paths] or [scope.prefix]
    line = ("ls-tree", "-r", "-z", commit, "--", *where)
    found = {}
    for number, entry in enumerate(command.fields(scope.root, *line, variables=scope.variables, limit_s=LIMIT_S)):
        if number >= MOST:
            raise RepositoryError(f"{commit[:12]} has more than {MOST:,} files in the functions folder")
        about, _, name = entry.partition(b"\t")
        mode, kind, id = about.decode().split()
        if kind == "blob":
            found[scope.inside(os.fsdecode(name))] = Leaf(id, mode == "120000")
    return found


def is_function(path: str, found: dict[str, Leaf]) -> bool:
    """Whether a path is the source of a function, among all files of the folder."""
    return path in found and is_source(path, lambda folder: f"{folder}/{MAIN}" in found)
