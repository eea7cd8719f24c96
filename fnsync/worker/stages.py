"""What surrounds a chat: filters' handlers are called with bodies that go from one filter to the next.

A body carries the request's metadata inside, and `__metadata__` is that same object, as in the peer: what a filter adds
to either goes on to the filters and the pipe behind it (function-contract §3.2).
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from fnsync.runtime import wire
from fnsync.worker import results
from fnsync.worker.faults import Fault

#: Handlers whose result is the body from there on.
BODY_HANDLERS = ("inlet", "request")
#: How many streams' arguments are kept.
MOST_TURNS = 256

_decode_events = msgspec.json.Decoder(list[Any]).decode


class Turns:
    """The arguments that the calls of one request share: a stream handler is given the same objects for each event."""

    def __init__(self) -> None:
        self._values: OrderedDict[int, dict[str, Any]] = OrderedDict()

    def values(self, turn: int, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The arguments of a request's stream handler, made by the first call."""
        values = self._values.get(turn)
        if values is None:
            values = self._values[turn] = make()
            if len(self._values) > MOST_TURNS:
                self._values.popitem(last=False)
        return values

    def metadata(self, turn: int) -> Any:
        """`__metadata__` as the request's stream handler left it; None: there is none."""
        return self._values.get(turn, {}).get("__metadata__")


def body_reply(call: int, handler: str, value: Any, metadata: Any) -> wire.Reply:
    """The Reply to a handler that gives the next body; `metadata`: what the body had. Raises Fault."""
    if value is None:
        print(f"`{handler}` returned nothing: the body stays as it was", file=sys.stderr)
        return wire.Reply(call, "none")
    if not isinstance(value, dict):
        raise Fault(
            "unrenderable",
            f"`{handler}` returned a {type(value).__name__}, which is no body",
            hint="return the body, a dict",
        )
    if metadata is not None and "metadata" not in value:
        value["metadata"] = metadata
    try:
        return wire.Reply(call, "json", results.to_json(value))
    except Fault:
        if not isinstance(value.get("metadata"), dict):
            raise
        value["metadata"] = _writable(value["metadata"])
        return wire.Reply(call, "json", results.to_json(value))


def _writable(metadata: dict[Any, Any]) -> dict[Any, Any]:
    """The metadata without values that only exist in this process."""
    kept = {}
    for key, value in metadata.items():
        try:
            results.to_json({key: value})
        except Fault as fault:
            print(f"metadata[{key!r}] is not passed on: {fault}", file=sys.stderr)
        else:
            kept[key] = value
    return kept


class EventBatch:
    """Events of a stream that go through a `stream` handler, one after the other."""

    def __init__(self, frame: wire.Call, handler: Any, values: dict[str, Any]) -> None:
        self._events = _decode_events(frame.body)
        self._handler = handler
        self._values = values
        self._done: list[msgspec.Raw] = []

    def run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call a sync handler from its thread. Raises what it raises."""
        for event in self._events:
            value = self._handler(event=event, **self._values)
            if inspect.isawaitable(value):
                value = asyncio.run_coroutine_threadsafe(_awaited(value), loop).result()
            self._add(value)

    async def run_async(self) -> None:
        """Call an async handler on the loop. Raises what it raises."""
        for event in self._events:
            self._add(await _awaited(self._handler(event=event, **self._values)))

    def _add(self, value: Any) -> None:
        if value and not isinstance(value, dict) and not results.is_model(value):
            raise Fault(
                "unrenderable",
                f"`stream` returned a {type(value).__name__}, which is no event",
                hint="return the event, a dict; None leaves it out",
            )
        self._done.append(msgspec.Raw(results.to_json(value) if value else b"null"))

    def reply(self, call: int, failure: wire.Failure | None) -> wire.Reply:
        """What came out; with the failure that ended it early."""
        filtered = wire.Filtered(self._done, failure)
        return wire.Reply(call, "json", msgspec.json.encode(filtered))


async def _awaited(value: Any) -> Any:
    while inspect.isawaitable(value):
        value = await value
    return value
