"""Events on their way to event functions: each has an inbox of its own, and gets them one after the other."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

import structlog

from fnsync.chat.envelopes import Event
from fnsync.errors import FnsyncError
from fnsync.model import FunctionId, Kind, LiveFunction
from fnsync.registry import Registry
from fnsync.runtime.call import Invocation
from fnsync.runtime.executor import Executor
from fnsync.runtime.logs import LogLine

#: Events that wait for one function; above that the newest are lost.
MOST_WAITING = 10_000
#: How long to wait before each further try, in seconds.
RETRY_S = (0.5, 5.0, 30.0)
#: How long a stop waits for what is on its way, in seconds.
DRAIN_S = 3.0

log = structlog.get_logger(__name__)


class Inboxes:
    """The inboxes of all event functions. On the loop."""

    def __init__(self, executor: Executor, registry: Registry, retry_s: Sequence[float] = RETRY_S) -> None:
        self._executor = executor
        self._registry = registry
        self._retry_s = retry_s
        self._waiting: dict[FunctionId, deque[Event]] = {}
        self._tasks: dict[FunctionId, asyncio.Task[None]] = {}
        #: Events that were lost since the inbox was full.
        self._lost: dict[FunctionId, int] = {}

    def receivers(self) -> list[LiveFunction]:
        """The event functions that are active now."""
        return [function for function in self._registry.world.functions.values() if _receives(function)]

    def post(self, id: FunctionId, event: Event) -> None:
        """Put an event into a function's inbox; never waits."""
        waiting = self._waiting.setdefault(id, deque())
        if len(waiting) >= MOST_WAITING:
            self._lost[id] = self._lost.get(id, 0) + 1
            if self._lost[id] == 1:
                self._tell(id, f"{len(waiting)} events wait, and further ones are lost until some have been taken")
            return
        waiting.append(event)
        if id not in self._tasks:
            self._tasks[id] = asyncio.create_task(self._run(id, waiting), name=f"events of {id}")

    async def close(self, patience_s: float = DRAIN_S) -> None:
        """Have what is on its way arrive, for so long."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=patience_s)
        for id, waiting in self._waiting.items():
            log.warning("events_not_delivered", function=id, events=len(waiting), reason="the server stops")
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, id: FunctionId, waiting: deque[Event]) -> None:
        """Deliver until the inbox is empty, or the function takes no events any more."""
        try:
            while waiting and self._receiver(id) is not None:
                try:
                    await self._deliver(id, waiting[0])
                except Exception:  # one event must not end the inbox
                    log.exception("event_not_delivered", function=id, name=waiting[0].name)
                waiting.popleft()
                if lost := self._lost.pop(id, 0):
                    self._tell(id, f"{lost} events were lost")
        finally:
            del self._tasks[id], self._waiting[id]
            self._lost.pop(id, None)

    async def _deliver(self, id: FunctionId, event: Event) -> None:
        """Call the function, as it is now, until it takes the event or the tries are used up."""
        for wait_s in (*self._retry_s, None):
            function = self._receiver(id)
            if function is None:
                return
            try:
                invocation = Invocation("event", await event.body(), context={"__id__": id})
                async with self._executor.call(function, invocation) as call:
                    await call.first()
                return
            except FnsyncError as exc:
                if wait_s is None:
                    tries = len(self._retry_s) + 1
                    self._tell(id, f"the event {event.name} ({event.id}) is given up after {tries} tries: {exc}")
                    return
                log.info("event_retried", function=id, name=event.name, error=str(exc), wait_s=wait_s)
            await asyncio.sleep(wait_s)

    def _receiver(self, id: FunctionId) -> LiveFunction | None:
        function = self._registry.world.functions.get(id)
        return function if function is not None and _receives(function) else None

    def _tell(self, id: FunctionId, text: str) -> None:
        """Say in the server's log and in the function's what was lost."""
        function = self._registry.world.functions.get(id)
        log.warning("event_lost", function=id, reason=text)
        revision = function.revision if function is not None else ""
        self._executor.logs.add(LogLine(time.time(), id, revision, None, "log", "ERROR", text, "fnsync"))


def _receives(function: LiveFunction) -> bool:
    return function.kind is Kind.EVENT and function.active
