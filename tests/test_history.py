"""Times and authors from git: the first and the last commit of each path, also over merges and rewritten history."""

import os
import subprocess
from pathlib import Path

import pytest

from fnsync.errors import RepositoryError
from fnsync.git import command
from fnsync.git.history import touches
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId, Touch


class Repository:
    """A repository whose commits are made at the times a test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.functions = folder / "functions"
        self.functions.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str, at: int = 0, by: str = "ada@example.org", allowed: tuple[int, ...] = (0,)) -> str:
        dates = {"GIT_AUTHOR_DATE": "@1 +0000", "GIT_COMMITTER_DATE": f"@{1_700_000_000 + at} +0000"}
        names = {"GIT_AUTHOR_NAME": "A", "GIT_COMMITTER_NAME": "C", "GIT_COMMITTER_EMAIL": "c@example.org"}
        done = subprocess.run(
            ["git", "-C", str(self.folder), "-c", "commit.gpgsign=false", *arguments],
            check=False,
            capture_output=True,
            encoding="utf-8",
            env=os.environ | dates | names | {"GIT_AUTHOR_EMAIL": by},
        )
        assert done.returncode in allowed, done.stderr
        return done.stdout.strip()

    def commit(self, at: int, files: dict[str, str | None], by: str = "ada@example.org", message: str = "m") -> str:
        for path, text in files.items():
            file = self.functions / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                file.unlink()
            else:
                file.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message, at=at, by=by)
        return self.head()

    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def touches(self, since: str | None = None, before: dict[str, Touch] | None = None) -> dict[str, Touch]:
        tree = WorkTree.ensure(self.functions, self.folder)
        return touches(tree, self.functions, CommitId(since) if since else None, before or {})


def touch(created: int, updated: int, commit: str, user: str = "ada@example.org") -> Touch:
    return Touch(1_700_000_000 + created, 1_700_000_000 + updated, CommitId(commit), user)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "project")


def test_a_repository_without_commits_has_no_history(repository: Repository) -> None:
    assert repository.touches() == {}


def test_first_and_last_commit_of_each_path(repository: Repository) -> None:
    first = repository.commit(10, {"a.py": "1", "sub/main.py": "1"})
    second = repository.commit(20, {"a.py": "2"}, by="bob@example.org")
    assert repository.touches() == {
        "a.py": touch(10, 20, second, "bob@example.org"),
        "sub/main.py": touch(10, 10, first),
    }


def test_what_lies_outside_the_functions_folder_is_left_out(repository: Repository) -> None:
    repository.commit(10, {"../README.md": "1", "../functions2/a.py": "1", "a.py": "1"})
    assert list(repository.touches()) == ["a.py"]


def test_names_with_spaces_quotes_and_newlines(repository: Repository) -> None:
    names = ["a b.py", 'q"uote.py', "new\nline.py", "ünï.py", "M", "\x1ex.py", " lead.py"]
    head = repository.commit(10, dict.fromkeys(names, "1"))
    assert repository.touches() == dict.fromkeys(sorted(names), touch(10, 10, head))


def test_the_trailer_goes_before_the_author(repository: Repository) -> None:
    head = repository.commit(10, {"a.py": "1"}, message="Edit a\n\nWhy.\n\nSigned-off-by: x\nFnsync-User: user-17")
    assert repository.touches() == {"a.py": touch(10, 10, head, "user-17")}


def test_what_was_deleted_and_made_anew_is_new(repository: Repository) -> None:
    repository.commit(10, {"a.py": "1"})
    gone = repository.commit(20, {"a.py": None})
    before = repository.touches()
    third = repository.commit(30, {"a.py": "1"})
    fourth = repository.commit(40, {"a.py": "2"})
    assert repository.touches() == repository.touches(gone, before) == {"a.py": touch(30, 40, fourth)}
    assert third != fourth


def test_a_renamed_file_begins_under_its_new_name(repository: Repository) -> None:
    repository.commit(10, {"a.py": "long enough to be recognized\n" * 10})
    repository.git("mv", "functions/a.py", "functions/b.py")
    head = repository.commit(20, {})
    assert repository.touches()["b.py"] == touch(20, 20, head)


def test_a_merged_branch_keeps_its_author(repository: Repository) -> None:
    first = repository.commit(10, {"a.py": "1", "b.py": "1"})
    repository.git("checkout", "-q", "-b", "side")
    side = repository.commit(20, {"a.py": "2", "c.py": "1"}, by="bob@example.org")
    repository.git("checkout", "-q", "main")
    main = repository.commit(30, {"b.py": "2"})
    before = repository.touches()
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side", at=40, by="merger@example.org")
    expected = {
        "a.py": touch(10, 20, side, "bob@example.org"),
        "b.py": touch(10, 30, main),
        "c.py": touch(20, 20, side, "bob@example.org"),
    }
    assert repository.touches() == expected
    assert repository.touches(main, before) == expected
    assert first != side


def test_a_late_merge_does_not_hide_a_newer_change(repository: Repository) -> None:
    base = "".join(f"{n}\n" for n in range(20))
    repository.commit(10, {"a.py": base})
    repository.git("checkout", "-q", "-b", "side")
    repository.commit(20, {"a.py": base + "side\n"})
    repository.git("checkout", "-q", "main")
    main = repository.commit(30, {"a.py": "main\n" + base + "side\n"})
    before = repository.touches()
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side", at=40)
    assert repository.touches() == repository.touches(main, before) == {"a.py": touch(10, 30, main)}


def test_a_conflicts_resolution_is_the_merges_own_change(repository: Repository) -> None:
    repository.commit(10, {"a.py": "1"})
    repository.git("checkout", "-q", "-b", "side")
    repository.commit(20, {"a.py": "side"})
    repository.git("checkout", "-q", "main")
    main = repository.commit(30, {"a.py": "main"})
    before = repository.touches()
    repository.git("merge", "-q", "side", allowed=(1,))
    merge = repository.commit(40, {"a.py": "both"})
    assert repository.touches() == repository.touches(main, before) == {"a.py": touch(10, 40, merge)}


def test_only_what_is_new_is_walked(repository: Repository) -> None:
    first = repository.commit(10, {"a.py": "1", "b.py": "1"})
    told = {"a.py": touch(1, 2, "e" * 40, "told"), "b.py": touch(3, 4, "e" * 40, "told")}
    assert repository.touches(first, told) == told
    second = repository.commit(20, {"a.py": "2"})
    assert repository.touches(first, told) == {"a.py": touch(1, 20, second), "b.py": told["b.py"]}


def test_a_rewritten_history_is_walked_whole(repository: Repository) -> None:
    first = repository.commit(10, {"a.py": "1"})
    repository.commit(20, {"a.py": "2", "b.py": "1"})
    before, lost = repository.touches(), repository.head()
    repository.git("reset", "-q", "--hard", first)
    amended = repository.commit(30, {"a.py": "3"})
    assert repository.touches(lost, before) == {"a.py": touch(10, 30, amended)}
    assert repository.touches("f" * 40, before) == {"a.py": touch(10, 30, amended)}, "a commit that is not there"


def test_a_shallow_clone_begins_where_it_was_cut(repository: Repository, tmp_path: Path) -> None:
    repository.commit(10, {"a.py": "1"})
    repository.commit(20, {"b.py": "1"})
    head = repository.commit(30, {"b.py": "2"})
    subprocess.run(["git", "clone", "-q", "--depth=1", repository.folder.as_uri(), str(tmp_path / "clone")], check=True)
    functions = tmp_path / "clone" / "functions"
    found = touches(WorkTree.ensure(functions), functions)
    assert found == {"a.py": touch(30, 30, head), "b.py": touch(30, 30, head)}


def test_the_users_git_configuration_does_not_matter(repository: Repository) -> None:
    head = repository.commit(10, {"ä.py": "1"})
    options = {"log.showSignature": "true", "color.ui": "always", "core.quotePath": "true", "diff.renames": "copies"}
    for name, value in (options | {"log.showRoot": "false", "format.pretty": "oneline"}).items():
        repository.git("config", name, value)
    assert repository.touches() == {"ä.py": touch(10, 10, head)}


def test_a_detached_head_has_its_own_history(repository: Repository) -> None:
    first = repository.commit(10, {"a.py": "1"})
    repository.commit(20, {"a.py": "2"})
    repository.git("checkout", "-q", first)
    assert repository.touches() == {"a.py": touch(10, 10, first)}


def test_much_that_git_warns_of_does_not_hold_it_up(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' w >&2\nprintf 'one\\0two\\0'\nexit $GIT_ENDS_WITH\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    monkeypatch.setenv("GIT_ENDS_WITH", "0")
    assert list(command.fields(repository.folder, "log")) == [b"one", b"two"]
    monkeypatch.setenv("GIT_ENDS_WITH", "3")
    with pytest.raises(RepositoryError, match="exit code 3: wwww"):
        list(command.fields(repository.folder, "log"))
