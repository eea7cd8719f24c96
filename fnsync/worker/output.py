"""What a function prints and logs becomes frames; a flood is cut, never waited for."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import threading
import time
from collections import deque
from contextvars import ContextVar
from typing import Any

import msgspec

from fnsync.runtime import wire
from fnsync.worker.channel import Channel

#: Characters of a line that are kept.
LINE_CHARACTERS = 8 * 1024
#: Lines that wait to be sent; more than that is thrown away and counted.
WAITING_LINES = 1000
#: How long lines are gathered before they go out together, in seconds.
GATHER_S = 0.01

#: The id of the call that this code runs for; 0 outside any call.
current_call: ContextVar[int] = ContextVar("current_call", default=0)


class Output:
    """Collects lines and sends them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, channel: Channel) -> None:
        self._loop = loop
        self._channel = channel
        self._lock = threading.Lock()
        self._lines: deque[wire.Line] = deque()
        self._dropped = 0
        self._scheduled = False
        self._sent_at = 0.0

    def install(self) -> tuple[Stream, Stream]:
        """Take over sys.stdout, sys.stderr and the root logger of this process; returns the two streams."""
        sys.stdout = out = Stream(self, "stdout", "INFO")
        sys.stderr = err = Stream(self, "stderr", "ERROR")
        root = logging.getLogger()
        root.handlers[:] = [LogHandler(self)]
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)
        return out, err

    def add(self, stream: str, level: str, text: str, logger: str = "") -> None:
        """Take one line; from any thread."""
        if len(text) > LINE_CHARACTERS:
            text = f"{text[:LINE_CHARACTERS]}… (+{len(text) - LINE_CHARACTERS:,} characters)"
        line = wire.Line(time.time(), stream, level, current_call.get(), text, logger)
        with self._lock:
            if len(self._lines) >= WAITING_LINES or self._channel.crowded:
                self._dropped += 1
                return
            self._lines.append(line)
            if self._scheduled:
                return
            at_once = line.at - self._sent_at > GATHER_S
            self._scheduled = not at_once
        if at_once:  # a lone line is out before the next one can crash the process
            self.flush()
        else:
            self._loop.call_soon_threadsafe(self._loop.call_later, GATHER_S, self.flush)

    def flush(self) -> None:
        """Send what was gathered."""
        with self._lock:
            self._scheduled = False
            if not self._lines and not self._dropped:
                return
            frame = wire.Lines(list(self._lines), self._dropped)
            self._lines.clear()
            self._dropped = 0
            self._sent_at = time.time()
        try:
            self._channel.post_now(frame)
        except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 cannot carry
            lines = [msgspec.structs.replace(line, text=encodable(line.text)) for line in frame.lines]
            self._channel.post_now(wire.Lines(lines, frame.dropped))


def encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class Stream(io.TextIOBase):
    """Stands in for stdout or stderr; keeps one unfinished line per call."""

    def __init__(self, output: Output, name: str, level: str) -> None:
        self._output = output
        self._name = name
        self._level = level
        self._unfinished: dict[int, str] = {}
        #: Calls whose line was too long to wait for its end: what comes up to the end is dropped.
        self._cut: set[int] = set()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def buffer(self) -> Binary:
        """For who writes bytes."""
        return Binary(self)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        # Subprocesses inherit the process's own descriptors, which the server reads too.
        return 1 if self._name == "stdout" else 2

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() takes a str, not {type(text).__name__}")
        call = current_call.get()
        size = len(text)
        if call in self._cut:
            _, end, text = text.partition("\n")
            if not end:
                return size
            self._cut.discard(call)
        *lines, rest = (self._unfinished.pop(call, "") + text).split("\n")
        for line in lines:
            self._output.add(self._name, self._level, line)
        if len(rest) > LINE_CHARACTERS:
            self._output.add(self._name, self._level, rest)
            self._cut.add(call)
        elif rest:
            self._unfinished[call] = rest
        return size

    def flush(self) -> None:
        """Nothing to do: lines go out as they end."""

    def finish(self, call: int) -> None:
        """Send the unfinished line of a call that has ended."""
        self._cut.discard(call)
        rest = self._unfinished.pop(call, "")
        if rest:
            self._output.add(self._name, self._level, rest)


class Binary(io.RawIOBase):
    """The bytes side of a Stream; what is no UTF-8 is replaced."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, data: Any) -> int:
        text = bytes(data)
        self._stream.write(text.decode(errors="replace"))
        return len(text)


class LogHandler(logging.Handler):
    """Sends log records with their level and logger."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as exc:  # a bad log call must not end the function's own call
            text = f"{record.msg!r} (cannot be formatted: {exc})"
        self._output.add("log", record.levelname, text, record.name)
