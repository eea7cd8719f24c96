"""Answers that tell how far work is, line by line, and at last what it came to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import msgspec

from fnsync.api import errors
from fnsync.api.exchange import Exchange
from fnsync.api.operations import KEEP_OPEN_S, NDJSON
from fnsync.edits.entries import Progress
from fnsync.errors import FnsyncError

#: Is told how to say how far it is, and returns what the last line says.
Work = Callable[[Callable[[Progress], None]], Coroutine[Any, Any, dict[str, Any]]]


async def follow(exchange: Exchange, work: Work) -> None:
    """Answer with NDJSON: a line for each step, an empty one where nothing changed for a while, and the outcome, or an
    error with its status."""
    await exchange.start(200, NDJSON, [])
    async with aclosing(_lines(work)) as lines:
        async for line in lines:
            await exchange.part(msgspec.json.encode(line) + b"\n" if line is not None else b"\n")
    await exchange.end()


async def _lines(work: Work) -> AsyncGenerator[Any, None]:
    told: asyncio.Queue[Progress | None] = asyncio.Queue()
    task = asyncio.create_task(work(told.put_nowait))
    task.add_done_callback(lambda _: told.put_nowait(None))
    try:
        while True:
            try:
                async with asyncio.timeout(KEEP_OPEN_S):
                    progress = await told.get()
            except TimeoutError:
                yield None
                continue
            if progress is None:
                break
            yield progress
        try:
            yield task.result()
        except FnsyncError as exc:
            yield {**errors.body(exc, openai=False, admin=True), "status": exc.status}
    finally:
        task.cancel()
