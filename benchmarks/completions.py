"""Completions per second: the product against a bare application, and many functions against one."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.connection import Connection, post
from benchmarks.load import Job, LoadError, Series, compare
from benchmarks.project import CHUNKS
from benchmarks.reference import BASE_MODEL
from benchmarks.report import Budget, Row, ratio_at_least
from benchmarks.servers import TOKEN, Running, reference

PATH = "/v1/chat/completions"
CONNECTIONS = (1, 16)
ECHO_BUDGET = ratio_at_least(0.7)
STREAM_BUDGET = ratio_at_least(1.0)

#: Pipe, route of the reference, name of the row, budget.
STREAMS: tuple[tuple[str, str, str, Budget | None], ...] = (
    ("chunks", "/stream", f"{CHUNKS}-chunk stream", STREAM_BUDGET),
    ("chunks", "/ready-made", f"{CHUNKS}-chunk stream, against ready-made bytes", STREAM_BUDGET),
    ("plain_chunks", "/plain-stream", f"{CHUNKS}-chunk stream, plain generators", None),
)


def echo(bench: Bench) -> Iterator[Row]:
    """Requests per second and latency of the echo pipe."""
    with bench.serving(bench.project(1, "echo")) as server, reference(bench.folder) as bare:
        for connections in CONNECTIONS:
            name = f"echo pipe, {connections_of(connections)}"
            ours, theirs = measured(
                bench,
                name,
                job(bench, server, PATH, "echo", connections),
                job(bench, bare, "/echo", "echo", connections),
            )
            yield Row(
                f"{name}: requests", ours.per_second, "/s", theirs.per_second, ECHO_BUDGET, ours.spread, rounds(ours)
            )
            yield Row(f"{name}: p50", ours.p50_ms, "ms", theirs.p50_ms)
            yield Row(f"{name}: p99", ours.p99_ms, "ms", theirs.p99_ms)


def stream(bench: Bench) -> Iterator[Row]:
    """Chunks per second of streaming pipes."""
    project = bench.project(2, "chunks", "plain_chunks")
    with bench.serving(project) as server, reference(bench.folder) as bare:
        for pipe, route, title, budget in STREAMS:
            _check_stream(server, PATH, pipe)
            _check_stream(bare, route, pipe)
            for connections in CONNECTIONS:
                name = f"{title}, {connections_of(connections)}"
                ours, theirs = measured(
                    bench,
                    name,
                    job(bench, server, PATH, pipe, connections, stream=True),
                    job(bench, bare, route, pipe, connections, stream=True),
                )
                value, other = ours.per_second * CHUNKS, theirs.per_second * CHUNKS
                yield Row(f"{name}: chunks", value, "/s", other, budget, ours.spread, rounds(ours))


def base(bench: Bench) -> Iterator[Row]:
    """A base model through the product, and asked directly."""
    with reference(bench.folder) as upstream:
        project = bench.project(2, "echo", "edited")
        given = f'[{{name: bare, kind: openai, url: "http://127.0.0.1:{upstream.port}/v1"}}]'
        with bench.serving(project, FNSYNC_UPSTREAMS=given) as server:
            _check_stream(server, PATH, BASE_MODEL)
            for connections in CONNECTIONS:
                for title, stream, unit in (("answers", False, 1), (f"chunks of {CHUNKS}", True, CHUNKS)):
                    name = f"base model, {connections_of(connections)}"
                    ours, theirs = measured(
                        bench,
                        f"{name}: {title}",
                        job(bench, server, PATH, BASE_MODEL, connections, stream=stream),
                        job(bench, upstream, PATH, BASE_MODEL, connections, stream=stream),
                    )
                    value, other = ours.per_second * unit, theirs.per_second * unit
                    yield Row(f"{name}: {title}", value, "/s", other, None, ours.spread, rounds(ours))


def scale(bench: Bench) -> Iterator[Row]:
    """The same pipe with many functions beside it, and alone."""
    many, one = bench.project(bench.sizes.many), bench.project(1, "echo")
    with bench.serving(many) as large, bench.serving(one) as small:
        for connections in CONNECTIONS:
            name = f"echo pipe, {many.count:,} functions against 1, {connections_of(connections)}"
            ours, theirs = measured(
                bench,
                name,
                job(bench, large, PATH, "echo", connections),
                job(bench, small, PATH, "echo", connections),
            )
            yield Row(f"{name}: requests", ours.per_second, "/s", theirs.per_second, None, ours.spread, rounds(ours))


def request(path: str, model: str, *, stream: bool = False) -> bytes:
    """The bytes of a completion request, the same for product and reference."""
    messages = [
        {"role": "system", "content": "You answer briefly."},
        {"role": "user", "content": "Hello, how are you today?"},
    ]
    return post(path, {"model": model, "messages": messages, "stream": stream}, TOKEN)


def job(bench: Bench, server: Running, path: str, model: str, connections: int, *, stream: bool = False) -> Job:
    """Requests of a model's completion."""
    data = request(path, model, stream=stream).decode("latin-1")
    return Job(server.port, data, connections, bench.sizes.seconds, stream)


def measured(bench: Bench, name: str, product: Job, other: Job) -> tuple[Series, Series]:
    """Both, by turns."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        bench.say(f"{name}: run {done} of {2 * bench.sizes.rounds}")

    bench.say(name)
    return compare(bench.load, product, other, bench.sizes.rounds, step)


def _check_stream(server: Running, path: str, pipe: str) -> None:
    """Both sides must send the same number of chunks, each with its text, and an end."""
    with Connection(server.port) as connection:
        status, body = connection.send(request(path, pipe, stream=True))
    counts = (body.count(b'"content":"word '), body.count(b'"finish_reason":"stop"'), body.count(b"data: [DONE]\n\n"))
    if status != 200 or counts != (CHUNKS, 1, 1):
        raise LoadError(f"{path}: {status}, {counts} chunks, stops and ends: {body[:1000]!r}")


def connections_of(count: int) -> str:
    """In words."""
    return "1 connection" if count == 1 else f"{count} connections"


def rounds(series: Series) -> dict[str, object]:
    """What a row has beside its value."""
    return {
        "rounds_per_second": [round(result.per_second, 1) for result in series.results],
        "p50_ms": round(series.p50_ms, 4),
        "p99_ms": round(series.p99_ms, 4),
    }
