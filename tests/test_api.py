"""The HTTP surface: operations, errors, limits on what clients send, and the end of the server."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message

from fnsync.api import exchange as exchanges
from fnsync.api.errors import MethodNotAllowed, Unexpected
from fnsync.api.exchange import Exchange
from fnsync.errors import FnsyncError, Invalid
from tests.conftest import Project, Server, wait_for

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
ECHO = "class Pipe:\n    def pipe(self, body): return 'fine'\n"


class Kept:
    """A connection that stays open between requests."""

    def __init__(self, server: Server) -> None:
        host, _, port = server.url.removeprefix("http://").partition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=20)
        self._headers = {"Authorization": f"Bearer {server.token}"}

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], Any]:
        self._connection.request(method, path, body and json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, json.loads(answer.read())


@pytest.fixture
def keep() -> Iterator[Callable[[Server], Kept]]:
    kept: list[Kept] = []

    def connect(server: Server) -> Kept:
        kept.append(Kept(server))
        return kept[-1]

    yield connect
    for each in kept:
        each._connection.close()


def exchange(server: Server, data: bytes) -> bytes:
    """Send bytes over a bare connection; return all that comes until the server closes it."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(data)
        found = b""
        while part := connection.recv(65536):
            found += part
        return found


def head(server: Server, *lines: str, path: str = CHAT) -> bytes:
    fields = (f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {server.token}", *lines)
    return "".join(f"{line}\r\n" for line in fields).encode() + b"\r\n"


# ---- operations ------------------------------------------------------------------------------------------


def test_health_and_readiness_need_no_token(server: Server) -> None:
    assert httpx.get(f"{server.url}/healthz").json() == {"status": True}
    assert httpx.get(f"{server.url}/readyz").json() == {"ready": True}
    assert httpx.head(f"{server.url}/healthz").status_code == 200


def test_the_status_names_each_function(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(fn, ECHO)
    status = client.get("/api/status").json()

    assert {"version", "ready", "draining", "started_at", "uptime_s", "repository", "watcher", "functions"} <= set(
        status
    )
    function = next(entry for entry in status["functions"] if entry["id"] == fn)
    assert function["status"] == "ready"
    assert function["live_revision"] == function["revision"]


def test_metrics_count_requests_and_calls(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(fn, ECHO)
    for _ in range(3):
        assert client.post(CHAT, json={"model": fn, "messages": HELLO}).status_code == 200
    client.post(CHAT, json={"model": "no_such_model", "messages": HELLO})

    lines = client.get("/metrics").text.splitlines()

    assert f'fnsync_call_duration_seconds_count{{function="{fn}"}} 3.0' in lines
    assert any(line.startswith('fnsync_http_requests_total{status="404",surface="openai"}') for line in lines)
    assert any(line.startswith('fnsync_functions{status="ready"}') for line in lines)
    assert any(line.startswith(f'fnsync_workers{{function="{fn}"}} 1.0') for line in lines)


def test_calls_of_a_function_that_is_gone_are_no_longer_counted(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(fn, ECHO)
    client.post(CHAT, json={"model": fn, "messages": HELLO})
    assert f'fnsync_call_duration_seconds_count{{function="{fn}"}} 1.0' in client.get("/metrics").text

    server.project.remove(f"{fn}.py")
    server.gone(fn)
    client.post(CHAT, json={"model": "any", "messages": HELLO})

    assert f'duration_seconds_count{{function="{fn}"}}' not in client.get("/metrics").text


def test_metrics_are_for_tokens_and_for_this_machine(server: Server, user_client: httpx.Client) -> None:
    url = f"{server.url}/metrics"

    assert httpx.get(url).status_code == 200, "a direct connection from this machine"
    assert httpx.get(url, headers={"X-Forwarded-For": "203.0.113.1"}).status_code == 401, "through a proxy on it"
    assert httpx.get(url, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert user_client.get("/metrics").status_code == 200


def test_metrics_name_functions_to_admins_and_to_this_machine_alone(
    server: Server, client: httpx.Client, user_client: httpx.Client, fn: str
) -> None:
    server.add(fn, ECHO)
    client.post(CHAT, json={"model": fn, "messages": HELLO})
    url = f"{server.url}/metrics"

    for whole in (client.get("/metrics"), httpx.get(url)):
        assert f'fnsync_workers{{function="{fn}"}}' in whole.text
        assert f'fnsync_call_duration_seconds_count{{function="{fn}"}}' in whole.text
    rest = user_client.get("/metrics").text
    assert fn not in rest and "function=" not in rest
    for name in ("http_requests_total{", "calls_running", "functions{", "loads_total{", "uptime_seconds"):
        assert f"\nfnsync_{name}" in rest, name
    proxied = {"X-Forwarded-For": "203.0.113.1", "Authorization": user_client.headers["Authorization"]}
    assert "function=" not in httpx.get(url, headers=proxied).text


def test_the_log_of_a_function(server: Server, client: httpx.Client, fn: str) -> None:
    text = """
        import logging
        import sys

        class Pipe:
            def pipe(self, body):
                print("to stdout")
                print("to stderr", file=sys.stderr)
                logging.getLogger("mine").warning("a warning")
                return ""
    """
    status = server.add(fn, text)
    client.post(CHAT, json={"model": fn, "messages": HELLO})

    def lines() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = client.get(f"/api/functions/id/{fn}/logs").json()["lines"]
        return found if len(found) >= 3 else []

    found = {line["text"]: line for line in wait_for("three lines", lines)}
    assert {text: line["stream"] for text, line in found.items()} == {
        "to stdout": "stdout",
        "to stderr": "stderr",
        "a warning": "log",
    }
    line = found["a warning"]
    assert (line["function"], line["revision"], line["level"], line["logger"]) == (
        fn, status["revision"], "WARNING", "mine",
    )  # fmt: skip
    assert line["call"] and abs(line["at"] - time.time()) < 60
    assert len(client.get(f"/api/v1/functions/id/{fn}/logs?tail=1").json()["lines"]) == 1


def test_a_log_that_is_followed_goes_on(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(
        fn, "class Pipe:\n    def pipe(self, body):\n        print(body['messages'][0]['content'])\n        return ''\n"
    )
    say = {"model": fn, "messages": [{"role": "user", "content": "first"}]}
    client.post(CHAT, json=say)
    url = f"/api/functions/id/{fn}/logs"
    wait_for("the first line", lambda: client.get(url).json()["lines"])

    with client.stream("GET", f"{url}?follow=true") as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = answer.iter_lines()
        assert json.loads(next(lines))["text"] == "first"
        with server.client() as other:
            other.post(CHAT, json={"model": fn, "messages": [{"role": "user", "content": "second"}]})
        assert json.loads(next(lines))["text"] == "second"


@pytest.mark.parametrize("tail", ["x", "-1", "1001"])
def test_a_bad_tail_is_refused(server: Server, client: httpx.Client, fn: str, tail: str) -> None:
    server.add(fn, ECHO)
    assert client.get(f"/api/functions/id/{fn}/logs?tail={tail}").status_code == 400


def test_the_log_of_no_function_is_not_found(client: httpx.Client) -> None:
    answer = client.get("/api/functions/id/no_such_function/logs")
    assert answer.status_code == 404
    assert "no_such_function" in answer.json()["detail"]


# ---- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/nothing", "/v1/nothing", "/api/nothing", "/v1/models/", "/api/models/x/y", "/%00"])
def test_unknown_paths_are_not_found_in_json(client: httpx.Client, path: str) -> None:
    answer = client.get(path)

    assert answer.status_code == 404
    assert set(answer.json()) == ({"error"} if path.startswith("/v1") else {"detail"})


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", CHAT, "POST"), ("POST", "/v1/models", "GET"), ("DELETE", "/readyz", "GET")]
)
def test_another_method_is_405_and_says_which(client: httpx.Client, method: str, path: str, allowed: str) -> None:
    answer = client.request(method, path)

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_the_two_shapes_of_errors(client: httpx.Client) -> None:
    bad = {"model": "m", "messages": []}

    openai = client.post(CHAT, json=bad)
    other = client.post("/api/chat/completions", json=bad)

    assert openai.status_code == other.status_code == 400
    message = other.json()["detail"]
    assert openai.json() == {
        "error": {"message": message, "type": "invalid_request_error", "param": "messages", "code": "invalid"}
    }


def test_every_error_code_is_documented() -> None:
    text = (Path(__file__).parents[1] / "docs/http.md").read_text()
    never_answered = {"ConfigError", "SourceError", "PushFailed"}
    answered: set[type[FnsyncError]] = {*descendants(FnsyncError), MethodNotAllowed, Unexpected}
    for error in answered:
        if error.__module__.startswith("fnsync.cli") or never_answered & {kind.__name__ for kind in error.__mro__}:
            continue
        assert f"| {error.status} | `{error.code}` |" in text, f"docs/http.md lacks {error.code}, {error.status}"


def descendants(kind: type[FnsyncError]) -> Iterator[type[FnsyncError]]:
    for inner in kind.__subclasses__():
        yield inner
        yield from descendants(inner)


def test_answers_do_not_name_the_server_software(client: httpx.Client) -> None:
    assert "server" not in client.get("/healthz").headers


# ---- limits on what clients send -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes bodies of 100 kB and heads of 4 kB."""
    project = Project(tmp_path_factory.mktemp("small") / "project")
    project.configure("server: {max_body: 100KB, max_header: 4KB}")
    project.write("echo.py", ECHO)
    server = Server(project)
    try:
        yield server.wait_ready()
    finally:
        server.stop()


def test_a_body_over_the_limit_is_413(small_server: Server) -> None:
    with small_server.client() as client:
        answer = client.post(CHAT, json={"model": "echo", "messages": [{"content": "x" * 200_000}]})

    assert answer.status_code == 413
    assert "100" in answer.json()["error"]["message"]


def test_a_large_body_over_the_limit_gets_its_answer_and_no_broken_connection(small_server: Server) -> None:
    with small_server.client() as client:
        assert client.post(CHAT, content=b"x" * 20_000_000).status_code == 413


def test_a_chunked_body_over_the_limit_is_413(small_server: Server) -> None:
    with small_server.client() as client:
        assert client.post(CHAT, content=(b"x" * 1000 for _ in range(1000))).status_code == 413


def test_a_chunked_body_within_the_limit_is_taken(small_server: Server) -> None:
    data = json.dumps({"model": "echo", "messages": HELLO}).encode()

    with small_server.client() as client:
        answer = client.post(CHAT, content=(data[place : place + 7] for place in range(0, len(data), 7)))

    assert answer.json()["choices"][0]["message"]["content"] == "fine"


def test_a_client_that_asks_first_is_told_before_it_sends(small_server: Server) -> None:
    found = exchange(small_server, head(small_server, "Content-Length: 2000000", "Expect: 100-continue"))

    assert found.startswith(b"HTTP/1.1 413 "), found
    assert b"connection: close" in found


def test_a_client_that_asks_first_may_send_within_the_limit(small_server: Server) -> None:
    data = json.dumps({"model": "echo", "messages": HELLO}).encode()
    host, _, port = small_server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(
            head(small_server, f"Content-Length: {len(data)}", "Expect: 100-continue", "Connection: close")
        )
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(data)
        found = b"".join(iter(lambda: connection.recv(65536), b""))

    assert found.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "lines",
    [
        ("X-Long: " + "x" * 8000,),
        tuple(f"X-{number}: {'x' * 80}" for number in range(100)),
        ("X-Huge: " + "x" * 1_000_000,),
    ],
    ids=["one long header", "many headers", "a header of 1 MB"],
)
def test_a_head_over_the_limit_is_431(small_server: Server, lines: tuple[str, ...]) -> None:
    try:
        found = exchange(small_server, head(small_server, "Content-Length: 0", *lines))
    except ConnectionResetError:
        return  # it was cut while the client still sent; only what comes after counts
    assert found.startswith(b"HTTP/1.1 431 "), found
    head_of_answer, _, text = found.partition(b"\r\n\r\n")
    assert json.loads(text) == {"detail": "the head of the request is larger than 4KB"}
    assert b"content-length: %d" % len(text) in head_of_answer


def test_a_long_address_is_431(small_server: Server) -> None:
    found = exchange(small_server, head(small_server, "Content-Length: 0", path="/" + "x" * 8000))

    assert found.startswith(b"HTTP/1.1 431 ")


def test_a_large_body_in_one_packet_with_a_small_head_is_no_large_head(small_server: Server) -> None:
    data = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "x" * 50_000}]}).encode()
    found = exchange(small_server, head(small_server, f"Content-Length: {len(data)}", "Connection: close") + data)

    assert found.startswith(b"HTTP/1.1 200 "), found[:200]


def test_what_is_no_http_is_400(small_server: Server) -> None:
    assert exchange(small_server, b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_requests_in_a_row_on_one_connection_are_answered_in_order(server: Server, fn: str) -> None:
    text = "class Pipe:\n    def pipe(self, body): return body['messages'][0]['content']\n"
    server.add(fn, text)
    bodies = [json.dumps({"model": fn, "messages": [{"content": f"<{n}>"}]}).encode() for n in range(3)]
    last = ("", "", "Connection: close")

    requests = b"".join(
        head(server, f"Content-Length: {len(body)}", *([line] if line else [])) + body
        for body, line in zip(bodies, last, strict=True)
    )
    found = exchange(server, requests)

    assert found.count(b"HTTP/1.1 200 ") == 3
    assert found.index(b"<0>") < found.index(b"<1>") < found.index(b"<2>")


def test_requests_in_a_row_are_answered_while_the_connection_stays_open(server: Server, fn: str) -> None:
    server.add(fn, "class Pipe:\n    def pipe(self, body): return body['messages'][0]['content']\n")
    bodies = [json.dumps({"model": fn, "messages": [{"content": f"<{n}>"}]}).encode() for n in range(3)]
    host, _, port = server.url.removeprefix("http://").partition(":")

    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"".join(head(server, f"Content-Length: {len(body)}") + body for body in bodies))
        found = b""
        while b"<2>" not in found:
            found += connection.recv(65536)

    assert found.count(b"HTTP/1.1 200 ") == 3


# ---- bodies that do not come -----------------------------------------------------------------------------


def read_body(*parts: tuple[float, bytes], draining: Callable[[], bool] = lambda: False) -> bytes:
    """Read a body whose parts each come after a time in seconds; after the last, nothing comes."""

    async def run() -> bytes:
        coming = iter(parts)

        async def receive() -> Message:
            after_s, data = next(coming, (3600.0, b""))
            await asyncio.sleep(after_s)
            return {"type": "http.request", "body": data, "more_body": data != b"end"}

        async def send(message: Message) -> None:
            raise AssertionError(message)

        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [(b"transfer-encoding", b"chunked")]}
        return await Exchange(scope, receive, send, draining).body(1000)

    return asyncio.run(run())


def test_a_body_may_take_its_time() -> None:
    assert read_body((0.05, b"to the "), (0.05, b"end")) == b"to the end"


@pytest.mark.parametrize("parts", [(), ((0, b"begun"),)], ids=["never begun", "stopped"])
def test_a_body_that_does_not_come_is_not_waited_for_without_end(
    parts: tuple[tuple[float, bytes], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchanges, "BODY_PATIENCE_S", 0.1)
    with pytest.raises(Invalid, match=r"does not come fast enough"):
        read_body(*parts)


def test_a_body_that_trickles_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "BODY_PATIENCE_S", 0.2)
    with pytest.raises(Invalid, match=r"does not come fast enough: \d+ bytes"):
        read_body(*[(0.02, b"x")] * 100)


def test_a_body_that_does_not_come_and_a_feed_do_not_hold_up_a_stop(
    project: Project, start_server: Callable[..., Server]
) -> None:
    project.configure("server: {drain: 60s}")
    server = start_server(project)
    host, _, port = server.url.removeprefix("http://").partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=20) as connection,
        server.client() as client,
        client.stream("GET", "/api/events?chat_id=c") as feed,
    ):
        lines = feed.iter_lines()
        assert next(lines) == ": listening"
        connection.sendall(head(server, "Content-Length: 100") + b"{")
        time.sleep(0.2)  # the server waits for the rest now

        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        found = b"".join(iter(lambda: connection.recv(65536), b""))

        assert list(lines) == [""], "the feed of events was cut"
        assert server.stop() == 0
        assert time.monotonic() - began < 15
    assert found.startswith(b"HTTP/1.1 503 "), found
    assert b"connection: close" in found


# ---- the end ---------------------------------------------------------------------------------------------

SLOW = """
    import asyncio

    class Pipe:
        async def pipe(self, body):
            for number in range({count}):
                yield f"{{number}} "
                await asyncio.sleep(0.1)
"""


def stopping(project: Project, start_server: Callable[..., Server], *, count: int, drain: str) -> Server:
    project.configure(f"server: {{drain: {drain}}}")
    project.write("slow.py", SLOW.format(count=count))
    server = start_server(project)
    server.settle("slow")
    return server


class Reader(threading.Thread):
    """Reads a stream of `slow` to its end."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.text = ""
        self.begun = threading.Event()
        self.start()

    def run(self) -> None:
        request = {"model": "slow", "messages": HELLO, "stream": True}
        with self.server.client() as client, client.stream("POST", CHAT, json=request) as answer:
            for part in answer.iter_text():
                self.text += part
                self.begun.set()


def test_a_stream_may_finish_while_the_server_stops(
    project: Project, start_server: Callable[..., Server], keep: Callable[[Server], Kept]
) -> None:
    server = stopping(project, start_server, count=15, drain="20s")
    kept, another = keep(server), keep(server)
    assert kept.ask("GET", "/readyz")[2] == {"ready": True}
    another.ask("GET", "/healthz")
    reader = Reader(server)
    assert reader.begun.wait(10)

    server.process.send_signal(signal.SIGTERM)
    wait_for("the end of listening", lambda: not accepts(server))

    status, headers, answer = kept.ask("POST", CHAT, {"model": "slow", "messages": HELLO})
    assert (status, headers["connection"], answer["error"]["code"]) == (503, "close", "draining")
    assert int(headers["retry-after"]) >= 1
    status, _, answer = another.ask("GET", "/readyz")
    assert (status, answer) == (503, {"ready": False, "reason": "draining"})

    reader.join(15)
    assert '"14 "' in reader.text
    assert reader.text.endswith("data: [DONE]\n\n")
    assert "the server stopped" not in reader.text
    assert server.stop() == 0


def test_a_stream_that_takes_too_long_is_cut_with_an_event(
    project: Project, start_server: Callable[..., Server]
) -> None:
    server = stopping(project, start_server, count=600, drain="500ms")
    reader = Reader(server)
    assert reader.begun.wait(10)

    began = time.monotonic()
    assert server.stop() == 0

    assert time.monotonic() - began < 8
    reader.join(5)
    *_, error, done, _ = reader.text.split("\n\n")
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "draining"
    assert done == "data: [DONE]"


def test_a_second_signal_does_not_wait(project: Project, start_server: Callable[..., Server]) -> None:
    server = stopping(project, start_server, count=600, drain="60s")
    reader = Reader(server)
    assert reader.begun.wait(10)

    server.process.send_signal(signal.SIGINT)
    wait_for("the end of listening", lambda: not accepts(server))

    began = time.monotonic()
    assert server.stop(signal.SIGINT) == 0
    assert time.monotonic() - began < 8


def test_an_idle_server_stops_at_once(
    project: Project, start_server: Callable[..., Server], keep: Callable[[Server], Kept]
) -> None:
    server = start_server(project)
    keep(server).ask("GET", "/healthz")

    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 5, "an idle connection holds nothing up"
    assert not (server.data / "server.json").exists()


def accepts(server: Server) -> bool:
    host, _, port = server.url.removeprefix("http://").partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True
