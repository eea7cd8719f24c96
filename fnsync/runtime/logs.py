"""What functions print and log: the last lines of each, and a feed for who follows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

#: Lines kept per function.
KEPT_LINES = 1000
#: Lines a slow follower may fall behind before it loses the oldest.
FOLLOWER_LINES = 1000


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line. `stream`: `stdout`, `stderr` or `log`; `call`: the call's id, None outside any call."""

    at: float
    function: str
    revision: str
    call: int | None
    stream: str
    level: str
    text: str
    logger: str = ""


class LogBook:
    """Keeps lines in memory; bounded by KEPT_LINES of at most 8 KB for each function that prints."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[LogLine]] = {}
        self._followers: dict[str, set[asyncio.Queue[LogLine]]] = {}
        #: Also told of each line.
        self.on_line: Callable[[LogLine], None] | None = None

    def add(self, line: LogLine) -> None:
        """Take one line; on the loop."""
        lines = self._lines.get(line.function)
        if lines is None:
            lines = self._lines[line.function] = deque(maxlen=KEPT_LINES)
        lines.append(line)
        if self.on_line is not None:
            self.on_line(line)
        for queue in self._followers.get(line.function, ()):
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(line)

    def tail(self, function: str, count: int = KEPT_LINES) -> list[LogLine]:
        """The newest `count` lines, oldest first."""
        lines = self._lines.get(function, ())
        return list(lines)[-count:] if count > 0 else []

    async def follow(self, function: str) -> AsyncIterator[LogLine]:
        """Yield lines as they come, until the caller stops."""
        queue: asyncio.Queue[LogLine] = asyncio.Queue(FOLLOWER_LINES)
        followers = self._followers.setdefault(function, set())
        followers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            followers.discard(queue)

    def forget(self, function: str) -> None:
        """Drop the lines of a function that is gone."""
        self._lines.pop(function, None)
