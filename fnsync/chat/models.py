"""The models that pipes are: finding the one a request names, and listing them.

A pipe is one model; a manifold is as many as its `pipes` lists. Listings of manifolds come from their workers, so
they are kept: an answer older than `FRESH_S` is used once more while a new one is fetched. Finding a model looks at
two dictionaries, however many functions there are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec
import structlog

from fnsync.chat.access import may_use
from fnsync.chat.filters import concerns, priority
from fnsync.chat.pipelines import Pipelines, facts, is_filter, is_model, targets
from fnsync.chat.upstreams import Found, Upstreams
from fnsync.errors import FnsyncError, TimeLimit, UnknownModel
from fnsync.model import FunctionId, Kind, LiveFunction, User
from fnsync.registry import World
from fnsync.runtime.call import Invocation
from fnsync.runtime.executor import Executor

#: How long a manifold's listing counts as new.
FRESH_S = 60.0
#: How long a listing that failed, or that lacked a model asked for, is believed.
BELIEVED_S = 2.0
#: How long a listing counts as new where a client wants a new one.
ANEW_S = 1.0
#: How long `pipes` may take.
LISTING_LIMIT_S = 5.0
#: How long a client that lists models waits for manifolds that were never listed before.
PATIENCE_S = 2.0
#: How many manifolds are listed at once; each may need a worker.
LISTINGS_AT_ONCE = 8

log = structlog.get_logger(__name__)

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """What a manifold's `pipes` gave: sub id -> name, in order."""

    names: Mapping[str, str] = field(default_factory=dict)
    error: FnsyncError | None = None
    #: time.monotonic() when it was made.
    at: float = 0.0

    def age_s(self) -> float:
        """Return how long ago it was made, in seconds."""
        return time.monotonic() - self.at


class Models:
    """Finds and lists models. One per server; safe for one event loop."""

    def __init__(self, executor: Executor, upstreams: Upstreams) -> None:
        self._manifolds = _Manifolds(executor)
        self._upstreams = upstreams
        self._view: _View | None = None
        self._pipelines = Pipelines(World())

    def resolve(self, world: World, model: str, caller: User) -> tuple[LiveFunction, str | None]:
        """Return the function behind a model id, and the sub id if it is a manifold's.

        Raises UnknownModel, also where the caller may not use it, so that nothing is given away.
        """
        function = world.functions.get(FunctionId(model))
        sub = None
        if function is None or function.manifest.manifold:
            function, sub = self.pipelines(world).behind(model)
        if function is None or not callable_by(function, caller):
            raise unknown(model)
        return function, sub

    def pipelines(self, world: World) -> Pipelines:
        """The pipelines of a world by their own ids."""
        if self._pipelines.world is not world:
            self._pipelines = Pipelines(world)
        return self._pipelines

    async def confirm(self, function: LiveFunction, sub: str) -> None:
        """Raise UnknownModel if the manifold does not list `sub`; what made the listing fail, if it failed."""
        listing = await self._manifolds.for_call(function, sub)
        if sub in listing.names:
            return
        if listing.error is not None:
            raise listing.error
        raise unknown(f"{function.id}.{sub}")

    async def entries(self, world: World, caller: User, *, anew: bool = False) -> list[Entry]:
        """Return the entries of all models the caller may use, by function id, then in the manifold's own order;
        behind them the base models. `anew`: manifolds and upstreams are asked again first, if they answer in time.

        A manifold or an upstream that fails, or takes too long at first, is left out and logged.
        """
        view = self._of(world)
        usable = [function for function in view.pipes if may_use(function.settings, caller)]
        manifolds = [function for function in usable if function.manifest.manifold]
        listings, base = await asyncio.gather(
            self._manifolds.for_list(manifolds, anew=anew), self._upstreams.models(caller, anew=anew)
        )
        found: list[Entry] = []
        for function in usable:
            if not function.manifest.manifold:
                found.append(view.single(function))
                continue
            listing = listings.get(function.id)
            found += [view.sub(function, sub, listing.names) for sub in listing.names] if listing else ()
        taken = {entry["id"] for entry in found}
        found += [view.base(one) for id, one in base.items() if id not in taken]
        hidden = view.hidden(caller)
        return [_without(entry, hidden) for entry in found] if hidden else found

    def pipeline_filters(self, world: World, caller: User) -> list[Entry]:
        """Return the entries of pipelines that are filters and that the caller may use. One whose valves do not tell
        which models it is for is left out and logged."""
        usable = [function for function in self._of(world).filters if may_use(function.settings, caller)]
        return [entry for entry in map(self._of(world).filter, usable) if entry is not None]

    def list_anew(self) -> None:
        """Have all manifolds asked again."""
        self._manifolds.forget()

    async def entry(self, world: World, model: str, caller: User) -> Entry:
        """Return one model's entry. Raises UnknownModel."""
        try:
            function, sub = self.resolve(world, model, caller)
        except UnknownModel:
            found = await self._upstreams.find(model, caller)
            if found is None:
                raise
            return self._of(world).base(found)
        if sub is not None:
            await self.confirm(function, sub)
        return self.described(world, function, sub)

    def described(self, world: World, function: LiveFunction, sub: str | None) -> Entry:
        """Return the entry of a model that was resolved, without asking its worker."""
        view = self._of(world)
        if sub is None:
            return view.single(function)
        return view.sub(function, sub, self._manifolds.names(function))

    def described_base(self, world: World, found: Found) -> Entry:
        """Return the entry of a base model."""
        return self._of(world).base(found)

    async def sub_models(self, function: LiveFunction) -> list[str]:
        """Return the ids of a manifold's models, after PATIENCE_S at most; none when it cannot be listed."""
        listing = (await self._manifolds.for_list([function])).get(function.id)
        id = self._pipelines.id_of(function)
        return [f"{id}.{sub}" for sub in listing.names] if listing else []

    def keep(self, world: World) -> None:
        """Forget what belongs to functions that are not in `world`, the newest."""
        self._manifolds.keep(world)
        if self._view is not None and self._view.world is not world:
            self._view = None

    async def close(self) -> None:
        """End the listings under way."""
        await self._manifolds.close()

    def _of(self, world: World) -> _View:
        if self._view is None or self._view.world is not world:
            self._view = _View(world, self.pipelines(world))
        return self._view


def unknown(model: str) -> UnknownModel:
    """Return the error for a model that is not there, or not for the caller."""
    return UnknownModel(f"the model {model[:200]!r} does not exist")


def callable_by(function: LiveFunction, caller: User) -> bool:
    """Whether the function is active, answers chats, and the caller may use it."""
    return function.active and is_model(function) and may_use(function.settings, caller)


# ---- entries ---------------------------------------------------------------------------------------------


class _View:
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


def _without(entry: Entry, hidden: frozenset[str]) -> Entry:
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


# ---- manifolds -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Known:
    """A manifold's last listing, and the task that fetches the next."""

    #: The listing holds for this revision with these valves.
    revision: str
    valves: Mapping[str, Any]
    listing: Listing | None = None
    task: asyncio.Task[Listing] | None = None

    def holds_for(self, function: LiveFunction) -> bool:
        return self.revision == function.revision and self.valves == function.settings.valves


_NO_NAMES: Mapping[str, str] = MappingProxyType({})


class _Manifolds:
    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._known: dict[str, _Known] = {}
        self._tasks: set[asyncio.Task[Listing]] = set()
        self._room = asyncio.Semaphore(LISTINGS_AT_ONCE)

    def names(self, function: LiveFunction) -> Mapping[str, str]:
        """Return the names of the last listing, none when there was none."""
        listing = self._of(function).listing
        return listing.names if listing else _NO_NAMES

    def keep(self, world: World) -> None:
        """Forget the listings of manifolds that are not in `world`."""
        self._known = {id: known for id, known in self._known.items() if FunctionId(id) in world.functions}

    def forget(self) -> None:
        """Ask again from here on; what is under way still answers those who wait for it."""
        self._known.clear()

    async def for_call(self, function: LiveFunction, sub: str) -> Listing:
        """Return a listing that decides whether `sub` exists."""
        known = self._of(function)
        listing = known.listing
        if listing is not None and sub in listing.names:
            if listing.age_s() > FRESH_S:
                self._fetch(function, known)
            return listing
        if listing is not None and listing.age_s() < BELIEVED_S:
            return listing
        return await asyncio.shield(self._fetch(function, known))

    async def for_list(self, functions: list[LiveFunction], *, anew: bool = False) -> dict[str, Listing]:
        """Return what is known of each, after waiting up to PATIENCE_S for those never listed, with `anew` for all."""
        first = []
        for function in functions:
            known = self._of(function)
            listing = known.listing
            fresh_s = ANEW_S if anew else BELIEVED_S if listing is not None and listing.error else FRESH_S
            if listing is None or listing.age_s() > fresh_s:
                task = self._fetch(function, known)
                if listing is None or anew:
                    first.append(task)
        if first:
            await asyncio.wait(first, timeout=PATIENCE_S)
        found = {function.id: self._of(function).listing for function in functions}
        for id in (id for id, listing in found.items() if listing is None):
            log.warning("models_not_listed_yet", function=id, waited_s=PATIENCE_S)
        return {id: listing for id, listing in found.items() if listing is not None}

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _of(self, function: LiveFunction) -> _Known:
        known = self._known.get(function.id)
        if known is None or not known.holds_for(function):
            known = self._known[function.id] = _Known(function.revision, function.settings.valves)
        return known

    def _fetch(self, function: LiveFunction, known: _Known) -> asyncio.Task[Listing]:
        if known.task is None:
            known.task = asyncio.create_task(self._listed(function, known), name=f"models of {function.id}")
            self._tasks.add(known.task)
            known.task.add_done_callback(self._tasks.discard)
        return known.task

    async def _listed(self, function: LiveFunction, known: _Known) -> Listing:
        try:
            async with self._room:
                listing = await self._ask(function)
            if listing.error is not None and known.listing is not None:
                # What was listed before goes on being listed.
                listing = Listing(known.listing.names, listing.error, listing.at)
            known.listing = listing
            return listing
        finally:
            known.task = None

    async def _ask(self, function: LiveFunction) -> Listing:
        try:
            async with asyncio.timeout(LISTING_LIMIT_S):
                async with self._executor.call(function, Invocation(handler="pipes")) as call:
                    reply = await call.first()
            names = _names(function, getattr(reply, "data", b""))
            return Listing(names, at=time.monotonic())
        except TimeoutError:
            error: FnsyncError = TimeLimit(f"pipes() of {function.id} took longer than {LISTING_LIMIT_S:g} s")
        except FnsyncError as exc:
            error = exc
        log.warning("models_not_listed", function=function.id, revision=function.revision[:8], error=str(error))
        return Listing(error=error, at=time.monotonic())


def _names(function: LiveFunction, data: bytes) -> dict[str, str]:
    """Read the JSON list of `pipes`: a bad entry loses itself only, of equal ids the first stays."""
    items = msgspec.json.decode(data) if data else None
    if not isinstance(items, list):
        log.warning("models_not_listed", function=function.id, error=f"pipes gave {type(items).__name__}, not a list")
        return {}
    names: dict[str, str] = {}
    for item in items:
        id, name = (item.get("id"), item.get("name")) if isinstance(item, dict) else (None, None)
        if isinstance(id, str) and id and isinstance(name, str) and id not in names:
            names[id] = name
        else:
            log.warning("model_left_out", function=function.id, entry=repr(item)[:200])
    return names
