"""Contract 4: actions: where they are listed, how they are called, and what becomes of what they return."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.conformance.conftest import API, Asker, shows
from tests.test_events import feed

MESSAGES = [{"id": "m-0", "role": "user", "content": "q"}, {"id": "m-1", "role": "assistant", "content": "a"}]


def call(ask: Asker, action: str, *, without: str = "", **more: Any) -> httpx.Response:
    body = {"model": "with_actions", "messages": MESSAGES, "chat_id": "c-1", "session_id": "s-1", "id": "m-1", **more}
    body.pop(without, None)
    return ask.client.post(f"/api/chat/actions/{action}", json=body)


# ---- the list --------------------------------------------------------------------------------------------


def test_4_a_model_lists_its_actions_by_priority_then_id_with_names_and_icons(ask: Asker) -> None:
    entry = ask.model("with_actions")
    assert entry is not None
    simple, method, no_method, *others, one, two = entry["actions"]

    assert simple == {
        "id": "b_simple",
        "name": "Simple",
        "description": "A button",
        "icon": "data:image/svg+xml;base64,AAAA",  # the frontmatter's goes above the instance's
    }
    # `actions` as a method is not called; a class without `action` is listed all the same.
    assert (method["id"], no_method["id"]) == ("c_actions_method", "d_no_method")
    assert [other["id"] for other in others] == ["given_arguments", "raises_in_action", "returns"]
    # Priority 7 comes last. An entry has its own name or the function's with its id, its own icon or the function's.
    assert (one["id"], one["name"], one["icon"]) == ("a_with_subs.one", "Part one", "data:image/svg+xml;base64,CCCC")
    assert (two["id"], two["name"], two["icon"]) == ("a_with_subs.two", "Parts (two)", "data:image/svg+xml;base64,DDDD")


# ---- the call --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "result"),
    [
        shows("4", "__id__ is the sub id", "a_with_subs.one", "one"),
        shows("4", "unknown sub ids are passed through", "a_with_subs.other", "other"),
        shows("4", "without a sub id it is the function's", "a_with_subs", "a_with_subs"),
        shows("4", "a sub id with a dot: 400", "a_with_subs.b.c", "b.c", here="it is passed through"),
        shows("4", "a sync action works", "c_actions_method", "called"),
    ],
)
def test_what_is_called(ada: Asker, id: str, result: str) -> None:
    assert call(ada, id).json() == result


def test_4_the_body_is_what_the_browser_sent_and_kwargs_stay_empty(ada: Asker) -> None:
    made = call(ada, "b_simple", event={"id": "e"}, own="key").json()

    assert made["body"] == {
        "model": "with_actions",
        "messages": MESSAGES,
        "chat_id": "c-1",
        "session_id": "s-1",
        "id": "m-1",
        "event": {"id": "e"},
        "own": "key",
    }
    assert (made["id"], made["kwargs"]) == ("b_simple", {})


def test_4_a_class_without_the_method_gives_the_body_back(ada: Asker) -> None:
    assert call(ada, "d_no_method", own="key").json()["own"] == "key"


@pytest.mark.parametrize("key", ["model", "chat_id", "id", "session_id"])
def test_4_a_missing_key_is_400_here_named(ada: Asker, key: str) -> None:
    answer = call(ada, "b_simple", without=key)

    assert answer.status_code == 400 and answer.json()["detail"].startswith(f"{key}:")


def test_4_and_7_1_the_arguments_and_here_the_same_set_as_in_every_kind(ada: Asker) -> None:
    ada.client.post(f"{API}/id/given_arguments/valves/user/update", json={"word": "ada's"})

    assert call(ada, "given_arguments.sub", files=[{"id": "f"}]).json() == {
        "user": ["ada@example.org", "ada's"],
        "talk": [True, True],
        "model": "with_actions",
        "request": ["Request", "/api/chat/actions/given_arguments.sub"],
        "id": "sub",
        # Never given in the peer, though nine of the public actions ask for metadata:
        "metadata": "c-1",
        "chat_id": "c-1",
        "files": [{"id": "f"}],
    }


def test_4_users_may_call_what_the_model_shows_and_admins_any_active_one(ask: Asker, ada: Asker) -> None:
    assert call(ask, "not_surfaced").json() == "called"
    assert call(ada, "not_surfaced").status_code == 401  # 400 in the peer, as all that follow
    assert call(ask, "action_that_is_off").status_code == 401
    assert call(ask, "nobody").status_code == 404
    assert call(ask, "with_actions").status_code == 404  # a pipe
    assert call(ada, "b_simple", model="no_such_model").status_code == 404


# ---- what it returns -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "result"),
    [
        shows("4", "None is JSON", "nothing", None),
        shows("4", "so is a text", "text", "some text"),
        shows("4", "so is a number", "number", 4),
        shows("4", "so is a list", "list", [1, "two"]),
        shows("4", "so is a plain tuple", "tuple", [1, 2]),
        shows(
            "4", "messages are for the browser to merge", "messages", {"messages": [{"id": "m-1", "content": "new"}]}
        ),
    ],
)
def test_results_are_json(ada: Asker, wanted: str, result: Any) -> None:
    answer = call(ada, "returns", wanted=wanted)

    assert (answer.status_code, answer.json()) == (200, result)


def test_4_other_responses_are_the_http_response_itself(ada: Asker) -> None:
    page, made = call(ada, "returns", wanted="other page"), call(ada, "returns", wanted="json response")

    assert (page.text, page.headers["content-type"]) == ("<p>not inline</p>", "text/html; charset=utf-8")
    assert (made.status_code, made.json()) == (418, {"teapot": True})


def test_4_inline_pages_become_embeds_events_and_their_context_the_answer(ada: Asker) -> None:
    with feed(ada.client, "c-embeds") as events:
        for wanted, shown, told in (
            ("page", "<b>page</b>", "ui_component"),
            ("page and context", "<b>page</b>", '"told": true'),
            ("html and headers", "<i>html</i>", "ui_component"),
            ("address", "https://example.org/x", "ui_component"),
        ):
            answer = call(ada, "returns", wanted=wanted, chat_id="c-embeds").json()
            assert isinstance(answer, str) and told in answer and json.loads(answer)
            event = {"type": "embeds", "data": {"embeds": [shown]}}
            assert events() == {"chat_id": "c-embeds", "message_id": "m-1", "data": event}


def test_4_an_exception_is_400_here_500_with_its_text(ada: Asker) -> None:
    answer = call(ada, "raises_in_action")

    assert (answer.status_code, answer.json()["detail"]) == (500, "ValueError: no button today")
