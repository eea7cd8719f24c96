"""A receiver of notifications on a port of this machine, that answers as it is told to."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests import webserver

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


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that runs for the block."""
    receiver = Receiver()

    class Receiving(webserver.Handler):
        def do_POST(self) -> None:
            message = Message(self.path, *self.take())
            answer = receiver.then.pop(0) if receiver.then else OK
            receiver.messages.append(message)
            if answer is None:
                receiver.release.wait(30)
                self.close_connection = True
            else:
                self.answer(*answer)

    with webserver.serving(Receiving) as url:
        receiver.url = f"{url}/in"
        try:
            yield receiver
        finally:
            receiver.release.set()


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
