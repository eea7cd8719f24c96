"""Lifecycle events: what becomes of functions and of the server, told to the event functions.

What becomes of functions is told from what goes live, whichever way it came. `publish` is for everything else: the
server's start and stop, and what pulls and pushes come to: `sync.completed`, `sync.failed`, `sync.pushed` and
`sync.conflict`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from fnsync.changes import LiveChange
from fnsync.chat.envelopes import Event, Origin
from fnsync.chat.inboxes import RETRY_S, Inboxes
from fnsync.errors import StoreError
from fnsync.model import FunctionId, LiveFunction, User
from fnsync.registry import Registry
from fnsync.runtime.executor import Executor

log = structlog.get_logger(__name__)

#: Name of an event and its `data`.
Told = tuple[str, Mapping[str, Any]]
Listener = Callable[[str, Mapping[str, Any]], None]


class Lifecycle:
    """Publishes events. One per server; on the loop. Nothing waits for it, and it never raises."""

    def __init__(
        self,
        executor: Executor,
        registry: Registry,
        version: str,
        added_at: Callable[[str], int | None],
        *,
        serving: bool = True,
        retry_s: Sequence[float] = RETRY_S,
    ) -> None:
        """`added_at`: when the user of an id was added, blocking; `serving`: whether starts and stops are told."""
        self._inboxes = Inboxes(executor, registry, retry_s)
        self._added_at = added_at
        self._origin = Origin(str(uuid.uuid4()), version, self._when_added)
        self._serving = serving
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Have whatever is published told to `listener` too, with its data; on the loop, so it must not block."""
        self._listeners.append(listener)

    def publish(
        self,
        name: str,
        *,
        function: FunctionId | None = None,
        data: Mapping[str, Any] | None = None,
        actor: User | None = None,
    ) -> None:
        """Tell all event functions that are active now, and who listens."""
        for listener in self._listeners:
            listener(name, data or {})
        receivers = self._inboxes.receivers()
        if receivers:
            event = Event(name, self._origin, function, data or {}, actor)
            for receiver in receivers:
                self._inboxes.post(receiver.id, event)

    async def close(self) -> None:
        """Have what was published arrive, for a short while; nothing may be published after this."""
        await self._inboxes.close()

    # ---- what it hears of ----

    def restored(self) -> None:
        """The server starts, and what served before can be called."""
        self._system("startup.started")

    def ready(self) -> None:
        """The server has started."""
        self._system("startup.completed")

    def stopping(self) -> None:
        """The server takes no more calls."""
        self._system("shutdown.started")

    def stopped(self) -> None:
        """The server has stopped but for its workers."""
        self._system("shutdown.completed")

    def changed(self, change: LiveChange) -> None:
        """What is live of a function changed."""
        for name, data in told_of(change):
            self.publish(name, function=change.id, data=data, actor=change.actor)

    def user_valves_set(self, function: FunctionId, user: User) -> None:
        """A user set values of their own for a function."""
        self.publish("function.valves_updated", function=function, data={"scope": "user"}, actor=user)

    def _system(self, name: str) -> None:
        if self._serving:
            self.publish(f"system.{name}")

    async def _when_added(self, user: User) -> int | None:
        try:
            return await asyncio.to_thread(self._added_at, user.id)
        except StoreError as exc:
            log.warning("actor_not_found", user=user.id, error=str(exc))
            return None


def told_of(change: LiveChange) -> Iterator[Told]:
    """The events that a change comes to, in their order."""
    before, after = change.before, change.after
    if after is None:
        yield "function.deleted", {}
        return
    about = {"type": after.kind.value, "name": after.name}
    if not change.known:
        yield "function.created", about
    if before is None:
        return
    if _described(before) != _described(after):
        is_global = after.settings.is_global
        toggled = {"is_global": is_global} if is_global != before.settings.is_global else {}
        yield "function.updated", about | toggled
    if before.settings.valves != after.settings.valves:
        yield "function.valves_updated", {}
    if before.active != after.active:
        yield f"function.{'enabled' if after.active else 'disabled'}", about


def _described(function: LiveFunction) -> tuple[Any, ...]:
    """Code, settings and name: all but what has events of its own."""
    settings = replace(function.settings, valves={}, active=None)
    return function.revision, function.kind, function.name, function.path, settings
