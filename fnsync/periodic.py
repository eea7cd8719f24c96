"""Work that is done again and again, and goes on after a failure."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger()

#: The longest wait after failures, in seconds, unless the interval itself is longer.
LONGEST_S = 600.0
#: By which part each wait is shorter or longer, so that many servers do not ask at once.
JITTER = 0.1


def wait_s(interval_s: float, failures: int, longest_s: float = LONGEST_S) -> float:
    """How long to wait for the next try after so many failures on end, before jitter."""
    return min(interval_s * 2.0 ** min(failures, 30), max(interval_s, longest_s))


def jittered(wait_s: float) -> float:
    """A wait that is a little shorter or longer."""
    return wait_s * random.uniform(1 - JITTER, 1 + JITTER)


async def every(
    interval_s: float, work: Callable[[], Awaitable[None] | None], name: str, *, at_once: bool = False
) -> None:
    """Do `work` after each interval until cancelled; `at_once`: before the first, too.

    A failure is logged once, until it works again.
    """
    failing = False
    while True:
        if not at_once:
            await asyncio.sleep(interval_s)
        at_once = False
        try:
            result = work()
            if result is not None:
                await result
            failing = False
        except Exception:  # whatever it is, the next round may work, and nobody else does this
            (log.debug if failing else log.exception)("periodic_work_failed", work=name)
            failing = True
