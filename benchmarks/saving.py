"""From the save of a file to the first answer of the new revision, and what a save costs the server."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from statistics import median

from benchmarks.bench import Bench
from benchmarks.completions import PATH, request
from benchmarks.connection import Connection
from benchmarks.processes import cpu_s
from benchmarks.project import Project, edited
from benchmarks.report import Row, at_most, ratio_at_most
from benchmarks.servers import Running, ServerFailed

SAVE_BUDGET = at_most(30.0)
#: "In proportion to the change": what else there is may add this much.
RECONCILE_BUDGET = ratio_at_most(1.5)
#: Saves that are not counted, until everything that is loaded once is loaded.
WARM_UP = 3
#: Rest between saves, so that each finds an idle server; random, so that no timer of the server is in step.
REST_S = (0.2, 0.4)
#: Rest between the calls that look for the new answer: without it they take a whole processor from what they time.
POLL_S = 0.001
#: How long a new answer is waited for.
PATIENCE_S = 10.0
#: How long the work after a save goes on, at most (index, records), in seconds.
AFTER_S = 0.6


def save(bench: Bench) -> Iterator[Row]:
    """Milliseconds from the write to the first new answer."""
    first: float | None = None
    for count in bench.sizes.functions:
        project = bench.project(count, "edited")
        name = f"save → new answer, {count:,} function{'s' if count > 1 else ''}"
        with bench.serving(project) as server, Connection(server.port) as connection:
            took = []
            for number in range(1 - WARM_UP, bench.sizes.saves + 1):
                bench.say(f"{name}: save {max(number, 0)} of {bench.sizes.saves}")
                time.sleep(random.uniform(*REST_S))
                took.append(_save(project, connection) * 1000)
        ordered = sorted(took[WARM_UP:])
        detail: dict[str, object] = {"saves_ms": [round(value, 2) for value in took[WARM_UP:]]}
        middle = median(ordered)
        yield Row(f"{name}: median", middle, "ms", first, SAVE_BUDGET, None, detail)
        yield Row(f"{name}: p90", ordered[min(len(ordered) - 1, int(len(ordered) * 0.9))], "ms")
        first = first or middle


_versions = iter(range(1, 1_000_000))


def _save(project: Project, connection: Connection) -> float:
    """Seconds from just before the write until the answer of what was written."""
    version = next(_versions)
    source, call = edited(version), request(PATH, "edited")
    wanted = f'"version {version};"'.encode()
    began = time.perf_counter()
    project.save("edited", source)
    while True:
        status, body = connection.send(call)
        now = time.perf_counter()
        if status != 200:
            raise ServerFailed(f"a call failed while a file was saved: {status} {body[:1000]!r}")
        if wanted in body:
            return now - began
        if now - began > PATIENCE_S:
            raise ServerFailed(f"version {version} did not answer within {PATIENCE_S:g} s: {body[:1000]!r}")
        time.sleep(POLL_S)


def reconcile(bench: Bench) -> Iterator[Row]:
    """The server's own processor time for one save, among many functions and alone."""
    many, one = bench.project(bench.sizes.many), bench.project(1, "edited")
    with bench.serving(many) as large, bench.serving(one) as small:
        costs: dict[int, list[float]] = {many.count: [], 1: []}
        for number in range(WARM_UP + bench.sizes.reconciles):
            bench.say(f"processor time of a save: {number + 1} of {WARM_UP + bench.sizes.reconciles}")
            for project, server in ((many, large), (one, small)):
                costs[project.count].append(_cost(project, server) * 1000)
    value, other = (median(costs[count][WARM_UP:]) for count in (many.count, 1))
    detail: dict[str, object] = {str(count): [round(cost, 2) for cost in found] for count, found in costs.items()}
    name = f"server's processor time for one save, {many.count:,} functions against 1"
    yield Row(name, value, "ms", other, RECONCILE_BUDGET, None, detail)


def _cost(project: Project, server: Running) -> float:
    """Processor seconds that a save costs, less what the server takes in that time anyway."""
    before = cpu_s(server.pid)
    time.sleep(AFTER_S)
    began = cpu_s(server.pid)
    project.save("edited", edited(next(_versions)))
    time.sleep(AFTER_S)
    return (cpu_s(server.pid) - began) - (began - before)
