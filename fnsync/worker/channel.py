"""The worker's end of the socket to the server: frames in on the loop, frames out from any thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable

from fnsync.runtime import wire

READ_BYTES = 64 * 1024
#: Unsent bytes above which output lines are dropped.
CROWDED_BYTES = 1024 * 1024


class Channel:
    """Frames written in one turn of the loop go out in one write; a thread writes its own at once."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        receive: Callable[[wire.ToWorker], None],
        lost: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._socket = connection
        self._receive = receive
        self._lost = lost
        self._decoder = wire.Decoder(wire.ToWorker)
        self._lock = threading.Lock()
        self._queue: deque[bytes] = deque()
        self._unsent = bytearray()
        self._flushing = False
        self._waiting_to_write = False
        connection.setblocking(False)
        loop.add_reader(connection.fileno(), self._on_readable)

    @property
    def crowded(self) -> bool:
        """Whether the server reads slower than this worker writes."""
        return len(self._unsent) > CROWDED_BYTES

    def post(self, frame: wire.Frame) -> None:
        """Send from the loop's thread, together with whatever else this turn sends."""
        self._queue.append(wire.encode(frame))
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def post_now(self, frame: wire.Frame) -> None:
        """Send from any thread."""
        self._queue.append(wire.encode(frame))
        self._write()

    def _flush(self) -> None:
        self._flushing = False
        self._write()

    def _write(self) -> None:
        with self._lock:
            queue = self._queue
            if not queue and not self._unsent:
                return
            if self._unsent:
                while queue:
                    self._unsent += queue.popleft()
                return  # the loop is waiting for the socket to take more
            data = queue.popleft()
            if queue:
                data = b"".join((data, *(queue.popleft() for _ in range(len(queue)))))
            sent = self._send(data)
            if sent < len(data):
                self._unsent += memoryview(data)[sent:]
        if self._unsent:
            self._loop.call_soon_threadsafe(self._await_writable)

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            # The server is gone: the reader sees the end of the socket and stops this process.
            return len(data)

    def _await_writable(self) -> None:
        if not self._waiting_to_write:
            self._waiting_to_write = True
            self._loop.add_writer(self._socket.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        with self._lock:
            while self._queue:
                self._unsent += self._queue.popleft()
            with memoryview(self._unsent) as unsent:
                sent = self._send(unsent)
            del self._unsent[:sent]
            done = not self._unsent
        if done:
            self._waiting_to_write = False
            self._loop.remove_writer(self._socket.fileno())

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._socket.fileno())
            self._lost()
            return
        for frame in self._decoder.feed(data):
            self._receive(frame)
