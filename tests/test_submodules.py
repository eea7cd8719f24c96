"""What lies outside of a source's own repository: submodules, and contents that Git LFS keeps."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fnsync.errors import FetchFailed, SourceRefused
from fnsync.git.materialize import Selection, TreeLimits
from fnsync.git.mirror import Mirror, MirrorOptions
from fnsync.git.submodules import resolved
from fnsync.model import CommitId
from tests.repositories import Repository

PIPE = "class Pipe:\n    pass\n"


def link(around: Repository, path: str, url: str, commit: str) -> CommitId:
    """Commit a submodule, without a copy of it."""
    around.git("config", "--file", ".gitmodules", f"submodule.{path}.path", path)
    around.git("config", "--file", ".gitmodules", f"submodule.{path}.url", url)
    around.git("add", ".gitmodules")
    around.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    around.git("commit", "-q", "-m", "m")
    return CommitId(around.head())


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def mirror_of(around: Repository, tmp_path: Path, *ignore: str) -> Mirror:
    around.git("config", "uploadpack.allowFilter", "true")
    selection = Selection("functions", ignore=ignore)
    return Mirror(tmp_path / "source" / "mirror", f"file://{around.folder}", selection, MirrorOptions(submodules=True))


@pytest.fixture
def inner(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "inner")
    made.commit(0, {"i.py": PIPE, "notes.md": "notes"})
    return made


@pytest.fixture
def around(tmp_path: Path, inner: Repository) -> Repository:
    deep = Repository(tmp_path / "deep")
    deep.commit(0, {"d.py": PIPE})
    link(inner, "deep", "../deep", deep.head())
    made = Repository(tmp_path / "around")
    made.commit(0, {"a.py": PIPE})
    link(made, "functions/lib", "../inner", inner.head())
    return made


def test_submodules_are_part_of_the_folder(around: Repository, inner: Repository, tmp_path: Path) -> None:
    mirror = mirror_of(around, tmp_path, "*.md")
    old = mirror.fetch("main").commit
    made = mirror.materialize(old, tmp_path / "old")
    base = "lib/functions"
    expected = {"a.py": PIPE, f"{base}/i.py": PIPE, "lib/.gitmodules": (inner.folder / ".gitmodules").read_text()}
    expected["lib/deep/functions/d.py"] = PIPE
    assert contents(made.folder) == expected
    assert (made.files, made.bytes) == (4, sum(map(len, expected.values())))
    assert mirror.materialize(old, made.folder) == made
    inner.git("switch", "-q", "-c", "next")
    (inner.functions / "i.py").write_text("new")
    inner.git("commit", "-q", "-m", "m", "functions/i.py")
    new = link(around, "functions/lib", "../inner", inner.head())
    mirror.fetch("main")
    assert mirror.changed(old, new) is None, "what of it changed, only its own repository tells"
    after = mirror.materialize(new, tmp_path / "new", beside=(old, made.folder))
    assert contents(after.folder) == expected | {f"{base}/i.py": "new"}
    same = {path for path in contents(after.folder) if os.path.samefile(made.folder / path, after.folder / path)}
    assert same == expected.keys() - {f"{base}/i.py"}
    assert not list(after.folder.rglob(".tmp-*"))
    with pytest.raises(SourceRefused, match="submodule lib: submodule deep: .* more than the 0 files"):
        mirror.materialize(new, tmp_path / "less", TreeLimits(files=3))
    shutil.rmtree(tmp_path / "deep")
    shutil.rmtree(tmp_path / "source" / "mirror-modules")
    with pytest.raises(FetchFailed, match=r"submodule lib: submodule deep: .*/deep"):
        mirror.materialize(new, tmp_path / "none")
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".tmp-")]
    assert mirror.resolve("main") == new, "the mirror itself is sound"


def test_a_submodule_that_is_left_out_is_not_fetched(around: Repository, tmp_path: Path) -> None:
    mirror = mirror_of(around, tmp_path, "lib")
    made = mirror.materialize(mirror.fetch("main").commit, tmp_path / "t")
    assert contents(made.folder) == {"a.py": PIPE}
    assert not (tmp_path / "source" / "mirror-modules").exists()


def test_submodules_that_cannot_be_are_refused(around: Repository, tmp_path: Path) -> None:
    mirror = mirror_of(around, tmp_path)
    for number, (url, message) in enumerate(
        {
            "ext::sh -c 'touch ran'": "may not be fetched",
            "http://127.0.0.1:9/x": "may not be fetched",
            "../around": "has itself as a submodule",
            "--upload-pack=touch": "is no address",
        }.items()
    ):
        link(around, "functions/lib", url, around.head())
        commit = mirror.fetch("main").commit
        with pytest.raises(SourceRefused, match=message):
            mirror.materialize(commit, tmp_path / f"t{number}")
    around.git("rm", "-q", "-f", "--cached", ".gitmodules")
    around.git("commit", "-q", "-m", "m")
    with pytest.raises(SourceRefused, match="functions/lib has no URL"):
        mirror.materialize(mirror.fetch("main").commit, tmp_path / "t")


@pytest.mark.parametrize(
    ("url", "source", "whole"),
    [
        ("https://h/x.git", "https://h/a/b", "https://h/x.git"),
        ("git@h:o/x.git", "https://h/a/b", "git@h:o/x.git"),
        ("../x.git", "https://h/a/b.git", "https://h/a/x.git"),
        ("../../c/x", "https://h/a/b/", "https://h/c/x"),
        ("./x", "https://h/a/b", "https://h/a/b/x"),
        ("../x", "git@h:o/r.git", "git@h:o/x"),
        ("../../x", "git@h:o/r.git", "git@h:x"),
        ("../x", "/srv/git/r", "/srv/git/x"),
        ("../x", "file:///srv/r", "file:///srv/x"),
        ("http://h/x", "http://h/y", "http://h/x"),
        ("/srv/x", "/srv/y", "/srv/x"),
    ],
)
def test_relative_addresses_count_from_the_source(url: str, source: str, whole: str) -> None:
    assert resolved(url, source) == whole


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("/etc/x", "https://h/a"),
        ("file:///etc/x", "https://h/a"),
        ("http://h/x", "https://h/a"),
        ("fd::3", "/srv/x"),
        ("ext::sh", "file:///srv/x"),
        ("-x", "/srv/x"),
        ("../../../x", "https://h/a"),
        ("ftp://h/x", "https://h/a"),
        ("https://h/\n", "https://h/a"),
    ],
)
def test_addresses_that_a_submodule_may_not_have(url: str, source: str) -> None:
    with pytest.raises(SourceRefused):
        resolved(url, source)


# ---- Git LFS -----------------------------------------------------------------------------------------------


def pointer(data: bytes) -> str:
    id = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{id}\nsize {len(data)}\n"


@pytest.fixture
def pointing(tmp_path: Path) -> Mirror:
    """A repository with a file that only points to its content, which lies in the store of Git LFS."""
    made = Repository(tmp_path / "large")
    data = b"content " * 1000
    made.commit(0, {"a.py": PIPE, "model.bin": pointer(data), "other.bin": pointer(data) + "no more a pointer\n"})
    id = hashlib.sha256(data).hexdigest()
    stored = made.folder / ".git" / "lfs" / "objects" / id[:2] / id[2:4] / id
    stored.parent.mkdir(parents=True)
    stored.write_bytes(data)
    options = MirrorOptions(lfs=True)
    return Mirror(tmp_path / "source" / "mirror", f"file://{made.folder}", Selection("functions"), options)


def test_contents_of_lfs_without_git_lfs(pointing: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(tools))
    head = pointing.fetch("main").commit
    with pytest.raises(SourceRefused, match=r"model\.bin is kept by Git LFS, and git-lfs is not installed"):
        pointing.materialize(head, tmp_path / "t")
    with pytest.raises(SourceRefused, match="7,871 bytes more than the 703"):
        pointing.materialize(head, tmp_path / "t", TreeLimits(bytes=1_000))
    plain = Mirror(tmp_path / "plain" / "mirror", pointing.url, Selection("functions"))
    plain.fetch("main")
    assert "git-lfs" in contents(plain.materialize(head, tmp_path / "t").folder)["model.bin"]


has_lfs = subprocess.run(["git", "lfs", "version"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not has_lfs, reason="git-lfs is not installed")
def test_contents_of_lfs(pointing: Mirror, tmp_path: Path) -> None:
    head = pointing.fetch("main").commit
    made = pointing.materialize(head, tmp_path / "t")
    found = contents(made.folder)
    assert found["model.bin"] == "content " * 1000 and found["a.py"] == PIPE and "no more" in found["other.bin"]
    assert made.bytes == sum(map(len, found.values()))
    assert (made.folder / "model.bin").stat().st_mode & 0o777 == 0o444
    assert pointing.materialize(head, tmp_path / "u", beside=(head, made.folder)).bytes == made.bytes
    assert os.path.samefile(tmp_path / "t" / "model.bin", tmp_path / "u" / "model.bin")
    assert {path.name for path in (tmp_path / "source").iterdir()} == {"mirror", "mirror.lock"}
    assert not (pointing.folder / "lfs").exists() and "lfs" not in (pointing.folder / "config").read_text()
    shutil.rmtree(tmp_path / "large" / ".git" / "lfs")
    with pytest.raises(FetchFailed, match=r"model\.bin cannot be fetched with git-lfs"):
        pointing.materialize(head, tmp_path / "v")


def test_a_link_through_a_link_of_a_submodule_leads_nowhere_else(tmp_path: Path) -> None:
    inner, around = Repository(tmp_path / "inner"), Repository(tmp_path / "around")
    (inner.folder / "a/b").mkdir(parents=True)
    (inner.folder / "a/b/up").symlink_to("../..")
    inner.git("add", ".")
    inner.git("commit", "-q", "-m", "m")
    around.functions.mkdir(parents=True, exist_ok=True)
    (around.functions / "out.py").symlink_to("lib/a/b/up/../../secret.py")  # in the folder, if nothing were a link
    around.git("add", ".")
    around.git("commit", "-q", "-m", "m")
    commit = link(around, "functions/lib", "../inner", inner.head())
    mirror = mirror_of(around, tmp_path)
    mirror.fetch("main")
    with pytest.raises(SourceRefused, match=r"out\.py .* leads out"):
        mirror.materialize(commit, tmp_path / "made")
