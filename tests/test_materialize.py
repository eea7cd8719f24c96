"""A commit's files in a folder of their own: which are taken, what is refused, and what a change costs."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from fnsync.errors import LostObject, RepositoryError, SourceRefused
from fnsync.git.materialize import Selection, TreeLimits, clean, materialize
from fnsync.model import CommitId
from tests.repositories import Repository

PIPE = "class Pipe:\n    pass\n"
ALL = Selection("functions")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "project")


def commit(repository: Repository, files: dict[str, str | None]) -> CommitId:
    return CommitId(repository.commit(0, files))


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob(".tmp-*"))


def object_of(repository: Repository, kind: str, data: bytes) -> str:
    """Store an object as it is; git itself would refuse to make some of these."""
    line = ["git", "-C", str(repository.folder), "hash-object", "-t", kind, "-w", "--stdin", "--literally"]
    return subprocess.run(line, input=data, check=True, capture_output=True).stdout.decode().strip()


def crafted(repository: Repository, entries: list[tuple[str, bytes, bytes]]) -> CommitId:
    """A commit whose tree has these entries (mode, name, content) and nothing that makes sense of them."""
    made = []
    for mode, name, content in entries:
        id = object_of(repository, "tree" if mode == "40000" else "blob", content)
        made.append(f"{mode} ".encode() + name + b"\0" + bytes.fromhex(id))
    tree = object_of(repository, "tree", b"".join(made))
    return CommitId(repository.git("commit-tree", "-m", "m", tree))


def tree(repository: Repository, name: str) -> bytes:
    """The content of a tree with one file of that name."""
    id = object_of(repository, "blob", b"x")
    return f"100644 {name}".encode() + b"\0" + bytes.fromhex(id)


# ---- what is written ---------------------------------------------------------------------------------------


def test_a_commit_is_written_as_git_has_it(repository: Repository, tmp_path: Path) -> None:
    (repository.folder / ".gitattributes").write_text("*.py text eol=crlf filter=loud ident\nhidden.py export-ignore\n")
    repository.git("config", "filter.loud.smudge", "touch ran; cat")
    repository.git("config", "core.autocrlf", "true")
    first = commit(repository, {"a.py": PIPE, "b/main.py": "# $Id$\n", "b/ü ñ.txt": "é", "hidden.py": PIPE})
    done = materialize(repository.folder, first, tmp_path / "trees" / first, ALL)
    assert contents(done.folder) == {"a.py": PIPE, "b/main.py": "# $Id$\n", "b/ü ñ.txt": "é", "hidden.py": PIPE}
    assert (done.commit, done.files, done.bytes) == (first, 4, 2 * len(PIPE) + 9)
    assert {stat.S_IMODE(path.stat().st_mode) for path in done.folder.rglob("*") if path.is_file()} == {0o444}
    assert not (repository.folder / "ran").exists()
    assert leftovers(done.folder.parent) == []
    everything = materialize(repository.folder, first, tmp_path / "whole")
    assert sorted(path.name for path in everything.folder.iterdir()) == [".gitattributes", "functions"]


def test_what_is_there_already_is_used(repository: Repository, tmp_path: Path) -> None:
    first = commit(repository, {"a.py": PIPE, "b/main.py": PIPE})
    done = materialize(repository.folder, first, tmp_path / "t", ALL)
    before = (done.folder / "a.py").stat().st_ino
    assert materialize(repository.folder, first, tmp_path / "t", ALL) == done
    assert (done.folder / "a.py").stat().st_ino == before


@pytest.mark.parametrize(
    ("include", "ignore", "taken"),
    [
        ((), (), {"a.py", "a.yaml", "docs/x.md", "pack/main.py", "pack/data.csv"}),
        (("*.py",), (), {"a.py", "pack/main.py"}),
        (("pack/",), ("*.csv",), {"pack/main.py"}),
        ((), ("*", "!a.*"), {"a.py", "a.yaml"}),
        (("/*.py", "/*.yaml"), (), {"a.py", "a.yaml"}),
        ((), ("**/data.*", "docs"), {"a.py", "a.yaml", "pack/main.py"}),
        (("nothing",), (), set()),
    ],
)
def test_patterns_choose_the_files(
    repository: Repository, tmp_path: Path, include: tuple[str, ...], ignore: tuple[str, ...], taken: set[str]
) -> None:
    files: dict[str, str | None] = dict.fromkeys(("a.py", "a.yaml", "docs/x.md", "pack/main.py", "pack/data.csv"), "x")
    first = commit(repository, files)
    done = materialize(repository.folder, first, tmp_path / "t", Selection("functions", include, ignore))
    assert set(contents(done.folder)) == taken
    assert done.files == len(taken)


def test_a_pattern_that_is_none_is_told(repository: Repository, tmp_path: Path) -> None:
    first = commit(repository, {"a.py": PIPE})
    with pytest.raises(SourceRefused, match="no list of patterns"):
        materialize(repository.folder, first, tmp_path / "t", Selection("functions", ignore=("!",)))


# ---- what a change costs -----------------------------------------------------------------------------------


def test_what_did_not_change_is_the_same_file(repository: Repository, tmp_path: Path) -> None:
    first = commit(repository, {"a.py": PIPE, "b/main.py": PIPE, "b/c.py": "1", "gone.py": PIPE})
    (repository.functions / "link.py").symlink_to("a.py")
    old = commit(repository, {})
    before = materialize(repository.folder, old, tmp_path / "old", ALL)
    new = commit(repository, {"b/c.py": "2", "gone.py": None, "d/new.py": PIPE})
    after = materialize(repository.folder, new, tmp_path / "new", ALL, beside=(old, before.folder))
    assert first != old
    assert contents(after.folder) == {
        "a.py": PIPE,
        "link.py": PIPE,
        "b/main.py": PIPE,
        "b/c.py": "2",
        "d/new.py": PIPE,
    }
    assert contents(before.folder)["b/c.py"] == "1"
    same = {path for path in contents(after.folder) if (before.folder / path).exists()}
    shared = {path for path in same if os.path.samefile(before.folder / path, after.folder / path)}
    assert shared == {"a.py", "link.py", "b/main.py"}
    assert os.readlink(after.folder / "link.py") == "a.py"
    assert (after.files, after.bytes) == (5, 3 * len(PIPE) + 1)


def test_what_did_not_change_is_not_read_from_git(repository: Repository, tmp_path: Path) -> None:
    old = commit(repository, {"a.py": "the same", "b.py": "1"})
    before = materialize(repository.folder, old, tmp_path / "old", ALL)
    new = commit(repository, {"b.py": "2"})
    id = repository.git("rev-parse", f"{new}:functions/a.py")
    (repository.folder / ".git" / "objects" / id[:2] / id[2:]).unlink()
    after = materialize(repository.folder, new, tmp_path / "new", ALL, beside=(old, before.folder))
    assert contents(after.folder) == {"a.py": "the same", "b.py": "2"}
    with pytest.raises(LostObject, match=id):
        materialize(repository.folder, new, tmp_path / "other", ALL)
    assert leftovers(tmp_path) == []


def test_an_earlier_folder_that_is_damaged_or_of_an_unknown_commit_only_costs_time(
    repository: Repository, tmp_path: Path
) -> None:
    old = commit(repository, {"a.py": PIPE, "b.py": PIPE, "c/d.py": PIPE})
    before = materialize(repository.folder, old, tmp_path / "old", ALL)
    (before.folder / "a.py").unlink()
    (before.folder / "a.py").symlink_to("b.py")
    (before.folder / "c" / "d.py").unlink()
    new = commit(repository, {"b.py": "2"})
    expected = {"a.py": PIPE, "b.py": "2", "c/d.py": PIPE}
    for number, earlier in enumerate([old, CommitId("1" * 40)]):
        after = materialize(repository.folder, new, tmp_path / f"new{number}", ALL, beside=(earlier, before.folder))
        assert contents(after.folder) == expected
        assert not (after.folder / "a.py").is_symlink()


def test_without_hard_links_files_are_copied(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "no links here")

    old = commit(repository, {"a.py": PIPE})
    before = materialize(repository.folder, old, tmp_path / "old", ALL)
    new = commit(repository, {"b.py": "2"})
    monkeypatch.setattr(os, "link", refuse)
    after = materialize(repository.folder, new, tmp_path / "new", ALL, beside=(old, before.folder))
    assert contents(after.folder) == {"a.py": PIPE, "b.py": "2"}
    assert stat.S_IMODE((after.folder / "a.py").stat().st_mode) == 0o444


# ---- what is refused ---------------------------------------------------------------------------------------


def refused(
    repository: Repository, id: CommitId, tmp_path: Path, message: str, limits: TreeLimits | None = None
) -> str:
    """The message of what is refused, whereupon nothing is left."""
    with pytest.raises(SourceRefused, match=message) as caught:
        materialize(repository.folder, id, tmp_path / "trees" / "t", Selection(), limits or TreeLimits())
    assert not (tmp_path / "trees").exists() or list((tmp_path / "trees").iterdir()) == []
    assert caught.value.code == "source_refused" and caught.value.status == 409
    return caught.value.message


def test_limits_are_named_with_the_path_that_breaks_them(repository: Repository, tmp_path: Path) -> None:
    id = commit(repository, {"a.py": "x" * 10, "b.py": "x" * 20, "c.py": ""})
    told = refused(repository, id, tmp_path, "more than the 2 files", TreeLimits(files=2))
    assert "functions/c.py" in told
    told = refused(repository, id, tmp_path, "30 bytes, more than the 29", TreeLimits(bytes=29))
    assert "functions/b.py" in told
    materialize(repository.folder, id, tmp_path / "exact", Selection(), TreeLimits(files=3, bytes=30))


def test_files_that_were_linked_count_too(repository: Repository, tmp_path: Path) -> None:
    old = commit(repository, {"a.py": "x" * 10})
    before = materialize(repository.folder, old, tmp_path / "old")
    new = commit(repository, {"b.py": "x" * 20})
    with pytest.raises(SourceRefused, match="30 bytes"):
        materialize(repository.folder, new, tmp_path / "t", limits=TreeLimits(bytes=29), beside=(old, before.folder))


def test_a_tree_that_lists_without_end_is_refused(repository: Repository, tmp_path: Path) -> None:
    """Ten levels of ten names for the same folder: a few objects, and 10^10 paths."""
    id = object_of(repository, "blob", b"x")
    content = b"".join(b"100644 f%d\0" % n + bytes.fromhex(id) for n in range(10))
    for _ in range(9):
        below = object_of(repository, "tree", content)
        content = b"".join(b"40000 f%d\0" % n + bytes.fromhex(below) for n in range(10))
    bomb = CommitId(repository.git("commit-tree", "-m", "m", object_of(repository, "tree", content)))
    refused(repository, bomb, tmp_path, "more than the 100 files", TreeLimits(files=100))
    with pytest.raises(SourceRefused, match="more than 1,100 entries"):
        materialize(repository.folder, bomb, tmp_path / "t", Selection(include=("none",)), TreeLimits(files=10))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"..", "leads elsewhere"),
        (b".git", "leads elsewhere"),
        (b".GiT", "leads elsewhere"),
        (b"a\nb.py", "control character"),
        (b"a\x7f.py", "control character"),
        (b"a\\b.py", "control character"),
        (b"\xff.py", "not UTF-8"),
        (b"x" * 256, "more than 255 bytes"),
        ("ü".encode() * 128, "more than 255 bytes"),
    ],
)
def test_names_that_no_folder_should_have_are_refused(
    repository: Repository, tmp_path: Path, name: bytes, message: str
) -> None:
    told = refused(repository, crafted(repository, [("100644", name, b"x")]), tmp_path, message)
    assert told.isprintable()
    below = crafted(repository, [("40000", name, tree(repository, "f.py"))])
    refused(repository, below, tmp_path, message)


def test_names_that_differ_in_case_are_two(repository: Repository, tmp_path: Path) -> None:
    id = crafted(repository, [("100644", b"A.py", b"1"), ("100644", b"a.py", b"2")])
    done = materialize(repository.folder, id, tmp_path / "t")
    assert contents(done.folder) == {"A.py": "1", "a.py": "2"}


def test_a_name_that_is_a_file_and_a_folder_is_refused(repository: Repository, tmp_path: Path) -> None:
    """Else a file could be written through a link."""
    inner = tree(repository, "f.py")
    for entries in (
        [("120000", b"a", b"/tmp"), ("40000", b"a", inner)],
        [("100644", b"a", b"x"), ("40000", b"a", inner)],
    ):
        refused(repository, crafted(repository, entries), tmp_path, "both as a file and as a folder")
    twice = crafted(repository, [("100644", b"a", b"1"), ("120000", b"a", b"b")])
    refused(repository, twice, tmp_path, "twice")


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../outside", "../../x", "pack/../../x", "up/../..", "pack/none/../../../x"]
)
def test_links_that_leave_the_folder_are_refused(repository: Repository, tmp_path: Path, target: str) -> None:
    commit(repository, {"pack/main.py": PIPE})
    (repository.folder / "outside").write_text("x")
    (repository.functions / "pack" / "up").symlink_to("..")
    (repository.functions / "up").symlink_to("pack/up")
    (repository.functions / "bad.py").symlink_to(target)
    id = commit(repository, {})
    with pytest.raises(SourceRefused, match=r"bad\.py .* leads out") as caught:
        materialize(repository.folder, id, tmp_path / "trees" / "t", ALL)
    assert target in caught.value.message
    assert leftovers(tmp_path / "trees") == []
    done = materialize(repository.folder, id, tmp_path / "t", Selection("functions", ignore=("bad.py",)))
    assert (done.folder / "up" / "pack" / "main.py").read_text() == PIPE


def test_links_inside_are_kept(repository: Repository, tmp_path: Path) -> None:
    commit(repository, {"pack/main.py": PIPE, "b.py": PIPE})
    for name, target in {
        "a.py": "./b.py",
        "pack/b.py": "../b.py",
        "dir": "pack",
        "broken": "none",
        "loop": "loop",
    }.items():
        (repository.functions / name).symlink_to(target)
    id = commit(repository, {})
    done = materialize(repository.folder, id, tmp_path / "t", ALL)
    found = {
        path.relative_to(done.folder).as_posix(): os.readlink(path)
        for path in done.folder.rglob("*")
        if path.is_symlink()
    }
    assert found == {"a.py": "./b.py", "pack/b.py": "../b.py", "dir": "pack", "broken": "none", "loop": "loop"}
    assert (done.folder / "dir" / "main.py").read_text() == PIPE


def test_submodules_are_left_out(repository: Repository, tmp_path: Path) -> None:
    commit(repository, {"a.py": PIPE})
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},functions/sub")
    repository.git("commit", "-q", "-m", "m")
    done = materialize(repository.folder, CommitId(repository.head()), tmp_path / "t", ALL)
    assert contents(done.folder) == {"a.py": PIPE}


def test_a_folder_that_is_not_there_is_told_with_those_that_are(repository: Repository, tmp_path: Path) -> None:
    commit(repository, {"a.py": PIPE})
    (repository.folder / "src" / "tools").mkdir(parents=True)
    (repository.folder / "src" / "tools" / "x.py").write_text("x")
    id = commit(repository, {})
    for path, message in {
        "function": f"no folder function in {id[:12]}; did you mean functions",
        "tools": "did you mean src/tools",
        "zzz": "there is functions, src",
        "functions/a.py": "functions/a.py is no folder",
        "../functions": "no folder of a repository",
    }.items():
        with pytest.raises(SourceRefused, match=message):
            materialize(repository.folder, id, tmp_path / "t", Selection(path))


def test_a_commit_that_is_not_there_is_told(repository: Repository, tmp_path: Path) -> None:
    commit(repository, {"a.py": PIPE})
    with pytest.raises(RepositoryError, match="1" * 40):
        materialize(repository.folder, CommitId("1" * 40), tmp_path / "t", ALL)


def test_leftovers_of_a_crash_are_removed(tmp_path: Path) -> None:
    clean(tmp_path / "none")
    (tmp_path / ".tmp-1234" / "deep").mkdir(parents=True)
    (tmp_path / ".tmp-1234" / "deep" / "f").write_text("x")
    (tmp_path / "kept").mkdir()
    clean(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_folders_without_end_are_refused_in_time(repository: Repository) -> None:
    made = object_of(repository, "tree", b"")
    for _ in range(11):  # ten folders in each, without a single file below
        entries = (b"40000 %c\0" % letter + bytes.fromhex(made) for letter in b"abcdefghij")
        made = object_of(repository, "tree", b"".join(entries))
    around = object_of(repository, "tree", b"40000 functions\0" + bytes.fromhex(made))
    bomb = CommitId(repository.git("commit-tree", "-m", "m", around))
    with pytest.raises(SourceRefused, match=r"cannot be listed within 0\.3 s"):
        materialize(repository.folder, bomb, repository.folder / "x", ALL, TreeLimits(seconds=0.3))
