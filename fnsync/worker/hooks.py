"""What a pipeline has for the beginning and the end of its life, and for valves that have changed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

from fnsync.runtime import wire
from fnsync.worker.faults import Places

#: How long `on_valves_updated` may take, in seconds.
UPDATED_S = 20.0


class Hooked(Protocol):
    """A function that may have hooks."""

    def has_hook(self, name: str) -> bool: ...
    async def run_hook(self, name: str) -> None: ...


class Hooks:
    """Runs the hooks of a worker's function beside its calls; they fail in the function's log alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        #: Tells where a failure happened; known once the function is loaded.
        self.places = Places("/", {})
        #: The stored valves that the function was given last.
        self.stored: Mapping[str, Any] = {}
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work on the loop, from its thread."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def valves_updated(self, function: Hooked, stored: Mapping[str, Any]) -> None:
        """Tell the function of other valves, which it has already; from a thread beside the loop. Returns when it was
        told."""
        changed, self.stored = self.stored != stored, stored
        if changed and function.has_hook("on_valves_updated"):
            telling = self._guarded(function, "on_valves_updated", UPDATED_S)
            asyncio.run_coroutine_threadsafe(telling, self._loop).result()

    async def shut_down(self, function: Hooked) -> None:
        """Have the function end as it wants."""
        await self._guarded(function, "on_shutdown", wire.SHUTDOWN_S)

    async def _guarded(self, function: Hooked, name: str, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await function.run_hook(name)
        except TimeoutError:
            print(f"{name} did not end within {limit_s:g} s", file=sys.stderr)
        except BaseException as exc:  # SystemExit too: it is function code
            self.tell(name, exc)

    def tell(self, name: str, exc: BaseException) -> None:
        """Have the function's log say that something raised which has no call to fail."""
        failure = self.places.failure(0, "raised", exc)
        place = f" ({failure.path}:{failure.line})" if failure.path else ""
        print(f"{name} raised {failure.exception}: {failure.message}{place}", file=sys.stderr)
