"""A provider of models on a port of this machine, that does what a chat's last message says.

!status 429       answers with that status
!break            ends in the middle of a stream
!hold             sends one part, and the next when `release` is set
!silent           answers when `release` is set
!given            answers with `given`
anything else     `one two three`, streamed or not
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests import webserver

WORDS = ("one ", "two ", "three")
KEY = "sk-very-secret-key"


@dataclass
class Request:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Upstream:
    """The provider. What it lists and says can be changed at any time."""

    url: str = ""
    models: Any = field(default_factory=lambda: {"object": "list", "data": [{"id": "base-model", "created": 7}]})
    list_status: int = 200
    #: Lists are answered when it is set.
    lists: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    #: Set when a client went away in the middle of `!hold`.
    left: threading.Event = field(default_factory=threading.Event)
    requests: list[Request] = field(default_factory=list)
    #: Content type and body of an answer.
    given: tuple[str, bytes] = ("application/json", b"")

    def asked(self, path: str) -> list[Request]:
        """The requests for that path."""
        return [request for request in self.requests if request.path == path]


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    """An event of a stream, with an odd key and space that only bytes can keep."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data:  " + json.dumps({"id": "stub-1", "x_odd": "\u00fc", "choices": [choice]}).encode() + b"\n\n"


STREAM = (chunk({"role": "assistant"}), *(chunk({"content": word}) for word in WORDS), chunk({}, "stop"))
DONE = b": bye\n\ndata: [DONE]\n\n"
WHOLE = json.dumps(
    {
        "id": "stub-1",
        "object": "chat.completion",
        "x_odd": "\u00fc",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "one two three"}, "finish_reason": "stop"}
        ],
    },
    indent=1,
).encode()


@contextmanager
def serving(port: int = 0) -> Iterator[Upstream]:
    """A provider that runs for the block."""
    upstream = Upstream()
    upstream.lists.set()

    class Handler(webserver.Handler):
        def do_GET(self) -> None:
            self.noted()
            upstream.lists.wait(30)
            self.whole(upstream.list_status, json.dumps(upstream.models).encode())

        def do_POST(self) -> None:
            body = json.loads(self.noted())
            said = str(body["messages"][-1]["content"])
            if said == "!silent":
                upstream.release.wait(30)
            if said.startswith("!status "):
                refused = {"error": {"message": f"refused, {self.headers['authorization']}", "code": 7}}
                self.whole(int(said.split()[1]), json.dumps(refused).encode(), ("Retry-After", "9"))
            elif said == "!given":
                type, given = upstream.given
                self.whole(200, given, type=type)
            elif body.get("stream"):
                self.stream(said)
            else:
                self.whole(200, WHOLE, ("X-Request-Id", "req-1"), ("Set-Cookie", "a=b"))

        def noted(self) -> bytes:
            headers, body = self.take()
            upstream.requests.append(Request(self.path, headers, body))
            return body

        def whole(self, status: int, body: bytes, *headers: tuple[str, str], type: str = "application/json") -> None:
            self.answer(status, {"Content-Type": type, **dict(headers)}, body)

        def stream(self, said: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number, part in enumerate((*STREAM, DONE)):
                if number == 1 and said == "!break":
                    self.close_connection = True
                    return
                if number == 1 and said == "!hold" and not self.held():
                    return
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

        def held(self) -> bool:
            """Wait for `release`; false: the client went away."""
            self.connection.settimeout(0.02)
            while not upstream.release.is_set():
                try:
                    if self.connection.recv(1) == b"":
                        upstream.left.set()
                        self.close_connection = True
                        return False
                except TimeoutError:
                    continue
            self.connection.settimeout(None)
            return True

    with webserver.serving(Handler, port) as upstream.url:
        try:
            yield upstream
        finally:
            upstream.lists.set()
            upstream.release.set()
