"""Merges what two sides made of one file, where git can tell that they do not meet."""

from __future__ import annotations

import ast
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fnsync.git import command
from fnsync.git.blobs import Blobs
from fnsync.git.commit import DURABLE
from fnsync.git.lock import writing
from fnsync.git.worktree import WorkTree

#: Larger files are not merged; each of the three may have as much.
MOST_BYTES = 4 * 1024 * 1024

_PLAIN = ("100644", "100755")


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a commit has at a path."""

    mode: str
    blob: str


def merged(
    worktree: WorkTree, blobs: Blobs, path: str, base: Leaf | None, ours: Leaf | None, theirs: Leaf | None
) -> Leaf | None:
    """What comes of two sides that both changed a file (None: there is none), each in its own way; None: a person has
    to say. Raises RepositoryError, NotWritable.

    Only lines of plain text files are merged. A settings file is one thing: what each side set may not fit together.
    Nor is it merged if Python could read our side, but cannot read what came of it.
    """
    if base is None or ours is None or theirs is None or path.endswith((".yaml", ".yml")):
        return None
    if not all(leaf.mode in _PLAIN for leaf in (base, ours, theirs)):
        return None
    texts = [blobs.read(leaf.blob, MOST_BYTES) for leaf in (ours, base, theirs)]
    known = [text for text in texts if text is not None]
    if len(known) < len(texts):
        return None
    text = known[0] if ours.blob == theirs.blob else _lines(worktree, known)
    if text is None or (path.endswith(".py") and _is_python(known[0]) and not _is_python(text)):
        return None
    mode = theirs.mode if ours.mode == base.mode else ours.mode
    _, found = command.run(worktree.root, *DURABLE, "hash-object", "-w", "--stdin", stdin=text)
    return Leaf(mode, found.decode().strip())


def _lines(worktree: WorkTree, texts: list[bytes]) -> bytes | None:
    """Ours, base and theirs merged line by line; None: both changed the same lines, or it is no text."""
    with tempfile.TemporaryDirectory(prefix="fnsync-") as folder:
        names = [Path(folder, name) for name in ("ours", "base", "theirs")]
        with writing(Path(folder)):
            for name, text in zip(names, texts, strict=True):
                name.write_bytes(text)
        done = command.attempt(worktree.root, "merge-file", "-q", "-p", *map(str, names))
    return done.output if done.code == 0 else None


def _is_python(text: bytes) -> bool:
    """Whether it can be read as Python; it is not run."""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
