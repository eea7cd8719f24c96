"""Memory of workers and of the server."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.bench import Bench
from benchmarks.completions import PATH, request
from benchmarks.connection import Connection
from benchmarks.processes import MB, Memory, descendants, memory
from benchmarks.project import Project
from benchmarks.report import Row, at_most
from benchmarks.servers import ServerFailed

WORKER_BUDGET = at_most(6.0)
#: Calls to each worker before it is measured.
CALLS = 5


def worker_memory(bench: Bench) -> Iterator[Row]:
    """Workers of different functions, each called some times."""
    project = bench.project(bench.sizes.many)
    ids = project.pipes[: bench.sizes.workers]
    with bench.serving(project) as server:
        bench.say(f"measuring {len(ids)} workers")
        with Connection(server.port) as connection:
            for id in ids * CALLS:
                _call(connection, id)
        pids = descendants(server.pid, "fnsync-worker")
        if len(pids) != len(ids):
            raise ServerFailed(f"{len(pids)} workers for {len(ids)} functions")
        found = [memory(pid) for pid in pids]
    name = f"warm worker, median of {len(found)}"
    # PSS is the budget's measure; what is private is what would be free if the worker ended.
    yield Row(f"{name}: PSS", _middle(found, "pss"), "MB", None, WORKER_BUDGET, None, {"pss": [m.pss for m in found]})
    yield Row(f"{name}: private (USS)", _middle(found, "private"), "MB")
    yield Row(f"{name}: RSS, shared pages too", _middle(found, "rss"), "MB")


def server_memory(bench: Bench) -> Iterator[Row]:
    """The server's own process with many functions, and with one."""
    many, one = bench.project(bench.sizes.many), bench.project(1, "echo")
    large, small = _server(bench, many), _server(bench, one)
    name = f"server, {many.count:,} functions against 1"
    yield Row(f"{name}: PSS", large.pss / MB, "MB", small.pss / MB)
    yield Row(f"{name}: RSS", large.rss / MB, "MB", small.rss / MB)


def _server(bench: Bench, project: Project) -> Memory:
    """After some calls."""
    with bench.serving(project) as server, Connection(server.port) as connection:
        for _ in range(CALLS):
            _call(connection, "echo")
        return memory(server.pid)


def _call(connection: Connection, id: str) -> None:
    status, body = connection.send(request(PATH, id))
    if status != 200:
        raise ServerFailed(f"{id} answered {status}: {body[:1000]!r}")


def _middle(found: list[Memory], name: str) -> float:
    return float(median(getattr(one, name) for one in found)) / MB
