"""Base models: listed beside functions, and answered by their upstream byte for byte."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest

from tests import upstream as stub
from tests.commands import run
from tests.conftest import ADMIN_TOKEN, Project, Server, wait_for
from tests.upstream import DONE, KEY, STREAM, WHOLE, Upstream

PIPE = "class Pipe:\n    def pipe(self, body):\n        return 'a function'\n"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with stub.serving() as upstream:
        yield upstream


Start = Callable[..., Server]


@pytest.fixture
def start(project: Project, start_server: Callable[..., Server], upstream: Upstream) -> Start:
    """Starts a server with the upstream `up`; more keys of it may be given."""

    def start(more: str = "", kind: str = "openai", path: str = "/v1") -> Server:
        own = f'{{name: up, kind: {kind}, url: "{upstream.url}{path}", key: {{env: UP_KEY}}, {more}}}'
        project.configure(f"upstreams: [{own}]\n")
        return start_server(project, environ={"UP_KEY": KEY})

    return start


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    """The upstream `up` of `plain`."""
    with stub.serving() as provider:
        yield provider


@pytest.fixture(scope="module")
def hasty() -> Iterator[Upstream]:
    """The upstream `hasty` of `plain`, whose models begin with `hasty/`; the server waits 200 ms for it."""
    with stub.serving() as hasty:
        yield hasty


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, provider: Upstream, hasty: Upstream) -> Iterator[Server]:
    project = Project(tmp_path_factory.mktemp("upstreams") / "project")
    up = f'{{name: up, kind: openai, url: "{provider.url}/v1", key: {{env: UP_KEY}}}}'
    other = f'{{name: hasty, kind: openai, url: "{hasty.url}/v1", prefix: "hasty/", timeout: 200ms}}'
    project.configure(f"upstreams: [{up}, {other}]\n")
    server = Server(project, environ={"UP_KEY": KEY})
    try:
        yield server.wait_ready()
    finally:
        server.stop()


@pytest.fixture
def plain(
    running: Server, watched: Callable[[Server], Server], provider: Upstream, hasty: Upstream
) -> Iterator[Server]:
    """A server with two upstreams that many tests share."""
    for one in (provider, hasty):
        one.release.clear()
        one.left.clear()
        one.requests.clear()
    yield watched(running)
    for one in (provider, hasty):
        one.release.set()


def body(said: str, model: str = "base-model", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": said}], **more}


def ids(server: Server, path: str = "/v1/models") -> list[str]:
    with server.client() as client:
        return [entry["id"] for entry in client.get(path).json()["data"]]


def told(server: Server) -> str:
    """What `fnsync status` prints, in one line."""
    return " ".join(run(server.project.root, "status", "--token", ADMIN_TOKEN).stdout.split())


# ---- lists -----------------------------------------------------------------------------------------------


def test_base_models_are_listed_behind_functions(start: Start, upstream: Upstream, project: Project) -> None:
    upstream.models = {"data": [{"id": "zeta", "owned_by": "acme"}, {"id": "alpha"}, {"id": 5}, None, {"id": "echo"}]}
    project.write("echo.py", PIPE)
    server = start()

    assert ids(server) == ids(server, "/api/models") == ["echo", "zeta", "alpha"]
    with server.client() as client:
        entry = client.get("/v1/models/zeta").json()
        assert entry == {"id": "zeta", "name": "zeta", "object": "model", "created": 0, "owned_by": "acme"}
        shown = client.get("/api/models").json()["data"][1]
        assert (shown["openai"], shown["actions"], shown["filters"]) == ({"id": "zeta"}, [], [])
        # Of one id, the function counts.
        answer = client.post("/v1/chat/completions", json=body("x", "echo")).json()
    assert answer["choices"][0]["message"]["content"] == "a function"
    assert upstream.asked("/v1/models")[0].headers["authorization"] == f"Bearer {KEY}"


def test_prefix_allow_and_deny_choose_what_is_listed(start: Start, upstream: Upstream) -> None:
    upstream.models = {"data": [{"id": name} for name in ("gpt-4o", "gpt-4o-audio", "gpt-3", "whisper")]}
    server = start('prefix: "up/", allow: ["gpt-4*", whisper], deny: ["*-audio"]')

    assert ids(server) == ["up/gpt-4o", "up/whisper"]
    with server.client() as client:
        assert client.post("/v1/chat/completions", json=body("x", "gpt-4o")).status_code == 404
        assert client.post("/v1/chat/completions", json=body("x", "up/gpt-3")).status_code == 404
        raw = '{"messages":[{"role":"user","content":"\\u00fc"}], "temperature": 1.50, "model": "up/gpt-4o", "n": 1e2}'
        assert client.post("/v1/chat/completions", content=raw).status_code == 200
    [asked] = upstream.asked("/v1/chat/completions")
    assert json.loads(asked.body)["model"] == "gpt-4o"
    assert b"1.50" in asked.body and b"1e2" in asked.body and b"\\u00fc" in asked.body


def test_an_ollama_is_asked_in_its_own_way(start: Start, upstream: Upstream) -> None:
    upstream.models = {"models": [{"name": "llama3:latest", "model": "llama3:latest"}, {"name": "phi"}]}
    server = start(kind="ollama", path="")

    assert ids(server) == ["llama3:latest", "phi"]
    with server.client() as client:
        assert client.post("/v1/chat/completions", json=body("x", "phi")).content == WHOLE
    assert [request.path for request in upstream.requests] == ["/api/tags", "/v1/chat/completions"]


def test_two_upstreams_with_one_id_the_first_counts(
    project: Project, start_server: Callable[..., Server], upstream: Upstream
) -> None:
    with stub.serving() as other:
        one, two = (
            f'{{name: {name}, kind: openai, url: "{at.url}/v1"}}' for name, at in (("a", upstream), ("b", other))
        )
        project.configure(f"upstreams: [{one}, {two}]\n")
        server = start_server(project)
        assert ids(server) == ["base-model"]
        with server.client() as client:
            answer = client.post("/v1/chat/completions", json=body("x"))
        assert answer.headers["x-fnsync-upstream"] == "a"
        assert "authorization" not in upstream.requests[0].headers


def test_one_that_is_down_holds_no_list_up_and_is_shown(start: Start, upstream: Upstream, project: Project) -> None:
    project.write("echo.py", PIPE)
    upstream.lists.clear()
    server = start()

    began = time.monotonic()
    assert ids(server) == ["echo"]
    assert time.monotonic() - began < 5  # a second of patience, not the ten that the list may take
    upstream.lists.set()
    wait_for("the list", lambda: ids(server) == ["echo", "base-model"])


def test_the_list_outlives_a_failure_for_as_long_as_it_is_cached(start: Start, upstream: Upstream) -> None:
    server = start("refresh: 1ms, cache: 3s")
    assert ids(server) == ["base-model"]
    upstream.list_status = 500

    wait_for("a failure", lambda: ids(server) and server.status()["upstreams"][0]["error"])
    [state] = server.status()["upstreams"]
    assert (state["name"], state["kind"], state["url"]) == ("up", "openai", f"{upstream.url}/v1")
    assert "answered 500" in state["error"]
    wait_for("the end of the cache", lambda: ids(server) == [])
    with server.client() as client:
        gone = client.post("/v1/chat/completions", json=body("x"))
    assert gone.status_code == 404 and gone.json()["error"]["hint"].endswith("cannot be asked now: up")
    assert f"upstream up at {upstream.url}/v1: the upstream up does" in told(server)
    assert KEY not in json.dumps(server.status()) + server.log() + gone.text


def test_lists_of_any_form_do_no_harm(project: Project, start_server: Callable[..., Server]) -> None:
    lists: list[Any] = [[], {"data": None}, "text", {"data": [{"name": "no id"}]}, {"data": [{"id": "good"}]}]
    with ExitStack() as stack:
        entries = []
        for number, models in enumerate(lists):
            upstream = stack.enter_context(stub.serving())
            upstream.models = models
            entries.append(f'{{name: u{number}, kind: openai, url: "{upstream.url}/v1"}}')
        project.configure(f"upstreams: [{', '.join(entries)}]\n")

        assert ids(start_server(project)) == ["good"]


def test_a_model_that_came_since_is_found(start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start("refresh: 1h")
    assert ids(server) == ["base-model"]
    upstream.models = {"data": [{"id": "new"}]}

    def answered() -> bool:
        with server.client() as client:
            return client.post("/v1/chat/completions", json=body("x", "new")).status_code == 200

    wait_for("the new model", answered)


def test_a_key_that_is_not_there_stops_the_start(project: Project, upstream: Upstream) -> None:
    project.configure(f'upstreams: [{{name: up, kind: openai, url: "{upstream.url}", key: {{env: UP_KEY}}}}]\n')

    told = run(project.root, "serve")

    assert told.returncode != 0 and "the environment variable UP_KEY is not set" in told.stderr


# ---- completions -----------------------------------------------------------------------------------------


def test_an_answer_passes_through_byte_for_byte(plain: Server, provider: Upstream) -> None:
    sent = b'{ "model": "base-model",\n "messages": [{"role":"user","content":"hi","x":1.0}], "seed": 1E3 }'
    with plain.client() as client:
        whole = client.post("/api/chat/completions", content=sent)
        streamed = client.post("/v1/chat/completions", json=body("hi", stream=True))

    assert (whole.status_code, whole.content) == (200, WHOLE)
    assert whole.headers["x-request-id"] == "req-1" and "set-cookie" not in whole.headers
    assert streamed.content == b"".join((*STREAM, DONE))
    assert streamed.headers["content-type"] == "text/event-stream"
    first, second = provider.asked("/v1/chat/completions")
    assert "cookie" not in second.headers  # the first answer set one, for its caller
    assert first.body == sent
    assert first.headers["authorization"] == f"Bearer {KEY}" and ADMIN_TOKEN not in str(first.headers)


def test_keys_of_a_chat_server_stay_here(plain: Server, provider: Upstream) -> None:
    with plain.client() as client:
        client.post("/api/chat/completions", json=body("hi", chat_id="c", params={"seed": 4}, files=[]))

    assert json.loads(provider.asked("/v1/chat/completions")[0].body) == body("hi", seed=4)


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_of_the_upstream_reaches_the_client_without_the_key(plain: Server, stream: bool) -> None:
    with plain.client() as client:
        answer = client.post("/v1/chat/completions", json=body("!status 429", stream=stream))

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "9")
    assert answer.json() == {"error": {"message": "refused, Bearer [key]", "code": 7}}
    assert KEY not in plain.log()

    with plain.client() as client:  # which would go where an answer sends it
        moved = client.post("/v1/chat/completions", json=body("!status 307", stream=stream))
    assert (moved.status_code, moved.json()["error"]["code"]) == (502, "upstream_failed")
    assert "it is not at its `url`, and sends to elsewhere" in moved.json()["error"]["message"]


def test_parts_arrive_as_they_are_made_and_leaving_ends_the_call(plain: Server, provider: Upstream) -> None:
    with plain.client() as client:
        with client.stream("POST", "/v1/chat/completions", json=body("!hold", stream=True)) as answer:
            parts = answer.iter_raw()
            assert next(parts) == STREAM[0]
            assert not provider.left.is_set()
        assert provider.left.wait(10)

        with client.stream("POST", "/v1/chat/completions", json=body("!hold", stream=True)) as answer:
            parts = answer.iter_raw()
            assert next(parts) == STREAM[0]
            provider.release.set()
            assert b"".join(parts) == b"".join((*STREAM[1:], DONE))


def test_a_stream_that_breaks_ends_with_an_error_event(plain: Server) -> None:
    with plain.client() as client:
        answer = client.post("/v1/chat/completions", json=body("!break", stream=True))

    assert answer.content.startswith(STREAM[0])
    events = answer.content.removeprefix(STREAM[0]).split()
    error = json.loads(b" ".join(events[1:-2]))["error"]
    assert error["code"] == "upstream_failed" and "up" in error["message"] and events[-1] == b"[DONE]"


def test_one_that_went_away_is_a_502(
    project: Project, start_server: Callable[..., Server], start: Start, upstream: Upstream
) -> None:
    with stub.serving() as gone:
        project.configure(f'upstreams: [{{name: gone, kind: openai, url: "{gone.url}/v1"}}]\n')
        server = start_server(project)
        assert ids(server) == ["base-model"]
    with server.client() as client:
        answer = client.post("/v1/chat/completions", json=body("x"))

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_failed")
    assert answer.json()["error"]["message"].startswith("the upstream gone cannot be reached")


def test_one_that_does_not_begin_is_a_504(plain: Server) -> None:
    with plain.client() as client:
        answer = client.post("/v1/chat/completions", json=body("!silent", "hasty/base-model"))

    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
    assert answer.json()["error"]["message"] == "the upstream hasty took too long to answer"


def test_one_that_pauses_too_long_is_cut(plain: Server) -> None:
    with plain.client() as client:
        answer = client.post("/v1/chat/completions", json=body("!hold", "hasty/base-model", stream=True))

    assert (
        answer.status_code == 200 and b"upstream_timeout" in answer.content and answer.content.endswith(b"[DONE]\n\n")
    )


def test_the_openai_client_uses_base_models(plain: Server) -> None:
    with openai.OpenAI(base_url=f"{plain.url}/v1", api_key=ADMIN_TOKEN, max_retries=0) as client:
        chat = client.chat.completions
        assert sorted(model.id for model in client.models.list()) == ["base-model", "hasty/base-model"]
        messages: Any = [{"role": "user", "content": "hi"}]
        assert chat.create(model="base-model", messages=messages).choices[0].message.content == "one two three"
        parts = chat.create(model="base-model", messages=messages, stream=True)
        assert "".join(part.choices[0].delta.content or "" for part in parts) == "one two three"
        with pytest.raises(openai.RateLimitError):
            chat.create(model="base-model", messages=[{"role": "user", "content": "!status 429"}])


def test_no_client_gets_an_upstreams_key(plain: Server) -> None:
    with plain.client() as client:
        texts = [client.get(path).text for path in ("/api/status", "/v1/models", "/api/models", "/metrics")]
        client.post("/v1/chat/completions", json=body("!status 401"))

    assert KEY not in "".join(texts) + plain.log()
    for file in plain.data.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()
