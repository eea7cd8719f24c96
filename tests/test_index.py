"""The index: kept over restarts, rebuilt whenever it cannot be trusted, searched, written from any thread."""

import datetime
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnsync.errors import StoreError
from fnsync.model import (
    Access,
    CommitId,
    FileStamp,
    Frontmatter,
    FunctionId,
    FunctionRow,
    Handler,
    Import,
    Inspection,
    Kind,
    LimitOverrides,
    Part,
    Problem,
    Rate,
    Revision,
    Settings,
    Status,
    Unit,
    ValvesField,
)
from fnsync.store.index import Index


def make_unit(path: str = "translate.py", **given: Any) -> Unit:
    unit = Unit(
        id=FunctionId(Path(path).stem),
        path=path,
        revision=Revision("a" * 64),
        parts=(Part(path, f"function/{path}", "b" * 64), Part("_shared.py", "shared/_shared.py", "c" * 64)),
        settings=Settings(
            active=False,
            valves={"priority": 1, "key": {"env": "KEY"}},
            access=Access(users=("ada@example.org",)),
            limits=LimitOverrides(timeout_s=1.5, rate=Rate(60, 60.0)),
        ),
        frontmatter=Frontmatter("yaml", {"title": "Tränslate", "tags": ["a", "b"]}, ("requests>=2",), ">=3.11"),
        inspection=Inspection(
            Kind.PIPE,
            3,
            ("Pipe",),
            (Handler("pipe", 5, True, False, ("body", "__user__"), True),),
            (ValvesField("key", "str", 4, True, "x", secret=True),),
            None,
            (Import("os", 1, "standard"), Import("deepl", 2, "third_party", guarded=True)),
        ),
        problem=Problem("syntax", "expected ':'", path, 3, 1, "class Pipe", traceback=("a", "b")),
        stamps={path: FileStamp(10, 2**62, 1, 2), "translate.yaml": None},
    )
    return replace(unit, **given)


def make_row(id: str = "translate", **given: Any) -> FunctionRow:
    row = FunctionRow(
        id=FunctionId(id),
        user_id="ada@example.org",
        name=id.title(),
        type=Kind.PIPE,
        content="class Pipe:\n    pass\n",
        meta={"description": "Speaks other languages", "manifest": {"title": "Translate"}},
        valves={"priority": 1},
        is_active=True,
        is_global=False,
        created_at=1_700_000_000,
        updated_at=1_700_000_001,
        path=f"{id}.py",
        revision=Revision("a" * 64),
        live_revision=None,
        status=Status.READY,
        error=None,
        source="local",
        commit=CommitId("d" * 40),
        version=CommitId("e" * 40),
    )
    return replace(row, **given)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "index.sqlite3"


@pytest.fixture
def index(path: Path) -> Iterator[Index]:
    index = Index.open(path)
    yield index
    index.close()


def reopened(index: Index) -> Index:
    index.close()
    return Index.open(index.path)


def test_what_was_written_is_there_after_a_restart(index: Index) -> None:
    unit, problem = make_unit(), Problem("load", "no module named deepl", "translate.py", 2)
    row = make_row(error=problem, status=Status.FAILED, type=None, rivals=("b/translate.py",), revision=None)
    assert index.fresh
    index.apply(units=[unit], rows=[row, make_row("alpha")], notes={"head": "d" * 40})
    again = reopened(index)
    assert not again.fresh and again.reason is None
    assert again.units() == [unit]
    assert again.rows() == [make_row("alpha"), row]
    assert again.row(FunctionId("translate")) == row
    assert again.row(FunctionId("nobody")) is None
    assert (again.note("head"), again.note("other")) == ("d" * 40, None)
    again.close()


def test_a_changed_row_replaces_the_old_one_and_a_gone_one_is_not_found(index: Index) -> None:
    index.apply(units=[make_unit()], rows=[make_row(content="# elderberry")])
    index.apply(rows=[make_row(content="# fig")])
    assert [row.content for row in index.rows()] == ["# fig"]
    assert not index.search("elderberry") and len(index.search("fig")) == 1
    index.apply(gone=[FunctionId("translate")], gone_units=["translate.py"])
    assert not index.rows() and not index.units() and not index.search("fig")


def test_a_renamed_function_goes_and_comes_in_one_transaction(index: Index) -> None:
    index.apply(units=[make_unit("a.py")], rows=[make_row("a")])
    index.apply(units=[make_unit("b.py")], gone_units=["a.py"], rows=[make_row("b")], gone=[FunctionId("a")])
    assert [unit.path for unit in index.units()] == ["b.py"]
    assert [row.id for row in index.rows()] == ["b"]


def test_rows_can_be_asked_for_by_activity_and_kind(index: Index) -> None:
    index.apply(rows=[make_row("a"), make_row("b", is_active=False), make_row("c", type=Kind.FILTER)])
    assert [row.id for row in index.rows(active=True)] == ["a", "c"]
    assert [row.id for row in index.rows(active=False)] == ["b"]
    assert [row.id for row in index.rows(active=True, kind=Kind.FILTER)] == ["c"]


def test_search_puts_names_before_descriptions_before_sources(index: Index) -> None:
    index.apply(
        rows=[
            make_row("in_source", content="# weather " * 5),
            make_row("in_description", meta={"description": "Tells the weather"}),
            make_row("in_name", name="Weather"),
            make_row("elsewhere"),
        ]
    )
    assert [row.id for row in index.search("weather")] == ["in_name", "in_description", "in_source"]
    assert [row.id for row in index.search("weather", sources=False)] == ["in_name", "in_description"]


def test_search_finds_the_beginning_of_the_last_word_and_all_of_the_others(index: Index) -> None:
    index.apply(rows=[make_row("a", name="Weather in Zürich"), make_row("b", name="Weather")])
    assert [row.id for row in index.search("weather zuri")] == ["a"]
    assert index.search("weat zuri") == []


@settings(deadline=None, max_examples=200)
@given(text=st.text(st.characters(), max_size=30))
def test_no_search_text_raises(text: str, search_index: Index) -> None:
    assert isinstance(search_index.search(text), list)


@pytest.fixture(scope="module")
def search_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    index = Index.open(tmp_path_factory.mktemp("search") / "index.sqlite3")
    index.apply(rows=[make_row()])
    yield index
    index.close()


@pytest.mark.parametrize("text", ['"', 'a"b', "*", "NOT", "a AND", "name:x", "^a", "(", "a\0b", "-", "", "NEAR(a b)"])
def test_query_syntax_is_only_text(text: str, search_index: Index) -> None:
    assert search_index.search(text) is not None


@pytest.mark.parametrize(
    "value",
    [{"day": datetime.date(2024, 1, 1)}, {"half": "\ud800"}, {"big": 2**70}, {1: {2.5}}, {"nan": float("nan")}],
)
def test_values_that_only_yaml_knows_do_not_stop_the_index(index: Index, value: dict[Any, Any]) -> None:
    index.apply(
        units=[make_unit(frontmatter=Frontmatter("yaml", value))],
        rows=[make_row(meta={"manifest": value}, valves=value, name="half \ud800")],
    )
    assert [row.id for row in index.rows()] == ["translate"]
    assert index.units() in ([], [make_unit(frontmatter=Frontmatter("yaml", value))]), "a unit came back changed"


def test_a_missing_index_begins_empty_whatever_lies_beside_it(index: Index, path: Path) -> None:
    index.apply(rows=[make_row()])
    journal = path.with_name(path.name + "-wal").read_bytes()
    index.close()
    path.unlink()
    path.with_name(path.name + "-wal").write_bytes(journal)
    path.with_name(path.name + "-shm").write_bytes(b"left over")
    again = Index.open(path)
    assert again.fresh and again.reason == "there was no index" and not again.rows()
    again.close()


def damage_everything(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)


def damage_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for start in range(4096 * 2, len(data), 4096):
        data[start : start + 512] = os.urandom(512)
    path.write_bytes(data)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 4096 * 3])


@pytest.mark.parametrize("damage", [damage_everything, damage_the_middle, cut_off])
def test_a_corrupt_index_is_moved_away_and_begun_anew(index: Index, path: Path, damage: Any) -> None:
    index.apply(units=[make_unit(f"{n}.py") for n in range(50)], rows=[make_row(f"f{n}") for n in range(50)])
    index.close()
    damage(path)
    again = Index.open(path)
    assert again.fresh and again.reason is not None and "corrupt" in again.reason
    assert path.with_name("index.sqlite3.corrupt").exists()
    again.apply(rows=[make_row()])
    assert len(again.rows()) == 1
    again.close()


@pytest.mark.parametrize(
    "change",
    [
        "PRAGMA user_version = 99",
        "UPDATE note SET value = 'x' WHERE key = 'schema'",
        "DELETE FROM note WHERE key = 'schema'",
        "DROP TABLE note",
    ],
)
def test_another_schema_is_rebuilt_and_the_reason_said(index: Index, path: Path, change: str) -> None:
    index.apply(rows=[make_row()])
    index.close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(change)
    connection.close()
    again = Index.open(path)
    assert again.fresh and again.reason is not None and "schema" in again.reason and not again.rows()
    again.close()


def test_damage_that_is_met_in_use_says_that_a_restart_helps(index: Index, path: Path) -> None:
    index.apply(rows=[make_row(f"f{n}", content="x" * 3000) for n in range(50)])
    again = reopened(index)
    damage_the_middle(path)
    with pytest.raises(StoreError) as caught:
        again.rows()
        again.search("pipe")
        again.apply(rows=[make_row(f"f{n}", content="y" * 3000) for n in range(50)])
    assert caught.value.hint is not None and "restart" in caught.value.hint
    again.close()


def test_a_folder_that_cannot_be_used_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite3").mkdir()
    with pytest.raises(StoreError) as caught:
        Index.open(tmp_path / "index.sqlite3")
    assert caught.value.hint is not None


def test_many_threads_write_and_read_at_once(index: Index) -> None:
    def work(number: int) -> None:
        for turn in range(20):
            index.apply(rows=[make_row(f"f{number}", updated_at=turn)])
            row = index.row(FunctionId(f"f{number}"))
            assert row is not None and row.updated_at == turn

    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(index.rows()) == 8


def test_a_failed_change_leaves_nothing_behind_and_the_next_one_works(index: Index) -> None:
    index.apply(rows=[make_row()])
    with pytest.raises(StoreError):
        index.apply(rows=[make_row("b"), make_row("c", path=None)])
    assert [row.id for row in index.rows()] == ["translate"]
    index.apply(rows=[make_row("b")])
    assert len(index.rows()) == 2


def test_only_the_owner_can_read_it(index: Index, path: Path) -> None:
    index.apply(rows=[make_row()])
    assert {file.stat().st_mode & 0o077 for file in path.parent.iterdir()} == {0}


def test_closing_leaves_no_thread_and_no_descriptor(path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before, threads = descriptors(), threading.active_count()
    for _ in range(5):
        index = Index.open(path)
        index.apply(rows=[make_row()])
        readers = [threading.Thread(target=index.rows) for _ in range(8)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        index.close()
        index.close()
    assert (descriptors(), threading.active_count()) == (before, threads)
    with pytest.raises(StoreError, match="closed"):
        index.rows()
    with pytest.raises(StoreError, match="closed"):
        index.apply()


def test_a_peek_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite3"
    assert Index.peek(path) == []
    assert list(tmp_path.iterdir()) == []

    index = Index.open(path)
    index.apply(rows=[make_row("one"), make_row("two")])
    assert Index.peek(path) == index.rows(), "also beside a server"
    index.close()
    assert [row.id for row in Index.peek(path)] == ["one", "two"]

    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    before = path.read_bytes()
    assert Index.peek(path) == [], "of another version"
    assert path.read_bytes() == before
