"""Contract 5: event functions, told of what becomes of a function."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance.conftest import API, Asker
from tests.conftest import wait_for

SOURCE = """
from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        level: int = 1

    def pipe(self, body):
        return "{said}"
"""


def lines(ask: Asker, id: str, word: str) -> list[Any]:
    """What the function printed behind `word`."""
    return [json.loads(text.removeprefix(f"{word} ")) for text in ask.log(id) if text.startswith(f"{word} ")]


@pytest.fixture(scope="module")
def told(ask: Asker) -> list[dict[str, Any]]:
    """What `told_by_name` was told of a function from its beginning to its end."""
    about = {"id": "watched", "name": "Watched", "meta": {"description": ""}}
    for method, path, body in (
        ("POST", "create", {**about, "content": SOURCE.format(said="one")}),
        ("POST", "id/watched/toggle", None),
        ("POST", "id/watched/update", {**about, "content": SOURCE.format(said="two")}),
        ("POST", "id/watched/toggle/global", None),
        ("POST", "id/watched/valves/update", {"level": 2}),
        ("POST", "id/watched/toggle", None),
        ("DELETE", "id/watched/delete", None),
    ):
        ask.client.request(method, f"{API}/{path}", json=body).raise_for_status()

    def ended() -> list[dict[str, Any]] | None:
        found = lines(ask, "told_by_name", "told")
        return found if found and found[-1]["name"] == "function.deleted" else None

    return wait_for("function.deleted", ended)


def test_5_the_events_of_a_function_with_their_data(told: list[dict[str, Any]]) -> None:
    about = {"type": "pipe", "name": "Watched"}

    # enable_started and disable_started are awaited before the switch in the peer; here nothing is asked before it.
    assert [(one["name"], one["event"]["data"]) for one in told] == [
        ("function.created", about),
        ("function.enabled", about),
        ("function.updated", about),
        ("function.updated", {**about, "is_global": True}),
        ("function.valves_updated", {}),
        ("function.disabled", about),
        ("function.deleted", {}),
    ]


def test_5_the_envelope(told: list[dict[str, Any]]) -> None:
    envelope = told[1]["event"]

    assert set(envelope) == {
        *("schema", "id", "event", "resource", "operation", "created_at", "instance_id", "version", "source", "actor"),
        *("subject", "data", "message"),
    }
    assert (envelope["event"], envelope["resource"], envelope["operation"]) == (
        "function.enabled",
        "function",
        "enabled",
    )
    assert (envelope["source"], envelope["subject"]) == ("api", {"type": "function", "id": "watched"})
    assert set(envelope["actor"]) == {"id", "name", "email", "role", "created_at", "updated_at", "type"}
    assert (envelope["actor"]["role"], envelope["actor"]["type"]) == ("admin", "user")
    assert len({one["event"]["id"] for one in told}) == len(told)
    assert len({one["event"]["instance_id"] for one in told}) == 1


def test_5_the_arguments_come_by_name_and_valves_are_set(told: list[dict[str, Any]]) -> None:
    for one in told:
        event, name = one.pop("event"), one.pop("name")
        assert event["event"] == name
        assert one == {
            "same": True,
            "id_is_events": True,
            "id": "told_by_name",
            "app": "FastAPI",
            "request": True,
            "valves": "stored",
        }


def test_5_kwargs_receive_all_of_them(ask: Asker, told: list[dict[str, Any]]) -> None:
    names = ["__app__", "__event__", "__event_id__", "__event_name__", "__id__", "__request__"]

    # Each event function has an inbox of its own: this one may come later.
    wait_for("all events", lambda: len(lines(ask, "told_in_kwargs", "kwargs")) == len(told))
    assert lines(ask, "told_in_kwargs", "kwargs") == [names] * len(told)


def test_5_one_that_is_not_active_is_not_called(ask: Asker, told: list[dict[str, Any]]) -> None:
    assert ask.log("told_nothing") == []
