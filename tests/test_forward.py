"""The working tree goes on to what was fetched; what is uncommitted stays, or is named as in the way."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fnsync.errors import FetchFailed, PullRefused
from fnsync.git import remote
from fnsync.git.edit import TreeEditor
from fnsync.git.forward import forward
from fnsync.git.journal import Journal
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId
from tests.repositories import Repository


class Following:
    """A working tree that follows a bare repository, and another one that pushes to it."""

    def __init__(self, folder: Path) -> None:
        self.here, self.there = Repository.at(folder / "here"), Repository.at(folder / "there")
        self.tree = WorkTree.ensure(self.here.functions)
        self.editor = TreeEditor(self.tree, Journal(folder / "journal"))

    def push(self, files: dict[str, str | None]) -> CommitId:
        commit = self.there.commit(1, files)
        self.there.git("push", "-q", "origin", "main")
        return CommitId(commit)

    def pull(self) -> tuple[str, ...]:
        target = remote.fetch(self.tree, "origin", "main")
        head = self.tree.head()
        assert head is not None
        with self.editor.locked():
            return forward(self.tree, head, target)

    def texts(self) -> dict[str, str]:
        files = self.here.functions.rglob("*")
        return {str(file.relative_to(self.here.functions)): file.read_text() for file in files if file.is_file()}

    def status(self) -> list[str]:
        return self.here.git("status", "--porcelain", "--untracked-files=all").splitlines()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each test gets a copy of; the repositories name each other by relative paths."""
    folder = tmp_path_factory.mktemp("made")
    here = Repository(folder / "here")
    here.commit(0, {"a.py": "1\n", "b.py": "1\n", "c.py": "1\n", "folder/main.py": "1\n"})
    here.git("init", "-q", "--bare", "../remote.git")
    here.git("remote", "add", "origin", "../remote.git")
    here.git("push", "-q", "origin", "main")
    shutil.copytree(folder / "here", folder / "there")
    return folder


@pytest.fixture
def following(made: Path, tmp_path: Path) -> Following:
    return Following(shutil.copytree(made, tmp_path / "made"))


def test_only_what_comes_in_is_touched(following: Following) -> None:
    here = following.here
    (here.functions / "b.py").write_text("mine\n")
    (here.functions / "c.py").write_text("staged\n")
    here.git("add", "functions/c.py")
    (here.functions / "new.py").write_text("untracked\n")
    untouched = (here.functions / "b.py").stat().st_ctime_ns
    before = following.status()
    commit = following.push({"a.py": "2\n", "folder/main.py": None, "folder.py": "2\n", "x/y/main.py": "2\n"})
    changed = following.pull()
    assert changed == tuple(f"functions/{path}" for path in ("a.py", "folder.py", "folder/main.py", "x/y/main.py"))
    assert here.head() == commit
    mine = {"b.py": "mine\n", "c.py": "staged\n", "new.py": "untracked\n"}
    assert following.texts() == mine | {"a.py": "2\n", "folder.py": "2\n", "x/y/main.py": "2\n"}
    assert not (here.functions / "folder").exists()
    assert following.status() == before, "what is staged, changed and untracked is so as before"
    assert (here.functions / "b.py").stat().st_ctime_ns == untouched
    assert not list((here.folder / ".git").glob("fnsync-*"))


def test_files_that_are_links_or_programs(following: Following) -> None:
    (following.there.functions / "link.py").symlink_to("a.py")
    (following.there.functions / "a.py").chmod(0o755)
    following.push({})
    following.pull()
    assert (following.here.functions / "link.py").readlink() == Path("a.py")
    assert os.access(following.here.functions / "a.py", os.X_OK)
    assert following.status() == []


@pytest.mark.parametrize(
    "work", ["dirty", "staged", "hidden", "skipped", "untracked", "ignored", "deleted", "folder", "file"]
)
def test_what_is_in_the_way_is_named_and_kept(following: Following, work: str) -> None:
    here, functions = following.here, following.here.functions
    name = "n.py"
    if work in ("dirty", "staged", "hidden", "skipped"):
        name = "a.py"
        (functions / name).write_text("mine\n")
        if work == "staged":
            here.git("add", "functions")
            (functions / name).write_text("1\n")
        elif work != "dirty":
            here.git("update-index", "--assume-unchanged" if work == "hidden" else "--skip-worktree", "functions/a.py")
    elif work == "deleted":
        name = "a.py"
        (functions / name).unlink()
    elif work == "folder":
        (functions / name).mkdir()
        (functions / name / "mine.txt").write_text("mine\n")
    elif work == "file":
        name = "n.py/main.py"
        (functions / "n.py").write_text("mine\n")
    else:
        (functions / name).write_text("mine\n")
        if work == "ignored":
            (here.folder / ".git/info/exclude").write_text("n.py\n")
    following.push({name: "2\n", "b.py": "2\n"})
    before, status, head = following.texts(), following.status(), here.head()
    with pytest.raises(PullRefused, match=r"functions/n\.py|functions/a\.py") as refused:
        following.pull()
    assert "nothing was pulled" in refused.value.message
    assert (following.texts(), following.status(), here.head()) == (before, status, head)
    for path in (functions / "n.py", functions / "a.py"):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for flag in ("--no-assume-unchanged", "--no-skip-worktree"):
        here.git("update-index", flag, "functions/a.py")
    here.git("checkout", "-q", "HEAD", "--", "functions")
    following.pull()
    assert (functions / name).read_text() == "2\n" and following.status() == []


def test_nothing_is_written_through_a_link(following: Following, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (following.here.functions / "l").symlink_to(outside)
    following.push({"l/main.py": "2\n"})
    with pytest.raises(PullRefused, match="functions/l"):
        following.pull()
    assert not list(outside.iterdir())


def test_a_pull_that_a_crash_cut_off_goes_on(following: Following) -> None:
    """Files that have the new content already are no work of anybody's, whatever the index says of them."""
    here = following.here
    following.push({"a.py": "2\n", "b.py": None, "n.py": "2\n", "c.py": "2\n"})
    (here.functions / "a.py").write_text("2\n")
    (here.functions / "b.py").unlink()
    (here.functions / "n.py").write_text("2\n")
    (here.functions / "c.py").write_text("2\n")
    here.git("add", "functions/c.py")
    following.pull()
    assert following.texts() == {"a.py": "2\n", "c.py": "2\n", "folder/main.py": "1\n", "n.py": "2\n"}
    assert following.status() == []


def test_what_fails_in_the_middle_is_taken_back(following: Following) -> None:
    following.push({"a.py": "2\n", "b.py": None, "folder/main.py": None, "n/main.py": "2\n"})
    before, head = following.texts(), following.here.head()
    # git cannot move the branch
    ref = following.here.folder / ".git/refs/heads/main.lock"
    ref.touch()
    with pytest.raises(Exception, match=r"main\.lock"):
        following.pull()
    assert (following.texts(), following.here.head()) == (before, head)
    assert following.status() == [] and not (following.here.functions / "n").exists()
    ref.unlink()
    following.pull()
    assert following.texts() == {"a.py": "2\n", "c.py": "1\n", "n/main.py": "2\n"}


def test_lines_end_as_the_repository_says(following: Following) -> None:
    (following.here.folder / ".gitattributes").write_text("*.py text eol=crlf\n")
    following.push({"a.py": "2\n"})
    following.pull()
    assert (following.here.functions / "a.py").read_bytes() == b"2\r\n"


def test_how_far_apart(following: Following) -> None:
    following.push({"a.py": "2\n"})
    following.push({"a.py": "3\n"})
    following.here.commit(2, {"b.py": "2\n"})
    target = remote.fetch(following.tree, "origin", "main")
    assert remote.distance(following.tree, target) == remote.Distance(ahead=1, behind=2)
    head = following.tree.head()
    assert head is not None
    assert [commit.commit for commit in remote.between(following.tree, head, target)][0] == target


def test_a_fetch_that_fails_says_why(following: Following) -> None:
    with pytest.raises(FetchFailed, match="no branch trunk"):
        remote.fetch(following.tree, "origin", "trunk")
    with pytest.raises(PullRefused, match="no remote elsewhere"):
        remote.fetch(following.tree, "elsewhere", "main")
    following.here.git("remote", "set-url", "origin", "http://ada:s3cr3t@127.0.0.1:9/x.git?token=t0k")
    with pytest.raises(FetchFailed) as failed:
        remote.fetch(following.tree, "origin", "main")
    told = failed.value.message + str(failed.value.hint)
    assert "http://127.0.0.1:9/x.git" in told
    assert not [secret for secret in ("ada", "s3cr3t", "t0k") if secret in told.replace(str(following.tree.root), "")]


@pytest.mark.parametrize(
    ("text", "url", "shown"),
    [
        ("at https://u:p@h/x", None, "at https://h/x"),
        ("at https://u:p@s@h/x", None, "at https://h/x"),
        ("at 'https://h/x?access_token=1&y=2': no", None, "at 'https://h/x': no"),
        ("password for hunter2 is wrong", "https://ada:hunter2@h/x", "password for *** is wrong"),
        ("p ss and p%20ss", "https://ada:p%20ss@h/x", "*** and ***"),
        ("a token: gh_1", "https://gh_1@h/x", "a token: ***"),
        ("git at git@h:x", "ssh://git@h/x", "git at git@h:x"),
    ],
)
def test_credentials_are_taken_out(text: str, url: str | None, shown: str) -> None:
    assert remote.redacted(text, url) == shown
