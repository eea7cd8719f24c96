"""Filters around chats: what each stage sees and changes, what becomes of failures, and which filters take part."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from fnsync.chat import sse
from tests import upstream as stub
from tests.conftest import Project, Server, wait_for
from tests.upstream import DONE, KEY, STREAM, WHOLE, Upstream, chunk

CHAT = "/v1/chat/completions"
ECHO = """
    class Pipe:
        def pipe(self, body):
            return "you said: " + body["messages"][-1]["content"]
"""
WORDS = """
    class Pipe:
        def pipe(self, body):
            for word in body["messages"][-1]["content"].split():
                yield word + " "
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with stub.serving() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def filter_server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    """A server with the upstream `up`; filters of its tests are attached to the models of each test alone."""
    project = Project(tmp_path_factory.mktemp("filters") / "project")
    project.configure(f'upstreams: [{{name: up, kind: openai, url: "{upstream.url}/v1", key: {{env: UP_KEY}}}}]')
    server = Server(project, environ={"UP_KEY": KEY})
    try:
        yield server.wait_ready()
    finally:
        server.stop()


class Place:
    """What one test has on the server: functions with names of its own, and filters around them."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name
        self.project = server.project
        self.added: list[str] = []

    def pipe(self, source: str = ECHO, settings: str | None = None) -> str:
        """Add the test's pipe; return its id, which is its model."""
        return self.add("pipe", source, settings)

    def filter(self, source: str, settings: str = "", *, name: str = "filter", models: str | None = None) -> str:
        """Add a filter around the test's pipe, or around `models`."""
        return self.add(name, source, f"models: [{json.dumps(models or f'{self.name}_*')}]\n{settings}")

    def add(self, name: str, source: str, settings: str | None = None, *, status: str = "ready") -> str:
        id = f"{self.name}_{name}"
        self.server.add(id, source, settings, status=status)
        self.added.append(id)
        return id

    def clear(self) -> None:
        for id in self.added:
            for suffix in (".py", ".yaml"):
                (self.project.functions / f"{id}{suffix}").unlink(missing_ok=True)
        for id in self.added:
            self.server.gone(id)


@pytest.fixture
def place(filter_server: Server, fn: str) -> Iterator[Place]:
    place = Place(filter_server, fn[5:45].strip("_"))
    yield place
    place.clear()


@pytest.fixture
def client(filter_server: Server) -> Iterator[httpx.Client]:
    with filter_server.client() as client:
        yield client


def body(model: str, said: str = "hello", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": said}], **more}


def ask(client: httpx.Client, model: str, said: str = "hello", **more: Any) -> str:
    """The text of a whole answer."""
    answer = client.post(CHAT, json=body(model, said, **more))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def events(answer: httpx.Response) -> list[Any]:
    """A stream's events: objects, or text."""
    assert answer.text.endswith("\n\n")
    found = [event.removeprefix("data:").strip() for event in answer.text.split("\n\n") if event]
    return [json.loads(event) if event.startswith("{") else event for event in found]


def streamed(client: httpx.Client, model: str, said: str = "hello", **more: Any) -> list[Any]:
    answer = client.post(CHAT, json=body(model, said, stream=True, **more))
    assert answer.status_code == 200, answer.text
    return events(answer)


def contents(found: list[Any]) -> str:
    """What the chunks of a stream say together."""
    chunks = [event for event in found if isinstance(event, dict) and event.get("choices")]
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in chunks)


# ---- what stages share -----------------------------------------------------------------------------------


def test_metadata_is_one_object_that_reaches_every_stage_and_the_pipe(place: Place, client: httpx.Client) -> None:
    model = place.pipe(
        """
        class Pipe:
            def pipe(self, body, __metadata__):
                assert "metadata" not in body
                return f"pipe {__metadata__['mark']} {__metadata__['later']} {__metadata__['chat_id']}"
        """
    )
    place.filter(
        """
        class Filter:
            def inlet(self, body, __metadata__):
                assert body["metadata"] is __metadata__
                __metadata__["mark"] = "from-inlet"
                return {key: value for key, value in body.items() if key != "metadata"}

            def outlet(self, body, __metadata__):
                body["messages"][-1]["content"] += f" outlet {__metadata__['mark']} {__metadata__['later']}"
                return body
        """
    )
    place.filter(
        """
        class Filter:
            def request(self, body, __metadata__):
                assert body["metadata"] is __metadata__
                body["metadata"]["later"] = __metadata__["mark"] + "-and-request"
                body["metadata"]["unwritable"] = object()
                return body
        """,
        name="second",
    )

    said = ask(client, model, chat_id="chat-1")

    later = "from-inlet-and-request"
    assert said == f"pipe from-inlet {later} chat-1 outlet from-inlet {later}"
    wait_for("the log", lambda: "unwritable" in client.get(f"/api/functions/id/{place.name}_second/logs").text)


def test_each_filter_is_called_once_for_a_stage(place: Place, client: httpx.Client) -> None:
    """An emitter belongs to one call, and each call hands out one."""
    model = place.pipe()
    source = """
        class Filter:
            def __init__(self):
                self.calls = {}

            def seen(self, stage, emitter):
                self.calls.setdefault(stage, []).append(emitter)
                print(stage, "calls", len({id(known) for known in self.calls[stage]}))

            def inlet(self, body, __event_emitter__):
                self.seen("inlet", __event_emitter__)
                return body

            def request(self, body, __event_emitter__):
                self.seen("request", __event_emitter__)
                return body

            def outlet(self, body, __event_emitter__):
                self.seen("outlet", __event_emitter__)
                return body
    """
    names = ("a", "b", "c")
    for name in names:
        place.filter(source, name=name)

    ask(client, model)

    for name in names:
        log = f"/api/functions/id/{place.name}_{name}/logs"
        wait_for("the outlet's line", lambda: "outlet calls" in client.get(log).text)  # noqa: B023  called here
        told = [line["text"] for line in client.get(log).json()["lines"] if " calls " in line["text"]]
        assert told == ["inlet calls 1", "request calls 1", "outlet calls 1"], name


def test_a_stream_filter_is_given_the_same_objects_for_each_event_of_an_answer(
    place: Place, client: httpx.Client
) -> None:
    model = place.pipe(WORDS)
    place.filter(
        """
        class Filter:
            def stream(self, event, __metadata__, __user__):
                __metadata__["seen"] = __metadata__.get("seen", 0) + 1
                event["seen"] = __metadata__["seen"]
                return event

            def outlet(self, body, __metadata__):
                print("outlet saw", __metadata__.get("seen"))
                return body
        """
    )

    for _ in range(2):
        found = streamed(client, model, "one two three")
        assert [event["seen"] for event in found if isinstance(event, dict)] == [1, 2, 3, 4]
    log = f"/api/functions/id/{place.name}_filter/logs"
    wait_for("the log", lambda: client.get(log).text.count("outlet saw 4") == 2)


def test_files_that_a_file_handler_takes_reach_nobody_else(place: Place, client: httpx.Client) -> None:
    model = place.pipe(
        """
        import json

        class Pipe:
            def pipe(self, body, __files__, __metadata__):
                return json.dumps(["files" in body, __files__, __metadata__["files"], body["messages"][-1]["content"]])
        """
    )
    source = """
        class Filter:
            {handler}

            def inlet(self, body):
                body["messages"][-1]["content"] = f"{{len(body['files'])}} files"
                return body
    """
    files = [{"type": "file", "id": "f1"}]
    place.filter(source.format(handler="pass"))
    assert json.loads(ask(client, model, files=files)) == [False, files, files, "1 files"]

    place.filter(source.format(handler="file_handler = True"))
    assert json.loads(ask(client, model, files=files)) == [False, [], None, "1 files"]


def test_user_valves_of_two_users_never_meet(place: Place) -> None:
    model = place.pipe(WORDS)
    id = place.filter(
        """
        import asyncio
        from pydantic import BaseModel

        class Filter:
            class UserValves(BaseModel):
                word: str = "none"

            async def inlet(self, body, __user__):
                await asyncio.sleep(0.001)
                body["messages"][-1]["content"] = f"{__user__['email']}={__user__['valves'].word} x x x"
                return body

            async def stream(self, event, __user__):
                await asyncio.sleep(0.001)
                event["who"] = f"{__user__['email']}={__user__['valves'].word} "
                return event
        """
    )
    users = [f"u{number}@example.org" for number in range(4)]
    clients = [place.server.client(place.server.add_token(email=email)) for email in users]
    for number, client in enumerate(clients):
        answer = client.post(f"/api/functions/id/{id}/valves/user/update", json={"word": f"w{number}"})
        assert answer.status_code == 200, answer.text

    wrong: list[str] = []

    def chat(number: int) -> None:
        mine = f"{users[number]}=w{number} "
        for _ in range(15):
            found = streamed(clients[number], model)
            if contents(found) != mine + "x x x " or {e["who"] for e in found if isinstance(e, dict)} != {mine}:
                wrong.append(f"{mine}: {found}")

    threads = [threading.Thread(target=chat, args=(number,)) for number in range(len(users))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()
    assert not wrong, wrong[0]


# ---- streams ---------------------------------------------------------------------------------------------


def test_a_stream_filter_takes_events_that_wait_together_in_one_call(place: Place, client: httpx.Client) -> None:
    """An emitter belongs to one call, so as many as are handed out are calls."""
    model = place.pipe("class Pipe:\n    def pipe(self, body):\n        yield from ('word ' for _ in range(400))\n")
    place.filter(
        """
        import time

        class Filter:
            def __init__(self):
                self.calls = []

            def stream(self, event, __event_emitter__):
                if not any(known is __event_emitter__ for known in self.calls):
                    self.calls.append(__event_emitter__)
                    time.sleep(0.005)
                event["calls"] = len(self.calls)
                return event
        """
    )

    found = streamed(client, model)

    assert contents(found) == "word " * 400
    assert found[-2]["calls"] <= 40, "events that waited were not taken together"


def test_what_a_stream_filter_drops_and_adds(place: Place, client: httpx.Client) -> None:
    model = place.pipe(
        """
        class Pipe:
            async def pipe(self, body):
                yield "one"
                yield "away"
                yield {"usage": {"total_tokens": 1}}
                yield {"event": {"type": "status", "data": {}}}
                yield "data: [DONE]"
                yield "data: no json"
                yield "two"
        """
    )
    place.filter(
        """
        class Filter:
            async def stream(self, event):
                if "away" in str(event):
                    return {}
                event["seen"] = True
                return event
        """
    )
    place.filter("class Filter:\n    def stream(self, event):\n        return {**event, 'second': 1}\n", name="later")

    found = streamed(client, model)

    assert contents(found) == "onetwo"
    objects = [event for event in found if isinstance(event, dict)]
    assert all(event["seen"] and event["second"] == 1 for event in objects)
    assert [sorted(event)[0] for event in objects if "usage" in event] == ["second"]
    assert found[-1] == "[DONE]"
    assert found.count("[DONE]") == 2
    assert "no json" in found


def test_a_filter_that_fails_in_mid_stream_ends_it_and_is_named(place: Place, client: httpx.Client) -> None:
    model = place.pipe(WORDS)
    id = place.filter(
        """
        class Filter:
            def stream(self, event):
                if "two" in str(event):
                    raise ValueError("no two")
                return event
        """
    )

    found = streamed(client, model, "one two three")

    assert contents(found) == "one "
    assert found[-2]["error"]["message"] == "ValueError: no two"
    assert found[-2]["error"]["filter"] == id
    assert found[-1] == "[DONE]"


SAYS_SO = """
        from pydantic import BaseModel

        class Filter:
            class Valves(BaseModel):
                {field}

            def inlet(self, body, __id__):
                body["messages"][-1]["content"] += " " + __id__.rpartition("_")[2]
                return body
"""


def test_odd_priorities_break_no_chat(place: Place, client: httpx.Client) -> None:
    model = place.pipe()
    place.filter(SAYS_SO.format(field="priority: int = 0"), 'valves: {priority: "10"}', name="ten")
    place.filter(SAYS_SO.format(field="priority: int = 10**400"), name="huge")
    odd = "model_json_schema = classmethod(lambda cls, *_, **more: {'properties': {'priority': True}})"
    place.filter(SAYS_SO.format(field=odd), name="odd")
    place.filter(SAYS_SO.format(field="priority: int = 5"), name="five")

    assert ask(client, model) == "you said: hello huge odd five ten"


# ---- base models -----------------------------------------------------------------------------------------


def test_a_filter_around_a_base_model_sees_and_changes_all_of_it(
    place: Place, client: httpx.Client, upstream: Upstream
) -> None:
    place.filter(
        """
        class Filter:
            def inlet(self, body, __model__):
                body["messages"].insert(0, {"role": "system", "content": __model__["id"]})
                body["temperature"] = 0.25
                return body

            def request(self, body):
                body["top_p"] = 0.75
                return body

            def stream(self, event):
                for choice in event["choices"]:
                    if choice["delta"].get("content"):
                        choice["delta"]["content"] = choice["delta"]["content"].upper()
                return event

            def outlet(self, body):
                body["messages"][-1]["content"] += " +outlet"
                return body
        """,
        models="base-model",
    )

    assert ask(client, "base-model") == "one two three +outlet"
    sent = json.loads(upstream.asked("/v1/chat/completions")[-1].body)
    assert sent == {
        "model": "base-model",
        "messages": [{"role": "system", "content": "base-model"}, {"role": "user", "content": "hello"}],
        "stream": False,
        "temperature": 0.25,
        "top_p": 0.75,
    }

    answer = client.post(CHAT, json=body("base-model", stream=True), headers={"X-Fnsync-Events": "1"})
    found = events(answer)
    assert contents(found) == "ONE TWO THREE"
    assert found[-3] == ": bye", "what is between events is passed on"
    assert found[-2] == {"event": {"type": "replace", "data": {"content": "ONE TWO THREE +outlet"}}}
    assert found[-1] == "[DONE]"

    plain = client.post(CHAT, json=body("base-model", stream=True))
    assert "event" not in plain.text, "a client that did not ask gets no event"


def test_bytes_of_a_base_model_stay_as_they_are_where_no_filter_edits_them(place: Place, client: httpx.Client) -> None:
    place.filter(
        """
        class Filter:
            def inlet(self, body):
                return body

            def outlet(self, body):
                print("heard", body["messages"][-1]["content"])
                return body
        """,
        models="base-model",
    )

    assert client.post(CHAT, json=body("base-model")).content == WHOLE
    assert client.post(CHAT, json=body("base-model", stream=True)).content == b"".join(STREAM) + DONE
    log = f"/api/functions/id/{place.name}_filter/logs"
    wait_for("both answers in the log", lambda: client.get(log).text.count("heard one two three") == 2)


@pytest.mark.parametrize(
    "stage",
    [
        "def stream(self, event):\n        print('heard', event)\n        return event",
        "def outlet(self, body):\n        print('heard', body)\n        return body",
    ],
)
def test_events_that_are_no_strict_json_are_heard_and_passed_on(
    place: Place, client: httpx.Client, upstream: Upstream, stage: str
) -> None:
    place.filter(f"class Filter:\n    {stage}\n", models="base-model")
    odd = [b'"half \\ud83d"', b'"no utf-8 \xff"', b'"large", "n": 1e400', b'"odd", "n": -Infinity']
    given = b"".join(b'data: {"choices":[{"delta":{"content":%s}}]}\n\n' % text for text in odd)
    given += chunk({}, "stop") + b"data: [DONE]\n\n"
    upstream.given = ("text/event-stream", given)

    answer = client.post(CHAT, json=body("base-model", "!given", stream=True))

    assert answer.content.count(b"data: ") == 6, answer.content
    log = f"/api/functions/id/{place.name}_filter/logs"
    wait_for("all of them in the log", lambda: all(word in client.get(log).text for word in HEARD))


HEARD = ("half", "no utf-8", "large", "odd")


def test_errors_of_an_upstream_pass_the_filters_by(place: Place, client: httpx.Client) -> None:
    place.filter(
        "class Filter:\n    def outlet(self, body):\n        raise ValueError('not for errors')\n",
        "required: true",
        models="base-model",
    )

    answer = client.post(CHAT, json=body("base-model", "!status 429"))

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "9")
    assert answer.json()["error"]["code"] == 7


def test_a_filter_sends_a_request_to_another_model(place: Place, client: httpx.Client) -> None:
    model = place.pipe()
    place.filter(
        """
        class Filter:
            def inlet(self, body):
                body["model"] = body["messages"][-1]["content"]
                return body
        """
    )

    answer = client.post(CHAT, json=body(model, "base-model"))
    assert answer.content == WHOLE
    assert answer.headers["x-fnsync-upstream"] == "up"
    lost = client.post(CHAT, json=body(model, "nowhere"))
    assert lost.status_code == 404
    assert "a filter sent the request there" in lost.json()["error"]["hint"]


def test_a_client_gets_the_form_it_asked_for_also_where_a_filter_changes_it(place: Place, client: httpx.Client) -> None:
    model = place.pipe(WORDS)
    place.filter("class Filter:\n    def inlet(self, body):\n        return {**body, 'stream': not body['stream']}\n")

    assert contents(streamed(client, model, "a b")) == "a b "
    assert ask(client, model, "a b", stream=False) == "a b "


@pytest.mark.parametrize("type", ["application/json", "Text/Event-Stream;charset=utf-8"])
def test_an_answer_of_another_form_goes_through_the_filters_too(
    place: Place, client: httpx.Client, upstream: Upstream, type: str
) -> None:
    place.filter(
        """
        class Filter:
            def stream(self, event):
                return {**event, "seen": True}

            def outlet(self, body):
                body["messages"][-1]["content"] += " +outlet"
                return body
        """,
        models="base-model",
    )
    upstream.given = (type, WHOLE if type == "application/json" else b"".join(STREAM) + DONE)

    answer = client.post(CHAT, json=body("base-model", "!given", stream=True))

    if type == "application/json":
        assert answer.json()["choices"][0]["message"]["content"] == "one two three +outlet"
    else:
        assert answer.content.count(b'"seen":true') == len(STREAM)


def test_a_stream_that_breaks_is_an_error_where_a_filter_asked_for_it(place: Place, client: httpx.Client) -> None:
    model = place.pipe(
        """
        class Pipe:
            def pipe(self, body):
                yield "half of an answer"
                raise ValueError("and no more")
        """
    )
    place.filter("class Filter:\n    def inlet(self, body):\n        return {**body, 'stream': True}\n")
    place.filter(
        "class Filter:\n    def inlet(self, body):\n        return {**body, 'stream': True}\n",
        name="around_base",
        models="base-model",
    )

    answer = client.post(CHAT, json=body(model))
    assert (answer.status_code, "and no more" in answer.json()["error"]["message"]) == (500, True), answer.text
    answer = client.post(CHAT, json=body("base-model", "!break"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_failed"), answer.text


# ---- failures --------------------------------------------------------------------------------------------


def test_a_filter_that_refuses_a_request_ends_it_with_its_own_words(place: Place, client: httpx.Client) -> None:
    model = place.pipe()
    id = place.filter(
        """
        from fastapi import HTTPException

        class Filter:
            def inlet(self, body):
                said = body["messages"][-1]["content"]
                if said == "busy":
                    raise HTTPException(429, detail="come back later")
                if said == "odd":
                    return [body]
                if said == "broken":
                    return {"model": body["model"], "messages": "none"}
                raise ValueError("blocked")
        """
    )

    for stream in (False, True):
        refused = client.post(CHAT, json=body(model, stream=stream))
        error = refused.json()["error"]
        assert (refused.status_code, error["message"], error["filter"]) == (400, "blocked", id)
        assert error["code"] == "filter_refused"
        assert refused.headers["x-fnsync-function"] == id
    assert client.post("/api/chat/completions", json=body(model)).json()["detail"] == "blocked"
    busy = client.post(CHAT, json=body(model, "busy"))
    assert (busy.status_code, busy.json()["error"]["message"]) == (429, "come back later")
    odd = client.post(CHAT, json=body(model, "odd"))
    assert (odd.status_code, odd.json()["error"]["filter"]) == (500, id)
    assert "`inlet` returned a list" in odd.json()["error"]["message"]
    broken = client.post(CHAT, json=body(model, "broken"))
    assert (broken.status_code, broken.json()["error"]["filter"]) == (500, id)
    assert "`inlet` left no body that a model could answer: messages: exp" in broken.json()["error"]["message"]


def test_a_stage_that_gives_something_else_is_named(place: Place, client: httpx.Client) -> None:
    model = place.pipe()
    place.filter("class Filter:\n    def inlet(self, body):\n        return body\n", name="before")
    id = place.filter(
        """
        class Filter:
            async def inlet(self, body):
                yield body
        """
    )

    odd = client.post(CHAT, json=body(model)).json()["error"]
    assert (odd["filter"], odd["code"]) == (id, "unrenderable_result")
    assert "`inlet` returned a async_generator, which is no body" in odd["message"]

    id = place.filter(
        """
        class Filter:
            def stream(self, event):
                event["deep"] = []
                for _ in range(975):
                    event["deep"] = [event["deep"]]
                return event

            def outlet(self, body):
                return body
        """
    )
    found = streamed(client, model)
    assert "recursion depth" in found[-2]["error"]["message"], "what cannot be read ends the stream with a reason"
    assert found[-1] == "[DONE]"

    id = place.filter("class Filter:\n    def stream(self, event):\n        return True\n")
    found = streamed(client, model)
    assert (found[-2]["error"]["filter"], contents(found)) == (id, "")
    assert "`stream` returned a bool, which is no event" in found[-2]["error"]["message"]


def test_an_answer_goes_out_as_it_is_where_an_outlet_fails_and_the_status_tells(
    place: Place, client: httpx.Client
) -> None:
    model = place.pipe()
    id = place.filter("class Filter:\n    def outlet(self, body):\n        raise ValueError('outlet broke')\n")

    assert ask(client, model) == "you said: hello"
    assert contents(streamed(client, model)) == "you said: hello"

    status = client.get(f"/api/functions/id/{id}/status").json()
    assert (status["status"], status["unfiltered"]["count"]) == ("ready", 2)
    assert status["unfiltered"]["message"] == "outlet broke"


def test_a_required_filter_fails_closed_in_every_stage(place: Place, client: httpx.Client) -> None:
    model = place.pipe()
    id = place.filter(
        """
        class Filter:
            def inlet(self, body):
                return None if body["messages"][-1]["content"] == "none" else body

            def outlet(self, body):
                raise ValueError("outlet broke")
        """,
        "required: true",
    )

    none = client.post(CHAT, json=body(model, "none"))
    assert (none.status_code, none.json()["error"]["filter"]) == (500, id)
    plain = client.post(CHAT, json=body(model))
    assert (plain.status_code, plain.json()["error"]["message"]) == (500, "ValueError: outlet broke")
    assert plain.json()["error"]["filter"] == id
    found = streamed(client, model)
    assert found[-2]["error"]["filter"] == id
    assert found[-1] == "[DONE]"
    assert found.count("[DONE]") == 1


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_is_answered_that_a_required_filter_cannot_look_at(
    place: Place, client: httpx.Client, upstream: Upstream, stream: bool
) -> None:
    model = place.pipe(
        """
        from starlette.responses import PlainTextResponse, StreamingResponse

        class Pipe:
            def pipe(self, body):
                made = StreamingResponse if body["stream"] else PlainTextResponse
                return made("a secret" if not body["stream"] else iter(["a ", "secret"]), media_type="text/plain")
        """
    )
    outlet = "class Filter:\n    def outlet(self, body):\n        return body\n"
    id = place.filter(outlet, "required: true")
    place.filter(outlet, "required: true", name="base", models="base-model")

    answer = client.post(CHAT, json=body(model, stream=stream))
    assert (answer.status_code, answer.json()["error"]["filter"]) == (500, id)
    assert "is required, and its `outlet` cannot look at an answer" in answer.json()["error"]["message"]
    upstream.given = ("application/json", b'{"error": {"message": "refused"}}')
    told = client.post(CHAT, json=body("base-model", "!given", stream=stream))
    assert (told.status_code, told.content) == (200, upstream.given[1]), "an error is no answer"
    upstream.given = ("application/json", b'{"choices": [{"message": {"content": "x"}, "p": -Infinity}]}')
    odd = client.post(CHAT, json=body("base-model", "!given", stream=stream))
    assert (odd.status_code, odd.content) == (200, upstream.given[1]), "what clients read can be looked at"


def test_nothing_is_answered_without_a_required_filter(place: Place, client: httpx.Client) -> None:
    model = place.pipe()
    settings = f'models: ["{place.name}_*"]\nrequired: true\n'
    id = place.add("filter", "class Filter:\n    def inlet(self, body)\n", settings, status="failed")

    refused = client.post(CHAT, json=body(model))
    assert refused.status_code == 503
    assert id in refused.json()["error"]["message"]
    with place.server.client(place.server.add_token()) as user:
        told = user.post(CHAT, json=body(model)).json()["error"]["message"]
    assert id in told
    assert "line" not in told and "SyntaxError" not in told

    place.project.write(f"{id}.py", "class Filter:\n    def inlet(self, body):\n        return body\n")
    place.server.settle(id)
    assert ask(client, model) == "you said: hello"


# ---- which filters ---------------------------------------------------------------------------------------


def test_filters_are_for_those_whom_their_settings_name(place: Place, client: httpx.Client) -> None:
    model = place.pipe()
    source = """
        class Filter:
            def inlet(self, body):
                body['messages'][-1]['content'] += ' {}'
                return body
    """
    place.filter(source.format("users"), "access: {roles: [user]}", name="a")
    place.filter(source.format("ada"), "access: {users: [ADA@example.org]}", name="b")
    place.filter(source.format("own"), "owner: somebody-else", name="c")
    place.filter(source.format("all"), "", name="d")

    assert ask(client, model) == "you said: hello all"
    with place.server.client(place.server.add_token(email="ada@example.org")) as ada:
        assert ask(ada, model) == "you said: hello users ada all"


def test_an_answer_without_end_does_not_fill_the_server(place: Place, client: httpx.Client) -> None:
    model = place.pipe(
        """
        class Pipe:
            async def pipe(self, body):
                while True:
                    yield "x" * 2**20
        """
    )
    place.filter("class Filter:\n    def outlet(self, body):\n        return body\n")

    size, last = 0, b""
    with client.stream("POST", CHAT, json=body(model, stream=True)) as answer:
        for part in answer.iter_bytes():
            size, last = size + len(part), (last + part)[-1000:]
            assert size < 80 * 2**20, "it goes on"

    assert b"longer than 64 MB, too long for the filters around it" in last
    assert last.endswith(b"data: [DONE]\n\n")


def test_an_outlet_runs_to_its_end_when_the_client_leaves_with_the_last_chunk(
    place: Place, client: httpx.Client
) -> None:
    model = place.pipe(WORDS)
    id = place.filter(
        """
        import asyncio

        class Filter:
            async def outlet(self, body):
                await asyncio.sleep(0.05)
                print("heard all of", body["messages"][-1]["content"])
                return body
        """
    )

    with client.stream("POST", CHAT, json=body(model, "one two", stream=True)) as answer:
        for line in answer.iter_lines():
            if '"finish_reason":"stop"' in line:
                break

    wait_for("the outlet", lambda: "heard all of one two" in client.get(f"/api/functions/id/{id}/logs").text)


PIPELINE_FILTER = """
    from pydantic import BaseModel

    class Pipeline:
        class Valves(BaseModel):
            pipelines: list[str] = ["{target}"]
            priority: int = 0

        def __init__(self):
            self.type = "filter"
            self.valves = self.Valves()

        async def inlet(self, body, user):
            body["messages"][-1]["content"] += f" <pipeline {{user['email']}}"
            return body

        async def outlet(self, body, user):
            body["messages"][-1]["content"] += " pipeline>"
            return body
"""
PIPELINE_MODEL = """
    class Pipeline:
        def pipe(self, user_message, model_id, messages, body):
            return f"[{user_message}]"

        async def inlet(self, body, user):
            body["messages"][-1]["content"] += " <own"
            return body

        async def outlet(self, body, user):
            body["messages"][-1]["content"] += " own>"
            return body
"""


def test_filters_of_pipelines_run_first_unless_the_client_runs_them(place: Place, client: httpx.Client) -> None:
    model = place.pipe(PIPELINE_MODEL)
    place.filter(
        """
        class Filter:
            def inlet(self, body):
                body["messages"][-1]["content"] += " <function"
                return body

            def outlet(self, body):
                body["messages"][-1]["content"] += " function>"
                return body
        """
    )
    place.add("pipeline", PIPELINE_FILTER.format(target=model))
    place.add("other", PIPELINE_FILTER.format(target="another-model"))

    sees = "[hello <pipeline {who} <own <function] own> pipeline> function>"
    with place.server.client(place.server.add_token(email="ada@example.org")) as ada:
        assert ask(ada, model) == sees.format(who="ada@example.org")
    by_pipelines = client.post("/chat/completions", json=body(model, stream=False)).json()
    assert by_pipelines["choices"][0]["message"]["content"] == "[hello <function] function>"


def test_a_server_that_stops_lets_outlets_end(project: Project, start_server: Callable[..., Server]) -> None:
    began, go, done = (project.root / name for name in ("began", "go", "done"))
    server = start_server(project)
    server.add("words", WORDS)
    source = f"""
        import asyncio
        from pathlib import Path

        class Filter:
            async def outlet(self, body):
                Path({str(began)!r}).touch()
                while not Path({str(go)!r}).exists():
                    await asyncio.sleep(0.01)
                Path({str(done)!r}).write_text(body["messages"][-1]["content"])
                return body
    """
    server.add("slow", source, "global: true")
    with server.client() as client, client.stream("POST", CHAT, json=body("words", "a b", stream=True)) as answer:
        next(line for line in answer.iter_lines() if '"finish_reason":"stop"' in line)
    wait_for("the outlet", began.exists)

    server.process.send_signal(signal.SIGTERM)
    wait_for("the end of connections", lambda: is_refused(server))
    go.touch()
    assert server.process.wait(30) == 0
    assert done.read_text() == "a b "


def is_refused(server: Server) -> bool:
    try:
        httpx.get(f"{server.url}/healthz")
    except httpx.ConnectError:
        return True
    return False


# ---- one world -------------------------------------------------------------------------------------------

VERSIONED_PIPE = """
    class Pipe:
        def pipe(self, body):
            yield body["messages"][-1]["content"]
            yield " pipe:{n}"
"""
VERSIONED_FILTER = """
    class Filter:
        def inlet(self, body, __metadata__):
            __metadata__["inlet"] = {n}
            body["messages"][-1]["content"] = "inlet:{n}"
            return body

        def stream(self, event, __metadata__):
            assert __metadata__["inlet"] == {n}
            event["stream"] = {n}
            return event

        def outlet(self, body, __metadata__):
            assert __metadata__["inlet"] == {n}
            body["messages"][-1]["content"] += " outlet:{n}"
            return body
"""


def test_no_request_mixes_revisions_however_many_reloads_happen_meanwhile(place: Place) -> None:
    """The filter is `required`, so that an assertion that fails in it fails the request."""
    model = place.pipe(VERSIONED_PIPE.replace("{n}", "0"))
    place.filter(VERSIONED_FILTER.replace("{n}", "0"), "required: true")
    stop = threading.Event()
    wrong: list[str] = []
    seen: set[str] = set()
    done = [0, 0]

    def plain() -> None:
        with place.server.client() as client:
            while not stop.is_set():
                answer = client.post(CHAT, json=body(model))
                text = answer.json()["choices"][0]["message"]["content"] if answer.status_code == 200 else answer.text
                inlet, _, outlet = text.split() if answer.status_code == 200 else ("", "", "")
                if not inlet or inlet.partition(":")[2] != outlet.partition(":")[2]:
                    wrong.append(text)
                seen.add(outlet)
                done[0] += 1

    def streams() -> None:
        with place.server.client() as client:
            while not stop.is_set():
                found = streamed(client, model)
                objects = [event for event in found if isinstance(event, dict)]
                revisions = {event.get("stream") for event in objects}
                if len(revisions) != 1 or f"inlet:{revisions.pop()}" not in contents(found):
                    wrong.append(str(found))
                done[1] += 1

    threads = [threading.Thread(target=work) for work in (plain, streams)]
    for thread in threads:
        thread.start()
    for number in range(1, RELOADS + 1):
        name, source = ("filter", VERSIONED_FILTER) if number % 2 else ("pipe", VERSIONED_PIPE)
        id = f"{place.name}_{name}"
        before = place.server.function(id)
        place.project.write(f"{id}.py", source.replace("{n}", str(number)))
        place.server.settle(id, since=before)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]
    assert min(done) > RELOADS / 10, done
    assert len(seen) > RELOADS / 20, "the requests did not see the reloads"


#: Of which every second is the filter's. More of them by hand: they take a second for each 30.
RELOADS = int(os.environ.get("FNSYNC_TEST_RELOADS", "60"))


# ---- events of streams -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
def test_a_stream_is_taken_apart_without_losing_a_byte(size: int, end: str) -> None:
    parts = ['data: {"a": 1}', ": hi", 'data:{"b":"x"}', 'event: e\ndata: {"c": 1}', "data: no json", "data: [1]"]
    whole = end.join([*parts, "data: [DONE]", ""]).encode() + b'data: {"rest": 1}'
    splitter = sse.Splitter()

    found = [event for at in range(0, len(whole), size) for event in splitter.feed(whole[at : at + size])]
    found += splitter.rest()

    assert b"".join(event.raw for event in found) == whole
    datas = [event.data for event in found if event.data is not None]
    assert datas == [b'{"a": 1}', b'{"b":"x"}', b'{"c": 1}', b'{"rest": 1}']
    assert [event.is_done for event in found if event.raw.startswith(b"data: [DONE")] == [True]


def test_a_long_event_costs_no_more_than_its_length() -> None:
    splitter = sse.Splitter()
    part = b"x" * 1000
    began = time.process_time()
    for _ in range(20_000):
        assert splitter.feed(part) == []
    assert time.process_time() - began < 2.0, "each part is looked at once, and not all before it again"
    [event] = splitter.feed(b"\n\n")
    assert len(event.raw) == 20_000_002


def test_what_clients_read_though_it_is_no_strict_json_is_an_object() -> None:
    def data(text: bytes) -> bytes | None:
        return sse.event_of(b"data: " + text + b"\n\n").data

    strict = '{"a":"?","b":null,"c":null,"d":"�"}'.encode()
    assert data(b'{"a": "\\ud83d", "b": NaN, "c": 1e400, "d": "\xff"}') == strict
    assert data(b'{"a": "\\ud83d\\ude00"}') == b'{"a": "\\ud83d\\ude00"}'
    assert data(b'{"a": 1' + b"0" * 5000 + b"}") is None
    assert data(b'{"a": ' + b"[" * 3000 + b"]" * 3000 + b"}") is None
    assert data(b'{"a": 1}}') is None


def test_an_event_with_other_data_keeps_its_other_fields() -> None:
    event = sse.event_of(b'id: 7\nevent: delta\ndata: {"a":\ndata: 1}\n\n')
    assert event.data == b'{"a":\n1}'
    assert sse.with_data(event, b'{"a":2}').raw == b'id: 7\nevent: delta\ndata: {"a":2}\n\n'
