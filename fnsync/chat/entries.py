"""The entries of models in lists, as Open WebUI has them: what a model is, and which actions and filters it carries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import structlog

from fnsync.chat.access import may_use
from fnsync.chat.filters import concerns, priority
from fnsync.chat.pipelines import Pipelines, facts, is_filter, is_model, targets
from fnsync.chat.upstreams import Found
from fnsync.model import Kind, LiveFunction, User
from fnsync.registry import World

log = structlog.get_logger(__name__)

Entry = Mapping[str, Any]


class View:
    """The entries of one world, made when first asked for."""

    def __init__(self, world: World, pipelines: Pipelines) -> None:
        self.world = world
        self._pipelines = pipelines
        active = [function for _, function in sorted(world.functions.items()) if function.active]
        self.pipes = [function for function in active if is_model(function)]
        self.filters = [function for function in active if is_filter(function)]
        self._actions = _Attached([f for f in active if f.kind is Kind.ACTION], by_priority=True)
        self._filters = _Attached([f for f in active if f.kind is Kind.FILTER and f.manifest.toggle])
        self._singles: dict[str, Entry] = {}
        #: Manifold -> the names that its entries were made from, and the entries by sub id.
        self._subs: dict[str, tuple[Mapping[str, str], dict[str, Entry]]] = {}

    def hidden(self, caller: User) -> frozenset[str]:
        """The actions and filters that the caller may not use."""
        attached = (*self._actions.functions, *self._filters.functions)
        return frozenset(function.id for function in attached if not may_use(function.settings, caller))

    def single(self, function: LiveFunction) -> Entry:
        entry = self._singles.get(function.id)
        if entry is None:
            entry = self._entry(function, self._pipelines.id_of(function), self._name(function))
            self._singles[function.id] = entry
        return entry

    def _name(self, function: LiveFunction) -> str:
        """The name of a model that is all of a function; a pipeline tells its own."""
        own = function.manifest.name if function.kind is Kind.PIPELINE else None
        return function.settings.name or own or function.name

    def filter(self, function: LiveFunction) -> Entry | None:
        """Return the entry of a pipeline that is a filter; None: nobody can tell which models it is for."""
        named = targets(function)
        if named is None:
            log.warning("filter_left_out", function=function.id, error="its valves have no field `pipelines`")
            return None
        entry = self._head(function, self._pipelines.id_of(function), self._name(function))
        order = priority(function)
        told = {"pipelines": list(named), "priority": int(order) if order.is_integer() else order}
        return {**entry, "pipeline": {**_pipeline_item(function), **told}}

    def sub(self, function: LiveFunction, sub: str, names: Mapping[str, str]) -> Entry:
        """Return the entry of one of a manifold's models; `names` are those of its listing. Kept until the next."""
        made = self._subs.get(function.id)
        if made is None or made[0] is not names:
            made = self._subs[function.id] = (names, {})
        entry = made[1].get(sub)
        if entry is None:
            name = (function.manifest.name or "") + names.get(sub, sub)
            entry = self._entry(function, f"{self._pipelines.id_of(function)}.{sub}", name)
            if sub in names:
                made[1][sub] = entry
        return entry

    def base(self, found: Found) -> Entry:
        """Return the entry of a base model."""
        model, kind = found.model, found.upstream.config.kind
        return {
            "id": found.id,
            "name": model.name,
            "object": "model",
            "created": model.created,
            "owned_by": model.owned_by,
            kind: {"id": model.id},
            **self._attached(found.id),
        }

    def _head(self, function: LiveFunction, model: str, name: str) -> dict[str, Any]:
        return {
            "id": model,
            "name": name,
            "object": "model",
            "created": function.updated_at,
            "owned_by": "openai",
        }

    def _entry(self, function: LiveFunction, model: str, name: str) -> Entry:
        is_pipeline = function.kind is Kind.PIPELINE
        return {
            **self._head(function, model, name),
            **({"pipeline": _pipeline_item(function)} if is_pipeline else {"pipe": {"type": "pipe"}}),
            "has_user_valves": function.manifest.user_valves_schema is not None,
            **self._attached(model),
        }

    def _attached(self, model: str) -> Entry:
        return {
            "actions": [item for action in self._actions.of(model) for item in _action_items(action)],
            "filters": [_filter_item(filter) for filter in self._filters.of(model)],
            "tags": [],
        }


def without(entry: Entry, hidden: frozenset[str]) -> Entry:
    """The entry without the actions and filters that are hidden."""
    return {
        **entry,
        "actions": [item for item in entry["actions"] if item["id"].partition(".")[0] not in hidden],
        "filters": [item for item in entry["filters"] if item["id"] not in hidden],
    }


class _Attached:
    """Actions or filters: those of every model, and those whose settings name models."""

    def __init__(self, functions: list[LiveFunction], *, by_priority: bool = False) -> None:
        if by_priority:
            functions = sorted(functions, key=lambda function: (priority(function), function.id))
        self.functions = [f for f in functions if f.settings.is_global or f.settings.models]
        self._all_global = all(function.settings.is_global for function in self.functions)

    def of(self, model: str) -> list[LiveFunction]:
        if self._all_global:
            return self.functions
        return [f for f in self.functions if concerns(f.settings, model)]


def _action_items(function: LiveFunction) -> Iterator[Entry]:
    base = {"description": _description(function), "icon": _icon(function)}
    if not function.manifest.actions:
        yield {"id": function.id, "name": function.name, **base}
    for item in function.manifest.actions:
        if item.get("id") in (None, ""):
            continue  # nothing could be called by it
        yield {
            "id": f"{function.id}.{item.get('id')}",
            "name": item.get("name") or f"{function.name} ({item.get('id')})",
            "description": base["description"],
            "icon": item.get("icon_url") or base["icon"],
        }


def _pipeline_item(function: LiveFunction) -> Entry:
    """What a Pipelines server says of a model besides."""
    return {"type": facts(function).type, "valves": function.manifest.valves_schema is not None}


def _filter_item(function: LiveFunction) -> Entry:
    return {
        "id": function.id,
        "name": function.name,
        "description": _description(function),
        "icon": _icon(function),
        "has_user_valves": function.manifest.user_valves_schema is not None,
    }


def _description(function: LiveFunction) -> str:
    return str(function.frontmatter.entries.get("description") or "")


def _icon(function: LiveFunction) -> str | None:
    return function.frontmatter.entries.get("icon_url") or function.manifest.icon
