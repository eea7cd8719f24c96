"""The load generator's process: as little Python per request as possible, since it shares the processors.

Run as a file with nothing but the standard library. A job per line on stdin, a result per line on stdout, both
JSON; it ends with its stdin.
"""

import json
import select
import socket
import sys
import time
from typing import Any

#: Small enough that the buffer comes from the heap: larger ones are mapped and unmapped by the kernel each time.
READ_BYTES = 64 * 1024
#: A chunked answer ends so; JSON and events have no carriage returns, so nothing else does.
STREAM_END = b"\r\n0\r\n\r\n"
#: How long an answer may take, in seconds.
PATIENCE_S = 30.0


class Broken(Exception):
    """The server answered something else than what is measured."""


class Client:
    """One kept-alive connection with at most one request under way."""

    def __init__(self, port: int, stream: bool) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)  # with a timeout, Python polls before each call
        self.take = self.take_stream if stream else self.take_plain
        self.sent_at = 0.0
        self._pending = b""

    def take_plain(self) -> bool:
        """Read; return whether the answer is complete."""
        data = self._pending + self._read() if self._pending else self._read()
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            at = data.find(b"content-length: ", 0, end)
            if data[9:12] != b"200" or at < 0:
                raise Broken(data[:1000].decode("utf-8", "replace"))
            if len(data) >= end + 4 + int(data[at + 16 : data.find(b"\r", at)]):
                self._pending = b""
                return True
        self._pending = data
        return False

    def take_stream(self) -> bool:
        data = self._read()
        if not self._pending and data[9:12] != b"200":
            raise Broken(data[:1000].decode("utf-8", "replace"))
        # The end may come in two pieces, so the last bytes are kept.
        tail = (self._pending + data)[-len(STREAM_END) :] if len(data) < len(STREAM_END) else data
        if tail.endswith(STREAM_END):
            self._pending = b""
            return True
        self._pending = tail[-len(STREAM_END) :]
        return False

    def _read(self) -> bytes:
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise Broken("the server closed the connection")
        return data


def load(job: dict[str, Any]) -> dict[str, Any]:
    """Keep every connection busy for `seconds`; tell how many answers came, and how long each took."""
    request = job["request"].encode("latin-1")
    clients = {}
    poll = select.epoll()
    for _ in range(job["connections"]):
        client = Client(job["port"], job["stream"])
        clients[client.socket.fileno()] = client
        poll.register(client.socket, select.EPOLLIN)
    drive(poll, clients, request, job["warm_up_s"])
    began = time.perf_counter()
    took = drive(poll, clients, request, job["seconds"])
    elapsed = time.perf_counter() - began
    poll.close()
    for client in clients.values():
        client.socket.close()
    took.sort()
    return {"answers": len(took), "seconds": elapsed, "p50_s": at(took, 0.5), "p99_s": at(took, 0.99)}


def drive(poll: select.epoll, clients: dict[int, Client], request: bytes, seconds: float) -> list[float]:
    """Send and receive until the time is over and all answers are there; return how long each took, in seconds."""
    clock = time.perf_counter
    took: list[float] = []
    until = clock() + seconds
    for client in clients.values():
        client.sent_at = clock()
        client.socket.send(request)
    busy = len(clients)
    while busy:
        ready = poll.poll(PATIENCE_S)
        if not ready:
            raise Broken(f"no answer within {PATIENCE_S:g} s")
        for descriptor, _ in ready:
            client = clients[descriptor]
            if client.take():
                now = clock()
                took.append(now - client.sent_at)
                if now < until:
                    client.sent_at = now
                    client.socket.send(request)
                else:
                    busy -= 1
    return took


def at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def main() -> None:
    for line in sys.stdin:
        try:
            result = load(json.loads(line))
        except (Broken, OSError) as exc:
            result = {"error": f"{type(exc).__name__}: {exc}"}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
