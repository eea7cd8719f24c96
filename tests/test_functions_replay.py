"""Recorded exchanges of Open WebUI's Functions API, sent to a real server: field by field the same, or different on
purpose.

The recordings are in tests/data/functions. Before its exchanges, a recording's functions are made through the API.
INTENDED says where and why fnsync answers otherwise. Of refusals, the status is compared and that there is one
`detail`; its words are ours, since they name the cause, and a `hint` may stand beside it.
"""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import NO_CERTIFICATES, Project, Server, wait_for
from tests.recordings import ANY, STALE, Fields, Ours, Recall, Skipped, differences

DATA = Path(__file__).parent / "data" / "functions"
API = "/api/v1/functions"


UNKNOWN = "unknown: 404"
TAKEN = "an id that is taken: 409"
SHAPE = "a body or query of the wrong shape: 400"
NOWHERE = "an address that is not there, or not for this method: 404 and 405"
ACTIVE = "GET / lists active functions, as the specification says"
IN_USE = "a function that is not active: 409"
GIT = "history is git's: going back makes a new commit"
KEPT = "nothing is taken out of git's history: 409"
ID = "an id is the name of a file"
REMOTE = "what another server answered is no status of this one: 400 with its status in the detail"

INTENDED: Mapping[str, Mapping[int, Ours | Fields | Skipped]] = {
    "create-bad-body": {place: Ours(SHAPE, 400) for place in range(5)},
    "create-bad-content": {9: Ours(ACTIVE, json=[])},
    "create-id-rules": {7: Ours(f"{ID}, and files that begin with _ are shared modules", 400)},
    "create-import-rewrite": {
        1: Fields("a source is kept as it was written", (r"\.content$",)),
    },
    "export": {2: Ours(SHAPE, 400)},
    "functions-list": {
        5: Ours(ACTIVE, json=[ANY, ANY]),
        6: Ours(ACTIVE, json=[ANY, ANY]),
        3: Ours(ACTIVE, json=[ANY, ANY]),
        7: Ours("with and without the slash the same", json=[ANY, ANY]),
    },
    "get-by-id": {1: Ours(UNKNOWN, 404), 2: Ours(UNKNOWN, 404)},
    "history": {
        10: Fields(GIT, (r"\.version_id$",)),
        11: Ours(GIT, json=[ANY, ANY, ANY, ANY]),
        12: Ours(KEPT, 409),
        13: Ours(KEPT, 409),
        14: Ours(GIT, json=[ANY, ANY, ANY, ANY]),
        15: Ours(KEPT, 409),
        17: Ours(GIT, json=[ANY, ANY, ANY, ANY, ANY]),
    },
    "history-errors": {
        4: Ours(SHAPE, 400),
        6: Ours(SHAPE, 400),
        11: Ours(SHAPE, 400),
    },
    "load-url": {
        6: Ours("a query is no part of the name", json={"name": "greeter", "content": ANY}),
        9: Ours(REMOTE, 400),
        10: Ours(REMOTE, 400),
        11: Ours("nobody answers there: 400", 400),
        12: Ours(SHAPE, 400),
        13: Ours(SHAPE, 400),
        14: Ours(SHAPE, 400),
    },
    "sync": {1: Ours(ACTIVE, json=[ANY]), 2: Ours(UNKNOWN, 404)},
    "sync-errors": {1: Ours(SHAPE, 400)},
    "sync-id-not-checked": {0: Ours(ID, 400), 1: Ours(UNKNOWN, 404)},
    "toggle": {2: Ours(UNKNOWN, 404)},
    "toggle-global": {3: Ours(UNKNOWN, 404)},
    "unknown-routes": {
        1: Ours(NOWHERE, 405),
        2: Ours(NOWHERE, 405),
        4: Ours("a function may be called what a fixed address is", 404),
    },
    "update-errors": {4: Ours(UNKNOWN, 404), 5: Ours(UNKNOWN, 404), 6: Ours(SHAPE, 400)},
    "update-ok": {4: Ours(UNKNOWN, 404)},
    "user-valves": {place: Ours(UNKNOWN, 404) for place in (13, 14, 15)},
    "user-valves-inactive": {4: Ours(IN_USE, 409), 5: Ours(IN_USE, 409)},
    "user-valves-none-declared": {2: Ours("no such class: 404", 404)},
    "valves-access": {0: Ours(UNKNOWN, 404), 3: Ours(UNKNOWN, 404)},
    "valves-update-errors": {3: Ours(SHAPE, 400), 4: Ours(SHAPE, 400), 5: Ours(UNKNOWN, 404)},
}


def scenarios() -> list[str]:
    return sorted(path.stem for path in DATA.glob("*.json"))


# ---- the set-up ------------------------------------------------------------------------------------------


class Replay:
    """Sends a recording's requests, as the accounts it names."""

    def __init__(self, server: Server, recording: Mapping[str, Any]) -> None:
        self.client = httpx.Client(base_url=server.url, timeout=60, verify=NO_CERTIFICATES)
        self.recall = Recall()
        self._server = server
        self._recording = recording
        self._tokens = {
            who: server.add_token(role, f"{who}@example.com", name)
            for who, role, name in (("admin", "admin", "Admin"), ("user", "user", "User"), ("pending", "pending", "P"))
        }

    def set_up(self) -> None:
        """Make the functions in their order; for lists a second apart, since times are told in seconds."""
        apart = any("list" in exchange["request"]["path"] for exchange in self._recording["exchanges"])
        for function in self._recording["functions"]:
            if apart:
                next_second()
            self._make(function)
        if apart:
            next_second()

    def _make(self, function: Mapping[str, Any]) -> None:
        id = function["id"]
        form = {key: function[key] for key in ("id", "name", "content", "meta")}
        self._done("POST", f"{API}/create", form)
        if function.get("active"):
            self._done("POST", f"{API}/id/{id}/toggle")
        if function.get("global"):
            self._done("POST", f"{API}/id/{id}/toggle/global")
        if function.get("valves"):
            self._done("POST", f"{API}/id/{id}/valves/update", function["valves"])
        for who, values in (function.get("user_valves") or {}).items():
            self._done("POST", f"{API}/id/{id}/valves/user/update", values, who)

    def clear(self) -> None:
        """Leave nothing for the next recording: no functions, and no accounts with values of theirs."""
        self._done("POST", f"{API}/sync", {"functions": []})
        self.client.close()
        with self._server.state() as state:
            for user in state.users():
                if user.email.endswith("@example.com"):
                    state.remove_user(user.id)

    def _done(self, method: str, path: str, body: Any = None, who: str = "admin") -> None:
        answer = self.client.request(method, path, json=body, headers=self._headers(who, {}))
        assert answer.status_code == 200, f"{method} {path}: {answer.text}"

    def send(self, exchange: Mapping[str, Any]) -> httpx.Response:
        request = exchange["request"]
        given = request.get("headers") or {}
        sent: dict[str, Any] = {}
        if "json" in request:
            sent["json"] = self.recall.filled(request["json"])
        elif "text" in request:
            sent["content"] = request["text"]
        headers = self._headers(exchange["as"], given)
        return self.client.request(request["method"], self.recall.filled(request["path"]), headers=headers, **sent)

    def _headers(self, who: str, given: Mapping[str, str]) -> dict[str, str]:
        """The recorded headers with our tokens in them; without any, the account's token."""
        headers = {name: self._with_tokens(value) for name, value in given.items()}
        if not given and who != "anonymous":
            headers["Authorization"] = f"Bearer {self._tokens[who]}"
        return headers

    def _with_tokens(self, text: str) -> str:
        return re.sub(r"<(admin|user|pending)-token>", lambda match: self._tokens[match[1]], text)


def next_second() -> None:
    """Wait until the clock shows another second."""
    now = int(time.time())
    wait_for("the next second", lambda: int(time.time()) > now, 3)


@pytest.fixture(scope="module")
def replay_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own: the lists hold the recording's functions only."""
    server = Server(Project(tmp_path_factory.mktemp("replay") / "project"))
    try:
        yield server.wait_ready()
    finally:
        server.stop()


@pytest.fixture
def files() -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """Offers a recording's static files where it expects them."""
    running: list[http.server.ThreadingHTTPServer] = []

    def offer(found: list[dict[str, Any]]) -> None:
        by_path = {file["path"]: file for file in found}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                file = by_path.get(self.path.partition("?")[0], {"status": 404, "body": ""})
                body = file["body"].encode()
                self.send_response(file["status"])
                self.send_header("content-type", file.get("content_type", "text/plain"))
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        running.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=running[-1].serve_forever, daemon=True).start()
        return running[-1].server_address[1]

    yield offer
    for server in running:
        server.shutdown()
        server.server_close()


# ---- the comparison --------------------------------------------------------------------------------------


def disagreements(
    place: str, answer: httpx.Response, recorded: Mapping[str, Any], ours: Ours | Fields | None, recall: Recall
) -> list[str]:
    """Where an answer is not as recorded, or as `ours` says."""
    status, expected, ignored = recorded["status"], recorded.get("json"), ()
    reason = "as recorded"
    if isinstance(ours, Ours):
        reason, status = ours.reason, ours.status
        expected = expected if ours.json is None else ours.json
    elif isinstance(ours, Fields):
        reason, ignored = ours.reason, ours.patterns
    if answer.status_code != status:
        return [f"{place} ({reason}): {answer.status_code} {answer.text}"]
    told = answer.json()
    if status >= 400:
        is_refusal = isinstance(told.get("detail"), str) and told.keys() <= {"detail", "hint", "traceback"}
        return [] if is_refusal else [f"{place} ({reason}): {told}"]
    return [
        f"{text} ({reason})"
        for text in differences(expected, told, place, recall)
        if not any(re.search(pattern, text.partition(":")[0]) for pattern in ignored)
    ]


@pytest.mark.parametrize("scenario", scenarios())
def test_the_answers_are_those_recorded_or_differ_on_purpose(
    replay_server: Server, files: Callable[[list[dict[str, Any]]], int], scenario: str
) -> None:
    text = (DATA / f"{scenario}.json").read_text()
    recording = json.loads(text)
    if "static_files" in recording:
        port = files(recording["static_files"])
        recording = json.loads(text.replace("127.0.0.1:7102", f"127.0.0.1:{port}"))
    replay = Replay(replay_server, recording)
    try:
        replay.set_up()
        for place, exchange in enumerate(recording["exchanges"]):
            ours = INTENDED.get(scenario, {}).get(place)
            answer, recorded, known = replay.send(exchange), exchange["response"], deepcopy(replay.recall)
            if not isinstance(ours, Skipped):
                found = disagreements(f"{scenario}[{place}]", answer, recorded, ours, replay.recall)
                assert not found, "\n".join(found)
            if ours is not None:
                assert disagreements("", answer, recorded, None, known), STALE.format(scenario, place)
    finally:
        replay.clear()


@pytest.mark.parametrize("scenario", sorted(INTENDED))
def test_each_intended_difference_belongs_to_a_recorded_exchange(scenario: str) -> None:
    recording = json.loads((DATA / f"{scenario}.json").read_text())
    assert INTENDED[scenario], f"there is nothing in {scenario}"
    assert set(INTENDED[scenario]) <= set(range(len(recording["exchanges"])))
