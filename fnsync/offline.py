"""Does one piece of work with the parts of a server, where none runs: the same parts, without HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import uvloop

from fnsync import records
from fnsync.config import Config
from fnsync.model import User
from fnsync.service import Listeners, Service

T = TypeVar("T")
#: Gets the parts, and the user in whose name edits are made.
Work = Callable[[Service, User], Coroutine[Any, Any, T]]


def run(config: Config, environ: Mapping[str, str], work: Work[T], listeners: Listeners | None = None) -> T:
    """Start the parts, work, and close them. Raises ConfigError where another process has the data folder."""
    with records.errors_only(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(config, environ, work, listeners or Listeners()))


async def _run(config: Config, environ: Mapping[str, str], work: Work[T], listeners: Listeners) -> T:
    service = Service(config, environ, listeners, serving=False)
    try:
        await service.start()
        return await work(service, await asyncio.to_thread(service.state.ensure_admin))
    finally:
        await service.close()
