"""What changes of that which is live, and who made it: told once for each function, when a change is complete.

A change of files goes live in steps: settings that concern no code at once, the rest when it has loaded. What is told
is the difference between what was told last and what is live at the end of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from fnsync.model import FunctionId, LiveFunction, User
from fnsync.registry import Registry


@dataclass(frozen=True, slots=True)
class LiveChange:
    """What became of one function."""

    id: FunctionId
    #: Whether there was one before; `before` is what it was, as far as that is known.
    known: bool
    before: LiveFunction | None
    #: None: it is gone.
    after: LiveFunction | None
    #: Who asked for it over the API; None: the files were changed by other means.
    actor: User | None


class Listener(Protocol):
    """Who is told; on the loop, so it must not block."""

    def restored(self) -> None:
        """What served before the server stopped serves again; what changed meanwhile is looked at next."""

    def ready(self) -> None:
        """All that was there at the start has been loaded, or has failed."""

    def changed(self, change: LiveChange) -> None:
        """A function changed."""


class LiveChanges:
    """Compares what is live with what was told of it. One for each reconciler."""

    def __init__(self, registry: Registry, listener: Listener | None) -> None:
        self._registry = registry
        self._listener = listener
        #: What was told last; None: only that it is there.
        self._told: dict[FunctionId, LiveFunction | None] = {}
        self._actors: dict[FunctionId, User] = {}
        #: Whether all that is found is new because nothing was recorded: a first start.
        self._first = False

    def restored(self, recorded: Collection[FunctionId], *, first: bool) -> None:
        """What is live now is what was before the start; of `recorded` functions no more may be known."""
        self._told = {**dict.fromkeys(recorded), **self._registry.newest.functions}
        self._first = first
        if self._listener is not None:
            self._listener.restored()

    def ready(self) -> None:
        """What is found from now on is a change, also at a first start."""
        self._first = False
        if self._listener is not None:
            self._listener.ready()

    def same(self, live: Mapping[FunctionId, LiveFunction]) -> None:
        """These are written in another way, and mean what they did."""
        self._told |= live

    @contextmanager
    def acting(self, ids: Collection[FunctionId], actor: User) -> Iterator[None]:
        """For the time of the block, what changes of these functions is somebody's doing."""
        self._actors |= dict.fromkeys(ids, actor)
        try:
            yield
        finally:
            for id in ids:
                if self._actors.get(id) is actor:
                    del self._actors[id]

    def tell(self, id: FunctionId) -> None:
        """A change of the function is complete, if there was one."""
        known, before = id in self._told, self._told.get(id)
        after, actor = self._registry.newest.functions.get(id), self._actors.get(id)
        if after is before and (after is not None or not known):
            return
        if after is None:
            del self._told[id]
        else:
            self._told[id] = after
        if self._listener is not None and (actor is not None or not self._first):
            self._listener.changed(LiveChange(id, known, before, after, actor))
