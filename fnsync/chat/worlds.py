"""What is made of worlds and used for many requests: of the live one, and of the few that previews are called in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from fnsync.registry import World

T = TypeVar("T")

#: How many worlds of one generation are known at once.
KEPT = 8


class PerWorld(Generic[T]):
    """What `make` makes of each world, made once."""

    def __init__(self, make: Callable[[World], T]) -> None:
        self._make = make
        #: The last used one first.
        self._known: list[tuple[World, T]] = []

    def of(self, world: World) -> T:
        """What is made of a world."""
        known = self._known
        if known and known[0][0] is world:
            return known[0][1]
        for place, (other, made) in enumerate(known):
            if other is world:
                known.insert(0, known.pop(place))
                return made
        made = self._make(world)
        # Those of other generations would keep what has been replaced.
        self._known = [(world, made), *(pair for pair in known if pair[0].generation == world.generation)][:KEPT]
        return made

    def keep(self, world: World) -> None:
        """Forget what was made before `world`, the newest."""
        self._known = [pair for pair in self._known if pair[0].generation == world.generation]
