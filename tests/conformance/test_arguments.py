"""Contract 7: the reserved arguments: where they are, what is in them, and that no call sees another's."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conformance.conftest import API, Asker, shows

#: Sent beside the messages.
SENT: dict[str, Any] = {
    "chat_id": "chat",
    "id": "message",
    "session_id": "session",
    "files": [{"type": "file", "id": "f"}],
    "features": {"memory": True},
    "tool_ids": ["t"],
    "filter_ids": ["x"],
    "variables": {"{{USER_NAME}}": "Ada"},
}


@pytest.fixture(scope="module")
def told(ada: Asker) -> dict[str, Any]:
    """What a pipe was given, by name."""
    return dict(ada.told("all_in_a_pipe", "hi", **SENT))


# ---- 7.1, 7.3 in a pipe ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        shows("7.3", "__chat_id__ of the metadata", "__chat_id__", "chat"),
        shows("7.3", "__message_id__", "__message_id__", "message"),
        shows("7.3", "__session_id__", "__session_id__", "session"),
        shows("7.3", "__files__ of the request", "__files__", SENT["files"]),
        shows("7.3", "__tools__ are none on the API path", "__tools__", []),
        shows("7.3", "__task__ is None outside of tasks", "__task__", None),
        shows("7.3", "__task_body__ as well", "__task_body__", None),
        shows("7.3", "__oauth_token__ is None without one", "__oauth_token__", None),
        shows("7.3", "__request__ is a Starlette request", "__request__", ["Request", "POST", "/v1/chat/completions"]),
        shows("7.1", "__id__ is no argument of pipes", "__id__", "all_in_a_pipe", here="the same set in every kind"),
        shows("7.1", "nor is __features__", "__features__", {"memory": True}, here="the same set in every kind"),
        shows(
            "7.1",
            "nor is __messages__",
            "__messages__",
            [{"role": "user", "content": "hi"}],
            here="the same set in every kind",
        ),
        shows("7.1", "emitter and event call are None in tasks", "callable", [True, True], here="never None"),
    ],
)
def test_what_a_pipe_is_given(told: dict[str, Any], name: str, value: Any) -> None:
    assert told[name] == value


def test_7_3_user_is_a_dict_of_who_asks(told: dict[str, Any]) -> None:
    user = told["__user__"]

    assert (user["name"], user["email"], user["role"]) == ("Ada", "ada@example.org", "user")
    assert user["id"]
    # What there is nothing to say of is as it is of a user who has set nothing.
    keys = """username profile_image_url profile_banner_image_url bio gender date_of_birth timezone presence_state
        status_emoji status_message status_expires_at info settings oauth scim last_active_at updated_at created_at"""
    assert set(user) == {"id", "name", "email", "role", *keys.split()}


def test_7_3_metadata_has_all_keys_that_the_api_path_has(told: dict[str, Any]) -> None:
    metadata = told["__metadata__"]

    keys = """user_id user_agent internal chat_id message_id session_id user_message user_message_id
        assistant_message_id regeneration_message_id automation_id folder_id filter_ids tool_ids tool_servers files
        features variables chat_variables chat_context model direct params include_file_context tool_approval_resume
        terminal_id model_id skill_ids base_system_prompt base_user_prompt sources"""
    assert set(keys.split()) <= set(metadata)
    assert metadata["user_id"] == told["__user__"]["id"]
    assert (metadata["chat_id"], metadata["message_id"], metadata["session_id"]) == ("chat", "message", "session")
    assert metadata["filter_ids"] == ["x"] and metadata["tool_ids"] == ["t"]
    assert metadata["files"] == SENT["files"] and metadata["features"] == SENT["features"]
    assert metadata["variables"] == SENT["variables"]
    assert metadata["model"]["id"] == "all_in_a_pipe"


def test_7_3_on_the_api_path_chat_id_is_empty_and_the_others_are_null(ada: Asker) -> None:
    metadata = ada.told("all_in_a_pipe")["__metadata__"]

    assert (metadata["chat_id"], metadata["session_id"], metadata["message_id"]) == ("", None, None)
    assert (metadata["variables"], metadata["filter_ids"], metadata["features"]) == ({}, [], {})


def test_7_3_model_is_the_entry_of_the_list_which_pipes_never_get_here_they_do(
    told: dict[str, Any], ada: Asker
) -> None:
    assert told["__model__"] == ada.model("all_in_a_pipe")


def test_7_1_names_that_nobody_gives_keep_their_defaults_and_kwargs_stay_empty(ada: Asker) -> None:
    assert ada.told("never_given") == ["mine", "mine", "mine", "mine", {}]


# ---- 7.1 in filters --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def around(ada: Asker) -> dict[str, Any]:
    """What each hook of a filter was given: hook -> its arguments."""
    plain = ada.told("shown_to_filters", **SENT)
    streams = [event["told"] for event in ada.stream("shown_to_filters", **SENT) if "told" in event]
    return {**plain, "stream": streams[0]}


@pytest.mark.parametrize("hook", ["inlet", "request", "stream", "outlet"])
def test_7_1_each_hook_of_a_filter_has_another_set_here_the_same(around: dict[str, Any], hook: str) -> None:
    assert around[hook] == {
        "user": "ada@example.org",
        "talk": [True, True],
        "chat": ["chat", "session", "message"],
        "request": ["Request", "/v1/chat/completions"],
        "model": "shown_to_filters",
        "ids": ["chat", "message", "session"],
        "files": SENT["files"],
        "tools": [],
        "task": None,
        "token": None,
        "id": "all_in_a_filter",
        "features": {"memory": True},
    }


# ---- 7.4 the request -------------------------------------------------------------------------------------


def test_7_4_the_request_tells_of_the_http_call_without_its_credentials(ada: Asker) -> None:
    headers = {"Accept-Language": "de", "X-Mine": "1", "Cookie": "session=secret; token=x"}
    body = {"model": "reads_the_request", "messages": [{"role": "user", "content": "hi"}]}

    answer = ada.client.post("/api/chat/completions?trace=1", json=body, headers=headers)

    seen = answer.json()["choices"][0]["message"]["content"]
    assert '"secret"' not in seen and ada.client.headers["authorization"] not in seen
    assert ada.told("reads_the_request", headers=headers)["headers"] == ["de", "application/json"]

    told = json.loads(seen)
    assert told["copied"] is True and told["authorization"] is None and told["cookies"] == {}
    assert told["url"] == ["/api/chat/completions", "trace=1", f"{ada.server.url}/"]
    assert (told["method"], told["query"], told["client"]) == ("POST", {"trace": "1"}, True)
    assert told["state"] == [None]


# ---- no call sees another's ------------------------------------------------------------------------------


def test_11_what_a_call_does_to_its_arguments_no_other_sees(ada: Asker, bob: Asker) -> None:
    assert [who.told("mutates_what_it_is_given") for who in (ada, bob, ada)] == [[], [], []]
    assert ada.told("all_in_a_pipe")["__model__"] == ada.model("all_in_a_pipe")


def mine(word: str) -> dict[str, Any]:
    """What a call sends whose user says `word` everywhere."""
    return {"chat_id": f"chat of {word}", "headers": {"X-Mine": word}, "files": [{"id": word}]}


@pytest.fixture(scope="module")
def both(ada: Asker, bob: Asker) -> list[tuple[str, Asker]]:
    users = [("ada", ada), ("bob", bob)]
    for word, who in users:
        for id in ("interleaved", "interleaved_around", "interleaved_action"):
            assert who.client.post(f"{API}/id/{id}/valves/user/update", json={"word": word}).status_code == 200
    return users


def test_11_two_users_in_one_pipe_at_once(both: list[tuple[str, Asker]]) -> None:
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda user: user[1].told("interleaved", user[0], **mine(user[0])), both))

    for (word, _), answer in zip(both, answers, strict=True):
        own = [f"{word}@example.org", word, f"chat of {word}", True, f"chat of {word}", word, word, [{"id": word}]]
        assert answer == [[*own, word]] * 3


@pytest.mark.parametrize("stream", [False, True])
def test_11_two_users_around_one_pipe_at_once(both: list[tuple[str, Asker]], stream: bool) -> None:
    def ask(user: tuple[str, Asker]) -> tuple[str, list[Any]]:
        word, who = user
        sent = {**mine(word), "headers": {"X-Mine": word, "X-Fnsync-Events": "1"}}
        if not stream:
            return who.say("between_two", word, **sent), []
        events = who.stream("between_two", word, **sent)
        *rest, last = events
        return last["event"]["data"]["content"], [event["seen"] for event in rest]

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(ask, both))

    for (word, _), (said, seen) in zip(both, answers, strict=True):
        own = [f"{word}@example.org", word, f"chat of {word}", f"{word}@example.org", word]
        assert said == " ".join([*own, *own])
        assert all(event == own for event in seen)
        assert bool(seen) is stream


def test_11_two_users_press_one_button_at_once(both: list[tuple[str, Asker]]) -> None:
    def press(user: tuple[str, Asker]) -> Any:
        word, who = user
        body = {"model": "between_two", "messages": [{"role": "user", "content": word}], "id": "m", "session_id": word}
        address = f"/api/chat/actions/interleaved_action.{word}"
        return who.client.post(address, json={**body, "chat_id": f"chat of {word}"}, headers={"X-Mine": word}).json()

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(press, both))

    for (word, _), answer in zip(both, answers, strict=True):
        assert answer == [[f"{word}@example.org", word, word, word, f"chat of {word}", word, word]] * 3
