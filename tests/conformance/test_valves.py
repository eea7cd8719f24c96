"""Contract 6: valves and user valves: what is stored, what a function finds, and how fields are shown."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.conformance.conftest import API, Asker, shows, text_of


def update(ask: Asker, id: str, values: dict[str, Any], whose: str = "valves") -> httpx.Response:
    return ask.client.post(f"{API}/id/{id}/{whose}/update", json=values)


def stored(ask: Asker, id: str, whose: str = "valves") -> Any:
    return ask.client.get(f"{API}/id/{id}/{whose}").json()


# ---- 6.1 storage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "kept", "seen"),
    [
        shows("6.1", "only sent fields are stored, as their types", {"a": "9"}, {"a": 9}, [9, 2]),
        shows("6.1", "an update replaces: what is not sent is forgotten", {"b": 1}, {"b": 1}, [1, 1]),
        shows("6.1", "null values are dropped", {"a": 5, "b": None}, {"a": 5}, [5, 2]),
        shows("6.1", "unknown keys are dropped", {"a": 6, "unknown": 1}, {"a": 6}, [6, 2]),
        shows("6.1", "read back are stored fields only", {}, {}, [1, 2]),
    ],
)
def test_an_update(ask: Asker, sent: dict[str, Any], kept: dict[str, Any], seen: list[int]) -> None:
    answer = update(ask, "updated", sent)

    assert (answer.status_code, answer.json()) == (200, kept)
    assert stored(ask, "updated") == kept
    assert ask.told("updated") == seen


@pytest.mark.parametrize(
    ("sent", "field"),
    [({"a": "many"}, "a"), ({"mode": "slow"}, "mode")],
    ids=["6.1 a wrong type: 400 (here: with the field)", "6.1 no choice of a Literal: 400 (here: with the field)"],
)
def test_an_update_that_does_not_fit(ask: Asker, sent: dict[str, Any], field: str) -> None:
    update(ask, "updated", {"a": 3})

    answer = update(ask, "updated", sent)

    assert answer.status_code == 400 and field in answer.json()["detail"]
    assert stored(ask, "updated") == {"a": 3}


def test_6_1_extras_stay_if_the_class_allows_them(ask: Asker) -> None:
    assert update(ask, "with_extras", {"b": "more"}).json() == {"b": "more"}
    assert ask.say("with_extras") == "more"


# ---- 6.2 construction ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "said"),
    [
        shows("6.2", "with nothing stored the class's defaults", "of_the_class", "default"),
        shows("6.2", "stored values, coerced; null is dropped", "stored_in_the_file", '["stored", 9, "kept"]'),
        shows(
            "6.2",
            "values of the constructor are lost",
            "from_the_constructor",
            '["constructor", "stored"]',
            here="defaults below the stored ones",
        ),
        shows(
            "6.2",
            "without self.valves in the constructor stored values are ignored",
            "no_line_in_the_constructor",
            "stored",
            here="they count",
        ),
        shows("6.2", "each hook of a filter has them", "of_each_hook", "inlet stored request stored outlet stored"),
    ],
)
def test_what_a_function_finds_in_its_valves(ask: Asker, id: str, said: str) -> None:
    assert ask.say(id) == said


def test_6_2_stream_has_them_too(ask: Asker) -> None:
    assert {event["seen"] for event in ask.stream("of_each_hook")} == {"stored"}


def test_6_2_a_new_object_for_each_call_here_the_same_until_the_values_change(ask: Asker) -> None:
    assert [ask.told("one_object") for _ in range(3)] == [False, True, True]

    update(ask, "one_object", {"word": "other"})
    assert [ask.told("one_object") for _ in range(2)] == [False, True]


def test_6_2_a_pipe_with_a_required_valve_is_hidden_until_it_has_a_value(ask: Asker) -> None:
    assert ask.model("required") is None
    status, error = ask.refused("required")
    assert status == 404 and "address" in error["message"]  # here an admin reads which

    assert update(ask, "required", {"address": "https://example.org"}).status_code == 200
    ask.server.settle("required")
    assert ask.say("required") == "https://example.org"


def test_6_2_valves_that_init_builds_without_a_required_value_fail_the_load(ask: Asker) -> None:
    problem = ask.problem("built_too_early")

    assert "address" in problem["message"]


# ---- 6.3 user valves -------------------------------------------------------------------------------------


def test_6_3_user_valves_are_an_object_of_the_class_and_each_user_has_their_own(ask: Asker, ada: Asker) -> None:
    assert ada.told("of_each_user") == ["UserValves", "default", 0]

    assert update(ada, "of_each_user", {"word": "ada", "count": "3", "no": 1}, "valves/user").status_code == 200
    assert stored(ada, "of_each_user", "valves/user") == {"word": "ada", "count": 3}
    assert ada.told("of_each_user") == ["UserValves", "ada", 3]
    assert ask.told("of_each_user") == ["UserValves", "default", 0]

    # An update replaces here too.
    update(ada, "of_each_user", {"count": 1}, "valves/user")
    assert ada.told("of_each_user") == ["UserValves", "default", 1]


@pytest.mark.parametrize(
    ("id", "said"),
    [
        shows("6.3", "no key valves without the class", "without_the_class", "false"),
        shows("6.3", "nothing where the signature does not name __user__", "without_naming_user", "{}"),
        shows(
            "6.3",
            "a filter without UserValves sees those of the filter before",
            "user_seen_by_filters",
            "default False",
            here="each filter has a __user__ of its own",
        ),
    ],
)
def test_who_sees_user_valves(ada: Asker, id: str, said: str) -> None:
    assert ada.say(id) == said


# ---- 6.4 schema and inputs -------------------------------------------------------------------------------


def test_6_4_the_schema_has_inputs_enums_and_the_options_that_methods_give(ask: Asker) -> None:
    spec = ask.client.get(f"{API}/id/inputs/valves/spec").json()["properties"]

    def options(field: str) -> Any:
        return spec[field]["input"].get("options")

    assert spec["key"]["input"] == {"type": "password"}
    assert spec["text"]["input"] == {"type": "textarea"}
    assert spec["mode"]["enum"] == ["fast", "good"]
    assert options("size") == ["s", "l"]
    assert options("model") == ["a", {"value": "b", "label": "B"}]
    assert options("many") == [options("many")[0]] * 2 and "@" in options("many")[0]  # as __user__, and as user
    # The text stays where the method is missing, raises, or gives no list.
    assert (options("gone"), options("fails"), options("odd")) == ("not_there", "raises", "no_list")
    # In the peer also where it is async; here it is awaited.
    assert options("late") == ["x"]


def test_6_4_the_schema_is_null_without_the_class(ask: Asker) -> None:
    answer = ask.client.get(f"{API}/id/without_the_class/valves/spec")

    assert (answer.status_code, answer.json()) == (200, None)


def test_6_4_priority_is_an_ordinary_field(ask: Asker) -> None:
    spec = ask.client.get(f"{API}/id/order_c_first/valves/spec").json()

    assert spec["properties"]["priority"] == {"default": -5, "title": "Priority", "type": "integer"}
    assert text_of(ask.stream("traced"))
