"""Reads contents out of git's store, all through one process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from fnsync.errors import LostObject
from fnsync.git import command

PIECE_BYTES = 1 << 20

#: Called with the ids of contents that are not here; gets them, where they are to be had.
Provide = Callable[[Collection[str]], None]


def sizes(root: Path, ids: Collection[str], provide: Provide | None = None) -> dict[str, int]:
    """How many bytes contents have; none is read. Raises LostObject, RepositoryError, and what `provide` raises."""
    found = _told(root, ids)
    away = [id for id, size in found.items() if not size.isdecimal()]
    if away and provide is not None:
        provide(away)
        found |= _told(root, away)
    for id in away:
        if not found[id].isdecimal():
            raise lost(root, id, found[id].removeprefix(id).strip())
    return {id: int(size) for id, size in found.items()}


def _told(root: Path, ids: Collection[str]) -> dict[str, str]:
    """What git says of contents: their sizes, or what is wrong with them."""
    asked = "".join(f"{id}\n" for id in ids).encode()
    _, output = command.run(root, "cat-file", "--batch-check=%(objectsize)", "--buffer", stdin=asked)
    return dict(zip(ids, output.decode(errors="replace").splitlines(), strict=True))


def lost(root: Path, id: str, what: str) -> LostObject:
    """The error for an object that is not there."""
    return LostObject(f"{root} has lost the object {id} ({what})", hint=f"see what `git -C '{root}' fsck` says")


class Blobs:
    """Use as a context manager. git is started with the first read."""

    def __init__(self, root: Path, variables: Mapping[str, str] | None = None) -> None:
        """`variables` are added to git's environment."""
        self._root = root
        self._variables = variables
        self._stack = ExitStack()
        self._git: command.Conversation | None = None

    def read(self, id: str, most: int) -> bytes | None:
        """The content of a blob; None if it has more than `most` bytes. Raises LostObject, RepositoryError."""
        git = self._started()
        size = self._ask(git, id)
        content = git.read(size) if size <= most else None
        for _ in self._rest(git, 0 if content is not None else size):
            pass
        return content

    def pieces(self, id: str) -> Iterator[bytes]:
        """The content of a blob, piece by piece; all are to be taken. Raises LostObject, RepositoryError."""
        git = self._started()
        yield from self._rest(git, self._ask(git, id))

    def _started(self) -> command.Conversation:
        if self._git is None:
            talk = command.conversation(self._root, "cat-file", "--batch", variables=self._variables)
            self._git = self._stack.enter_context(talk)
        return self._git

    def _ask(self, git: command.Conversation, id: str) -> int:
        """How many bytes follow."""
        answer = git.ask(id.encode())
        kind, _, size = answer.removeprefix(id.encode()).strip().partition(b" ")
        if not size:
            raise lost(self._root, id, kind.decode(errors="replace"))
        return int(size)

    @staticmethod
    def _rest(git: command.Conversation, size: int) -> Iterator[bytes]:
        """What is still to come of a content, and the end of line behind it."""
        while size > 0:
            piece = git.read(min(size, PIECE_BYTES))
            size -= len(piece)
            yield piece
        git.read(1)

    def __enter__(self) -> Blobs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, exc, trace)
