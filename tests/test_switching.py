"""Functions of sources: going over to another tree, with real workers, mirrors and snapshots."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fnsync.errors import Conflict, LoadFailed, NotFound, UnknownFunction
from fnsync.model import FunctionId, Status, Tree
from fnsync.reports import ReloadReport
from tests.reconciling import Project, Shared, says
from tests.trees import Upstream

pytestmark = pytest.mark.anyio

ID = FunctionId("acme_a")


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shared]:
    made = Shared(tmp_path_factory.mktemp("shared"))
    await made.executor.start()
    yield made
    await made.executor.close()


@pytest.fixture
async def p(tmp_path: Path, shared: Shared) -> AsyncIterator[Project]:
    project = Project(tmp_path / "project")
    await project.start(shared)
    yield project
    await project.close()


class Source(Upstream):
    """A source of a project."""

    def __init__(self, project: Project, name: str = "acme", prefix: str = "acme_") -> None:
        super().__init__(project.root.parent / name, project.data / "sources", name, prefix)
        self.project = project
        self.at = 0

    def change(self, files: dict[str, str | None]) -> Tree:
        """Commit; returns the commit's tree."""
        self.at += 60
        self.commit(self.at, files, by="eve@example.org")
        return self.tree()

    async def push(
        self,
        files: dict[str, str | None],
        *,
        prune: bool = True,
        held: tuple[str, ...] = (),
        at_once: bool = False,
    ) -> ReloadReport:
        """Commit, and have the project go over to it."""
        reconciler = self.project.reconciler
        before = reconciler.trees.get(self.name)
        tree = self.change(files)
        paths = self.changed(before.commit, tree.commit) if before is not None else None
        ids = [FunctionId(id) for id in held]
        report = await reconciler.switch(self.name, tree, paths, prune=prune, held=ids, at_once=at_once)
        self.project.trees = list(reconciler.trees.values())
        self.project.quarantine = dict(reconciler.quarantine)
        return report


async def test_a_switch_at_once_shows_functions_of_one_tree_only(p: Project) -> None:
    acme = Source(p)
    await acme.push({"a.py": says("one"), "b.py": says("one"), "left.py": says("one")})

    def seen() -> frozenset[tuple[str, str]]:
        functions = p.registry.world.functions.values()
        return frozenset((function.id, function.revision) for function in functions)

    first = seen()
    slow = "import time\ntime.sleep(0.3)\n"
    changed = {"a.py": says("two"), "b.py": slow + says("two"), "left.py": None, "new.py": says("two")}
    switch = asyncio.create_task(acme.push(changed, at_once=True))
    worlds = {first}
    while not switch.done():
        await asyncio.sleep(0.001)
        worlds.add(seen())
    report = await switch
    assert {id for id, _, _ in report.loaded} == {"acme_a", "acme_b", "acme_new"}
    assert worlds == {first, seen()}
    assert {id for id, _ in seen()} == {"acme_a", "acme_b", "acme_new"}
    assert await p.ask("acme_a") == "two" and await p.ask("acme_b") == "two"


async def test_a_switch_answers_when_the_new_code_does(p: Project) -> None:
    acme = Source(p)
    await p.save("own.py", says("own"))
    report = await acme.push({"a.py": says("one"), "b.py": says("b"), "bad.py": "def broken(:\n"})
    assert await p.ask("acme_a") == "one" and await p.ask("own") == "own"
    assert {id for id, _, _ in report.loaded} == {"acme_a", "acme_b"}
    assert [(id, problem.path) for id, problem in report.failed] == [("acme_bad", "acme:bad.py")]
    row = p.row("acme_a")
    assert (row.source, row.path, row.name, row.status) == ("acme", "acme:a.py", "a", Status.READY)
    report = await acme.push({"a.py": says("two"), "b.py": None, "c.py": says("c")})
    assert {id for id, _, _ in report.loaded} == {"acme_a", "acme_c"} and report.removed == ("acme_b",)
    assert report.changed == ("acme:a.py", "acme:b.py", "acme:c.py")
    assert await p.ask("acme_a") == "two" and "acme_b" not in p.registry.world.functions
    assert p.index.row(FunctionId("acme_b")) is None
    await acme.push({"a.py": "raise ValueError('no')\n" + says("x"), "bad.py": says("mended")})
    row = p.row("acme_a")
    assert await p.ask("acme_a") == "two" and row.status is Status.STALE and row.error is not None
    assert (row.error.path, row.error.line) == ("acme:a.py", 1)
    assert await p.ask("acme_bad") == "mended"
    report = await p.reconciler.switch("acme", None, None)
    assert set(report.removed) == {"acme_a", "acme_c", "acme_bad"}
    assert p.registry.world.functions.keys() == {"own"}
    assert [row.id for row in p.index.rows()] == ["own"]
    assert [unit.path for unit in p.index.units()] == ["own.py"]


async def test_a_restart_serves_what_served_and_runs_nothing(p: Project) -> None:
    acme, trace = Source(p), p.data / "imports"
    noted = f"open({str(trace)!r}, 'a').write('x')\n"
    await acme.push({"a.py": noted + says("one"), "b.py": noted + says("b"), "_lib.py": "", "bad.py": "def x(:\n"})
    await acme.push({"a.py": noted + "def broken(:\n"})
    await p.reconciler.settled()
    before = p.index.rows()
    assert trace.read_text() == "xx"
    assert {row.id: row.status for row in before} == {
        "acme_a": Status.STALE,
        "acme_b": Status.READY,
        "acme_bad": Status.FAILED,
    }
    for without_index in (False, True):
        await p.restart(without_index=without_index)
        assert p.index.rows() == before
        assert await p.ask("acme_a") == "one" and await p.ask("acme_b") == "b"
    assert trace.read_text() == "xx", "a start with unchanged trees ran function code"
    tree = acme.change({"a.py": says("three"), "b.py": None})
    p.trees = [tree]
    await p.restart()
    assert await p.ask("acme_a") == "three" and "acme_b" not in p.registry.world.functions
    p.trees = []
    await p.restart()
    assert not p.index.rows() and not p.registry.world.functions


async def test_who_is_live_keeps_the_id(p: Project) -> None:
    acme = Source(p, prefix="")
    await acme.push({"a.py": says("acme"), "b.py": says("acme")})
    await p.save("a.py", says("local"))
    assert await p.ask("a") == "acme" and p.row("a").rivals == ("a.py",)
    await p.save("c.py", says("local"))
    report = await acme.push({"c.py": says("acme")})
    assert await p.ask("c") == "local" and p.row("c").rivals == ("acme:c.py",)
    [(id, problem)] = report.failed
    assert (id, problem.code, problem.path) == ("c", "conflict", "acme:c.py")
    assert "c.py" in problem.message and "prefix" in str(problem.hint)
    await acme.push({"a.py": None})
    assert await p.ask("a") == "local" and p.row("a").path == "a.py" and not p.row("a").rivals
    (p.data / "live/b.json").unlink()
    p.write("b.py", says("local"))
    await p.restart()
    assert await p.ask("b") == "local", "at a cold start local files claim first"


async def test_what_serves_is_of_the_commit_that_made_it(p: Project) -> None:
    acme = Source(p)

    async def commit() -> str | None:
        await p.reconciler.settled()
        return p.registry.world.functions[ID].commit

    await acme.push({"a.py": says("one")})
    first, tree = await commit(), p.reconciler.trees["acme"]
    assert first == tree.commit
    await acme.push({"a.py": "def broken(:\n"})
    assert await p.ask("acme_a") == "one" and await commit() == first
    for without_index in (False, True):
        await p.restart(without_index=without_index)
        assert await p.ask("acme_a") == "one" and await commit() == first
    await acme.push({"a.py": says("two")})
    assert await commit() == p.reconciler.trees["acme"].commit
    await p.reconciler.bring_back(ID, tree)
    assert await p.ask("acme_a") == "one" and await commit() == first


async def test_without_prune_what_left_stays_and_says_so(p: Project) -> None:
    acme = Source(p)
    await acme.push({"a.py": '"""\ntitle: T\ndescription: words\n"""\n' + says("one"), "b.py": says("b")})
    await p.reconciler.settled()
    known = p.row("acme_a")
    report = await acme.push({"a.py": None, "b.py": None, "README.md": "words"}, prune=False)
    assert not report.removed and {id for id, _ in report.failed} == {"acme_a", "acme_b"}
    await p.reconciler.settled()
    rows = p.index.rows()
    row = p.row("acme_a")
    assert row.status is Status.STALE and row.error is not None and row.error.code == "removed_upstream"
    assert (row.content, row.name, row.meta, row.commit) == (known.content, "T", known.meta, known.commit)
    assert (row.created_at, row.updated_at, row.user_id) == (known.created_at, known.updated_at, "eve@example.org")
    for without_index in (False, True):
        await p.restart(without_index=without_index)
        assert p.index.rows() == rows and await p.ask("acme_a") == "one"
    report = await acme.push({"a.py": says("back")}, prune=False)
    assert await p.ask("acme_a") == "back" and p.row("acme_a").status is Status.READY
    assert await p.ask("acme_b") == "b"
    await p.restart()
    assert p.row("acme_a").status is Status.READY and p.row("acme_b").status is Status.STALE
    report = await acme.push({})
    assert report.removed == ("acme_b",), "with prune it goes"
    await p.restart()
    assert [row.id for row in p.index.rows()] == ["acme_a"]


async def test_a_quarantined_revision_is_not_taken_until_it_changes_or_is_released(p: Project) -> None:
    acme = Source(p)
    await acme.push({"a.py": says("one"), "b.py": says("one")})
    await acme.push({"a.py": says("two"), "b.py": says("two")}, held=("acme_a",))
    assert await p.ask("acme_a") == "one" and await p.ask("acme_b") == "two"
    row = p.row("acme_a")
    assert row.status is Status.STALE and row.error is not None and row.error.code == "quarantined"
    assert "fnsync rollback acme --release acme_a" in str(row.error.hint)
    assert p.reconciler.quarantine == {"acme_a": row.revision} and row.live_revision != row.revision
    await acme.push({"a.yaml": "active: false\n"})
    assert not p.row("acme_a").is_active, "settings that concern no code hold"
    await acme.push({"a.yaml": None})
    await p.restart()
    assert await p.ask("acme_a") == "one" and p.row("acme_a").error == row.error
    report = await p.reconciler.set_quarantine({})
    assert [id for id, _, _ in report.loaded] == ["acme_a"] and await p.ask("acme_a") == "two"
    await acme.push({"a.py": says("three")}, held=("acme_a",))
    assert await p.ask("acme_a") == "two"
    await acme.push({"a.py": says("four")})
    assert await p.ask("acme_a") == "four" and p.row("acme_a").error is None


async def test_one_function_goes_back_while_the_others_go_on(p: Project) -> None:
    acme = Source(p)
    await p.save("own.py", says("own"))
    await acme.push({"a.py": says("one"), "a.yaml": "valves: {}\n", "bad.py": "raise ValueError\n" + says("x")})
    first = p.trees = list(p.reconciler.trees.values())
    await acme.push({"a.py": says("two"), "bad.py": says("good"), "new.py": says("new"), "same.py": says("same")})
    report = await p.reconciler.bring_back(ID, first[0])
    assert [id for id, _, _ in report.loaded] == ["acme_a"] and await p.ask("acme_a") == "one"
    row = p.row("acme_a")
    assert row.status is Status.STALE and row.error is not None and row.error.code == "quarantined"
    assert row.content == says("two") and row.live_revision != row.revision
    p.quarantine = dict(p.reconciler.quarantine)
    p.trees = list(p.reconciler.trees.values())
    await p.restart()
    assert await p.ask("acme_a") == "one" and p.row("acme_a") == row
    await acme.push({"new.py": says("newer")})
    assert await p.ask("acme_a") == "one" and await p.ask("acme_new") == "newer"
    for id, error in (("acme_bad", LoadFailed), ("acme_new", NotFound), ("own", UnknownFunction)):
        with pytest.raises(error):
            await p.reconciler.bring_back(FunctionId(id), first[0])
    with pytest.raises(Conflict, match="same"):
        await p.reconciler.bring_back(FunctionId("acme_same"), acme.tree())
    assert p.reconciler.quarantine.keys() == {"acme_a"} and await p.ask("acme_bad") == "good"
    await p.reconciler.settled()
    assert p.row("acme_bad").status is Status.READY
    await p.reconciler.set_quarantine({})
    assert await p.ask("acme_a") == "two" and p.row("acme_a").status is Status.READY


async def test_git_tells_of_each_function_whence_it_came(p: Project) -> None:
    acme = Source(p)
    await acme.push({"a.py": says("one"), "b.py": says("b"), "_lib.py": ""})
    await p.reconciler.settled()
    first = p.row("acme_a")
    assert first.commit == first.version == acme.head()
    assert first.user_id == "eve@example.org" and first.created_at == first.updated_at
    await acme.push({"a.py": says("two"), "README.md": "words"})
    await p.reconciler.settled()
    row = p.row("acme_a")
    assert row.commit == row.version == acme.head() != first.commit
    assert (row.created_at, row.updated_at) == (first.created_at, first.created_at + 60)
    assert p.row("acme_b").commit == first.commit, "another commit touched it last"
    assert p.registry.world.functions[ID].commit == row.commit
    rows = p.index.rows()
    for without_index in (False, True):
        await p.restart(without_index=without_index)
        assert p.index.rows() == rows


@pytest.mark.parametrize("options", [("--depth=1",), ("--filter=blob:none",)])
async def test_mirrors_without_all_objects_tell_what_they_can(p: Project, options: tuple[str, ...]) -> None:
    acme = Source(p)
    acme.git("config", "uploadpack.allowFilter", "true")
    acme.change({"a.py": says("zero"), "a.yaml": "name: Old\n"})
    acme.mirror.rename(acme.mirror.with_name("whole"))
    acme.commit(120, {"a.py": says("one"), "a.yaml": "name: New\n"})
    tree = acme.tree("HEAD", *options)
    # What would have to be fetched, cannot be.
    acme.folder.rename(acme.folder.with_name("away"))
    await p.reconciler.switch("acme", tree, None)
    await p.reconciler.settled()
    row = p.row("acme_a")
    assert row.commit == row.version == tree.commit
    is_shallow = "--depth=1" in options
    assert (row.updated_at - row.created_at == 0) is is_shallow, "where history begins, all is new"


async def test_a_switch_goes_on_without_who_asked_for_it(p: Project) -> None:
    acme = Source(p)
    tree = acme.change({"a.py": says("one")})
    asking = asyncio.create_task(p.reconciler.switch("acme", tree, None))
    await asyncio.sleep(0)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    await p.reconciler.settled()
    assert await p.ask("acme_a") == "one"


async def test_what_serves_stays_while_the_tree_is_missing(p: Project, tmp_path: Path) -> None:
    acme = Source(p)
    await acme.push({"a.py": says("one")})
    [tree] = p.trees
    tree.folder.rename(tmp_path / "away")
    await p.restart(without_index=True)
    row = p.row("acme_a")
    assert await p.ask("acme_a") == "one"
    assert row.status is Status.STALE and row.error is not None and row.error.code == "tree_missing"
    (tmp_path / "away").rename(tree.folder)
    await p.reconciler.switch("acme", tree, None)
    assert p.row("acme_a").status is Status.READY


async def test_many_functions_and_one_change(p: Project) -> None:
    acme = Source(p)
    # Broken ones take no worker: this is about the files, not about processes.
    await acme.push({f"f{n}.py": f"'''{n}'''\n" for n in range(200)})
    assert len(p.index.rows()) == 200
    report = await acme.push({"f7.py": says("seven")})
    assert report.changed == ("acme:f7.py",) and [id for id, _, _ in report.loaded] == ["acme_f7"]
    assert not report.failed
