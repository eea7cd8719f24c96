"""Files -> registry and index, with real workers and real snapshots; the watcher's part is played by the tests."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fnsync import indexing
from fnsync.errors import StoreError
from fnsync.git.worktree import WorkTree
from fnsync.model import FunctionId, FunctionRow, Status, User
from fnsync.runtime.call import Invocation
from fnsync.store.index import Index
from tests.reconciling import BODY, Project, says, with_project


def test_an_edit_answers_with_the_new_code_and_a_broken_one_leaves_the_old() -> None:
    async def story(p: Project) -> None:
        await p.save("a.py", says("one"))
        assert await p.ask("a") == "one"
        await p.save("a.py", says("two"))
        assert await p.ask("a") == "two"
        await p.save("a.py", "class Pipe:\n    def pipe(self body):\n        return 3\n")
        assert await p.ask("a") == "two"
        row = p.row("a")
        assert row.status is Status.STALE and row.error is not None
        assert (row.error.path, row.error.line) == ("a.py", 2)
        assert row.live_revision != row.revision
        await p.save("a.py", says("four"))
        assert await p.ask("a") == "four"
        assert p.row("a").status is Status.READY and p.row("a").error is None

    with_project(story)


def test_an_error_while_loading_names_its_line() -> None:
    async def story(p: Project) -> None:
        await p.save("a.py", "x = 1\nraise ValueError('no luck')\n" + says("never"))
        row = p.row("a")
        assert row.status is Status.FAILED and row.error is not None
        assert (row.error.line, row.error.text) == (2, "raise ValueError('no luck')")
        assert "no luck" in row.error.message
        assert "a" not in p.registry.world.functions

    with_project(story)


def test_a_broken_tree_at_the_start_serves_what_worked_before() -> None:
    async def story(p: Project) -> None:
        await p.save("a.py", says("good"))
        p.write("a.py", "def broken(:\n")
        await p.restart()
        assert await p.ask("a") == "good"
        assert p.row("a").status is Status.STALE
        await p.restart(without_index=True)
        assert await p.ask("a") == "good"
        assert p.row("a").status is Status.STALE

    with_project(story)


def test_a_start_with_unchanged_files_imports_nothing() -> None:
    async def story(p: Project) -> None:
        trace = p.data / "imports"
        for n in range(5):
            p.write(f"f{n}.py", f"open({str(trace)!r}, 'a').write('{n}')\n" + says(str(n)))
        p.write("broken.py", f"open({str(trace)!r}, 'a').write('x')\nraise RuntimeError('always')\n" + says("x"))
        await p.take()
        assert sorted(trace.read_text()) == list("01234x")
        before = p.index.rows()
        await p.restart()
        assert sorted(trace.read_text()) == list("01234x"), "a start with unchanged files ran function code"
        assert p.index.rows() == before
        assert p.row("broken").status is Status.FAILED
        assert await p.ask("f3") == "3"

    with_project(story)


def test_settings_apply_without_loading_code_again() -> None:
    async def story(p: Project) -> None:
        source = (
            "from pydantic import BaseModel\nimport os\nclass Pipe:\n"
            "    class Valves(BaseModel):\n        word: str = 'a'\n"
            "    def __init__(self):\n        self.valves = self.Valves()\n"
            "    def pipe(self, body):\n        return f'{self.valves.word} {os.getpid()}'\n"
        )
        await p.save("a.py", source)
        word, pid = (await p.ask("a")).split()
        assert word == "a"
        await p.save("a.yaml", "valves: {word: b}\nlimits: {timeout: 3s, concurrency: 64}\n")
        assert await p.ask("a") == f"b {pid}", "changed valves must reach the running worker"
        assert p.registry.world.functions[FunctionId("a")].limits.timeout_s == 3
        await p.save("a.yaml", "active: false\nvalves: {word: b}\n")
        assert p.row("a").status is Status.INACTIVE and not p.row("a").is_active
        await p.save("a.yaml", "valves: {word: {env: GIVEN}}\n")
        assert await p.ask("a") == f"from outside {pid}"
        await p.save("a.yaml", "valves: {word: [1, 2]}\n")
        row = p.row("a")
        assert row.status is Status.STALE and row.error is not None
        assert "word" in row.error.message and row.error.path == "a.yaml"
        assert await p.ask("a") == f"from outside {pid}", "values that do not fit must leave the old ones"
        await p.save("a.yaml", "valves: {word: {env: MISSING}}\n")
        assert "MISSING" in str(p.row("a").error)
        await p.save("a.yaml", "valves: {word: c}\n")
        assert await p.ask("a") == f"c {pid}"
        assert [report.loaded for report in p.reports if report.loaded][1:] == []

    with_project(story)


def test_new_code_that_no_longer_takes_the_stored_valves_leaves_the_old_serving() -> None:
    async def story(p: Project) -> None:
        source = (
            "from pydantic import BaseModel\nclass Pipe:\n    class Valves(BaseModel):\n        n: {0} = {1}\n"
            "    def __init__(self):\n        self.valves = self.Valves()\n"
            "    def pipe(self, body):\n        return str(self.valves.n)\n"
        )
        p.write("a.yaml", "valves: {n: ten}\n")
        await p.save("a.py", source.format("str", "'x'"))
        assert await p.ask("a") == "ten"
        await p.save("a.py", source.format("int", "1"))
        assert await p.ask("a") == "ten"
        assert p.row("a").status is Status.STALE
        assert "n" in str(p.row("a").error)

    with_project(story)


def test_two_files_with_one_id() -> None:
    async def story(p: Project) -> None:
        await p.save("b/a.py", says("first there"))
        await p.save("a.py", says("came later"))
        assert await p.ask("a") == "first there"
        assert p.row("a").rivals == ("a.py",)
        failed = dict(p.reports[-1].failed)
        assert "b/a.py" in failed[FunctionId("a")].message and "a.py" in failed[FunctionId("a")].message
        await p.restart()
        assert await p.ask("a") == "first there"
        (p.root / "b/a.py").unlink()
        await p.take("b/a.py")
        assert await p.ask("a") == "came later"
        assert p.row("a").rivals == ()

    with_project(story)


def test_renames_and_deletes() -> None:
    async def story(p: Project) -> None:
        await p.save("a.py", says("x"))
        os.rename(p.root / "a.py", p.root / "c.py")
        await p.take("a.py", "c.py")
        assert "a" not in p.registry.world.functions and p.index.row(FunctionId("a")) is None
        assert await p.ask("c") == "x"
        (p.root / "team").mkdir()
        os.rename(p.root / "c.py", p.root / "team/c.py")
        await p.take("c.py", "team")
        assert p.row("c").path == "team/c.py"
        assert await p.ask("c") == "x"
        shutil.rmtree(p.root / "team")
        await p.take("team")
        assert p.registry.world.functions == {} and p.index.rows() == []
        assert p.snapshots.goods() == {}

    with_project(story)


def test_a_changed_shared_module_reloads_those_that_import_it() -> None:
    async def story(p: Project) -> None:
        p.write("_words.py", "WORD = 'one'\n")
        p.write("a.py", "from _words import WORD\nclass Pipe:\n    def pipe(self, body):\n        return WORD\n")
        p.write("b.py", says("b"))
        await p.take()
        assert await p.ask("a") == "one"
        await p.save("_words.py", "WORD = 'two'\n")
        assert await p.ask("a") == "two"
        assert [id for id, _, _ in p.reports[-1].loaded] == ["a"]

    with_project(story)


def test_calls_in_flight_end_on_the_revision_they_began_on() -> None:
    async def story(p: Project) -> None:
        slow = (
            "import asyncio\nclass Pipe:\n    async def pipe(self, body):\n"
            "        await asyncio.sleep(0.3)\n        return {0!r}\n"
        )
        await p.save("a.py", slow.format("old"))
        function = p.registry.world.functions[FunctionId("a")]
        async with p.executor.call(function, Invocation("pipe", BODY)) as call:
            await p.save("a.py", says("new"))
            assert await p.ask("a") == "new"
            assert (await call.first()).data == b"old"  # type: ignore[union-attr]

    with_project(story)


def test_reloads_under_load_fail_no_call() -> None:
    async def story(p: Project) -> None:
        await p.save("a.py", says("0"))
        done, answers = asyncio.Event(), 0

        async def caller() -> None:
            nonlocal answers
            while not done.is_set():
                assert (await p.ask("a")).isdigit()
                answers += 1

        callers = [asyncio.create_task(caller()) for _ in range(4)]
        for n in range(1, 21):
            await p.save("a.py", says(str(n)))
            assert await p.ask("a") == str(n)
        done.set()
        await asyncio.gather(*callers)
        assert answers > 20

    with_project(story)


def test_a_denied_import_is_named_with_its_line() -> None:
    async def story(p: Project) -> None:
        await p.save("a.py", "import json\nimport ctypes\n" + says("x"))
        error = p.row("a").error
        assert error is not None and error.line == 2 and "ctypes" in error.message

    with_project(story)


def test_requirements_that_cannot_be_had_fail_their_function_alone() -> None:
    async def story(p: Project) -> None:
        p.write("b.py", says("b"))
        await p.save("a.py", '"""\nrequirements: no-such-package-anywhere\n"""\n' + says("x"))
        await p.take()
        assert p.row("a").status is Status.FAILED
        assert "no-such-package-anywhere" in str(p.row("a").error)
        assert await p.ask("b") == "b"

    with_project(story)


def test_a_thousand_functions_and_one_change() -> None:
    async def story(p: Project) -> None:
        # Broken ones take no worker: this is about the files, not about processes.
        for n in range(1000):
            p.write(f"f{n}.py", f"'''{n}'''\n")
        await p.take()
        assert len(p.index.rows()) == 1000
        await p.save("f7.py", says("seven"))
        assert await p.ask("f7") == "seven"
        assert [id for id, _, _ in p.reports[-1].loaded] == ["f7"] and not p.reports[-1].failed

    with_project(story)


# ---- the index equals one built from nothing -------------------------------------------------------------

NAMES = ("a.py", "b.py", "team/a.py", "team/c.py", "d/main.py", "d/helper.py", "_shared.py")
TEXTS = (
    says("one"),
    says("two"),
    "from _shared import X\n" + says("shared"),
    "def broken(:\n",
    "raise ValueError('while loading')\n" + says("x"),
    "class Filter:\n    def inlet(self, body):\n        return body\n",
    "X = 1\n",
    '"""\ntitle: Title\ndescription: words\n"""\n' + says("titled"),
)
SETTINGS = ("active: false\n", "global: true\n", "valves: {x: 1}\n", "unknown: 1\n", "limits: {timeout: 2s}\n")
operations = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES), st.sampled_from(TEXTS)),
    st.tuples(
        st.just("settings"), st.sampled_from(("a.yaml", "team/a.yaml", "d/main.yaml")), st.sampled_from(SETTINGS)
    ),
    st.tuples(st.just("delete"), st.sampled_from((*NAMES, "team", "d", "a.yaml")), st.just("")),
    st.tuples(
        st.just("rename"), st.sampled_from((*NAMES, "team")), st.sampled_from(("a.py", "e.py", "crew", "team/f.py"))
    ),
)


def perform(root: Path, operation: tuple[str, str, str]) -> set[str]:
    """Do it, as far as it can be done; returns the paths a watcher would report."""
    kind, name, detail = operation
    path = root / name
    if kind in ("write", "settings"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(detail)
        return {name}
    if not path.exists():
        return set()
    if kind == "delete":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return {name}
    target = root / detail
    if target.exists() or path.is_dir() != ("." not in detail):
        return set()
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    return {name, detail}


def comparable(rows: list[FunctionRow]) -> list[dict[str, Any]]:
    """The rows but for their times: a file that git does not know, saved again as it was, keeps the time it had."""
    return [dataclasses.asdict(row) | {"created_at": 0, "updated_at": 0} for row in rows]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(operations, min_size=1, max_size=3), min_size=1, max_size=8))
def test_the_index_equals_one_built_from_nothing(batches: list[list[tuple[str, str, str]]]) -> None:
    async def story(p: Project) -> None:
        for batch in batches:
            paths: set[str] = set()
            for operation in batch:
                paths |= perform(p.root, operation)
            if paths:
                await p.take(*paths)
        kept = comparable(p.index.rows())
        await p.restart(without_index=True)
        assert comparable(p.index.rows()) == kept

    with_project(story)


def test_git_columns_follow_the_commits() -> None:
    async def story(p: Project) -> None:
        def git(*arguments: str) -> str:
            ada = {"NAME": "Ada", "EMAIL": "ada@example.org"}
            identity = {f"GIT_{who}_{key}": value for who in ("AUTHOR", "COMMITTER") for key, value in ada.items()}
            done = subprocess.run(
                ["git", *arguments],
                cwd=p.root,
                env={**os.environ, **identity},
                check=True,
                capture_output=True,
                text=True,
            )
            return done.stdout.strip()

        await p.save("a.py", says("one"))
        assert p.row("a").commit is None and abs(p.row("a").updated_at - time.time()) < 60
        git("init", "-q")
        git("add", "-A")
        git("commit", "-qm", "first")
        p.worktree = WorkTree.ensure(p.root)
        await p.restart()
        row = await p.row_when("a", lambda row: row.commit is not None)
        assert row.version == row.commit == git("rev-parse", "HEAD") and row.user_id == "ada@example.org"
        first = row.created_at
        await p.save("a.py", says("two"))
        git("commit", "-qam", "second")
        row = await p.row_when("a", lambda row: row.commit == git("rev-parse", "HEAD"))
        assert row.created_at == first
        assert p.registry.world.functions[FunctionId("a")].commit == row.version == row.commit
        await p.save("a.yaml", "limits: {timeout: 3s}\n")
        git("add", "-A")
        git("commit", "-qm", "third")
        row = await p.row_when("a", lambda row: row.commit == git("rev-parse", "HEAD"))
        assert row.version == git("rev-parse", "HEAD~1"), "a limit is no part of what the function is"
        await p.restart()
        assert p.row("a") == row, "what the index remembers"
        await p.restart(without_index=True)
        assert (await p.row_when("a", lambda row: row.commit is not None)) == row
        p.write("a.py", says("three"))
        git("commit", "-qam", "fourth")
        await p.take("a.py")
        assert p.row("a").commit == git("rev-parse", "HEAD"), "what changed the files tells at once where from"

    with_project(story)


def test_a_broken_function_can_be_switched_off() -> None:
    async def story(p: Project) -> None:
        await p.save("a.py", says("good"))
        await p.save("a.py", "def broken(:\n")
        await p.save("a.yaml", "active: false\nlimits: {timeout: 3s}\n")
        live = p.registry.world.functions[FunctionId("a")]
        assert not live.active, "it goes on answering although its settings switch it off"
        assert live.limits.timeout_s == 3
        assert p.row("a").status is Status.STALE
        await p.restart()
        assert not p.registry.world.functions[FunctionId("a")].active
        await p.save("a.yaml", "active: true\nvalves: {n: abc}\n")
        assert p.registry.world.functions[FunctionId("a")].active

    with_project(story)


@pytest.mark.parametrize("source", ["def broken(:\n", "x = 1\n", "x\0y", says("x")])
def test_broken_settings_open_nothing(source: str) -> None:
    """Settings that cannot be read must not count as the defaults, whatever else is wrong with the function."""

    async def story(p: Project) -> None:
        p.write("a.yaml", "active: false\naccess: {roles: [admin]}\n")
        await p.save("a.py", says("x"))
        before = p.registry.world.functions[FunctionId("a")]
        p.write("a.yaml", "active: [\n")
        p.write("a.py", source)
        await p.take("a.py", "a.yaml")
        for _ in range(2):
            live = p.registry.world.functions[FunctionId("a")]
            assert (live.active, live.settings.access) == (False, before.settings.access)
            await p.restart()

    with_project(story)


def test_valves_that_do_not_fit_do_not_keep_it_on() -> None:
    async def story(p: Project) -> None:
        source = "from pydantic import BaseModel\nclass Pipe:\n    class Valves(BaseModel):\n        n: int = 1\n"
        await p.save(
            "a.py",
            source
            + "    def __init__(self):\n        self.valves = self.Valves()\n"
            + "    def pipe(self, body):\n        return 'x'\n",
        )
        await p.save("a.yaml", "active: false\nvalves: {n: abc}\n")
        assert not p.registry.world.functions[FunctionId("a")].active
        assert "n" in str(p.row("a").error)

    with_project(story)


SLOW_VALVES = """
import time
from pydantic import BaseModel
time.sleep(0.5)
class Pipe:
    class Valves(BaseModel):
        n: int = 1
    def __init__(self):
        self.valves = self.Valves()
    def pipe(self, body):
        return str(self.valves.n)
"""


def test_values_that_change_while_a_worker_starts_reach_it() -> None:
    async def story(p: Project) -> None:
        await p.save("a.py", SLOW_VALVES)
        for entry in list(p.executor.processes.workers.values()):
            entry.worker.kill("idle")
            await entry.worker.ended()
        asking = asyncio.create_task(p.ask("a"))
        await asyncio.sleep(0.1)  # its worker is being imported
        await p.save("a.yaml", "valves: {n: 2}\n")
        await asking
        assert [await p.ask("a") for _ in range(3)] == ["2"] * 3

    with_project(story)


def test_slow_imports_hold_up_no_other_function() -> None:
    async def story(p: Project) -> None:
        for n in range(6):
            p.write(f"slow{n}.py", "import time\ntime.sleep(20)\n" + says("slow"))
        await p.reconciler.reconcile(None)
        p.write("d.py", says("quick"))
        await p.reconciler.reconcile(["d.py"])
        async with asyncio.timeout(10):
            while "d" not in p.registry.world.functions:
                await asyncio.sleep(0.01)
        assert await p.ask("d") == "quick"

    with_project(story)


def test_a_cleared_data_folder_is_filled_again() -> None:
    async def story(p: Project) -> None:
        await p.save("a.py", says("x"))
        shutil.rmtree(p.data / "snapshots")
        await p.take()
        for entry in list(p.executor.processes.workers.values()):
            entry.worker.kill("idle")
            await entry.worker.ended()
        assert await p.ask("a") == "x"

    with_project(story)


def test_a_failed_index_write_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "RETRY_S", 0.05)

    async def story(p: Project) -> None:
        whole = Index.apply
        failures = iter((StoreError("the disk is full"), StoreError("the disk is full")))

        def apply(index: Index, **what: Any) -> None:
            for failure in failures:
                raise failure
            whole(index, **what)

        monkeypatch.setattr(Index, "apply", apply)
        await p.save("a.py", says("x"))
        assert p.row("a").status is Status.READY

    with_project(story)


def test_a_record_that_cannot_be_written_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    async def story(p: Project) -> None:
        await p.save("b.py", says("b"))
        shutil.rmtree(p.data / "live")
        (p.data / "live").write_text("in the way")
        await p.save("a.py", says("x"))
        assert await p.ask("a") == "x"

    with_project(story)
    assert "good_revision_not_recorded" in capsys.readouterr().out


def test_a_new_edit_starts_its_own_retries() -> None:
    async def story(p: Project) -> None:
        await p.save("a.py", "raise RuntimeError('one')\n" + says("x"))
        waits = p.reconciler._loading.retries._waits
        waits[FunctionId("a")] = (6, waits[FunctionId("a")][1])
        await p.save("a.py", "raise RuntimeError('two')\n" + says("x"))
        assert p.reconciler._loading.retries.tries(FunctionId("a")) == 1

    with_project(story)


# ---- who is told of what changes -------------------------------------------------------------------------


def test_each_change_is_told_once_when_it_is_complete() -> None:
    async def story(project: Project) -> None:
        assert project.heard.take() == [("", "restored"), ("", "ready")]
        await project.save("f.py", says("one"))
        assert project.heard.take() == [("f", "created")]
        # Code, what concerns no code, and the name go live in steps.
        project.write("f.yaml", "active: false\nname: Other\nglobal: true\n")
        project.write("f.py", says("two"))
        await project.take("f.py", "f.yaml")
        assert project.heard.take() == [("f", "changed")]
        await project.take("f.py", "f.yaml")
        await project.save("notes.txt", "nothing")
        assert project.heard.take() == []

        await project.save("f.py", "class Pipe:")
        assert project.heard.take() == [], "what serves is what it was"
        await project.save("f.yaml", "active: true\n")
        assert project.heard.take() == [("f", "changed")], "settings hold whatever the source is like"
        await project.save("broken.py", "class Pipe:")
        (project.root / "broken.py").unlink()
        await project.take("broken.py")
        assert project.heard.take() == [], "it was never live"
        (project.root / "f.py").unlink()
        await project.take("f.py")
        assert project.heard.take() == [("f", "gone")]

    with_project(story)


def test_a_start_tells_what_changed_meanwhile_but_nothing_where_all_is_new() -> None:
    async def story(project: Project) -> None:
        for name in ("same", "changed", "gone"):
            await project.save(f"{name}.py", says("one"))
        project.heard.take()
        project.write("changed.py", says("two"))
        project.write("new.py", says("one"))
        (project.root / "gone.py").unlink()
        await project.restart()
        first, *told, last = project.heard.take()
        assert (first, last) == (("", "restored"), ("", "ready"))
        assert sorted(told) == [("changed", "changed"), ("gone", "gone"), ("new", "created")]

        await project.restart(without_index=True)
        assert project.heard.take() == [("", "restored"), ("", "ready")]
        for record in (project.data / "live").iterdir():
            record.unlink()
        await project.restart(without_index=True)
        assert project.heard.take() == [("", "restored"), ("", "ready")], "a first start finds nothing new"
        await project.save("new.py", says("two"))
        assert project.heard.take() == [("new", "changed")]

    with_project(story)


def test_what_is_done_for_somebody_is_told_to_be_theirs() -> None:
    async def story(project: Project) -> None:
        ada = User("7", "Ada", "ada@example.org", "admin")
        with project.reconciler.acting([FunctionId("f")], ada):
            await project.save("f.py", says("one"))
            await project.save("other.py", says("one"))
        await project.save("f.py", says("two"))
        assert project.heard.actors == ["Ada", None, None]

    with_project(story)
