"""Ranges of versions over tags, and what refs that people write mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnsync.git.refnames import Target, asked, beginning, candidates, choose, near
from fnsync.git.semver import Version, newest, range_of, version_of

TAGS = [
    "v1.0.0",
    "v1.2.0",
    "v1.2.5",
    "1.10.0",
    "v2.0.0-rc.1",
    "v2.0.0",
    "v2.1.0-beta",
    "v0.3.1",
    "v0.3.9",
    "v0.4.0",
    "x9",
]


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("^1.2", "1.10.0"),
        ("^1", "1.10.0"),
        ("~1.2.0", "v1.2.5"),
        ("~1.2", "v1.2.5"),
        ("~>1.2.1", "v1.2.5"),
        ("~1", "1.10.0"),
        ("1.x", "1.10.0"),
        ("1.2.*", "v1.2.5"),
        ("1.2", "v1.2.5"),
        ("v1.2", "v1.2.5"),
        ("1.2.0", "v1.2.0"),
        ("=1.2.0", "v1.2.0"),
        ("*", "v2.0.0"),
        ("x", "v2.0.0"),
        (">=1.0 <2", "1.10.0"),
        (">=1.0, <2", "1.10.0"),
        (">= 1.0 < 2.0.0", "1.10.0"),
        (">1.2 <1.11", "1.10.0"),
        (">=1.0<2", "1.10.0"),
        (">1.2.0", "v2.0.0"),
        ("<=1.2", "v1.2.5"),
        ("<1.2", "v1.0.0"),
        ("^0.3.1", "v0.3.9"),
        ("^0.3", "v0.3.9"),
        ("^0", "v0.4.0"),
        ("1.0 - 1.2", "v1.2.5"),
        ("1.0.0 - 1.2.0", "v1.2.0"),
        ("^3 || ^1.2", "1.10.0"),
        ("^2.0.0-rc.1", "v2.1.0-beta"),
        ("2.0.0-rc.1", "v2.0.0-rc.1"),
        (">=1.0.0-0 <2.0.0", "v2.0.0-rc.1"),
        (">=2.0.0", "v2.0.0"),
        (">=2.1.0-0", "v2.1.0-beta"),
        (">2.0.0", None),
        ("^3", None),
        ("<0.0.1", None),
    ],
)
def test_a_range_means_its_newest_tag(text: str, tag: str | None) -> None:
    range = range_of(text)
    assert range is not None
    assert newest(TAGS, range) == tag


@pytest.mark.parametrize(
    "text", ["", " ", "main", "release-1.x", "1.2.3.4", "^", ">=", "^1 ||", "1.2 - ", "^a", "v", "9" * 300]
)
def test_what_is_no_range(text: str) -> None:
    assert range_of(text) is None


def test_precedence_is_that_of_the_specification() -> None:
    order = (
        "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0 1.0.1 1.1 2"
    )
    versions = [version_of(text) for text in order.split()]
    assert versions == sorted(versions, key=lambda version: version or Version(9, 9, 9))
    assert version_of("1.0.0+build") == version_of("v1.0") == Version(1, 0, 0)
    assert version_of("v1.2.3-") is None and version_of("release") is None


def test_of_equal_tags_the_one_that_is_written_out_counts() -> None:
    range = range_of("^1")
    assert range is not None
    assert newest(["v1", "v1.0", "v1.0.0"], range) == "v1.0.0"
    assert newest(["v1", "v1.0.1"], range) == "v1.0.1"


@given(st.text(alphabet="0123456789.xX*^~<>=|- ,vab+", max_size=30))
def test_any_text_is_a_range_or_none(text: str) -> None:
    range = range_of(text)
    assert range is None or newest(TAGS, range) in [*TAGS, None]


# ---- names -------------------------------------------------------------------------------------------------

A, B, C = "a" * 40, "b" * 40, "c" * 40
THERE = {
    "HEAD": A,
    "refs/heads/main": A,
    "refs/heads/1.x": B,
    "refs/heads/both": A,
    "refs/tags/both": B,
    "refs/tags/v1.2.0": C,
    "refs/tags/v1.2.0^{}": A,
    "refs/pull/12/head": C,
    "refs/merge-requests/7/head": B,
    "refs/heads/pr/12": A,
    "refs/heads/pr/13": B,
}


@pytest.mark.parametrize(
    ("ref", "target"),
    [
        (None, Target("refs/heads/main", A)),
        ("HEAD", Target("refs/heads/main", A)),
        ("main", Target("refs/heads/main", A)),
        ("both", Target("refs/heads/both", A)),
        ("refs/tags/both", Target("refs/tags/both", B, "both")),
        ("1.x", Target("refs/heads/1.x", B)),
        ("1.2", Target("refs/tags/v1.2.0", C, "v1.2.0")),
        ("v1.2.0", Target("refs/tags/v1.2.0", C, "v1.2.0")),
        ("pr/12", Target("refs/pull/12/head", C)),
        ("mr/7", Target("refs/merge-requests/7/head", B)),
        ("pr/7", Target("refs/merge-requests/7/head", B)),
        ("pr/13", Target("refs/heads/pr/13", B)),
        ("other", None),
        ("^2", None),
        ("v1.2.0^{}", None),
        ("-main", None),
        ("ma*", None),
        ("a..b", None),
    ],
)
def test_what_a_ref_means(ref: str | None, target: Target | None) -> None:
    assert choose(ref, THERE, "refs/heads/main") == target


def test_the_default_branch_is_known_by_its_name_if_there_is_one() -> None:
    assert choose(None, {"HEAD": A}, "refs/heads/main") == Target("refs/heads/main", A)
    assert choose(None, {"HEAD": A}) == Target("HEAD", A)
    assert choose(None, {}) is None


def test_only_what_may_be_meant_is_asked_for() -> None:
    assert asked(None) == ("HEAD",)
    assert asked("main") == ("refs/heads/main", "refs/tags/main", "refs/tags/main^{}")
    assert asked("^1.2") == ("refs/tags/*",)
    assert asked("1.x") == ("refs/heads/1.x", "refs/tags/1.x", "refs/tags/*")
    assert candidates("refs/x/*") == () == candidates("a b")


def test_the_beginning_of_a_hash_must_mean_one_commit() -> None:
    assert beginning("aaaa", THERE) == Target(A, A)
    assert beginning("AAAA", THERE) == Target(A, A)
    # An annotated tag is no commit.
    assert beginning("cccc", {name: id for name, id in THERE.items() if name.startswith("refs/tags")}) is None
    assert beginning("aaaa", {"refs/heads/a": A, "refs/heads/b": "aaaa" + "b" * 36}) is None


def test_names_like_the_missing_one_are_told() -> None:
    assert near("mian", THERE)[0] == "main"
    assert near("zzzzzz", {"refs/heads/main": A, "refs/pull/1/head": B}) == ["main"]
