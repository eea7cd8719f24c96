"""A folder of a repository at its newest commit, as what reads history needs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from fnsync.model import CommitId


class Scope(ABC):
    """Paths in it are relative to the folder; those that git gets, to the repository's root."""

    #: Added to git's environment.
    variables: Mapping[str, str] = {}

    def __init__(self, root: Path, prefix: str) -> None:
        #: Where git is run.
        self.root = root
        #: The folder from the repository's root, POSIX; `.` when it is the root itself.
        self.prefix = prefix

    @abstractmethod
    def head(self) -> CommitId | None:
        """The newest commit; None: nothing has been committed yet."""

    @abstractmethod
    def of(self, functions: Path) -> Self:
        """The same repository, seen from where `functions` leads now."""

    def has_contents(self) -> bool:
        """Whether every content of the history is to be had. Raises RepositoryError."""
        return True

    @property
    def pathspec(self) -> str:
        """The folder for git commands; it may be named like a pattern."""
        return f":(literal){self.prefix}"

    def spec(self, path: str) -> str:
        """A path from the folder for git commands."""
        return f":(literal){self.outside(path)}"

    def inside(self, path: str) -> str:
        """A path from the repository's root as one from the folder."""
        return path if self.prefix == "." else path.removeprefix(self.prefix + "/")

    def outside(self, path: str) -> str:
        """A path from the folder as one from the repository's root."""
        return path if self.prefix == "." else f"{self.prefix}/{path}"
