"""A chat with its answer, put together for `outlet` (function-contract §3.5)."""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_hex
from typing import Any

import msgspec

from fnsync.chat.requests import ChatRequest

#: The longest answer that is collected for outlets, in bytes, about; and what each piece of it takes besides its text.
MOST_BYTES = 64 * 1024**2
PIECE_BYTES = 64


class Assembly:
    """Collects an answer from the chunks of a stream."""

    def __init__(self) -> None:
        #: The error that the stream told of; then there is no answer.
        self.error: str | None = None
        #: Whether it is longer than an answer may be; what came since is not in it.
        self.is_too_long = False
        self._size = 0
        self._texts: list[str] = []
        self._rest: dict[str, Any] = {}

    def add(self, chunk: Any, size: int = 0) -> None:
        """Take one event's value, which was written in `size` bytes."""
        if self.is_too_long or not isinstance(chunk, dict):
            return
        if error := chunk.get("error"):
            self.error = _told(error)
        if isinstance(usage := chunk.get("usage"), dict):
            self._size += size
            self._rest["usage"] = self._rest.get("usage", {}) | usage
        if isinstance(sources := chunk.get("sources"), list):
            self._size += size
            self._rest.setdefault("sources", []).extend(sources)
        self._add_choice(chunk.get("choices"))
        self.is_too_long = self._size > MOST_BYTES

    def _add_choice(self, choices: Any) -> None:
        first = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(first, dict):
            return
        delta = first.get("delta") or first.get("message")
        if isinstance(delta, dict) and isinstance(content := delta.get("content"), str):
            self._size += len(content) + PIECE_BYTES
            self._texts.append(content)
        if reason := first.get("finish_reason"):
            self._rest["finish_reason"] = reason

    @property
    def is_complete(self) -> bool:
        """Whether the stream told that the answer ended, and well."""
        return self.error is None and not self.is_too_long and "finish_reason" in self._rest

    @property
    def text(self) -> str:
        """What the answer says."""
        return "".join(self._texts)

    def message(self) -> dict[str, Any]:
        """The assistant's message."""
        return {"role": "assistant", "content": self.text, **self._rest}


def _told(error: Any) -> str:
    """What an error object says, in any of the forms that functions and providers give it."""
    said = error.get("message") or error.get("detail") or error.get("content") if isinstance(error, dict) else None
    return str(said or error)


def answered(completion: Mapping[str, Any]) -> dict[str, Any]:
    """The assistant's message of a whole completion; see `render.is_completion`."""
    assembly = Assembly()
    assembly.add(completion)
    return assembly.message()


def chat_of(model: str, request: ChatRequest, answer: Mapping[str, Any]) -> dict[str, Any]:
    """The body that `outlet` gets."""
    id = request.value("id") or f"msg_{token_hex(12)}"
    asked = msgspec.json.decode(request.body).get("messages")
    messages = [_message(message) for message in asked if isinstance(message, dict)] if isinstance(asked, list) else []
    return {
        "model": model,
        "messages": [*messages, _message({**answer, "id": id})],
        "filter_ids": request.value("filter_ids") or [],
        "chat_id": request.value("chat_id") or "",
        "session_id": request.value("session_id"),
        "id": id,
    }


def content_of(body: Mapping[str, Any]) -> str | None:
    """What the answer of a chat says after the outlets; None where it is no text, or not there."""
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "assistant":
        return None
    content = last.get("content")
    return content if isinstance(content, str) else None


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: message[key] for key in ("output", "usage", "sources", "finish_reason") if message.get(key)}
    return {
        "id": message.get("id"),
        "role": message.get("role"),
        "content": message.get("content"),
        "info": message.get("info"),
        "timestamp": message.get("timestamp"),
        **told,
    }
