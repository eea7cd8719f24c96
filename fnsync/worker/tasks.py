"""Tasks that sync handlers start. They run in threads here, without a running loop; in Open WebUI they run on its loop,
so their code may say `asyncio.create_task(…)`. There it means a task on the worker's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


def adopt_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Have `create_task` and `ensure_future` in a thread without a running loop use `loop`. What they give there is a
    `concurrent.futures.Future`, which has a task's `cancel`, `done`, `result` and `add_done_callback`."""
    for name in ("create_task", "ensure_future"):
        setattr(asyncio, name, _adopting(getattr(asyncio, name), loop))


def _adopting(start: Callable[..., Any], loop: asyncio.AbstractEventLoop) -> Callable[..., Any]:
    def adopting(work: Any, **options: Any) -> Any:
        if asyncio.iscoroutine(work) and options.get("loop") is None:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return asyncio.run_coroutine_threadsafe(work, loop)
        return start(work, **options)

    adopting.__name__ = start.__name__
    adopting.__doc__ = start.__doc__
    return adopting
