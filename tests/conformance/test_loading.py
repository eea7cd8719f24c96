"""Contract 1.1 and 1.6 to 1.9: life cycle, ids, loading, and what becomes of files that do not load."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.conftest import API, Asker, shows

PIPE = "class Pipe:\n    def pipe(self, body):\n        return {answer!r}\n"


def form(id: str, content: str = PIPE.format(answer="one"), **more: Any) -> dict[str, Any]:
    return {"id": id, "name": id, "content": content, "meta": {"description": ""}, **more}


def create(ask: Asker, id: str, content: str = PIPE.format(answer="one")) -> Any:
    return ask.client.post(f"{API}/create", json=form(id, content))


def update(ask: Asker, id: str, content: str) -> Any:
    return ask.client.post(f"{API}/id/{id}/update", json=form(id, content))


# ---- 1.1 life cycle --------------------------------------------------------------------------------------


def test_1_1_a_new_function_is_neither_active_nor_global_and_updates_keep_both_flags(ask: Asker) -> None:
    made = create(ask, "life_cycle").json()
    assert (made["is_active"], made["is_global"]) == (False, False)

    assert ask.client.post(f"{API}/id/life_cycle/toggle").json()["is_active"] is True
    changed = update(ask, "life_cycle", PIPE.format(answer="two")).json()
    assert (changed["is_active"], changed["is_global"], changed["type"]) == (True, False, "pipe")
    assert ask.say("life_cycle") == "two"

    # An update may change the type.
    changed = update(ask, "life_cycle", "class Filter:\n    def inlet(self, body): return body\n").json()
    assert (changed["is_active"], changed["type"]) == (True, "filter")

    assert ask.client.delete(f"{API}/id/life_cycle/delete").json() is True
    assert ask.client.get(f"{API}/id/life_cycle").status_code == 404


def test_1_1_and_1_8_one_instance_serves_all_users_and_requests_until_the_source_changes(
    ask: Asker, ada: Asker, bob: Asker
) -> None:
    assert [who.told("one_instance_for_all") for who in (ada, bob, ask, ada)] == [[1, 1], [2, 2], [3, 3], [4, 4]]

    content = ask.row("one_instance_for_all")["content"]
    assert update(ask, "one_instance_for_all", content + "\n# changed\n").status_code == 200
    assert ask.told("one_instance_for_all") == [1, 1]


# ---- 1.6 ids ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "id"),
    [
        shows("1.6", "non-ASCII letters are accepted", "größe", "größe"),
        shows("1.6", "Python keywords are accepted", "lambda", "lambda"),
        shows("1.6", "an id is lower-cased", "MiXed_1", "mixed_1"),
    ],
)
def test_ids_that_are_identifiers(ask: Asker, sent: str, id: str) -> None:
    made = create(ask, sent)

    assert made.status_code == 200, made.text
    assert made.json()["id"] == id
    assert ask.row(id)["id"] == id


@pytest.mark.parametrize(
    "id",
    [
        shows("1.6", "a hyphen is refused", "with-hyphen"),
        shows("1.6", "a dot is refused", "with.dot"),
        shows("1.6", "a blank is refused", "with blank"),
        shows("1.6", "a leading digit is refused", "1st"),
    ],
)
def test_ids_that_are_no_identifiers(ask: Asker, id: str) -> None:
    assert create(ask, id).status_code == 400


def test_1_6_a_taken_id_is_400_here_409(ask: Asker) -> None:
    assert create(ask, "no_frontmatter").status_code == 409


def test_1_6_an_update_takes_the_id_from_the_address(ask: Asker) -> None:
    create(ask, "of_the_address")

    answer = ask.client.post(f"{API}/id/of_the_address/update", json=form("of_the_body"))

    assert (answer.status_code, answer.json()["id"]) == (200, "of_the_address")
    assert ask.client.get(f"{API}/id/of_the_body").status_code == 404


def test_1_6_and_2_1_an_id_attribute_of_the_instance_plays_no_part_and_neither_do_name_and_type(ask: Asker) -> None:
    assert ask.say("reached_by_its_file_name") == "reached"
    assert ask.models_of("reached_by_its_file_name") == {"reached_by_its_file_name": "reached_by_its_file_name"}
    assert ask.model("an_id_of_its_own") is None


# ---- 1.7 loading -----------------------------------------------------------------------------------------


def test_1_7_the_module_has_a_name_a_file_and_a_place_in_sys_modules(ask: Asker) -> None:
    told = ask.told("names_of_the_module")

    # The peer puts a random part behind the id and registers both names; here the plain one is there from the start.
    assert told["exec"] == ["function_names_of_the_module", True, True]
    assert told["init"] == [True, True]
    assert told["registered"] is True and told["pickled"] is True
    # In the peer the file has no suffix and is gone when calls come.
    assert told["file"] is True


@pytest.mark.parametrize(
    ("id", "said"),
    [
        shows(
            "1.7",
            "code has no source lines, inspect.getsource raises OSError",
            "source_can_be_read",
            "def pipe(self, body):",
            here="a revision is a file, so authors see their own lines",
        ),
        shows("1.7", "annotations are not evaluated", "lazy_annotations", '["NoSuchName", "AlsoUndefined"]'),
        shows("1.7", "exec and __init__ run in the running loop's thread", "running_loop", "made at load"),
        shows("1.7", "asyncio.run does not work while a file loads", "asyncio_run_at_load", "RuntimeError"),
        shows("1.7", "anything callable without arguments makes the instance", "factory_function", "made by a factory"),
        shows("1.7", "also under another name", "alias_of_a_class", "by another name"),
        shows("1.7", "of Pipe and Filter the first counts", "pipe_and_filter", "a pipe"),
        shows("1.7", "relative imports fail", "relative", "from a helper", here="a folder is a package"),
    ],
)
def test_how_files_load(ask: Asker, id: str, said: str) -> None:
    assert ask.say(id) == said


def test_1_7_an_imported_name_decides_the_kind_here_only_what_the_file_defines(ask: Asker) -> None:
    assert ask.row("imported_pipe_in_a_filter")["type"] == "filter"
    assert "Pipe, Filter, Action, Event" in ask.problem("imported_event_alone")["message"]


def test_1_7_tools_are_no_function(ask: Asker) -> None:
    problem = ask.problem("tools_class")

    assert problem["code"] == "no_class" and "found: Tools" in problem["message"]


def test_1_7_the_instance_is_made_without_arguments(ask: Asker) -> None:
    problem = ask.problem("constructor_with_arguments")

    assert "missing 1 required positional argument: 'key'" in problem["message"]


# ---- 1.9 failure at load ---------------------------------------------------------------------------------


def test_1_9_create_hides_the_reason_here_it_tells_it_with_its_line(ask: Asker) -> None:
    answer = create(ask, "never_made", "x = 1\nraise RuntimeError('the reason')\nclass Pipe:\n    pass\n")

    assert answer.status_code == 400
    assert "the reason" in answer.json()["detail"] and "never_made.py:2" in answer.json()["detail"]
    assert ask.client.get(f"{API}/id/never_made").status_code == 404


def test_1_9_an_update_that_does_not_load_is_400_and_the_old_version_goes_on(ask: Asker) -> None:
    create(ask, "goes_on")
    ask.client.post(f"{API}/id/goes_on/toggle")

    answer = update(ask, "goes_on", "raise RuntimeError('broken')\nclass Pipe:\n    def pipe(self, body): pass\n")

    assert answer.status_code == 400 and "broken" in answer.json()["detail"]
    assert ask.row("goes_on")["is_active"] is True
    assert ask.say("goes_on") == "one"


def test_1_9_an_update_whose_valves_reject_stored_values_is_400_with_the_field(ask: Asker) -> None:
    source = (
        "from pydantic import BaseModel\n"
        "class Pipe:\n"
        "    class Valves(BaseModel):\n"
        "        level: {type} = {default}\n"
        "    def pipe(self, body):\n"
        "        return str(self.valves.level)\n"
    )
    create(ask, "keeps_its_values", source.format(type="str", default="'low'"))
    ask.client.post(f"{API}/id/keeps_its_values/valves/update", json={"level": "high"})

    answer = update(ask, "keeps_its_values", source.format(type="int", default="1"))

    assert answer.status_code == 400 and "level" in answer.json()["detail"]


def test_1_9_a_load_failure_switches_a_function_off_here_never(ask: Asker) -> None:
    problem = ask.problem("raises_at_load")

    assert (problem["line"], "not today" in problem["message"]) == (3, True)
    assert ask.row("raises_at_load")["is_active"] is True
    status, error = ask.refused("raises_at_load")
    assert status == 404 and "not today" in error["message"]  # admins read why it is no model


def test_1_9_a_package_that_is_missing_is_an_import_error_with_the_line_to_add(ask: Asker) -> None:
    problem = ask.problem("package_that_is_not_there")

    assert problem["line"] == 2 and "no_such_package_anywhere" in problem["message"]
    assert "requirements" in problem["hint"]
