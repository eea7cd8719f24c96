"""Reads contents out of git's store, all through one process."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from fnsync.errors import LostObject
from fnsync.git import command

PIECE_BYTES = 1 << 20


class Blobs:
    """Use as a context manager. git is started with the first read."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._stack = ExitStack()
        self._git: command.Conversation | None = None

    def read(self, id: str, most: int) -> bytes | None:
        """The content of a blob; None if it has more than `most` bytes. Raises LostObject, RepositoryError."""
        if self._git is None:
            self._git = self._stack.enter_context(command.conversation(self._root, "cat-file", "--batch"))
        answer = self._git.ask(id.encode())
        kind, _, size = answer.removeprefix(id.encode()).strip().partition(b" ")
        if not size:
            raise LostObject(
                f"{self._root} has lost the object {id} ({kind.decode(errors='replace')})",
                hint=f"see what `git -C '{self._root}' fsck` says",
            )
        content = self._content(int(size), most)
        self._git.read(1)
        return content

    def _content(self, size: int, most: int) -> bytes | None:
        assert self._git is not None
        if size <= most:
            return self._git.read(size)
        while size > 0:
            size -= len(self._git.read(min(size, PIECE_BYTES)))
        return None

    def __enter__(self) -> Blobs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, exc, trace)
