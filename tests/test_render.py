"""Rendering of results: what a client reads, byte for byte where it matters."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fnsync.chat.render import DONE, Renderer, is_completion, stream_error


def events(data: bytes) -> list[Any]:
    """Parse server-sent events: JSON where it is JSON, else text."""
    assert data.endswith(b"\n\n"), "the last event is not followed by a blank line"
    found: list[Any] = []
    for event in data.decode().removesuffix("\n\n").split("\n\n"):
        text = event.removeprefix("data:").lstrip(" ")
        try:
            found.append(json.loads(text))
        except ValueError:
            found.append(text)
    return found


def contents(found: list[Any]) -> list[Any]:
    return [event["choices"][0]["delta"].get("content") for event in found if isinstance(event, dict)]


def test_a_completion_has_the_recorded_shape() -> None:
    answer = json.loads(Renderer("m.sub").completion('say "hi"\n☃ 😀'))

    assert answer["id"].startswith("m.sub-") and len(answer["id"]) == len("m.sub-") + 36
    assert isinstance(answer["created"], int)
    assert {key: answer[key] for key in ("model", "choices", "object")} == {
        "model": "m.sub",
        "choices": [
            {
                "index": 0,
                "logprobs": None,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": 'say "hi"\n☃ 😀'},
            }
        ],
        "object": "chat.completion",
    }


def test_the_chunks_of_one_answer_share_id_and_created() -> None:
    render = Renderer("plain")
    found = events(render.items(["one ", "two"]) + render.text("three") + render.stop())

    chunks = [event for event in found if isinstance(event, dict)]
    assert contents(found) == ["one ", "two", "three", None]
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1
    assert chunks[0] == {
        "id": chunks[0]["id"],
        "created": chunks[0]["created"],
        "model": "plain",
        "choices": [{"index": 0, "logprobs": None, "finish_reason": None, "delta": {"content": "one "}}],
        "object": "chat.completion.chunk",
    }


def test_a_stream_ends_with_a_stop_chunk_and_done() -> None:
    data = Renderer("plain").stop()

    *_, stop, done = events(data)
    assert stop["choices"] == [{"index": 0, "logprobs": None, "finish_reason": "stop", "delta": {}}]
    assert done == "[DONE]"
    assert data.endswith(b"data: [DONE]\n\n")


def test_an_empty_text_is_an_empty_delta_and_no_stop() -> None:
    (chunk,) = events(Renderer("plain").items([""]))

    assert chunk["choices"][0]["delta"] == {"content": ""}
    assert chunk["choices"][0]["finish_reason"] is None


def test_ready_made_data_lines_go_out_verbatim() -> None:
    data = Renderer("plain").items(['data: {"a":1}', "data:x", "data: [DONE]", " data: text"])

    assert data.startswith(b'data: {"a":1}\n\ndata:x\n\ndata: [DONE]\n\n')
    assert contents(events(data)[3:]) == [" data: text"], "only what begins with data: is ready-made"


def test_objects_go_out_as_json() -> None:
    assert Renderer("plain").items([b'{"usage":{"total_tokens":2}}']) == b'data: {"usage":{"total_tokens":2}}\n\n'


@pytest.mark.parametrize("event", [b'{"event":{"type":"status"}}', b'{"x": 1, "event" : {"type":"status"}}'])
def test_events_are_for_clients_that_ask(event: bytes) -> None:
    assert Renderer("plain").items([event]) == b""
    assert Renderer("plain", events=True).items([event]) == b"data: " + event + b"\n\n"


def test_an_object_that_only_mentions_events_is_no_event() -> None:
    item = b'{"choices":[{"delta":{"content":"the \\"event\\" key"}}]}'
    assert Renderer("plain").items([item]) == b"data: " + item + b"\n\n"
    nested = b'{"a":{"event":1}}'
    assert Renderer("plain").items([nested]) == b"data: " + nested + b"\n\n"


def test_an_object_from_a_streaming_call_goes_out_as_it_is() -> None:
    assert (
        Renderer("plain").value(b'{"error":{"message":"quota"}}') == b'data: {"error":{"message":"quota"}}\n\n' + DONE
    )


def test_a_completion_object_from_a_streaming_call_becomes_chunks() -> None:
    completion = {
        "id": "fixed",
        "object": "chat.completion",
        "model": "mine",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "length"},
        ],
        "usage": {"total_tokens": 3},
    }

    first, stop, done = events(Renderer("plain").value(json.dumps(completion).encode()))

    assert (first["id"], first["model"], first["object"]) == ("fixed", "mine", "chat.completion.chunk")
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "hi"}
    assert first["choices"][0]["finish_reason"] is None
    assert "usage" not in first
    assert stop["choices"][0]["finish_reason"] == "length"
    assert stop["choices"][0]["delta"] == {}
    assert stop["usage"] == {"total_tokens": 3}
    assert done == "[DONE]"


def test_tool_calls_of_a_completion_object_get_the_index_that_chunks_need() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    completion = {
        "choices": [{"message": {"content": None, "tool_calls": [call, call]}, "finish_reason": "tool_calls"}]
    }

    first, stop, _ = events(Renderer("plain").value(json.dumps(completion).encode()))

    assert [found["index"] for found in first["choices"][0]["delta"]["tool_calls"]] == [0, 1]
    assert stop["choices"][0]["finish_reason"] == "tool_calls"


def test_several_choices_keep_their_index_and_the_usage_comes_once() -> None:
    choices = [{"index": place, "message": {"content": str(place)}, "finish_reason": "stop"} for place in (0, 1)]
    found = events(Renderer("plain").value(json.dumps({"choices": choices, "usage": {"total_tokens": 1}}).encode()))

    assert [event["choices"][0]["index"] for event in found[:-1]] == [0, 1, 0, 1]
    assert ["usage" in event for event in found[:-1]] == [False, False, False, True]


@pytest.mark.parametrize(
    "value", [{}, [], {"choices": []}, {"choices": [{}]}, {"choices": "x"}, {"choices": [1]}, None]
)
def test_what_is_no_completion_is_left_alone(value: Any) -> None:
    assert not is_completion(value)


def test_a_broken_stream_ends_with_the_error_and_done() -> None:
    assert events(stream_error({"message": "no", "type": "server_error", "code": "x"})) == [
        {"error": {"message": "no", "type": "server_error", "code": "x"}},
        "[DONE]",
    ]


def test_a_model_id_may_hold_anything() -> None:
    answer = json.loads(Renderer('a/"b":ü').completion("x"))
    assert answer["model"] == 'a/"b":ü'
    assert answer["id"].startswith('a/"b":ü-')
