"""One request while it runs, and the calls that it makes: all have its caller, its world and its ids in common.

turn = Turn(world, caller, request, http)
invocation = await calls.invocation(turn, function, "pipe", request.body, stream=request.stream)
async with calls.call(function, invocation) as running:
    …
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from fnsync.chat import context as contexts
from fnsync.chat.listening import TurnListener
from fnsync.chat.requests import ChatRequest
from fnsync.model import FunctionId, LiveFunction, Quota, User
from fnsync.registry import World
from fnsync.runtime.call import Invocation
from fnsync.runtime.executor import CallContext, Executor
from fnsync.runtime.hosting import Host
from fnsync.uservalves import UserValves

_numbers = itertools.count(1)
#: How many plans are kept before those of previews push all out.
MOST_PLANS = 10_000


def _no_model() -> Mapping[str, Any]:
    return {}


@dataclass(slots=True)
class Turn:
    """What the calls of one request have in common. Filters change `request` and `metadata` on the way."""

    #: Everything live at the moment the request arrived; all its calls run revisions of it.
    world: World
    caller: User
    request: ChatRequest
    #: method, path, query, headers, client, base_url of the HTTP request.
    http: Callable[[], Mapping[str, Any]]
    #: Whether the client wants to see what functions emit.
    events: bool = False
    #: Where that goes, and what they ask.
    listener: TurnListener | None = None
    #: The user whom a chat server names in the body, for pipelines; None: it names nobody. Unset: it may not.
    named: Mapping[str, Any] | None | UnsetType = UNSET
    #: Whether the client itself calls the filters that are pipelines.
    filters_itself: bool = False
    #: The model's entry in the list.
    model: Callable[[], Mapping[str, Any]] = _no_model
    #: Tells it from other requests.
    number: int = field(default_factory=_numbers.__next__)
    #: The model as the client names it, where that says at which ref, and as the request does.
    asked: tuple[str, str] | None = None
    #: What `__id__` is, if not the function's id: an action's sub-action.
    called_as: str | None = None
    #: How many calls of functions this request is inside of.
    depth: int = 0
    #: Those functions: they wait for this request, each in a place among its calls.
    inside: frozenset[FunctionId] = frozenset()
    #: How it stands with the rate limits that hold for this request, if any do.
    quota: Quota | None = None
    #: `__metadata__` as JSON; made when first asked for.
    _metadata: msgspec.Raw | None = None

    @property
    def metadata(self) -> msgspec.Raw:
        """`__metadata__`, JSON."""
        if self._metadata is None:
            self._metadata = msgspec.Raw(msgspec.json.encode(contexts.metadata(self)))
        return self._metadata

    @metadata.setter
    def metadata(self, value: msgspec.Raw) -> None:
        self._metadata = value

    def shown(self, model: str) -> str:
        """The name of a model for the client."""
        return self.asked[0] if self.asked is not None and self.asked[1] == model else model

    def inner(self, request: ChatRequest, metadata: msgspec.Raw, function: FunctionId) -> Turn:
        """A request that a function makes during one of the calls: of the same caller, in the same world and chat."""
        return replace(
            self,
            request=request.within(self.request),
            events=False,
            model=_no_model,
            asked=None,
            number=next(_numbers),
            called_as=None,
            depth=self.depth + 1,
            inside=self.inside | {function},
            _metadata=metadata,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What is the same for all calls of one live function."""

    function: LiveFunction
    #: Handler -> the reserved arguments that it asks for, of those that the server gives.
    reserved: Mapping[str, tuple[str, ...]]
    has_user_valves: bool
    #: Which function, revision and commit answer: headers.
    identity: tuple[tuple[bytes, bytes], ...]


class Calls:
    """Makes the calls of functions. One per server."""

    def __init__(self, executor: Executor, user_valves: UserValves) -> None:
        self.executor = executor
        self._user_valves = user_valves
        #: Who answers what a function asks during a call; None: nobody.
        self.host: Callable[[Turn, LiveFunction], Host] | None = None
        self._plans: dict[str, Plan] = {}

    async def invocation(
        self,
        turn: Turn,
        function: LiveFunction,
        handler: str,
        body: bytes,
        *,
        stream: bool = False,
        staged: bool = False,
        leave: frozenset[str] = frozenset(),
    ) -> Invocation:
        """The call of a handler with `body`, JSON, as its first argument (empty: without one). `staged`: it is one of a
        filter that takes part in the request. `leave`: reserved arguments that the worker has from elsewhere.

        Raises StoreError where user valves cannot be had."""
        plan = self.plan(function)
        reserved = plan.reserved.get(handler, ())
        values: dict[str, Any] = {}
        if reserved:
            values = contexts.context([name for name in reserved if name not in leave], function, turn)
        own: Mapping[str, Any] = {}
        if plan.has_user_valves:
            own = await self._user_valves.for_call(function, turn.caller)
        turned = turn.number if staged else 0
        host = self.host(turn, function) if self.host is not None else None
        inside = function.id in turn.inside
        return Invocation(handler, body, stream, values, own, turn.events, turned, turn.listener, host, inside)

    def call(self, function: LiveFunction, invocation: Invocation) -> CallContext:
        """Call a handler, for the time of an `async with` block."""
        return self.executor.call(function, invocation)

    def plan(self, function: LiveFunction) -> Plan:
        """The function's plan, made anew when the function changed."""
        plan = self._plans.get(function.runs_as)
        if plan is None or plan.function is not function:
            reserved = {handler.name: contexts.reserved(handler) for handler in function.manifest.handlers}
            has_user_valves = function.manifest.user_valves_schema is not None
            plan = Plan(function, reserved, has_user_valves, identity(function))
            if function.preview is not None and len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            self._plans[function.runs_as] = plan
        return plan

    def keep(self, world: World) -> None:
        """Forget what belongs to functions that are not in `world`, the newest."""
        self._plans = {
            name: plan
            for name, plan in self._plans.items()
            if plan.function.preview is None and plan.function.id in world.functions
        }


def identity(function: LiveFunction) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers that say which function, revision and commit answer. Ids may be non-ASCII: escaped."""
    named = [("x-fnsync-function", function.id), ("x-fnsync-revision", function.revision)]
    if function.commit:
        named.append(("x-fnsync-commit", function.commit))
    return tuple((name.encode(), value.encode("ascii", "backslashreplace")) for name, value in named)
