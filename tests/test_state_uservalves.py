"""User valves in the state: kept by user and function, renamed with functions, replaced when keys rotate."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from fnsync.store.state import State, StoredValves


def held(state: State) -> dict[tuple[str, str], str]:
    return {(row.user_id, row.function): row.text for row in state.all_user_valves()}


def test_values_are_kept_by_user_and_function_until_forgotten(any_state: State) -> None:
    generation = any_state.generation()
    any_state.set_user_valves("ada", "translate", "one")
    any_state.set_user_valves("ada", "review", "two")
    any_state.set_user_valves("grace", "translate", "three")
    any_state.set_user_valves("ada", "translate", "four")
    assert any_state.generation() > generation
    assert any_state.user_valves("ada", "translate") == "four"
    assert any_state.user_valves("grace", "review") is None

    any_state.set_user_valves("ada", "translate", None)
    any_state.set_user_valves("ada", "translate", None)
    assert held(any_state) == {("ada", "review"): "two", ("grace", "translate"): "three"}


def test_values_follow_a_renamed_function_and_do_not_replace_what_is_there(any_state: State) -> None:
    any_state.set_user_valves("ada", "old", "ada's")
    any_state.set_user_valves("grace", "old", "grace's")
    any_state.set_user_valves("grace", "new", "grace's newer")
    any_state.set_user_valves("ada", "other", "untouched")

    any_state.rename_user_valves({"old": "new", "nothing": "nowhere", "other": "other"})

    assert held(any_state) == {
        ("ada", "new"): "ada's",
        ("ada", "other"): "untouched",
        ("grace", "new"): "grace's newer",
    }


def test_values_are_of_functions_of_one_owner_also_once_they_are_renamed(any_state: State) -> None:
    any_state.set_user_valves("ada", "w", "nobody's")
    any_state.set_user_valves("ada", "v", "bob's", "bob")
    assert (any_state.user_valves("ada", "w", "bob"), any_state.user_valves("ada", "v")) == (None, None)

    any_state.rename_user_valves({"w": "x", "v": "y"})
    assert any_state.user_valves("ada", "x") == "nobody's"
    assert (any_state.user_valves("ada", "y", "bob"), any_state.user_valves("ada", "y")) == ("bob's", None)

    any_state.set_user_valves("ada", "x", None, "bob")
    assert any_state.user_valves("ada", "x") == "nobody's", "they are not bob's to forget"
    any_state.set_user_valves("ada", "x", "bob's", "bob")
    assert (any_state.user_valves("ada", "x"), any_state.user_valves("ada", "x", "bob")) == (None, "bob's")


def test_functions_that_change_places_take_their_values_along(any_state: State) -> None:
    for function in ("a", "b", "c"):
        any_state.set_user_valves("ada", function, f"of {function}")

    any_state.rename_user_valves({"a": "b", "b": "a", "c": "d"})

    assert held(any_state) == {("ada", "b"): "of a", ("ada", "a"): "of b", ("ada", "d"): "of c"}


def test_of_two_functions_that_become_one_the_values_set_last_win(
    any_state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at, function in ((2000, "a"), (1000, "b"), (1500, "c")):
        monkeypatch.setattr(time, "time", lambda at=at: at)
        any_state.set_user_valves("ada", function, f"of {function}")

    any_state.rename_user_valves({"a": "d", "b": "d", "c": "d"})

    assert held(any_state) == {("ada", "d"): "of a"}


def test_each_change_has_a_later_time_than_the_one_before(any_state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in (1000, 1000, 500, 2000):
        monkeypatch.setattr(time, "time", lambda at=at: at)
        any_state.set_user_valves("ada", "a", "text")
        if at == 500:
            assert any_state.all_user_valves()[0].updated_at == 1002
    assert any_state.all_user_valves()[0].updated_at == 2000


def test_a_rotation_replaces_all_but_what_changed_meanwhile(any_state: State) -> None:
    for user in ("ada", "grace", "zoe"):
        any_state.set_user_valves(user, "translate", f"{user} old key")
    read = any_state.all_user_valves()
    any_state.set_user_valves("grace", "translate", "grace newer")
    any_state.set_user_valves("zoe", "translate", None)

    replaced = any_state.replace_user_valves(replace(row, text=row.text.replace("old", "new")) for row in read)

    assert replaced == 1
    assert held(any_state) == {("ada", "translate"): "ada new key", ("grace", "translate"): "grace newer"}


def test_a_rotation_that_breaks_off_replaces_nothing(any_state: State) -> None:
    any_state.set_user_valves("ada", "translate", "old")
    row = any_state.all_user_valves()[0]

    def rows() -> Iterator[StoredValves]:
        yield replace(row, text="new")
        raise ValueError("the key is wrong")

    with pytest.raises(ValueError, match="the key"):
        any_state.replace_user_valves(rows())
    assert held(any_state) == {("ada", "translate"): "old"}


def test_notes_are_kept_by_key(any_state: State) -> None:
    assert any_state.note("renames") is None
    any_state.set_note("renames", "4f1c22ab")
    any_state.set_note("renames", "0a0b0c0d")
    any_state.set_note("other", "x")
    assert any_state.note("renames") == "0a0b0c0d"
    any_state.set_note("renames", None)
    assert (any_state.note("renames"), any_state.note("other")) == (None, "x")
