"""Contract 10: `class Pipeline`: how files load, what is called with what, and the protocol at the root."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.conformance.conftest import Asker, shows, text_of
from tests.conftest import wait_for


def chat(ask: Asker, model: str, said: str = "hello", **more: Any) -> httpx.Response:
    """A chat over the Pipelines protocol, with what a client of it sends."""
    body = {"model": model, "messages": [{"role": "user", "content": said}], "stream": False, **more}
    return ask.client.post("/chat/completions", json=body)


def said(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


@pytest.fixture(scope="module")
def listed(ask: Asker) -> dict[str, dict[str, Any]]:
    """What `/models` at the root lists, by id."""
    answer = ask.client.get("/models").json()
    assert (answer["object"], answer["pipelines"]) == ("list", True)
    return {entry["id"]: entry for entry in answer["data"]}


# ---- 10.1, 10.2 files and models -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "name", "facts"),
    [
        shows("10.2", "no type: a pipe", "line_arguments", "Arguments", {"type": "pipe", "valves": False}),
        shows("10.1", "the id is the instance's", "line-of-its-own", "Own id", {"type": "pipe", "valves": False}),
        shows(
            "10.2",
            "type pipe: listed, but no model",
            "line_type_pipe",
            "Typed",
            {"type": "pipe", "valves": False},
            here="a model",
        ),
        shows(
            "10.2",
            "a manifold is its models, with its name in front",
            "line_manifold.p.1",
            "Many: One",
            {"type": "manifold", "valves": False},
        ),
        shows(
            "10.2",
            "pipelines may be a method",
            "line_manifold_method.made",
            "Method: Made",
            {"type": "manifold", "valves": False},
        ),
        shows(
            "10.4",
            "filters tell their targets and their priority",
            "line_filter_late",
            "Late",
            {"type": "filter", "valves": True, "pipelines": ["line_target"], "priority": 2},
        ),
    ],
)
def test_what_is_listed(listed: dict[str, Any], id: str, name: str, facts: dict[str, Any]) -> None:
    entry = dict(listed[id])

    assert isinstance(entry.pop("created"), int)
    assert entry == {"id": id, "name": name, "object": "model", "owned_by": "openai", "pipeline": facts}


@pytest.mark.parametrize("id", ["line_own_id", "line_manifold"])
def test_10_1_and_10_2_the_stem_of_one_with_an_id_and_a_manifolds_own_id_are_no_models(
    listed: dict[str, Any], id: str
) -> None:
    assert id not in listed


def test_10_4_pipelines_lists_all_also_filters(ask: Asker) -> None:
    found = {entry["id"]: entry for entry in ask.client.get("/pipelines").json()["data"]}

    assert found["line_filter_late"] == {
        "id": "line_filter_late",
        "name": "line_filter_late",
        "type": "filter",
        "valves": True,
    }
    assert found["line_manifold"]["type"] == "manifold"
    assert found["line-of-its-own"]["name"] == "line_own_id"  # the name is the file's


def test_10_1_frontmatter_keys_are_lower_cased(ask: Asker) -> None:
    assert ask.manifest("line_arguments") == {"title": "A pipeline", "author": "Ada", "requirements": ""}


# ---- 10.2 what is called ---------------------------------------------------------------------------------


def test_10_2_pipe_gets_its_four_arguments_by_name(ask: Asker) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "first text"}]
    messages = [
        {"role": "user", "content": "old"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": parts},
    ]
    user = {"name": "Bob", "id": "u-1", "email": "bob@example.org", "role": "user"}

    told = json.loads(said(chat(ask, "line_arguments", messages=messages, user=user, mine=1)))

    user_message, model_id, seen, body = told
    assert (user_message, model_id, seen) == ("first text", "line_arguments", messages)
    assert body == {"model": "line_arguments", "stream": False, "messages": messages, "user": user, "mine": 1}


@pytest.mark.parametrize(
    ("model", "result"),
    [
        shows("10.2", "of a manifold model_id is the sub id, body has the whole", "line_manifold.p.1",
              '["p.1", "line_manifold.p.1"]'),
        shows("10.2", "an id of its own is the model", "line-of-its-own", "line-of-its-own"),
        shows("10.2", "a pipe of type pipe: 404", "line_type_pipe", "typed", here="it answers"),
    ],
)  # fmt: skip
def test_which_model_a_pipe_is_told(ask: Asker, model: str, result: str) -> None:
    assert said(chat(ask, model)) == result


@pytest.mark.parametrize(
    "model",
    [
        shows("10.4", "unknown model: 404", "line_nobody"),
        shows("10.4", "a filter: 404", "line_filter_late"),
        shows("10.4", "a manifold's own id: 404", "line_manifold"),
    ],
)
def test_what_is_no_model(ask: Asker, model: str) -> None:
    assert chat(ask, model).status_code == 404


def test_10_2_and_10_3_startup_and_valves_updated_are_awaited(ask: Asker) -> None:
    assert said(chat(ask, "line_hooks")) == "init, startup"

    # The posted values replace the stored ones; what is not sent is the class's default there, the constructor's here.
    posted = ask.client.post("/line_hooks/valves/update", json={"word": "posted"}).json()
    assert posted == {"word": "posted", "number": 5}
    wait_for("on_valves_updated", lambda: said(chat(ask, "line_hooks")) == "init, startup, updated posted 5")
    assert ask.client.get("/line_hooks/valves").json() == posted


def test_10_1_helpers_of_the_server_can_be_imported(ask: Asker) -> None:
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "last"},
    ]

    assert json.loads(said(chat(ask, "line_helpers", messages=messages))) == ["be kind", "last", "a", "user"]


# ---- filters ---------------------------------------------------------------------------------------------


def test_10_2_filters_by_priority_around_their_targets_where_nobody_else_calls_them(ada: Asker) -> None:
    assert ada.say("line_target", "hi") == "hi early of ada@example.org late | early | late"
    # A client of the protocol calls them itself.
    assert said(chat(ada, "line_target", "hi")) == "hi"


def test_10_4_inlet_and_outlet_over_the_protocol(ask: Asker) -> None:
    body = {"model": "line_target", "messages": [{"role": "user", "content": "hi"}]}
    user = {"id": "u-1", "email": "bob@example.org", "name": "Bob", "role": "user"}

    answer = ask.client.post("/line_filter_early/filter/inlet", json={"body": body, "user": user})

    assert answer.json()["messages"][-1]["content"] == "hi early of bob@example.org"


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        shows("10.4", "a missing hook gives the body back", "line_filter_without_outlet/filter/outlet", 200, "hi"),
        shows("10.4", "an exception: 500 with its text", "line_filter_without_outlet/filter/inlet", 400, "not this one",
              here="400, a refusal"),
        shows("10.4", "an unknown id: 404", "line_nobody/filter/inlet", 404, "not found"),
    ],
)  # fmt: skip
def test_hooks_over_the_protocol(ask: Asker, path: str, status: int, word: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}

    answer = ask.client.post(f"/{path}", json={"body": body, "user": None})

    assert (answer.status_code, word in answer.text) == (status, True), answer.text


# ---- 10.3, 10.4 valves -----------------------------------------------------------------------------------


def test_10_4_valves_and_their_schema(ask: Asker) -> None:
    assert ask.client.get("/line_filter_late/valves").json() == {"pipelines": ["line_target"], "priority": 2}
    assert ask.client.get("/line_filter_late/valves/spec").json()["properties"]["priority"]["default"] == 0
    assert ask.client.get("/line_arguments/valves").status_code == 404  # it has none
    assert ask.client.get("/line_manifold.two/valves").status_code == 404
    # 500 in the peer; here 400 with the field.
    refused = ask.client.post("/line_hooks/valves/update", json={"number": "many"})
    assert refused.status_code == 400 and "number" in refused.json()["detail"]


@pytest.mark.parametrize("path", ["/line_hooks/valves", "/line_hooks/valves/spec", "/models", "/pipelines"])
def test_10_4_valves_filters_and_chat_need_no_key_here_everything_does(ask: Asker, path: str) -> None:
    assert httpx.get(f"{ask.server.url}{path}").status_code == 401
    assert httpx.get(f"{ask.server.url}/").json() == {"status": True}


# ---- 10.4 results ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "result"),
    [
        shows("10.4", "str: a completion", "text", "text"),
        shows("10.4", "a generator: joined, bytes as Python's text", "generator", "one two", here="bytes decoded"),
        shows("10.4", "another iterator: an empty answer", "iterator", "one two", here="as a generator"),
        shows("10.4", "None: an empty answer", "none", ""),
    ],
)
def test_results_that_are_text(ask: Asker, wanted: str, result: str) -> None:
    assert said(chat(ask, "line_returns", wanted)) == result
    streamed = chat(ask, "line_returns", wanted, stream=True)
    assert streamed.text.endswith("data: [DONE]\n\n")  # without the blank line in the peer, or missing
    assert text_of(events(streamed)) == result


def events(answer: httpx.Response) -> list[Any]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = [event.removeprefix("data:").strip() for event in answer.text.split("\n\n") if event]
    return [json.loads(event) for event in found if event.startswith("{")]


def test_10_4_a_dict_and_a_model_are_as_they_are_and_stream_nothing_here_one_event(ask: Asker) -> None:
    for wanted, value in (("dict", {"any": "shape"}), ("model", {"word": "model"})):
        assert chat(ask, "line_returns", wanted).json() == value
        assert events(chat(ask, "line_returns", wanted, stream=True)) == [value]


def test_10_4_items_as_in_a_pipes_stream_and_an_empty_one_is_no_stop(ask: Asker) -> None:
    chunk, model, ready, stop = events(chat(ask, "line_returns", "chunks", stream=True))
    assert chunk["choices"][0]["delta"] == {"content": "of a chunk"}
    assert (model, ready) == ({"word": "model"}, {"ready": "made"})
    assert stop["choices"][0]["finish_reason"] == "stop"

    deltas = [event["choices"][0]["delta"] for event in events(chat(ask, "line_returns", "generator", stream=True))]
    assert deltas == [{"content": "one "}, {"content": ""}, {"content": "two"}, {}]


def test_10_4_a_stream_is_the_default(ask: Asker) -> None:
    body = {"model": "line_returns", "messages": [{"role": "user", "content": "text"}]}

    assert text_of(events(ask.client.post("/chat/completions", json=body))) == "text"


def test_10_4_other_types_are_empty_answers_here_an_error_that_names_the_type(ask: Asker) -> None:
    answer = chat(ask, "line_returns", "list")

    assert answer.status_code == 500 and "a list" in answer.json()["detail"]


def test_10_4_an_exception_is_500_without_its_text_or_a_reset_connection_here_told(ask: Asker) -> None:
    for stream in (False, True):
        answer = chat(ask, "line_returns", "raises", stream=stream)
        assert answer.status_code == 500 and "no pipe today" in answer.json()["detail"]

    one, broken = events(chat(ask, "line_returns", "breaks", stream=True))
    assert one["choices"][0]["delta"] == {"content": "one "}
    assert "broke midway" in broken["error"]["message"]


def test_10_4_null_as_content_is_422_here_taken(ask: Asker) -> None:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": None, "tool_calls": []}]

    assert json.loads(said(chat(ask, "line_arguments", messages=messages)))[2] == messages
