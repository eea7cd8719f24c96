"""Contract 1.5 and 9: what files import of `open_webui`, and older forms of it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conformance.conftest import API, Asker, shows, text_of

# ---- 9.1 must provide ------------------------------------------------------------------------------------


def test_9_1_users_however_the_author_asks_and_none_for_nobody(ada: Asker) -> None:
    """The peer's methods are coroutines alone; here the value can be used at once and awaited."""
    ada_herself = [True, "ada@example.org", "Ada", "user"]

    assert ada.told("users_by_id") == [[ada_herself] * 4, [None, None]]


def test_9_1_user_models_are_made_of_user(ada: Asker) -> None:
    assert ada.told("user_made_of_user") == [[True, "ada@example.org", "Ada", "user"]] * 2


def test_9_1_a_plain_completion_is_a_dict_and_no_filter_runs(ada: Asker) -> None:
    assert ada.told("completion_plain", "hi", chat_id="c-1") == ["hi of ada@example.org in c-1"] * 2
    assert ada.say("inner_model", "hi", chat_id="c-1") == "hi (filtered) of ada@example.org in c-1"


def test_9_1_a_streamed_completion_has_data_lines(ada: Asker) -> None:
    kind, lines, text = ada.told("completion_stream", "hi")

    assert kind == "StreamingResponse" and lines == ["data:"]
    assert text == "hi of ada@example.org in no chat"


def test_9_1_an_answer_may_be_handed_on(ada: Asker) -> None:
    assert ada.say("completion_returned", "hi") == "hi of ada@example.org in no chat"
    assert text_of(ada.stream("completion_returned", "hi")) == "hi of ada@example.org in no chat"


def test_9_1_an_unknown_model_raises_model_not_found(ada: Asker) -> None:
    kind, said, detail = ada.told("completion_unknown_model")

    assert "Model not found" in said + detail, kind


def test_9_1_the_completions_of_main_run_filters(ada: Asker) -> None:
    assert ada.say("completion_full", "hi") == "hi (filtered) of ada@example.org in no chat"


def test_9_1_an_exception_of_the_inner_pipe_reaches_the_outer_one(ada: Asker) -> None:
    status, error = ada.refused("completion_plain", "raise")

    assert status == 500 and "inner failure" in error["message"]


@pytest.mark.parametrize(
    ("id", "told"),
    [
        shows("9.1", "Chats: none for an unknown id; messages are read back", "chats_written_and_read",
              [None, True, True, "kept"]),
        shows("9.1", "Models and Functions: None for unknown ids", "models_and_functions",
              [None, "models_and_functions", "pipe", None]),
        shows("9.1", "get_tools: an empty dict for no ids", "tools_of_nobody", {}),
        shows("9.1", "helpers of utils.misc", "misc_helpers",
              ["of a list", "user", "be kind", 2, {"a": {"b": 3, "c": 2}}, ["first", "second"], [True, False]]),
    ],
)  # fmt: skip
def test_what_the_modules_give(ada: Asker, id: str, told: Any) -> None:
    assert ada.told(id, chat_id="c-written") == told


def test_9_1_version_levels_and_tasks(ada: Asker) -> None:
    version, newer, timeout, is_title, names = ada.told("env_and_constants", metadata={"task": "title_generation"})

    assert (version, newer, timeout, is_title) == ("0.12.4", True, True, True)
    assert names == [
        *("title_generation", "tags_generation", "follow_up_generation", "query_generation"),
        *("autocomplete_generation", "function_calling"),
    ]


def test_9_1_files_are_kept_and_read_back_and_served(ada: Asker, bob: Asker) -> None:
    made, name, kind, text, content, empty, address = ada.told("files_written_and_read")

    assert (made, name, kind, text, content, empty) == (
        True,
        "note.txt",
        "text/plain",
        "some bytes",
        "some bytes",
        "ValueError",
    )
    assert address.startswith("/api/v1/files/") and address.endswith("/content")
    assert ada.client.get(address).content == b"some bytes"
    assert bob.client.get(address).status_code == 404


def test_9_1_an_upload_gives_a_file_with_an_id(ada: Asker) -> None:
    address = ada.say("upload_handler")

    answer = ada.client.get(address)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"pixels", "image/png")


# ---- 9.2, 9.3, 7.4 ---------------------------------------------------------------------------------------


def test_9_2_nice_to_have(ada: Asker) -> None:
    assert ada.told("nice_to_have") == [True, [], "default", "A", {}]


def test_9_3_what_cannot_be_provided_says_so_when_it_is_used(ada: Asker) -> None:
    assert ada.told("not_provided") == [
        "open_webui.main.app.state",
        "open_webui.internal.db.get_db",
        "open_webui.models.chats.Chat.id",
    ]


@pytest.mark.parametrize(
    ("id", "said"),
    [
        shows("9.3", "names that are gone fail where the author expects it", "guarded_import", "fallback"),
        shows("9", "imports under TYPE_CHECKING run never", "only_for_type_checkers", "loaded"),
    ],
)
def test_guarded_imports(ada: Asker, id: str, said: str) -> None:
    assert ada.say(id) == said


def test_7_4_the_requests_application(ada: Asker) -> None:
    assert ada.told("request_app", chat_id="c-1") == [
        "inner_model",
        False,
        False,
        "/api/v1/files/f-1/content",
        "c-1",
    ]


def test_7_4_the_requests_state_has_the_metadata_in_each_hook(ada: Asker) -> None:
    assert ada.say("request_state", chat_id="c-1") == "c-1 True inlet True inlet"


# ---- 1.5 older forms -------------------------------------------------------------------------------------


def test_1_5_old_forms_are_rewritten_here_the_statements_alone_and_the_source_stays(ask: Asker) -> None:
    said, found, prompt = ask.told("old_forms", "hi")

    assert (said, found) == ("hi", True)
    assert prompt == "take it from utils, from main and from config"  # the peer puts open_webui. into it
    assert "open_webui" not in ask.row("old_forms")["content"].replace("below open_webui", "")


def test_1_5_and_frontmatter_is_rewritten_too_here_not(ask: Asker) -> None:
    content = '"""\ntitle: Imports\nnote: taken from utils\n"""\nclass Pipe:\n    def pipe(self, body): pass\n'
    form = {"id": "rewritten", "name": "R", "content": content, "meta": {"description": ""}}

    ask.client.post(f"{API}/create", json=form).raise_for_status()

    made = ask.row("rewritten")
    assert made["meta"]["manifest"]["note"] == "taken from utils" and made["content"] == content


@pytest.mark.parametrize(
    ("id", "said"),
    [
        shows(
            "1.5", "modules whose names begin alike fail", "words_that_begin_alike", "ConfigParser", here="they load"
        ),
        shows("1.5", "a utils of its own is shadowed", "own_utils", "its own", here="it comes first"),
    ],
)
def test_other_modules_are_left_alone(ask: Asker, id: str, said: str) -> None:
    assert ask.say(id) == said


# ---- no call sees another's ------------------------------------------------------------------------------


def test_11_nested_completions_of_two_users_at_once(ada: Asker, bob: Asker) -> None:
    def run(user: tuple[str, Asker]) -> list[str]:
        name, who = user
        return [json.loads(who.say("completion_plain", name, chat_id=f"c-{name}"))[0] for _ in range(5)]

    with ThreadPoolExecutor(2) as threads:
        of_ada, of_bob = threads.map(run, [("ada", ada), ("bob", bob)])

    assert of_ada == ["ada of ada@example.org in c-ada"] * 5
    assert of_bob == ["bob of bob@example.org in c-bob"] * 5
