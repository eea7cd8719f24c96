"""Where the events of one request's calls go: into its stream, or to the feeds of its chat."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import structlog

from fnsync.chat.events import Event, EventQueue, Hub, Place, Question, dropped_event, feed_frame, stream_frame
from fnsync.chat.requests import NO_KEYS, ChatRequest
from fnsync.model import User
from fnsync.runtime.asks import NOBODY_ANSWERS

log = structlog.get_logger(__name__)

#: Questions to people: clients are told when one is over, since it may be open in several windows.
DIALOGS = ("confirmation", "input")
OVER = "request:interaction:done"


class TurnListener:
    """The listener of one request's calls."""

    def __init__(
        self, hub: Hub, place: Place, message: str | None, stream: EventQueue | None, *, answers: bool = True
    ) -> None:
        """`stream`: what waits for the request's own stream; None: its client did not ask for events. `answers`:
        whether that client can answer what functions ask."""
        self.stream = stream
        self._answers = answers
        self._hub = hub
        self._place = place
        self._message = message

    @property
    def _open_stream(self) -> EventQueue | None:
        """The stream, as long as its client reads it: outlets may go on without it."""
        return self.stream if self.stream is not None and not self.stream.closed else None

    def emit(self, data: bytes) -> None:
        """Send an event. Never waits."""
        if self._open_stream is None and not self._hub.is_heard(self._place):
            return
        event = _event(data)
        if event is not None:
            self._send(event)

    async def ask(self, data: bytes) -> bytes:
        """Send an event and return the client's answer; an object with `error` when none comes."""
        event = _event(data)
        if event is None:
            return NOBODY_ANSWERS
        with self._hub.question(self._place) as question:
            is_dialog = event.get("type") in DIALOGS and isinstance(event.get("data"), dict)
            if is_dialog:
                event = {**event, "data": {**event["data"], "interaction_id": question.id}}
            if not self._put(event, question):
                return NOBODY_ANSWERS
            try:
                async with asyncio.timeout(self._hub.patience_s):
                    return await question.answer
            except TimeoutError:
                told = f"Event call timed out. No client answered within {self._hub.patience_s:g} s."
                return msgspec.json.encode({"error": told})
            finally:
                if is_dialog:
                    self._send({"type": OVER, "data": {"interaction_id": question.id}})

    def _put(self, event: Event, question: Question) -> bool:
        """Send a question; returns whether it has reached anybody."""
        stream = self._open_stream
        if stream is not None and self._answers:
            return stream.put(stream_frame(event, question.id))
        question.frame = feed_frame(self._place, self._message, event, question.id)
        return self._hub.publish(self._place, question.frame)

    def _send(self, event: Event) -> None:
        stream = self._open_stream
        if stream is not None:
            stream.put(stream_frame(event))
        else:
            self._hub.publish(self._place, feed_frame(self._place, self._message, event))


def listener_of(
    hub: Hub, caller: User, request: ChatRequest, *, events: bool = False, answers: bool = True
) -> TurnListener | None:
    """Return who listens to the calls of a request; None: nobody can. `events`: its client asked for them; `answers`:
    and can answer what functions ask."""
    if not events and request.private is NO_KEYS:
        return None
    chat, message = request.value("chat_id"), request.value("id")
    in_stream = events and request.stream
    if not in_stream and not (isinstance(chat, str) and chat):
        return None
    place = Place(caller.id, chat if isinstance(chat, str) else "")
    stream = EventQueue(lambda count: stream_frame(dropped_event(count))) if in_stream else None
    return TurnListener(hub, place, message if isinstance(message, str) else None, stream, answers=answers)


def _event(data: bytes) -> dict[str, Any] | None:
    """Read an event of a worker, which is not trusted."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None
    if not isinstance(value, dict):
        log.warning("event_not_understood", size=len(data))
        return None
    return value
