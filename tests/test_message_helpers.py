"""Helpers of open_webui around messages and texts: the same results as in Open WebUI 0.12.4."""

from __future__ import annotations

import asyncio
import copy
from datetime import timedelta
from typing import Any

import pytest
from starlette.responses import HTMLResponse

from fnsync.worker.compat.open_webui.utils import headers, middleware, misc, payload, plugin, task

PARTS = [
    {"type": "image_url", "image_url": {"url": "x"}},
    {"type": "text", "text": "T1"},
    {"type": "text", "text": "T2"},
]
SYSTEM = {"role": "system", "content": "S"}
USER = {"role": "user", "content": "a"}
ASSISTANT = {"role": "assistant", "content": "b"}
LAST = {"role": "user", "content": PARTS}
ALL = [SYSTEM, USER, ASSISTANT, LAST]
MAP = {"1": {"id": "1", "parentId": None}, "2": {"id": "2", "parentId": "1"}, "3": {"id": "3", "parentId": "2"}}
CIRCLE = {"1": {"id": "1", "parentId": "2"}, "2": {"id": "2", "parentId": "1"}}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "R"}]}
SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]}
THOUGHT = {"type": "reasoning", "content": [{"type": "output_text", "text": "think"}]}
CALLED = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOLD = {"role": "tool", "tool_call_id": "c1", "content": "R"}


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("get_last_user_message_item", [ALL], LAST),
        ("get_last_user_message", [ALL], "T1"),
        ("get_last_user_message", [[]], None),
        ("get_last_assistant_message", [ALL], "b"),
        ("get_system_message", [ALL], SYSTEM),
        ("remove_system_message", [ALL], [USER, ASSISTANT, LAST]),
        ("pop_system_message", [ALL], (SYSTEM, [USER, ASSISTANT, LAST])),
        ("pop_system_message", [[]], (None, [])),
        ("get_messages_content", [ALL], "SYSTEM: S\nUSER: a\nASSISTANT: b\nUSER: T1"),
        ("get_content_from_message", [{"role": "user"}], None),
        (
            "deep_update",
            [{"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "e": {"f": 1}}],
            {"a": {"b": 3, "c": 2}, "e": {"f": 1}},
        ),
        ("get_message_list", [MAP, "3"], list(MAP.values())),
        ("get_message_list", [MAP, "9"], []),
        ("get_message_list", [None, None], []),
        ("get_message_list", [CIRCLE, "2"], [CIRCLE["1"], CIRCLE["2"]]),
        ("is_string_allowed", ["x.example.org", ["example.org"]], True),
        ("is_string_allowed", ["x.example.org", ["!example.org"]], False),
        ("is_string_allowed", ["a", None], True),
        ("is_string_allowed", ["ab", ["b", "!ab"]], False),
        ("is_string_allowed", ["zz", ["b"]], False),
        ("is_string_allowed", [["q", "ab"], [" b "]], True),
        ("is_string_allowed", ["x", ["", "!"]], True),
        ("add_or_update_system_message", ["new", [SYSTEM, USER]], [{"role": "system", "content": "new\nS"}, USER]),
        ("add_or_update_system_message", ["new", [SYSTEM], True], [{"role": "system", "content": "S\nnew"}]),
        ("add_or_update_system_message", ["new", [USER]], [{"role": "system", "content": "new"}, USER]),
        ("add_or_update_user_message", ["new", [USER]], [{"role": "user", "content": "a\nnew"}]),
        ("add_or_update_user_message", ["new", [ASSISTANT]], [ASSISTANT, {"role": "user", "content": "new"}]),
        ("replace_system_message_content", ["N", [USER]], [USER]),
        ("prepend_to_first_user_message_content", ["P", [SYSTEM, USER]], [SYSTEM, {"role": "user", "content": "P\na"}]),
        ("append_or_update_assistant_message", ["A", [ASSISTANT]], [{"role": "assistant", "content": "b\nA"}]),
        ("set_last_user_message_content", ["Z", [USER]], [{"role": "user", "content": "Z"}]),
        ("convert_output_to_messages", [[SAID]], [{"role": "assistant", "content": "hello"}]),
        (
            "convert_output_to_messages",
            [[SAID, THOUGHT, CALL, RESULT, SAID]],
            [
                {"role": "assistant", "content": "hello", "tool_calls": [CALLED]},
                TOLD,
                {"role": "assistant", "content": "hello"},
            ],
        ),
        ("convert_output_to_messages", [[CALL, THOUGHT]], []),
        (
            "convert_output_to_messages",
            [[SAID, THOUGHT], True, "think_tags"],
            [{"role": "assistant", "content": "hello\n<think>think</think>"}],
        ),
        ("convert_output_to_messages", [None], []),
        ("sanitize_filename", ["A b/c?.TXT"], "a-bctxt"),
        ("parse_duration", ["1h30m"], timedelta(hours=1, minutes=30)),
        ("parse_duration", ["-1"], None),
    ],
)
def test_helpers(name: str, arguments: list[Any], expected: Any) -> None:
    assert getattr(misc, name)(*copy.deepcopy(arguments)) == expected


def test_objects_of_openai() -> None:
    chunk = misc.openai_chat_chunk_message_template("m", "hi")
    assert (chunk["object"], chunk["choices"][0]["delta"]) == ("chat.completion.chunk", {"content": "hi"})
    assert chunk["choices"][0]["finish_reason"] is None
    last = misc.openai_chat_chunk_message_template("m")
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "stop")
    whole = misc.openai_chat_completion_message_template("m", "hi", usage={"u": 1})
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": "hi"}
    assert (whole["choices"][0]["finish_reason"], whole["usage"]) == ("stop", {"u": 1})


def test_templates_of_prompts() -> None:
    user = {"name": "Ada", "info": {"location": "London"}}
    assert task.prompt_template("{{USER_NAME}} in {{USER_LOCATION}}", user) == "Ada in London"
    assert task.prompt_variables_template("a {{X}}", {"{{X}}": 1}) == "a 1"
    assert task.replace_prompt_variable("{{prompt}} {{prompt:start:2}} {{prompt:end:2}}", "abcdef") == "abcdef ab ef"
    assert task.replace_prompt_variable("{{prompt:middletruncate:4}}", "abcdef") == "ab...ef"
    messages = [USER, ASSISTANT, LAST]
    assert task.replace_messages_variable("{{MESSAGES:END:1}}", messages) == "USER: T1"
    assert task.title_generation_template("{{prompt}}: {{MESSAGES:START:1}}", messages) == "T1: USER: a"


def test_a_request_of_openai_as_one_of_ollama() -> None:
    given = {
        "model": "m",
        "messages": [LAST],
        "max_tokens": 5,
        "stop": ["x"],
        "options": {"num_ctx": 4, "keep_alive": "5m", "system": "S"},
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"x": 1}}},
    }
    before = copy.deepcopy(given)
    assert payload.convert_payload_openai_to_ollama(given) == {
        "model": "m",
        "messages": [{"role": "user", "content": "T1T2", "images": ["x"]}],
        "stream": False,
        "keep_alive": "5m",
        "system": "S",
        "options": {"num_ctx": 4, "stop": ["x"], "num_predict": 5},
        "format": {"x": 1},
    }
    assert given == before


def test_what_tools_return() -> None:
    def processed(result: Any, kind: str = "function", direct: bool = False) -> Any:
        return asyncio.run(middleware.process_tool_result(None, "fn", result, kind, direct, {}, None))

    page = HTMLResponse("<b>", headers={"content-disposition": "inline"})
    assert processed("text") == ("text", [], [])
    assert processed(HTMLResponse("<b>")) == ("<b>", [], [])
    assert processed((page, "context")) == ("context", [], ["<b>"])
    assert "active and visible" in processed(page)[0]
    embed = ("x", {"Content-Disposition": "inline", "Location": "https://example.org"})
    assert processed(embed, "external")[2] == ["https://example.org"]
    assert processed("data:image/png;base64,AA")[1] == [{"type": "image", "url": "data:image/png;base64,AA"}]
    content = [{"type": "text", "text": "t"}, {"type": "image", "mimeType": "image/png", "data": "AA"}]
    assert processed(content) == ("t", [{"type": "image", "url": "data:image/png;base64,AA"}], [])


def test_frontmatter_and_headers() -> None:
    assert plugin.extract_frontmatter('"""\ntitle: A: b\nno entry\n"""\nx: y\n') == {"title": "A: b"}
    assert plugin.extract_frontmatter('\n"""\ntitle: A\n"""\n') == {}

    class User:
        id, name, email, role = "7", "Zoë", "z@example.org", "user"

    found = headers.include_user_info_headers({"a": "b"}, User())
    assert found["X-OpenWebUI-User-Name"] == "Zo%C3%AB"
    assert headers.include_user_info_headers({"a": "b"}) == {"a": "b"}
