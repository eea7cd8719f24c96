"""Contract 3: which filters surround a chat, what each hook gets and gives, and what becomes of their failures.

Each filter is attached to its own pipe alone, by `models` in its settings file.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance.conftest import Asker, shows, text_of
from tests.conftest import wait_for

EVENTS = {"X-Fnsync-Events": "1"}

# ---- 3.1 selection and order -----------------------------------------------------------------------------

#: By priority, then by id: -5, 0 (order_b_tie, order_d_text whose priority is no number), 9 as stored.
ORDER = ["first", "tie b", "text", "last"]


def test_3_1_priority_then_id_and_one_order_for_all_hooks(ask: Asker) -> None:
    inlets = [f"inlet {name}" for name in ORDER]
    requests = [f"request {name}" for name in ORDER if name != "text"]
    streams = [f"stream {name}" for name in ORDER if name != "text"]

    # A priority that is no number ends every request in the peer; here it counts as 0.
    assert ask.say("traced") == json.dumps(inlets + requests) + " first b last"
    assert all(event["trace"] == streams for event in ask.stream("traced"))


def test_3_1_the_priority_is_what_the_class_makes_of_the_stored_values(ask: Asker) -> None:
    assert ask.told("written_as_text") == ["one", "two", "ten"]


@pytest.mark.parametrize(
    ("filter_ids", "marks"),
    [
        shows("3.1", "a filter with a toggle needs its id in filter_ids; toggle = False is always on", None, "always"),
        shows("3.1", "a toggle that is chosen", ["toggle_on"], "always toggled"),
        shows("3.1", "unknown ids and inactive ones are ignored", ["nobody", "attached_but_off"], "always"),
        shows("3.1", "filter_ids adds none that is neither global nor attached", ["attached_to_nothing"], "always"),
        shows("3.1", "nothing chosen", [], "always"),
    ],
)
def test_which_filters_take_part(ask: Asker, filter_ids: list[str] | None, marks: str) -> None:
    assert ask.say("chosen", filter_ids=filter_ids) == marks


def test_3_1_the_models_entry_lists_toggle_filters_only(ask: Asker) -> None:
    entry = ask.model("chosen")

    assert entry is not None and [item["id"] for item in entry["filters"]] == ["toggle_on"]


# ---- 3.2 hooks -------------------------------------------------------------------------------------------


def test_3_2_hooks_may_be_sync_async_or_static_and_what_is_no_method_is_skipped(ask: Asker) -> None:
    # hook_async, hook_gives_another_dict (which drops what came before), hook_not_callable, hook_static, hook_sync
    assert ask.told("told_by_hooks") == {"x_new": "dict", "x_static": "hook_static", "x_sync": {}}
    assert text_of(ask.stream("told_by_hooks")) == ask.say("told_by_hooks")
    assert ask.log("hook_not_callable") == []


def test_3_2_the_first_parameter_must_be_named_body(ask: Asker) -> None:
    status, error = ask.refused("wrong_first_name")

    assert status == 400 and "unexpected keyword argument 'body'" in error["message"]
    assert error["filter"] == "hook_named_request_body"


def test_3_2_what_inlet_and_request_find_in_the_body(ask: Asker) -> None:
    sent = {
        "features": {"memory": True},
        "files": [{"id": "f"}],
        "tool_ids": ["t"],
        "params": {"temperature": 0.1},
        "variables": {"a": "b"},
        "filter_ids": [],
        "chat_id": "chat",
        "session_id": "session",
        "id": "message",
        "mine": {"x": 1},
    }

    assert ask.told("seen_by_inlet", **sent) == {
        "features": {"memory": True},
        "files": [{"id": "f"}],
        "tool_ids": ["t"],
        "temperature": 0.1,
        "mine": {"x": 1},
        "gone": [],
        "stream": False,
        "same": True,
        "in_metadata": ["chat", "session", "message"],
        "same_at_request": True,
        "at_request": [],
    }


def test_3_2_what_inlet_puts_into_metadata_reaches_all_later_hooks_and_the_pipe(ask: Asker) -> None:
    metadata, files, tools = ask.told_before("carried", " | ")

    assert metadata["mark"] == "inlet" and metadata["later"] == "inlet request"
    # features, files and tool_ids of metadata are those of the body that inlet left.
    assert metadata["features"] == {"memory": True}
    assert metadata["files"] == files == [{"id": "f"}]
    assert metadata["tool_ids"] == ["t"]
    assert tools == [{"type": "function", "function": {"name": "added"}}]
    assert ask.say("carried").endswith(" | inlet request")
    assert {event["seen"] for event in ask.stream("carried")} == {"inlet request"}


def test_3_2_setting_the_model_reroutes_the_request(ask: Asker) -> None:
    assert ask.whole("rerouted", "text")["model"] == "text"
    assert ask.say("rerouted", "text") == "hello ü"

    status, error = ask.refused("rerouted", "nowhere")
    assert status == 404 and "nowhere" in error["message"]


def test_3_2_a_stream_hook_drops_what_it_returns_falsy_and_replaces_by_a_dict(ask: Asker) -> None:
    assert text_of(ask.stream("drops")) == "THREE four"
    assert ask.say("drops") == "one two three four"  # plain answers do not pass through it


# ---- 3.3 file_handler ------------------------------------------------------------------------------------

FILES = [{"type": "file", "id": "f"}]


@pytest.mark.parametrize(
    ("model", "files", "in_metadata"),
    [
        shows("3.3", "file_handler of the class: files are gone", "given_files", [], None),
        shows("3.3", "file_handler of the instance", "given_files_too", [], None),
        shows("3.3", "of the module, or without an inlet: it does not count", "keeps_files", FILES, FILES),
    ],
)
def test_files(ask: Asker, model: str, files: list[Any], in_metadata: list[Any] | None) -> None:
    assert ask.told(model, files=FILES) == [files, in_metadata]


# ---- 3.4 exceptions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_3_4_inlet_raises_400_with_its_text_and_the_model_is_never_called(ask: Asker, stream: bool) -> None:
    status, error = ask.refused("refused_by_inlet", stream=stream)

    assert (status, error["message"]) == (400, "not in this house")
    assert error["filter"] == "inlet_raises"
    assert ask.log("refused_by_inlet") == []


def test_3_4_the_status_of_an_http_exception_is_lost_here_it_is_kept(ask: Asker) -> None:
    status, error = ask.refused("refused_by_inlet", "too many")

    assert status == 429 and "slow down" in error["message"]


def test_3_4_request_raises_400_with_its_text(ask: Asker) -> None:
    status, error = ask.refused("refused_by_request")

    assert (status, error["message"], error["filter"]) == (400, "not at last", "request_raises")


def test_3_4_stream_raises_the_stream_ends_with_an_error_here_with_its_text(ask: Asker) -> None:
    *_, one, broken = ask.stream("broken_in_mid_stream")

    assert one["choices"][0]["delta"] == {"content": "one "}
    assert "no two" in broken["error"]["message"] and broken["error"]["filter"] == "stream_raises"
    assert ask.say("broken_in_mid_stream") == "one two three"


def test_3_4_outlet_raises_or_returns_none_the_answer_goes_out_and_the_next_outlet_sees_it(ask: Asker) -> None:
    # In the peer the next outlet is given None; here the chat as it was.
    assert ask.say("past_a_broken_outlet") == "answer and outlet"


def test_3_4_inlet_returns_none_400_here_the_body_stays_as_it_was(ask: Asker) -> None:
    assert ask.say("past_an_empty_inlet", "as it was") == "as it was"
    wait_for("the log", lambda: any("returned nothing" in line for line in ask.log("inlet_none")))


def test_3_4_valves_that_cannot_be_built_fail_every_request_here_the_filter_is_not_live(ask: Asker) -> None:
    assert ask.say("past_unset_valves") == "answered"
    assert "key" in ask.problem("valves_required")["message"]


# ---- 3.5 outlet ------------------------------------------------------------------------------------------

#: A message as outlet sees it.
NO_MORE = {"info": None, "timestamp": None}


def test_3_5_the_body_of_outlet_on_the_api_path(ask: Asker) -> None:
    seen = ask.told("shown_to_outlet", "hi")

    id = seen["id"]
    assert id.startswith("msg_")
    asked = {"id": None, "role": "user", "content": "hi", **NO_MORE}
    answered = {"id": id, "role": "assistant", "content": "said", **NO_MORE, "finish_reason": "stop"}
    assert seen == {
        "model": "shown_to_outlet",
        "messages": [asked, answered],
        "filter_ids": [],
        "chat_id": "",
        "session_id": None,
        "id": id,
    }


def test_3_5_usage_and_sources_are_there_if_the_answer_had_them_and_ids_if_they_were_sent(ask: Asker) -> None:
    sent = {"chat_id": "chat", "session_id": "session", "id": "message", "filter_ids": ["x"]}
    found = ask.stream("shown_to_outlet", headers=EVENTS, **sent)

    # The answer of an API call is not changed in the peer; here a stream ends with one event for who takes events.
    assert text_of(found) == "said"
    replaced = found[-1]["event"]
    assert replaced["type"] == "replace"
    seen = json.loads(replaced["data"]["content"])
    assert {key: seen[key] for key in sent} == sent
    answered = seen["messages"][-1]
    assert answered["id"] == "message"
    assert answered["usage"] == {"total_tokens": 2} and answered["sources"] == [{"source": {"name": "a"}}]
    assert answered["finish_reason"] == "stop"


def test_3_5_a_system_message_is_there_if_it_was_sent(ask: Asker) -> None:
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]
    body = {"model": "shown_to_outlet", "messages": messages}

    answer = ask.client.post("/v1/chat/completions", json=body).json()

    seen = json.loads(answer["choices"][0]["message"]["content"])
    assert [message["role"] for message in seen["messages"]] == ["system", "user", "assistant"]


# ---- 3.6 stream events -----------------------------------------------------------------------------------


def test_3_6_a_stream_filter_sees_dicts_exactly_as_the_pipe_made_them(ask: Asker) -> None:
    chunk = ["choices", "created", "id", "model", "object"]

    seen = [event["seen"] for event in ask.stream("words", headers=EVENTS)]

    # The final chunk too; [DONE] never.
    assert seen == [chunk, ["usage"], ["event"], ["selected_model_id"], ["sources"], ["error"], chunk, chunk]
