"""The models that pipes are: finding the one a request names, and listing them.

A pipe is one model; a manifold is as many as its `pipes` lists. Listings of manifolds come from their workers, so
they are kept: an answer older than `FRESH_S` is used once more while a new one is fetched. Finding a model looks at
two dictionaries, however many functions there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fnsync.chat.access import may_use
from fnsync.chat.entries import Entry, View, without
from fnsync.chat.manifolds import Manifolds
from fnsync.chat.pipelines import Pipelines, is_model
from fnsync.chat.upstreams import Found, Upstreams
from fnsync.chat.worlds import PerWorld
from fnsync.errors import UnknownModel
from fnsync.model import FunctionId, LiveFunction, User
from fnsync.registry import World
from fnsync.runtime.executor import Executor


class Models:
    """Finds and lists models. One per server; safe for one event loop."""

    def __init__(self, executor: Executor, upstreams: Upstreams) -> None:
        self._manifolds = Manifolds(executor)
        self._upstreams = upstreams
        self._pipelines = PerWorld(Pipelines)
        self._views = PerWorld(lambda world: View(world, self.pipelines(world)))

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
        return self._pipelines.of(world)

    async def lists(self, world: World, model: str, caller: User) -> bool:
        """Whether there is a model of just that id, as far as was told before."""
        try:
            function, sub = self.resolve(world, model, caller)
        except UnknownModel:
            return await self._upstreams.listed(model, caller) is not None
        return sub is None or sub in self._manifolds.names(function)

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
        return [without(entry, hidden) for entry in found] if hidden else found

    def pipeline_filters(self, world: World, caller: User) -> list[Entry]:
        """Return the entries of pipelines that are filters and that the caller may use. One whose valves do not tell
        which models it is for is left out and logged."""
        view = self._of(world)
        usable = [function for function in view.filters if may_use(function.settings, caller)]
        return [entry for entry in map(view.filter, usable) if entry is not None]

    async def names(self, function: LiveFunction) -> Mapping[str, str]:
        """Return the sub ids of a manifold and their names, after PATIENCE_S at most; none when it cannot be listed."""
        listing = (await self._manifolds.for_list([function])).get(function.id)
        return listing.names if listing else {}

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

    async def sub_models(self, world: World, function: LiveFunction) -> list[str]:
        """Return the ids of a manifold's models, as in `names`."""
        id = self.pipelines(world).id_of(function)
        return [f"{id}.{sub}" for sub in await self.names(function)]

    def keep(self, world: World) -> None:
        """Forget what belongs to functions that are not in `world`, the newest."""
        self._manifolds.keep(world)
        self._pipelines.keep(world)
        self._views.keep(world)

    async def close(self) -> None:
        """End the listings under way."""
        await self._manifolds.close()

    def _of(self, world: World) -> View:
        return self._views.of(world)


def unknown(model: str) -> UnknownModel:
    """Return the error for a model that is not there, or not for the caller."""
    return UnknownModel(f"the model {model[:200]!r} does not exist")


def callable_by(function: LiveFunction, caller: User) -> bool:
    """Whether the function is active, answers chats, and the caller may use it."""
    return function.active and is_model(function) and may_use(function.settings, caller)
