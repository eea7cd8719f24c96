"""The working tree: found or made, its head read as git itself reads it, its errors with a way out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fnsync.errors import RepositoryError
from fnsync.git.worktree import WorkTree
from fnsync.status import repository_status


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, encoding="utf-8"
    )
    return done.stdout.strip()


def commit(folder: Path, **files: str) -> str:
    for name, text in files.items():
        (folder / "functions" / f"{name}.py").write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "change")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "my project\nfür alle"
    (folder / "functions").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    return folder


@pytest.fixture
def tree(project: Path) -> WorkTree:
    return WorkTree.ensure(project / "functions", project)


def test_a_repository_is_made_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "functions").mkdir()
    tree = WorkTree.ensure(tmp_path / "functions", tmp_path)
    assert (tmp_path / ".git" / "HEAD").exists()
    assert (tree.root, tree.prefix) == (tmp_path, "functions")
    assert (tree.head(), tree.dirty(), tree.locked()) == (None, (), False)
    assert tree.branch() is not None
    assert WorkTree.ensure(tmp_path / "functions", tmp_path).root == tmp_path


def test_an_enclosing_repository_is_used(project: Path) -> None:
    deep = project / "teams" / "a" / "functions"
    deep.mkdir(parents=True)
    tree = WorkTree.ensure(deep, project / "teams" / "a")
    assert (tree.root, tree.prefix) == (project, "teams/a/functions")
    assert not (project / "teams" / "a" / ".git").exists()


def test_the_functions_folder_may_be_the_repository_itself(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("")
    tree = WorkTree.ensure(tmp_path)
    assert (tree.prefix, tree.dirty()) == (".", ("a.py",))


def test_a_linked_functions_folder_belongs_to_the_repository_it_lies_in(project: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "functions").symlink_to(project / "functions")
    assert WorkTree.ensure(tmp_path / "elsewhere" / "functions", tmp_path / "elsewhere").root == project


def test_head_and_branch_are_gits(tree: WorkTree, project: Path) -> None:
    assert (tree.head(), tree.branch()) == (None, "main")
    first = commit(project, a="1")
    assert (tree.head(), tree.branch()) == (first, "main")
    git(project, "checkout", "-q", "-b", "team/ünicode")
    second = commit(project, a="2")
    assert (tree.head(), tree.branch()) == (second, "team/ünicode")
    git(project, "pack-refs", "--all")
    assert not (project / ".git/refs/heads/main").exists()
    assert tree.head() == second
    third = commit(project, a="3")
    assert tree.head() == third, "a loose ref goes before a packed one"
    git(project, "checkout", "-q", "--detach", first)
    assert (tree.head(), tree.branch()) == (first, None)
    git(project, "checkout", "-q", "--orphan", "empty")
    assert (tree.head(), tree.branch()) == (None, "empty")


def test_a_branch_may_stand_for_another_one(tree: WorkTree, project: Path) -> None:
    first = commit(project, a="1")
    git(project, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    git(project, "symbolic-ref", "HEAD", "refs/heads/alias")
    assert tree.head() == first


def test_a_linked_working_tree_has_its_own_head(project: Path, tmp_path: Path) -> None:
    first = commit(project, a="1")
    git(project, "worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    linked = WorkTree.ensure(tmp_path / "linked" / "functions")
    assert linked.root == tmp_path / "linked"
    assert (linked.head(), linked.branch()) == (first, "other")
    git(project, "pack-refs", "--all")
    assert linked.head() == first
    second = commit(tmp_path / "linked", a="2")
    assert linked.head() == second
    (project / ".git" / "worktrees" / "linked" / "index.lock").touch()
    assert linked.locked()


def test_a_submodule_is_a_repository_of_its_own(project: Path, tmp_path: Path) -> None:
    first = commit(project, a="1")
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "-q")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(project), "sub")
    tree = WorkTree.ensure(outer / "sub" / "functions")
    assert (tree.root, tree.head()) == (outer / "sub", first)


def test_the_lock_is_seen(tree: WorkTree, project: Path) -> None:
    assert not tree.locked()
    (project / ".git" / "index.lock").touch()
    assert tree.locked()


def test_dirty_names_what_differs_in_the_functions_folder_only(tree: WorkTree, project: Path) -> None:
    commit(project, a="1", b="1", c="1", d="1")
    (project / "functions" / "a.py").write_text("2")
    (project / "functions" / "b.py").unlink()
    git(project, "mv", "functions/c.py", "functions/moved.py")
    (project / "functions" / "d.py").write_text("2")
    git(project, "add", "functions/d.py")
    (project / "functions" / "new").mkdir()
    strange = "new/ö\n -> *.py"
    (project / "functions" / strange).write_text("")
    (project / "README.md").write_text("")
    assert tree.dirty() == ("a.py", "b.py", "c.py", "d.py", "moved.py", strange)
    commit(project)
    assert tree.dirty() == ()


def test_a_folder_named_like_a_pattern_is_taken_literally(project: Path) -> None:
    (project / "[ab]*").mkdir()
    (project / "[ab]*" / "x.py").write_text("")
    (project / "b").mkdir()
    (project / "b" / "y.py").write_text("")
    assert WorkTree.ensure(project / "[ab]*").dirty() == ("x.py",)


def test_an_ignored_functions_folder_is_told(tree: WorkTree, project: Path) -> None:
    assert not tree.ignored()
    (project / ".gitignore").write_text("functions/\n")
    assert tree.ignored()


def test_a_git_hook_that_starts_the_server_does_not_send_it_elsewhere(
    tree: WorkTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))
    assert tree.dirty() == ()
    (tree.root / "functions" / "a.py").write_text("")
    assert tree.dirty() == ("a.py",)


def test_a_repository_of_someone_else_is_explained(tree: WorkTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(RepositoryError, match="another user") as caught:
        tree.dirty()
    assert caught.value.hint is not None and "safe.directory" in caught.value.hint


def test_a_missing_git_is_explained(tree: WorkTree, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RepositoryError, match="not installed"):
        tree.dirty()
    assert tree.branch() == "main", "what is read from files works without git"


def test_a_broken_repository_is_explained(tree: WorkTree, project: Path) -> None:
    commit(project, a="1")
    (project / ".git" / "objects").rename(project / ".git" / "lost")
    with pytest.raises(RepositoryError, match="repository"):
        tree.dirty()
    (project / ".git").rename(project / "gone")
    with pytest.raises(RepositoryError, match="any more"):
        tree.head()
    assert not tree.locked()


def test_refs_that_go_in_circles_are_an_error(tree: WorkTree, project: Path) -> None:
    (project / ".git/refs/heads/main").write_text("ref: refs/heads/loop\n")
    (project / ".git/refs/heads/loop").write_text("ref: refs/heads/main\n")
    with pytest.raises(RepositoryError, match="leads nowhere"):
        tree.head()


def test_it_is_imported_without_gitpython() -> None:
    code = "import sys, fnsync.git.history; sys.exit('git' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ.copy(), check=False).returncode == 0


def test_the_status_tells_of_a_filter_that_fails(tree: WorkTree, project: Path) -> None:
    commit(project, a="a = 1\n")
    (project / ".gitattributes").write_text("*.py filter=broken\n")
    git(project, "config", "filter.broken.clean", "exit 3")
    git(project, "config", "filter.broken.required", "true")
    (project / "functions/a.py").write_text("a = 2\n")

    told = repository_status(tree, "commit")

    assert told is not None and "a filter of the repository fails" in told["error"]
