"""What a call's handler is given: the first argument, what the server says of the call, what it speaks to the client
with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from fnsync.runtime import wire
from fnsync.worker import arguments, lifecycle, loader, stages
from fnsync.worker.calls import ActiveCall
from fnsync.worker.talking import Talk
from fnsync.worker.tools import client_tools


class Injection:
    """Makes the arguments of calls."""

    def __init__(self, calls: Mapping[int, ActiveCall], speech: Talk) -> None:
        """`calls`: those under way, by id; live."""
        self._calls = calls
        self._speech = speech
        self._turns = stages.Turns()
        self._signatures: dict[str, arguments.Signature] = {}
        #: Whose handlers are called, once it is loaded.
        self.function: loader.Function | None = None

    def for_call(self, frame: wire.Call, handler: Any) -> dict[str, Any]:
        """The arguments by name, the first one too. Raises what function code raises, and Fault."""
        if frame.handler == "pipes":
            return {}  # it is no part of a request: what it names keeps its default (function-contract §2.1)
        if self._signature(frame, handler).is_plain:
            values: dict[str, Any] = {}
        else:
            values = self._reserved(frame, handler)
            values |= self._talk(frame, handler, values)
        if frame.body:
            body = msgspec.json.decode(frame.body)
            if frame.handler == "event":
                return values | lifecycle.values(self._signature(frame, handler), body, frame.context)
            values["event" if frame.handler == "stream" else "body"] = body
            if frame.turn:
                self._share_metadata(frame, body, values)
        return values

    def for_stream(self, frame: wire.Call, handler: Any) -> dict[str, Any]:
        """The arguments of a stream handler but for the event: the same objects for all events of an answer."""
        values = self._turns.values(frame.turn, lambda: self._reserved(frame, handler))
        return values | self._talk(frame, handler, values)

    def _share_metadata(self, frame: wire.Call, body: Any, values: dict[str, Any]) -> None:
        """Have `__metadata__` be the object that the body holds, or that the stream handler was given."""
        found = body.get("metadata") if isinstance(body, dict) else None
        if (call := self._calls.get(frame.id)) is not None:
            call.metadata = found
        shared = found or self._turns.metadata(frame.turn)
        if not shared:
            return
        if "__metadata__" in values:
            values["__metadata__"] = shared
        if (request := values.get("__request__")) is not None:
            request.state.metadata = shared

    def _signature(self, frame: wire.Call, handler: Any) -> arguments.Signature:
        signature = self._signatures.get(frame.handler)
        if signature is None:
            signature = self._signatures[frame.handler] = arguments.Signature(handler)
        return signature

    def _reserved(self, frame: wire.Call, handler: Any) -> dict[str, Any]:
        """What the server says of the call."""
        names = self._signature(frame, handler).reserved
        if "__request__" not in names or "__metadata__" in names:
            values = arguments.reserved_values(names, frame.context)
            metadata = values.get("__metadata__")
        else:
            values = arguments.reserved_values((*names, "__metadata__"), frame.context)
            metadata = values.pop("__metadata__")
        if "__user__" in values:
            values["__user__"] = self._user(values["__user__"], frame)
        if isinstance(values.get("__request__"), dict):
            values["__request__"] = arguments.make_request(values["__request__"], metadata)
        return values

    def _talk(self, frame: wire.Call, handler: Any, reserved: dict[str, Any]) -> dict[str, Any]:
        """What the handler speaks to the client with; it is of this call alone."""
        signature = self._signature(frame, handler)
        values: dict[str, Any] = {}
        if "__tools__" in reserved:
            values["__tools__"] = client_tools(reserved["__tools__"], self._speech.event_call(frame.id))
        if signature.emitter:
            values["__event_emitter__"] = self._speech.emitter(frame.id)
        if signature.event_call:
            values["__event_call__"] = self._speech.event_call(frame.id)
        return values

    def _user(self, user: Any, frame: wire.Call) -> dict[str, Any]:
        if self.function is not None and self.function.kind == "pipeline":
            values = dict(user or {})  # what the client sent of them, and no more
        else:
            values = arguments.user_of(user)
        # A pipe without them cannot answer, and says why; what surrounds a chat must not end it for want of a value.
        needed = frame.handler == "pipe"
        valves = self.function.user_valves(frame.user_valves, needed=needed) if self.function else None
        if valves is not None:
            values["valves"] = valves
        return values
