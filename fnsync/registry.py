"""What is live now, in memory: an immutable world that a request pins as it arrives."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
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

    def publish(self, world: World) -> None:
        self._former = [former for former in self._former if former() is not None]
        self._former.append(weakref.ref(self.world))
        self.world = world

    def worlds(self) -> list[World]:
        """The current world, and the former ones that requests still hold: they may yet call what is in them."""
        return [self.world, *(world for former in self._former if (world := former()) is not None)]
