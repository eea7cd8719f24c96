"""What a handler other than `pipe` gives, as the answer to a request."""

from __future__ import annotations

from fnsync.api.exchange import Exchange
from fnsync.chat.answers import JSON
from fnsync.chat.completions import checked_head
from fnsync.chat.turns import identity
from fnsync.model import LiveFunction
from fnsync.runtime import wire
from fnsync.runtime.call import RunningCall


async def send_result(exchange: Exchange, function: LiveFunction, running: RunningCall) -> None:
    """Answer with a call's result: JSON, or the response that the function made. Raises what ended the call."""
    first = await running.first()
    if isinstance(first, wire.Reply):
        await _answer(exchange, function, first)
    else:
        await _stream(exchange, function, first, running)


async def _answer(exchange: Exchange, function: LiveFunction, reply: wire.Reply) -> None:
    headers = [*identity(function)]
    if reply.kind == "json":
        await exchange.plain(200, JSON, reply.data, headers)
    elif reply.kind == "response" and reply.head is not None:
        status, media_type, own = checked_head(function, reply.head)
        await exchange.plain(status, media_type, reply.data, [*own, *headers])
    else:
        await exchange.json(200, None if reply.kind == "none" else reply.data.decode(), headers)


async def _stream(exchange: Exchange, function: LiveFunction, begin: wire.Begin, running: RunningCall) -> None:
    """Pass on a response that the function streams itself; nothing else comes as a stream."""
    status, media_type, own = checked_head(function, begin.head or wire.Head(200, "application/octet-stream", []))
    await exchange.start(status, media_type, [*own, *identity(function)])
    async for items in running.chunks():
        await exchange.part(b"".join(item.encode() if isinstance(item, str) else item for item in items))
    await exchange.end()
