"""Work that is done again and again, and goes on after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger()


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
