"""Mirrors of git URLs: what is fetched, what refs mean, what is told of history, and how mirrors survive."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from fnsync.errors import Draining, FetchFailed, FnsyncError, RepositoryBusy, SourceRefused
from fnsync.git.access import GitAccess
from fnsync.git.bare import PROMISED
from fnsync.git.materialize import Selection
from fnsync.git.mirror import Fetched, Mirror, MirrorOptions
from fnsync.git.passage import Passage
from fnsync.git.remote import TOLD
from fnsync.model import CommitId
from tests.conftest import wait_for
from tests.githosts import CuttingProxy, HttpGitHost
from tests.repositories import Repository

PIPE = "class Pipe:\n    pass\n"
NOISE = random.Random(5)


class Origin(Repository):
    """A repository that others mirror."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder, *options)
        self.git("config", "uploadpack.allowFilter", "true")

    @classmethod
    def at(cls, folder: Path) -> Origin:
        """The one that is there already."""
        found = cls.__new__(cls)
        found.folder, found.functions = folder, folder / "functions"
        return found

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    def put(self, files: dict[str, str | None], message: str = "m") -> CommitId:
        return CommitId(self.commit(0, files, message=message))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of three commits, to be copied."""
    made = Origin(tmp_path_factory.mktemp("three") / "origin")
    made.put({"a.py": PIPE, "b.py": "1\n"}, "one")
    made.put({"b.py": "2\n"}, "two")
    (made.folder / "large.bin").write_bytes(NOISE.randbytes(20_000))
    made.put({"b.py": "3\n"}, "three")
    return made.folder


@pytest.fixture
def origin(three: Path, tmp_path: Path) -> Origin:
    shutil.copytree(three, tmp_path / "origin")
    return Origin.at(tmp_path / "origin")


def mirror_of(origin: Origin, tmp_path: Path, url: str | None = None, **options: object) -> Mirror:
    folder = tmp_path / "sources" / "acme" / "mirror"
    return Mirror(folder, url or origin.url, Selection("functions"), MirrorOptions(**options))  # type: ignore[arg-type]


def git(mirror: Mirror, *arguments: str) -> str:
    line = ["git", f"--git-dir={mirror.folder}", *arguments]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()


def missing(mirror: Mirror, commit: str) -> int:
    """How many contents of a commit are not here."""
    return git(mirror, "rev-list", "--objects", "--missing=print", "--max-count=1", commit).count("?")


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def leftovers(mirror: Mirror) -> set[str]:
    return {path.name for path in mirror.folder.parent.iterdir()} - {"mirror", "mirror.lock"}


def fails(mirror: Mirror, ref: str | None = "main") -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        mirror.fetch(ref)
    return caught.value


# ---- what is fetched ---------------------------------------------------------------------------------------


def test_little_is_fetched_and_the_rest_when_it_is_needed(origin: Origin, tmp_path: Path) -> None:
    mirror = mirror_of(origin, tmp_path)
    done = mirror.fetch("main")
    head = CommitId(origin.head())
    assert done == Fetched(head, "refs/heads/main", None)
    assert git(mirror, "rev-list", "--count", head) == "1"
    assert missing(mirror, head) == 3
    made = mirror.materialize(head, tmp_path / "trees" / head)
    assert contents(made.folder) == {"a.py": PIPE, "b.py": "3\n"}
    assert missing(mirror, head) == 1, "contents outside of the selection were fetched"
    later = origin.put({"c.py": "new\n"})
    mirror.fetch("main")
    after = mirror.materialize(later, tmp_path / "trees" / later, beside=(head, made.folder))
    assert contents(after.folder) == {"a.py": PIPE, "b.py": "3\n", "c.py": "new\n"}
    assert os.path.samefile(made.folder / "a.py", after.folder / "a.py")
    assert leftovers(mirror) == set()


def test_everything_is_fetched_where_that_is_wanted(origin: Origin, tmp_path: Path) -> None:
    mirror = mirror_of(origin, tmp_path, depth=0, partial=False)
    head = mirror.fetch("main").commit
    assert git(mirror, "rev-list", "--count", head) == "3"
    assert missing(mirror, head) == 0
    deep = mirror_of(origin, tmp_path / "deep", depth=2)
    assert git(deep, "rev-list", "--count", deep.fetch("main").commit) == "2"


def test_a_server_that_knows_no_filter_sends_all(origin: Origin, tmp_path: Path) -> None:
    origin.git("config", "uploadpack.allowFilter", "false")
    mirror = mirror_of(origin, tmp_path)
    head = mirror.fetch("main").commit
    assert missing(mirror, head) == 0
    assert set(contents(mirror.materialize(head, tmp_path / "t").folder)) == {"a.py", "b.py"}


def test_paths_and_repositories_with_other_hashes_are_mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = Origin(tmp_path / "origin", "--object-format=sha256")
    head = origin.put({"a.py": PIPE})
    monkeypatch.chdir(tmp_path)
    mirror = mirror_of(origin, tmp_path, "origin")
    assert mirror.fetch(None).commit == head and len(head) == 64
    assert contents(mirror.materialize(head, tmp_path / "t").folder) == {"a.py": PIPE}


def test_no_repository_around_a_mirror_is_touched(origin: Origin, tmp_path: Path) -> None:
    """The data folder lies in a working tree; a git that finds no mirror would take that one."""
    around = Repository(tmp_path / "around")
    around.git("remote", "add", "fnsync", "file:///elsewhere")
    mirror = mirror_of(origin, around.folder)
    mirror.fetch("main")
    for path in mirror.folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    mirror.fetch("main")
    assert around.git("for-each-ref") == "" and around.git("rev-list", "--all") == ""


# ---- what refs mean ----------------------------------------------------------------------------------------


def test_refs_of_every_kind(origin: Origin, tmp_path: Path) -> None:
    first, second, head = origin.git("rev-list", "--reverse", "main").split()
    origin.git("tag", "v1.2.0", first)
    origin.git("tag", "-a", "-m", "m", "v1.10.0", second, at=5)
    origin.git("tag", "v2.0.0-rc.1", head)
    origin.git("branch", "feature/x", second)
    origin.git("branch", "both", first)
    origin.git("tag", "both", head)
    origin.git("update-ref", "refs/pull/12/head", first)
    origin.git("update-ref", "refs/merge-requests/7/head", second)
    mirror = mirror_of(origin, tmp_path)
    expected: dict[str | None, tuple[str, str, str | None]] = {
        "^1.2": (second, "refs/tags/v1.10.0", "v1.10.0"),
        "~1.2.0": (first, "refs/tags/v1.2.0", "v1.2.0"),
        ">=2.0.0-0": (head, "refs/tags/v2.0.0-rc.1", "v2.0.0-rc.1"),
        "v1.10.0": (second, "refs/tags/v1.10.0", "v1.10.0"),
        "feature/x": (second, "refs/heads/feature/x", None),
        "both": (first, "refs/heads/both", None),
        "refs/tags/both": (head, "refs/tags/both", "both"),
        "pr/12": (first, "refs/pull/12/head", None),
        "pr/7": (second, "refs/merge-requests/7/head", None),
        None: (head, "refs/heads/main", None),
        first: (first, first, None),
        head[:9]: (head, head, None),
    }
    for ref, (commit, name, tag) in expected.items():
        done = mirror.fetch(ref)
        assert done == Fetched(commit, name, tag), ref
    here = {
        "feature/x": second,
        "both": first,
        "v1.10.0": second,
        "pr/12": first,
        first: first,
        second[:8]: second,
        "nope": None,
        "^1": None,
    }
    assert {ref: mirror.resolve(ref) for ref in here} == here
    # The tag itself is here: it may be signed.
    assert git(mirror, "cat-file", "-t", "refs/tags/v1.10.0") == "tag"


def test_a_short_hash_of_what_is_no_tip_is_found(origin: Origin, tmp_path: Path) -> None:
    first = origin.git("rev-list", "--reverse", "main").split()[0]
    mirror = mirror_of(origin, tmp_path)
    assert mirror.fetch(first[:10]).commit == first


def test_a_new_version_in_the_range_is_followed(origin: Origin, tmp_path: Path) -> None:
    origin.git("tag", "v1.0.0")
    mirror = mirror_of(origin, tmp_path)
    old = mirror.fetch("^1").commit
    head = origin.put({"b.py": "4\n"}, "four")
    origin.git("tag", "v1.1.0")
    done = mirror.fetch("^1")
    assert (done.commit, done.tag) == (head, "v1.1.0")
    assert told(mirror, old, head) == (1, False)
    moved = origin.put({"b.py": "5\n"}, "five")
    origin.git("tag", "-f", "v1.1.0")
    done = mirror.fetch("^1")
    assert (done.commit, done.tag) == (moved, "v1.1.0")
    assert told(mirror, head, moved) == (1, False), "it was moved on"


@pytest.mark.parametrize(
    ("ref", "message", "hint"),
    [
        ("mian", "has no branch, tag or commit mian", "main"),
        ("^9", "has no tag in the range ^9", "main"),
        ("1" * 40, "has no branch, tag or commit 1111", "main"),
        ("abcdef", "has no branch, tag or commit abcdef", "main"),
        ("refs/heads/x^{tree}", "has no", "main"),
        ("--upload-pack=touch ran", "has no", "main"),
    ],
)
def test_an_unknown_ref_is_told_with_those_that_are_there(
    origin: Origin, tmp_path: Path, ref: str, message: str, hint: str
) -> None:
    error = fails(mirror_of(origin, tmp_path), ref)
    assert error.reason == "unknown_ref"
    assert message in error.message and origin.url in error.message and hint in (error.hint or "")


def test_a_tag_of_no_commit_and_an_empty_repository(origin: Origin, tmp_path: Path) -> None:
    origin.git("tag", "blob", "HEAD:functions/a.py")
    assert "is no commit" in fails(mirror_of(origin, tmp_path), "blob").message
    empty = Origin(tmp_path / "empty")
    error = fails(mirror_of(empty, tmp_path / "other"), None)
    assert error.reason == "unknown_ref" and "no default branch" in error.message


# ---- what is told of history -------------------------------------------------------------------------------


def test_what_came_since_the_last_fetch_is_told(origin: Origin, tmp_path: Path) -> None:
    mirror = mirror_of(origin, tmp_path)
    old = mirror.fetch("main").commit
    origin.put({"b.py": "4\n"}, "four")
    new = origin.put({"a.py": None, "c/main.py": PIPE}, "five\x1b[31m")
    assert mirror.fetch("main").commit == new
    done = mirror.passage(old, new)
    assert (done.count, done.rewritten) == (2, False)
    assert [commit.subject for commit in done.commits] == ["five [31m", "four"]
    assert mirror.commit(new) == done.commits[0] and done.commits[0].author == "A"
    assert mirror.changed(old, new) == frozenset({"a.py", "b.py", "c/main.py"})
    assert mirror.changed(CommitId("1" * 40), new) is None
    assert mirror.passage(new, old) == Passage((), 0, True)
    assert mirror.passage(new, new) == Passage()
    assert mirror.fetch("main") == Fetched(new, "refs/heads/main", None)


def told(mirror: Mirror, old: CommitId, new: CommitId) -> tuple[int, bool]:
    """How many commits lie between two, and whether history was rewritten."""
    done = mirror.passage(old, new)
    return done.count, done.rewritten


def _grow_empty(origin: Origin, count: int) -> None:
    """Commits that change nothing."""
    commit = "commit refs/heads/main\ncommitter C <c@example.org> 1700000000 +0000\ndata 1\nm\n"
    script = "".join(commit + ("" if number else "from refs/heads/main^0\n") for number in range(count))
    line = ["git", "-C", str(origin.folder), "fast-import", "--quiet"]
    subprocess.run(line, input=script.encode(), check=True)


def test_of_many_commits_the_newest_are_told_and_all_are_counted(origin: Origin, tmp_path: Path) -> None:
    mirror = mirror_of(origin, tmp_path)
    old = mirror.fetch("main").commit
    _grow_empty(origin, TOLD + 20)
    new = mirror.fetch("main").commit
    assert told(mirror, old, new) == (TOLD + 20, False)
    done = mirror.passage(old, new)
    assert len(done.commits) == TOLD and done.commits[0].commit == new


def test_a_merge_of_an_older_branch_brings_no_more_than_is_near(origin: Origin, tmp_path: Path) -> None:
    """The first fetch has cut history off in front of what the branch began from."""
    _grow_empty(origin, 30)
    origin.git("switch", "-q", "-c", "feature")
    origin.put({"f.py": PIPE}, "feature")
    origin.git("switch", "-q", "main")
    origin.put({"b.py": "main\n"}, "main")
    mirror = mirror_of(origin, tmp_path)
    old = mirror.fetch("main").commit
    origin.git("merge", "-q", "--no-ff", "-m", "merge", "feature")
    done = mirror.fetch("main")
    assert done.commit == origin.head()
    assert told(mirror, old, done.commit) == (2, False)
    assert mirror.changed(old, done.commit) == frozenset({"f.py"})
    assert int(git(mirror, "rev-list", "--count", "main")) < 30


@pytest.mark.parametrize(("kind", "depth"), [("amended", 1), ("back", 1), ("unrelated", 1), ("back", 0)])
def test_a_rewritten_history_is_followed_and_noted(origin: Origin, tmp_path: Path, depth: int, kind: str) -> None:
    mirror = mirror_of(origin, tmp_path, depth=depth)
    old = mirror.fetch("main").commit
    if kind == "amended":
        (origin.functions / "a.py").write_text("other\n")
        origin.git("commit", "-q", "-a", "--amend", "-m", "other", at=9)
    elif kind == "back":
        origin.git("reset", "-q", "--hard", "HEAD~2")
    else:
        origin.git("switch", "-q", "--orphan", "fresh")
        origin.put({"z.py": PIPE})
        origin.git("branch", "-q", "-f", "main")
    new = CommitId(origin.git("rev-parse", "main"))
    assert mirror.fetch("main").commit == new
    count, rewritten = told(mirror, old, new)
    assert rewritten
    if depth == 0 or kind != "back":  # else it is not known what led to the old one
        assert count == {"amended": 1, "back": 0, "unrelated": 1}[kind]
    changed = {"amended": {"a.py"}, "back": {"b.py"}, "unrelated": {"a.py", "b.py", "z.py"}}[kind]
    assert mirror.changed(old, new) == frozenset(changed)
    assert mirror.materialize(new, tmp_path / "t").commit == new
    origin.git("switch", "-q", "-f", "main")
    later = origin.put({"c.py": PIPE})
    assert mirror.fetch("main").commit == later
    assert told(mirror, new, later) == (1, False)
    assert mirror.fetch(old).commit == old, "what was served before is still here"
    assert mirror.fetch("main").commit == later


# ---- over HTTP ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpGitHost]:
    with HttpGitHost(tmp_path_factory.mktemp("host")) as running:
        yield running


@dataclass
class Hosted:
    """A repository at a host, and a mirror of it through a proxy."""

    origin: Origin
    host: HttpGitHost
    proxy: CuttingProxy
    mirror: Mirror
    tmp_path: Path

    def grow(self) -> CommitId:
        """A commit of half a megabyte that cannot be made smaller."""
        (self.origin.folder / "large.bin").write_bytes(NOISE.randbytes(500_000))
        return self.origin.put({"b.py": f"{NOISE.random()}\n"})


@pytest.fixture
def hosted(host: HttpGitHost, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hosted]:
    name = tmp_path.name
    origin = Origin(host.folder / name)
    origin.put({"a.py": PIPE, "b.py": "1\n"})
    host.modern = True
    with CuttingProxy(host.port) as proxy:
        options = getattr(request, "param", {"partial": False})
        yield Hosted(origin, host, proxy, mirror_of(origin, tmp_path, proxy.url(name), **options), tmp_path)


@pytest.mark.parametrize("hosted", [{}], indirect=True)
def test_an_unchanged_remote_costs_one_question(hosted: Hosted) -> None:
    head = hosted.mirror.fetch("main").commit
    hosted.host.requests.clear()
    assert hosted.mirror.fetch("main").commit == head
    assert len(hosted.host.requests) == 2, hosted.host.requests  # greeting, and refs
    hosted.host.requests.clear()
    assert hosted.mirror.fetch(head).commit == head
    assert hosted.host.requests == [], "a commit that is here needs no remote"
    told: list[tuple[str, int | None]] = []
    hosted.mirror.materialize(head, hosted.tmp_path / "t", on_progress=lambda *progress: told.append(progress))
    assert ("receiving objects", 100) in told
    # Both contents at once: greeting, and contents.
    assert len(hosted.host.requests) == 2, hosted.host.requests


@pytest.mark.parametrize("hosted", [{}], indirect=True)
def test_a_server_that_gives_tips_only_is_mirrored_whole(hosted: Hosted) -> None:
    first = CommitId(hosted.origin.head())
    head = hosted.origin.put({"b.py": "2\n"})
    hosted.host.modern = False
    mirror = hosted.mirror
    assert mirror.fetch("main").commit == head
    assert contents(mirror.materialize(head, hosted.tmp_path / "t").folder) == {"a.py": PIPE, "b.py": "2\n"}
    assert missing(mirror, head) == 0
    assert mirror.fetch(first).commit == first
    later = hosted.origin.put({"b.py": "3\n"})
    assert mirror.fetch("main").commit == later and missing(mirror, later) == 0
    assert leftovers(mirror) == set()


@pytest.mark.parametrize(("how", "first"), [("cut_after", True), ("cut_after", False), ("spoil_after", False)])
def test_a_bad_connection_costs_one_try(hosted: Hosted, how: str, first: bool) -> None:
    mirror = hosted.mirror
    before = None if first else mirror.fetch("main").commit
    head = hosted.grow()
    hosted.proxy.reset(**{how: 100_000})
    error = fails(mirror)
    assert hosted.proxy.has_struck.is_set()
    assert error.reason in ("unreachable", "corrupt"), error.message
    assert leftovers(mirror) == set()
    if before is not None:
        assert mirror.resolve("main") == before
        assert not list(mirror.folder.glob("objects/pack/tmp_*"))
    hosted.proxy.reset()
    assert mirror.fetch("main").commit == head
    assert mirror.materialize(head, hosted.tmp_path / "t").files == 2


@pytest.mark.parametrize("hosted", [{"partial": False, "max_bytes": 200_000}], indirect=True)
def test_more_than_the_limit_is_not_taken(hosted: Hosted) -> None:
    before = hosted.mirror.fetch("main").commit
    head = hosted.grow()
    for _ in range(2):
        with pytest.raises(SourceRefused, match="more than the 200,000 bytes"):
            hosted.mirror.fetch("main")
        assert hosted.mirror.resolve("main") == before
        assert sum(path.stat().st_size for path in hosted.mirror.folder.rglob("*.pack")) < 200_000
    more = mirror_of(hosted.origin, hosted.tmp_path, hosted.mirror.url, partial=False)
    assert more.fetch("main").commit == head


@pytest.mark.parametrize("hosted", [{"partial": False, "timeout_s": 0.5}], indirect=True)
def test_a_remote_that_stops_in_the_middle_is_not_waited_for(hosted: Hosted) -> None:
    head = hosted.grow()
    hosted.proxy.reset(hold_after=100_000)
    error = fails(hosted.mirror)
    assert error.reason == "timeout" and "within 0.5 s" in error.message
    hosted.proxy.reset()
    more = mirror_of(hosted.origin, hosted.tmp_path, hosted.mirror.url, partial=False)
    assert more.fetch("main").commit == head


def test_a_fetch_can_be_ended(hosted: Hosted) -> None:
    hosted.grow()
    hosted.proxy.reset(hold_after=100_000)
    raised: list[BaseException] = []

    def fetch() -> None:
        try:
            hosted.mirror.fetch("main")
        except FnsyncError as exc:
            raised.append(exc)

    thread = threading.Thread(target=fetch)
    thread.start()
    assert hosted.proxy.has_struck.wait(20)
    hosted.mirror.stop()
    thread.join(20)
    assert [type(exc) for exc in raised] == [Draining]
    assert running(hosted.mirror) == []
    with pytest.raises(Draining):
        hosted.mirror.fetch("main")
    assert leftovers(hosted.mirror) == set()


FETCH = """
import sys
from pathlib import Path
from fnsync.git.materialize import Selection
from fnsync.git.mirror import Mirror, MirrorOptions
Mirror(Path(sys.argv[1]), sys.argv[2], Selection("functions"), MirrorOptions(partial=False)).fetch("main")
"""


def running(mirror: Mirror) -> list[int]:
    """The processes that fetch for a mirror."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if mirror.url.encode() in line and b"git" in line.partition(b"\0")[0]:
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("first", [True, False])
def test_what_a_killed_server_was_fetching_is_no_obstacle(hosted: Hosted, first: bool) -> None:
    mirror = hosted.mirror
    if not first:
        mirror.fetch("main")
    head = hosted.grow()
    hosted.proxy.reset(hold_after=100_000)
    server = subprocess.Popen([sys.executable, "-c", FETCH, str(mirror.folder), mirror.url])
    assert hosted.proxy.has_struck.wait(20)
    other = mirror_of(hosted.origin, hosted.tmp_path, mirror.url, timeout_s=0.2)
    with pytest.raises(RepositoryBusy):  # of a server that lives, nothing is ended
        other.fetch("main")
    assert running(mirror)
    server.send_signal(signal.SIGKILL)
    server.wait()
    assert running(mirror), "git goes on without its server"
    hosted.proxy.reset()
    (mirror.folder.parent / "mirror").mkdir(exist_ok=True)
    (mirror.folder / "shallow.lock").touch()
    assert mirror.fetch("main").commit == head
    wait_for("the end of the old git", lambda: not running(mirror))
    assert leftovers(mirror) == set()
    assert not list(mirror.folder.glob("**/tmp_*")) and not list(mirror.folder.glob("**/*.lock"))
    assert git(mirror, *PROMISED, "fsck", "--no-dangling") == ""


def test_what_breaks_the_rules_of_git_is_not_taken(hosted: Hosted) -> None:
    before = hosted.mirror.fetch("main").commit
    blob = hosted.origin.git("hash-object", "-w", "functions/a.py")
    line = ["git", "-C", str(hosted.origin.folder), "hash-object", "-t", "tree", "-w", "--stdin", "--literally"]
    content = b"100644 .GIT\0" + bytes.fromhex(blob)
    tree = subprocess.run(line, input=content, check=True, capture_output=True).stdout.decode().strip()
    hosted.origin.git("update-ref", "refs/heads/main", hosted.origin.git("commit-tree", "-m", "m", "-p", before, tree))
    error = fails(hosted.mirror)
    assert error.reason == "corrupt" and "hasDotgit" in error.message
    assert hosted.mirror.resolve("main") == before


# ---- how mirrors survive -----------------------------------------------------------------------------------


def _empty(mirror: Mirror) -> None:
    shutil.rmtree(mirror.folder)
    mirror.folder.mkdir()


def _each(pattern: str, change: Callable[[Path], object]) -> Callable[[Mirror], None]:
    def damage(mirror: Mirror) -> None:
        found = [path for path in mirror.folder.glob(pattern) if path.is_file()]
        assert found, pattern
        for path in found:
            path.chmod(0o644)
            change(path)

    return damage


def _write(path: str, text: str) -> Callable[[Mirror], None]:
    def damage(mirror: Mirror) -> None:
        (mirror.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (mirror.folder / path).write_text(text)

    return damage


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for place in range(12, len(data) - 20):
        data[place] ^= 0x55
    path.write_bytes(data)


def _file(mirror: Mirror) -> None:
    shutil.rmtree(mirror.folder)
    mirror.folder.write_text("x")


def _leave(mirror: Mirror) -> None:
    for name in ("shallow.lock", "config.lock", "refs/heads/main.lock", "objects/pack/tmp_pack_x"):
        (mirror.folder / name).write_text("PACK")


def _folder_for_a_branch(mirror: Mirror) -> None:
    git(mirror, "branch", "-m", "main", "main/old")


DAMAGES: dict[str, Callable[[Mirror], None]] = {
    "emptied": _empty,
    "a file": _file,
    "halved packs": _each("objects/pack/*.pack", _halve),
    "spoilt packs": _each("objects/pack/*.pack", _spoil),
    "spoilt indexes": _each("objects/pack/*.idx", _spoil),
    "lost packs": _each("objects/pack/*", Path.unlink),
    "lost HEAD": _each("HEAD", Path.unlink),
    "lost marker": _each("fnsync.json", Path.unlink),
    "spoilt configuration": _write("config", "[core\n"),
    "spoilt refs": _each("refs/heads/*", lambda path: path.write_text("nonsense")),
    "refs to nothing": _each("refs/**/*", lambda path: path.write_text("1" * 40)),
    "spoilt shallow": _write("shallow", "nonsense\n"),
    "leftovers": _leave,
    "a folder for a branch": _folder_for_a_branch,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_mirror_heals(origin: Origin, tmp_path: Path, damage: str) -> None:
    mirror = mirror_of(origin, tmp_path)
    mirror.fetch("main")
    DAMAGES[damage](mirror)
    head = origin.put({"b.py": "after\n"})
    assert mirror.fetch("main").commit == head
    assert contents(mirror.materialize(head, tmp_path / "t").folder) == {"a.py": PIPE, "b.py": "after\n"}
    assert git(mirror, *PROMISED, "fsck", "--no-dangling") == ""
    assert leftovers(mirror) == set()


@pytest.mark.parametrize("damage", ["halved packs", "spoilt packs", "refs to nothing"])
def test_damage_is_noticed_when_the_remote_has_not_changed(origin: Origin, tmp_path: Path, damage: str) -> None:
    mirror = mirror_of(origin, tmp_path, partial=False)
    head = mirror.fetch("main").commit
    DAMAGES[damage](mirror)
    assert mirror.fetch("main").commit == head
    assert contents(mirror.materialize(head, tmp_path / "t").folder) == {"a.py": PIPE, "b.py": "3\n"}


@pytest.mark.parametrize("damage", ["spoilt packs", "lost packs"])
def test_damage_is_noticed_when_files_are_wanted(origin: Origin, tmp_path: Path, damage: str) -> None:
    mirror = mirror_of(origin, tmp_path, partial=False)
    old = mirror.fetch("main").commit
    origin.put({"b.py": "after\n"})
    DAMAGES[damage](mirror)
    assert contents(mirror.materialize(old, tmp_path / "t").folder) == {"a.py": PIPE, "b.py": "3\n"}


def test_another_url_makes_the_mirror_anew(origin: Origin, tmp_path: Path) -> None:
    mirror_of(origin, tmp_path).fetch("main")
    other = Origin(tmp_path / "other")
    head = other.put({"z.py": PIPE})
    mirror = mirror_of(other, tmp_path)
    assert mirror.resolve("main") is None
    done = mirror.fetch("main")
    assert done == Fetched(head, "refs/heads/main", None)
    assert git(mirror, "rev-list", "--all") == head


def test_an_outage_takes_nothing_away(origin: Origin, tmp_path: Path) -> None:
    mirror = mirror_of(origin, tmp_path)
    head = mirror.fetch("main").commit
    made = mirror.materialize(head, tmp_path / "t")
    gone = origin.folder.rename(tmp_path / "gone")
    error = fails(mirror)
    assert error.reason == "unreachable" and origin.url in error.message
    assert mirror.resolve("main") == head and mirror.commit(head).subject == "three"
    assert mirror.materialize(head, made.folder) == made
    _halve_packs = DAMAGES["halved packs"]
    _halve_packs(mirror)
    before = sorted(path.name for path in mirror.folder.rglob("*"))
    assert fails(mirror).reason == "unreachable"
    assert sorted(path.name for path in mirror.folder.rglob("*")) == before
    gone.rename(origin.folder)
    assert mirror.fetch("main").commit == head


@pytest.mark.parametrize("partial", [True, False])
def test_what_is_not_kept_is_dropped(origin: Origin, tmp_path: Path, partial: bool) -> None:
    mirror = mirror_of(origin, tmp_path, partial=partial)
    mirror.tidy([])  # there is none yet
    old = mirror.fetch("main").commit
    mirror.materialize(old, tmp_path / "old")
    origin.git("switch", "-q", "-c", "other")
    (origin.functions / "large.bin").write_bytes(NOISE.randbytes(300_000))
    other = origin.put({"o.py": PIPE})
    mirror.fetch("other")
    mirror.materialize(other, tmp_path / "other")
    origin.git("switch", "-q", "main")
    new = origin.put({"b.py": "after\n"})
    mirror.fetch("main")
    mirror.tidy([old, new, CommitId("1" * 40)])
    assert [mirror.resolve(id) for id in (old, new, other)] == [old, new, None]
    assert sum(path.stat().st_size for path in mirror.folder.rglob("*.pack")) < 100_000
    assert len(list(mirror.folder.rglob("*.pack"))) == 1
    assert mirror.changed(old, new) == frozenset({"b.py"})
    assert mirror.fetch("main") == Fetched(new, "refs/heads/main", None)
    assert mirror.fetch("other").commit == other
    for number, commit in enumerate((old, new)):
        assert mirror.materialize(commit, tmp_path / f"t{number}").files == 2
    later = origin.put({"b.py": "later\n"})
    done = mirror.fetch("main")
    assert done.commit == later and told(mirror, new, later) == (1, False)


# ---- what must not get out, or in --------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["ext::sh -c 'touch {}'", "fd::17", "foo://host/x", "--upload-pack=touch {}"])
def test_addresses_that_run_programs_are_refused(origin: Origin, tmp_path: Path, url: str) -> None:
    ran = tmp_path / "ran"
    with pytest.raises(FetchFailed):
        mirror_of(origin, tmp_path, url.format(ran)).fetch("main")
    assert not ran.exists()


def test_nothing_secret_gets_out(hosted: Hosted) -> None:
    url = hosted.host.url("tok3n-in-path/none").replace("http://", "http://us3r:passw0rd@") + "?key=qu3ry"
    mirror = mirror_of(hosted.origin, hosted.tmp_path / "other", url)
    with pytest.raises(FetchFailed) as caught:
        mirror.fetch("main", GitAccess(secrets=frozenset({"tok3n"})))
    told = f"{caught.value.message} {caught.value.hint}"
    assert not [secret for secret in ("us3r", "passw0rd", "qu3ry", "tok3n") if secret in told], told
    files = [path for path in mirror.folder.parent.rglob("*") if path.is_file()]
    assert not [path for path in files if b"passw0rd" in path.read_bytes()]


def test_a_mirror_knows_no_address(origin: Origin, tmp_path: Path) -> None:
    """What reads it never speaks to a remote by itself, and finds no address in its configuration."""
    mirror = mirror_of(origin, tmp_path)
    head = mirror.fetch("main").commit
    assert "file:" not in (mirror.folder / "config").read_text()
    line = ["git", f"--git-dir={mirror.folder}", "cat-file", "-p", f"{head}:functions/a.py"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode and PIPE not in done.stdout


def test_a_git_daemon_is_mirrored(origin: Origin, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    line = ["git", "daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1", f"--port={port}"]
    line.append(f"--base-path={tmp_path}")
    daemon = subprocess.Popen([*line, str(tmp_path)], stderr=subprocess.DEVNULL)
    try:
        mirror = mirror_of(origin, tmp_path, f"git://127.0.0.1:{port}/origin/.git")

        def fetched() -> CommitId | None:
            with suppress(FetchFailed):  # it does not listen yet
                return mirror.fetch("main").commit
            return None

        head = wait_for("the daemon", fetched)
        assert head == origin.head()
        assert contents(mirror.materialize(head, tmp_path / "t").folder) == {"a.py": PIPE, "b.py": "3\n"}
    finally:
        daemon.terminate()
        daemon.wait()


def test_a_slow_connection_only_costs_time(hosted: Hosted) -> None:
    hosted.mirror.fetch("main")
    head = hosted.grow()
    hosted.proxy.reset(drip=1 << 12)
    assert hosted.mirror.fetch("main").commit == head
    assert hosted.proxy.has_struck.is_set() and hosted.proxy.passed > 500_000
