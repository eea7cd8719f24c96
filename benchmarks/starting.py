"""Cold and warm starts with many functions: time to ready, and to a function's first answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from benchmarks.bench import Bench
from benchmarks.completions import PATH, request
from benchmarks.connection import get
from benchmarks.processes import descendants
from benchmarks.project import Project
from benchmarks.report import Row, at_most
from benchmarks.servers import ASK_S, TOKEN, Running, ServerFailed, product

WARM_BUDGET = at_most(1.5)


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds since the process was started."""

    ready_s: float
    answer_s: float


def start(bench: Bench) -> Iterator[Row]:
    """Cold starts, which load everything, then warm ones, which must load nothing."""
    project = bench.project(bench.sizes.many)
    cold = []
    for number in range(bench.sizes.cold_starts):
        bench.say(f"cold start {number + 1} of {bench.sizes.cold_starts} with {project.count:,} functions")
        project.forget()
        cold.append(_start(project))
    yield from _rows("cold start", project, cold)
    warm = []
    for number in range(bench.sizes.warm_starts):
        bench.say(f"warm start {number + 1} of {bench.sizes.warm_starts} with {project.count:,} functions")
        warm.append(_start(project))
    yield from _rows("warm start", project, warm)
    yield _imports(project)


def _rows(name: str, project: Project, starts: list[Start]) -> Iterator[Row]:
    budget = WARM_BUDGET if name == "warm start" else None
    name = f"{name}, {project.count:,} functions"
    ready, answer = [one.ready_s for one in starts], [one.answer_s for one in starts]
    yield Row(f"{name}: ready", median(ready), "s", None, budget, None, {"starts_s": ready})
    yield Row(f"{name}: first answer", median(answer), "s", None, None, None, {"starts_s": answer})


def _start(project: Project) -> Start:
    """Start, and ask for both again and again; a function may answer before all are ready."""
    ready, call = get("/readyz", TOKEN), request(PATH, "echo")
    ready_s = answer_s = 0.0
    with product(project) as server, server.connect() as connection:
        while not (ready_s and answer_s):
            if not ready_s and connection.send(ready)[0] == 200:
                ready_s = time.perf_counter() - server.started_at
            if not answer_s and connection.send(call)[0] == 200:
                answer_s = time.perf_counter() - server.started_at
            server.check()
            time.sleep(ASK_S)
    return Start(ready_s, answer_s)


def _imports(project: Project) -> Row:
    """How many functions a warm start has loaded: those that have a worker once it is ready, with no call made."""
    with product(project) as server:
        server.wait_ready()
        loaded = len(descendants(server.pid, "fnsync-worker")) + _logged(server)
        status = server.status()
        count = len(status["functions"])
        bad = [entry["id"] for entry in status["functions"] if entry["status"] != "ready"]
        if count != project.count or bad:
            raise ServerFailed(f"{count} functions after a warm start; not ready: {bad[:10]}")
    return Row(f"warm start, {project.count:,} functions: functions imported", loaded, "", None, at_most(0))


def _logged(server: Running) -> int:
    return server.log().count('"event": "function_loaded"')
