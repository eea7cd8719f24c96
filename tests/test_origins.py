"""What commits say of where files came from."""

from __future__ import annotations

from pathlib import Path

from fnsync.git.origins import Copied, Source, copied, read
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId
from tests.repositories import Repository

HERE = Source("https://git.example.org/a.git", "1" * 40)
NEWER = Source("https://git.example.org/a.git", "2" * 40, "functions", "acme_")


def message(source: Source, subject: str = "Copy") -> str:
    return f"{subject}\n\n" + "\n".join(source.lines) + "\n"


def test_a_source_is_read_as_it_was_written() -> None:
    for source in (HERE, NEWER):
        assert read(message(source)) == source
    assert read("Squashed (#3)\n\n* Copy\n\n" + message(HERE) + "\nCo-authored-by: A <a@example.org>\n") == HERE
    assert read("Origin-Url: https://git.example.org/a.git\n") is None
    assert read("Nothing of it\n") is None
    assert HERE.is_place_of(Source("https://GIT.example.org/a", "3" * 40))
    assert not HERE.is_place_of(NEWER)


def test_each_file_is_of_the_commit_that_brought_it_last(tmp_path: Path) -> None:
    there = Repository(tmp_path / "r")
    scope = WorkTree.ensure(there.functions)
    assert copied(scope) == {}
    there.commit(1, {"own.py": "a"}, message="By hand")
    first = there.commit(2, {"a.py": "1", "b/main.py": "1", "gone.py": "1", "anew.py": "1"}, message=message(HERE))
    there.commit(3, {"a.py": "changed here"}, message="Edit")
    there.commit(4, {"gone.py": None, "anew.py": None}, message="Remove")
    there.commit(5, {"anew.py": "something else"}, message="Another one")
    second = there.commit(6, {"b/main.py": "2", "own.py": "a", "ö ä.py": "1"}, message=message(NEWER))

    assert copied(scope) == {
        "a.py": Copied(HERE, CommitId(first)),
        "b/main.py": Copied(NEWER, CommitId(second)),
        "ö ä.py": Copied(NEWER, CommitId(second)),
    }

    there.commit(7, {"b/main.py": None}, message=message(NEWER, "Prune"))
    assert set(copied(scope)) == {"a.py", "ö ä.py"}
