"""Recorded exchanges of Open WebUI, asked of a real server: field by field the same, or different on purpose.

The recordings are in tests/data/wire; INTENDED says where and why fnsync answers otherwise. Of those that there are,
chat-preset-over-pipe and models-attached have no counterpart: there are no presets, so no model that is neither a
function's nor an upstream's. What settings attach to models is in test_models and test_filters.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import NO_CERTIFICATES, WAIT_S, Project, Server, wait_for
from tests.recordings import ANY, STALE, Fields, Ours, Skipped, differences

DATA = Path(__file__).parent / "data" / "wire"


def completion(content: str) -> dict[str, Any]:
    choice = {"index": 0, "logprobs": None, "finish_reason": "stop"}
    message = {"role": "assistant", "content": content}
    return {**_HEAD, "choices": [{**choice, "message": message}], "object": "chat.completion"}


def chunk(content: str) -> dict[str, Any]:
    choice = {"index": 0, "logprobs": None, "finish_reason": None, "delta": {"content": content}}
    return {**_HEAD, "choices": [choice], "object": "chat.completion.chunk"}


_HEAD = {"id": ANY, "created": "<epoch>", "model": ANY}
STOP = {**chunk(""), "choices": [{"index": 0, "logprobs": None, "finish_reason": "stop", "delta": {}}]}
DONE = "[DONE]"


def detail(text: str, **more: Any) -> dict[str, Any]:
    return {"detail": text, **more}


def raised(text: str) -> dict[str, Any]:
    """The answer to an admin when a function raised."""
    return detail(text, traceback=ANY)


def error(text: str, code: str, **more: Any) -> dict[str, Any]:
    """The event that ends a stream which broke."""
    return {"error": {"message": text, "type": "server_error", "param": None, "code": code, **more}}


TYPE_NAMED = "a result of a type nobody can render: 500 that names the type, never an empty answer"
REAL_STATUS = "an exception before the answer has begun: a real status, also for a stream"
MID_STREAM = "an exception in mid-stream: an event with its message, then [DONE]"
OPEN = "everyone who has a token may use a function, unless its settings say otherwise"
UNKNOWN = "an unknown model is 404"
NOT_SHOWN = "an action that is not shown to the user is 401"
RENDERABLE = "give str, bytes, dict, a pydantic model, a generator of these, or a StreamingResponse"
NO_SOCKET = "the answer to a session's chat is the HTTP answer"
NO_MODEL = detail("the model 'no_such_model' does not exist")


def no_model_of(model: str) -> dict[str, Any]:
    told = f"the model {model!r} does not exist: mani_list is a manifold, which has models of its own"
    return {**detail(told), "hint": "its models are mani_list.one, mani_list.two.dot"}


def refused(text: str, filter: str) -> dict[str, Any]:
    """The answer to an admin when a filter raised in `inlet`."""
    return {**raised(text), "filter": filter}


#: Scenario -> number of the exchange -> what fnsync does instead.
INTENDED: dict[str, dict[int, Ours | Fields | Skipped]] = {
    "pipe-returns-bytes": {
        0: Ours("bytes are text", json=completion("raw")),
        1: Ours("bytes are text", sse=[chunk("raw"), STOP, DONE]),
    },
    "pipe-returns-completion-dict": {
        1: Ours(
            "a completion object from a streaming call becomes chunks, then [DONE]",
            sse=[
                {
                    "id": "fixed",
                    "created": "<epoch>",
                    "model": "mine",
                    "object": "chat.completion.chunk",
                    "choices": [
                        {
                            "index": 0,
                            "logprobs": None,
                            "finish_reason": None,
                            "delta": {"role": "assistant", "content": "from a dict"},
                        }
                    ],
                },
                {
                    "id": "fixed",
                    "created": "<epoch>",
                    "model": "mine",
                    "object": "chat.completion.chunk",
                    "choices": [{"index": 0, "logprobs": None, "finish_reason": "stop", "delta": {}}],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
                },
                DONE,
            ],
        )
    },
    "pipe-returns-empty-str": {1: Ours('"" is an empty delta, no stop', sse=[chunk(""), STOP, DONE])},
    "pipe-returns-error-dict": {
        1: Ours("[DONE] always", sse=[{"error": {"message": "quota", "code": 429}}, DONE]),
    },
    "pipe-returns-generator-of-dicts": {
        0: Ours("of a chunk object its content is joined, not Python's text of it", json=completion("from dict")),
        1: Ours(
            "events are for clients that ask for them",
            sse=[
                {"choices": [{"index": 0, "delta": {"content": "from dict"}, "finish_reason": None}]},
                {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}},
                STOP,
                DONE,
            ],
        ),
    },
    "pipe-returns-generator-of-empty": {
        1: Ours('"" is an empty delta, no stop', sse=[chunk("one "), chunk(""), chunk("two"), STOP, DONE])
    },
    "pipe-returns-generator-of-ints": {
        1: Ours(
            f"{MID_STREAM}; an item that cannot be rendered is named",
            sse=[
                chunk("before "),
                error(
                    "p_generator_of_ints: the generator yielded a int, which cannot be rendered as an answer",
                    "unrenderable_result",
                    hint=RENDERABLE,
                ),
                DONE,
            ],
        )
    },
    "pipe-returns-generator-of-models": {
        0: Ours("of a chunk object its content is joined, not Python's text of it", json=completion("m1 m2"))
    },
    "pipe-returns-generator-of-none": {
        0: Ours("None among items is nothing", json=completion("before after")),
        1: Ours("None among items is nothing", sse=[chunk("before "), chunk("after"), STOP, DONE]),
    },
    "pipe-returns-generator-raises-first": {
        0: Ours(REAL_STATUS, 500, raised("ValueError: nothing yet")),
        1: Ours(REAL_STATUS, 500, raised("ValueError: nothing yet")),
    },
    "pipe-returns-generator-raises-midway": {
        0: Ours(REAL_STATUS, 500, raised("ValueError: broke midway")),
        1: Ours(
            MID_STREAM,
            sse=[
                chunk("one "),
                chunk("two "),
                error("ValueError: broke midway", "function_raised", traceback=ANY),
                DONE,
            ],
        ),
    },
    "pipe-returns-async-generator-raises-midway": {
        0: Ours(REAL_STATUS, 500, raised("ValueError: broke midway")),
        1: Ours(
            MID_STREAM,
            sse=[chunk("one "), error("ValueError: broke midway", "function_raised", traceback=ANY), DONE],
        ),
    },
    "pipe-returns-int": {
        place: Ours(
            TYPE_NAMED,
            500,
            detail("p_int: `pipe` returned a int, which cannot be rendered as an answer", hint=RENDERABLE),
        )
        for place in (0, 1)
    },
    "pipe-returns-list": {
        place: Ours(
            TYPE_NAMED,
            500,
            detail("p_list: `pipe` returned a list, which cannot be rendered as an answer", hint=RENDERABLE),
        )
        for place in (0, 1)
    },
    "pipe-returns-iterator": {0: Ours("any iterator is joined as a generator is", json=completion("one two"))},
    "pipe-returns-json-response": {
        place: Ours("a response that the pipe made is passed through with its status", 418, {"teapot": True})
        for place in (0, 1)
    },
    "pipe-returns-none": {0: Ours("None is an empty answer", json=completion(""))},
    "pipe-returns-no-pipe-method": {
        place: Ours("a fault of the function is 500", 500, detail("p_no_pipe_method: Pipe has no `pipe`"))
        for place in (0, 1)
    },
    "pipe-returns-raises-async": {
        0: Ours(REAL_STATUS, 500, raised("RuntimeError: async no")),
        1: Ours(REAL_STATUS, 500, raised("RuntimeError: async no")),
    },
    "models-plain-pipe": {
        3: Ours("who may not is 401", 401, ANY),
        4: Ours(OPEN, json=ANY),
    },
    "access-user-pipe": {
        0: Ours(OPEN, json=ANY),
        2: Ours(OPEN, json=completion("you said: hello")),
        3: Ours(OPEN, sse=[chunk("you said: hello"), STOP, DONE]),
    },
    "models-manifold": {
        4: Ours(UNKNOWN, 404, no_model_of("mani_list")),
        5: Ours(UNKNOWN, 404, no_model_of("mani_list.three")),
    },
    "models-none": {1: Ours("another wording", 401, detail(ANY))},
    "models-valves-missing": {
        1: Ours(
            f"{UNKNOWN}; an admin reads why",
            404,
            detail(
                "needs_key has no revision that loads: needs_key.yaml: valves do not fit: api_key: Field required",
                hint=ANY,
            ),
        )
    },
    "chat-errors": {
        0: Ours(UNKNOWN, 404, NO_MODEL),
        1: Ours(UNKNOWN, 404, NO_MODEL),
        2: Ours("the key is named", 400, detail(ANY)),
        3: Ours("no messages: 400", 400, detail(ANY)),
        4: Ours("no messages: 400", 400, detail(ANY)),
        5: Ours("a body of the wrong shape is 400", 400, detail(ANY)),
        6: Ours("a body of the wrong shape is 400", 400, detail(ANY)),
        7: Ours("another wording", 401, detail(ANY)),
        8: Skipped("everyone who has a token may use a function, unless its settings say otherwise"),
        9: Ours("there is no store of chats: any chat id is taken as it is", json=completion("you said: hello")),
    },
    "chat-injected-params": {
        place: Fields(
            "the same reserved arguments in every kind",
            (r"content\.(id|model|user\.email)$",),
        )
        for place in (0, 1, 2)
    },
    "chat-valves-not-set-up": {
        0: Ours("stored values are never ignored, also without valves in __init__", json=completion("limit=5")),
    },
    "chat-kwargs": {
        1: Ours(REAL_STATUS, 500, detail("TypeError: Pipe.pipe() got an unexpected keyword argument 'body'")),
    },
    "filter-changes-model": {1: Ours(UNKNOWN, 404, {**detail("the model 'nowhere' does not exist"), "hint": ANY})},
    "filter-file-handler": {
        0: Fields("there is no retrieval of its own", (r"\.sources$",)),
        1: Skipped("there are no presets; test_filters has it with a model that a filter's settings name"),
    },
    "filter-inlet-raises": {
        place: Ours("the filter is named", 400, refused("blocked by the guard", "guard")) for place in (0, 1)
    },
    "filter-inlet-returns-none": {
        0: Ours("inlet returning None: the body stays as it was", json=completion("w ")),
        1: Ours("inlet returning None: the body stays as it was", sse=[chunk("w "), STOP, DONE]),
    },
    "filter-outlet-api": {
        0: Ours("an outlet changes the plain answer", json=completion("changed by outlet")),
        1: Ours("an outlet changes the plain answer", json=completion("changed by outlet")),
        3: Ours("an outlet changes the plain answer", json=completion("changed by outlet")),
    },
    "filter-params": {place: Fields("the same reserved arguments in every kind", (r"content$",)) for place in (0, 1)},
    "filter-stream-raises": {
        0: Ours(
            f"{MID_STREAM}; the filter is named",
            sse=[chunk("one "), error("ValueError: no two", "function_raised", traceback=ANY, filter="picky"), DONE],
        )
    },
    "chat-session-events": {
        0: Ours(NO_SOCKET, sse=[chunk("called: {'error': 'Client session disconnected.'}"), STOP, DONE])
    },
    "chat-session-stream": {
        0: Ours(NO_SOCKET, sse=[chunk("one "), chunk("two"), STOP, DONE]),
        1: Ours(NO_SOCKET, json=completion("one two")),
        2: Ours(NO_SOCKET, sse=[chunk("one "), chunk("two"), STOP, DONE]),
    },
    "chat-session-yielded-events": {
        0: Ours(NO_SOCKET, sse=[chunk("text"), STOP, DONE]),
        1: Ours("events are for clients that ask for them", sse=[chunk("text"), STOP, DONE]),
    },
    "filter-outlet-session": {
        0: Ours(NO_SOCKET, sse=[chunk("you said: hello"), STOP, DONE]),
        1: Ours(f"{NO_SOCKET}, and an outlet changes the plain one", json=completion("changed by outlet")),
    },
    "task-title": {0: Ours("no routes for tasks: what a chat service says of them in `metadata` counts", 404, ANY)},
    "action-access": {
        2: Ours(NOT_SHOWN, 401, detail("the action loose is not one of the model open_pipe")),
        3: Skipped("everyone who has a token may use a function, unless its settings say otherwise"),
        4: Ours("an unknown action is 404", 404, detail("the action 'unknown' does not exist")),
    },
    "action-call": {0: Fields("the same reserved arguments in every kind", (r"not_given", r"user\.email$"))},
    "action-errors": {
        0: Ours("a function's fault is 500", 500, raised("ValueError: action broke")),
        2: Ours("an unknown action is 404", 404, detail("the action 'unknown' does not exist")),
        3: Ours("one that is not active is 401", 401, {**detail("the action off is switched off"), "hint": ANY}),
        4: Ours("what is no action is 404", 404, detail("the action 'echo_pipe' does not exist")),
        6: Ours(UNKNOWN, 404, detail("the model 'no_such' does not exist")),
        7: Ours("the key is named", 400, detail("model: Field required")),
        8: Ours("the key is named", 400, detail("chat_id: Field required")),
        9: Ours("the key is named", 400, detail("session_id: Field required")),
        10: Ours("the key is named", 400, detail("id: Field required")),
        12: Ours(NOT_SHOWN, 401, detail("the action local is not one of the model echo_pipe")),
        14: Ours("another wording", 401, detail(ANY)),
    },
    "chat-completed": {3: Ours("another wording", 401, detail(ANY))},
    "chat-completed-errors": {
        0: Ours("a function's fault is 500", 500, {**raised("ValueError: outlet broke"), "filter": "fails"}),
        1: Ours("an outlet that returns nothing leaves the chat as it is", json=ANY),
        2: Ours(UNKNOWN, 404, detail(ANY)),
        3: Ours("the key is named", 400, detail("id: Field required")),
        4: Ours("the key is named", 400, detail("session_id: Field required")),
        5: Ours("the key is named", 400, detail("chat_id: Field required")),
        6: Ours("the key is named", 400, detail("model: Field required")),
        7: Ours("there is no store of chats: any chat id is taken as it is", json=ANY),
        9: Ours("there is no store of chats: any chat id is taken as it is", json=ANY),
        10: Ours("a body of the wrong shape is 400", 400, detail(ANY)),
    },
    "chat-inactive-pipe": {
        0: Ours(UNKNOWN, 404, {**detail("plain is switched off"), "hint": "set active: true in its settings file"}),
        2: Ours("a change holds at once, not after the next listing", json=completion("you said: hello")),
        6: Ours("a change holds at once, not after the next listing", 404, {**detail(ANY), "hint": ANY}),
        8: Ours(UNKNOWN, 404, detail(ANY)),
    },
}


#: Recordings with events beside the answers, which test_actions replays.
WITH_EVENTS = {"action-events"}


def _scenarios() -> list[str]:
    return sorted(path.stem for path in DATA.glob("*.json") if path.stem not in WITH_EVENTS)


# ---- the functions of a recording as files ---------------------------------------------------------------


class Replay:
    """Sets up the functions of one recording as files, and does to them what its exchanges did over HTTP."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.functions: dict[str, dict[str, Any]] = {}
        self._tokens: dict[str, str] = {"admin": server.token}

    def set_up(self, recording: dict[str, Any]) -> None:
        for function in recording["functions"]:
            self.functions[function["id"]] = dict(function)
        for model in recording.get("models", ()):
            for id in model["meta"].get("actionIds", ()):
                self.functions[id].setdefault("models", []).append(model["id"])
        for id in self.functions:
            self._write(id)
        for id, function in self.functions.items():
            self._settled(id)
            for who, values in function.get("user_valves", {}).items():
                url = f"{self.server.url}/api/v1/functions/id/{id}/valves/user/update"
                httpx.post(url, json=values, headers=self.headers(who)).raise_for_status()

    def clear(self) -> None:
        for id in list(self.functions):
            self.remove(id)
        for id in self.functions:
            self.server.gone(id)

    def remove(self, id: str) -> None:
        for suffix in (".py", ".yaml"):
            (self.server.project.functions / f"{id}{suffix}").unlink(missing_ok=True)

    def _write(self, id: str) -> None:
        function = self.functions[id]
        settings = {"active": function["active"], "global": function["global"], "valves": function["valves"]}
        settings["models"] = function.get("models", [])
        self.server.project.write(f"{id}.yaml", yaml.safe_dump(settings))
        self.server.project.write(f"{id}.py", _source(function))

    def _settled(self, id: str) -> None:
        def settled() -> bool:
            found = self.server.function(id)
            return found is not None and found["status"] != "loading"

        wait_for(f"{id} to be read", settled)

    def managed(self, method: str, path: str, body: Any) -> bool:
        """Do with files what the exchange does over the Functions API; false when it is no such exchange.

        What it comes to shows a moment later.
        """
        found = re.fullmatch(r"/api/v1/functions/id/(\w+)/(valves/update|update|toggle|delete)", path)
        if not found:
            return False
        id, action = found.groups()
        function = self.functions[id]
        if action == "delete":
            self.remove(id)
            self.server.gone(id)
            return True
        if action == "valves/update":
            function["valves"] = body
        elif action == "update":
            function |= {"content": body["content"], "name": body["name"]}
        else:
            function["active"] = not function["active"]
        self._write(id)
        return True

    # ---- who asks ----

    def headers(self, who: str) -> dict[str, str]:
        return {} if who == "anonymous" else {"Authorization": f"Bearer {self.token(who)}"}

    def token(self, who: str) -> str:
        if who not in self._tokens:
            self._tokens[who] = self.server.add_token(email=f"{who}@example.com")
        return self._tokens[who]


def _source(function: dict[str, Any]) -> str:
    """The content, with name and description as frontmatter, where files have them."""
    content = str(function["content"])
    description = function["meta"].get("description") or ""
    if content.startswith('"""\n'):
        return content.replace('"""\n', f'"""\ndescription: {description}\n', 1)
    return f'"""\ntitle: {function["name"]}\ndescription: {description}\n"""\n{content}'


@pytest.fixture(scope="module")
def replay_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own: the lists of models hold the recording's functions only."""
    server = Server(Project(tmp_path_factory.mktemp("replay") / "project"))
    try:
        yield server.wait_ready()
    finally:
        server.stop()


@pytest.fixture
def replay(replay_server: Server) -> Iterator[Replay]:
    replay = Replay(replay_server)
    yield replay
    replay.clear()


# ---- the comparison --------------------------------------------------------------------------------------


def events(text: str) -> list[Any]:
    assert text.endswith("\n\n"), "the last event is not followed by a blank line"
    # A ready-made line may bring line ends of its own; an empty event is none.
    found = [event for event in re.split(r"\n\n+", text) if event]
    return [_parsed(event.removeprefix("data:").removeprefix(" ")) for event in found]


def _parsed(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, dict | list) else text


def expectation(recorded: dict[str, Any], ours: Ours | Fields | None) -> Ours:
    """What is expected: the recorded answer, or ours where it differs on purpose."""
    if isinstance(ours, Ours):
        return ours
    reason, ignored = ("as recorded", ()) if ours is None else (ours.reason, ours.patterns)
    return Ours(reason, recorded["status"], recorded.get("json"), recorded.get("sse"), ignored)


@pytest.mark.parametrize("scenario", _scenarios())
def test_the_answers_are_those_recorded_or_differ_on_purpose(replay: Replay, scenario: str) -> None:
    recording = json.loads((DATA / f"{scenario}.json").read_text())
    replay.set_up(recording)
    intended = INTENDED.get(scenario, {})

    changed = False
    with httpx.Client(base_url=replay.server.url, timeout=30, verify=NO_CERTIFICATES) as client:
        for place, exchange in enumerate(recording["exchanges"]):
            request = exchange["request"]
            ours = intended.get(place)
            if replay.managed(request["method"], request["path"], request.get("json")):
                changed = True
                assert ours is None, f"{scenario}[{place}] is not sent: take it out of INTENDED"
                continue
            expected = None if isinstance(ours, Skipped) else expectation(exchange["response"], ours)
            patience_s = WAIT_S if changed else 0.0
            headers = replay.headers(exchange["as"])
            answer = ask(client, f"{scenario}[{place}]", exchange, headers, expected, patience_s)
            if ours is not None:
                recorded = expectation(exchange["response"], None)
                assert disagreements("", recorded, answer), STALE.format(scenario, place)


def ask(
    client: httpx.Client,
    place: str,
    exchange: dict[str, Any],
    headers: dict[str, str],
    expected: Ours | None,
    patience_s: float,
) -> httpx.Response:
    """Send a recorded request and check the answer, again and again while a change of files may not be live yet.

    Without `expected`, any answer will do.
    """
    request = exchange["request"]
    sent = {"content": request["text"]} if "text" in request else {"json": request.get("json")}
    until = time.monotonic() + patience_s
    while True:
        answer = client.request(request["method"], request["path"], headers=headers, **sent)
        found = [] if expected is None else disagreements(place, expected, answer)
        if not found:
            return answer
        assert time.monotonic() <= until, "\n".join(found)
        time.sleep(0.02)


def disagreements(place: str, expected: Ours, answer: httpx.Response) -> list[str]:
    """Where an answer is not what is expected."""
    if answer.status_code != expected.status:
        return [f"{place} ({expected.reason}): {answer.status_code} {answer.text}"]
    kind = answer.headers["content-type"]
    if (kind == "text/event-stream; charset=utf-8") is not (expected.sse is not None):
        return [f"{place} ({expected.reason}): {kind} {answer.text}"]
    if expected.sse is not None:
        found = differences(expected.sse, events(answer.text), place)
    else:
        found = differences(_sorted(expected.json), _sorted(answer.json()), place)
    told = [text for text in found if not any(re.search(p, text.partition(":")[0]) for p in expected.ignored)]
    return [f"{text} ({expected.reason})" for text in told]


def _sorted(answer: Any) -> Any:
    """A list of models by id: ours is by id, the peer's by time of creation, which files made at once do not have."""
    if isinstance(answer, dict) and isinstance(answer.get("data"), list):
        return {**answer, "data": sorted(answer["data"], key=lambda model: model["id"])}
    return answer


@pytest.mark.parametrize("scenario", sorted(INTENDED))
def test_each_intended_difference_belongs_to_a_recorded_exchange(scenario: str) -> None:
    recording = json.loads((DATA / f"{scenario}.json").read_text())
    assert INTENDED[scenario], f"there is nothing in {scenario}"
    assert set(INTENDED[scenario]) <= set(range(len(recording["exchanges"])))
