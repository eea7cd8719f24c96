"""What a move of the working tree is about to do, on disk, so that the next start can complete it after a crash.

One file in git's folder, `fnsync-moving.json`. It is there before the first file of the tree is touched, and gone when
the move is done or undone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from fnsync.git.lock import writing
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId

log = logging.getLogger(__name__)

_NAME = "fnsync-moving.json"


@dataclass(frozen=True, slots=True)
class Move:
    """From one commit to another."""

    base: CommitId
    target: CommitId
    #: Refs that are made together with it, and their commits.
    refs: Mapping[str, CommitId] = field(default_factory=dict)


def begin(worktree: WorkTree, move: Move) -> None:
    """Put a move on disk. Raises NotWritable."""
    path = worktree.git_folder / _NAME
    fresh = path.with_suffix(".tmp")
    with writing(path.parent):
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(move))
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)


def end(worktree: WorkTree) -> None:
    """The move is done, or undone."""
    (worktree.git_folder / _NAME).unlink(missing_ok=True)


def unfinished(worktree: WorkTree) -> Move | None:
    """The move that a crash left. One that cannot be read was never begun to be carried out."""
    path = worktree.git_folder / _NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Move)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        log.error("the move %s cannot be read and is left as it is: %s", path, exc)
        return None
