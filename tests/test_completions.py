"""Chat completions: what a request may hold, what the pipe gets, and what its results become."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx
import pytest

from fnsync.chat import requests
from fnsync.errors import Invalid
from tests.conftest import Server, wait_for

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]

ECHO_BODY = """
    import json

    class Pipe:
        def pipe(self, body):
            return json.dumps(body)
"""


def ask(client: httpx.Client, model: str, **more: Any) -> Any:
    """Return the text of the answer."""
    answer = client.post(CHAT, json={"model": model, "messages": HELLO, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def deltas(text: str) -> list[Any]:
    """Return the contents of a stream's chunks."""
    found = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
    assert found[-1] == "[DONE]"
    return [json.loads(event)["choices"][0]["delta"].get("content") for event in found[:-1]]


# ---- reading requests ------------------------------------------------------------------------------------


def body(**keys: Any) -> bytes:
    return json.dumps({"model": "m", "messages": HELLO, **keys}).encode()


def test_a_body_without_private_keys_is_passed_on_byte_for_byte() -> None:
    data = b' {"messages": [{"role":"user","content":"\\u00fc \xc3\xbc"}], "model" : "m", "x": 1.50, "stream": null}\n'

    request = requests.parse(data)

    assert (request.model, request.stream) == ("m", False)
    assert request.body is data


def test_private_keys_are_taken_out_and_kept_aside() -> None:
    request = requests.parse(body(chat_id="c", id="i", files=[{"id": "f"}], metadata={"a": 1}, top_k=3, stream=True))

    assert json.loads(request.body) == {"model": "m", "messages": HELLO, "top_k": 3, "stream": True}
    assert (request.value("chat_id"), request.value("id"), request.value("files")) == ("c", "i", [{"id": "f"}])
    assert request.value("session_id") is None


def test_params_are_spread_into_the_body() -> None:
    params = {"temperature": 0.9, "system": "x", "top_p": None, "custom_params": {"seed": 7}}

    assert json.loads(requests.parse(body(params=params)).body) == {
        "model": "m",
        "messages": HELLO,
        "temperature": 0.9,
        "seed": 7,
    }


@pytest.mark.parametrize(
    ("data", "param", "text"),
    [
        (b"", None, "no body"),
        (b"  \n", None, "no body"),
        (b"{", None, "not JSON"),
        (b'{"model":"m"} x', None, "not JSON"),
        (b'\xef\xbb\xbf{"model":"m"}', None, "not JSON"),
        (b'{"model":"m","messages":[{"content":"\xff"}]}', None, "not JSON"),
        (b'{"model":"m","messages":[{"content":NaN}]}', None, "not JSON"),
        (b'{"model":"m","messages":[{"content":"\\ud83d"}]}', None, "not JSON"),
        (b'{"model":"m","messages":[{}],"seed":1e400}', None, "number that is out of range"),
        (b'{"model":"m","messages":[{}],"params":{"seed":1e400}}', None, "number that is out of range"),
        (b'{"model":"m","messages":[{}],"n":1' + b"0" * 5000 + b"}", None, "number that is out of range"),
        (b'["m"]', None, "not a JSON object: expected object, got array"),
        (b'"m"', None, "not a JSON object"),
        (b'{"model":"m"}', "messages", "messages is missing"),
        (b'{"model":"m","messages":[]}', "messages", "messages is empty"),
        (b'{"model":"m","messages":null}', "messages", "messages is missing"),
        (b'{"model":"m","messages":{"role":"user"}}', "messages", "messages: expected array | null, got object"),
        (b'{"model":"m","messages":"hi"}', "messages", "messages: expected array | null, got str"),
        (b'{"model":"m","messages":[{}, "hi"]}', "messages", "messages[...]: expected object, got str"),
        (b'{"messages":[{}]}', "model", "model is missing"),
        (b'{"model":"","messages":[{}]}', "model", "model is missing"),
        (b'{"model":3,"messages":[{}]}', "model", "model: expected str | null, got int"),
        (b'{"model":"m","messages":[{}],"stream":"yes"}', "stream", "stream: expected bool | null, got str"),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None, "nested too deeply"),
    ],
)
def test_a_bad_body_is_refused_with_the_reason(data: bytes, param: str | None, text: str) -> None:
    with pytest.raises(Invalid) as caught:
        requests.parse(data)

    assert text in caught.value.message.replace("messages[1]", "messages[...]")
    assert caught.value.param == param


# ---- what the pipe gets ----------------------------------------------------------------------------------


def test_the_pipe_finds_private_keys_in_its_reserved_arguments(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(
        fn,
        """
        import json

        class Pipe:
            def pipe(self, body, __chat_id__, __message_id__, __session_id__, __files__, __features__,
                     __metadata__, __id__, __messages__, __tools__, __task__):
                return json.dumps([body, __chat_id__, __message_id__, __session_id__, __files__, __features__,
                                   __metadata__["chat_id"], __metadata__["variables"], __metadata__["model"]["id"],
                                   __id__, __messages__, __tools__, __task__])
        """,
    )
    private = {
        "chat_id": "c-1",
        "id": "m-1",
        "session_id": "s-1",
        "files": [{"id": "f"}],
        "features": {"web_search": True},
        "variables": {"{{X}}": "y"},
    }

    answer = json.loads(ask(client, fn, **private))

    plain = {"model": fn, "messages": HELLO, "stream": False}
    features = {"web_search": True}
    variables = {"{{X}}": "y"}
    assert answer == [
        plain, "c-1", "m-1", "s-1", [{"id": "f"}], features, "c-1", variables, fn, fn, HELLO, {}, None,
    ]  # fmt: skip


def test_the_pipe_sees_who_asks_and_how_but_no_credentials(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(
        fn,
        """
        import json

        class Pipe:
            def pipe(self, body, __user__, __request__):
                request = __request__
                return json.dumps([__user__, dict(request.headers), request.method, str(request.url)])
        """,
    )

    headers = [(b"x-api-key", b"k-1"), (b"cookie", b"token=t-1"), (b"accept-language", b"fr"), (b"x-thing", b"\xfc")]
    answer = client.post(f"{CHAT}?a=b", json={"model": fn, "messages": HELLO}, headers=headers)
    user, seen, method, url = json.loads(answer.json()["choices"][0]["message"]["content"])

    known = {"id": "admin", "name": "Admin", "email": "admin@localhost", "role": "admin"}
    assert {key: user[key] for key in known} == known
    assert seen["accept-language"] == "fr"
    assert not {"authorization", "cookie", "x-api-key"} & set(seen), "credentials reach the function"
    assert method == "POST"
    assert url == f"{server.url}{CHAT}?a=b"
    assert server.token not in answer.text


def test_a_32_mb_body_passes(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(
        fn,
        'class Pipe:\n    def pipe(self, body):\n        return str(len(body["messages"][0]["content"]))\n',
        "limits: {memory: 1GB}",
    )
    content = "ü" * (16 * 1024 * 1024)

    assert ask(client, fn, messages=[{"role": "user", "content": content}]) == str(len(content))


# ---- what results become ---------------------------------------------------------------------------------


def test_the_answer_says_which_function_revision_and_commit_made_it(server: Server, client: httpx.Client) -> None:
    project = server.project
    server.add("tells_itself", ECHO_BODY)
    commit = project.commit()
    wait_for("the commit in the status", lambda: (server.function("tells_itself") or {}).get("commit") == commit)
    status = server.function("tells_itself")
    assert status is not None

    for stream in (False, True):
        answer = client.post(CHAT, json={"model": "tells_itself", "messages": HELLO, "stream": stream})
        assert answer.headers["x-fnsync-function"] == "tells_itself"
        assert answer.headers["x-fnsync-revision"] == status["revision"]
        assert answer.headers["x-fnsync-commit"] == commit


def test_an_error_says_which_revision_made_it(server: Server, client: httpx.Client, fn: str) -> None:
    status = server.add(fn, "class Pipe:\n    def pipe(self, body):\n        raise ValueError\n")

    answer = client.post(CHAT, json={"model": fn, "messages": HELLO})

    assert answer.status_code == 500
    assert answer.headers["x-fnsync-revision"] == status["revision"]
    assert answer.json()["error"]["message"] == "ValueError"


def test_a_streaming_response_is_passed_through(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(
        fn,
        """
        from starlette.responses import StreamingResponse

        class Pipe:
            def pipe(self, body):
                async def parts():
                    yield "a,b\\n"
                    yield b"\\xff\\n"
                return StreamingResponse(parts(), 207, {"X-Made-By": "me", "Set-Cookie": "a=b"}, "text/csv")
        """,
    )

    for stream in (False, True):
        answer = client.post(CHAT, json={"model": fn, "messages": HELLO, "stream": stream})
        assert (answer.status_code, answer.content) == (207, b"a,b\n\xff\n")
        assert answer.headers["content-type"].startswith("text/csv")
        assert answer.headers["x-made-by"] == "me"
        assert "set-cookie" not in answer.headers, "a function sets no cookies for the server's address"


def test_a_response_cannot_break_the_servers_head(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(
        fn,
        """
        from starlette.responses import PlainTextResponse

        class Pipe:
            def pipe(self, body):
                if body["messages"][0]["content"] == "status":
                    return PlainTextResponse("x", 999)
                response = PlainTextResponse("fine")
                response.raw_headers += [(b"x-a", b"1\\r\\nx-b: 2"), (b"x c", b"3"), (b"x-fnsync-function", b"other"),
                                         (b"content-length", b"1"), (b"transfer-encoding", b"chunked"), (b"x-d", b"4")]
                return response
        """,
    )

    answer = client.post(CHAT, json={"model": fn, "messages": HELLO})

    assert (answer.status_code, answer.text, answer.headers["x-d"]) == (200, "fine", "4")
    assert answer.headers["x-fnsync-function"] == fn
    assert not {"x-a", "x-b", "x c"} & set(answer.headers)
    answer = client.post(CHAT, json={"model": fn, "messages": [{"role": "user", "content": "status"}]})
    assert answer.status_code == 500
    assert "status 999" in answer.json()["error"]["message"]


def test_a_non_ascii_id_is_escaped_in_headers(server: Server, client: httpx.Client) -> None:
    server.add("grüße", ECHO_BODY)

    answer = client.post(CHAT, json={"model": "grüße", "messages": HELLO})

    assert answer.status_code == 200
    assert answer.headers["x-fnsync-function"] == r"gr\xfc\xdfe"
    assert answer.json()["model"] == "grüße"


EVENTS = """
    class Pipe:
        async def pipe(self, body, __event_emitter__):
            await __event_emitter__({"type": "status", "data": {"description": "one"}})
            yield "text"
            yield {"event": {"type": "status", "data": {"description": "two"}}}
            await __event_emitter__({"type": "status", "data": {"description": "three"}})
            yield "more"
"""


def test_events_go_to_clients_that_ask_for_them(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(fn, EVENTS)
    request = {"model": fn, "messages": HELLO, "stream": True}

    plain = client.post(CHAT, json=request)
    asked = client.post(CHAT, json=request, headers={"X-Fnsync-Events": "1"})

    assert deltas(plain.text) == ["text", "more", None]
    events = [json.loads(line[6:]) for line in asked.text.split("\n\n") if line.startswith('data: {"event"')]
    assert {event["event"]["data"]["description"] for event in events} == {"one", "two", "three"}


def test_a_pipe_without_answer_gives_an_empty_one(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(fn, "class Pipe:\n    async def pipe(self, body):\n        pass\n")

    assert ask(client, fn) == ""
    assert deltas(client.post(CHAT, json={"model": fn, "messages": HELLO, "stream": True}).text) == [None]


def test_an_admin_sees_the_functions_own_lines_and_a_user_does_not(
    server: Server, client: httpx.Client, user_client: httpx.Client, fn: str
) -> None:
    server.add(fn, "class Pipe:\n    def pipe(self, body):\n        return 1 / 0\n")
    request = {"model": fn, "messages": HELLO}

    traceback = client.post(CHAT, json=request).json()["error"]["traceback"]
    assert any(f"{fn}.py:3" in line and "1 / 0" in line for line in traceback), traceback
    assert client.post("/api/chat/completions", json=request).json()["traceback"] == traceback

    answer = user_client.post(CHAT, json=request)
    assert answer.json()["error"] == {
        "message": "ZeroDivisionError: division by zero",
        "type": "server_error",
        "param": None,
        "code": "function_raised",
    }


# ---- functions that are not there ------------------------------------------------------------------------


def test_an_admin_reads_why_a_function_is_no_model(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(fn, "class Pipe:\n    def pipe(self, body)\n        return 1\n", status="failed")

    answer = client.post(CHAT, json={"model": fn, "messages": HELLO})

    assert answer.status_code == 404
    assert f"{fn}.py:2" in answer.json()["error"]["message"]


def test_an_inactive_function_is_no_model(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(fn, ECHO_BODY, "active: false", status="inactive")

    answer = client.post(CHAT, json={"model": fn, "messages": HELLO})

    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == f"{fn} is switched off"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class Filter:\n    def inlet(self, body): return body\n", "is a filter, and no model"),
        ("class Action:\n    def action(self, body): return body\n", "is an action, and no model"),
    ],
)
def test_what_is_no_pipe_says_what_it_is(server: Server, client: httpx.Client, fn: str, text: str, said: str) -> None:
    server.add(fn, text)

    answer = client.post(CHAT, json={"model": fn, "messages": HELLO})

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert answer.json()["error"]["message"] == f"{fn} {said}"


@pytest.mark.parametrize("asked", ["{}", "{}.no"])
def test_a_manifold_names_its_models(server: Server, client: httpx.Client, fn: str, asked: str) -> None:
    pipes = "[{'id': 'a', 'name': 'A'}, {'id': 'b', 'name': 'B'}]"
    server.add(fn, f"class Pipe:\n    pipes = {pipes}\n    def pipe(self, body): return ''\n")

    answer = client.post(CHAT, json={"model": asked.format(fn), "messages": HELLO})

    assert answer.status_code == 404
    assert f"{fn} is a manifold" in answer.json()["error"]["message"]
    assert answer.json()["error"]["hint"] == f"its models are {fn}.a, {fn}.b"


def test_what_a_function_is_stays_hidden_from_who_may_not_use_it(
    server: Server, client: httpx.Client, user_client: httpx.Client, fn: str
) -> None:
    server.add(fn, "class Filter:\n    def inlet(self, body): return body\n", "access: {roles: [admin]}")

    answer = user_client.post(CHAT, json={"model": fn, "messages": HELLO})

    assert answer.json()["error"]["message"] == f"the model {fn!r} does not exist"


# ---- clients that leave, and slow ones -------------------------------------------------------------------


def raw_request(server: Server, request: dict[str, Any]) -> socket.socket:
    """Send a completion request over a bare connection."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)))
    data = json.dumps(request).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\nContent-Length: {len(data)}\r\n"
    connection.sendall(head.encode() + b"\r\n" + data)
    return connection


WAITS = """
    import asyncio
    import pathlib

    class Pipe:
        async def pipe(self, body):
            print("began", flush=True)
            try:
                {wait}
            finally:
                print("let go", flush=True)
"""


def logged(client: httpx.Client, id: str, text: str) -> bool:
    lines = client.get(f"/api/functions/id/{id}/logs").json()["lines"]
    return any(line["text"] == text for line in lines)


@pytest.mark.parametrize("wait", ["await asyncio.sleep(60)", "yield 'one'; await asyncio.sleep(60)"])
def test_a_client_that_leaves_ends_the_call(server: Server, client: httpx.Client, fn: str, wait: str) -> None:
    server.add(fn, WAITS.format(wait=wait))

    connection = raw_request(server, {"model": fn, "messages": HELLO, "stream": True})
    wait_for("the call", lambda: logged(client, fn, "began"))
    connection.close()

    wait_for("the end of the call in the worker", lambda: logged(client, fn, "let go"))
    wait_for("no call in the status", lambda: (server.function(fn) or {})["calls"] == 0)


def test_a_client_that_does_not_read_holds_back_the_generator(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(
        fn,
        """
        import json

        class Pipe:
            made = 0

            def pipe(self, body):
                if body["messages"][0]["content"] == "how many?":
                    return str(self.made)
                return self.many()

            def many(self):
                for _ in range(1024):
                    self.made += 1
                    yield "x" * 1024 * 1024
        """,
        "limits: {timeout: 60s}",
    )

    with raw_request(server, {"model": fn, "messages": HELLO, "stream": True}) as connection:
        connection.recv(1000)

        def settled() -> int | None:
            first = ask(client, fn, messages=[{"role": "user", "content": "how many?"}])
            second = ask(client, fn, messages=[{"role": "user", "content": "how many?"}])
            return int(second) if first == second != "0" else None

        made = wait_for("the generator to pause", settled)

    assert made <= 32, f"{made} MB were made for a client that reads nothing"
