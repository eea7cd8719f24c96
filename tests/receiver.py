"""A receiver of notifications on a port of this machine, that answers as it is told to."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Status, headers, body.
Answer = tuple[int, dict[str, str], bytes]
OK: Answer = (204, {}, b"")


@dataclass
class Message:
    """One message as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    def is_signed(self, secret: str) -> bool:
        """As a receiver checks it; see docs/sync.md."""
        fields = dict(part.split("=", 1) for part in self.headers["x-fnsync-signature"].split(","))
        signed = fields["t"].encode() + b"." + self.body
        return hmac.compare_digest(hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest(), fields["v1"])


@dataclass
class Receiver:
    """Answers `then`, in their order, and then OK. None: it does not answer, until `release` is set."""

    url: str = ""
    then: list[Answer | None] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)

    def events(self) -> list[str]:
        return [message.headers["x-fnsync-event"] for message in self.messages]


def _handler(receiver: Receiver, connections: list[socket.socket]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            connections.append(self.connection)

        def log_message(self, format: str, *args: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):  # whoever asked may have gone
                super().handle()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = receiver.then.pop(0) if receiver.then else OK
            receiver.messages.append(Message(self.path, headers, body))
            if answer is None:
                receiver.release.wait(30)
                self.close_connection = True
                return
            status, more, said = answer
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(said))} | more).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said)

    return Handler


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that runs for the block."""
    receiver = Receiver()
    connections: list[socket.socket] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(receiver, connections))
    server.daemon_threads = False  # so that the end waits for them
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/in"
    try:
        yield receiver
    finally:
        receiver.release.set()
        server.shutdown()
        for connection in connections:
            with suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)
        server.server_close()
        thread.join()


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
