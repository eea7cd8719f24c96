"""What pipelines are for their callers: which of them are models, under which ids, and what filters are for.

is_filter(function) and applies_to(function, model)     the chats that a filter of this kind is called for
priority(function)                                      in chat.filters, the same for all kinds
"""

from __future__ import annotations

from collections.abc import Mapping

from fnsync.model import FunctionId, Kind, LiveFunction, PipelineFacts
from fnsync.registry import World

#: The types of pipelines that answer chats.
MODEL_TYPES = ("pipe", "manifold")
#: The target that stands for all models; it counts only if it is the only one.
ALL = "*"


def facts(function: LiveFunction) -> PipelineFacts:
    """What a pipeline says of itself."""
    return function.manifest.pipeline or PipelineFacts()


def is_model(function: LiveFunction) -> bool:
    """Whether a function of any kind answers chats."""
    return function.kind is Kind.PIPE or (function.kind is Kind.PIPELINE and facts(function).type in MODEL_TYPES)


def is_filter(function: LiveFunction) -> bool:
    """Whether it is a pipeline of the type `filter`."""
    return function.kind is Kind.PIPELINE and facts(function).type == "filter"


def targets(function: LiveFunction) -> tuple[str, ...] | None:
    """The models that a filter's valves name: the stored ones, else its constructor's. None: its valves have no such
    field, so nobody can tell; without any valves there are no targets."""
    stored = function.settings.valves.get("pipelines")
    if isinstance(stored, list):
        return tuple(item for item in stored if isinstance(item, str))
    given = facts(function).targets
    return () if given is None and function.manifest.valves_schema is None else given


def applies_to(function: LiveFunction, model: str) -> bool:
    """Whether a filter is for the chats of a model."""
    named = targets(function) or ()
    return named == (ALL,) or model in named


class Pipelines:
    """The pipelines of one world by the ids that they give themselves."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._named: dict[str, LiveFunction] = {}
        self._names: dict[FunctionId, str] = {}
        for id, function in sorted(world.functions.items()):
            own = facts(function).id if function.kind is Kind.PIPELINE else None
            # A function's id is its own; of pipelines that call themselves alike, the first keeps the name.
            if own is not None and own != id and own not in world.functions and own not in self._named:
                self._named[own] = function
                self._names[id] = own

    @property
    def named(self) -> Mapping[str, LiveFunction]:
        """Those that call themselves otherwise than their files."""
        return self._named

    def id_of(self, function: LiveFunction) -> str:
        """What callers know a function by."""
        return self._names.get(function.id, function.id)

    def find(self, id: str) -> LiveFunction | None:
        """The function of an id, its own or its file's."""
        return self.world.functions.get(FunctionId(id)) or self._named.get(id)

    def behind(self, model: str) -> tuple[LiveFunction | None, str | None]:
        """The function behind the id of a model or a filter, and the sub id if it is a manifold's."""
        function = self.find(model)
        if function is not None and not function.manifest.manifold:
            return function, None
        id, _, sub = model.partition(".")
        function = self.find(id)
        if function is None:  # a manifold may have a dot in its name
            prefix = next((name for name in self._named if model.startswith(f"{name}.")), None)
            function, sub = (self._named[prefix], model[len(prefix) + 1 :]) if prefix is not None else (None, "")
        if function is None or not sub or not function.manifest.manifold:
            return None, None
        return function, sub
