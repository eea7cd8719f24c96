"""Contract 8: what functions emit, and what they ask.

In the peer both go over a socket to all windows of the user. Here they are in the stream of a client that asks for
them, or in the feed of the chat.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conformance.conftest import CHAT, Asker, shows, text_of
from tests.test_events import feed

EVENTS = {"X-Fnsync-Events": "1"}
STATUS = {"type": "status", "data": {"description": "working", "done": False, "own": 1}}
CITATION = {"type": "citation", "data": {"document": ["d"], "metadata": [{"source": "s"}]}}
OWN = {"type": "a type of my own"}

# ---- 8.1 the emitter -------------------------------------------------------------------------------------


def test_8_1_the_emitter_returns_nothing_refuses_what_is_no_dict_and_never_fails_for_want_of_a_listener(
    ada: Asker,
) -> None:
    returned, wrong = ada.told("emits")

    assert returned == [None, None, None]
    assert wrong == "TypeError"  # AttributeError in the peer


def test_8_1_any_type_is_forwarded_also_without_data_to_clients_that_ask(ada: Asker) -> None:
    *events, _, _ = ada.stream("emits", headers=EVENTS)
    assert events == [{"event": STATUS}, {"event": CITATION}, {"event": OWN}]

    assert all("event" not in event for event in ada.stream("emits"))


def test_8_1_the_envelope_has_chat_and_message_and_goes_to_that_user_alone(ada: Asker, bob: Asker) -> None:
    with feed(ada.client, "c-shared") as of_ada, feed(bob.client, "c-shared") as of_bob:
        ada.say("emits", chat_id="c-shared", id="m-1")
        bob.say("emits", chat_id="c-shared", id="m-2")

        for events, message in ((of_ada, "m-1"), (of_bob, "m-2")):
            envelopes = [
                {"chat_id": "c-shared", "message_id": message, "data": data} for data in (STATUS, CITATION, OWN)
            ]
            assert [events() for _ in envelopes] == envelopes


def test_8_1_the_emitter_is_none_in_stream_and_outlet_on_the_api_path_here_it_works_in_each_hook(ada: Asker) -> None:
    events = ada.stream("around_a_talker", headers=EVENTS)

    said = [event["event"]["data"]["description"] for event in events if "event" in event]
    assert said == ["inlet", "request", "stream", "outlet"]
    assert text_of(events) == "one"


# ---- 8.2 the event call ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "typed"),
    [
        shows("8.2", "confirmation: true", "confirmation", True),
        shows("8.2", "confirmation: false", "confirmation", False),
        shows("8.2", "input: the text", "input", "typed by the user"),
        shows("8.2", "input: false on cancel", "input", False),
        shows("8.2", "execute: its return value", "execute", {"any": ["value"]}),
        shows("8.2", "another type: whatever the client answers", "my own", 7),
    ],
)
def test_the_reply_is_what_the_client_answers(ada: Asker, type: str, typed: Any) -> None:
    body = {"model": "asks", "messages": [{"role": "user", "content": type}], "stream": True}
    seen: list[Any] = []
    with ada.client.stream("POST", CHAT, json=body, headers=EVENTS) as answer:
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            seen.append(json.loads(line.removeprefix("data: ")))
            if "call" in seen[-1]:
                ada.client.post(f"/api/events/{seen[-1]['call']}", json=typed)

    question = seen[0]["event"]
    assert (question["type"], question["data"]["title"]) == (type, "t")
    # Dialogs have an interaction_id, and are told to be over.
    is_dialog = type in ("confirmation", "input")
    assert ("interaction_id" in question["data"]) is is_dialog
    assert any(event.get("event", {}).get("type") == "request:interaction:done" for event in seen) is is_dialog
    assert text_of(seen) == json.dumps(typed)


def test_8_2_without_a_session_the_error_is_returned_not_raised(ada: Asker) -> None:
    assert ada.told("asks", "input") == {"error": "Client session disconnected."}


def test_8_2_a_session_of_another_user_can_not_answer(ada: Asker, bob: Asker) -> None:
    with feed(ada.client, "c-asked") as events, ThreadPoolExecutor(1) as threads:
        calling = threads.submit(ada.told, "asks", "confirmation", chat_id="c-asked")
        question = events()

        assert bob.client.post(f"/api/events/{question['call']}", json=True).status_code == 404
        assert ada.client.post(f"/api/events/{question['call']}", json=True).status_code == 200
        assert calling.result(20) is True
