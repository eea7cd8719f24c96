"""Git hosts for tests: `git http-backend` behind HTTP, and a proxy that cuts, spoils or holds up what passes."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"


@dataclass
class HttpGitHost:
    """The repositories below a folder over smart HTTP. Use as a context manager."""

    folder: Path
    #: Cleared: it speaks the oldest protocol, which gives tips of refs only.
    modern: bool = True
    #: The path of each request.
    requests: list[str] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"http://{LOOPBACK}:{self.port}/{name}"

    def __enter__(self) -> HttpGitHost:
        host = self

        class Handler(GitHandler):
            owner = host

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class GitHandler(BaseHTTPRequestHandler):
    """Serves what its owner's folder holds."""

    protocol_version = "HTTP/1.1"
    owner: HttpGitHost

    def do_GET(self) -> None:
        self.serve(b"")

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.serve(body)

    def serve(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        self.owner.requests.append(self.path)
        variables = {
            "GIT_PROJECT_ROOT": str(self.owner.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", "") if self.owner.modern else "",
        }
        line = ["git", "-c", "safe.directory=*", "http-backend"]
        done = subprocess.run(line, input=body, env=os.environ | variables, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        self.answer(int(headers.pop("Status", "200").split()[0]), headers, content)

    def answer(self, status: int, headers: Mapping[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with suppress(OSError):  # the other side may have gone
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@dataclass
class CuttingProxy:
    """Passes bytes on to a port, and may do so badly; what it does may be changed at any time.

    Counted is what the server has answered, over all connections since `reset`.
    """

    port_behind: int
    #: Cuts the connection behind so many bytes.
    cut_after: int | None = None
    #: Spoils every byte behind so many.
    spoil_after: int | None = None
    #: Passes nothing on behind so many, and keeps the connection.
    hold_after: int | None = None
    #: Passes so many bytes on at a time, a thousand times a second.
    drip: int | None = None
    #: Counts only from where the next pack begins.
    in_pack: bool = False
    passed: int = 0
    #: Set once it has cut, spoilt or held.
    has_struck: threading.Event = field(default_factory=threading.Event)

    def url(self, name: str) -> str:
        return f"http://{LOOPBACK}:{self.port}/{name}"

    def reset(self, *, in_pack: bool = False, **how: int | None) -> None:
        self.cut_after = self.spoil_after = self.hold_after = self.drip = None
        self.in_pack = in_pack
        self.passed = 0
        self.has_struck.clear()
        for name, after in how.items():
            setattr(self, name, after)

    def __enter__(self) -> CuttingProxy:
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def let_go(self) -> None:
        """Cut all connections, those that are held too."""
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __exit__(self, *_: object) -> None:
        for connection in [self._listener, *self._open]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection((LOOPBACK, self.port_behind))
            self._open += [client, server]
            threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 14):
                if is_answer:
                    data = self._treated(data, target)
                    while self.drip is not None and data:
                        target.sendall(data[: self.drip])
                        data = data[self.drip :]
                        self.has_struck.set()
                        time.sleep(0.001)
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _treated(self, data: bytes, target: socket.socket) -> bytes:
        if self.in_pack:
            begin = data.find(b"PACK")
            if begin < 0:
                return data
            self.in_pack, self.passed = False, -begin
        start, self.passed = self.passed, self.passed + len(data)
        if self.hold_after is not None and self.passed > self.hold_after:
            target.sendall(data[: max(0, self.hold_after - start)])
            self.has_struck.set()
            target.recv(1)  # until the other side has gone
        if self.cut_after is not None and self.passed > self.cut_after:
            target.sendall(data[: max(0, self.cut_after - start)])
            self.has_struck.set()
            raise ConnectionAbortedError
        if self.spoil_after is not None and self.passed > self.spoil_after:
            good = max(0, self.spoil_after - start)
            self.has_struck.set()
            return data[:good] + bytes(byte ^ 0x55 for byte in data[good:])
        return data
