"""Edits over the Functions API, each a commit, against what git itself takes for such a commit."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from statistics import median

from benchmarks.bench import Bench
from benchmarks.completions import PATH, request
from benchmarks.connection import Connection, get, post
from benchmarks.project import Project, as_author, edited, git
from benchmarks.report import Row
from benchmarks.servers import TOKEN, Running, ServerFailed

#: Edits that are not counted, until everything that is loaded once is loaded.
WARM_UP = 3

_versions = count(1_000_000)


def one(bench: Bench) -> Iterator[Row]:
    """Milliseconds until an edit is answered for: loaded, written, committed and swapped in."""
    project = _project(bench)
    name = f"edit over the API, {_size(bench, project)}"
    ours: list[float] = []
    theirs: list[float] = []
    with _clone(bench, project) as beside, bench.serving(project) as server, Connection(server.port) as connection:
        before = _commits(project.root)
        for number in range(1 - WARM_UP, bench.sizes.edits + 1):
            bench.say(f"{name}: {max(number, 0)} of {bench.sizes.edits}")
            version = next(_versions)
            ours.append(_edit(connection, "edited", version))
            _expect(connection, version)
            theirs.append(_commit(beside, version))
        _expect_commits(project, before + len(ours))
    ours, theirs = ours[WARM_UP:], theirs[WARM_UP:]
    detail: dict[str, object] = {"edits_ms": _rounded(ours), "git_ms": _rounded(theirs)}
    yield Row(f"{name}, against git add and commit: median", median(ours), "ms", median(theirs), detail=detail)
    yield Row(f"{name}, against git add and commit: p90", _at(ours, 0.9), "ms", _at(theirs, 0.9))


def many(bench: Bench) -> Iterator[Row]:
    """Edits per second of several clients at once, each with a function of its own."""
    project = _project(bench)
    editors = project.pipes[: bench.sizes.editors]
    name = f"{len(editors)} editors at once, {_size(bench, project)}"
    with bench.serving(project) as server:
        before = _commits(project.root)
        bench.say(f"{name}: {bench.sizes.edits_each} edits of each")
        began = time.perf_counter()
        with ThreadPoolExecutor(len(editors)) as pool:
            jobs = [pool.submit(_editor, server, id, bench.sizes.edits_each) for id in editors]
            took = [milliseconds for job in jobs for milliseconds in job.result()]
        elapsed = time.perf_counter() - began
        _expect_commits(project, before + len(took))
    with _clone(bench, project) as beside:
        bench.say(f"{name}: the same commits with git alone")
        plain = [_commit(beside, next(_versions)) for _ in range(WARM_UP + bench.sizes.edits)][WARM_UP:]
    detail: dict[str, object] = {"edits_ms": _rounded(took), "git_ms": _rounded(plain)}
    title = f"{name}: edits, against git add and commit one by one"
    yield Row(title, len(took) / elapsed, "/s", 1000 / median(plain), detail=detail)
    yield Row(f"{name}: p50 of an edit", median(took), "ms")
    yield Row(f"{name}: p99 of an edit", _at(took, 0.99), "ms")


def history(bench: Bench) -> Iterator[Row]:
    """Milliseconds until a page of a function's versions is there, against git's own log of its file."""
    project = _project(bench)
    name = f"20 versions of a function, {_size(bench, project)}, against git log"
    ours, theirs = [], []
    call = get("/api/v1/functions/id/edited/history", TOKEN)
    with bench.serving(project) as server, Connection(server.port) as connection:
        for number in range(1 - WARM_UP, bench.sizes.edits + 1):
            bench.say(f"{name}: {max(number, 0)} of {bench.sizes.edits}")
            began = time.perf_counter()
            status, body = connection.send(call)
            ours.append((time.perf_counter() - began) * 1000)
            if status != 200:
                raise ServerFailed(f"the history was answered with {status}: {body[:1000]!r}")
            began = time.perf_counter()
            git(project.root, "log", "--format=%H", "--follow", "--", "functions/edited.py")
            theirs.append((time.perf_counter() - began) * 1000)
    detail: dict[str, object] = {"answers_ms": _rounded(ours), "git_ms": _rounded(theirs)}
    yield Row(f"{name}: p50", median(ours[WARM_UP:]), "ms", median(theirs[WARM_UP:]), detail=detail)


def _project(bench: Bench) -> Project:
    project = bench.project(bench.sizes.many)
    if _commits(project.root) <= bench.sizes.commits:
        bench.say(f"writing {bench.sizes.commits:,} commits")
        project.add_history(bench.sizes.commits)
    return project


def _size(bench: Bench, project: Project) -> str:
    return f"{project.count:,} functions, {bench.sizes.commits:,} commits"


@contextlib.contextmanager
def _clone(bench: Bench, project: Project) -> Iterator[Path]:
    """The repository once more, with nothing that looks at it."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        git(bench.folder, "clone", "--quiet", str(project.root), folder)
        as_author(Path(folder))
        yield Path(folder)


def _editor(server: Running, id: str, edits: int) -> list[float]:
    with Connection(server.port) as connection:
        return [_edit(connection, id, next(_versions)) for _ in range(edits)]


def _edit(connection: Connection, id: str, version: int) -> float:
    """Milliseconds until a new source is answered for."""
    body = {"id": id, "name": id, "content": edited(version), "meta": {}}
    call = post(f"/api/v1/functions/id/{id}/update", body, TOKEN)
    began = time.perf_counter()
    status, answer = connection.send(call)
    took = time.perf_counter() - began
    if status != 200:
        raise ServerFailed(f"an edit of {id} was answered with {status}: {answer[:1000]!r}")
    return took * 1000


def _commit(folder: Path, version: int) -> float:
    """Milliseconds until a new source is committed with git."""
    text = edited(version)
    began = time.perf_counter()
    (folder / "functions" / "edited.py").write_text(text, encoding="utf-8")
    git(folder, "add", "functions/edited.py")
    git(folder, "commit", "--quiet", "--message", "Update edited")
    return (time.perf_counter() - began) * 1000


def _expect(connection: Connection, version: int) -> None:
    """The very next call after an edit's answer has the new revision."""
    status, body = connection.send(request(PATH, "edited"))
    if status != 200 or f'"version {version};"'.encode() not in body:
        raise ServerFailed(f"after the edit to version {version} a call was answered with {status}: {body[:1000]!r}")


def _expect_commits(project: Project, wanted: int) -> None:
    if (found := _commits(project.root)) != wanted:
        raise ServerFailed(f"after edits that were all accepted there are {found} commits, not {wanted}")


def _commits(root: Path) -> int:
    return int(git(root, "rev-list", "--count", "HEAD"))


def _at(took: list[float], share: float) -> float:
    return sorted(took)[min(len(took) - 1, int(len(took) * share))]


def _rounded(took: list[float]) -> list[float]:
    return [round(milliseconds, 2) for milliseconds in took]
