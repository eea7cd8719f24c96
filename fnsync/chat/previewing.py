"""Requests for functions as of a ref: `translate@feature-x`, `text.upper@pr/12`.

What has just that id goes first: base models may have an `@` in theirs. Who may not preview is told no more than of
any model that does not exist.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from fnsync.chat import requests
from fnsync.chat.access import may_use
from fnsync.chat.models import Models
from fnsync.chat.pipelines import is_model
from fnsync.chat.turns import Turn
from fnsync.errors import UnknownModel
from fnsync.model import FunctionId, LiveFunction, User
from fnsync.previews.previews import Entered, Previews
from fnsync.previews.reading import unknown
from fnsync.registry import World

AT = "@"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for, and as of when."""

    name: str
    ref: str

    @property
    def id(self) -> FunctionId:
        """The function, if that is what it goes by."""
        return FunctionId(self.name.partition(".")[0])


class Previewing:
    """Who may preview, and what they get. One per server."""

    def __init__(self, models: Models, previews: Previews, roles: Collection[str]) -> None:
        """`roles`: those that may, besides admins."""
        self.previews = previews
        self._models = models
        self._roles = frozenset(roles)

    def may(self, caller: User) -> bool:
        """Whether the caller may call what is in no live revision."""
        return caller.is_admin or caller.role in self._roles

    def asked(self, text: str, caller: User) -> Asked | None:
        """What a text asks for; None: it says no ref, or the caller may not."""
        if AT not in text or not self.may(caller):
            return None
        name, _, ref = text.partition(AT)
        return Asked(name, ref) if name and ref else None

    async def asked_model(self, world: World, model: str, caller: User) -> Asked | None:
        """The same for the name of a model; None also where there is a model of just that name."""
        asked = self.asked(model, caller)
        return None if asked is None or await self._models.lists(world, model, caller) else asked

    async def enter(self, world: World, asked: Asked, caller: User) -> Entered:
        """The function as of the ref, and the world with it. Raises UnknownFunction, also where the caller may not use
        it, be it live or there; and what `Previews.enter` raises."""
        live, _ = self._models.pipelines(world).behind(asked.name)
        live = live or world.functions.get(asked.id)
        if live is not None and not may_use(live.settings, caller):
            raise unknown(asked.id, asked.ref)
        entered = await self.previews.enter(world, live.id if live is not None else asked.id, asked.ref)
        if not may_use(entered.function.settings, caller):
            raise unknown(asked.id, asked.ref)
        return entered

    async def turn_to(self, turn: Turn, asked: Asked) -> LiveFunction:
        """Have the turn's request answered by a model as of a ref; for all that it calls the model goes by its own id.

        Raises as `enter`, and UnknownModel for what is no model.
        """
        entered = await self.enter(turn.world, asked, turn.caller)
        if not is_model(entered.function):
            raise UnknownModel(f"{entered.function.id} at {asked.ref!r} is no model, but a {entered.function.kind}")
        request = turn.request
        turn.asked = (request.model, asked.name)
        turn.world = entered.world
        turn.request = replace(request, model=asked.name, body=requests.renamed(request.body, asked.name))
        return entered.function
