"""What stands around a chat: filters, and many streams at once; with the processor time of server and workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.bench import Bench
from benchmarks.completions import CONNECTIONS, PATH, connections_of, job, measured, rounds
from benchmarks.connection import post
from benchmarks.load import Job
from benchmarks.processes import cpu_s, descendants
from benchmarks.project import CHUNKS, FILTERS, LONG_CHUNKS
from benchmarks.reference import BASE_MODEL
from benchmarks.report import Row
from benchmarks.servers import TOKEN, Running, reference

#: How workers are called.
WORKER = "fnsync-worker"
MANY_STREAMS = 64


def filters(bench: Bench) -> Iterator[Row]:
    """Five filters with inlet and outlet around an echo pipe and around a base model, against the bare provider."""
    with reference(bench.folder) as upstream:
        project = bench.project(1 + len(FILTERS), "echo", *FILTERS)
        with bench.serving(project, FNSYNC_UPSTREAMS=_given(upstream)) as server:
            for title, model in (("an echo pipe", "echo"), ("a base model", BASE_MODEL)):
                for connections in CONNECTIONS:
                    name = f"five filters around {title}, {connections_of(connections)}"
                    ours, theirs = measured(
                        bench,
                        name,
                        job(bench, server, PATH, model, connections),
                        job(bench, upstream, PATH, BASE_MODEL, connections),
                    )
                    value, other = ours.per_second, theirs.per_second
                    yield Row(f"{name}: requests", value, "/s", other, None, ours.spread, rounds(ours))
                    yield Row(f"{name}: p50", ours.p50_ms, "ms", theirs.p50_ms)
                yield from _costs(bench, server, f"five filters around {title}", job(bench, server, PATH, model, 16))


def stream_filter(bench: Bench) -> Iterator[Row]:
    """Chunks of a stream through a stream filter, against the same without one."""
    filtered = bench.project(2, "chunks", "upper")
    bare = bench.project(1, "chunks")
    with bench.serving(filtered) as server, bench.serving(bare) as other:
        for connections in CONNECTIONS:
            name = f"{CHUNKS}-chunk stream through a filter, {connections_of(connections)}"
            ours, theirs = measured(
                bench,
                name,
                job(bench, server, PATH, "chunks", connections, stream=True),
                job(bench, other, PATH, "chunks", connections, stream=True),
            )
            value, without = ours.per_second * CHUNKS, theirs.per_second * CHUNKS
            yield Row(f"{name}: chunks", value, "/s", without, None, ours.spread, rounds(ours))
            if connections == 1:
                more_s = 1 / value - 1 / without
                yield Row("a stream filter: more for each chunk", more_s * 1e3, "ms")
        load = job(bench, server, PATH, "chunks", 1, stream=True)
        yield from _costs(bench, server, f"{CHUNKS}-chunk stream through a filter", load)


def streams(bench: Bench) -> Iterator[Row]:
    """Many long streams at once."""
    with bench.serving(bench.project(1, "long")) as server, reference(bench.folder) as bare:
        name = f"{MANY_STREAMS} streams of {LONG_CHUNKS} chunks"
        ours, theirs = measured(
            bench,
            name,
            job(bench, server, PATH, "long", MANY_STREAMS, stream=True),
            job(bench, bare, "/long-stream", "long", MANY_STREAMS, stream=True),
        )
        value, other = ours.per_second * LONG_CHUNKS, theirs.per_second * LONG_CHUNKS
        yield Row(f"{name}: chunks", value, "/s", other, None, ours.spread, rounds(ours))
        yield Row(f"{name}: a whole stream, p50", ours.p50_ms, "ms", theirs.p50_ms)
        yield Row(f"{name}: a whole stream, p99", ours.p99_ms, "ms", theirs.p99_ms)
        yield from _costs(bench, server, name, job(bench, server, PATH, "long", MANY_STREAMS, stream=True))


def inlet(bench: Bench) -> Iterator[Row]:
    """A filter of the Pipelines protocol, as Open WebUI calls it before each chat, against a bare endpoint."""
    user = {"id": "u1", "email": "ada@example.org", "name": "Ada", "role": "user"}
    chat = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hello, how are you today?"}]}
    body = {"user": user, "body": {**chat, "metadata": {"chat_id": "c1", "message_id": "m1", "session_id": "s1"}}}
    with bench.serving(bench.project(1, "hook")) as server, reference(bench.folder) as bare:
        for connections in CONNECTIONS:
            name = f"Pipelines inlet, {connections_of(connections)}"
            ours, theirs = measured(
                bench,
                name,
                _post(bench, server, "/hook/filter/inlet", body, connections),
                _post(bench, bare, "/inlet", body, connections),
            )
            yield Row(f"{name}: round trips", ours.per_second, "/s", theirs.per_second, None, ours.spread, rounds(ours))
            yield Row(f"{name}: p50", ours.p50_ms, "ms", theirs.p50_ms)


def nested(bench: Bench) -> Iterator[Row]:
    """A pipe that has a base model answer, against the bare provider."""
    with reference(bench.folder) as upstream:
        project = bench.project(1, "nesting")
        with bench.serving(project, FNSYNC_UPSTREAMS=_given(upstream)) as server:
            for connections in CONNECTIONS:
                for title, stream, unit in (("answers", False, 1), (f"chunks of {CHUNKS}", True, CHUNKS)):
                    name = f"nested completion, {connections_of(connections)}"
                    ours, theirs = measured(
                        bench,
                        f"{name}: {title}",
                        job(bench, server, PATH, "nesting", connections, stream=stream),
                        job(bench, upstream, PATH, BASE_MODEL, connections, stream=stream),
                    )
                    value, other = ours.per_second * unit, theirs.per_second * unit
                    yield Row(f"{name}: {title}", value, "/s", other, None, ours.spread, rounds(ours))
                    if not stream:
                        yield Row(f"{name}: p50", ours.p50_ms, "ms", theirs.p50_ms)
            yield from _costs(bench, server, "nested completion", job(bench, server, PATH, "nesting", 16))


def _post(bench: Bench, server: Running, path: str, body: Mapping[str, Any], connections: int) -> Job:
    return Job(server.port, post(path, body, TOKEN).decode("latin-1"), connections, bench.sizes.seconds)


def _costs(bench: Bench, server: Running, name: str, load: Job) -> Iterator[Row]:
    """Processor time for each answer, of the server and of all its workers together."""
    bench.say(f"{name}: processor time")
    bench.load.run(load)
    workers = descendants(server.pid, WORKER)
    before = cpu_s(server.pid), sum(map(cpu_s, workers))
    result = bench.load.run(load)
    after = cpu_s(server.pid), sum(map(cpu_s, workers))
    # The warm-up's answers are not counted, but worked for.
    answers = result.answers * (1 + load.warm_up_s / load.seconds)
    yield Row(f"{name}: server's processor time for each answer", (after[0] - before[0]) / answers * 1e3, "ms")
    yield Row(f"{name}: workers' processor time for each answer", (after[1] - before[1]) / answers * 1e3, "ms")


def _given(upstream: Running) -> str:
    return f'[{{name: bare, kind: openai, url: "http://127.0.0.1:{upstream.port}/v1"}}]'
