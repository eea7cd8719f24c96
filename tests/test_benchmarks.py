"""The harness of `make bench` works; what it measures is not judged here."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import completions
from benchmarks.__main__ import MEASUREMENTS
from benchmarks.bench import Bench, Sizes
from benchmarks.load import Job, Load, LoadError, compare
from benchmarks.project import Project, edited
from benchmarks.report import Row, at_most, ratio_at_least, table, write
from benchmarks.servers import reference

TINY = Sizes(
    rounds=1,
    seconds=0.05,
    saves=1,
    functions=(1, 12),
    cold_starts=1,
    warm_starts=1,
    workers=2,
    reconciles=1,
    listed=(12,),
    lists=1,
    commits=30,
    edits=1,
    editors=2,
    edits_each=1,
    pushes=1,
    mirrored=20,
    mirrors=1,
)


def job(port: int, path: str, *, stream: bool = False) -> Job:
    request = completions.request(path, "echo", stream=stream).decode("latin-1")
    return Job(port, request, connections=2, seconds=0.05, stream=stream, warm_up_s=0.01)


def test_the_load_generator_counts_answers_and_streams_of_the_reference(tmp_path: Path) -> None:
    with reference(tmp_path) as bare, Load() as load:
        plain, stream = compare(load, job(bare.port, "/echo"), job(bare.port, "/stream", stream=True), rounds=2)
    for series in (plain, stream):
        assert len(series.results) == 2
        assert series.per_second > 0
        assert 0 < series.p50_ms <= series.p99_ms


def test_the_load_generator_refuses_to_measure_errors(tmp_path: Path) -> None:
    with reference(tmp_path) as bare, Load() as load, pytest.raises(LoadError, match="404"):
        load.run(job(bare.port, "/nothing"))


def test_a_generated_project_has_the_asked_number_of_functions_in_one_commit(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", 40, ("echo", "edited"))
    main_files = list(project.functions.rglob("main.py"))
    files = [path for path in project.functions.rglob("*.py") if path.name not in ("_shared.py", "main.py")]
    assert len(main_files) + len(files) == 40
    for path in [*files, *main_files]:
        compile(path.read_text(encoding="utf-8"), path, "exec")
    project.save("edited", edited(7))
    assert "7;" in (project.functions / "edited.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Measures on projects that are made, and started for the first time, once."""
    with Load() as load:
        yield Bench(tmp_path_factory.mktemp("bench"), load, TINY, print)


@pytest.mark.parametrize(
    "names",
    [("echo", "stream", "worker", "start"), ("list", "edit", "editors", "history"), ("save",), ("sync", "mirror")],
    ids=" ".join,
)
def test_each_measurement_gives_rows(bench: Bench, names: tuple[str, ...]) -> None:
    said: list[str] = []
    bench.say = said.append
    for name in names:
        said.clear()
        assert list(MEASUREMENTS[name](bench)), name
        assert said, name


def test_rows_become_a_table_and_json(tmp_path: Path) -> None:
    rows = [
        Row("fast enough", 80.0, "/s", 100.0, ratio_at_least(0.7), spread=0.05),
        Row("too slow", 40.0, "ms", None, at_most(30)),
    ]
    console = Console(width=120, record=True, quiet=True)
    console.print(table(rows))
    write(rows, tmp_path / "results.json", quick=True)
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [row["met"] for row in written["rows"]] == [True, False]
    assert written["rows"][0]["ratio"] == 0.8
    assert rows[0].met is True
    assert rows[1].met is False
