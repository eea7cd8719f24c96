"""Contract 2.1 and 2.2: which models a pipe is, how it is called, and with which body."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conformance.conftest import Asker, shows, text_of

# ---- 2.1 the list of models ------------------------------------------------------------------------------


def test_2_1_a_pipe_is_one_model_and_its_own_name_is_ignored(ask: Asker) -> None:
    entry = ask.model("single_pipe")

    assert entry is not None
    assert isinstance(entry.pop("created"), int)
    assert entry == {
        "id": "single_pipe",
        "name": "A single pipe",
        "object": "model",
        "owned_by": "openai",
        "pipe": {"type": "pipe"},
        "has_user_valves": True,
        "actions": [],
        "filters": [],
        "tags": [],
    }
    assert ask.say("single_pipe") == "single_pipe"


@pytest.mark.parametrize(
    ("id", "models"),
    [
        shows(
            "2.1",
            "pipes may be a list; ids may have . / and :; the instance's name goes in front of names",
            "pipes_list",
            {"a.b": "Maker: Dotted", "org/model": "Maker: Slashed", "model:7b": "Maker: Tagged"},
        ),
        shows("2.1", "pipes may be a function, and sees the valves", "pipes_function", {"s": "S", "xl": "XL"}),
        shows("2.1", "pipes may be async", "pipes_async", {"one": "One"}),
        shows("2.1", "pipes may be a generator", "pipes_generator", {"one": "One", "two": "Two"}),
        shows("2.1", "an async generator lists nothing", "pipes_async_generator", {"one": "One"}, here="it lists too"),
        shows("2.1", "pipes is given no argument", "pipes_with_a_parameter", {"all": "For None"}),
        shows("2.1", "an exception: no models", "pipes_that_raises", {}),
        shows("2.1", "None: no models", "pipes_gives_none", {}),
        shows(
            "2.1",
            "a bad entry loses itself and all later ones",
            "pipes_with_a_bad_entry",
            {"first": "First", "last": "Last"},
            here="itself only",
        ),
    ],
)
def test_a_manifold_is_the_models_that_pipes_gives(ask: Asker, id: str, models: dict[str, str]) -> None:
    assert ask.models_of(id) == {f"{id}.{sub}": name for sub, name in models.items()}
    for sub in models:
        assert f"{id}.{sub}" in ask.say(f"{id}.{sub}")


def test_2_1_other_keys_of_an_entry_are_dropped(ask: Asker) -> None:
    entry = ask.model("pipes_list.a.b")

    assert entry is not None and "dropped" not in entry


def test_2_1_the_sub_id_is_what_stands_behind_the_first_dot(ask: Asker) -> None:
    assert ask.told("pipes_list.a.b") == ["pipes_list.a.b", "a.b"]


@pytest.mark.parametrize(
    "model",
    [
        shows("2.1", "the bare id of a manifold is no model: 400", "pipes_list", here="404"),
        shows("2.1", "nor is what its pipes does not list: 400", "pipes_list.other", here="404"),
        shows("2.1", "a pipe that is off answers until the next listing", "pipe_that_is_off", here="404 at once"),
    ],
)
def test_what_is_no_model(ask: Asker, model: str) -> None:
    status, error = ask.refused(model)

    assert (status, error["code"]) == (404, "model_not_found")


def test_2_1_a_call_tells_why_a_manifold_has_no_models(ask: Asker) -> None:
    status, error = ask.refused("pipes_that_raises.any")

    assert status == 500 and "no list today" in error["message"]


# ---- 2.2 the call ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "said"),
    [
        shows("2.2", "keyword-only works and **kwargs receives nothing", "given_keywords_only",
              '["dict", "admin@localhost", {}]'),
        shows("2.2", "a parameter nobody supplies keeps its default", "extra_default_stays", '["mine", null]'),
        shows("2.2", "static methods work", "static_method", "static static_method"),
        shows("2.2", "class methods work", "class_method", "class"),
        shows("2.2", "lambdas work", "lambda_attribute", "lambda"),
        shows("2.2", "functools.partial of a coroutine function works", "partial_of_a_coroutine_function", "partial"),
        shows("2.2", "an inherited method works", "inherited_pipe", "inherited"),
        shows("2.2", "any callable works", "callable_object", "an object"),
        shows("2.2", "a sync pipe may start tasks on the loop", "sync_pipe_starts_a_task", "a task"),
        shows(
            "2.2",
            "a sync wrapper of a coroutine gives an empty answer",
            "sync_wrapper_of_a_coroutine",
            "awaited",
            here="it is awaited",
        ),
    ],
)  # fmt: skip
def test_how_a_pipe_may_be_written(ask: Asker, id: str, said: str) -> None:
    assert ask.say(id) == said


@pytest.mark.parametrize(
    ("id", "words"),
    [
        shows("2.2", "a positional-only body is a TypeError", "body_positional_only", ("TypeError", "body")),
        shows("2.2", "so is a missing body", "body_missing", ("TypeError", "body")),
        shows("2.2", "so is a parameter that nobody supplies", "parameter_nobody_supplies", ("TypeError", "response")),
        shows("2.2", "an instance without pipe: 400", "no_pipe_method", ("Pipe has no `pipe`",), here="500, its fault"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_called_is_an_error_of_the_pipe(ask: Asker, id: str, words: tuple[str], stream: bool) -> None:
    status, error = ask.refused(id, stream=stream)

    assert status == 500
    assert all(word in error["message"] for word in words), error


@pytest.mark.parametrize(
    ("id", "get", "said"),
    [
        shows("2.2", "a sync pipe freezes the server", "two_at_once", Asker.say, "met", here="it has a thread"),
        shows(
            "2.2",
            "a sync generator freezes the server",
            "generators_at_once",
            lambda ask, id: text_of(ask.stream(id)),
            "we met",
            here="it has a thread",
        ),
    ],
)
def test_sync_pipes_run_beside_each_other(ask: Asker, id: str, get: Callable[[Asker, str], str], said: str) -> None:
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda _: get(ask, id), range(2))) == [said, said]


# ---- 2.2 the body ----------------------------------------------------------------------------------------

#: Sent as further keys of the body -> what the pipe finds there.
KEYS: list[Any] = [
    shows("2.2", "stream is a bool, false if it was not sent", {}, {}),
    shows("2.2", "parameters of the model reach it", {"temperature": 0.5, "top_p": 1, "max_tokens": 7},
          {"temperature": 0.5, "top_p": 1, "max_tokens": 7}),
    shows("2.2", "so does any unknown key", {"my_own_key": {"a": [1]}}, {"my_own_key": {"a": [1]}}),
    shows("2.2", "tools reach it", {"tools": [{"type": "function"}]}, {"tools": [{"type": "function"}]}),
    shows("2.2", "params are spread into the body, custom ones too",
          {"params": {"temperature": 0.1, "system": "gone", "custom_params": {"mine": 1}}},
          {"temperature": 0.1, "mine": 1}),
    shows("2.2", "the keys of a chat service are taken out",
          {"metadata": {"x": 1}, "files": [], "features": {}, "tool_ids": [], "variables": {}, "filter_ids": [],
           "chat_id": "c", "session_id": "s", "id": "m"}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "seen"), KEYS)
def test_what_the_pipe_sees_in_the_body(ask: Asker, sent: dict[str, Any], seen: dict[str, Any]) -> None:
    body = ask.told("body_seen", "hi", **sent)

    assert body.pop("stream") is False
    assert body == {"model": "body_seen", "messages": [{"role": "user", "content": "hi"}], **seen}


def test_2_2_the_body_says_that_the_answer_is_streamed(ask: Asker) -> None:
    assert '"stream": true' in text_of(ask.stream("body_seen"))
