"""Completions that functions ask for, as Open WebUI's functions get them."""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from fnsync.runtime import wire
from fnsync.worker import host


async def complete(request: Any, form_data: Any, user: Any, *, filters: bool) -> Any:
    """A dict; a response with the status of a provider that refused; or a StreamingResponse of `data:` frames.

    Raises `Exception("Model not found")`, as Open WebUI does, and HTTPException for what else went wrong.
    """
    dump = getattr(form_data, "model_dump", None)
    body = dict(dump() if callable(dump) else form_data)
    given = (getattr(getattr(request, "state", None), "metadata", None), body.pop("metadata", None))
    metadata = {key: value for part in given if isinstance(part, dict) for key, value in part.items()}
    asked = {"body": body, "user": _id_of(user), "metadata": _sendable(metadata), "filters": filters}
    try:
        answer = await host.current().ask_async("complete", asked)
    except host.Refused as exc:
        if exc.code == "model_not_found":
            raise Exception("Model not found") from exc
        raise HTTPException(exc.status if 400 <= exc.status <= 599 else 500, str(exc)) from exc
    if isinstance(answer, host.Stream):
        return _streaming(answer)
    return _plain(answer)


def _id_of(user: Any) -> str | None:
    id = user.get("id") if isinstance(user, dict) else getattr(user, "id", None)
    return None if id is None else str(id)


def _sendable(metadata: dict[Any, Any]) -> dict[str, Any]:
    """What of it is JSON: functions put callables there, too."""
    found = {}
    for key, value in metadata.items():
        try:
            found[str(key)] = msgspec.Raw(msgspec.json.encode(value))
        except (TypeError, ValueError, RecursionError):
            continue
    return found


def _plain(told: host.Told) -> Any:
    head = told.head or wire.Head(200, "application/json", [])
    is_json = head.media_type.partition(";")[0].strip() == "application/json"
    if not is_json:
        return Response(told.body, head.status, dict(head.headers), head.media_type)
    value = told.value
    return value if 200 <= head.status < 300 else JSONResponse(value, head.status, dict(head.headers))


def _streaming(stream: host.Stream) -> StreamingResponse:
    is_events = stream.head.media_type.startswith("text/event-stream")
    parts = _events(stream) if is_events else stream.chunks()
    return StreamingResponse(
        _text(parts) if stream.text else parts, stream.head.status, dict(stream.head.headers), stream.head.media_type
    )


async def _events(stream: host.Stream) -> AsyncGenerator[bytes, None]:
    """Each event by itself, with the blank line behind it, however they come."""
    pending = b""
    async with aclosing(stream.chunks()) as chunks:
        async for chunk in chunks:
            pending += chunk
            *events, pending = pending.replace(b"\r\n", b"\n").split(b"\n\n")
            for event in events:
                if event:
                    yield event + b"\n\n"
    if pending:
        yield pending


async def _text(parts: AsyncGenerator[bytes, None]) -> AsyncIterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    async with aclosing(parts):
        async for part in parts:
            yield decoder.decode(part)
