"""The worker's end of the socket to the server: frames in on the loop, frames out from any thread."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
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
        self._thread = threading.get_ident()
        #: Held from reading frames until they are received, so that they keep their order.
        self._reading = threading.RLock()
        #: How often the loop has read.
        self._turns = 0
        #: Frames that came while the loop's thread waited for others.
        self._held: deque[wire.ToWorker] = deque()
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
        if self._write_more() and self._waiting_to_write:
            self._waiting_to_write = False
            self._loop.remove_writer(self._socket.fileno())

    def _write_more(self) -> bool:
        """Send what waits; returns whether that was all."""
        with self._lock:
            while self._queue:
                self._unsent += self._queue.popleft()
            with memoryview(self._unsent) as unsent:
                sent = self._send(unsent)
            del self._unsent[:sent]
            return not self._unsent

    def _on_readable(self) -> None:
        with self._reading:
            self._turns += 1
            self._deliver()
            for frame in self._read():
                self._receive(frame)

    def _read(self) -> list[wire.ToWorker]:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            if self.on_its_loop():
                self._loop.remove_reader(self._socket.fileno())
            self._lost()
            return []
        return self._decoder.feed(data)

    # ---- waiting in the loop's own thread ----

    def on_its_loop(self) -> bool:
        """Whether this is the thread that reads the frames, so that waiting for one takes `wait`."""
        return threading.get_ident() == self._thread

    def wait(self, done: Callable[[], bool]) -> None:
        """Hold up the loop until answers of the server make `done` true. What else comes waits for the loop."""
        with self._reading:
            while not done():
                events = self._poll(None)
                if events & select.POLLOUT:
                    self._on_writable()
                if events & ~select.POLLOUT:
                    self._take(self._read())
        if self._held:
            self._loop.call_soon(self._deliver)

    def _poll(self, limit_s: float | None) -> int:
        """Wait until there is something to read, or room for what waits to be sent; returns what poll says."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        found = poll.poll(None if limit_s is None else limit_s * 1000)
        return found[0][1] if found else 0

    # ---- waiting in another thread ----

    def stand_in(self, patience_s: float, limit_s: float) -> None:
        """Wait for something to come, `limit_s` at most. If the loop leaves it alone for `patience_s`, whoever holds it
        up may be waiting for a thread that waits for an answer: take answers. What else comes waits for the loop."""
        turns = self._turns
        if not self._poll(limit_s):
            return
        time.sleep(patience_s)
        while turns == self._turns and self._take_for_loop() and self._poll(patience_s):
            pass

    def _take_for_loop(self) -> bool:
        """Returns whether nobody else reads."""
        if not self._reading.acquire(blocking=False):
            return False
        try:
            if self._unsent:
                self._write_more()
            self._take(self._read())
        finally:
            self._reading.release()
        if self._held:
            self._loop.call_soon_threadsafe(self._deliver)
        return True

    def _take(self, frames: list[wire.ToWorker]) -> None:
        for frame in frames:
            if isinstance(frame, wire.HostFrame):
                self._receive(frame)
            else:
                self._held.append(frame)

    def _deliver(self) -> None:
        with self._reading:
            while self._held:
                self._receive(self._held.popleft())
