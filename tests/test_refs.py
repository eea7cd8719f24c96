"""Which commit a name means, what is no name, and pull requests that are fetched when somebody asks for one."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnsync.errors import FetchFailed, PullRefused, UnknownRef
from fnsync.git import command
from fnsync.git.refs import check, fetch_pr, pull_number, resolve
from fnsync.git.worktree import WorkTree
from tests.repositories import Repository


class Places:
    """A repository with a ref of each form, and a bare remote."""

    def __init__(self, folder: Path) -> None:
        self.here = Repository(folder / "here")
        self.commits = {name: self.here.commit(at, {"a.py": name}) for at, name in enumerate(NAMES)}
        self.bare = folder / "remote.git"
        subprocess.run(["git", "init", "-q", "--bare", str(self.bare)], check=True)
        self.here.git("remote", "add", "origin", str(self.bare))
        for ref, name in REFS.items():
            self.here.git("update-ref", ref, self.commits[name])
        self.here.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
        self.here.git("tag", "-a", "-m", "v", "v2", self.commits["tag"])
        self.here.git("tag", "-a", "-m", "v", "v2again", "v2")
        self.tree = WorkTree.ensure(self.here.functions, self.here.folder)

    def push(self, name: str, ref: str) -> None:
        self.here.git("push", "-q", "--force", "origin", f"{self.commits[name]}:{ref}")


NAMES = ("one", "branch", "remote", "tag", "pull", "merge", "other", "hidden", "last")
REFS = {
    "refs/heads/feature/x": "branch",
    "refs/heads/both": "branch",
    "refs/remotes/origin/both": "remote",
    "refs/remotes/origin/main": "remote",
    "refs/remotes/origin/theirs/y": "remote",
    "refs/remotes/fork/only-there": "other",
    "refs/remotes/fork/two": "other",
    "refs/remotes/third/two": "one",
    "refs/tags/v1": "tag",
    "refs/tags/both": "tag",
    "refs/pull/12/head": "pull",
    "refs/merge-requests/13/head": "merge",
    "refs/remotes/origin/pr/14": "pull",
    "refs/heads/pr/12": "branch",
    "refs/heads/pr/99": "branch",
    "refs/notes/hidden": "hidden",
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return Places(tmp_path_factory.mktemp("places"))


@pytest.fixture(params=["files", "packed", "asked"])
def kept(places: Places, request: pytest.FixtureRequest) -> Iterator[Places]:
    """Refs in files of their own, in one file, and in a form of which only git knows."""
    head = places.here.folder / ".git/HEAD"
    if request.param == "packed":
        places.here.git("pack-refs", "--all")
    before = head.read_text()
    if request.param == "asked":
        # As a repository with reftables has it. HEAD itself then leads nowhere for this git, which keeps files.
        head.write_text("ref: refs/heads/.invalid\n")
    yield places
    head.write_text(before)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("feature/x", "branch"),
        ("both", "branch"),
        ("origin/both", "remote"),
        ("theirs/y", "remote"),
        ("origin/theirs/y", "remote"),
        ("origin/HEAD", "remote"),
        ("only-there", "other"),
        ("fork/two", "other"),
        ("v1", "tag"),
        ("v2", "tag"),
        ("v2again", "tag"),
        ("refs/tags/both", "tag"),
        ("refs/notes/hidden", "hidden"),
        ("pr/12", "pull"),
        ("pr/13", "merge"),
        ("pr/14", "pull"),
        ("pr/99", "branch"),
    ],
)
def test_a_name_means_a_commit(kept: Places, text: str, name: str) -> None:
    assert resolve(kept.tree, text) == kept.commits[name]


def test_head_is_what_is_checked_out(places: Places) -> None:
    assert resolve(places.tree, "HEAD") == places.commits["last"]


def test_hashes_whole_and_short(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    hash = places.commits["hidden"]
    assert (
        resolve(places.tree, hash) == resolve(places.tree, hash[:7]) == resolve(places.tree, hash[:9].upper()) == hash
    )
    with pytest.raises(UnknownRef, match="no branch, tag or commit"):
        resolve(places.tree, hash[:6])
    monkeypatch.setenv("PATH", "")  # no git can be run
    assert resolve(places.tree, hash) == resolve(places.tree, hash[:7]) == hash
    assert resolve(places.tree, "feature/x") == places.commits["branch"]


def test_a_branch_that_is_named_like_a_hash(places: Places) -> None:
    name = places.commits["one"][:8]
    places.here.git("update-ref", f"refs/heads/{name}", places.commits["other"])
    assert resolve(places.tree, name) == places.commits["other"]
    whole = places.commits["one"]
    places.here.git("update-ref", f"refs/heads/{whole}", places.commits["other"])
    assert resolve(places.tree, whole) == whole, "a whole hash is that commit, whoever names a branch so"
    for text in (name, whole):  # git push would take them for what a hash means
        places.here.git("update-ref", "-d", f"refs/heads/{text}")


def test_a_branch_that_moves_is_seen_at_once(places: Places) -> None:
    for name in ("one", "other", "one"):
        places.here.git("update-ref", "refs/heads/moving", places.commits[name])
        assert resolve(places.tree, "moving") == places.commits[name]


def test_a_short_hash_that_two_commits_have_in_common(places: Places) -> None:
    seen: dict[str, bytes] = {}
    tree = places.here.git("rev-parse", "HEAD^{tree}")
    for at in itertools.count():
        text = f"tree {tree}\nauthor a <a> {at} +0000\ncommitter a <a> {at} +0000\n\nm\n".encode()
        digits = hashlib.sha1(b"commit %d\0" % len(text) + text).hexdigest()[:7]
        if digits in seen:
            break
        seen[digits] = text
    for number, content in enumerate((seen[digits], text)):
        file = places.here.folder / f"commit-{number}"
        file.write_bytes(content)
        places.here.git("hash-object", "-t", "commit", "-w", str(file))
        file.unlink()
    with pytest.raises(UnknownRef, match=f"'{digits}' is ambiguous: 2 commits") as found:
        resolve(places.tree, digits)
    assert found.value.hint == "give more digits"


def test_what_is_unknown_is_named_with_what_is_like_it(places: Places) -> None:
    with pytest.raises(UnknownRef, match="'feature/z'") as found:
        resolve(places.tree, "feature/z")
    assert "feature/x" in str(found.value.hint)
    with pytest.raises(UnknownRef, match="several remotes") as found:
        resolve(places.tree, "two")
    assert "fork/two" in str(found.value.hint) and "third/two" in str(found.value.hint)
    with pytest.raises(UnknownRef, match="'deadbeefdead'"):
        resolve(places.tree, "deadbeefdead")
    with pytest.raises(UnknownRef, match="names no commit"):
        blob = places.here.git("rev-parse", "HEAD:functions/a.py")
        places.here.git("update-ref", "refs/tags/of-a-file", blob)
        resolve(places.tree, "of-a-file")


BAD = [
    *("", "-x", "--output=/tmp/x", "a..b", "HEAD~3", "HEAD^", "main@{1}", "@", ":/fix", "HEAD:functions", "a b"),
    *("a\nb", "a\0b", "x" * 201, "/etc/passwd", "../../HEAD", "refs/heads/../../HEAD", "a//b", "a/.b", "x.lock", "x/"),
    *("refs/*/x", "a?", "[a]", "a\\b", ".git", "x\u202ey", "x\u2028", "FETCH_HEAD", "config", "refs/", "refs/heads"),
]


@pytest.mark.parametrize("text", BAD)
def test_only_names_and_hashes_are_taken(places: Places, text: str) -> None:
    with pytest.raises(UnknownRef) as found:
        resolve(places.tree, text)
    assert str(found.value).isprintable() and len(str(found.value)) < 300


@given(st.text(max_size=30))
def test_what_is_taken_is_a_name_for_git(text: str) -> None:
    try:
        check(text)
    except UnknownRef:
        return
    done = command.attempt(Path("/"), "check-ref-format", f"refs/heads/{text}")
    assert done.code == 0, text


@pytest.mark.parametrize(("text", "number"), [("pr/1", 1), ("pr/0", None), ("pr/1x", None), ("xpr/1", None)])
def test_the_number_of_a_pull_request(text: str, number: int | None) -> None:
    assert pull_number(text) == number


def test_a_pull_request_is_fetched_and_followed(places: Places) -> None:
    tree = places.tree
    with pytest.raises(UnknownRef):
        resolve(tree, "pr/31")
    places.push("one", "refs/pull/31/head")
    places.push("other", "refs/merge-requests/32/head")
    assert fetch_pr(tree, "origin", 31) == resolve(tree, "pr/31") == places.commits["one"]
    assert fetch_pr(tree, "origin", 32) == resolve(tree, "pr/32") == places.commits["other"]
    places.push("tag", "refs/pull/31/head")
    assert fetch_pr(tree, "origin", 31) == resolve(tree, "pr/31") == places.commits["tag"]
    assert tree.branch() == "main" and places.here.head() == places.commits["last"]


def test_a_pull_request_that_cannot_be_had(places: Places) -> None:
    with pytest.raises(UnknownRef, match="pr/77"):
        fetch_pr(places.tree, "origin", 77)
    with pytest.raises(PullRefused, match="no remote nowhere"):
        fetch_pr(places.tree, "nowhere", 77)
    places.here.git("remote", "add", "broken", "https://ada:s3cret@127.0.0.1:9/x.git")
    with pytest.raises(FetchFailed) as found:
        fetch_pr(places.tree, "broken", 77)
    assert "127.0.0.1" in str(found.value) and "s3cret" not in str(found.value) and "ada" not in str(found.value)
