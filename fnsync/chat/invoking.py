"""Calls of any handler of any function, by name: for who tries a function, and for services of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from fnsync.chat.requests import NO_KEYS, ChatRequest
from fnsync.chat.turns import Calls, Turn
from fnsync.errors import Invalid
from fnsync.model import Kind, LiveFunction, User
from fnsync.registry import World
from fnsync.runtime.call import Invocation

#: What is called of a function when nothing is named.
DEFAULT_HANDLERS: Mapping[Kind, str] = {
    Kind.PIPE: "pipe",
    Kind.FILTER: "inlet",
    Kind.ACTION: "action",
    Kind.EVENT: "event",
    Kind.PIPELINE: "pipe",
}


async def invocation(
    calls: Calls,
    world: World,
    function: LiveFunction,
    handler: str | None,
    body: Any,
    caller: User,
    http: Callable[[], Mapping[str, Any]],
) -> Invocation:
    """A call of `handler` (None: the one of the function's kind) with `body` as its first argument, if there is one.

    Raises Invalid for a handler that the function does not have.
    """
    name = handler or DEFAULT_HANDLERS[function.kind]
    if function.manifest.handler(name) is None:
        known = ", ".join(found.name for found in function.manifest.handlers) or "none"
        raise Invalid(f"{function.id} has no handler {name[:100]!r}; it has: {known}", param="handler")
    data = b"" if body is None else msgspec.json.encode(body)
    request = ChatRequest(function.id, False, data or b"{}", NO_KEYS)
    turn = Turn(world, caller, request, http, model=lambda: {"id": function.id, "name": function.name})
    return await calls.invocation(turn, function, name, data)
