"""A function's files at a version, and whether they are still what is on disk."""

import os
from pathlib import Path

import pytest

from fnsync.errors import Conflict, Invalid, NotFound
from fnsync.git import contents
from fnsync.git.contents import VersionFiles, same_since, version_files
from fnsync.git.versions import versions
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId
from tests.repositories import Repository

CODE = "class Pipe:\n    pass\n"


class Kept(Repository):
    @property
    def tree(self) -> WorkTree:
        return WorkTree.ensure(self.functions, self.folder)

    def files(self, source: str, at: int = 0) -> VersionFiles:
        """The files of a version, counted back from the newest."""
        return version_files(self.tree, self.functions, versions(self.tree, self.functions, source)[at])

    def same(self, commit: str, source: str) -> bool:
        return same_since(self.tree, self.functions, CommitId(commit), source)

    def write(self, path: str, data: bytes | str) -> None:
        file = self.functions / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data if isinstance(data, bytes) else data.encode())


@pytest.fixture
def repository(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "project")


# ---- the files at a version -------------------------------------------------------------------------------


def test_a_single_file_is_its_source_and_settings(repository: Kept) -> None:
    repository.commit(10, {"a.py": CODE, "a.yaml": "name: A\n", "b.py": "1"})
    repository.commit(20, {"a.py": CODE + "2", "a.yaml": None})
    assert repository.files("a.py") == VersionFiles({"main.py": f"{CODE}2".encode()}, None)
    assert repository.files("a.py", 1) == VersionFiles({"main.py": CODE.encode()}, b"name: A\n")


def test_a_folder_is_all_that_lies_beside_its_source(repository: Kept) -> None:
    repository.write("a/data/\udcff\n.bin", bytes(range(256)))
    files = {
        "a/main.py": CODE,
        "a/main.yaml": "name: A\n",
        "a/util.py": "1",
        "a/.gitkeep": "",
        "a/__pycache__/x.pyc": "",
    }
    repository.commit(10, {**files, "ab/c.py": "1"})
    assert repository.files("a/main.py") == VersionFiles(
        {"main.py": CODE.encode(), "util.py": b"1", "data/\udcff\n.bin": bytes(range(256))}, b"name: A\n"
    )


def test_a_version_under_another_name_can_be_written_to_where_it_is_now(repository: Kept) -> None:
    repository.commit(10, {"a.py": CODE * 5})
    (repository.functions / "a").mkdir()
    repository.git("mv", "functions/a.py", "functions/a/main.py")
    repository.commit(20, {"a/util.py": "1"})
    before, now = repository.files("a/main.py", 1), repository.files("a/main.py")
    assert before.at("a/main.py") == {"a/main.py": (CODE * 5).encode()}
    assert now.at("b/main.py") == {"b/main.py": (CODE * 5).encode(), "b/util.py": b"1"}
    assert before.at("team/b.py") == {"team/b.py": (CODE * 5).encode()}
    with pytest.raises(Conflict, match="1 files beside its source") as caught:
        now.at("b.py")
    assert caught.value.hint == "move it to b/main.py first"


def test_links_are_followed_within_the_functions_folder(repository: Kept) -> None:
    links = {
        "a/main.py": "../real.py",
        "a/twice.py": "main.py",
        "a/out.txt": "../../secret",
        "a/lost.py": "nothing",
        "a/round.py": "round.py",
        "a/folder": "../other",
        "a/absolute.py": "/etc/passwd",
    }
    repository.write("../secret", "secret")
    repository.commit(10, {"real.py": CODE, "other/x.py": "1"})
    (repository.functions / "a").mkdir()
    for path, target in links.items():
        (repository.functions / path).symlink_to(target)
    (repository.functions / "b.py").symlink_to("../secret")
    repository.commit(20, {})
    assert repository.files("a/main.py").files == {"main.py": CODE.encode(), "twice.py": CODE.encode()}
    with pytest.raises(NotFound, match="leads to no file"):
        repository.files("b.py")


def test_a_version_that_is_too_large_is_refused(repository: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MOST_BYTES", len(CODE) + 5)
    repository.commit(10, {"a/main.py": CODE, "a/x": "12345"})
    assert len(repository.files("a/main.py").files) == 2
    repository.commit(20, {"a/x": "123456"})
    with pytest.raises(Invalid, match="has more than"):
        repository.files("a/main.py")


def test_a_repository_with_longer_hashes(tmp_path: Path) -> None:
    repository = Kept(tmp_path / "project", "--object-format=sha256")
    first = repository.commit(10, {"a.py": CODE, "a.yaml": "name: A\n"})
    assert repository.files("a.py") == VersionFiles({"main.py": CODE.encode()}, b"name: A\n")
    assert repository.same(first, "a.py")
    repository.write("a.yaml", "name: B\n")
    assert not repository.same(first, "a.py")


# ---- is it the same now -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a/main.py", CODE + "# 2\n", False),
        ("a/main.py", None, False),
        ("a/util.py", "2", False),
        ("a/util.py", None, False),
        ("a/new.py", "", False),
        ("a/main.yaml", "name: B\n", False),
        ("a/main.yaml", None, False),
        ("a/main.yaml", "meta: {d: 1}\nname: A\n", False),
        ("a/main.yaml", "active: false  # how it runs\nname: A\n", True),
        ("a/__pycache__/util.pyc", "x", True),
        ("a/util.py~", "x", True),
        ("a/build/x", "git ignores it", True),
        ("a/cache.db", "fnsync ignores it", True),
        ("_x.py", "2", True),
        ("b.py", "2", True),
    ],
)
@pytest.mark.parametrize("committed", [False, True])
def test_what_changes_a_function_is_told_be_it_committed_or_not(
    repository: Kept, path: str, text: str | None, expected: bool, committed: bool
) -> None:
    repository.write("../.gitignore", "build/\n__pycache__/\n*~\n")
    repository.write(".fnsyncignore", "*.db\n")
    files = {"a/main.py": CODE, "a/main.yaml": "name: A\n", "a/util.py": "1", "_x.py": "1", "b.py": "1"}
    first = repository.commit(10, dict(files))
    assert repository.same(first, "a/main.py")
    if committed and not path.endswith(".db"):
        repository.commit(20, {path: text})
    elif text is None:
        (repository.functions / path).unlink()
    else:
        repository.write(path, text)
    assert repository.same(first, "a/main.py") is expected


def test_settings_that_bring_or_take_no_name_do_not_matter(repository: Kept) -> None:
    first = repository.commit(10, {"a.py": CODE})
    repository.write("a.yaml", "active: false\n")
    assert repository.same(first, "a.py")
    second = repository.commit(20, {})
    (repository.functions / "a.yaml").unlink()
    assert repository.same(second, "a.py")
    os.mkfifo(repository.functions / "a.yaml")
    assert repository.same(first, "a.py"), "a pipe is not waited for"


def test_going_back_to_the_same_text_is_the_same(repository: Kept) -> None:
    first = repository.commit(10, {"a.py": CODE})
    repository.commit(20, {"a.py": CODE + "2"})
    assert not repository.same(first, "a.py")
    repository.write("a.py", CODE)
    assert repository.same(first, "a.py")
    os.utime(repository.functions / "a.py", (1, 1))
    (repository.functions / "a.py").chmod(0o755)
    assert repository.same(first, "a.py"), "touched, but the same"


def test_a_renamed_function_is_not_the_same(repository: Kept) -> None:
    first = repository.commit(10, {"a.py": CODE})
    repository.git("mv", "functions/a.py", "functions/b.py")
    assert not repository.same(first, "a.py")
    assert not repository.same(first, "b.py")


def test_a_file_in_conflict_is_not_the_same(repository: Kept) -> None:
    repository.commit(10, {"a.py": "1\n"})
    repository.git("checkout", "-q", "-b", "side")
    repository.commit(20, {"a.py": "2\n"})
    repository.git("checkout", "-q", "main")
    main = repository.commit(30, {"a.py": "3\n"})
    repository.git("merge", "-q", "side", allowed=(1,))
    assert not repository.same(main, "a.py")
    repository.write("a.py", "3\n")
    assert repository.same(main, "a.py"), "what is on disk counts"


def test_line_endings_that_git_converts_do_not_matter(repository: Kept) -> None:
    repository.git("config", "core.autocrlf", "true")
    crlf = CODE.replace("\n", "\r\n")
    repository.write("a.py", crlf)
    repository.write("a.yaml", "name: A\r\nactive: true\r\n")
    first = repository.commit(10, {})
    assert repository.git("cat-file", "-p", "HEAD:functions/a.py") + "\n" == CODE
    assert repository.same(first, "a.py")
    repository.write("a.py", CODE)
    assert repository.same(first, "a.py")
    repository.git("config", "core.autocrlf", "false")
    repository.write("a.py", crlf)
    assert not repository.same(first, "a.py"), "without conversion they do"


def test_endings_that_git_keeps_although_it_converts_are_the_same(repository: Kept) -> None:
    repository.write("a.py", CODE.replace("\n", "\r\n"))
    first = repository.commit(10, {})
    repository.git("config", "core.autocrlf", "true")
    os.utime(repository.functions / "a.py", (1, 1))
    assert repository.same(first, "a.py")


def test_filters_of_the_repository_are_applied(repository: Kept) -> None:
    repository.git("config", "filter.case.clean", "tr a-z A-Z")
    repository.git("config", "filter.case.smudge", "tr A-Z a-z")
    repository.write("../.gitattributes", "* filter=case\n")
    first = repository.commit(10, {"a.py": "x = 1\n", "a.yaml": "name: a\n"})
    os.utime(repository.functions / "a.py", (1, 1))
    os.utime(repository.functions / "a.yaml", (1, 1))
    assert repository.same(first, "a.py")
    repository.write("a.py", "x = 2\n")
    assert not repository.same(first, "a.py")


def test_a_version_that_is_the_newest_is_what_is_there_also_after_a_merge(repository: Kept) -> None:
    repository.commit(10, {"a/main.py": CODE, "a/util.py": "1"})
    repository.git("checkout", "-q", "-b", "side")
    repository.commit(20, {"a/util.py": "2"})
    repository.git("checkout", "-q", "main")
    repository.commit(30, {"a/main.yaml": "name: A\n"})
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side", at=40)
    newest = versions(repository.tree, repository.functions, "a/main.py")[0]
    assert repository.same(newest.commit, "a/main.py")
