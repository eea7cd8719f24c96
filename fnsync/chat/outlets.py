"""Outlets under way: they see an answer to its end, be the client that asked for it still there or not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from fnsync.chat.filters import Chain
from fnsync.chat.stages import Stages
from fnsync.runtime.executor import Executor

#: How long a server that stops waits for them, in seconds.
END_S = 3.0

log = structlog.get_logger(__name__)

Chat = Mapping[str, Any]


class Outlets:
    """Runs the outlets of chats. One per server."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._tasks: set[asyncio.Task[dict[str, Any]]] = set()

    async def run(self, stages: Stages, chain: Chain, chat: Chat) -> dict[str, Any]:
        """What they make of a chat; who waits may leave. Raises what a required filter fails with."""
        return await asyncio.shield(self.start(stages, chain, chat))

    def start(self, stages: Stages, chain: Chain, chat: Chat) -> asyncio.Task[dict[str, Any]]:
        """Have them look at a chat."""
        task = asyncio.create_task(self._run(stages, chain, chat))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """Wait for those under way, END_S at most."""
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=END_S)
            for task in left:
                task.cancel()

    async def _run(self, stages: Stages, chain: Chain, chat: Chat) -> dict[str, Any]:
        # Pinned by themselves: the request that they belong to may end before them.
        with self._executor.pinned(chain.stage("outlet")):
            return await stages.after(chat)

    def _ended(self, task: asyncio.Task[dict[str, Any]]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.info("outlets_failed", error=str(exc))
