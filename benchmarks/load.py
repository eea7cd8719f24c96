"""The load generator as seen from here: jobs for its process, and rounds that compare two servers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Self

from benchmarks.servers import stop

GENERATOR = Path(__file__).with_name("generator.py")


class LoadError(Exception):
    """A server did not answer as it should."""


@dataclass(frozen=True, slots=True)
class Job:
    """Requests over `connections` connections, one after the other on each."""

    port: int
    #: The bytes of the request, head and body, as latin-1.
    request: str
    connections: int
    seconds: float
    #: Whether the answer is chunked; else it has a content-length.
    stream: bool = False
    warm_up_s: float = 0.2


@dataclass(frozen=True, slots=True)
class Result:
    answers: int
    seconds: float
    p50_s: float
    p99_s: float

    @property
    def per_second(self) -> float:
        return self.answers / self.seconds


class Load:
    """The process that makes the load; as a context."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(GENERATOR)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        stop(self._process)

    def run(self, job: Job) -> Result:
        """Raises LoadError when an answer is not 200."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(asdict(job)), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise LoadError("the load generator ended")
        result = json.loads(line)
        if "error" in result:
            raise LoadError(result["error"])
        return Result(**result)


@dataclass(frozen=True, slots=True)
class Series:
    """The rounds of one side."""

    results: tuple[Result, ...]

    @property
    def per_second(self) -> float:
        return median(result.per_second for result in self.results)

    @property
    def p50_ms(self) -> float:
        return median(result.p50_s for result in self.results) * 1000

    @property
    def p99_ms(self) -> float:
        return median(result.p99_s for result in self.results) * 1000

    @property
    def spread(self) -> float:
        """Half the distance of the slowest and the fastest round, as a share of the median."""
        rates = [result.per_second for result in self.results]
        return (max(rates) - min(rates)) / 2 / self.per_second


def compare(
    load: Load, product: Job, reference: Job, rounds: int, step: Callable[[], None] = lambda: None
) -> tuple[Series, Series]:
    """Run both in turns, so that what else the machine does falls on both; who begins changes each round."""
    results: tuple[list[Result], list[Result]] = ([], [])
    jobs = (product, reference)
    for number in range(rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            results[side].append(load.run(jobs[side]))
            step()
    return Series(tuple(results[0])), Series(tuple(results[1]))
