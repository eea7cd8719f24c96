"""Web servers on ports of this machine that run for the time of a test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # whoever asked may have gone
            super().handle()

    def take(self) -> tuple[dict[str, str], bytes]:
        """The headers, their names in lower case, and the body."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        return headers, self.rfile.read(int(headers.get("content-length") or 0))

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Send it all."""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(handler: type[Handler], port: int = 0) -> Iterator[str]:
    """The address of a server that runs for the block; its end cuts what is under way."""
    connections: list[socket.socket] = []

    class Noted(handler):  # type: ignore[misc, valid-type]
        def setup(self) -> None:
            super().setup()
            connections.append(self.connection)

    server = ThreadingHTTPServer(("127.0.0.1", port), Noted)
    server.daemon_threads = False  # so that the end waits for them
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        for connection in connections:
            with suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)
        server.server_close()
        thread.join()
