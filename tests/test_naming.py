"""What imported functions are called: ids that files can have, all different, and the same ones again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnsync.edits.drafts import Content, checked_id
from fnsync.edits.entries import Entry
from fnsync.edits.naming import exactly, renamed
from fnsync.errors import Invalid
from fnsync.model import FunctionId, FunctionRow, Status


def entry(id: str, source: str = "x", created_at: int | None = None) -> Entry:
    return Entry(id, Content("", source), created_at=created_at)


def row(id: str, content: str = "x", created_at: int = 0) -> FunctionRow:
    known: dict[str, Any] = {
        **{"user_id": "", "name": id, "type": None, "meta": {}, "valves": {}, "is_active": True, "is_global": False},
        **{"updated_at": 0, "path": f"{id}.py", "revision": None, "live_revision": None, "status": Status.READY},
        **{"error": None, "source": "local", "commit": None, "rivals": ()},
    }
    return FunctionRow(id=FunctionId(id), content=content, created_at=created_at, **known)


def ids(*entries: Entry, there: tuple[FunctionRow, ...] = ()) -> list[str]:
    return [named.id for named in renamed(entries, {one.id: one for one in there})]


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("translate", "translate"),
        ("Translate", "translate"),
        ("has-dash", "has_dash"),
        ("has.dots and spaces", "has_dots_and_spaces"),
        ("1st", "f_1st"),
        ("_private", "private"),
        ("__init__", "init"),
        ("a²", "a"),
        ("übersetzen", "übersetzen"),
        ("…", "function"),
        ("", "function"),
        ("../../etc/passwd", "etc_passwd"),
        ("class", "class"),
        ("x" * 300, "x" * 180),
    ],
)
def test_an_id_that_no_file_can_have_is_made_one(asked: str, given: str) -> None:
    [named] = renamed([entry(asked)], {})

    assert named.id == given
    assert (named.reason is None) == (asked == given)


def test_an_id_of_its_own_is_never_taken_from_a_function() -> None:
    assert ids(entry("a-b"), entry("A_b"), entry("a_b")) == ["a_b_3", "a_b_2", "a_b"]


def test_the_same_ids_are_given_again_to_what_is_here() -> None:
    entries = [entry("a-b", "one"), entry("a.b", "two"), entry("a_b", "three")]
    first = ids(*entries)
    there = tuple(row(id, one.content.source) for id, one in zip(first, entries, strict=True))

    assert ids(*entries, there=there) == first


def test_a_renamed_function_is_known_by_when_it_was_created_though_it_changed() -> None:
    there = (row("has_dash", "old", created_at=1_700_000_000),)

    assert ids(entry("has-dash", "new", created_at=1_700_000_000), there=there) == ["has_dash"]
    assert ids(entry("has-dash", "new", created_at=1_600_000_000), there=there) == ["has_dash_2"]
    assert ids(entry("has-dash", "new"), there=there) == ["has_dash_2"]


def test_an_own_id_may_be_that_of_a_function_which_differs() -> None:
    assert ids(entry("a", "new"), there=(row("a", "old"),)) == ["a"]


@given(st.lists(st.one_of(st.text(max_size=6), st.sampled_from(["a-b", "a_b", "A-B", "a_b_2"])), max_size=12))
def test_ids_are_usable_and_all_different(asked: list[str]) -> None:
    found = renamed([entry(id, str(place)) for place, id in enumerate(asked)], {})

    assert len({named.id for named in found}) == len(asked)
    for named, id in zip(found, asked, strict=True):
        assert checked_id(named.id) == named.id
        assert named.entry.id == id
        assert (named.reason is None) == (named.id == id)


def test_without_renaming_a_bad_id_and_one_that_is_there_twice_are_named_with_their_place() -> None:
    assert [named.id for named in exactly([entry("a"), entry("B")])] == ["a", "b"]
    with pytest.raises(Invalid, match=r"functions\[1\].id: 'has-dash'"):
        exactly([entry("a"), entry("has-dash")])
    with pytest.raises(Invalid, match=r"functions\[1\].id: a is there twice"):
        exactly([entry("a"), entry("A")])
