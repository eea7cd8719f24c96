"""Results and items -> completion objects and server-sent events. Pure.

Shapes are those recorded from Open WebUI, changed where docs/compat.md says so: one id and one `created` per
answer, `data: [DONE]` and a blank line at the end of every stream.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from random import getrandbits
from typing import Any

import msgspec

from fnsync.chat.sse import Aside
from fnsync.runtime.wire import EMITTED

DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.encode
_decode = msgspec.json.decode


class Renderer:
    """Renders one answer: holds its id, its `created` and what all its chunks have in common."""

    def __init__(self, model: str, *, events: bool = False) -> None:
        """`events`: keep what was emitted, and items of the form `{"event": …}`, which plain clients do not expect."""
        self.events = events
        self._id = _encode(f"{model}-{_uuid4()}")
        self._created = b"%d" % time.time()
        self._model = _encode(model)
        self._chunk = b""

    # ---- one object --------------------------------------------------------------------------------------

    def completion(self, text: str) -> bytes:
        """Return the completion object whose message is `text`."""
        return b"".join(
            (
                b'{"id":',
                self._id,
                b',"created":',
                self._created,
                b',"model":',
                self._model,
                b',"choices":[{"index":0,"logprobs":null,"finish_reason":"stop","message":{"role":"assistant","content":',
                _encode(text),
                b'}}],"object":"chat.completion"}',
            )
        )

    # ---- a stream ----------------------------------------------------------------------------------------

    def text(self, text: str) -> bytes:
        """Return the chunk event for `text`; an empty text is an empty delta, not a stop."""
        return b"".join((self._text_prefix(), _encode(text), _TEXT_SUFFIX))

    def items(self, items: Iterable[str | bytes]) -> bytes:
        """Return the events for a stream's items: str is text, bytes is one JSON value, after EMITTED an event."""
        out = []
        prefix = self._text_prefix()
        for item in items:
            if isinstance(item, str):
                if item.startswith("data:"):
                    out.append(f"{item}\n\n".encode())
                else:
                    out += (prefix, _encode(item), _TEXT_SUFFIX)
            elif _is_emitted(item):
                if self.events:
                    out += (b'data: {"event":', item[len(EMITTED) :], b"}\n\n")
            elif self.events or not _is_event(item):
                out += (b"data: ", item, b"\n\n")
        return b"".join(out)

    def parts(self, items: Iterable[str | bytes]) -> Iterator[bytes]:
        """Yield the events for a stream's items, those that stand together as one; what was emitted as an Aside."""
        if not self.events:
            yield self.items(items)
            return
        for is_emitted, group in groupby(items, _is_emitted):
            part = self.items(group)
            yield Aside(part) if is_emitted else part

    def stop(self) -> bytes:
        """Return the stop chunk and the end of the stream."""
        return b"".join((self._head(), b'"finish_reason":"stop","delta":{}', _SUFFIX, DONE))

    def value(self, data: bytes) -> bytes:
        """Return the whole stream for a call that gave one JSON value: a completion object becomes chunks."""
        if b'"choices"' in data and b'"message"' in data:
            value = _decode(data)  # a worker's Reply that is no JSON is a bug of ours
            if is_completion(value):
                return b"".join((*(b"data: " + _encode(chunk) + b"\n\n" for chunk in self._chunks(value)), DONE))
        return b"".join((b"data: ", data, b"\n\n", DONE))

    def _chunks(self, completion: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """Yield a completion's chunks: each choice's message as a delta, then each choice's stop, with the usage."""
        head = {
            "id": completion.get("id") or _decode(self._id),
            "created": completion.get("created") or int(self._created),
            "model": completion.get("model") or _decode(self._model),
            "object": "chat.completion.chunk",
        }
        choices = [choice for choice in completion["choices"] if isinstance(choice, dict)]
        for place, choice in enumerate(choices):
            base = {"index": choice.get("index", place), "logprobs": choice.get("logprobs")}
            yield {**head, "choices": [{**base, "finish_reason": None, "delta": _delta(choice.get("message"))}]}
        for place, choice in enumerate(choices):
            stop = {
                "index": choice.get("index", place),
                "logprobs": None,
                "finish_reason": choice.get("finish_reason") or "stop",
                "delta": {},
            }
            last = place == len(choices) - 1
            usage = {"usage": completion["usage"]} if last and completion.get("usage") is not None else {}
            yield {**head, "choices": [stop], **usage}

    def _head(self) -> bytes:
        return b"".join(
            (
                b'data: {"id":',
                self._id,
                b',"created":',
                self._created,
                b',"model":',
                self._model,
                b',"choices":[{"index":0,"logprobs":null,',
            )
        )

    def _text_prefix(self) -> bytes:
        if not self._chunk:
            self._chunk = self._head() + b'"finish_reason":null,"delta":{"content":'
        return self._chunk


def _uuid4() -> str:
    """Return a random UUID; several times faster than `uuid.uuid4`. Nothing depends on it being unguessable."""
    digits = f"{getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


_SUFFIX = b'}],"object":"chat.completion.chunk"}\n\n'
_TEXT_SUFFIX = b"}" + _SUFFIX


def stream_error(error: dict[str, Any]) -> bytes:
    """Return the events that end a stream in the middle: the error and the end."""
    return b"".join((b"data: ", _encode({"error": error}), b"\n\n", DONE))


def is_completion(value: Any) -> bool:
    """Whether a JSON value is a whole completion: its first choice has a message."""
    if not isinstance(value, dict):
        return False
    choices = value.get("choices")
    return isinstance(choices, list) and bool(choices) and isinstance(choices[0], dict) and "message" in choices[0]


def _delta(message: Any) -> dict[str, Any]:
    """Return a message as a delta: tool calls get the index that chunks need."""
    if not isinstance(message, dict):
        return {"role": "assistant", "content": ""}
    delta = {"role": "assistant", **message}
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        delta["tool_calls"] = [
            {"index": place, **call} if isinstance(call, dict) else call for place, call in enumerate(calls)
        ]
    return delta


def _is_emitted(item: str | bytes) -> bool:
    return isinstance(item, bytes) and item.startswith(EMITTED)


def _is_event(item: bytes) -> bool:
    """Whether an item is an object with an `event` key; such items are for clients that ask for events."""
    if b'"event"' not in item:
        return False
    try:
        value = _decode(item)
    except msgspec.DecodeError:
        return False
    return isinstance(value, dict) and "event" in value
