"""What functions were at their versions; git keeps them."""

from __future__ import annotations

from pathlib import Path

from fnsync.editions import Edition, edition
from fnsync.errors import NotFound, Unavailable
from fnsync.git import contents, versions
from fnsync.git.contents import VersionFiles
from fnsync.git.versions import Version
from fnsync.git.worktree import WorkTree
from fnsync.model import Unit
from fnsync.source.reading import Reader


class Archive:
    """Reads versions of functions. Blocking; every method raises RepositoryError, and Unavailable without git."""

    def __init__(self, worktree: WorkTree | None, functions: Path) -> None:
        self._worktree = worktree
        self._functions = functions

    def versions(self, unit: Unit, skip: int, limit: int) -> list[Version]:
        """The versions, newest first."""
        return versions.versions(self._tree(), self._functions, unit.path, skip=skip, limit=limit)

    def version(self, unit: Unit, text: str) -> Version:
        """The version that a full or shortened hash names. Raises NotFound."""
        return versions.version(self._tree(), self._functions, unit.path, text)

    def edition(self, unit: Unit, text: str) -> tuple[Version, Edition]:
        """What the function was at a version. Raises NotFound, Invalid for files that are too large."""
        version, files = self.files(unit, text)
        return version, edition(version.path, files)

    def files(self, unit: Unit, text: str) -> tuple[Version, VersionFiles]:
        """The function's files at a version. Raises NotFound, Invalid for files that are too large."""
        version = self.version(unit, text)
        return version, contents.version_files(self._tree(), self._functions, version)

    def is_same(self, unit: Unit, text: str) -> bool:
        """Whether what the function is on disk is what it was at a commit; False for a text that names none."""
        try:
            commit = versions.resolve(self._tree(), text)
        except NotFound:
            return False
        return contents.same_since(self._tree(), self._functions, commit, unit.path)

    def now(self, unit: Unit) -> Unit:
        """The function as its files are now; the last look at them may be a moment ago."""
        return Reader(self._functions).read(unit.path).unit

    def _tree(self) -> WorkTree:
        if self._worktree is None:
            raise Unavailable("there is no usable git repository around the functions folder, so there is no history")
        return self._worktree
