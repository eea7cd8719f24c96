"""Which filters surround a chat, in which order (function-contract §3.1).

Those that are global, and those whose settings name the model; of those that have a toggle, the ones that the request
names. Priority decides, then the id; the order is the same in all stages.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from fnsync.chat.pipelines import applies_to, is_filter
from fnsync.chat.worlds import PerWorld
from fnsync.errors import Unavailable
from fnsync.model import FunctionId, Kind, LiveFunction, Settings, User
from fnsync.plan import Standing
from fnsync.registry import World

#: Handlers that a filter may have.
STAGES = ("inlet", "request", "stream", "outlet")
#: How many chains are kept: there are as many as ways to choose from the filters with a toggle.
MOST_CHAINS = 1_000


@dataclass(frozen=True, slots=True)
class Chain:
    """The filters of one request, in order."""

    filters: tuple[LiveFunction, ...] = ()
    #: Stage -> the filters that have a handler for it.
    stages: Mapping[str, tuple[LiveFunction, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.filters)

    def stage(self, name: str) -> tuple[LiveFunction, ...]:
        """The filters that have a handler of that name."""
        return self.stages.get(name, ())

    def requires(self, name: str) -> LiveFunction | None:
        """The first filter of a stage without which nothing may be answered."""
        return next((function for function in self.stage(name) if function.settings.required), None)

    @property
    def changes_body(self) -> bool:
        """Whether a filter sees the request on its way to the model."""
        return "inlet" in self.stages or "request" in self.stages

    @property
    def handles_files(self) -> bool:
        """Whether a filter takes the files upon itself; it must have an inlet for it."""
        return any(function.manifest.file_handler for function in self.stage("inlet"))


NO_CHAIN = Chain()


@dataclass(frozen=True, slots=True)
class _Known:
    """The filters of one world."""

    all: tuple[LiveFunction, ...]
    #: Model -> the filters that concern it.
    of_model: dict[str, tuple[LiveFunction, ...]] = field(default_factory=dict)
    #: Ids of the filters of one request, and of the pipeline that answers -> their chain.
    chains: dict[tuple[tuple[FunctionId, ...], FunctionId | None], Chain] = field(default_factory=dict)

    @classmethod
    def of(cls, world: World) -> _Known:
        found = [f for f in world.functions.values() if f.active and _may_apply(f)]
        # Those of pipelines come first, as where Open WebUI calls them.
        return cls(tuple(sorted(found, key=lambda f: (f.kind is Kind.FILTER, priority(f), f.id))))


class Filters:
    """Finds the filters of requests. One per server."""

    def __init__(self, missing: Mapping[FunctionId, Standing]) -> None:
        """`missing`: functions that have no revision that loads and whose settings say `required: true`; live."""
        self._missing = missing
        self._known = PerWorld(_Known.of)

    def chain(
        self,
        world: World,
        model: str,
        caller: User,
        chosen: Collection[object],
        answering: LiveFunction | None = None,
        *,
        pipelines: bool = True,
    ) -> Chain:
        """The filters around `model` for a request of `caller`; `chosen`: its `filter_ids`. `answering`: the function
        that is the model; a pipeline may have hooks of its own. `pipelines`: whether those of pipelines are called, or
        the client does that itself.

        Raises Unavailable where a filter that is required is not there.
        """
        if self._missing:
            self._require(model, caller)
        known = self._known.of(world)
        own = answering if pipelines and answering is not None and answering.kind is Kind.PIPELINE else None
        if not known.all and own is None:
            return NO_CHAIN
        found = known.of_model.get(model)
        if found is None:
            found = known.of_model[model] = tuple(f for f in known.all if _surrounds(f, model))
        mine = tuple(f for f in found if _takes_part(f, caller, chosen) and (pipelines or f.kind is Kind.FILTER))
        key = tuple(f.id for f in mine), own.id if own is not None else None
        chain = known.chains.get(key)
        if chain is None:
            if len(known.chains) >= MOST_CHAINS:
                known.chains.clear()
            chain = known.chains[key] = _chain(mine, own)
        return chain

    def _require(self, model: str, caller: User) -> None:
        for standing in list(self._missing.values()):
            unit = standing.unit
            if concerns(unit.settings, model) and is_meant_for(unit.settings, caller):
                why = f": {standing.problem}" if standing.problem is not None and caller.is_admin else ""
                raise Unavailable(
                    f"the filter {unit.id} is required here, and has no revision that loads{why}",
                    hint="nothing is answered without it; its status says what is wrong",
                )


def _chain(filters: tuple[LiveFunction, ...], own: LiveFunction | None) -> Chain:
    """`own`: the pipeline that answers; its inlet comes behind those of other pipelines, its outlet is the first."""
    others = [f for f in filters if f.kind is Kind.PIPELINE]
    functions = [f for f in filters if f.kind is Kind.FILTER]
    hooks = [own] if own is not None else []
    orders = {"inlet": [*others, *hooks, *functions], "outlet": [*hooks, *others, *functions]}
    stages = {
        name: tuple(f for f in orders.get(name, functions) if f.manifest.handler(name) is not None) for name in STAGES
    }
    stages = {name: found for name, found in stages.items() if found}
    taking_part = tuple(dict.fromkeys(f.id for found in stages.values() for f in found))
    return Chain(tuple(f for f in (*filters, *hooks) if f.id in taking_part), stages)


def concerns(settings: Settings, model: str) -> bool:
    """Whether a filter or an action with these settings is for a model."""
    return settings.is_global or named(model, settings.models)


def named(model: str, globs: Sequence[str]) -> bool:
    """Whether one of the globs matches a model's id."""
    return any(fnmatchcase(model, glob) for glob in globs)


def is_meant_for(settings: Settings, caller: User) -> bool:
    """Whether a filter with these settings surrounds the caller's chats.

    What is somebody's own, and not global, surrounds nobody else's: it is code that others have not agreed to.
    """
    if settings.owner is not None and settings.owner != caller.id and not settings.is_global:
        return False
    access = settings.access
    if access is None or settings.owner == caller.id:
        return True
    return caller.role in access.roles or caller.email.lower() in {email.lower() for email in access.users}


def priority(function: LiveFunction) -> float:
    """Return the `priority` valve: the stored one, else the class's default, else 0. Of a pipeline, what its
    constructor gives is the default. What is no number counts as 0."""
    pipeline = function.manifest.pipeline
    default = pipeline.priority if pipeline is not None else _default(function.manifest.valves_schema, "priority")
    value = function.settings.valves.get("priority")
    try:
        found = float(default if value is None else value)  # text as well: its class makes a number of it
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return found if math.isfinite(found) else 0.0


def _default(schema: Any, field: str) -> Any:
    """A field's default as its JSON schema has it; a class may give any schema."""
    for key in ("properties", field, "default"):
        schema = schema.get(key) if isinstance(schema, dict) else None
    return schema


def _may_apply(function: LiveFunction) -> bool:
    settings = function.settings
    if function.kind is Kind.FILTER:
        return settings.is_global or bool(settings.models)
    return is_filter(function)


def _surrounds(function: LiveFunction, model: str) -> bool:
    if concerns(function.settings, model):
        return True
    return function.kind is Kind.PIPELINE and applies_to(function, model)


def _takes_part(function: LiveFunction, caller: User, chosen: Collection[object]) -> bool:
    return (not function.manifest.toggle or function.id in chosen) and is_meant_for(function.settings, caller)
