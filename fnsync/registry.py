"""What is live now, in memory: an immutable world that a request pins as it arrives."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

from fnsync.model import FunctionId, LiveFunction


@dataclass(frozen=True, slots=True, weakref_slot=True)
class World:
    """Everything live at one moment, active or not."""

    generation: int = 0
    functions: Mapping[FunctionId, LiveFunction] = field(default_factory=lambda: MappingProxyType({}))

    def changed(self, live: Mapping[FunctionId, LiveFunction], gone: frozenset[FunctionId] = frozenset()) -> World:
        """Return the next world: `live` put in, `gone` taken out."""
        functions = {**self.functions, **live}
        for id in gone:
            functions.pop(id, None)
        return World(self.generation + 1, MappingProxyType(functions))


class Registry:
    """Holds the current world; only reconcile publishes."""

    def __init__(self) -> None:
        self.world = World()
        self._former: list[weakref.ref[World]] = []
        self._holds = 0
        #: What is published when nobody holds it back any more.
        self._held: World | None = None

    @property
    def newest(self) -> World:
        """What was published last, be it held back; for who publishes next."""
        return self._held or self.world

    def publish(self, world: World) -> None:
        """Have new requests see a world."""
        if self._holds:
            self._held = world
            return
        self._former = [former for former in self._former if former() is not None]
        self._former.append(weakref.ref(self.world))
        self.world = world

    @contextmanager
    def held(self) -> Iterator[None]:
        """Publish what changes in the block at once, when it ends."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            if self._held is not None and not self._holds:
                world, self._held = self._held, None
                self.publish(world)

    def worlds(self) -> list[World]:
        """The current world, one that is held back, and the former ones that requests still hold: they may yet call
        what is in them."""
        former = (world for former in self._former if (world := former()) is not None)
        return [self.world, *([] if self._held is None else [self._held]), *former]
