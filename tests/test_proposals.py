"""Edits on branches: what they hold, where they are pushed to, and that the working tree stays as it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fnsync.errors import CommitRefused, Conflict
from fnsync.git.commit import Author
from fnsync.git.proposals import Proposal, Target, clean, compare_url, propose
from fnsync.git.worktree import WorkTree
from tests.conftest import Project

ADA = Author("Ada", "ada@example.org")


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    bare = tmp_path / "remote.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    return bare


@pytest.fixture
def project(project: Project, remote: Path) -> Project:
    project.write("a.py", "a = 1\n")
    project.write("b.py", "b = 1\n")
    project.commit("first")
    project.git("remote", "add", "origin", str(remote))
    return project


def propose_in(project: Project, tmp_path: Path, content: bytes | None, branch: str | None = None) -> Proposal | None:
    target = Target("origin", branch, tmp_path / "linked")
    worktree = WorkTree(project.root, project.functions)
    return propose(worktree, target, {"functions/a.py": content}, "a", ADA, "Update a\n\nFnsync-User: 1\n")


def state(project: Project) -> list[str]:
    return [project.git(*asked.split()) for asked in ("status --porcelain", "rev-parse HEAD", "branch --show-current")]


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_edit_is_one_commit_on_a_pushed_branch(project: Project, remote: Path, tmp_path: Path) -> None:
    project.write("b.py", "b = 'not committed'\n")
    before = state(project)

    proposal = propose_in(project, tmp_path, b"a = 2\n")

    assert proposal is not None and proposal.pushed and proposal.compare_url is None
    assert proposal.branch == f"fnsync/a-{proposal.commit[:8]}"
    assert git(remote, "rev-parse", proposal.branch) == proposal.commit
    shown = git(remote, "log", "-1", "--format=%an|%s|%(trailers:key=Fnsync-User,valueonly)", proposal.branch)
    assert shown == "Ada|Update a|1"
    assert git(remote, "diff", "--name-only", f"{proposal.branch}~1", proposal.branch) == "functions/a.py"
    assert (project.functions / "a.py").read_text() == "a = 1\n"
    assert state(project) == before
    assert project.git("worktree", "list").count("\n") == 0
    assert list((tmp_path / "linked").iterdir()) == []


def test_a_removal_and_no_change(project: Project, tmp_path: Path) -> None:
    removal = propose_in(project, tmp_path, None)

    assert removal is not None
    assert project.git("ls-tree", "-r", "--name-only", removal.commit) == "functions/b.py"
    assert propose_in(project, tmp_path, b"a = 1\n") is None


def test_it_is_made_from_the_branch_that_is_named(project: Project, tmp_path: Path) -> None:
    project.git("branch", "stable")
    project.write("b.py", "b = 2\n")
    project.commit("second")
    project.git("branch", "other")
    project.write("a.py", "a = 3\n")
    project.commit("third")
    project.git("checkout", "--quiet", "other")

    proposal = propose_in(project, tmp_path, b"a = 2\n", branch="stable")

    assert proposal is not None
    assert project.git("rev-parse", f"{proposal.commit}~1") == project.git("rev-parse", "stable")
    with pytest.raises(Conflict, match="no branch gone"):
        propose_in(project, tmp_path, b"a = 2\n", branch="gone")
    with pytest.raises(Conflict, match=r"functions/a.py: the branch main has something else"):
        propose_in(project, tmp_path, b"a = 2\n", branch="main")


def test_a_repository_without_a_commit_has_no_branch_to_make_one_from(tmp_path: Path) -> None:
    empty = Project(tmp_path / "empty")
    empty.write("a.py", "a = 1\n")
    with pytest.raises(Conflict, match="no commit yet"):
        propose_in(empty, tmp_path, b"a = 2\n")


def test_hooks_see_the_whole_tree_and_may_refuse(project: Project, tmp_path: Path) -> None:
    hook = project.root / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntest -e functions/b.py || exit 2\necho 'not today'; exit 1\n")
    hook.chmod(0o755)

    with pytest.raises(CommitRefused, match="not today"):
        propose_in(project, tmp_path, b"a = 2\n")


def test_a_push_that_fails_leaves_the_branch_here(project: Project, remote: Path, tmp_path: Path) -> None:
    project.git("remote", "set-url", "origin", str(tmp_path / "nowhere.git"))

    proposal = propose_in(project, tmp_path, b"a = 2\n")

    assert proposal is not None and not proposal.pushed
    assert "nowhere.git" in (proposal.problem or "")
    assert project.git("rev-parse", proposal.branch) == proposal.commit


def test_without_a_remote_the_branch_is_here(project: Project, tmp_path: Path) -> None:
    project.git("remote", "remove", "origin")

    proposal = propose_in(project, tmp_path, b"a = 2\n")

    assert proposal is not None and not proposal.pushed and "no remote origin" in (proposal.problem or "")


def test_what_a_crash_left_is_cleaned(project: Project, tmp_path: Path) -> None:
    project.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked/x"))

    clean(WorkTree(project.root, project.functions), tmp_path / "linked")

    assert project.git("worktree", "list").count("\n") == 0


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("git@github.com:acme/functions.git", "https://github.com/acme/functions/compare/main...fnsync/a-1"),
        ("https://ada:secret@github.com/acme/functions", "https://github.com/acme/functions/compare/main...fnsync/a-1"),
        ("ssh://git@codeberg.org:2222/acme/f.git", "https://codeberg.org/acme/f/compare/main...fnsync/a-1"),
        ("https://gitea.example.org:3000/acme/f", "https://gitea.example.org:3000/acme/f/compare/main...fnsync/a-1"),
        (
            "git@gitlab.example.org:team/sub/f.git",
            "https://gitlab.example.org/team/sub/f/-/merge_requests/new?merge_request%5Bsource_branch%5D=fnsync%2Fa-1"
            "&merge_request%5Btarget_branch%5D=main",
        ),
        (
            "git@bitbucket.org:acme/f.git",
            "https://bitbucket.org/acme/f/pull-requests/new?source=fnsync%2Fa-1&dest=main",
        ),
        ("/srv/git/f.git", None),
        ("file:///srv/github/f.git", None),
        ("https://git.example.org/acme/f.git", None),
        ("", None),
    ],
)
def test_the_hosts_that_are_known_get_an_address_to_compare_at(address: str, url: str | None) -> None:
    assert compare_url(address, "main", "fnsync/a-1") == url
