"""What git takes changes of, and what it does not, so that no edit may touch it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fnsync.errors import OutOfGit
from fnsync.git.admission import admit
from fnsync.git.worktree import WorkTree
from tests.conftest import Project


@pytest.fixture
def tree(project: Project) -> WorkTree:
    project.write("a.py", "a = 1\n")
    project.commit("first")
    return WorkTree(project.root, project.functions)


def ignored(project: Project) -> str:
    (project.root / ".gitignore").write_text("# rules\n/functions/*.yaml\n")
    return "functions/a.yaml"


def ignored_by_name_with_a_newline(project: Project) -> str:
    (project.root / ".gitignore").write_text("*line*\n")
    return "functions/new\nline.py"


def ignored_outside_of_the_tree(project: Project) -> str:
    (project.root / ".git/info/exclude").write_text("a.yaml\n")
    return "functions/a.yaml"


def in_a_submodule(project: Project) -> str:
    other = Project(project.root.parent / "other")
    other.write("b.py", "b = 1\n")
    other.commit("other")
    project.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other.root), "functions/team")
    return "functions/team/functions/b.py"


def in_a_repository_of_its_own(project: Project) -> str:
    project.write("team/b.py", "b = 1\n")
    subprocess.run(["git", "init", "--quiet", str(project.functions / "team")], check=True)
    return "functions/team/b.py"


def left_out(project: Project) -> str:
    project.git("update-index", "--skip-worktree", "functions/a.py")
    return "functions/a.py"


def left_out_by_a_sparse_checkout(project: Project) -> str:
    project.write("team/b.py", "b = 1\n")
    project.commit("more")
    project.git("sparse-checkout", "set", "--no-cone", "/functions/a.py")
    assert not (project.functions / "team").exists()
    return "functions/team/b.py"


def assumed_unchanged(project: Project) -> str:
    project.git("update-index", "--assume-unchanged", "functions/a.py")
    return "functions/a.py"


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (ignored, r"a\.yaml is ignored by \.gitignore:2 \(/functions/\*\.yaml\)"),
        (ignored_by_name_with_a_newline, r"is ignored by \.gitignore:1"),
        (ignored_outside_of_the_tree, r"is ignored by \.git/info/exclude:1"),
        (in_a_submodule, "another git repository, functions/team"),
        (in_a_repository_of_its_own, "another git repository, functions/team"),
        (left_out, "left out of this working tree"),
        (left_out_by_a_sparse_checkout, "left out of this working tree"),
        (assumed_unchanged, "assume-unchanged"),
    ],
)
def test_what_git_does_not_take_is_told_with_the_way_out(
    tree: WorkTree, project: Project, prepare: Callable[[Project], str], says: str
) -> None:
    path = prepare(project)

    with pytest.raises(OutOfGit, match=says) as caught:
        admit(tree, ["functions/fine.py", path])

    assert caught.value.hint


def known_although_ignored(project: Project) -> str:
    (project.root / ".gitignore").write_text("*.py\n")
    return "functions/a.py"


def taken_back_by_a_later_rule(project: Project) -> str:
    (project.root / ".gitignore").write_text("*.py\n!b.py\n")
    return "functions/b.py"


def named_like_a_pattern(project: Project) -> str:
    project.git("update-index", "--assume-unchanged", "functions/a.py")
    return "functions/*.py"


@pytest.mark.parametrize("prepare", [known_although_ignored, taken_back_by_a_later_rule, named_like_a_pattern])
def test_what_git_takes_is_admitted(tree: WorkTree, project: Project, prepare: Callable[[Project], str]) -> None:
    admit(tree, [prepare(project)])


def test_the_functions_folder_may_itself_be_a_repository(tmp_path: Path) -> None:
    folder = tmp_path / "functions"
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)

    admit(WorkTree(folder, folder), ["team/a.py"])
