"""Reading exports: every form they come in, and what is said of one that is none."""

from __future__ import annotations

from typing import Any

import pytest

from fnsync.edits.drafts import Content
from fnsync.edits.entries import Entry, Outcome
from fnsync.edits.exports import entries, functions_in
from fnsync.errors import Invalid

FUNCTION = {"id": "a", "name": "A", "content": "x", "meta": {"description": "d"}}


def test_an_entry_needs_id_and_content_alone() -> None:
    assert entries([{"id": "a", "content": "x"}]) == [Entry("a", Content("", "x"))]


def test_all_that_an_export_says_is_taken() -> None:
    whole = {
        **FUNCTION,
        **{"version_id": "v", "type": "pipe", "user_id": "u", "is_active": True, "is_global": True},
        **{"created_at": 1_600_000_000, "updated_at": 1_700_000_000, "valves": {"key": "k"}},
    }

    [found] = entries([whole])

    assert found == Entry(
        "a", Content("A", "x", {"description": "d"}), True, True, {"key": "k"}, 1_600_000_000, 1_700_000_000, "u"
    )


def test_what_is_wrong_with_an_entry_names_each_field_and_no_value() -> None:
    wrong = {"id": "a", "content": ["s3cret"], "created_at": 10**13, "is_active": "s3cret", "valves": "s3cret"}

    found = entries([FUNCTION, wrong, 5, {}, {"id": 7, "content": "x"}])

    assert isinstance(found[0], Entry)
    assert all(isinstance(one, Outcome) and one.outcome == "refused" for one in found[1:])
    told = [one.reason or "" for one in found[1:] if isinstance(one, Outcome)]
    for field in ("content: ", "created_at: ", "is_active: ", "valves: "):
        assert field in told[0]
    assert "s3cret" not in str(told)
    assert [one.source for one in found[1:] if isinstance(one, Outcome)] == ["a", "", "", ""]
    assert "object" in told[1] and "id: Field required" in told[2] and "id: " in told[3]


def test_the_community_site_wraps_each_function() -> None:
    [found] = entries([{"id": "other", "userId": "u", "function": FUNCTION, "downloads": 5}])

    assert found == Entry("a", Content("A", "x", {"description": "d"}))


@pytest.mark.parametrize("document", [[FUNCTION], {"functions": [FUNCTION]}, FUNCTION, {"function": FUNCTION}])
def test_a_document_is_a_list_an_object_with_one_or_a_function(document: Any) -> None:
    assert [isinstance(one, Entry) for one in entries(functions_in(document))] == [True]


@pytest.mark.parametrize(
    ("document", "what"),
    [(5, "a number"), ("x", "a text"), (None, "null"), (True, "a truth value"), ({"a": 1}, "an object")],
)
def test_what_is_no_export_is_told(document: Any, what: str) -> None:
    with pytest.raises(Invalid, match=f"expected a list of functions; found {what}"):
        functions_in(document)
