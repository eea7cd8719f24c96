"""Actions over HTTP: who may call which, what they are given, and what becomes of what they return."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import WAIT_S, Server
from tests.recordings import differences
from tests.test_events import feed, in_thread

ACTIONS = "/api/chat/actions"
MESSAGES = [{"id": "m-0", "role": "user", "content": "q"}, {"id": "m-1", "role": "assistant", "content": "a"}]
PIPE = "class Pipe:\n    def pipe(self, body):\n        return 'x'\n"
RECORDED = Path(__file__).parent / "data/wire/action-events.json"


def about(model: str, **more: Any) -> dict[str, Any]:
    """The body of a call."""
    return {"model": model, "messages": MESSAGES, "chat_id": "c-1", "session_id": "s-1", "id": "m-1", **more}


# ---- what it returns -------------------------------------------------------------------------------------------

RETURNS = """
    from pydantic import BaseModel
    from starlette.responses import HTMLResponse, JSONResponse, StreamingResponse
    INLINE = {"Content-Disposition": "inline"}
    HTML = {**INLINE, "Content-Type": "text/html"}
    class Model(BaseModel):
        a: int = 1
    def page(text, **headers):
        return HTMLResponse(text, headers=headers or INLINE)
    async def parts():
        yield "one "
        yield "two"
    RETURNS = {
        "none": lambda: None, "text": lambda: "grüße", "number": lambda: 1.5, "list": lambda: [1, None],
        "dict": lambda: {"messages": [{"id": "m-1", "content": "new"}]}, "model": Model,
        "pair": lambda: ("<p>", {"Content-Type": "text/html"}), "triple": lambda: (1, 2, 3),
        "page": lambda: page("<b>x</b>"), "shown": lambda: HTMLResponse("<i>", 201),
        "attachment": lambda: page("<i>", **{"Content-Disposition": "attachment; filename=inline"}),
        "json": lambda: JSONResponse({"teapot": True}, 418, {"X-Own": "1"}),
        "stream": lambda: StreamingResponse(parts(), media_type="text/plain"),
        "page and text": lambda: (page("<b>"), "told"), "page and dict": lambda: (page("<b>"), {"told": "grüße"}),
        "page and None": lambda: (page("<b>"), None),
        "html": lambda: ("<b>y</b>", HTML), "lower": lambda: ("<b>", {k.lower(): v for k, v in HTML.items()}),
        "address": lambda: ("", {**INLINE, "Location": "https://example.org/x"}),
        "set": lambda: {1, object()},
    }
    class Action:
        KIND action(self, body):
            return RETURNS[body["extra"]]()
"""
SHOWN = {"status": "success", "code": "ui_component", "message": "{}: the page is embedded, and the user sees it"}


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_results_become_answers_and_pages_become_events(
    server: Server, client: httpx.Client, fn: str, kind: str
) -> None:
    server.add(fn, RETURNS.replace("KIND", kind))
    server.add(f"{fn}_pipe", PIPE)

    def call(extra: str) -> httpx.Response:
        return client.post(f"{ACTIONS}/{fn}", json=about(f"{fn}_pipe", chat_id=fn, extra=extra))

    for extra, expected in {
        "none": None,
        "text": "grüße",
        "number": 1.5,
        "list": [1, None],
        "dict": {"messages": [{"id": "m-1", "content": "new"}]},
        "model": {"a": 1},
        "pair": ["<p>", {"Content-Type": "text/html"}],
        "triple": [1, 2, 3],
    }.items():
        answer = call(extra)
        assert (answer.status_code, answer.json()) == (200, expected), extra
        assert answer.headers["x-fnsync-function"] == fn

    shown, attached, made, streamed = call("shown"), call("attachment"), call("json"), call("stream")
    assert (shown.status_code, shown.text, shown.headers["content-type"]) == (201, "<i>", "text/html; charset=utf-8")
    assert attached.text == "<i>" and attached.headers["content-disposition"] == "attachment; filename=inline"
    assert (made.status_code, made.json(), made.headers["x-own"]) == (418, {"teapot": True}, "1")
    assert streamed.text == "one two" and streamed.headers["content-type"] == "text/plain; charset=utf-8"

    told = json.dumps({**SHOWN, "message": SHOWN["message"].format(fn)}, indent=2)
    with feed(client, fn) as events:
        for extra, embed, expected in (
            ("page", "<b>x</b>", told),
            ("page and text", "<b>", "told"),
            ("page and dict", "<b>", '{\n  "told": "grüße"\n}'),
            ("page and None", "<b>", told),
            ("html", "<b>y</b>", told),
            ("lower", "<b>", told),
            ("address", "https://example.org/x", told),
        ):
            answer = call(extra)
            assert (answer.status_code, answer.json()) == (200, expected), extra
            event = {"type": "embeds", "data": {"embeds": [embed]}}
            assert events() == {"chat_id": fn, "message_id": "m-1", "data": event}

    odd = call("set")
    assert odd.status_code == 500 and "cannot be written as JSON" in odd.json()["detail"]


def test_recorded_events_of_actions(server: Server, client: httpx.Client) -> None:
    """What Open WebUI was recorded to send its client, the feed sends; a question has the id of the call beside it."""
    recording = json.loads(RECORDED.read_text())
    for function in recording["functions"]:
        server.add(function["id"], function["content"])
    talks, alone, embeds = recording["exchanges"]

    chat = talks["request"]["json"]["chat_id"]
    with feed(client, chat) as events:
        answer = in_thread(lambda: client.post(talks["request"]["path"], json=talks["request"]["json"]))
        found = [events(), events()]
        client.post(f"/api/events/{found[1].pop('call')}", json="typed by the user")
        assert answer.get(timeout=WAIT_S).json() == talks["response"]["json"]
        found += [events(), events()]
        assert differences(talks["events"], found) == []

        shown = client.post(embeds["request"]["path"], json=embeds["request"]["json"])
        status = json.loads(embeds["response"]["json"])
        assert json.loads(shown.json()) == {**status, "message": SHOWN["message"].format("embeds")}
        assert differences(embeds["events"], [events()]) == []
    # Nobody hears of it: there are no sessions here, only feeds of chats.
    request = {**alone["request"]["json"], "chat_id": "where nobody listens"}
    assert client.post(alone["request"]["path"], json=request).json() == alone["response"]["json"]


# ---- what it is given ------------------------------------------------------------------------------------------

DESCRIBES = """
    class Action:
        actions = [{"id": "one", "name": "One"}, {"id": "two.dots"}, {"name": "no id"}, {"id": None}]
        async def action(self, body, __id__, __model__, __metadata__, __chat_id__, __message_id__, __session_id__,
                         __user__, __messages__, __request__, __event_emitter__, __event_call__, __files__, __tools__):
            return {
                "id": __id__, "model": __model__["id"], "chat": [__chat_id__, __metadata__["chat_id"]],
                "message": [__message_id__, __metadata__["message_id"]], "session": __session_id__,
                "role": __user__["role"], "messages": len(__messages__), "body": body, "path": __request__.url.path,
                "tools": [__files__, __tools__],
            }
"""


def test_an_action_gets_the_body_as_it_was_sent_and_its_sub_action(
    server: Server, client: httpx.Client, fn: str
) -> None:
    server.add(fn, DESCRIBES, "global: true")
    server.add(f"{fn}_pipe", PIPE)
    body = about(f"{fn}_pipe", event={"type": "x"}, files=[{"id": "f"}], more=1)
    for at, id in (
        (fn, fn),
        (f"{fn}.one", "one"),
        (f"{fn}.two.dots", "two.dots"),
        (f"{fn}.un/known", "un/known"),
        (f"{fn}.", fn),
    ):
        answer = client.post(f"/api/v1/chat/actions/{at}", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "id": id,
            "model": f"{fn}_pipe",
            "chat": ["c-1", "c-1"],
            "message": ["m-1", "m-1"],
            "session": "s-1",
            "role": "admin",
            "messages": 2,
            "body": body,
            "path": f"/api/v1/chat/actions/{at}",
            "tools": [[{"id": "f"}], {}],
        }
    model = next(m for m in client.get("/api/models").json()["data"] if m["id"] == f"{fn}_pipe")
    names = [(item["id"], item["name"]) for item in model["actions"] if item["id"].startswith(fn)]
    assert names == [(f"{fn}.one", "One"), (f"{fn}.two.dots", f"{fn} (two.dots)")]
    server.add(fn, DESCRIBES + "\n", "global: false")


# ---- who may ---------------------------------------------------------------------------------------------------

RUNS = "class Action:\n    def action(self, body):\n        return 'ran'\n"


def test_users_may_call_the_actions_that_their_models_show(
    server: Server, client: httpx.Client, user_client: httpx.Client, fn: str
) -> None:
    for name, text, settings in (
        ("pipe", PIPE, "{}"),
        ("closed", PIPE, "access: {roles: [admin]}"),
        ("loose", RUNS, "{}"),
        ("globbed", RUNS, f"models: ['{fn}_p*']"),
        ("barred", RUNS, f"{{models: ['{fn}_*'], access: {{roles: [admin]}}}}"),
        ("off", RUNS, f"{{active: false, models: ['{fn}_*']}}"),
        ("own", RUNS, "{owner: somebody, models: ['*']}"),
    ):
        server.add(f"{fn}_{name}", text, settings, status="inactive" if name == "off" else "ready")

    def ask(who: httpx.Client, action: str, model: str = "pipe", **more: Any) -> tuple[int, Any]:
        answer = who.post(f"{ACTIONS}/{fn}_{action}", json=about(f"{fn}_{model}", **more))
        return answer.status_code, answer.json() if answer.status_code == 200 else answer.json()["detail"]

    assert ask(user_client, "globbed") == (200, "ran")
    assert ask(user_client, "loose") == (401, f"the action {fn}_loose is not one of the model {fn}_pipe")
    assert ask(user_client, "barred") == (401, f"you may not use the action {fn}_barred")
    assert ask(user_client, "off")[0] == ask(client, "off")[0] == 401
    assert ask(user_client, "globbed", "closed") == (404, f"the model '{fn}_closed' does not exist")
    assert ask(user_client, "own") == (404, f"the action '{fn}_own' does not exist")
    assert ask(client, "loose") == ask(client, "barred") == ask(client, "loose", "closed") == (200, "ran")
    assert ask(client, "loose", "nothing")[0] == 404
    assert ask(client, "pipe") == (404, f"the action '{fn}_pipe' does not exist")
    assert ask(client, "loose", messages="m")[0] == 400
    for number, told in ((b"NaN", "not JSON"), (b"1e400", "number that is out of range")):
        for path in (f"{ACTIONS}/{fn}_loose", "/api/chat/completed"):
            odd = json.dumps(about(f"{fn}_pipe", odd=0) | {"messages": [{}]}).encode()
            refused = client.post(path, content=odd.replace(b'"odd": 0', b'"odd": ' + number))
            assert (refused.status_code, told in refused.text) == (400, True), refused.text
    missing = client.post(f"{ACTIONS}/{fn}_loose", json={"model": f"{fn}_pipe"})
    assert missing.status_code == 400
    assert missing.json()["detail"] == "chat_id: Field required; session_id: Field required; id: Field required"
