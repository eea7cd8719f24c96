"""What a real Open WebUI sent to its Pipelines server, sent to fnsync: the same answers, or others on purpose.

The recordings are in tests/data/wire/openwebui-as-client; INTENDED says where and why fnsync answers otherwise.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from tests.conftest import Project, Server
from tests.recordings import ANY, STALE, Fields, Ours
from tests.test_pipelines_replay import MID_STREAM, REAL_STATUS, WORDING, set_up
from tests.test_wire_replay import DONE, chunk, detail, disagreements, error, expectation, raised

DATA = Path(__file__).parent / "data" / "wire" / "openwebui-as-client"
SECRET = "a secret that both of the servers know"
KEY = "Bearer <pipelines-key>"
_PLACEHOLDER = re.compile(r"<((?:uuid|output-id|admin-id|user-id)[\w-]*)>")

LATE = Ours("with the exception's class", 500, raised("ValueError: outlet broke"))
BLOCKED = Ours("what an inlet raises is a refusal", 400, {**raised("blocked by the filter"), "filter": "tag_filter"})
UNKNOWN_KEY = Ours(WORDING, 401, detail("the token is not known, or was revoked"))
PREFIXED = Ours(
    "a filter is found in spite of the connection's prefix, which Open WebUI leaves in its address", json=ANY
)

#: Scenario -> number of the request -> what fnsync does instead.
INTENDED: dict[str, dict[int, Ours | Fields]] = {
    "auth-none": {0: Ours(WORDING, 401, detail("no token: send the header Authorization: Bearer <token>"))},
    "chat-errors": {
        1: Ours(REAL_STATUS, 500, raised("ValueError: pipeline says no")),
        3: Ours(REAL_STATUS, 500, raised("ValueError: pipeline says no")),
        5: Ours(REAL_STATUS, 500, raised("ValueError: broke midway")),
        7: Ours(
            MID_STREAM,
            sse=[chunk("one "), error("ValueError: broke midway", "function_raised", traceback=ANY), DONE],
        ),
    },
    "chat-filter-outlet-raises": {4: LATE, 9: LATE, 11: LATE},
    "chat-filter-raises": {0: BLOCKED, 1: BLOCKED},
    "chat-with-files": {3: Fields("what was recorded is cut", (r"message\.content$",))},
    "models-connection-options": {1: PREFIXED, 2: PREFIXED},
    "models-wrong-key": {0: UNKNOWN_KEY, 1: UNKNOWN_KEY, 2: UNKNOWN_KEY},
}


def requests_of(recording: dict[str, Any]) -> list[dict[str, Any]]:
    """All that reached the Pipelines server, in order: by Open WebUI, or directly."""
    found = []
    for exchange in recording["exchanges"]:
        if exchange.get("target") == "pipelines":
            found.append({**exchange, "request": {**exchange["request"], "headers": {"authorization": KEY}}})
        found += exchange.get("upstream", [])
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = Project(tmp_path_factory.mktemp("client") / "project")
    project.configure("auth: {jwt: {secret: {env: FORWARDED_SECRET}, ceiling: admin}}")
    server = Server(project, environ={"FORWARDED_SECRET": SECRET})
    try:
        yield server.wait_ready()
    finally:
        server.stop()


def filled(value: Any) -> Any:
    """What a placeholder stands for, in a request."""
    if isinstance(value, dict):
        return {key: filled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item) for item in value]
    if value == "<epoch>":
        return int(time.time())
    return _PLACEHOLDER.sub(r"\1", value) if isinstance(value, str) else value


def headers_of(request: dict[str, Any], key: str, recording: dict[str, Any]) -> dict[str, str]:
    headers = {name: filled(text) for name, text in request["headers"].items() if name != "user-agent"}
    if "authorization" in headers:
        headers["authorization"] = headers["authorization"].replace("<pipelines-key>", key)
    if "x-openwebui-user-jwt" in headers:
        claims = filled(recording["token"]["payload"]) | {"exp": int(time.time()) + 300}
        headers["x-openwebui-user-jwt"] = jwt.encode(claims, SECRET, algorithm="HS256")
    return headers


@pytest.mark.parametrize("scenario", sorted(path.stem for path in DATA.glob("*.json")))
def test_what_open_webui_sent_is_answered_as_recorded_or_differs_on_purpose(server: Server, scenario: str) -> None:
    recording = json.loads((DATA / f"{scenario}.json").read_text())
    intended = INTENDED.get(scenario, {})
    key = server.add_token("admin", ceiling="admin")
    with server.client() as client:
        set_up(client, recording["pipelines"])
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for place, sent in enumerate(requests_of(recording)):
            request, response = sent["request"], sent["response"]
            answer = client.request(
                request["method"],
                request["path"],
                headers=headers_of(request, key, recording),
                json=filled(request.get("json")),
            )
            ours = intended.get(place)
            recorded = {**response, "json": _sorted(response.get("json"))}
            found = disagreements(f"{scenario}[{place}]", expectation(recorded, ours), answer)
            assert not found, "\n".join(found)
            if ours is not None:
                assert disagreements("", expectation(recorded, None), answer), STALE.format(scenario, place)


@pytest.mark.parametrize("scenario", sorted(INTENDED))
def test_each_intended_difference_belongs_to_a_recorded_request(scenario: str) -> None:
    recording = json.loads((DATA / f"{scenario}.json").read_text())
    assert INTENDED[scenario], f"there is nothing in {scenario}"
    assert set(INTENDED[scenario]) <= set(range(len(requests_of(recording))))


def _sorted(answer: Any) -> Any:
    if isinstance(answer, dict) and isinstance(answer.get("data"), list):
        return {**answer, "data": sorted(answer["data"], key=lambda item: str(item["id"]))}
    return answer
