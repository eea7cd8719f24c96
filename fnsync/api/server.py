"""The HTTP server: uvicorn with bounded heads, and an end that lets answers finish.

Stopping, in order: no connection is accepted any more; new calls on open connections are answered 503, and
`/readyz` too; answers under way may take `server.drain`; what is left is cut, a stream with an error event.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from asyncio import TimerHandle
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from fnsync.api.app import create_app
from fnsync.api.exchange import CONNECTION
from fnsync.errors import ConfigError
from fnsync.units import format_size

if TYPE_CHECKING:
    from fnsync.service import Service

#: How long an idle connection is kept.
KEEP_ALIVE_S = 75
#: How long a client may take to send the head of a request.
HEAD_PATIENCE_S = 20.0
#: How long cut requests may take to say so.
CUT_S = 2.0
#: How often a stop looks whether everything is answered.
TICK_S = 0.02
_TOO_LARGE_HEAD = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b"
)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to the address; port 0 takes a free one. Raises ConfigError when that is impossible."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as exc:
        hint = "another server may be running; see server.host and server.port"
        raise ConfigError(f"cannot listen on {host}:{port}: {exc.strerror or exc}", hint=hint) from exc
    return listener


async def serve(service: Service, listener: socket.socket, on_ready: Callable[[], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM, then drain. `on_ready` runs once connections are taken."""
    limit = service.config.server.max_header
    config = uvicorn.Config(
        create_app(service),
        http=_protocol(limit),
        ws="none",
        lifespan="on",
        loop="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    await _Server(config, service, on_ready).serve(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service, on_ready: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._service = service
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at the first signal, at once at the second. The caller cleans up after us: nothing is raised again."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup, os.isatty(0))
        # They stay until the loop is closed: a late signal must not end the process while the caller cleans up.
        yield

    def _on_signal(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        self._service.draining = True

    def _on_hangup(self, had_terminal: bool) -> None:
        """Sync now; but where nothing is followed, or the signal says that our terminal is gone, stop."""
        if not self._service.remotes.are_followed or (had_terminal and not os.isatty(0)):
            self._on_signal()
        else:
            self._service.remotes.ask_all()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_ready is not None:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.draining = True
        for server in self.servers:
            server.close()
        self._service.sources.stop()
        await self._drain()
        for task in (cut := list(self.server_state.tasks)):
            task.cancel()
        if cut:
            await asyncio.wait(cut, timeout=CUT_S)
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self.lifespan.shutdown()

    async def _drain(self) -> None:
        """Wait for the answers under way, at most `server.drain`, or until the second signal."""
        until = time.monotonic() + self._service.config.server.drain
        while (tasks := list(self.server_state.tasks)) and time.monotonic() < until and not self.force_exit:
            await asyncio.wait(tasks, timeout=TICK_S)


class _HeldHead:
    """A connection that sends an answer's head together with what follows: one system call less for each answer."""

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = b""

    def write(self, data: bytes) -> None:
        if self._head is None:
            self._transport.write(data)
        elif self._head:
            head, self._head = self._head, None
            self._transport.write(head + data)
        else:
            self._head = data

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        if self._head:
            self._transport.write(self._head)
        self._transport.close()


class _Connection:
    """What an Exchange asks of our server beyond ASGI, about one request."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    def hold_head(self) -> None:
        """Have the answer's head wait for what follows it."""
        self._cycle.transport = _HeldHead(self._cycle.transport)  # type: ignore[assignment]  # all a cycle uses

    def has_body(self) -> bool:
        """Whether the whole body has arrived, so that reading it will not wait."""
        return not self._cycle.more_body


def _protocol(limit: int) -> type[HttpToolsProtocol]:
    """Return the protocol with a bounded head; httptools itself collects without end."""

    class BoundedProtocol(HttpToolsProtocol):
        _head_bytes = 0
        _in_head = True
        _impatience: TimerHandle | None = None

        def data_received(self, data: bytes) -> None:
            if self._in_head:
                self._head_bytes += len(data)
            super().data_received(data)
            if self._in_head and self._head_bytes:
                if self._head_bytes > limit:
                    self._refuse_head()
                elif self._impatience is None:
                    self._impatience = self.loop.call_later(HEAD_PATIENCE_S, self.transport.close)

        def on_message_begin(self) -> None:
            self._in_head = True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._in_head = False
            received, self._head_bytes = self._head_bytes, 0
            if self._impatience is not None:
                self._impatience.cancel()
                self._impatience = None
            if received > limit and self._size() > limit:
                raise httptools.HttpParserError("head too large")
            super().on_headers_complete()
            # The next request may come while this one is served: each has its own.
            self.scope["extensions"] = {CONNECTION: _Connection(self.cycle)}  # type: ignore[dict-item]  # for Exchange

        def connection_lost(self, exc: Exception | None) -> None:
            if self._impatience is not None:
                self._impatience.cancel()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            if self._size() > limit:
                self._refuse_head()
            else:
                super().send_400_response(msg)

        def _size(self) -> int:
            return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

        def _refuse_head(self) -> None:
            if not self.transport.is_closing():
                body = b'{"detail": "the head of the request is larger than %b"}' % format_size(limit).encode()
                self.transport.write(_TOO_LARGE_HEAD % (len(body), body))
                self.transport.close()

    return BoundedProtocol
