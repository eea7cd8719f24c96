"""The server's handle for one worker: one process, one function, one revision."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

import structlog

from fnsync.runtime import hosting, wire
from fnsync.runtime.logs import LogLine

log = structlog.get_logger()

#: How long after its socket ended a worker may take to exit, and then its status to arrive, in seconds.
EXIT_S = 0.1
STATUS_S = 1.0
#: How much of a worker's raw output is read at once and how much of it is kept per second, in bytes.
OUTPUT_READ_BYTES = 64 * 1024
OUTPUT_BYTES_PER_S = 256 * 1024
#: What may wait for a worker to read it when it asks for more, in bytes: above a few large bodies.
UNREAD_BYTES = 2 * wire.MAX_FRAME_BYTES
#: Bytes of unfinished raw output that are kept.
OUTPUT_LINE_BYTES = 8 * 1024


class CallSink(Protocol):
    """What a worker's frames for one call go to."""

    id: int

    def on_frame(self, frame: wire.FromWorker) -> None: ...
    def on_lost(self, worker: Worker) -> None: ...


class Farewell:
    """Takes what a worker says when it has run what it has for its end."""

    #: No call's.
    id = 0

    def __init__(self, worker: Worker, reason: str) -> None:
        self._worker = worker
        self._reason = reason

    def on_frame(self, frame: wire.FromWorker) -> None:
        self._worker.kill(self._reason)

    def on_lost(self, worker: Worker) -> None:
        """It was killed, or died of it."""


class Worker(asyncio.Protocol):
    """Frames in and out, who is being served, and how the process ended."""

    def __init__(
        self,
        function: str,
        revision: str,
        on_lines: Callable[[LogLine], None],
        on_gone: Callable[[Worker], None],
    ) -> None:
        self.function = function
        self.revision = revision
        self.pid = 0
        self.calls: dict[int, CallSink] = {}
        self.started_at = time.monotonic()
        #: When its last call ended.
        self.idle_since = time.monotonic()
        self.alive = False
        #: Takes no new calls any more; ends when its calls are done.
        self.retired = False
        #: Whether it has something to run before its end.
        self.shuts_down = False
        #: Why this server killed it; None: it was not us.
        self.killed_for: str | None = None
        #: Whether its end counts as a crash of the function.
        self.blamed = True
        #: Exit code, negative for a signal; known some moments after the end.
        self.status: int | None = None
        self.memory_bytes = 0
        #: Its private folder.
        self.folder: Path | None = None
        #: Calls that are over their time limit and still here; those that will never let go.
        self._overdue: set[int] = set()
        self._given_up: set[int] = set()
        self._on_lines = on_lines
        self._on_gone = on_gone
        self._decoder = wire.Decoder(wire.FromWorker)
        self._transport: asyncio.WriteTransport | None = None
        self._pidfd = -1
        self._output_fd = -1
        self._output = bytearray()
        self._output_budget = float(OUTPUT_BYTES_PER_S)
        self._output_at = time.monotonic()
        self._output_dropped = 0
        loop = asyncio.get_running_loop()
        self.hello: asyncio.Future[None] = loop.create_future()
        self.hello.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._exited: asyncio.Future[None] = loop.create_future()
        self._ending: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()

    # ---- the process ----

    def adopt(self, pid: int) -> None:
        """Take over a forked process. Raises ProcessLookupError: it ended already."""
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)

    async def attach(self, channel: socket.socket, output_fd: int) -> None:
        """Take over the server's ends of the process's socket and output."""
        self._output_fd = output_fd
        loop = asyncio.get_running_loop()
        os.set_blocking(output_fd, False)
        loop.add_reader(output_fd, self._on_output)
        self.alive = True
        await loop.create_unix_connection(lambda: self, sock=channel)

    def kill(self, reason: str, *, blame: bool = False) -> None:
        """SIGKILL; what it was doing fails with `reason`. `blame`: it is the function's fault and counts as a crash."""
        self.retired = True
        if self._pidfd < 0 or self._has_exited():
            return  # it ended by itself; its status comes from the zygote
        if self.killed_for is None:
            self.killed_for, self.blamed = reason, blame
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _has_exited(self) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def end(self, reason: str) -> None:
        """Kill it, once it has run what it has for its end. It takes no new calls."""
        if not (self.shuts_down and self.alive):
            self.kill(reason)
            return
        if Farewell.id not in self.calls:
            self.retired = True
            self.killed_for, self.blamed = reason, False
            self.add_call(Farewell(self, reason))
            self.send(wire.Stop(Farewell.id))
            # A little longer than the worker itself waits.
            asyncio.get_running_loop().call_later(wire.SHUTDOWN_S + STATUS_S, self.kill, reason)

    def on_exit(self, status: int) -> None:
        """The zygote reports the end."""
        self.status = status
        if not self._exited.done():
            self._exited.set_result(None)

    @property
    def epitaph(self) -> str:
        """How it ended, for people."""
        if self.killed_for is not None:
            return self.killed_for
        if self.status is None:
            return "the worker process went away"
        if self.status < 0:
            return f"the worker process was killed by signal {-self.status} ({_signal_name(-self.status)})"
        return f"the worker process exited with status {self.status} during the call"

    # ---- frames ----

    def send(self, frame: wire.Frame) -> None:
        if self._transport is not None:
            self._transport.write(wire.encode(frame))

    def answer(self, frame: wire.Frame) -> None:
        """Send what the worker asked for, unless it asks without ever reading."""
        if self._transport is not None and self._transport.get_write_buffer_size() > UNREAD_BYTES:
            self.kill("the worker asks and does not read the answers", blame=True)
            self._transport.abort()
        else:
            self.send(frame)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                self._on_frame(frame)
        except wire.WireError as exc:
            log.error("worker_broke_protocol", function=self.function, revision=self.revision[:8], error=str(exc))
            self.kill(f"the worker broke the wire protocol: {exc}", blame=True)
            if self._transport is not None:
                self._transport.abort()  # what else it sent is of no use, and would be read until it is dead

    def _on_frame(self, frame: wire.FromWorker) -> None:
        if isinstance(frame, wire.Lines):
            self._on_worker_lines(frame)
        elif isinstance(frame, wire.Hello):
            self._on_hello(frame)
        elif (call := self.calls.get(frame.id)) is not None:
            call.on_frame(frame)
        elif isinstance(frame, wire.HostCall):
            self.answer(hosting.over(frame))

    def _on_hello(self, frame: wire.Hello) -> None:
        if frame.protocol != wire.PROTOCOL:
            raise wire.WireError(f"protocol {frame.protocol}, not {wire.PROTOCOL}")
        if not self.hello.done():
            self.hello.set_result(None)

    def add_call(self, call: CallSink) -> None:
        self.calls[call.id] = call

    def end_call(self, call: CallSink) -> None:
        """The worker has let go of the call."""
        if self.calls.pop(call.id, None) is None:
            return
        self._overdue.discard(call.id)
        self._given_up.discard(call.id)
        if not self.calls:
            self.idle_since = time.monotonic()
        if self.retired:
            self._kill_if_done()

    def retire(self) -> None:
        """Take no new calls; die when those under way are done."""
        self.retired = True
        self._kill_if_done()

    @property
    def usable(self) -> bool:
        """Whether it may be given calls. One that holds on to a call past its limit may have its loop blocked."""
        return self.alive and not self.retired and not self._overdue

    @property
    def hesitates(self) -> bool:
        """Whether it may become usable again in a moment."""
        return self.alive and not self.retired and bool(self._overdue)

    def on_overdue(self, call: CallSink) -> None:
        """The call is over its time limit, and it was told to let go of it."""
        self._overdue.add(call.id)

    def give_up_on(self, call: CallSink) -> None:
        """Take no new calls; die as soon as the others are done."""
        self.retired = True
        self._given_up.add(call.id)
        self._kill_if_done()

    def _kill_if_done(self) -> None:
        if self.calls.keys() <= self._given_up:
            if self.calls:
                self.kill("the worker did not let go of a call that was over its time limit")
            else:
                self.end("it was replaced")

    # ---- the end ----

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.alive = False
        self._ending = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        await asyncio.wait([self._exited], timeout=EXIT_S)
        # One that lives on without its socket is of no use to anybody.
        self.kill("the worker closed its connection to the server", blame=True)
        await asyncio.wait([self._exited], timeout=STATUS_S)
        try:
            self._close_output()
        except OSError as exc:
            log.warning("worker_output_lost", function=self.function, error=str(exc))
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if not self.hello.done():
            self.hello.set_exception(ConnectionResetError(self.epitaph))
        for call in list(self.calls.values()):
            call.on_lost(self)
        self.calls.clear()
        self._gone.set()
        self._on_gone(self)

    async def ended(self) -> None:
        """Wait until the process is gone and its calls are answered."""
        await self._gone.wait()

    # ---- output ----

    def _on_worker_lines(self, frame: wire.Lines) -> None:
        for line in frame.lines:
            call = line.call or None
            self._on_lines(
                LogLine(line.at, self.function, self.revision, call, line.stream, line.level, line.text, line.logger)
            )
        if frame.dropped:
            self._note(f"{frame.dropped:,} lines were dropped: they came faster than they can be kept")

    def _note(self, text: str) -> None:
        self._on_lines(LogLine(time.time(), self.function, self.revision, None, "log", "WARNING", text, "fnsync"))

    def _on_output(self) -> None:
        """Read what subprocesses, C code and a dying interpreter write; a flood is read and thrown away."""
        try:
            data = os.read(self._output_fd, OUTPUT_READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._output_fd)
            return
        now = time.monotonic()
        refill = (now - self._output_at) * OUTPUT_BYTES_PER_S
        self._output_budget = min(OUTPUT_BYTES_PER_S, self._output_budget + refill)
        self._output_at = now
        if len(data) > self._output_budget:
            self._output_dropped += len(data)
            return
        self._output_budget -= len(data)
        self._tell_dropped()
        self._output += data
        *lines, rest = self._output.split(b"\n")
        if len(rest) > OUTPUT_LINE_BYTES:
            lines.append(rest)
            rest = bytearray()
        self._output = bytearray(rest)
        for line in lines:
            self._add_raw(line)

    def _tell_dropped(self) -> None:
        if self._output_dropped:
            self._note(f"{self._output_dropped:,} bytes of output were dropped: they came faster than they can be kept")
            self._output_dropped = 0

    def _add_raw(self, line: bytes | bytearray) -> None:
        text = bytes(line[:OUTPUT_LINE_BYTES]).decode(errors="replace")
        self._on_lines(LogLine(time.time(), self.function, self.revision, None, "stderr", "ERROR", text))

    def _close_output(self) -> None:
        if self._output_fd < 0:
            return
        self._on_output()  # what a dying process said last
        asyncio.get_running_loop().remove_reader(self._output_fd)
        os.close(self._output_fd)
        self._output_fd = -1
        if self._output:
            self._add_raw(self._output)
            self._output.clear()
        self._tell_dropped()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if number >= signal.SIGRTMIN else "unknown"
