"""What git says of each function, and that a commit of the server's own is known without asking git."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnsync.git.traces import Made
from fnsync.git.trailers import Origin, origin_line
from fnsync.git.worktree import WorkTree
from fnsync.labels import read as labels
from fnsync.model import CommitId, FunctionRow, Touch, Unit
from fnsync.plan import Standing, paths_of, row_of
from fnsync.provenance import News, Provenance
from fnsync.source.reading import read
from tests.repositories import BEGIN, Repository

CODE = "class Pipe:\n    pass\n"
ADA = "ada@example.org"


class Project(Repository):
    """A repository and what git says of its functions."""

    def provenance(self) -> Provenance:
        return Provenance(WorkTree.ensure(self.functions, self.folder), self.functions)

    def unit(self, path: str) -> Unit:
        return read(self.functions, path).unit

    def asked(self, path: str) -> Touch | None:
        """What a walk over the history says of a function."""
        provenance = self.provenance()
        asyncio.run(provenance.refresh())
        return provenance.touch(self.unit(path))

    def row(self, path: str, provenance: Provenance) -> FunctionRow:
        unit = self.unit(path)
        return row_of(Standing(unit), "", provenance.touch(unit), True)

    def make(
        self, at: int, files: dict[str, str | None], message: str = "m", origins: dict[str, Origin] | None = None
    ) -> Made:
        """Commit, as the server does."""
        before = {path: self._text(path) for path in files}
        parent = self.git("rev-parse", "--verify", "-q", "HEAD", allowed=(0, 1)) or None
        lines = [origin_line(f"functions/{path}", origin) for path, origin in (origins or {}).items()]
        commit = self.commit(at, files, message="\n".join(["m", "", "Fnsync-User: user-1", *lines]))
        return Made(
            commit=CommitId(commit),
            parent=CommitId(parent) if parent else None,
            at=BEGIN + at,
            user_id="user-1",
            written=frozenset(path for path, text in files.items() if text is not None and text != before[path]),
            removed=frozenset(path for path, text in files.items() if text is None),
            labelled=frozenset(
                path
                for path, text in files.items()
                if path.endswith(".yaml")
                and labels((text or "").encode()).key != labels((before[path] or "").encode()).key
            ),
            origins=origins or {},
        )

    def _text(self, path: str) -> str | None:
        file = self.functions / path
        return file.read_text() if file.exists() else None


def touch(created: int, updated: int, commit: str, user: str, version: str) -> Touch:
    return Touch(BEGIN + created, BEGIN + updated, CommitId(commit), user, CommitId(version))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


# ---- a walk over the history ------------------------------------------------------------------------------


def test_a_function_begins_with_its_source_and_is_its_creators(project: Project) -> None:
    project.commit(10, {"_x.py": "X = 1\n", "a.yaml": "name: early\n"}, by="zoe@example.org")
    source = "import _x\n" + CODE
    project.commit(20, {"a.py": source}, by=ADA)
    third = project.commit(30, {"a.py": source + "# more\n"}, by="bob@example.org")
    assert project.asked("a.py") == touch(20, 30, third, ADA, third)
    shared = project.commit(40, {"_x.py": "X = 2\n"}, by="bob@example.org")
    assert project.asked("a.py") == touch(20, 40, shared, ADA, third)
    how = project.commit(50, {"a.yaml": "name: early\nactive: false\n"}, by="bob@example.org")
    assert project.asked("a.py") == touch(20, 50, how, ADA, third)
    gone = project.commit(60, {"a.yaml": None})
    assert project.asked("a.py") == touch(20, 60, gone, ADA, gone)


def test_a_removed_helper_is_a_change_of_its_function(project: Project) -> None:
    first = project.commit(10, {"a/main.py": CODE, "a/util.py": "1", "b.py": CODE})
    gone = project.commit(20, {"a/util.py": None})
    assert project.asked("a/main.py") == touch(10, 20, gone, ADA, gone)
    assert project.asked("b.py") == touch(10, 10, first, ADA, first)


def test_a_function_changes_with_the_merge_that_brings_its_parts_together(project: Project) -> None:
    project.commit(10, {"a/main.py": CODE, "a/util.py": "1"})
    project.git("checkout", "-q", "-b", "side")
    project.commit(20, {"a/util.py": "2"})
    project.git("checkout", "-q", "main")
    project.commit(30, {"a/main.yaml": "name: A\n"})
    project.git("merge", "-q", "--no-ff", "-m", "merge", "side", at=40)
    merge = project.head()
    assert project.asked("a/main.py") == touch(10, 40, merge, ADA, merge)


def test_the_order_within_a_second_holds_over_all_files(project: Project) -> None:
    first = project.commit(10, {"a/main.py": CODE})
    provenance = project.provenance()
    asyncio.run(provenance.refresh())
    version = first
    for path in ("a/z.py", "a/main.yaml", "a/b.py", "a/main.py"):
        commit = project.commit(10, {path: "{}\n" if path.endswith("yaml") else CODE + "# 2\n"})
        version = version if path.endswith("yaml") else commit
        expected = touch(10, 10, commit, ADA, version)
        assert project.asked("a/main.py") == expected
        asyncio.run(provenance.refresh())
        assert provenance.touch(project.unit("a/main.py")) == expected


def test_a_source_in_no_commit_is_not_known_whatever_lies_beside_it(project: Project) -> None:
    project.commit(10, {"a.yaml": "name: A\n", "b.py": CODE})
    (project.functions / "a.py").write_text(CODE)
    project.git("rm", "-q", "--cached", "functions/b.py")
    project.git("commit", "-q", "-m", "forget b", at=20)
    assert project.asked("a.py") is None
    assert project.asked("b.py") is None


def test_an_imported_time_of_change_holds_until_the_function_changes(project: Project) -> None:
    origin = Origin(BEGIN - 50, BEGIN - 40, "ada")
    made = project.make(10, {"a.py": CODE, "a.yaml": "active: false\n"}, origins={"a.py": origin})
    assert project.asked("a.py") == touch(-50, -40, made.commit, "ada", made.commit)
    later = project.commit(20, {"a.yaml": "active: true\n"})
    assert project.asked("a.py") == touch(-50, 20, later, "ada", made.commit)


# ---- commits of the server's own --------------------------------------------------------------------------


@pytest.mark.parametrize("restarted", [False, True])
def test_a_commit_is_known_at_once_and_the_next_look_finds_nothing_new(project: Project, restarted: bool) -> None:
    first = project.commit(10, {"a.py": CODE, "a.yaml": "name: A\n"}, by=ADA)
    provenance = _known(project, restarted)

    made = project.make(20, {"a.py": CODE + "# 2\n"})
    provenance.committed(made)
    assert provenance.head == made.commit
    assert provenance.touch(project.unit("a.py")) == touch(10, 20, made.commit, ADA, made.commit)
    how = project.make(20, {"a.yaml": "name: A\nactive: false\n"})
    provenance.committed(how)
    assert provenance.touch(project.unit("a.py")) == touch(10, 20, how.commit, ADA, made.commit)
    assert not asyncio.run(provenance.refresh()), "it asked git although nothing else was committed"

    created = project.make(30, {"b.py": CODE, "b.yaml": "active: false\n"})
    provenance.committed(created)
    named = project.make(40, {"b.yaml": "name: B\n"})
    provenance.committed(named)
    assert provenance.touch(project.unit("b.py")) == touch(30, 40, named.commit, "user-1", named.commit)
    assert not asyncio.run(provenance.refresh())
    assert first != made.parent or provenance.touch(project.unit("b.py")) == project.asked("b.py")


@pytest.mark.parametrize("restarted", [False, True])
def test_what_was_deleted_and_made_anew_by_the_server_is_new(project: Project, restarted: bool) -> None:
    project.commit(10, {"a.py": CODE}, by=ADA)
    provenance = _known(project, restarted)
    provenance.committed(project.make(20, {"a.py": None}))
    made = project.make(30, {"a.py": CODE})
    provenance.committed(made)
    assert provenance.touch(project.unit("a.py")) == touch(30, 30, made.commit, "user-1", made.commit)
    moved = project.make(40, {"a.py": None, "a/main.py": CODE, "a/util.py": "1"})
    provenance.committed(moved)
    without = project.make(50, {"a/util.py": None})
    provenance.committed(without)
    expected = touch(40, 50, without.commit, "user-1", without.commit)
    assert provenance.touch(project.unit("a/main.py")) == expected == project.asked("a/main.py")


def test_the_first_commit_of_all_is_known_too(project: Project) -> None:
    provenance = project.provenance()
    asyncio.run(provenance.refresh())
    made = project.make(10, {"a.py": CODE})
    provenance.committed(made)
    assert provenance.touch(project.unit("a.py")) == touch(10, 10, made.commit, "user-1", made.commit)
    assert not asyncio.run(provenance.refresh())


@pytest.mark.parametrize("restarted", [False, True])
def test_a_commit_in_between_is_found_by_the_next_look(project: Project, restarted: bool) -> None:
    project.commit(10, {"a.py": CODE, "b.py": CODE})
    provenance = _known(project, restarted)
    other = project.commit(20, {"b.py": CODE + "# by somebody else\n"}, by="bob@example.org")
    made = project.make(30, {"a.py": CODE + "# 2\n"})
    provenance.committed(made)
    assert provenance.touch(project.unit("a.py")) == touch(10, 30, made.commit, ADA, made.commit)
    assert asyncio.run(provenance.refresh())
    assert provenance.head == made.commit
    assert provenance.touch(project.unit("a.py")) == touch(10, 30, made.commit, ADA, made.commit)
    assert provenance.touch(project.unit("b.py")) == touch(10, 20, other, ADA, other)


def test_a_commit_that_is_made_while_git_is_asked_is_not_lost(project: Project) -> None:
    project.commit(10, {"a.py": CODE})

    async def story() -> Touch | None:
        provenance = project.provenance()
        looking = asyncio.create_task(provenance.refresh())
        await asyncio.sleep(0)
        for at in (20, 30, 40):
            provenance.committed(project.make(at, {"a.py": CODE + f"# {at}\n"}))
        await looking
        if provenance.head != project.head():
            await provenance.refresh()
        return provenance.touch(project.unit("a.py"))

    assert asyncio.run(story()) == project.asked("a.py")


def test_an_edit_and_its_undoing_on_top_of_it_are_told_apart(project: Project) -> None:
    first = project.make(10, {"a.py": CODE})
    provenance = _known(project, False)
    provenance.committed(project.make(20, {"a.py": CODE + "# 2\n"}))
    project.git("reset", "-q", "--hard", first.commit)
    assert asyncio.run(provenance.refresh())
    assert provenance.touch(project.unit("a.py")) == touch(10, 10, first.commit, "user-1", first.commit)


def test_a_look_at_head_tells_what_it_is_about(project: Project) -> None:
    project.commit(10, {"a.py": CODE, "b/main.py": CODE, "b/util.py": "1", "_x.py": "1"})
    provenance = project.provenance()
    assert asyncio.run(provenance.refresh()) == News(None), "all is new"
    project.commit(20, {"b/util.py": "2"})
    assert asyncio.run(provenance.refresh()) == News(frozenset({"b/util.py", "b/main.py"}))
    project.commit(30, {"_x.py": "2"})
    assert asyncio.run(provenance.refresh()) == News(frozenset({"_x.py"}))
    project.git("commit", "-q", "--allow-empty", "-m", "empty", at=40)
    assert asyncio.run(provenance.refresh()) == News(frozenset())
    assert asyncio.run(provenance.refresh()) is None


def _known(project: Project, restarted: bool) -> Provenance:
    """Up to date with HEAD: git was asked, or the index remembers it."""
    provenance = project.provenance()
    asyncio.run(provenance.refresh())
    if restarted:
        rows = [project.row(path.name, provenance) for path in sorted(project.functions.glob("*.py"))]
        again = project.provenance()
        again.restore(rows, provenance.head)
        assert [project.row(row.path, again) for row in rows] == rows
        return again
    return provenance


SOURCES = st.sampled_from([None, CODE, CODE + "# more\n"])
SETTINGS = st.sampled_from([None, "name: A\n", "name: A\nactive: true\n", "active: false\n"])
FILES: dict[str, st.SearchStrategy[str | None]] = {
    "a.py": SOURCES,
    "a.yaml": SETTINGS,
    "b/main.py": SOURCES,
    "b/main.yaml": SETTINGS,
    "b/util.py": SOURCES,
    "_x.py": SOURCES,
}
origins = st.builds(Origin, st.none() | st.integers(1, 9), st.none() | st.integers(1, 9), st.none() | st.just("ada"))
edits = st.tuples(
    st.fixed_dictionaries({}, optional=FILES),
    st.integers(0, 1),
    st.dictionaries(st.sampled_from(["a.py", "b/main.py"]), origins, max_size=1),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(edits, min_size=1, max_size=4), st.booleans())
def test_what_is_told_of_commits_is_what_git_says_of_them(
    plan: list[tuple[dict[str, str | None], int, dict[str, Origin]]], restarted: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder) / "project")
        project.commit(0, {"a.py": CODE})
        told, follows = _known(project, restarted), _known(project, False)
        at = 0
        for wanted, later, said in plan:
            at += later
            files = {path: text for path, text in wanted.items() if text != project._text(path)}
            there = {path for path in said if files.get(path) or (path not in files and project._text(path))}
            made = project.make(at, files, origins={path: said[path] for path in there})
            if made.written or made.removed:
                told.committed(made)
            else:  # an empty commit touches nothing
                asyncio.run(told.refresh())
            asked = project.provenance()
            asyncio.run(asked.refresh())
            there = {path for path in ("a.py", "b/main.py") if project._text(path) is not None}
            units = [project.unit(path) for path in there]
            before = [follows.touch(unit) for unit in units]
            news = asyncio.run(follows.refresh())
            for unit, was in zip(units, before, strict=True):
                assert told.touch(unit) == asked.touch(unit), unit.path
                if follows.touch(unit) != was:
                    assert news is not None and news.paths is not None
                    assert not news.paths.isdisjoint(paths_of(unit)), f"nobody was told of {unit.path}"
