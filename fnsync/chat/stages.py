"""The stages of a chat that filters take part in: each filter is called once per stage, in order.

What goes wrong in a stage (design.md §7, function-contract §3.4): an exception in `inlet` or `request` ends the
request, and one in `stream` the stream; after one in `outlet` the answer goes out as it is, unless the filter is
required.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import structlog

from fnsync.chat import requests
from fnsync.chat.filters import Chain
from fnsync.chat.turns import Calls, Turn
from fnsync.chat.unfiltered import Unfiltered
from fnsync.errors import FilterRefused, FnsyncError, FunctionRaised, Unrenderable
from fnsync.model import LiveFunction
from fnsync.runtime import wire
from fnsync.runtime.call import Invocation, error_of

#: Statuses of HTTP exceptions with which a filter may refuse a request.
REFUSALS = range(400, 500)
#: Reserved arguments that are inside the body already.
_IN_BODY = frozenset({"__metadata__"})

log = structlog.get_logger(__name__)

_decode_filtered = msgspec.json.Decoder(wire.Filtered).decode


class Stages:
    """One request's way through its filters."""

    def __init__(self, calls: Calls, chain: Chain, turn: Turn, unfiltered: Unfiltered) -> None:
        self._calls = calls
        self._chain = chain
        self._turn = turn
        self._unfiltered = unfiltered
        #: The filter at work, or the one that failed.
        self.at: LiveFunction | None = None
        self._streams: dict[str, Invocation] = {}

    # ---- before the model ----

    async def before(self) -> None:
        """Have `inlet` and `request` change the turn's request. Raises FilterRefused, and what calls raise."""
        turn, chain = self._turn, self._chain
        if not chain.changes_body:
            return
        body = await self._through("inlet", requests.for_inlet(turn.request, turn.metadata))
        turn.request, turn.metadata = requests.after_inlet(
            body, turn.request, turn.metadata, drop_files=chain.handles_files
        )
        if chain.stage("request"):
            body = await self._through("request", requests.with_metadata(turn.request.body, turn.metadata))
            turn.request, turn.metadata = requests.after_request(body, turn.request, turn.metadata)

    async def _through(self, stage: str, body: bytes) -> bytes:
        """The body behind all filters of a stage. Raises Unrenderable for one that no model could answer; it names the
        filter that made it so."""
        made: list[tuple[LiveFunction, bytes]] = []
        for function in self._chain.stage(stage):
            body = await self._body(function, stage, body)
            made.append((function, body))
        # The next filter may mend what one has left, so only the last body counts.
        if made and requests.what_is_missing(body) is not None:
            for function, body in made:
                if (missing := requests.what_is_missing(body)) is not None:
                    raise self.fault(function, f"`{stage}` left no body that a model could answer: {missing}")
        return body

    async def _body(self, function: LiveFunction, stage: str, body: bytes) -> bytes:
        """The body that a filter makes of a body."""
        try:
            reply = await self._reply(function, stage, body, leave=_IN_BODY)
        except FunctionRaised as exc:
            status = exc.http_status if exc.http_status in REFUSALS else None
            raise FilterRefused(function.id, exc.message, status, exc.traceback) from exc
        if reply.kind == "json":
            return reply.data
        if function.settings.required:
            raise self.fault(function, f"`{stage}` returned nothing; it must return the body")
        return body  # its log says so

    async def _reply(
        self, function: LiveFunction, stage: str, body: bytes, *, leave: frozenset[str] = frozenset()
    ) -> wire.Reply:
        invocation = await self._calls.invocation(self._turn, function, stage, body, leave=leave, staged=True)
        return await self._outcome(function, stage, invocation)

    async def _outcome(self, function: LiveFunction, stage: str, invocation: Invocation) -> wire.Reply:
        self.at = function
        try:
            async with self._calls.call(function, invocation) as running:
                first = await running.first()
        except FnsyncError as exc:
            exc.filter = function.id
            raise
        self.at = None
        if isinstance(first, wire.Reply) and first.kind in ("json", "none"):
            return first
        raise self.fault(function, f"`{stage}` gave a response, where a body is expected")

    # ---- the answer, as it is made ----

    async def events(self, events: list[bytes]) -> tuple[list[bytes | None], FnsyncError | None]:
        """What `stream` makes of events that came together, None where one is left out; and the error where a filter
        failed: then all from there on are left out."""
        places, made = list(range(len(events))), list(events)
        error: FnsyncError | None = None
        for function in self._chain.stage("stream"):
            if not made:
                break
            filtered = await self._filtered(function, made)
            if filtered.failure is not None:
                self.at, error = function, error_of(function.id, filtered.failure)
                error.filter = function.id
            elif len(filtered.events) != len(made):
                raise self.fault(function, "its worker lost events of the stream")
            passed = zip(places, map(bytes, filtered.events), strict=False)
            kept = [(place, event) for place, event in passed if event != b"null"]
            places, made = [place for place, _ in kept], [event for _, event in kept]
        found = dict(zip(places, made, strict=True))
        return [found.get(place) for place in range(len(events))], error

    async def _filtered(self, function: LiveFunction, events: list[bytes]) -> wire.Filtered:
        body = b"[" + b",".join(events) + b"]"
        known = self._streams.get(function.id)
        if known is None:
            # Arguments are the same for all events of an answer, so they are written once.
            known = await self._calls.invocation(self._turn, function, "stream", b"", staged=True)
            self._streams[function.id] = known = replace(known, context=msgspec.json.encode(known.context))
        reply = await self._outcome(function, "stream", replace(known, body=body))
        try:
            return _decode_filtered(reply.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise self.fault(function, f"its events cannot be read: {exc}") from exc

    # ---- the answer, when it is complete ----

    async def after(self, body: Mapping[str, Any], *, strict: bool = False) -> dict[str, Any]:
        """What `outlet` makes of a whole chat. Raises what a required filter fails with; `strict`: what any does."""
        made = dict(body)
        for function in self._chain.stage("outlet"):
            try:
                reply = await self._reply(function, "outlet", msgspec.json.encode(made))
                if reply.kind == "none":
                    continue
                try:
                    value = msgspec.json.decode(reply.data)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
                    raise self.fault(function, f"`outlet` gave a body that cannot be read: {exc}") from exc
                if not isinstance(value, dict):
                    raise self.fault(function, f"`outlet` returned a {type(value).__name__}, which is no body")
                made = value
            except FnsyncError as exc:
                exc.filter = function.id
                if strict or function.settings.required:
                    raise
                self.at = None
                log.warning("outlet_failed", function=function.id, error=exc.message)
                self._unfiltered.note(function.id, function.revision, exc.message)
        return made

    def fault(self, function: LiveFunction, said: str) -> FnsyncError:
        """The error for what a filter gave."""
        self.at = function
        error = Unrenderable(function.id, f"{function.id}: {said}")
        error.filter = function.id
        return error
