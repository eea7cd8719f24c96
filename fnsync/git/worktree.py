"""The git working tree that the functions folder lies in."""

from __future__ import annotations

from pathlib import Path

from fnsync.model import CommitId


class WorkTree:
    """A working tree, asked about cheaply."""

    root: Path

    @classmethod
    def ensure(cls, functions: Path) -> WorkTree:
        raise NotImplementedError

    def head(self) -> CommitId | None:
        raise NotImplementedError

    def branch(self) -> str | None:
        raise NotImplementedError

    def locked(self) -> bool:
        raise NotImplementedError

    def dirty(self) -> tuple[str, ...]:
        raise NotImplementedError
