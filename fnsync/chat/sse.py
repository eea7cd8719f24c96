"""Server-sent events: a stream's bytes taken apart and put together, everything between the events left as it is."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from fnsync.errors import FnsyncError, UpstreamFailed

#: The largest event of a stream, in bytes.
MOST_BYTES = 48 * 1024**2

DONE = b"[DONE]"
_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
#: How long it is at most.
_END_BYTES = 4
_LINE = re.compile(rb"\r\n|\n|\r")
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class Aside(bytes):
    """Whole events of a stream that are no part of the answer: no filter sees them."""


@dataclass(slots=True)
class Event:
    """One event of a stream."""

    #: As it was sent, with what ends it.
    raw: bytes
    #: Its data, where it is a JSON object, in a form that every reader here takes; else None: `[DONE]`, comments, other
    #: text.
    data: bytes | None = None
    #: Whether its data is `[DONE]`.
    is_done: bool = False


class Splitter:
    """Collects a stream's bytes and gives the events that are whole."""

    def __init__(self) -> None:
        #: What came of an event that has not ended.
        self._rest = bytearray()

    def feed(self, part: bytes) -> list[Event]:
        """The events that `part` completes. Raises UpstreamFailed for one that is too long."""
        if not self._rest:
            data = part
        elif _END.search(self._rest[1 - _END_BYTES :] + part):
            data = bytes(self._rest + part)
        else:  # nothing is looked at again and again while an event is long
            self._keep(part)
            return []
        events, start = [], 0
        if b"\r" in data:
            for end in _END.finditer(data):
                events.append(event_of(data[start : end.end()]))
                start = end.end()
            rest = data[start:]
        else:
            *whole, rest = data.split(b"\n\n")
            events = [event_of(raw + b"\n\n") for raw in whole]
        self._rest = bytearray()
        self._keep(rest)
        return events

    def _keep(self, part: bytes) -> None:
        self._rest += part
        if len(self._rest) > MOST_BYTES:
            raise too_long()

    def rest(self) -> list[Event]:
        """What came last, without what would end it."""
        rest, self._rest = bytes(self._rest), bytearray()
        return [event_of(rest)] if rest else []


def too_long() -> FnsyncError:
    """The error for a stream without an end to its events."""
    return UpstreamFailed(f"an event of the stream is longer than {MOST_BYTES // 1024**2} MB")


def event_of(raw: bytes) -> Event:
    """Read one event."""
    if raw.startswith(b"data:") and b"\n" not in (text := raw[5:].strip()) and b"\r" not in text:
        data = text
    else:
        lines = [line[5:].removeprefix(b" ") for line in _LINE.split(raw) if line.startswith(b"data:")]
        data = b"\n".join(lines).strip()
    if data == DONE:
        return Event(raw, None, True)
    return Event(raw, object_of(data))


def rendered(data: bytes) -> bytes:
    """The event for a JSON value."""
    return b"data: " + data + b"\n\n"


def with_data(event: Event, data: bytes) -> Event:
    """The event with other data; its other fields stay."""
    if event.raw.startswith(b"data:") and b"\n" not in event.raw.strip():
        return Event(rendered(data), data)
    fields = [line for line in _LINE.split(event.raw) if line and not line.startswith(b"data:")]
    return Event(b"\n".join((*fields, rendered(data))), data)


def object_of(data: bytes) -> bytes | None:
    """Data that is a JSON object, in a form that every reader here takes; None: it is none."""
    if not data.startswith(b"{"):
        return None
    try:
        _decode_object(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _leniently(data)
    return data


def _leniently(data: bytes) -> bytes | None:
    """What most clients read as an object although it is no strict JSON, as strict JSON; None: it is no object.

    Providers cut emojis in two, and write NaN. What filters do not see, they cannot filter.
    """
    try:
        value = json.loads(data.decode(errors="replace"), parse_float=_finite, parse_constant=lambda _: None)
        strict = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        _decode_object(strict)
    except (ValueError, RecursionError, msgspec.DecodeError):
        return None
    return strict


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None
