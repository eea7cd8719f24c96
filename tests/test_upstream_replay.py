"""Recorded exchanges of Open WebUI in front of an upstream: the same answers, and the same asked of the upstream.

The recordings are in tests/data/wire/upstream; INTENDED says where and why fnsync differs. Of those that there are, two
have no counterpart: upstream-preset-with-filter (there are no presets) and upstream-task-filters (there are no routes
for tasks; what a chat service says of them in `metadata` is in the conformance suite).
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Project, Server
from tests.recordings import ANY, STALE, Ours, differences
from tests.test_wire_replay import DONE, MID_STREAM, Replay, error, events, expectation, refused

DATA = Path(__file__).parent / "data" / "wire" / "upstream"
MODELS = {"object": "list", "data": [{"id": "base-model", "object": "model", "created": 1700000000}]}


@dataclass
class Recorded:
    """An upstream that answers what was recorded, in that order."""

    url: str = ""
    answers: deque[dict[str, Any]] = field(default_factory=deque)
    asked: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def recorded_upstream() -> Iterator[Recorded]:
    upstream = Recorded()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            self.answer(200, "application/json", json.dumps(MODELS))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {name: self.headers.get(name) for name in ("authorization", "content-type")}
            upstream.asked.append({"method": "POST", "path": self.path, "headers": headers, "json": body})
            if not upstream.answers:
                self.answer(599, "text/plain", "more was asked than was recorded")
                return
            answer = upstream.answers.popleft()
            text = answer.get("text") or json.dumps(answer.get("json"))
            if "sse" in answer:
                lines = [event if isinstance(event, str) else json.dumps(event) for event in answer["sse"]]
                text = "".join(f"data: {line}\n\n" for line in lines)
            self.answer(answer["status"], answer["headers"]["content-type"], text)

        def answer(self, status: int, media_type: str, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    upstream.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorded]:
    with recorded_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, upstream: Recorded) -> Iterator[Server]:
    """A server in front of the upstream, with the recordings' key."""
    project = Project(tmp_path_factory.mktemp("front") / "project")
    project.configure(f'upstreams: [{{name: up, kind: openai, url: "{upstream.url}", key: {{env: UP_KEY}}}}]')
    server = Server(project, environ={"UP_KEY": "x"})
    try:
        yield server.wait_ready()
    finally:
        server.stop()


@pytest.fixture
def replay(front: Server) -> Iterator[Replay]:
    replay = Replay(front)
    yield replay
    replay.clear()


def answer_of_the_stub(content: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    head = {"id": "stub-1", "created": "<epoch>", "model": "base-model", "object": "chat.completion"}
    return {**head, "choices": [choice], "usage": usage}


#: Scenario -> number of the exchange -> what fnsync does instead.
INTENDED: dict[str, dict[int, Ours]] = {
    "upstream-filter-all-hooks": {
        0: Ours("an outlet changes the plain answer", json=answer_of_the_stub("one two three +outlet")),
    },
    "upstream-filter-inlet-raises": {
        place: Ours("the filter is named", 400, refused("blocked", "guard")) for place in (0, 1)
    },
    "upstream-filter-stream-raises": {
        1: Ours(
            f"{MID_STREAM}; the filter is named",
            sse=[ANY, ANY, error("ValueError: no two", "function_raised", traceback=ANY, filter="picky"), DONE],
        )
    },
}


@pytest.mark.parametrize("scenario", sorted(path.stem for path in DATA.glob("*.json")))
def test_an_upstream_is_asked_and_answers_as_recorded(replay: Replay, upstream: Recorded, scenario: str) -> None:
    recording = json.loads((DATA / f"{scenario}.json").read_text())
    replay.set_up(recording)

    with httpx.Client(base_url=replay.server.url, timeout=30) as client:
        for place, exchange in enumerate(recording["exchanges"]):
            request, ours = exchange["request"], INTENDED.get(scenario, {}).get(place)
            upstream.asked.clear()
            upstream.answers = deque(step["response"] for step in exchange["upstream"])

            answer = client.request(
                request["method"], request["path"], headers=replay.headers(exchange["as"]), json=request["json"]
            )

            name = f"{scenario}[{place}]"
            asked = [_of_interest(step["request"]) for step in exchange["upstream"]]
            assert not differences(asked, upstream.asked, f"{name}.upstream")
            recorded = expectation(exchange["response"], None)
            text = exchange["response"].get("text")
            assert not disagreements(name, ours or recorded, text, answer)
            if ours is not None:
                assert disagreements("", recorded, text, answer), STALE.format(scenario, place)


def _of_interest(request: dict[str, Any]) -> dict[str, Any]:
    """A recorded request without what only that client says of itself."""
    headers = {name: request["headers"].get(name) for name in ("authorization", "content-type")}
    return {**request, "headers": headers}


def disagreements(place: str, expected: Ours, text: str | None, answer: httpx.Response) -> list[str]:
    """Where an answer is not what is expected; `text`: what a body is that is no JSON."""
    if answer.status_code != expected.status:
        return [f"{place} ({expected.reason}): {answer.status_code} {answer.text}"]
    if expected.sse is not None:
        assert answer.headers["content-type"].startswith("text/event-stream")
        return differences(expected.sse, events(answer.text), place)
    return differences(text or expected.json, answer.text if text else answer.json(), place)


def test_a_placeholder_of_a_key_is_not_looked_for_in_what_the_upstream_says(replay: Replay, upstream: Recorded) -> None:
    said = {"error": {"message": "the text exceeds the context"}}
    upstream.answers = deque([{"status": 400, "headers": {"content-type": "application/json"}, "json": said}])
    body = {"model": "base-model", "messages": [{"role": "user", "content": "hi"}]}

    answer = httpx.post(f"{replay.server.url}/v1/chat/completions", json=body, headers=replay.headers("admin"))

    assert (answer.status_code, answer.json()) == (400, said)
