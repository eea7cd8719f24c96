"""What git knows of histories made by chance: as the definitions say, also carried on from any earlier commit."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fnsync.git.history import touches
from fnsync.git.traces import Touches
from fnsync.git.versions import versions
from fnsync.git.worktree import WorkTree
from tests.histories import History, Step, steps
from tests.repositories import Repository

histories = st.lists(steps, min_size=1, max_size=10)


def look(history: History, head: str, before: Touches | None = None) -> Touches:
    repository = history.repository
    (repository.folder / ".git" / "HEAD").write_text(head + "\n")
    return touches(WorkTree.ensure(repository.functions, repository.folder), repository.functions, before)


def check(history: History, found: Touches) -> None:
    tree = history.commits[history.head].tree
    assert found.traces.keys() == tree.keys()
    for path, trace in found.traces.items():
        changes = history.changes(path)
        assert trace.last is not None and trace.last.commit == max(changes, key=history.order), f"last change of {path}"
        created = history.commits[changes[-1]]
        assert trace.created_at == created.at, f"creation of {path}"


@settings(max_examples=30, deadline=None)
@given(histories)
def test_creation_last_change_and_version_are_as_defined(plan: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = History(Repository(Path(folder) / "project"), plan)
        found = look(history, history.head)
        check(history, found)
        sources = [path for path in found.traces if path.endswith(".py")]
        expected = {source: history.version(source) for source in sources}
        assert {source: version.commit for source, version in found.versions.items()} == expected


@settings(max_examples=30, deadline=None)
@given(histories, st.integers(0, 20))
def test_carried_on_it_is_the_same(plan: list[Step], back: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = History(Repository(Path(folder) / "project"), plan)
        walk = history.walk()
        found = look(history, history.head, look(history, walk[back % len(walk)]))
        check(history, found)
        for source, version in found.versions.items():
            # Of two commits with the same outcome on two branches, either may be found.
            assert history.state(version.commit, source) == history.state(history.head, source) is not None


@settings(max_examples=25, deadline=None)
@given(histories)
def test_the_versions_of_a_function_are_as_defined(plan: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = History(Repository(Path(folder) / "project"), plan)
        worktree = WorkTree.ensure(history.repository.functions, history.repository.folder)
        for source in ("a.py", "b.py", "a/main.py"):
            if source == "a.py" and "a/main.py" in history.commits[history.head].tree:
                continue
            expected = history.lineage(source)
            found = [
                (version.commit, version.path) for version in versions(worktree, history.repository.functions, source)
            ]
            if not expected and found:
                continue  # one commit has it under two names
            assert set(found) == {(id, path) for id, path in expected.items() if history.is_version(id, path)}
            for at, (id, _) in enumerate(found):
                assert not any(id in history.before(later) for later, _ in found[at + 1 :]), "a parent before its child"
