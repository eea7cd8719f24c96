"""The list of all functions over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

from benchmarks.bench import Bench
from benchmarks.connection import get
from benchmarks.report import Row
from benchmarks.servers import TOKEN, ServerFailed

ROUTES = (("list", "/api/v1/functions/list"), ("export, with sources", "/api/v1/functions/export"))
#: Answers that are not counted.
WARM_UP = 3


def functions(bench: Bench) -> Iterator[Row]:
    """Milliseconds until the whole list is there, against what writing the same as JSON takes."""
    for count in bench.sizes.listed:
        with bench.serving(bench.project(count)) as server, server.connect() as connection:
            for title, path in ROUTES:
                name = f"{title} of {count:,} functions: p50"
                bench.say(name)
                status, body = connection.send(get(path, TOKEN))
                rows = json.loads(body)
                if status != 200 or len(rows) != count:
                    raise ServerFailed(f"{path} answered {status}: {body[:1000]!r}")
                took = _times(bench.sizes.lists, partial(connection.send, get(path, TOKEN)))
                written = _times(bench.sizes.lists, partial(json.dumps, rows))
                detail: dict[str, object] = {"answers_ms": took, "bytes": len(body)}
                yield Row(name, median(took), "ms", median(written), None, None, detail)


def _times(count: int, do: Callable[[], object]) -> list[float]:
    """How long each took, in milliseconds."""
    took = []
    for _ in range(WARM_UP + count):
        began = time.perf_counter()
        do()
        took.append(round((time.perf_counter() - began) * 1000, 3))
    return took[WARM_UP:]
