"""A commit of a bare repository, for reading its history. Nothing is fetched for it."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from fnsync.git import command
from fnsync.git.scope import Scope
from fnsync.model import CommitId

#: What is not there is missing: git asks no remote for it. Before 2.39.4 it knows only the second one.
_OFFLINE = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}


class BareView(Scope):
    """A folder of the repository as it is at one commit."""

    variables = _OFFLINE

    def __init__(self, repository: Path, commit: CommitId, path: str) -> None:
        """`path` is the folder in the commit; `.` for all of it."""
        super().__init__(repository, path)
        self._commit = commit

    def head(self) -> CommitId:
        """That commit."""
        return self._commit

    def of(self, functions: Path) -> Self:
        """Itself: its folder is in no working tree."""
        return self

    def has_contents(self) -> bool:
        """Whether the repository was cloned with all contents. Raises RepositoryError."""
        code, _ = command.run(self.root, "config", "--get-regexp", r"^remote\..*\.promisor$", allowed=(0, 1))
        return code == 1
