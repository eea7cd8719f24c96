"""What a handler returns or yields, as data the server can render (function-contract §2.3)."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from fnsync.runtime import wire
from fnsync.worker.faults import Fault

#: Text that a generator may join to for a plain answer, in characters.
JOINED_CHARACTERS = 64 * 1024 * 1024


def to_json(value: Any) -> bytes:
    """Encode any JSON-like value. Raises Fault `unrenderable` that names the type."""
    try:
        try:
            return msgspec.json.encode(value, enc_hook=_encode_other)
        except UnicodeEncodeError:
            return msgspec.json.encode(_whole(value), enc_hook=_whole_other)
    except (TypeError, ValueError, RecursionError) as exc:
        raise Fault("unrenderable", f"the result cannot be written as JSON: {exc}") from exc


def _whole(value: Any) -> Any:
    """The value without halves of surrogate pairs, as in `encodable`: providers cut emojis in two."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return value


def _whole_other(value: Any) -> Any:
    return _whole(_encode_other(value))


def _encode_other(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    # Classes made of these: an answer of a model method (compat.ready), or text that is marked as safe.
    own = getattr(value, "plain_value", None)
    if callable(own):
        return own()
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int | float):
        return int.__int__(value) if isinstance(value, int) else float.__float__(value)
    raise TypeError(f"it holds a {type(value).__name__}")


def is_model(value: Any) -> bool:
    """Whether it is a pydantic model's instance."""
    return callable(getattr(value, "model_dump_json", None)) and not isinstance(value, type)


def is_response(value: Any) -> bool:
    """Whether it is a Starlette response of any kind."""
    responses = sys.modules.get("starlette.responses")
    return responses is not None and isinstance(value, responses.Response)


def unrenderable(value: Any, what: str) -> Fault:
    return Fault(
        "unrenderable",
        f"{what} a {type(value).__name__}, which cannot be rendered as an answer",
        hint="give str, bytes, dict, a pydantic model, a generator of these, or a StreamingResponse",
    )


def plain_reply(call: int, value: Any) -> wire.Reply | None:
    """The Reply for a value that is no stream and no response; None: it is something else."""
    if isinstance(value, str):
        return wire.Reply(call, "text", value.encode("utf-8", "replace"))
    if value is None:
        return wire.Reply(call, "none")
    if isinstance(value, dict) or is_model(value):
        return wire.Reply(call, "json", to_json(value))
    if isinstance(value, bytes | bytearray):
        return wire.Reply(call, "text", text_of(bytes(value)).encode())
    return None


def to_item(value: Any) -> str | bytes | None:
    """One item of a stream: str for text, bytes for JSON, None for nothing. Raises Fault."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) or is_model(value):
        return to_json(value)
    if isinstance(value, bytes | bytearray):
        return text_of(bytes(value))
    if value is None:
        return None
    raise unrenderable(value, "the generator yielded")


def to_pipeline_item(value: Any) -> str | bytes | None:
    """The same of a pipeline's stream, where numbers are content."""
    return to_item(str(value) if isinstance(value, bool | int | float) else value)


def encodable(item: str | bytes) -> str | bytes:
    """The item without halves of surrogate pairs, which UTF-8 cannot carry."""
    return item.encode("utf-8", "replace").decode() if isinstance(item, str) else item


def text_of(value: bytes) -> str:
    """The text that bytes are. Raises Fault."""
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise Fault("unrenderable", f"bytes that are not UTF-8: {exc}", hint="decode them first") from exc


class Joined:
    """The text of a generator whose caller wants no stream."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._size = 0

    def add(self, value: Any) -> None:
        """Take one item; events are no text, and no plain answer has a place for them. Raises Fault."""
        if is_model(value):
            value = value.model_dump()
        if isinstance(value, dict):
            if "event" not in value:
                self._append(_content(value))
        else:
            item = to_pipeline_item(value)
            if isinstance(item, str):
                self._append(item)

    def _append(self, text: str) -> None:
        self._texts.append(text)
        self._size += len(text)
        if self._size > JOINED_CHARACTERS:
            raise Fault("unrenderable", f"the answer is longer than {JOINED_CHARACTERS:,} characters")

    def reply(self, call: int) -> wire.Reply:
        return wire.Reply(call, "text", "".join(self._texts).encode("utf-8", "replace"))


def _content(chunk: Mapping[str, Any]) -> str:
    """The text that a chunk or completion object contributes. Raises Fault for an error object."""
    error = chunk.get("error")
    if error:
        text = error.get("message") or error.get("detail") or error.get("content") if isinstance(error, dict) else error
        raise Fault("raised", str(text or error))
    texts = []
    choices = chunk.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        part = (choice.get("delta") or choice.get("message")) if isinstance(choice, dict) else None
        content = part.get("content") if isinstance(part, dict) else None
        if isinstance(content, str):
            texts.append(content)
    return "".join(texts)


def head_of(response: Any) -> wire.Head:
    """Status and headers of a Starlette response; its length is the server's to tell."""
    headers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in response.raw_headers
        if name.lower() not in (b"content-length", b"content-type", b"transfer-encoding", b"connection")
    ]
    media_type = response.headers.get("content-type") or "application/octet-stream"
    return wire.Head(int(response.status_code), media_type, headers)
