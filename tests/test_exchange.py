"""Pulls and pushes of one working tree whose edits are pushed, with a bare repository that others push to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fnsync.errors import Draining, FetchFailed, PullRefused, PushFailed, PushRefused
from fnsync.git import conflicts
from fnsync.git.edit import TreeEditor
from fnsync.git.journal import Journal
from fnsync.git.pull import Pulled, Puller
from fnsync.git.push import moved_on, pending
from fnsync.git.remote import NoSuchRef
from fnsync.git.trailers import user_line
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId
from fnsync.pushes import too_slow
from tests.conftest import wait_for
from tests.repositories import Repository

Files = dict[str, str | None]


class Sharing:
    """A working tree that fnsync edits, the bare repository, and a colleague's clone."""

    def __init__(self, folder: Path) -> None:
        self.here, self.there = Repository.at(folder / "here"), Repository.at(folder / "there")
        self.bare = folder / "remote.git"
        self.puller = self.anew()

    def anew(self) -> Puller:
        """What a start of the server makes."""
        self.tree = WorkTree.ensure(self.here.functions)
        self.editor = TreeEditor(self.tree, Journal(self.here.folder.parent / "journal"))
        return Puller(self.editor, "origin", None, replays=True)

    def edit(self, files: Files, subject: str = "edit", at: int = 10) -> str:
        """An edit over the API."""
        return self.here.commit(at, files, message=f"{subject}\n\n{user_line('u1')}")

    def push(self, files: Files, *options: str) -> str:
        """A colleague's commit."""
        self.there.git("pull", "-q", "--rebase", "origin", "main")
        commit = self.there.commit(20, files, by="bob@example.org", message="theirs")
        self.there.git("push", "-q", *options, "origin", "main")
        return commit

    def exchange(self) -> Pulled | None:
        """Push, and pull before if need be."""
        if not self.puller.push().is_behind:
            return None
        pulled = self.puller.pull()
        assert not self.puller.push().is_behind
        return pulled

    def remote(self, branch: str = "main") -> str:
        return self.here.git("--git-dir", str(self.bare), "rev-parse", f"refs/heads/{branch}")

    def subjects(self, commits: str = "HEAD") -> list[str]:
        return self.here.git("log", "--reverse", "--format=%s", commits).splitlines()

    def texts(self) -> dict[str, str]:
        return {file.name: file.read_text() for file in sorted(self.here.functions.iterdir())}

    def status(self) -> list[str]:
        """The first line without the space that it may begin with."""
        return self.here.git("status", "--porcelain", "--untracked-files=all").splitlines()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    here = Repository(folder / "here")
    here.commit(0, {"a.py": "a = 1\n", "b.py": "b = 1\n", "c.py": "c = 1\n"}, message="first")
    here.git("init", "-q", "--bare", "-b", "main", "../remote.git")
    here.git("remote", "add", "origin", "../remote.git")
    here.git("push", "-q", "origin", "main")
    here.git("fetch", "-q", "origin")
    shutil.copytree(folder / "here", folder / "there")
    return folder


@pytest.fixture
def sharing(made: Path, tmp_path: Path) -> Sharing:
    return Sharing(shutil.copytree(made, tmp_path / "made"))


def hook(file: Path, script: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def test_an_edit_is_pushed_as_it_is(sharing: Sharing) -> None:
    commits = [sharing.edit({"a.py": f"a = {number}\n"}) for number in (2, 3)]
    assert sharing.puller.pending() == 2
    pushed = sharing.puller.push()
    assert (pushed.count, pushed.is_behind) == (2, False)
    assert sharing.remote() == commits[-1]
    assert sharing.puller.pending() == 0 and sharing.puller.push().count == 0


def test_a_branch_is_made_where_the_remote_has_none(sharing: Sharing) -> None:
    sharing.here.git("checkout", "-q", "-b", "trunk")
    with pytest.raises(NoSuchRef):
        sharing.puller.pull()
    assert sharing.puller.push().count == 0, "nothing of the API is there yet"
    commit = sharing.edit({"a.py": "a = 2\n"})
    assert sharing.puller.push().count == 2
    assert sharing.remote("trunk") == commit


def test_edits_go_on_top_of_what_came_meanwhile(sharing: Sharing) -> None:
    theirs = sharing.push({"b.py": "b = 2\n", "n.py": "n = 1\n"})
    sharing.edit({"a.py": "a = 2\n"}, "edit a")
    (sharing.here.functions / "c.py").write_text("mine\n")
    (sharing.here.functions / "untracked.py").write_text("mine\n")
    pulled = sharing.exchange()
    assert pulled is not None and (pulled.replayed, pulled.count, pulled.dropped) == (1, 1, ())
    assert pulled.paths == ("functions/b.py", "functions/n.py")
    assert sharing.subjects() == ["first", "theirs", "edit a"]
    assert sharing.remote() == sharing.here.head() and sharing.here.git("rev-parse", "HEAD~1") == theirs
    mine = {"c.py": "mine\n", "untracked.py": "mine\n"}
    assert sharing.texts() == {"a.py": "a = 2\n", "b.py": "b = 2\n", "n.py": "n = 1\n"} | mine
    assert sharing.status() == ["M functions/c.py", "?? functions/untracked.py"]


def test_what_does_not_fit_is_on_a_branch_that_is_told_of(sharing: Sharing) -> None:
    sharing.push({"b.py": "b = 2\n"})
    sharing.edit({"a.py": "a = 2\n"}, "edit a")
    mine = sharing.edit({"b.py": "b = 3\n"}, "edit b")
    pulled = sharing.exchange()
    assert pulled is not None and [dropped.subject for dropped in pulled.dropped] == ["edit b"]
    assert sharing.texts() == {"a.py": "a = 2\n", "b.py": "b = 2\n", "c.py": "c = 1\n"}
    assert sharing.subjects() == ["first", "theirs", "edit a"] and sharing.status() == []
    (branch,) = sharing.puller.conflicts()
    assert branch.branch == pulled.aside == conflicts.name(branch.commit, branch.at)
    assert branch.branch.startswith("fnsync/conflict/20231114-")
    assert (branch.subject, branch.author, branch.commits, branch.pushed) == ("edit b", "A", 1, True)
    assert branch.paths == ("functions/b.py",)
    assert sharing.remote(branch.branch) == branch.commit
    assert sharing.here.git("show", f"{branch.commit}:functions/b.py") == "b = 3"
    assert branch.commit != mine, "it begins where the two sides parted"
    sharing.here.git("merge", "-q", "-s", "ours", branch.branch)
    assert sharing.puller.conflicts() == ()


def test_a_branch_in_the_way_of_such_branches_is_named(sharing: Sharing) -> None:
    sharing.here.git("branch", "fnsync")
    sharing.push({"a.py": "a = 9\n"})
    commit = sharing.edit({"a.py": "a = 2\n"})
    with pytest.raises(PullRefused, match="the branch fnsync is in the way") as refused:
        sharing.puller.pull()
    assert (refused.value.hint, sharing.here.head()) == ("git branch -m fnsync OTHER", commit)
    sharing.here.git("branch", "-m", "fnsync", "other")
    assert sharing.puller.pull().aside is not None


def test_a_branch_that_the_remote_does_not_take_does_not_hold_up_the_rest(sharing: Sharing) -> None:
    hook(sharing.bare / "hooks/update", "case $1 in */conflict/*) echo no such branches; exit 1;; esac")
    sharing.push({"b.py": "b = 2\n"})
    sharing.edit({"b.py": "b = 3\n"})
    assert sharing.puller.push().is_behind
    sharing.puller.pull()
    pushed = sharing.puller.push()
    assert pushed.branches == () and "no such branches" in pushed.problems[0]
    assert sharing.puller.push().problems == (), "it is not tried again"
    assert not sharing.puller.conflicts()[0].pushed
    sharing.edit({"a.py": "a = 2\n"})
    assert sharing.puller.push().count == 1


def test_uncommitted_work_in_the_way_is_named_and_kept(sharing: Sharing) -> None:
    sharing.push({"b.py": "b = 2\n"})
    commit = sharing.edit({"a.py": "a = 2\n"})
    (sharing.here.functions / "b.py").write_text("mine\n")
    assert sharing.puller.push().is_behind
    with pytest.raises(PullRefused, match=r"functions/b\.py"):
        sharing.puller.pull()
    assert sharing.here.head() == commit and sharing.status() == ["M functions/b.py"]
    (sharing.here.functions / "b.py").write_text("b = 1\n")
    assert sharing.exchange() is not None
    assert sharing.subjects() == ["first", "theirs", "edit"]


def test_a_persons_commits_are_not_rewritten_nor_pushed_alone(sharing: Sharing) -> None:
    by_hand = sharing.here.commit(5, {"c.py": "c = 2\n"}, message="by hand")
    assert sharing.puller.pending() == 0 and sharing.puller.push().count == 0
    commit = sharing.edit({"a.py": "a = 2\n"})
    sharing.push({"b.py": "b = 2\n"})
    assert sharing.puller.push().is_behind
    with pytest.raises(PullRefused, match=f"1 commit made by hand.*{by_hand[:8]}") as refused:
        sharing.puller.pull()
    assert refused.value.hint == "git pull --rebase origin main && git push origin main"
    assert sharing.here.head() == commit
    sharing.here.git("pull", "-q", "--rebase", "origin", "main")
    assert sharing.puller.push().count == 2, "with an edit on top they are"


def test_what_the_remote_had_and_dropped_does_not_come_back(sharing: Sharing) -> None:
    commit = sharing.edit({"a.py": "a = 2\n"}, "bad")
    sharing.exchange()
    sharing.there.commit(20, {"b.py": "b = 2\n"}, message="instead")
    sharing.there.git("push", "-q", "--force", "origin", "main")
    sharing.edit({"c.py": "c = 2\n"})
    assert sharing.puller.push().is_behind
    with pytest.raises(PullRefused, match="its history was rewritten"):
        sharing.puller.pull()
    assert sharing.here.git("rev-parse", "HEAD~1") == commit


def test_without_pushing_nothing_is_made_anew(sharing: Sharing) -> None:
    sharing.push({"b.py": "b = 2\n"})
    commit = sharing.edit({"a.py": "a = 2\n"})
    with pytest.raises(PullRefused, match=r"diverged.*repository\.push"):
        Puller(sharing.editor, "origin", None).pull()
    assert sharing.here.head() == commit


def test_another_branch_is_not_pushed(sharing: Sharing) -> None:
    sharing.edit({"a.py": "a = 2\n"})
    sharing.here.git("checkout", "-q", "--detach")
    assert sharing.puller.pending() == 0
    with pytest.raises(PullRefused, match="HEAD is detached"):
        sharing.puller.push()


def test_a_branch_that_somebody_goes_over_to_meanwhile_stays_where_it_is(sharing: Sharing) -> None:
    sharing.push({"b.py": "b = 2\n"})
    serves = sharing.bare.with_name("serves.sh")
    hook(serves, f"git -C '{sharing.here.folder}' switch -q -c feature && exec git-upload-pack \"$@\"")
    sharing.here.git("config", "remote.origin.uploadpack", str(serves))
    main = sharing.here.head()
    with pytest.raises(PullRefused, match="from main to another branch"):
        sharing.puller.pull()
    assert sharing.here.head() == main and sharing.texts()["b.py"] == "b = 1\n"
    sharing.edit({"a.py": "a = 2\n"})
    assert pending(sharing.tree, "origin", "main", CommitId(main)) == 0, "what is on another branch does not count"


REFUSALS = {
    "hooks/pre-receive": ("remote", "echo only on Mondays >&2; exit 1", PushRefused, "hook declined.*only on Mondays"),
    "hooks/update": ("remote", "echo protected >&2; exit 1", PushRefused, "hook declined.*protected"),
    ".git/hooks/pre-push": ("here", "echo not from here >&2; exit 1", PushRefused, "pre-push hook.*not from here"),
}


@pytest.mark.parametrize("place", REFUSALS)
def test_a_refusal_is_told_in_the_words_of_who_refuses(sharing: Sharing, place: str) -> None:
    whose, script, error, words = REFUSALS[place]
    before = sharing.remote()
    file = (sharing.bare if whose == "remote" else sharing.here.folder) / place
    hook(file, script)
    commit = sharing.edit({"a.py": "a = 2\n"})
    with pytest.raises(error, match=words):
        sharing.puller.push()
    assert (sharing.remote(), sharing.here.head(), sharing.puller.pending()) == (before, commit, 1)
    file.unlink()
    assert sharing.puller.push().count == 1


def test_a_push_that_fails_tells_no_credential(sharing: Sharing) -> None:
    sharing.edit({"a.py": "a = 2\n"})
    sharing.here.git("remote", "set-url", "--push", "origin", "http://ada:s3cr3t@127.0.0.1:9/x.git?token=t0k")
    with pytest.raises(PushFailed, match=r"http://127\.0\.0\.1:9/x\.git") as failed:
        sharing.puller.push()
    told = failed.value.message + str(failed.value.hint)
    assert not [secret for secret in ("ada:", "s3cr3t", "t0k") if secret in told]
    with pytest.raises(PullRefused, match="no remote elsewhere"):
        Puller(sharing.editor, "elsewhere", None, replays=True).push()


def test_a_push_that_hangs_can_be_ended(sharing: Sharing, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    hook(sharing.here.folder / ".git/hooks/pre-push", f"touch {begun}; exec sleep 60")
    sharing.edit({"a.py": "a = 2\n"})

    def stop() -> None:
        wait_for("the push", begun.exists)
        sharing.puller.stop()

    stopping = threading.Thread(target=stop)
    stopping.start()
    with pytest.raises(PushFailed, match="cannot push"):
        sharing.puller.push()
    stopping.join()
    with pytest.raises(Draining):
        sharing.puller.push()


@pytest.mark.parametrize(
    ("problem", "moved"),
    [
        ("[rejected] (fetch first)", True),
        ("[rejected] (non-fast-forward)", True),
        ("[remote rejected] (failed to update ref)", True),
        ("[remote rejected] (cannot lock ref 'refs/heads/main': is at 1 but expected 2)", True),
        ("[remote rejected] (pre-receive hook declined)", False),
        ("[remote rejected] (protected branch hook declined)", False),
    ],
)
def test_what_a_rejection_is_about(problem: str, moved: bool) -> None:
    assert moved_on(problem) is moved


def test_a_remote_that_cannot_lock_its_branch_is_quoted(sharing: Sharing) -> None:
    """For a moment that is another push; when it stays so, its words tell more than ours."""
    sharing.edit({"a.py": "a = 2\n"})
    (sharing.bare / "refs/heads/main.lock").touch()
    pushed = sharing.puller.push()
    assert pushed.is_behind and "failed to update ref" in str(too_slow("origin", pushed.problem))


def test_a_signed_repository_stays_signed(sharing: Sharing, tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("there is no ssh-keygen to sign with")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    for name, value in (("gpg.format", "ssh"), ("user.signingKey", str(key)), ("commit.gpgSign", "true")):
        sharing.here.git("config", name, value)
    sharing.push({"b.py": "b = 2\n"})
    sharing.edit({"a.py": "a = 2\n"})
    sharing.exchange()
    assert "gpgsig -----BEGIN SSH SIGNATURE" in sharing.here.git("cat-file", "commit", "HEAD")


CRASH = """
import os, signal, sys
from pathlib import Path
from fnsync.git import pull
from fnsync.git.edit import TreeEditor
from fnsync.git.forward import forward
from fnsync.git.journal import Journal
from fnsync.git.worktree import WorkTree

functions, journal, at = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def step(name):
    if name == at:
        os.kill(os.getpid(), signal.SIGKILL)

pull.forward = lambda *arguments: forward(*arguments, on_step=step)
pull.Puller(TreeEditor(WorkTree.ensure(functions), Journal(journal)), "origin", None, replays=True).pull()
"""


@pytest.mark.parametrize("step", ["staged", "put", "indexed", "moved"])
def test_a_pull_that_was_killed_is_completed_or_was_never_begun(sharing: Sharing, step: str) -> None:
    """In the middle of a move with an edit that goes on top, and one that goes aside."""
    theirs = sharing.push({"b.py": "b = 2\n", "n.py": "n = 1\n", "c.py": None})
    sharing.edit({"a.py": "a = 2\n"}, "edit a")
    mine = sharing.edit({"b.py": "b = 3\n"}, "edit b")
    (sharing.here.functions / "work.py").write_text("mine\n")
    command = [sys.executable, "-c", CRASH, str(sharing.here.functions), str(sharing.here.folder.parent / "j"), step]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])})
    assert done.returncode == -signal.SIGKILL, done.stderr
    sharing.puller = sharing.anew()
    recovered = sharing.editor.recover()
    if step == "staged":
        assert sharing.here.head() == mine and sharing.puller.conflicts() == ()
    else:
        assert sharing.here.git("rev-parse", "HEAD~1") == theirs
        assert [found.outcome for found in recovered] == ([] if step == "moved" else ["completed"])
    assert sharing.status() == ["?? functions/work.py"]
    sharing.exchange()
    assert sharing.texts() == {"a.py": "a = 2\n", "b.py": "b = 2\n", "n.py": "n = 1\n", "work.py": "mine\n"}
    assert sharing.subjects() == ["first", "theirs", "edit a"] and sharing.status() == ["?? functions/work.py"]
    assert [branch.subject for branch in sharing.puller.conflicts()] == ["edit b"]
    assert not list((sharing.here.folder / ".git").glob("fnsync-*")), "nothing is left"


def test_a_pull_that_was_killed_leaves_alone_what_somebody_changed_since(sharing: Sharing) -> None:
    sharing.push({"b.py": "b = 2\n"})
    commit = sharing.edit({"a.py": "a = 2\n"})
    command = [sys.executable, "-c", CRASH, str(sharing.here.functions), str(sharing.here.folder.parent / "j"), "put"]
    subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])})
    (sharing.here.functions / "b.py").write_text("mine\n")
    sharing.puller = sharing.anew()
    (found,) = sharing.editor.recover()
    assert found.outcome == "unfinished" and "functions/b.py" in str(found.problem)
    assert sharing.here.head() == commit and sharing.texts()["b.py"] == "mine\n"
    (sharing.here.functions / "b.py").write_text("b = 1\n")
    sharing.exchange()
    assert sharing.texts()["b.py"] == "b = 2\n" and sharing.remote() == sharing.here.head()


def test_a_remote_that_is_away_is_told_of(sharing: Sharing) -> None:
    sharing.edit({"a.py": "a = 2\n"})
    sharing.bare.rename(sharing.bare.with_name("away.git"))
    with pytest.raises(PushFailed, match="cannot push to"):
        sharing.puller.push()
    with pytest.raises(FetchFailed):
        sharing.puller.pull()
