"""Actions: buttons under an answer, called with the chat that it is in.

action, invocation = await actions.prepare(turn, "<function>.<sub-action>", body)
async with calls.call(action, invocation) as running:
    …            # None instead of an invocation: there is nothing to call
"""

from __future__ import annotations

from fnsync.chat.access import may_use
from fnsync.chat.entries import Entry
from fnsync.chat.filters import concerns
from fnsync.chat.models import Models
from fnsync.chat.previewing import AT, Previewing
from fnsync.chat.rates import Rates
from fnsync.chat.turns import Calls, Turn
from fnsync.errors import Unauthorized, UnknownFunction
from fnsync.model import FunctionId, Kind, LiveFunction
from fnsync.runtime.call import Invocation

HANDLER = "action"


class Actions:
    """Finds actions, and makes their calls. One per server."""

    def __init__(self, calls: Calls, models: Models, rates: Rates, previewing: Previewing) -> None:
        self._calls = calls
        self._previewing = previewing
        self._models = models
        self._rates = rates

    async def prepare(self, turn: Turn, id: str, body: bytes) -> tuple[LiveFunction, Invocation | None]:
        """Return the action and its call with `body`, None where its class has no method to call.

        `id`: the function's, or with a dot behind it and whatever the function calls its sub-action; perhaps as of a
        ref. Raises UnknownFunction, UnknownModel, RateLimited, Unauthorized for an action that is not active, or that
        the model does not show to this user, and what `Previewing.enter` raises.
        """
        caller = turn.caller
        id = await self._turn_to(turn, id)
        name, _, sub = id.partition(".")
        function = turn.world.functions.get(FunctionId(name))
        if function is None or function.kind is not Kind.ACTION or _is_hidden(function, turn):
            raise UnknownFunction(f"the action {name[:200]!r} does not exist")
        if not function.active:
            raise Unauthorized(f"the action {name} is switched off", hint="set active: true in its settings file")
        entry = await self._entry(turn)
        if not may_use(function.settings, caller):
            raise Unauthorized(f"you may not use the action {name}")
        if not caller.is_admin and not concerns(function.settings, turn.request.model):
            raise Unauthorized(f"the action {name} is not one of the model {turn.request.model}")
        if turn.asked is not None:
            body = turn.request.body
        turn.quota = self._rates.of_function(function, caller, turn.quota)
        turn.model = lambda: entry
        turn.called_as = sub or None
        if function.manifest.handler(HANDLER) is None:
            return function, None
        return function, await self._calls.invocation(turn, function, HANDLER, body)

    async def _turn_to(self, turn: Turn, id: str) -> str:
        """The id without its ref, if it has one: the turn's world then has the action as of that."""
        if AT not in id or self._declares(turn, id):
            return id
        asked = self._previewing.asked(id, turn.caller)
        if asked is None:
            raise UnknownFunction(f"the action {id[:200]!r} does not exist")
        turn.world = (await self._previewing.enter(turn.world, asked, turn.caller)).world
        return asked.name

    @staticmethod
    def _declares(turn: Turn, id: str) -> bool:
        """Whether an action that is live has a sub-action of just that id."""
        name, _, sub = id.partition(".")
        function = turn.world.functions.get(FunctionId(name))
        return function is not None and any(item.get("id") == sub for item in function.manifest.actions)

    async def _entry(self, turn: Turn) -> Entry:
        """The entry of the chat's model, which may have answered as of a ref. Raises UnknownModel, and what
        `Previewing.turn_to` raises."""
        asked = await self._previewing.asked_model(turn.world, turn.request.model, turn.caller)
        if asked is not None:
            await self._previewing.turn_to(turn, asked)
        return await self._models.entry(turn.world, turn.request.model, turn.caller)


def _is_hidden(function: LiveFunction, turn: Turn) -> bool:
    """Whether the function is somebody else's own, of which nothing is told."""
    return function.settings.owner is not None and not may_use(function.settings, turn.caller)
