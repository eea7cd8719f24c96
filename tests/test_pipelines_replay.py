"""Recorded exchanges of a Pipelines server, asked of fnsync at its root: the same, or different on purpose.

The recordings are in tests/data/wire/pipelines; INTENDED says where and why fnsync answers otherwise.
"""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Project, Server
from tests.recordings import ANY, STALE, Fields, Ours, Skipped
from tests.test_wire_replay import DONE, STOP, chunk, completion, detail, disagreements, error, expectation, raised

DATA = Path(__file__).parent / "data" / "wire" / "pipelines"
#: Where the recordings have a server of plain files.
STATIC = "127.0.0.1:7102"

STATIC_FILES = {
    "added.py": "class Pipeline:\n    def pipe(self, **given):\n        return 'added'\n",
    "readme.txt": "This is no source.\n",
}

WORDING = "another wording"
SHAPE = "a body of the wrong shape is 400"
UNKNOWN = "unknown is 404"
AWAITED = "an async pipe is awaited"
TYPE_NAMED = "a result of a type nobody can render: 500 that names the type, never an empty answer"
ANY_ITERATOR = "any iterator is joined, or streamed, as a generator is"
MID_STREAM = "an exception in mid-stream: an event with its message, then [DONE]"
REAL_STATUS = "an exception before the answer has begun: a real status with its text, also for a stream"
REFUSED = "a source that does not load, or start, is refused with the cause"
RENDERABLE = "give str, bytes, dict, a pydantic model, a generator of these, or a StreamingResponse"


def no_int(function: str) -> Ours:
    told = f"{function}: `pipe` returned a int, which cannot be rendered as an answer"
    return Ours(TYPE_NAMED, 500, detail(told, hint=RENDERABLE))


def done(text: str) -> Ours:
    return Ours(WORDING, json={"status": True, "detail": text})


def openai_models(*named: tuple[str, str]) -> dict[str, Any]:
    told = [
        {"id": id, "name": name, "object": "model", "created": "<epoch>", "owned_by": "openai"} for id, name in named
    ]
    return {"object": "list", "data": told}


#: Scenario -> number of the exchange -> what fnsync does instead.
INTENDED: dict[str, dict[int, Ours | Fields | Skipped]] = {
    "add": {
        0: done("Pipeline added successfully from added.py; its id is added"),
        2: Ours("the way out is told", 400, detail("URL must point to a Python file", hint=ANY)),
        3: Ours("what the other server said is told", 400, detail(ANY)),
        4: Ours("an address that cannot be reached is 400", 400, detail(ANY)),
        5: done("Pipeline added successfully from added.py; its id is added"),
        6: Ours(SHAPE, 400, detail("url: Field required")),
    },
    "bad-startup": {
        0: Ours(REFUSED, 400, detail("bad_start.py:3: ValueError: cannot start", traceback=ANY)),
        1: Ours(REFUSED, json={"data": [{"id": "ok_pipe", "name": "ok_pipe", "type": "pipe", "valves": False}]}),
        2: Ours(REFUSED, json={"message": "Pipelines reloaded successfully."}),
        3: Ours(REFUSED, 404, detail("Pipeline bad_start not found")),
    },
    "chat": {
        2: Ours(
            "under /v1, where no client of the protocol asks, the server runs filters itself",
            sse=[*(chunk(word) for word in ("one ", "two ", "[tagged ", "for ", "Admin] ")), STOP, DONE],
        ),
        6: Ours(WORDING, 404, {**detail(ANY), "hint": "its models are mani.one, mani.two.dot"}),
        7: Ours(WORDING, 404, {**detail("tag_filter is a pipeline of the type 'filter', and no model"), "hint": ANY}),
        8: Ours(WORDING, 404, detail("the model 'unknown' does not exist")),
        9: Ours(WORDING, 404, detail("the model 'unknown' does not exist")),
        10: Ours(SHAPE, 400, detail("messages is missing: a list with at least one message is needed")),
        11: Ours(SHAPE, 400, detail("model is missing: name the model that is to answer")),
        12: Ours(SHAPE, 400, detail("messages is empty: a list with at least one message is needed")),
        13: Ours(
            "null as content is taken, here by a pipe that cannot deal with it",
            500,
            raised('TypeError: can only concatenate str (not "NoneType") to str'),
        ),
        15: Ours(SHAPE, 400, detail(ANY)),
    },
    "delete": {
        2: Ours(UNKNOWN, 404, detail("Pipeline echo_pipe not found")),
        3: Ours(UNKNOWN, 404, detail("Pipeline mani.one not found")),
        5: Ours(SHAPE, 400, detail("id: Field required")),
    },
    "filter-inlet-outlet": {
        4: Ours(
            "what an inlet raises is a refusal",
            400,
            {**raised("blocked by the filter"), "filter": "tag_filter"},
        ),
        5: Ours("with the exception's class", 500, raised("KeyError: 'messages'")),
        6: Ours(SHAPE, 400, detail(ANY)),
        11: Ours(
            "the address alone says whose inlet it is",
            json={
                "model": "echo_pipe",
                "stream": True,
                "messages": [{"role": "user", "content": "hi"}],
                "mani_inlet": True,
            },
        ),
    },
    "models": {
        1: Ours(
            "/v1/models is OpenAI's list",
            json=openai_models(
                ("echo_pipe", "Echo pipeline"),
                ("mani.one", "M: One"),
                ("mani.two.dot", "M: Two"),
                ("mani_list.x", "X"),
                ("valved", "Valved"),
            ),
        )
    },
    "models-filter-valves-without-pipelines": {
        0: Ours("the list without that one", json={"data": [], "object": "list", "pipelines": True})
    },
    "pipe-returns-coroutine": {
        0: Ours(AWAITED, json=completion("awaited")),
        1: Ours(AWAITED, sse=[chunk("awaited"), STOP, DONE]),
    },
    "pipe-returns-dict": {1: Ours("the dict as it is, then [DONE]", sse=[{"answer": 42}, DONE])},
    "pipe-returns-generator-of-dicts": {
        0: Ours("of a chunk object its content is joined, not Python's text of it", json=completion("d"))
    },
    "pipe-returns-generator-of-ints": {
        0: Ours("None among items is nothing", json=completion("a7")),
        1: Ours("numbers among items are text, None is nothing", sse=[chunk("a"), chunk("7"), STOP, DONE]),
    },
    "pipe-returns-generator-raises-midway": {
        0: Ours(REAL_STATUS, 500, raised("ValueError: broke midway")),
        1: Ours(
            MID_STREAM,
            sse=[chunk("one "), error("ValueError: broke midway", "function_raised", traceback=ANY), DONE],
        ),
    },
    "pipe-returns-int": {0: no_int("p_int"), 1: no_int("p_int")},
    "pipe-returns-iterator": {
        0: Ours(ANY_ITERATOR, json=completion("one two")),
        1: Ours(ANY_ITERATOR, sse=[chunk("one "), chunk("two"), STOP, DONE]),
    },
    "pipe-returns-none": {1: Ours("None is an empty answer", sse=[STOP, DONE])},
    "pipe-returns-raises": {
        0: Ours(REAL_STATUS, 500, raised("ValueError: pipeline says no")),
        1: Ours(REAL_STATUS, 500, raised("ValueError: pipeline says no")),
    },
    "upload": {
        0: done("Pipeline uploaded successfully to echo_pipe.py; its id is echo_pipe"),
        2: Ours("the way out is told", 400, detail("Only Python files are allowed.", hint=ANY)),
        3: Ours(SHAPE, 400, detail(ANY)),
        4: Ours(
            f"{REFUSED}; errors under /v1 are OpenAI's",
            400,
            {
                "error": {
                    "message": ANY,
                    "type": "invalid_request_error",
                    "param": "content",
                    "code": "content_refused",
                }
            },
        ),
        6: Ours(
            REFUSED,
            400,
            detail("no_class.py: the file defines no class Pipeline; found: no class", hint=ANY),
        ),
        7: done("Pipeline uploaded successfully to with_dash.py; its id is with_dash"),
        8: Ours(
            "ids are identifiers",
            json={
                "data": [{"id": id, "name": id, "type": "pipe", "valves": False} for id in ("echo_pipe", "with_dash")]
            },
        ),
    },
    "valves-persist": {
        3: done("Pipeline uploaded successfully to valved.py; its id is valved"),
        6: done("Pipeline uploaded successfully to valved.py; its id is valved"),
        7: Ours("the values of what was deleted are in git alone", json={"limit": 3, "word": "a", "note": None}),
    },
}


def _scenarios() -> list[str]:
    return sorted(path.stem for path in DATA.glob("*.json"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own: the lists hold the recording's pipelines only."""
    server = Server(Project(tmp_path_factory.mktemp("pipelines") / "project"))
    try:
        yield server.wait_ready()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of plain files, which are below `/files`."""
    root = tmp_path_factory.mktemp("static")
    (root / "files").mkdir()
    for name, text in STATIC_FILES.items():
        (root / "files" / name).write_text(text)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


def set_up(client: httpx.Client, pipelines: list[dict[str, Any]]) -> None:
    """Have the pipelines of a recording be all that there is."""
    functions = [
        {
            "id": one["file"].removesuffix(".py"),
            "name": "",
            "content": one["content"],
            "meta": {},
            "type": "pipeline",
            "is_active": True,
            "is_global": False,
            "updated_at": 0,
            "created_at": 0,
        }
        for one in pipelines
    ]
    answer = client.post("/api/v1/functions/sync", json={"functions": functions})
    assert answer.status_code == 200, answer.text


def send(client: httpx.Client, request: dict[str, Any], address: str) -> httpx.Response:
    """Send a recorded request; `address` is that of the plain files."""
    given: dict[str, Any] = {}
    if "form" in request:
        file = request["form"]["file"]
        given = {"files": {"file": (file["filename"], file["content"].encode())}}
    elif "text" in request:
        given = {"content": request["text"]}
    elif "json" in request:
        given = {"json": json.loads(json.dumps(request["json"]).replace(STATIC, address))}
    return client.request(request["method"], request["path"], **given)


def _sorted(answer: Any) -> Any:
    if isinstance(answer, dict) and isinstance(answer.get("data"), list):
        return {**answer, "data": sorted(answer["data"], key=lambda item: str(item["id"]))}
    return answer


@pytest.mark.parametrize("scenario", _scenarios())
def test_the_answers_are_those_recorded_or_differ_on_purpose(server: Server, static: str, scenario: str) -> None:
    recording = json.loads((DATA / f"{scenario}.json").read_text())
    intended = INTENDED.get(scenario, {})
    with server.client() as client:
        set_up(client, recording["pipelines"])
        for place, exchange in enumerate(recording["exchanges"]):
            assert exchange["as"] == "key"
            response = {**exchange["response"], "json": _sorted(exchange["response"].get("json"))}
            ours = intended.get(place)
            assert not isinstance(ours, Skipped)
            answer = send(client, exchange["request"], static)
            found = disagreements(f"{scenario}[{place}]", expectation(response, ours), answer)
            assert not found, "\n".join(found)
            if ours is not None:
                assert disagreements("", expectation(response, None), answer), STALE.format(scenario, place)


@pytest.mark.parametrize("scenario", sorted(INTENDED))
def test_each_intended_difference_belongs_to_a_recorded_exchange(scenario: str) -> None:
    recording = json.loads((DATA / f"{scenario}.json").read_text())
    assert INTENDED[scenario], f"there is nothing in {scenario}"
    assert set(INTENDED[scenario]) <= set(range(len(recording["exchanges"])))


def test_nothing_is_answered_without_a_key(server: Server) -> None:
    with server.client() as client:
        set_up(client, [{"file": "a.py", "content": STATIC_FILES["added.py"]}])
    with httpx.Client(base_url=server.url) as anyone:
        for method, path in (
            ("GET", "/models"),
            ("GET", "/pipelines"),
            ("GET", "/a/valves"),
            ("GET", "/a/valves/spec"),
            ("POST", "/a/valves/update"),
            ("POST", "/a/filter/inlet"),
            ("POST", "/a/filter/outlet"),
            ("POST", "/pipelines/upload"),
            ("POST", "/pipelines/add"),
            ("POST", "/pipelines/reload"),
            ("DELETE", "/pipelines/delete"),
            ("POST", "/chat/completions"),
        ):
            assert anyone.request(method, path, json={}).status_code == 401, path
        assert anyone.get("/").json() == anyone.get("/v1").json() == {"status": True}
