"""Contract 2.3 to 2.6: what becomes of results, items and exceptions; chunks and tasks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance.conftest import CHAT, Asker, shows, text_of

# ---- 2.3 results -----------------------------------------------------------------------------------------


def test_2_3_the_completion_object_and_its_keys_in_their_order(ask: Asker) -> None:
    made = ask.whole("text")

    assert list(made) == ["id", "created", "model", "choices", "object"]
    assert made["id"].startswith("text-") and isinstance(made["created"], int)
    assert (made["model"], made["object"]) == ("text", "chat.completion")
    message = {"role": "assistant", "content": "hello ü"}
    assert made["choices"] == [{"index": 0, "logprobs": None, "finish_reason": "stop", "message": message}]


def test_2_3_the_chunk_objects_each_with_a_fresh_id_here_one_id(ask: Asker) -> None:
    first, second, last = ask.stream("generator_of_texts")

    assert list(first) == ["id", "created", "model", "choices", "object"]
    assert first["object"] == "chat.completion.chunk"
    choice = {"index": 0, "logprobs": None, "finish_reason": None, "delta": {"content": "one "}}
    assert first["choices"] == [choice]
    assert last["choices"] == [{"index": 0, "logprobs": None, "finish_reason": "stop", "delta": {}}]
    assert len({(event["id"], event["created"]) for event in (first, second, last)}) == 1  # readers tell answers by it


@pytest.mark.parametrize(
    ("id", "said"),
    [
        shows("2.3", "str", "text", "hello ü"),
        shows("2.3", "empty str", "empty_text", ""),
        shows("2.3", "a sync generator is joined", "generator_of_texts", "one two"),
        shows("2.3", "an async generator is joined", "async_generator_of_texts", "one two"),
        shows("2.3", "a coroutine may give the generator", "coroutine_gives_generator", "one two"),
        shows("2.3", "another iterator: no message", "other_iterator", "ONE TWO", here="as a generator"),
        shows("2.3", "a class with __aiter__: no message", "async_iterator_class", "one two", here="as a generator"),
        shows("2.3", "None: no message", "nothing", "", here="an empty answer"),
        shows("2.3", "bytes: no message", "bytes_result", "raw ü", here="their text"),
    ],
)
def test_results_that_are_text(ask: Asker, id: str, said: str) -> None:
    assert ask.say(id) == said

    events = ask.stream(id)
    assert text_of(events) == said
    assert [event["choices"][0]["finish_reason"] for event in events if event["choices"][0]["finish_reason"]] == [
        "stop"
    ]


@pytest.mark.parametrize(
    ("id", "value"),
    [
        shows(
            "2.3",
            "a dict is returned as it is; streamed it is one event without [DONE]",
            "any_dict",
            {"answer": 42, "nested": {"of": ["any", "shape"]}},
            here="[DONE] always",
        ),
        shows(
            "2.3",
            "a BaseModel is its fields; streamed it is ignored",
            "pydantic_model",
            {"word": "model", "number": 1},
            here="as a dict",
        ),
        shows("2.3", "so is an error object", "returns_an_error", {"error": {"message": "quota used up"}}),
    ],
)
def test_results_that_are_objects(ask: Asker, id: str, value: dict[str, Any]) -> None:
    assert ask.whole(id) == value
    assert ask.stream(id) == [value]


def test_2_3_a_completion_dict_is_as_it_is_and_here_becomes_chunks_for_who_streams(ask: Asker) -> None:
    whole = ask.whole("completion_dict")
    assert (whole["id"], whole["choices"][0]["message"]["content"]) == ("mine", "whole")

    events = ask.stream("completion_dict")
    assert text_of(events) == "whole"
    assert {(event["id"], event["model"], event["object"]) for event in events} == {
        ("mine", "own", "chat.completion.chunk")
    }
    assert events[-1]["choices"][0]["finish_reason"] == "length" and events[-1]["usage"] == {"total_tokens": 3}


@pytest.mark.parametrize("stream", [False, True])
def test_2_3_a_streaming_response_is_passed_through_untouched(ask: Asker, stream: bool) -> None:
    answer = ask.chat("streaming_response", stream=stream)

    assert (answer.status_code, answer.headers["content-type"]) == (203, "text/plain; charset=utf-8")
    assert answer.text == "first line\nsecond line\n"


@pytest.mark.parametrize("stream", [False, True])
def test_2_3_a_json_response_gives_an_empty_answer_here_it_is_passed_through(ask: Asker, stream: bool) -> None:
    answer = ask.chat("json_response", stream=stream)

    assert (answer.status_code, answer.json()) == (418, {"teapot": True})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("id", "type"), [("list_result", "list"), ("int_result", "int")])
def test_2_3_other_types_give_an_empty_answer_here_an_error_that_names_the_type(
    ask: Asker, id: str, type: str, stream: bool
) -> None:
    status, error = ask.refused(id, stream=stream)

    assert (status, error["code"]) == (500, "unrenderable_result") and f"returned a {type}" in error["message"]


# ---- 2.3 items -------------------------------------------------------------------------------------------


def items(events: list[Any]) -> list[Any]:
    """The events without the stop chunk; of text chunks their content."""
    *found, stop = events
    assert stop["choices"][0]["finish_reason"] == "stop"
    return [event["choices"][0]["delta"].get("content") if _is_ours(event) else event for event in found]


def _is_ours(event: Any) -> bool:
    return isinstance(event, dict) and event.get("object") == "chat.completion.chunk"


@pytest.mark.parametrize(
    ("id", "sent", "joined"),
    [
        shows(
            "2.3",
            "dicts of any shape are events; joined they are Python's text",
            "dicts",
            [
                {"choices": [{"index": 0, "delta": {"content": "from a chunk"}, "finish_reason": None}]},
                {"usage": {"total_tokens": 2}},
                {"selected_model_id": "other"},
            ],
            "from a chunk",
            here="joined their content",
        ),
        shows("2.3", "a BaseModel is its JSON", "models", [{"usage": {"total_tokens": 2}}], ""),
        shows(
            "2.3",
            "bytes are decoded, then as str; joined they are Python's text",
            "some_bytes",
            ["ü", {"ready": "made"}],
            'üdata: {"ready": "made"}',
            here="joined decoded",
        ),
        shows(
            "2.3",
            "text that begins with data: is verbatim, its own [DONE] too, and the ending follows",
            "data_lines",
            [{"n": 1}, {"n": 2}, "[DONE]", "after"],
            'data: {"n": 1}data:{"n":2}\n\ndata: [DONE]after',
        ),
        shows(
            "2.3",
            "other text is content",
            "nearly_data_lines",
            [" data: x", "event: y\ndata: z"],
            " data: xevent: y\ndata: z",
        ),
        shows("2.3", "an empty text says stop", "empty_text_between", ["one ", "", "two"], "one two", here="no stop"),
        shows("2.3", "None breaks a stream", "none_between", ["one ", "two"], "one two", here="it is nothing"),
    ],
)
def test_items_of_a_stream(ask: Asker, id: str, sent: list[Any], joined: str) -> None:
    assert items(ask.stream(id)) == sent
    assert ask.say(id) == joined


@pytest.mark.parametrize(
    ("id", "word"),
    [
        shows("2.3", "an int aborts the stream", "int_between", "int", here="the type is named"),
        shows("2.3", "undecodable bytes abort the stream", "bytes_not_utf8", "UTF-8", here="it is named"),
    ],
)
def test_items_that_nobody_can_render(ask: Asker, id: str, word: str) -> None:
    events = ask.stream(id)

    assert text_of(events).strip() in ("one", "before")
    assert events[-1]["error"]["code"] == "unrenderable_result" and word in events[-1]["error"]["message"]


# ---- 2.4 errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_2_4_an_exception_before_the_result_is_200_with_an_error_here_500(ask: Asker, stream: bool) -> None:
    status, error = ask.refused("raises", stream=stream)

    assert (status, error["message"]) == (500, "ValueError: nothing to say")


def test_2_4_an_exception_in_a_generator_is_400_and_its_text_lost_in_a_stream_here_500_and_told(ask: Asker) -> None:
    status, error = ask.refused("raises_in_a_generator")
    assert (status, error["message"]) == (500, "ValueError: broke midway")

    one, broken = ask.stream("raises_in_a_generator")
    assert one["choices"][0]["delta"] == {"content": "one "}
    assert broken["error"]["message"] == "ValueError: broke midway"


def test_2_4_a_yielded_error_is_forwarded_and_the_stream_goes_on(ask: Asker) -> None:
    error = {"error": {"message": "quota used up", "code": 429}}
    assert items(ask.stream("yields_an_error")) == ["one ", error, "two"]

    # In the peer a plain answer has Python's text of it in the middle; here it is the error that it says it is.
    status, told = ask.refused("yields_an_error")
    assert status == 500 and "quota used up" in told["message"]


def test_2_4_an_http_exception_of_a_pipe_is_an_exception_like_any_other(ask: Asker) -> None:
    status, error = ask.refused("raises_an_http_exception")

    assert status == 500 and "no such thing" in error["message"]


# ---- 2.5 chunks, as an API client gets them ----------------------------------------------------------------


def test_2_5_reasoning_tool_calls_and_annotations_reach_an_api_caller_as_they_are(ask: Asker) -> None:
    events = ask.stream("reasoning_and_tools")

    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas[0] == {"reasoning_content": "thinking"}
    assert deltas[1]["tool_calls"][0]["function"] == {"name": "add", "arguments": "{}"}
    assert deltas[2]["annotations"][0]["type"] == "url_citation"
    assert deltas[3] == {"content": "<think>in text</think>"}


def test_2_5_an_api_client_receives_yielded_events_raw_here_if_it_asks_for_them(ask: Asker) -> None:
    event = {"event": {"type": "status", "data": {"description": "working", "done": False}}}

    assert items(ask.stream("events", headers={"X-Fnsync-Events": "1"})) == [event, "text"]
    assert items(ask.stream("events")) == ["text"]  # OpenAI's clients do not expect them
    assert ask.say("events") == "text"


# ---- 2.6 tasks -------------------------------------------------------------------------------------------


def test_2_6_a_task_is_told_to_the_pipe(ask: Asker) -> None:
    """A chat service says in `metadata` what the peer's own routes for tasks say."""
    task_body = {"model": "m", "messages": [], "chat_id": "c"}
    body = {
        "model": "pipe_that_is_told_of_tasks",
        "messages": [{"role": "user", "content": "a title for …"}],
        "metadata": {"task": "title_generation", "task_body": task_body},
    }

    answer = ask.client.post(CHAT, json=body).json()["choices"][0]["message"]["content"]

    assert json.loads(answer) == ["title_generation", task_body, "title_generation", False]
    assert ask.told("pipe_that_is_told_of_tasks") == [None, None, None, False]


def test_2_6_no_filter_runs_for_tasks_here_all_do_since_a_word_in_the_body_must_lead_past_no_guard(ask: Asker) -> None:
    said = ask.say("pipe_around_a_task", "a title for …", metadata={"task": "title_generation"})

    assert said == "a title for … (filtered, title_generation)"
