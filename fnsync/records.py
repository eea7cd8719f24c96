"""The server's own log: structured records on standard error, lines for people on a terminal, JSON elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from fnsync.runtime.logs import LogLine

#: Lines of one function that go to the server's log per second; all are kept for `fnsync logs`.
LINES_PER_S = 50.0

log = structlog.get_logger("fnsync.function")


def configure(*, quiet: bool) -> None:
    """Set up logging for this process. `quiet`: errors only, since reloads are told in another way."""
    _configure(logging.ERROR if quiet else logging.INFO, lasting=True)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")


@contextmanager
def errors_only() -> Iterator[None]:
    """For as long as this lasts, there are only errors in the log."""
    before = structlog.get_config()
    _configure(logging.ERROR, lasting=False)
    try:
        yield
    finally:
        structlog.configure(**before)


def _configure(level: int, *, lasting: bool) -> None:
    """`lasting`: loggers remember it, which makes them faster."""
    terminal = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            *([] if terminal else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=lasting,
    )


class FunctionOutput:
    """Copies what functions print to the server's log, at a bounded rate for each."""

    def __init__(self) -> None:
        #: Function -> allowance left, and when it was counted.
        self._allowance: dict[str, tuple[float, float]] = {}

    def __call__(self, line: LogLine) -> None:
        now = time.monotonic()
        left, at = self._allowance.get(line.function, (LINES_PER_S, now))
        left = min(LINES_PER_S, left + (now - at) * LINES_PER_S)
        if left >= 1:
            log.info(
                "function_output",
                function=line.function,
                revision=line.revision[:8],
                call=line.call,
                stream=line.stream,
                severity=line.level,
                logger=line.logger or None,
                text=line.text,
            )
            left -= 1
        self._allowance[line.function] = (left, now)
