"""Functions that moved between two commits."""

from pathlib import Path

import pytest

from fnsync.git.renames import renames
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId
from tests.repositories import Repository

CODE = "".join(f"# line {n}\n" for n in range(20))
OTHER = "".join(f"{n} = other\n" for n in range(20))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "project")


def found(repository: Repository, old: str, new: str) -> dict[str, str]:
    tree = WorkTree.ensure(repository.functions, repository.folder)
    return renames(tree, repository.functions, CommitId(old), CommitId(new))


def test_moved_functions_are_found_over_several_commits(repository: Repository) -> None:
    first = repository.commit(10, {"a.py": CODE, "ü\n.py": OTHER, "same.py": "1\n" * 30, "a.yaml": "name: A\n"})
    repository.git("mv", "functions/a.py", "functions/b.py")
    repository.git("mv", "functions/a.yaml", "functions/b.yaml")
    repository.commit(20, {"same.py": "1\n" * 29})
    (repository.functions / "b").mkdir()
    repository.git("mv", "functions/b.py", "functions/b/main.py")
    (repository.functions / "team").mkdir()
    repository.git("mv", "functions/ü\n.py", "functions/team/other.py")
    last = repository.commit(30, {"b/main.py": CODE + "# an edit\n", "b/util.py": "1"})
    assert found(repository, first, last) == {"a.py": "b/main.py", "ü\n.py": "team/other.py"}
    assert found(repository, last, first) == {"b/main.py": "a.py", "team/other.py": "ü\n.py"}
    assert found(repository, last, last) == {}


def test_helpers_assets_and_shared_modules_are_no_functions(repository: Repository) -> None:
    first = repository.commit(10, {"a/main.py": "1", "a/util.py": CODE, "_x.py": OTHER, "b.py": "1\n" * 30})
    for old, new in [("a/util.py", "util.py"), ("_x.py", "x.py"), ("b.py", "a/b.py")]:
        repository.git("mv", f"functions/{old}", f"functions/{new}")
    last = repository.commit(20, {})
    assert found(repository, first, last) == {}


def test_what_became_something_else_is_no_rename(repository: Repository) -> None:
    first = repository.commit(10, {"a.py": CODE})
    last = repository.commit(20, {"a.py": None, "b.py": OTHER})
    assert found(repository, first, last) == {}


def test_a_commit_that_is_gone_has_none(repository: Repository) -> None:
    head = repository.commit(10, {"a.py": CODE})
    assert found(repository, "f" * 40, head) == {}


def test_a_function_that_is_renamed_and_then_rewritten_is_followed_through_both_commits(repository: Repository) -> None:
    first = repository.commit(10, {"a.py": CODE, "stays.py": OTHER})
    repository.git("mv", "functions/a.py", "functions/b.py")
    repository.commit(20, {})
    repository.commit(30, {"b.py": OTHER.replace("other", "new")})
    repository.git("mv", "functions/b.py", "functions/c.py")
    last = repository.commit(40, {})
    assert found(repository, first, last) == {"a.py": "c.py"}


def test_one_that_comes_back_to_its_name_has_not_moved(repository: Repository) -> None:
    first = repository.commit(10, {"a.py": CODE, "b.py": OTHER})
    repository.git("mv", "functions/a.py", "functions/x.py")
    repository.commit(20, {})
    repository.git("mv", "functions/x.py", "functions/a.py")
    repository.git("mv", "functions/b.py", "functions/c.py")
    last = repository.commit(30, {})
    assert found(repository, first, last) == {"b.py": "c.py"}
