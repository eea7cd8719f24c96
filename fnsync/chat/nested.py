"""Completions that a function asks for during its own call: the pipeline once more, for the same caller and world."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from fnsync.chat import requests
from fnsync.chat.answers import Plain
from fnsync.chat.turns import Turn
from fnsync.errors import Invalid, Unauthorized
from fnsync.model import FunctionId
from fnsync.runtime import wire
from fnsync.runtime.hosting import Flowing, Told

if TYPE_CHECKING:
    from fnsync.chat.host import Desk

#: How deep calls may be nested.
MOST_DEPTH = 8
#: Bodies above this are decoded off the loop.
LARGE_BYTES = 1024 * 1024


class Ask(msgspec.Struct, forbid_unknown_fields=True):
    """Asks for a completion."""

    #: A request's body, JSON.
    body: msgspec.Raw
    #: Whom the function says that it asks for.
    user: str | None = None
    #: What it adds to `__metadata__`.
    metadata: dict[str, Any] | None = None
    #: Whether filters run, as for a request over HTTP.
    filters: bool = False


@asynccontextmanager
async def completion(desk: Desk, outer: Turn, function: FunctionId, ask: Ask) -> AsyncIterator[Told | Flowing]:
    """The answer of the model that `function` asks for, for the time of the block. Raises as a request over HTTP
    does."""
    caller = outer.caller
    if ask.user is not None and ask.user != caller.id:
        raise Unauthorized("a function can ask for completions in the name of its caller only")
    if outer.depth >= MOST_DEPTH:
        raise Invalid(
            f"completions are nested deeper than {MOST_DEPTH} calls",
            hint="a function that asks for a completion by itself, or by one that asks it, never ends",
        )
    body = bytes(ask.body)
    request = await asyncio.to_thread(requests.parse, body) if len(body) > LARGE_BYTES else requests.parse(body)
    turn = outer.inner(request, _metadata(outer, request, ask.metadata), function)
    prepared = await desk.completions.prepare(
        turn, describe=lambda exc: desk.describe(exc, caller.is_admin), filtered=ask.filters
    )
    is_text = prepared.function is not None
    async with prepared as answer:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
        head = wire.Head(answer.status, answer.media_type, headers)
        yield Told(answer.body, b"", head) if isinstance(answer, Plain) else Flowing(head, answer.parts, is_text)


def _metadata(outer: Turn, request: requests.ChatRequest, own: Mapping[str, Any] | None) -> msgspec.Raw:
    """That of the outer call, with what the function adds."""
    merged = msgspec.json.decode(outer.metadata) | dict(own or {}) | {"model_id": request.model}
    return msgspec.Raw(msgspec.json.encode(merged))
