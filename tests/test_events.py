"""Events over HTTP: in the stream of a client that asks for them, in the feed of a chat, and answers to questions."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Queue
from typing import Any

import httpx
import pytest

from tests.conftest import WAIT_S, Server, wait_for

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
IN_STREAM = {"X-Fnsync-Events": "1"}
STATUS = {"type": "status", "data": {"description": "working"}}
GONE = {"error": "Client session disconnected."}

ASKS = """
    class Pipe:
        async def pipe(self, body, __event_emitter__, __event_call__):
            await __event_emitter__({"type": "status", "data": {"description": "working"}})
            answer = await __event_call__({"type": "input", "data": {"title": "t"}})
            return f"called: {answer!r}"
"""
YIELDS = """
    class Pipe:
        KIND pipe(self, body):
            yield "one "
            yield {"event": {"type": "status", "data": {"description": "working"}}}
            yield "two"
"""
RESPONDS = """
    from starlette.responses import JSONResponse, StreamingResponse
    class Pipe:
        async def pipe(self, body, __event_emitter__):
            await __event_emitter__({"type": "status", "data": {"description": "working"}})
            if body["messages"][0]["content"] == "error":
                return JSONResponse({"error": {"message": "quota"}}, 429)
            if body["messages"][0]["content"] == "raise":
                raise ValueError("broke")
            async def parts():
                yield b'data: {"choices": '
                yield b'[]}\\n\\ndata: [DONE]\\n\\n'
            return StreamingResponse(parts(), media_type="text/event-stream")
"""


@contextmanager
def feed(client: httpx.Client, chat: str) -> Iterator[Callable[[], Any]]:
    """A feed that listens; gives what returns the next event."""
    found: Queue[Any] = Queue()
    with client.stream("GET", "/api/events", params={"chat_id": chat}) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = answer.iter_lines()
        assert next(lines) == ": listening"

        def read() -> None:
            with suppress(httpx.TransportError):  # the end, from our side
                for line in lines:
                    if line.startswith("data: "):
                        found.put(json.loads(line[6:]))
            found.put(None)

        # Read aside: the call whose events these are is made here.
        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        yield lambda: found.get(timeout=WAIT_S)
        answer.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        thread.join(WAIT_S)


def in_thread(work: Callable[[], httpx.Response]) -> Queue[httpx.Response]:
    found: Queue[httpx.Response] = Queue()
    threading.Thread(target=lambda: found.put(work()), daemon=True).start()
    return found


def test_status_and_question_are_shown_while_the_function_works(server: Server, client: httpx.Client, fn: str) -> None:
    """The answer to the question can only come if its client saw it before anything else."""
    server.add(fn, ASKS)
    request = {"model": fn, "messages": HELLO, "stream": True}
    seen: list[Any] = []
    with client.stream("POST", CHAT, json=request, headers=IN_STREAM) as answer:
        for line in answer.iter_lines():
            if not line:
                continue
            seen.append(json.loads(line[6:]) if line != "data: [DONE]" else "[DONE]")
            if "call" in seen[-1]:
                assert client.post(f"/api/events/{seen[-1]['call']}", json={"typed": "by the user"}).json() is True
    status, question, over, chunk, stop, done = seen
    assert status == {"event": STATUS}
    id = question["call"]
    assert question["event"] == {"type": "input", "data": {"title": "t", "interaction_id": id}} and len(id) >= 20
    assert over == {"event": {"type": "request:interaction:done", "data": {"interaction_id": id}}}
    assert chunk["choices"][0]["delta"]["content"] == "called: {'typed': 'by the user'}"
    assert stop["choices"][0]["finish_reason"] == "stop" and done == "[DONE]"


def test_the_body_may_ask_for_events_too(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(fn, ASKS)
    request = {"model": fn, "messages": HELLO, "stream": True}
    for metadata, heard in (({"events": True}, True), ({"events": "yes"}, False), ("odd", False), (None, False)):
        with client.stream("POST", CHAT, json={**request, "metadata": metadata}) as answer:
            first = next(answer.iter_lines())
        assert ('"event"' in first) is heard, metadata


def test_chat_services_get_events_but_no_questions(server: Server, fn: str) -> None:
    server.add(fn, ASKS)
    request = {"model": fn, "messages": HELLO, "stream": True}
    with server.client(server.add_token(email="chat@example.org", ceiling="user")) as service:
        told = service.post(CHAT, json=request).text
        silent = service.post(CHAT, json=request, headers={"X-Fnsync-Events": "0"}).text
    assert json.loads(told.split("\n\n")[0].removeprefix("data: ")) == {"event": STATUS}
    assert '"call"' not in told and GONE["error"] in told
    assert '"event"' not in silent


def test_events_before_a_response_or_an_error_begin_the_stream(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(fn, RESPONDS)
    for asked, status, last in (
        ("stream", 200, {"choices": []}),
        ("error", 429, {"error": {"message": "quota"}}),
        ("raise", 500, {"error": {"message": "ValueError: broke"}}),
    ):
        request = {"model": fn, "messages": [{"role": "user", "content": asked}], "stream": True}
        answer = client.post(CHAT, json=request, headers=IN_STREAM)
        *events, done = [frame.removeprefix("data: ") for frame in answer.text.split("\n\n") if frame]
        assert answer.status_code == 200 and done == "[DONE]"
        first, second = map(json.loads, events)
        assert first == {"event": STATUS}
        assert (second if asked == "stream" else {"error": {"message": second["error"]["message"]}}) == last
        plain = client.post(CHAT, json=request)
        assert plain.status_code == status and '"event"' not in plain.text


def test_chats_events_go_to_the_feeds_of_their_user(
    server: Server, client: httpx.Client, user_client: httpx.Client, fn: str
) -> None:
    server.add(fn, ASKS)
    for stream in (False, True):
        check_feeds(client, user_client, fn, stream)


def check_feeds(client: httpx.Client, user_client: httpx.Client, fn: str, stream: bool) -> None:
    chat = f"chat-{fn}"
    request = {"model": fn, "messages": HELLO, "chat_id": chat, "id": "m-1", "session_id": "s-1", "stream": stream}
    with feed(client, chat) as mine, feed(user_client, chat) as others:
        answer = in_thread(lambda: client.post(CHAT, json=request))
        assert mine() == {"chat_id": chat, "message_id": "m-1", "data": STATUS}
        question = mine()
        id = question["call"]
        assert question["data"] == {"type": "input", "data": {"title": "t", "interaction_id": id}}
        assert user_client.post(f"/api/events/{id}", json=1).status_code == 404
        wrong = client.post(f"/api/events/{id}", content=b"{")
        assert wrong.status_code == 400 and "not JSON" in wrong.json()["detail"]
        assert client.post(f"/api/events/{id}", content=b" " * (4 * 2**20 + 1)).status_code == 413
        assert client.post(f"/api/v1/events/{id}", json=False).status_code == 200
        assert "called: False" in answer.get(timeout=WAIT_S).text
        over = mine()
        assert over["data"] == {"type": "request:interaction:done", "data": {"interaction_id": id}}
        twice = client.post(f"/api/events/{id}", json=True)
        assert twice.status_code == 404 and "no call of yours waits" in twice.json()["detail"]

        theirs = in_thread(lambda: user_client.post(CHAT, json=request))
        assert others()["data"] == STATUS, "the first that the other user sees is of their own call"
        user_client.post(f"/api/events/{others()['call']}", json="b")
        assert "called: 'b'" in theirs.get(timeout=WAIT_S).text
    lonely = client.post(CHAT, json={**request, "chat_id": "where nobody listens"})
    assert f"called: {GONE!r}" in lonely.text


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_events_that_a_pipe_yields_go_to_the_feed_too(server: Server, client: httpx.Client, fn: str, kind: str) -> None:
    server.add(fn, YIELDS.replace("KIND", kind))
    request = {"model": fn, "messages": HELLO, "chat_id": fn}
    with feed(client, fn) as events:
        plain = client.post(CHAT, json=request)
        assert plain.json()["choices"][0]["message"]["content"] == "one two"
        assert events()["data"] == STATUS
        streamed = client.post(CHAT, json={**request, "stream": True})
        assert '"event"' not in streamed.text and '"two"' in streamed.text
        assert events()["data"] == STATUS


def test_feed_ends_when_its_token_counts_no_more_and_is_none_without_a_chat(
    server: Server, client: httpx.Client
) -> None:
    with server.state() as state:
        user = state.add_user(name="Leaving", email="leaving@example.org", role="user")
        token, text = state.add_token(user.id, "test")
    with server.client(text) as leaving, feed(leaving, "c") as events:
        with server.state() as state:
            assert state.revoke(token.id)
        assert events() is None
    assert client.get("/api/events").status_code == client.get("/api/events?chat_id=").status_code == 400
    head = client.head("/api/events?chat_id=c")
    assert head.status_code == 200 and head.headers["content-type"].startswith("text/event-stream")


def test_question_ends_when_its_client_leaves_or_its_call_is_out_of_time(
    server: Server, client: httpx.Client, fn: str
) -> None:
    server.add(fn, ASKS, "limits: {timeout: 1s}")
    request = {"model": fn, "messages": HELLO, "chat_id": fn, "stream": True}

    def question_of(lines: Iterator[str]) -> str:
        return next(json.loads(line[6:])["call"] for line in lines if '"call"' in line)

    with client.stream("POST", CHAT, json=request, headers=IN_STREAM) as answer:
        left = question_of(answer.iter_lines())
    wait_for("the end of the question", lambda: client.post(f"/api/events/{left}", json=1).status_code == 404)

    with feed(client, fn) as mine:
        answer = client.post(CHAT, json={**request, "stream": False})
        assert answer.status_code == 408
        assert mine()["data"] == STATUS
        assert client.post(f"/api/events/{mine()['call']}", json=1).status_code == 404


SURROUNDED = """
    class Pipe:
        async def pipe(self, body, __event_emitter__):
            yield body["messages"][0]["content"]
            await __event_emitter__({"type": "status", "data": {"description": "pipe"}})
            yield "two"
"""
SURROUNDS = """
    class Filter:
        async def inlet(self, body, __event_call__):
            body["messages"][0]["content"] = await __event_call__({"type": "input", "data": {}})
            return body
        async def stream(self, event, __event_emitter__):
            assert "event" not in event, "a filter sees what a pipe emits"
            content = event["choices"][0]["delta"].get("content")
            if content:
                await __event_emitter__({"type": "status", "data": {"description": f"stream {content}"}})
            return event
        async def outlet(self, body, __event_emitter__):
            await __event_emitter__({"type": "status", "data": {"description": "outlet"}})
            return body
"""


def test_filters_emit_and_ask_in_every_stage_and_see_no_events(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(fn, SURROUNDED)
    server.add(f"{fn}_filter", SURROUNDS, f"models: [{fn}]")
    request = {"model": fn, "messages": HELLO, "stream": True}
    seen: list[Any] = []
    with client.stream("POST", CHAT, json=request, headers=IN_STREAM) as answer:
        for line in answer.iter_lines():
            data = json.loads(line[6:]) if line.startswith("data: {") else {}
            if "call" in data:
                client.post(f"/api/events/{data['call']}", json="one")
            if "event" in data:
                seen.append(data["event"]["data"].get("description", data["event"]["type"]))
            elif "choices" in data:
                seen.append(data["choices"][0]["delta"].get("content", "stop"))
    assert seen[:2] == ["input", "request:interaction:done"]
    assert [text for text in seen if " " not in text][2:] == ["one", "pipe", "two", "stop", "outlet"]
    assert {text for text in seen if " " in text} == {"stream one", "stream two"}


def test_tools_of_the_client_run_where_the_client_is(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(
        fn,
        """
        class Pipe:
            async def pipe(self, body, __tools__):
                tool = __tools__["weather"]
                found = await tool["callable"](city="Ulm")
                return f"{sorted(__tools__)} {tool['spec']['description']}: {found}"
        """,
    )
    spec = {"name": "weather", "description": "Tells the weather", "parameters": {"type": "object"}}
    servers = [{"url": "http://tools.example", "specs": [spec, {"no": "name"}]}, "odd"]
    request = {"model": fn, "messages": HELLO, "stream": True, "tool_servers": servers}
    told: list[str] = []
    with client.stream("POST", CHAT, json=request, headers=IN_STREAM) as answer:
        for line in answer.iter_lines():
            if '"call"' in line:
                question = json.loads(line[6:])
                assert question["event"]["type"] == "execute:tool"
                data = question["event"]["data"]
                assert (data["name"], data["params"]) == ("weather", {"city": "Ulm"})
                assert data["server"] == {"url": "http://tools.example"}
                client.post(f"/api/events/{question['call']}", json="sunny").raise_for_status()
            told.append(line)
    assert "['weather'] Tells the weather: sunny" in "\n".join(told)

    alone = client.post(CHAT, json=request | {"stream": False}).json()["choices"][0]["message"]["content"]
    assert alone.endswith(f"Tells the weather: {GONE}")
