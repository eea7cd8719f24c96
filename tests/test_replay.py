"""Commits that are only here are made anew on what the remote has, or kept aside where they do not fit."""

from __future__ import annotations

import io
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from fnsync.git.replay import Local, Replayed, only_here, replay
from fnsync.git.trailers import kept_line, user_line
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId
from tests.repositories import Repository

LINES = "".join(f"line_{number} = {number}\n" for number in range(12))
BEGIN: dict[str, str | None] = {
    "a.py": LINES,
    "a.yaml": "active: true\n",
    "b.py": "b = 1\n",
    "f/main.py": "f = 1\n",
    "f/help.py": "help = 1\n",
    "notes.txt": "one\ntwo\nthree\nfour\nfive\nsix\n",
}
Files = dict[str, str | None]


def line(number: int, text: str, of: str = LINES) -> str:
    """The text with one of its lines as another."""
    lines = of.splitlines(keepends=True)
    return "".join([*lines[:number], f"{text}\n", *lines[number + 1 :]])


class Parted:
    """One repository with two branches: `main` is here, `there` what the remote has."""

    def __init__(self, folder: Path) -> None:
        self.repository = Repository.at(folder)
        self.tree = WorkTree.ensure(self.repository.functions)
        self.base = self.repository.head()

    def commit(self, files: Files, message: str = "edit", at: int = 1) -> CommitId:
        """An edit over the API."""
        return CommitId(self.repository.commit(at, files, message=f"{message}\n\n{user_line('u1')}"))

    def there(self, *commits: Files) -> CommitId:
        self.repository.git("checkout", "-q", "-B", "there", self.base)
        for number, files in enumerate(commits):
            self.repository.commit(100 + number, files, by="bob@example.org", message="theirs")
        found = CommitId(self.repository.head())
        self.repository.git("checkout", "-q", "main")
        return found

    def only_here(self, theirs: CommitId) -> list[Local]:
        return only_here(self.tree, CommitId(self.repository.head()), theirs)

    def replay(self, theirs: CommitId) -> Replayed:
        status, head = self.repository.git("status", "--porcelain"), self.repository.head()
        found = replay(self.tree, self.only_here(theirs), theirs)
        assert (self.repository.git("status", "--porcelain"), self.repository.head()) == (status, head)
        assert not list((self.repository.folder / ".git").glob("fnsync-*"))
        return found

    def at(self, commit: str) -> Files:
        archive = subprocess.run(
            ["git", "-C", self.repository.folder, "archive", commit], check=True, capture_output=True
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            found = ((member.name, files.extractfile(member)) for member in files if member.isfile())
            return {name.removeprefix("functions/"): data.read().decode() for name, data in found if data is not None}

    def show(self, commit: str, name: str) -> str:
        return self.repository.git("show", f"{commit}:{name}") + "\n"

    def subjects(self, commits: str) -> list[str]:
        return self.repository.git("log", "--reverse", "--format=%s", commits).splitlines()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = Repository(tmp_path_factory.mktemp("made") / "r")
    repository.commit(0, BEGIN)
    return repository.folder


@pytest.fixture
def parted(made: Path, tmp_path: Path) -> Parted:
    return Parted(shutil.copytree(made, tmp_path / "r"))


FIT: dict[str, tuple[Files, Files, Files]] = {
    # what is done here, what there, and what differs from the beginning in the end
    "other files": ({"b.py": "b = 2\n"}, {"a.py": "a = 2\n"}, {"b.py": "b = 2\n", "a.py": "a = 2\n"}),
    "other lines": (
        {"a.py": line(1, "ours = 1")},
        {"a.py": line(9, "theirs = 1")},
        {"a.py": line(9, "theirs = 1", line(1, "ours = 1"))},
    ),
    "lines of a text": (
        {"notes.txt": "ONE\ntwo\nthree\nfour\nfive\nsix\n"},
        {"notes.txt": "one\ntwo\nthree\nfour\nfive\nSIX\n"},
        {"notes.txt": "ONE\ntwo\nthree\nfour\nfive\nSIX\n"},
    ),
    "the same": ({"b.py": "b = 2\n"}, {"b.py": "b = 2\n"}, {"b.py": "b = 2\n"}),
    "the same new one": ({"n.py": "n = 2\n"}, {"n.py": "n = 2\n"}, {"n.py": "n = 2\n"}),
    "both removed it": ({"b.py": None}, {"b.py": None}, {"b.py": None}),
    "source here, settings there": (
        {"a.py": line(1, "ours = 1")},
        {"a.yaml": "active: false\n"},
        {"a.py": line(1, "ours = 1"), "a.yaml": "active: false\n"},
    ),
    "new ones on both sides": ({"n.py": "n = 1\n"}, {"m.py": "m = 1\n"}, {"n.py": "n = 1\n", "m.py": "m = 1\n"}),
    "a file becomes a folder": (
        {"b.py": None, "b/main.py": "b = 1\n"},
        {"a.py": "a = 2\n"},
        {"b.py": None, "b/main.py": "b = 1\n", "a.py": "a = 2\n"},
    ),
    "broken here already": (
        {"a.py": line(1, "def (")},
        {"a.py": line(9, "theirs = 1")},
        {"a.py": line(9, "theirs = 1", line(1, "def ("))},
    ),
}


@pytest.mark.parametrize("case", FIT)
def test_what_fits_goes_on_top(parted: Parted, case: str) -> None:
    here, there, together = FIT[case]
    theirs = parted.there(there)
    mine = parted.commit(here)
    found = parted.replay(theirs)
    assert found.dropped == () and found.count == 1
    assert parted.at(found.tip) == {path: text for path, text in (BEGIN | together).items() if text is not None}
    shown = "--format=%an|%ae|%ad|%cn|%ce|%cd|%B"
    assert parted.repository.git("log", "-1", shown, found.tip) == parted.repository.git("log", "-1", shown, mine)
    assert parted.repository.git("rev-parse", f"{found.tip}~1") == theirs


CLASH: dict[str, tuple[Files, Files, tuple[str, ...]]] = {
    "the same line": ({"a.py": line(1, "ours = 1")}, {"a.py": line(1, "theirs = 1")}, ("a.py",)),
    "changed here, removed there": ({"b.py": "b = 2\n"}, {"b.py": None}, ("b.py",)),
    "removed here, changed there": ({"b.py": None}, {"b.py": "b = 2\n"}, ("b.py",)),
    "both made it": ({"n.py": "n = 1\n"}, {"n.py": "n = 2\n"}, ("n.py",)),
    "settings": (
        {"a.yaml": "# ours\nactive: true\n"},
        {"a.yaml": "active: true\nglobal: true\n"},
        ("a.yaml",),
    ),
    "lines that fit, but are no Python together": (
        {"a.py": line(0, "text = '''", line(11, "'''"))},
        {"a.py": line(5, "quotes = \"'''\"")},
        ("a.py",),
    ),
    "what is no text": ({"notes.txt": "\0one\n"}, {"notes.txt": "\0two\n"}, ("notes.txt",)),
    "a file for a folder": ({"new": "text\n"}, {"new/main.py": "n = 1\n"}, ("new",)),
    "a folder for a file": ({"new/main.py": "n = 1\n"}, {"new": "text\n"}, ("new/main.py",)),
    "settings of what was removed there": ({"b.yaml": "active: false\n"}, {"b.py": None}, ("b.py",)),
    "a helper of what was removed there": ({"f/more.py": "m = 1\n"}, {"f/main.py": None}, ("f/main.py",)),
    "removed here, settings there": ({"b.py": None}, {"b.yaml": "active: false\n"}, ("b.yaml",)),
    "one id in two forms": ({"n.py": "n = 1\n"}, {"n/main.py": "n = 2\n"}, ("n.py", "n/main.py")),
    "one id in two cases": ({"n.py": "n = 1\n"}, {"sub/N.py": "n = 2\n"}, ("n.py", "sub/N.py")),
    "one of several": (
        {"a.py": line(1, "ours = 1"), "b.py": "b = 2\n"},
        {"a.py": line(1, "theirs = 1")},
        ("a.py",),
    ),
}


@pytest.mark.parametrize("case", CLASH)
def test_what_does_not_fit_is_kept_aside(parted: Parted, case: str) -> None:
    here, there, paths = CLASH[case]
    theirs = parted.there(there)
    mine = parted.commit(here, "Say ours", at=7)
    found = parted.replay(theirs)
    assert (found.tip, found.count, found.aside) == (theirs, 0, mine)
    dropped = found.dropped[0]
    assert [path.removeprefix("functions/") for path in dropped.paths] == list(paths)
    assert (dropped.commit, dropped.author, dropped.subject, dropped.at) == (mine, "A", "Say ours", 1_700_000_007)
    assert dropped.reason


def test_what_builds_on_it_stays_with_it_and_the_rest_goes_on(parted: Parted) -> None:
    theirs = parted.there({"a.py": line(1, "theirs = 1")})
    parted.commit({"b.py": "b = 2\n"}, "b")
    parted.commit({"a.py": line(9, "before = 1")}, "a before")
    parted.commit({"f/main.py": "f = 2\n"}, "f")
    first = parted.commit({"a.py": line(1, "ours = 1", line(9, "before = 1"))}, "a clashes")
    parted.commit({"notes.txt": "new\n"}, "notes")
    parted.commit({"a.yaml": "active: false\n"}, "settings of a")
    parted.commit({"b.yaml": "active: false\n"}, "settings of b")
    found = parted.replay(theirs)
    assert parted.subjects(f"{theirs}..{found.tip}") == ["b", "a before", "f", "notes", "settings of b"]
    assert found.count == 5
    assert [dropped.subject for dropped in found.dropped] == ["a clashes", "settings of a"]
    assert found.dropped[1].reason == f"it builds on {found.dropped[0].commit[:8]}" and found.dropped[0].commit != first
    assert parted.show(found.tip, "functions/a.py") == line(1, "theirs = 1", line(9, "before = 1"))
    assert found.aside is not None and found.dropped[1].commit == found.aside
    assert parted.subjects(f"{parted.base}..{found.aside}") == ["a before", "a clashes", "settings of a"]
    assert parted.show(found.aside, "functions/a.py") == line(1, "ours = 1", line(9, "before = 1"))
    assert parted.show(found.aside, "functions/b.py") == "b = 1\n"
    assert parted.replay(theirs) == found, "again, to the same commits"


def test_modes_and_links(parted: Parted) -> None:
    functions = parted.repository.functions
    theirs = parted.there({"a.py": line(9, "theirs = 1")})
    (functions / "a.py").chmod(0o755)
    (functions / "l.py").symlink_to("b.py")
    parted.commit({"a.py": line(1, "ours = 1")})
    found = parted.replay(theirs)
    modes = [entry.split()[0] for entry in parted.repository.git("ls-tree", "-r", found.tip).splitlines()]
    assert stat.S_IMODE((functions / "a.py").stat().st_mode) == 0o755
    assert modes == ["100755", "100644", "100644", "100644", "100644", "120000", "100644"]


def test_whose_commits_they_are(parted: Parted) -> None:
    theirs = parted.there({"a.py": "a = 2\n"})
    parted.repository.commit(1, {"b.py": "b = 2\n"}, message=f"Keep\n\n{kept_line('u1')}")
    parted.commit({"b.py": "b = 3\n"}, "Ünter\n\nof three\n\nparagraphs")
    parted.repository.commit(2, {"b.py": "b = 4\n"}, message="by hand\n\nFnsync-User: is no trailer\n\nhere")
    commits = parted.only_here(theirs)
    assert [commit.is_ours for commit in commits] == [True, True, False]
    assert commits[1].subject == "Ünter" and commits[1].message.endswith(b"paragraphs\n\nFnsync-User: u1\n")
    assert parted.only_here(CommitId(parted.repository.head())) == []


def test_a_long_way(parted: Parted) -> None:
    """A file that changes with each commit, on both sides, in lines of their own."""
    theirs = parted.there(*({"a.py": line(11, f"theirs = {number}")} for number in range(3)))
    for number in range(5):
        parted.commit({"a.py": line(1, f"ours = {number}")}, f"edit {number}")
    found = parted.replay(theirs)
    assert found.count == 5 and not found.dropped
    assert parted.subjects(f"{theirs}..{found.tip}") == [f"edit {number}" for number in range(5)]
    assert parted.show(found.tip, "functions/a.py") == line(11, "theirs = 2", line(1, "ours = 4"))
