"""Edits of a working tree: files and commit together, beside whatever else happens in the repository."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fnsync.errors import CommitRefused, NotWritable, RepositoryBlocked, RepositoryBusy
from fnsync.git import lock
from fnsync.git.commit import Author, Made
from fnsync.git.edit import Moved, TreeEditor
from fnsync.git.journal import Change, Intent, Journal
from fnsync.git.worktree import WorkTree
from tests.conftest import Project, wait_for

ADA = Author("Ada Lovelace", "ada@example.org")
OLD, NEW = b"old = 1\n", b"new = 2\n"


@pytest.fixture
def editor(project: Project, tmp_path: Path) -> TreeEditor:
    project.write("a.py", OLD.decode())
    project.write("other.py", "other = 1\n")
    project.commit("first")
    return editor_of(project, tmp_path)


def editor_of(project: Project, tmp_path: Path, on_step: Callable[[str], None] = lambda step: None) -> TreeEditor:
    return TreeEditor(WorkTree(project.root, project.functions), Journal(tmp_path / "journal"), on_step)


def edit(
    editor: TreeEditor, path: str, after: bytes | None, message: str = "Update a", author: Author | None = ADA
) -> Made | None:
    """Change one file, from whatever it holds now."""
    file = editor.worktree.root / path
    try:
        before = file.read_bytes()
    except FileNotFoundError:  # another branch may be checked out at any moment
        before = None
    with editor.locked():
        return editor.carry_out(Intent((Change(path, before, after),), message, author))


def leftovers(project: Project, tmp_path: Path) -> list[Path]:
    found = [*project.root.rglob(".fnsync-*"), *(project.root / ".git").glob("fnsync-*")]
    return [*found, *(project.root / ".git").glob("index.lock"), *(tmp_path / "journal").glob("*")]


# ---- the commit ------------------------------------------------------------------------------------------


def test_an_edit_is_one_commit_of_its_author(editor: TreeEditor, project: Project, tmp_path: Path) -> None:
    before = project.git("rev-parse", "HEAD")

    made = edit(editor, "functions/a.py", NEW, "Make it new\n\nAnd say why.\n")

    assert made is not None
    assert (made.commit, made.parent) == (project.git("rev-parse", "HEAD"), before)
    assert project.git("log", "-1", "--format=%an <%ae>, %cn, %ct") == f"Ada Lovelace <ada@example.org>, Ada, {made.at}"
    assert project.git("log", "-1", "--format=%B") == "Make it new\n\nAnd say why."
    assert project.git("show", "--format=", "--name-only", "HEAD") == "functions/a.py"
    assert (project.functions / "a.py").read_bytes() == NEW
    assert project.git("status", "--porcelain") == ""
    assert leftovers(project, tmp_path) == []


def test_files_are_made_and_removed_with_their_folders(editor: TreeEditor, project: Project) -> None:
    with editor.locked():
        editor.carry_out(
            Intent((Change("functions/x/main.py", None, NEW), Change("functions/x/data.txt", None, b"")), "Create x")
        )
    assert project.git("show", "--format=", "--name-status", "HEAD").split() == [
        "A", "functions/x/data.txt", "A", "functions/x/main.py",
    ]  # fmt: skip

    with editor.locked():
        editor.carry_out(
            Intent((Change("functions/x/main.py", NEW, None), Change("functions/x/data.txt", b"", None)), "Delete x")
        )
    assert project.git("show", "--format=", "--name-status", "HEAD").split()[::2] == ["D", "D"]
    assert not (project.functions / "x").exists()


def test_what_is_staged_changed_or_untracked_stays_exactly_so(editor: TreeEditor, project: Project) -> None:
    project.write("staged.py", "staged = 1\n")
    project.write("other.py", "other = 2\n")
    project.git("add", "functions/staged.py", "functions/other.py")
    project.write("other.py", "other = 3\n")
    project.write("untracked.py", "untracked = 1\n")
    (project.root / "notes.txt").write_text("mine")
    state = project.git("status", "--porcelain"), project.git("diff"), project.git("diff", "--cached")

    edit(editor, "functions/a.py", NEW)

    assert (project.git("status", "--porcelain"), project.git("diff"), project.git("diff", "--cached")) == state
    assert project.git("show", "--format=", "--name-only", "HEAD") == "functions/a.py"


def test_a_new_file_beside_staged_ones(editor: TreeEditor, project: Project) -> None:
    project.write("staged.py", "staged = 1\n")
    project.git("add", "functions/staged.py")

    edit(editor, "functions/b.py", NEW)

    assert project.git("status", "--porcelain") == "A  functions/staged.py"


def test_without_a_change_there_is_no_commit(editor: TreeEditor, project: Project) -> None:
    assert edit(editor, "functions/a.py", OLD) is None
    assert project.git("rev-list", "--count", "HEAD") == "1"


def test_the_first_commit_of_a_repository_holds_the_edit_alone(project: Project, tmp_path: Path) -> None:
    project.write("other.py", "other = 1\n")
    project.git("add", "functions/other.py")

    edit(editor_of(project, tmp_path), "functions/a.py", NEW)

    assert project.git("show", "--format=", "--name-only", "HEAD") == "functions/a.py"
    assert project.git("status", "--porcelain") == "A  functions/other.py"


@pytest.mark.parametrize(
    ("author", "said"),
    [
        (Author("Zoë <Ünal>\nnext", "zoë@exämple.org"), "Zoë  Ünal  next <zoë@exämple.org>"),
        (Author("", "ada@example.org"), "ada@example.org <ada@example.org>"),
        (Author("...", ""), "unknown <unknown@localhost>"),
        (Author("$(touch /tmp/x) `id`; -n", "--amend"), "$(touch /tmp/x) `id`; -n <--amend>"),
        (Author("null\0byte", "a\0b@c"), "null byte <a b@c>"),
    ],
)
def test_names_are_safe_whatever_is_in_them(editor: TreeEditor, project: Project, author: Author, said: str) -> None:
    edit(editor, "functions/a.py", NEW, author=author)

    assert project.git("log", "-1", "--format=%an <%ae>") == said


@pytest.mark.parametrize(
    "message",
    ["# not a comment", "-m x", "ünï ☃ 𝒳", "one\n\n\nfour\n  five", "'; rm -rf . #", "a\rb"],
)
def test_messages_are_kept_as_they_are(editor: TreeEditor, project: Project, message: str) -> None:
    edit(editor, "functions/a.py", NEW, message)

    done = subprocess.run(["git", "log", "-1", "--format=%B"], cwd=project.root, capture_output=True, check=True)
    assert done.stdout.decode().rstrip("\n") == message.encode(errors="replace").decode()


def test_without_a_committer_in_gits_configuration_it_is_fnsync(
    editor: TreeEditor, project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith(("GIT_", "EMAIL"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for key, value in (("user.useConfigOnly", "true"),):
        project.git("config", key, value)
    for key in ("user.name", "user.email"):
        project.git("config", "--unset", key)

    edit(editor, "functions/a.py", NEW)

    assert project.git("log", "-1", "--format=%an, %cn <%ce>") == "Ada Lovelace, fnsync <fnsync@localhost>"


def test_on_a_detached_head_the_commit_is_kept(editor: TreeEditor, project: Project) -> None:
    project.git("checkout", "--quiet", "--detach")

    first = edit(editor, "functions/a.py", NEW)
    second = edit(editor, "functions/a.py", OLD)
    project.git("checkout", "--quiet", "main")

    assert first is not None and second is not None
    kept = project.git("for-each-ref", "--format=%(refname) %(objectname)", "refs/fnsync")
    assert kept == f"refs/fnsync/detached/{second.commit} {second.commit}"
    assert first.commit in project.git("log", "--all", "--format=%H")


def test_a_linked_working_tree_has_its_own_index(editor: TreeEditor, project: Project, tmp_path: Path) -> None:
    project.git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "side"))
    side = TreeEditor(WorkTree(tmp_path / "side", tmp_path / "side/functions"), Journal(tmp_path / "journal"))

    made = edit(side, "functions/a.py", NEW)

    assert made is not None and project.git("rev-parse", "side") == made.commit
    assert project.git("status", "--porcelain") == "" == git(tmp_path / "side", "status", "--porcelain")


@pytest.mark.parametrize("moment", ["before git commit", "during git commit"])
def test_head_that_moves_without_the_lock_is_not_undone(
    editor: TreeEditor, project: Project, tmp_path: Path, moment: str
) -> None:
    """`git update-ref` and `git reset --soft` take no lock; here a hook, or a filter, plays the one who moves HEAD."""
    project.git("checkout", "--quiet", "-b", "side")
    project.write("side.py", "side = 1\n")
    moved = project.commit("side")
    project.git("checkout", "--quiet", "main")
    move = f"[ -e {tmp_path}/done ] || git update-ref refs/heads/main {moved}; touch {tmp_path}/done"
    if moment == "during git commit":
        hook(project, "pre-commit", move)
    else:
        (project.root / ".git/info/attributes").write_text("a.py filter=move\n")
        project.git("config", "filter.move.clean", f"sh -c '{move}; cat'")

    made = edit(editor, "functions/a.py", NEW)

    assert made is not None and made.parent == moved
    assert (tmp_path / "done").exists()
    assert "functions/side.py" in project.git("ls-tree", "-r", "--name-only", "HEAD")
    assert project.git("rev-list", "--count", "HEAD") == "3"


# ---- what git is set to ----------------------------------------------------------------------------------


def hook(project: Project, name: str, script: str) -> None:
    file = project.root / ".git/hooks" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_a_hook_that_refuses_leaves_everything_as_it_was(editor: TreeEditor, project: Project, tmp_path: Path) -> None:
    hook(project, "pre-commit", "echo 'no tabs here' >&2; exit 1")
    project.write("other.py", "other = 2\n")
    project.git("add", "functions/other.py")
    before = (project.functions / "a.py").stat()

    with pytest.raises(CommitRefused, match="no tabs here"):
        edit(editor, "functions/a.py", NEW)

    assert (project.functions / "a.py").read_bytes() == OLD
    assert (project.functions / "a.py").stat().st_ino == before.st_ino
    assert project.git("status", "--porcelain") == "M  functions/other.py"
    assert leftovers(project, tmp_path) == []


def test_hooks_see_the_edit_alone_and_may_change_the_message(editor: TreeEditor, project: Project) -> None:
    project.write("other.py", "other = 2\n")
    project.git("add", "functions/other.py")
    hook(project, "pre-commit", "git diff --cached --name-only > seen.txt")
    hook(project, "commit-msg", 'echo "Reviewed-by: a hook" >> "$1"')
    hook(project, "post-commit", "git rev-parse HEAD > made.txt")

    made = edit(editor, "functions/a.py", NEW, "Update a\n\n")

    assert made is not None
    assert (project.root / "seen.txt").read_text() == "functions/a.py\n"
    assert (project.root / "made.txt").read_text().strip() == made.commit
    assert project.git("log", "-1", "--format=%(trailers:key=Reviewed-by)") == "Reviewed-by: a hook"


def test_a_hook_that_formats_and_refuses_leaves_the_old_files(
    editor: TreeEditor, project: Project, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As formatters do that people run by hooks: they change the files, and want to have them added again."""
    script = "for f in functions/*.py; do grep -q new $f && echo '# formatted' >> $f; done; exit 1"
    hook(project, "pre-commit", script)

    with pytest.raises(CommitRefused):
        edit(editor, "functions/a.py", NEW)
    with pytest.raises(CommitRefused):
        edit(editor, "functions/fresh/b.py", b"b = 'new'\n")
    with pytest.raises(CommitRefused):
        edit(editor, "functions/new.py", b"c = 'new'\n")

    assert (project.functions / "a.py").read_bytes() == OLD
    assert sorted(path.name for path in project.functions.rglob("*")) == ["a.py", "other.py"]
    assert project.git("status", "--porcelain") == ""
    assert leftovers(project, tmp_path) == []
    kept = caplog.messages[0].rpartition(" ")[2]  # it may have been somebody's
    assert git(project.root, "cat-file", "-p", kept) == "new = 2\n# formatted"


def test_what_a_hook_changes_and_does_not_add_is_a_change_on_disk(editor: TreeEditor, project: Project) -> None:
    hook(project, "pre-commit", "echo '# by the hook' >> functions/a.py")

    edit(editor, "functions/a.py", NEW)

    assert project.git("show", "HEAD:functions/a.py") == project.git("show", ":functions/a.py") == "new = 2"
    assert project.git("status", "--porcelain") == "M functions/a.py"


def test_gits_folder_may_be_on_another_disk(tmp_path: Path) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other disk here")
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        root = tmp_path / "apart"
        subprocess.run(["git", "init", "--quiet", f"--separate-git-dir={folder}/git", str(root)], check=True)
        project = Project(root)
        project.write("a.py", OLD.decode())
        project.write("b.py", "b = 1\n")
        project.commit("first")
        hook_file = Path(folder) / "git/hooks/pre-commit"
        hook_file.parent.mkdir(exist_ok=True)
        hook_file.write_text("#!/bin/sh\ngit add -A\ntest ! -e refuse || exit 1\n")
        hook_file.chmod(0o755)
        editor = editor_of(project, tmp_path)

        edit(editor, "functions/a.py", NEW)
        edit(editor, "functions/b.py", None)
        assert project.git("show", "--format=", "--name-status", "HEAD", "HEAD~1").splitlines() == [
            "D\tfunctions/b.py",
            "M\tfunctions/a.py",
        ]
        (project.root / "refuse").touch()
        (project.functions / "a.py").chmod(0o640)
        for after in (OLD, None):
            with pytest.raises(CommitRefused):
                edit(editor, "functions/a.py", after)
            assert (project.functions / "a.py").read_bytes() == NEW
            assert (project.functions / "a.py").stat().st_mode & 0o777 == 0o640


def test_a_hook_that_formats_leaves_a_clean_tree(editor: TreeEditor, project: Project) -> None:
    hook(project, "pre-commit", "sed -i s/new/formatted/ functions/a.py; git add functions/a.py")

    edit(editor, "functions/a.py", NEW)

    assert (project.functions / "a.py").read_bytes() == b"formatted = 2\n"
    assert project.git("show", "HEAD:functions/a.py") == "formatted = 2"
    assert project.git("status", "--porcelain") == ""


def test_what_a_hook_adds_to_the_commit_leaves_a_clean_tree(editor: TreeEditor, project: Project) -> None:
    hook(project, "pre-commit", "echo made > 'functions/by hook.txt'; git add -A; git rm -q functions/other.py")

    made = edit(editor, "functions/a.py", NEW)

    assert made is not None
    changed = project.git("show", "--format=", "--name-status", made.commit).splitlines()
    assert changed == ["M\tfunctions/a.py", "A\tfunctions/by hook.txt", "D\tfunctions/other.py"]
    assert project.git("status", "--porcelain") == ""


def test_hooks_do_not_get_the_servers_own_variables(
    editor: TreeEditor, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FNSYNC_SECRET_KEY", "s3cret")
    monkeypatch.setenv("SOMETHING", "else")
    hook(project, "pre-commit", "env > env.txt")

    edit(editor, "functions/a.py", NEW)

    seen = (project.root / "env.txt").read_text()
    assert "SOMETHING=else" in seen and "s3cret" not in seen and "FNSYNC_" not in seen


def test_a_hook_that_does_not_end_is_ended_and_refuses(
    editor: TreeEditor, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fnsync.git.commit.LIMIT_S", 0.5)
    hook(project, "pre-commit", "exec sleep 600")

    with pytest.raises(CommitRefused, match=r"git commit took longer than 0\.5 s"):
        edit(editor, "functions/a.py", NEW)

    assert (project.functions / "a.py").read_bytes() == OLD
    assert project.git("status", "--porcelain") == ""


def test_a_filter_that_fails_refuses_and_leaves_everything_as_it_was(editor: TreeEditor, project: Project) -> None:
    (project.root / ".gitattributes").write_text("*.py filter=broken\n")
    project.git("config", "filter.broken.clean", "exit 3")
    project.git("config", "filter.broken.required", "true")

    with pytest.raises(CommitRefused, match="a filter of the repository fails"):
        edit(editor, "functions/a.py", NEW)
    (project.functions / "a.py").write_bytes(NEW)
    with pytest.raises(CommitRefused, match="a filter of the repository fails"):
        editor.worktree.uncommitted(["functions/a.py"])
    (project.functions / "a.py").write_bytes(OLD)

    assert (project.functions / "a.py").read_bytes() == OLD


def test_a_hook_that_leaves_something_running_holds_nothing_up(editor: TreeEditor, project: Project) -> None:
    hook(project, "post-commit", "sleep 60 & echo $! > pid.txt")
    try:
        assert edit(editor, "functions/a.py", NEW) is not None
    finally:
        os.kill(int((project.root / "pid.txt").read_text()), signal.SIGKILL)


def test_commits_are_signed_where_git_is_set_to(editor: TreeEditor, project: Project, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (tmp_path / "signers").write_text(f"ada@example.org {key.with_suffix('.pub').read_text()}")
    for name, value in (
        ("gpg.format", "ssh"),
        ("user.signingKey", str(key)),
        ("commit.gpgSign", "true"),
        ("gpg.ssh.allowedSignersFile", str(tmp_path / "signers")),
    ):
        project.git("config", name, value)

    edit(editor, "functions/a.py", NEW)
    assert project.git("log", "-1", "--format=%G?") == "G"

    key.unlink()
    with pytest.raises(CommitRefused, match="cannot be signed"):
        edit(editor, "functions/a.py", b"third\n")
    key.with_suffix(".pub").unlink()
    with pytest.raises(CommitRefused, match="cannot be signed"):
        edit(editor, "functions/a.py", b"third\n")
    assert (project.functions / "a.py").read_bytes() == NEW


def test_line_ends_are_converted_as_git_is_set_to(editor: TreeEditor, project: Project) -> None:
    project.git("config", "core.autocrlf", "true")

    edit(editor, "functions/b.py", b"b = 1\r\n")
    done = subprocess.run(
        ["git", "cat-file", "blob", "HEAD:functions/b.py"], cwd=project.root, capture_output=True, check=True
    )

    assert done.stdout == b"b = 1\n"
    assert (project.functions / "b.py").read_bytes() == b"b = 1\r\n"
    assert project.git("status", "--porcelain") == ""
    assert edit(editor, "functions/b.py", b"b = 1\n") is None  # to git it is the same
    assert (project.functions / "b.py").read_bytes() == b"b = 1\n"
    assert project.git("status", "--porcelain") == ""
    project.git("config", "core.safecrlf", "true")
    assert edit(editor, "functions/b.py", b"b = 2\n") is not None


# ---- who else is there -----------------------------------------------------------------------------------


def test_git_at_work_is_waited_for(editor: TreeEditor, project: Project) -> None:
    held = project.root / ".git/index.lock"
    held.write_bytes(b"")
    timer = threading.Timer(0.1, held.unlink)
    timer.start()

    assert edit(editor, "functions/a.py", NEW) is not None


def test_git_that_keeps_its_lock_is_told_of_and_nothing_is_changed(
    editor: TreeEditor, project: Project, tmp_path: Path
) -> None:
    held = project.root / ".git/index.lock"
    held.write_bytes(b"")

    with pytest.raises(RepositoryBusy, match="index.lock") as caught, editor.locked(wait_s=0.05):
        pass

    assert caught.value.status == 503 and str(held) in (caught.value.hint or "")
    assert held.exists()


def test_our_own_lock_of_a_crash_is_taken_over(editor: TreeEditor, project: Project, tmp_path: Path) -> None:
    (project.root / ".git/index.lock").write_bytes(lock.MARK)

    assert edit(editor, "functions/a.py", NEW) is not None
    assert leftovers(project, tmp_path) == []


def test_git_refuses_while_an_edit_is_under_way(editor: TreeEditor, project: Project) -> None:
    with editor.locked():
        done = subprocess.run(["git", "checkout", "HEAD", "."], cwd=project.root, capture_output=True, text=True)

    assert done.returncode != 0 and "index.lock" in done.stderr


def test_two_editors_take_turns(editor: TreeEditor, project: Project, tmp_path: Path) -> None:
    other = editor_of(project, tmp_path / "second")
    with editor.locked(), pytest.raises(RepositoryBusy, match="another fnsync"), other.locked(wait_s=0.05):
        pass
    assert edit(other, "functions/a.py", NEW) is not None


def conflict(project: Project, command: list[str]) -> None:
    """Have git stop in the middle of `command`."""
    project.git("checkout", "--quiet", "-b", "side")
    project.write("other.py", "other = 'side'\n")
    project.commit("side")
    project.git("checkout", "--quiet", "main")
    project.write("other.py", "other = 'main'\n")
    project.commit("main")
    project.write("other.py", "other = 'main 2'\n")
    project.commit("main 2")
    done = subprocess.run(["git", *command], cwd=project.root, capture_output=True)
    assert done.returncode != 0


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (["merge", "side"], "a merge"),
        (["rebase", "side"], "a rebase"),
        (["cherry-pick", "side"], "a cherry-pick"),
        (["revert", "--no-edit", "HEAD~1"], "a revert"),
    ],
)
def test_nothing_is_edited_in_the_middle_of_a_merge_or_rebase(
    editor: TreeEditor, project: Project, command: list[str], what: str
) -> None:
    conflict(project, command)
    state = project.git("status", "--porcelain"), (project.functions / "a.py").read_bytes()

    with pytest.raises(RepositoryBlocked, match=what):
        edit(editor, "functions/a.py", NEW)

    assert (project.git("status", "--porcelain"), (project.functions / "a.py").read_bytes()) == state


def test_a_conflict_of_another_file_that_is_under_no_merge_stays(editor: TreeEditor, project: Project) -> None:
    """As `git stash pop` leaves it."""
    project.write("other.py", "other = 'stashed'\n")
    project.git("stash")
    project.write("other.py", "other = 'main'\n")
    project.commit("main")
    subprocess.run(["git", "stash", "pop"], cwd=project.root, capture_output=True)
    state = project.git("status", "--porcelain")
    assert "UU" in state

    assert edit(editor, "functions/a.py", NEW) is not None
    assert project.git("status", "--porcelain") == state


def test_a_file_that_changed_meanwhile_is_left_alone(editor: TreeEditor, project: Project, tmp_path: Path) -> None:
    intent = Intent((Change("functions/a.py", OLD, NEW), Change("functions/b.py", None, NEW)), "Update", ADA)
    project.write("a.py", "somebody = 'else'\n")

    with editor.locked(), pytest.raises(Moved, match=r"functions/a\.py"):
        editor.carry_out(intent)

    assert (project.functions / "a.py").read_text() == "somebody = 'else'\n"
    assert not (project.functions / "b.py").exists()
    assert leftovers(project, tmp_path) == []


def test_uncommitted_tells_how_a_file_differs_from_head(editor: TreeEditor, project: Project) -> None:
    project.write("other.py", "other = 2\n")
    project.git("add", "functions/other.py")
    project.write("ünï x.py", "new = 1\n")
    (project.root / ".gitignore").write_text("ignored.py\n")
    project.write("ignored.py", "")
    paths = [f"functions/{name}" for name in ("a.py", "other.py", "ünï x.py", "ignored.py", "gone.py", "*.py")]

    assert editor.worktree.uncommitted(paths) == {
        "functions/other.py": "changed",
        "functions/ünï x.py": "untracked",
        "functions/ignored.py": "untracked",
    }


# ---- disks -----------------------------------------------------------------------------------------------


def is_root() -> bool:
    return os.geteuid() == 0


@pytest.mark.skipif(not is_root() or not Path("/proc/self/ns/mnt").exists(), reason="needs to mount a small disk")
def test_a_full_disk_refuses_the_edit_and_loses_nothing(tmp_path: Path) -> None:
    script = """
    import sys, pathlib
    from fnsync.errors import NotWritable
    from fnsync.git.edit import TreeEditor
    from fnsync.git.journal import Change, Intent, Journal
    from fnsync.git.worktree import WorkTree
    root = pathlib.Path.cwd()
    editor = TreeEditor(WorkTree(root, root / "functions"), Journal(pathlib.Path(sys.argv[1])))
    filler = root / "filler"
    free = 0
    refused = 0
    for free in range(0, 200_000, 4096):
        filler.unlink(missing_ok=True)
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        with filler.open("ab") as file:
            file.truncate(max(0, filler.stat().st_size - free))
        before = (root / "functions/a.py").read_bytes()
        after = before + b"x = 1\\n" * 100
        try:
            with editor.locked():
                editor.carry_out(Intent((Change("functions/a.py", before, after),), "more"))
        except NotWritable as exc:
            assert exc.status == 503
            assert (root / "functions/a.py").read_bytes() == before, "the file changed although the edit was refused"
            refused += 1
        else:
            break
    filler.unlink()
    print("refused", refused)
    """
    disk = tmp_path / "disk"
    disk.mkdir()
    shell = f"""
    set -e
    mount -t tmpfs -o size=2m,nr_inodes=0 tmpfs {disk}
    cd {disk}
    git init -q; git config user.name a; git config user.email a@b
    mkdir functions; echo 'a = 1' > functions/a.py; git add .; git commit -qm first
    {sys.executable} {tmp_path}/fill.py {tmp_path}/journal
    git status --porcelain
    git fsck --strict 2>&1 | grep -v dangling || true
    git rev-list --count HEAD
    """
    (tmp_path / "fill.py").write_text(textwrap.dedent(script))
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", shell],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no small disk can be mounted: {done.stderr}")
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.split("\n", 1)
    assert int(first.removeprefix("refused ")) > 0
    assert rest[0].strip() == "2", done.stdout


def test_a_folder_that_takes_nothing_is_told_of(editor: TreeEditor, project: Project, tmp_path: Path) -> None:
    if is_root():
        pytest.skip("root may write everywhere")
    project.functions.chmod(0o500)
    try:
        with pytest.raises(NotWritable, match="Permission denied"):
            edit(editor, "functions/a.py", NEW)
    finally:
        project.functions.chmod(0o700)
    assert (project.functions / "a.py").read_bytes() == OLD


# ---- crashes ---------------------------------------------------------------------------------------------

STEPS = ("begun", "prepared", "written", "committed", "ended")
CRASH = """
import os, signal, sys
from pathlib import Path
from fnsync.git.commit import Author
from fnsync.git.edit import TreeEditor
from fnsync.git.journal import Change, Intent, Journal
from fnsync.git.worktree import WorkTree

root, journal, at = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def step(name):
    if name == at:
        os.kill(os.getpid(), signal.SIGKILL)

editor = TreeEditor(WorkTree(root, root / "functions"), Journal(journal), step)
changes = (
    Change("functions/a.py", b"old = 1\\n", b"new = 2\\n"),
    Change("functions/a.yaml", None, b"active: false\\n"),
    Change("functions/other.py", b"other = 1\\n", None),
)
with editor.locked():
    editor.carry_out(Intent(changes, "Update a", Author("Ada Lovelace", "ada@example.org")))
"""


@pytest.mark.parametrize("step", STEPS)
def test_an_edit_that_was_killed_is_completed_at_the_next_start(
    editor: TreeEditor, project: Project, tmp_path: Path, step: str
) -> None:
    project.write("staged.py", "staged = 1\n")
    project.git("add", "functions/staged.py")
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(project.root), str(tmp_path / "journal"), step], capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr

    recovered = editor.recover()

    assert [found.outcome for found in recovered] == {
        "committed": ["kept"],
        "ended": [],
    }.get(step, ["completed"])
    assert project.git("log", "--format=%s|%an").splitlines() == ["Update a|Ada Lovelace", "first|Ada"]
    assert (project.functions / "a.py").read_bytes() == NEW
    assert not (project.functions / "other.py").exists()
    assert project.git("status", "--porcelain") == "A  functions/staged.py"
    assert leftovers(project, tmp_path) == []
    assert editor.recover() == ()


def kill_in_hook(project: Project, tmp_path: Path, script: str) -> None:
    """Begin an edit, and kill what made it while its hook waits for `go`; the commit goes on."""
    hook(
        project,
        "pre-commit",
        f"echo x > {tmp_path}/waits; while test ! -e {tmp_path}/go; do sleep 0.02; done; {script}",
    )
    command = [sys.executable, "-c", CRASH, str(project.root), str(tmp_path / "journal"), "never"]
    with subprocess.Popen(command) as process:
        wait_for("the hook", (tmp_path / "waits").exists)
        process.kill()
    (project.root / ".git/hooks/pre-commit").unlink()


@pytest.mark.parametrize(("script", "outcome"), [("exit 0", "kept"), ("exit 1", "completed")])
def test_a_commit_that_outlives_the_server_is_waited_for(
    editor: TreeEditor, project: Project, tmp_path: Path, script: str, outcome: str
) -> None:
    (project.root / "precious.txt").write_text("mine")
    project.git("add", "precious.txt")
    project.git("commit", "--quiet", "-m", "precious")
    kill_in_hook(project, tmp_path, script)

    timer = threading.Timer(0.3, (tmp_path / "go").touch)
    timer.start()
    [recovered] = editor.recover()

    assert recovered.outcome == outcome
    assert project.git("log", "--format=%s").splitlines() == ["Update a", "precious", "first"]
    assert project.git("ls-files") == "functions/a.py\nfunctions/a.yaml\nprecious.txt"
    assert project.git("status", "--porcelain") == ""
    assert leftovers(project, tmp_path) == []


def test_while_such_a_commit_goes_on_nothing_is_edited_and_after_it_is_recovered_first(
    editor: TreeEditor, project: Project, tmp_path: Path
) -> None:
    kill_in_hook(project, tmp_path, "exit 0")

    with pytest.raises(RepositoryBusy, match="goes on that a server began"), editor.locked(wait_s=0.05):
        pass
    assert editor.recovered is None
    (tmp_path / "go").touch()
    made = edit(editor, "functions/c.py", b"c = 1\n", "Create c")

    assert made is not None and editor.recovered is not None
    assert [found.outcome for found in editor.recovered] == ["kept"]
    assert project.git("log", "--format=%s").splitlines() == ["Create c", "Update a", "first"]
    assert project.git("status", "--porcelain") == ""


def test_what_a_hook_left_running_does_not_hold_a_recovery_up_for_long(
    editor: TreeEditor, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fnsync.git.lock.COMMIT_S", 0.2)
    hook(project, "post-commit", f"sleep 60 & echo $! > {tmp_path}/pid")
    command = [sys.executable, "-c", CRASH, str(project.root), str(tmp_path / "journal"), "committed"]
    subprocess.run(command, capture_output=True)
    try:
        assert [found.outcome for found in editor.recover()] == ["kept"]
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_an_edit_that_people_took_back_before_the_next_start_is_not_made_again(
    editor: TreeEditor, project: Project, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-c", CRASH, str(project.root), str(tmp_path / "journal"), "committed"])
    (project.root / ".git/index.lock").unlink()
    project.git("reset", "--quiet", "--hard")
    project.git("revert", "--no-edit", "HEAD")

    assert [found.outcome for found in editor.recover()] == ["kept"]
    assert (project.functions / "a.py").read_bytes() == OLD
    assert project.git("log", "-1", "--format=%s") == 'Revert "Update a"'
    assert project.git("status", "--porcelain") == ""


def test_an_edit_is_not_completed_on_another_branch(editor: TreeEditor, project: Project, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", CRASH, str(project.root), str(tmp_path / "journal"), "begun"])
    (project.root / ".git/index.lock").unlink()
    project.git("checkout", "--quiet", "-b", "side")

    [recovered] = editor.recover()

    assert recovered.outcome == "unfinished" and "another branch than main" in (recovered.problem or "")
    assert (project.functions / "a.py").read_bytes() == OLD
    assert project.git("log", "-1", "--format=%s") == "first"


KILLED_KEEPING = (
    CRASH.partition("changes = (")[0]
    + """
with editor.locked():
    editor.keep(["functions/a.py"], "Keep what was on disk")
"""
)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("since", [None, b"somebody = 'else'\n"])
def test_work_that_was_to_be_kept_is_whole_after_a_kill(
    editor: TreeEditor, project: Project, tmp_path: Path, step: str, since: bytes | None
) -> None:
    (project.functions / "a.py").write_bytes(b"mine = 1\n")
    command = [sys.executable, "-c", KILLED_KEEPING, str(project.root), str(tmp_path / "journal"), step]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    if since is not None:
        (project.functions / "a.py").write_bytes(since)

    recovered = editor.recover()

    assert all(found.problem is None for found in recovered), recovered
    assert (project.functions / "a.py").read_bytes() == (since or b"mine = 1\n")
    if since is None:
        assert project.git("log", "-1", "--format=%s|%an") == "Keep what was on disk|Ada"
    assert project.git("status", "--porcelain") == ("" if since is None else "M functions/a.py")
    assert leftovers(project, tmp_path) == []


def test_an_edit_that_was_killed_leaves_alone_what_somebody_changed_since(
    editor: TreeEditor, project: Project, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-c", CRASH, str(project.root), str(tmp_path / "journal"), "written"])
    project.write("a.py", "somebody = 'else'\n")

    [recovered] = editor.recover()

    assert recovered.outcome == "unfinished" and "functions/a.py" in (recovered.problem or "")
    assert (project.functions / "a.py").read_text() == "somebody = 'else'\n"
    assert not list((tmp_path / "journal").glob("*.json"))
    (folder,) = (tmp_path / "journal").iterdir()
    assert str(folder) in (recovered.problem or "")
    assert (folder / "files/functions/a.py").read_bytes() == NEW
    assert not (folder / "files/functions/other.py").exists()
    assert (folder / "message.txt").read_text() == "Update a"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not (project.root / ".git/index.lock").exists()

    assert [again.problem is not None for again in editor.recover()] == [True]
    shutil.rmtree(folder)
    assert editor.recover() == ()


def test_an_edit_that_was_killed_after_its_commit_is_kept_whatever_the_files_are_since(
    editor: TreeEditor, project: Project, tmp_path: Path
) -> None:
    hook(project, "prepare-commit-msg", 'sed -i "1s/^/TICKET-1: /" "$1"')
    subprocess.run([sys.executable, "-c", CRASH, str(project.root), str(tmp_path / "journal"), "committed"])
    project.write("a.py", "somebody = 'else'\n")

    [recovered] = editor.recover()

    assert (recovered.outcome, recovered.problem) == ("kept", None)
    assert project.git("log", "-1", "--format=%s") == "TICKET-1: Update a"
    assert project.git("status", "--porcelain") == "M functions/a.py"
    assert (project.functions / "a.py").read_text() == "somebody = 'else'\n"
    assert leftovers(project, tmp_path) == []


def test_a_hook_that_refuses_the_completion_leaves_the_old_files(
    editor: TreeEditor, project: Project, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-c", CRASH, str(project.root), str(tmp_path / "journal"), "prepared"])
    hook(project, "pre-commit", "exit 1")

    [recovered] = editor.recover()

    assert recovered.outcome == "unfinished"
    assert (project.functions / "a.py").read_bytes() == OLD
    assert project.git("status", "--porcelain") == ""


def test_the_journal_is_for_its_owner_only(editor: TreeEditor, project: Project, tmp_path: Path) -> None:
    seen: list[int] = []

    def look(step: str) -> None:
        seen.extend(path.stat().st_mode & 0o777 for path in (tmp_path / "journal").glob("*.json"))

    edit(editor_of(project, tmp_path, look), "functions/a.py", NEW)

    assert set(seen) == {0o600}


def test_edits_beside_git_commands_are_all_in_history(editor: TreeEditor, project: Project, tmp_path: Path) -> None:
    """Checkouts of branches, in the same tree, while edits are made: each accepted edit is in some branch."""
    project.git("branch", "side")
    stop = threading.Event()

    def switch() -> None:
        while not stop.is_set():
            for branch in ("side", "main"):
                subprocess.run(["git", "checkout", "--quiet", branch], cwd=project.root, capture_output=True)

    switching = threading.Thread(target=switch)
    switching.start()
    accepted = []
    try:
        for number in range(40):
            try:
                made = edit(editor, "functions/a.py", b"edit = %d\n" % number, f"edit {number}")
            except Moved:
                continue
            assert made is not None
            accepted.append((number, made.commit))
    finally:
        stop.set()
        switching.join()

    assert accepted
    known = wait_for("the log", lambda: project.git("log", "--all", "--format=%H").split())
    for number, commit in accepted:
        assert commit in known
        assert project.git("show", f"{commit}:functions/a.py") == f"edit = {number}"
        assert project.git("show", "--format=", "--name-only", commit) == "functions/a.py"


def test_a_commit_is_on_the_disk_before_the_edit_ends(
    editor: TreeEditor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Blob, trees and commit, which git alone leaves to the next power failure."""
    trace = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE2_EVENT", str(trace))

    edit(editor, "functions/a.py", NEW)

    events = [json.loads(line) for line in trace.read_text().splitlines()]
    synced = sum(int(event["value"]) for event in events if str(event.get("key", "")).startswith("fsync/"))
    assert synced >= 5, "the file's blob, two trees, the commit and the branch"


def test_what_edits_leave_loose_is_packed_when_git_finds_it_time(editor: TreeEditor, project: Project) -> None:
    edit(editor, "functions/a.py", NEW)
    editor.tidy()
    assert "packs: 0" in project.git("count-objects", "-v")

    project.git("config", "gc.auto", "1")
    project.git("config", "gc.autoDetach", "false")
    for number in range(300):
        (project.root / f"loose-{number}").write_text(str(number))
    project.git("hash-object", "-w", *(f"loose-{number}" for number in range(300)))
    editor.tidy()
    assert "packs: 0" in project.git("count-objects", "-v"), "nothing was edited since"
    edit(editor, "functions/a.py", OLD)
    editor.tidy()
    assert "packs: 1" in project.git("count-objects", "-v")
