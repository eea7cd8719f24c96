"""What lies between two commits of a mirror, as far as its history is here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fnsync.git import bare, command
from fnsync.git.remote import TOLD, Commit, marked_log
from fnsync.model import CommitId


@dataclass(frozen=True, slots=True)
class Passage:
    """From one commit to another."""

    #: The newest of those that came, newest first, and how many they are. Where the past is not here, merged branches
    #: are counted as far as they are.
    commits: tuple[Commit, ...] = ()
    count: int = 0
    #: Whether some are not in the history any more.
    rewritten: bool = False


def passage(repository: Path, old: CommitId, new: CommitId) -> Passage:
    """What lies between two commits that are here. Raises RepositoryError."""
    if old == new:
        return Passage()
    commits, reached = marked_log(repository, "--boundary", f"--max-count={TOLD}", *_span(repository, old, new))
    count = len(commits) if len(commits) < TOLD else _count(repository, old, new)
    # Where what came grew out of the old commit, that is what git stops at.
    return Passage(commits, count, old not in reached and _count(repository, new, old) > 0)


def _count(repository: Path, old: CommitId, new: CommitId) -> int:
    """How many commits `new` has and `old` has not."""
    _, count = command.run(repository, "rev-list", "--count", *_span(repository, old, new), "--")
    return int(count)


def _span(repository: Path, old: CommitId, new: CommitId) -> tuple[str, ...]:
    return (new, *(f"^{commit}" for commit in (old, *_cut_off(repository, old))))


def _cut_off(repository: Path, commit: CommitId) -> list[CommitId]:
    """The parents of a commit that a shallow repository says has none, as far as they are here."""
    if commit.encode() not in bare.shallow(repository):
        return []
    _, content = command.run(repository, "cat-file", "commit", commit)
    lines = os.fsdecode(content.partition(b"\n\n")[0]).splitlines()
    parents = [line.removeprefix("parent ") for line in lines if line.startswith("parent ")]
    return [found for found in bare.look(repository, *parents) if found is not None]
