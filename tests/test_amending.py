"""Settings files that the API changes: what people wrote in them stays."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from fnsync.errors import Invalid, SourceError
from fnsync.source import settings
from fnsync.source.amending import amended

HAND_MADE = """\
# Who may talk to it
active: yes   # since May
global: false

valves:
    # from the vault
    api_key: {env: DEEPL_KEY}
    priority: 010
    since: 2024-01-02
    note: "yes"
    hosts:
        - a   # first
        - b
models: ["gpt-4o", 'translate*']
# the end
"""


def test_a_change_leaves_comments_order_and_other_values_alone() -> None:
    made = amended(HAND_MADE, {"active": False}, "f.yaml")

    assert made.splitlines()[1].split("#")[0].strip() == "active: false"
    assert [line.split("#")[0].rstrip() for line in made.splitlines() if "active" not in line] == [
        line.split("#")[0].rstrip() for line in HAND_MADE.splitlines() if "active" not in line
    ]
    for comment in ("# Who may talk to it", "# since May", "# from the vault", "# first", "# the end"):
        assert comment in made


def test_valves_change_name_by_name() -> None:
    before = settings.parse(HAND_MADE, "f.yaml").valves

    made = amended(HAND_MADE, {"valves": {**before, "priority": 3, "token": {"secret": "gAAA"}}}, "f.yaml")

    assert "    # from the vault\n    api_key: {env: DEEPL_KEY}\n    priority: 3\n    since: 2024-01-02\n" in made
    assert "    token: {secret: gAAA}\n" in made
    assert settings.parse(made, "f.yaml").valves == {**before, "priority": 3, "token": {"secret": "gAAA"}}


def test_none_takes_a_key_out_and_empty_mappings_too() -> None:
    made = amended(HAND_MADE, {"valves": {}, "global": None}, "f.yaml")

    assert "valves" not in made and "global" not in made
    assert settings.parse(made, "f.yaml").models == ("gpt-4o", "translate*")


@pytest.mark.parametrize(
    "changes", [{}, {"active": True}, {"global": False}, {"models": ["gpt-4o", "translate*"]}, {"meta": {}}]
)
def test_what_is_said_already_changes_nothing(changes: dict[str, Any]) -> None:
    assert amended(HAND_MADE, changes, "f.yaml") == HAND_MADE


def test_a_new_file_has_the_keys_in_their_order() -> None:
    made = amended(
        "", {"active": False, "valves": {"a": 1}, "name": "My greeter", "meta": {"description": ""}}, "f.yaml"
    )

    assert made == textwrap.dedent("""\
        name: My greeter
        meta:
          description: ""
        active: false
        valves:
          a: 1
    """)


@pytest.mark.parametrize("text", ["# nothing but a comment\n", "# no line end", "---\n# later\n"])
def test_a_file_of_comments_keeps_them(text: str) -> None:
    made = amended(text, {"active": False}, "f.yaml")

    assert text.strip("-\n") in made and settings.parse(made, "f.yaml").active is False


def test_line_ends_and_byte_order_mark_stay() -> None:
    text = "\ufeffactive: true\r\n# why\r\nglobal: false\r\n"

    assert amended(text, {"active": False}, "f.yaml") == "\ufeffactive: false\r\n# why\r\nglobal: false\r\n"


def test_flow_style_stays() -> None:
    assert amended("{active: true, global: false}\n", {"active": False}, "f.yaml") == "{active: false, global: false}\n"


@pytest.mark.parametrize("text", ["active: [", "- a\n", "actve: true\n", "active: maybe\n", "a: &x 1\nb: *x\n"])
def test_a_file_that_is_no_good_is_not_changed(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        amended(text, {"active": False}, "team/f.yaml")

    assert caught.value.problem.path == "team/f.yaml"


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(["yes", "no", "on", "1:30", "0x1f", "017", "~", "null", "2024-01-02", "=", "<<", "a: b", "# x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abyesno_", min_size=1), inner, max_size=3),
    max_leaves=6,
)


@settings_of(max_examples=300)
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), values, max_size=4))
def test_every_json_value_comes_back_as_it_was(valves: dict[str, Any]) -> None:
    valves = {key: value for key, value in valves.items() if not isinstance(value, dict)}
    for start in ("", HAND_MADE):
        made = amended(start, {"valves": valves}, "f.yaml")
        assert settings.parse(made, "f.yaml").valves == valves, made


@given(st.dictionaries(st.sampled_from(["name", "owner"]), st.text(min_size=1, max_size=20).filter(str.isprintable)))
def test_names_come_back_as_they_were(changes: dict[str, str]) -> None:
    made = yaml.safe_load(amended(HAND_MADE, changes, "f.yaml"))

    assert {key: made[key] for key in changes} == changes


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, float("inf"), float("nan"), []])
def test_a_value_that_no_settings_file_can_hold_is_refused(value: Any) -> None:
    nested = value
    if isinstance(value, list):
        for _ in range(40):
            nested = [nested]

    with pytest.raises(Invalid):
        amended(HAND_MADE, {"valves": {"x": nested}}, "f.yaml")


LONG = 256 * 1024


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "x" * (LONG - 2)}, "name"),
        ({"name": "x" * 100_000_000}, "name"),
        ({"name": "a", "meta": {"short": "b", "description": "x " * LONG}}, "meta.description"),
        ({"valves": {"a": "b", "long": ["x" * 1000] * 300}}, "valves.long"),
        ({"valves": {"x" * LONG: "a"}}, "valves.xxx"),
        ({"valves": {"a": "é" * (LONG // 2)}}, "valves.a"),
        ({"valves": {"a": "\x01" * (LONG // 2)}}, "valves.a"),
    ],
)
def test_what_would_be_too_long_to_be_read_back_is_refused_by_its_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(Invalid) as caught:
        amended("active: true\n", changes, "f.yaml")

    assert str(caught.value).startswith(named) and len(str(caught.value)) < 200
    assert "f.yaml would be larger than 262,144 bytes" in str(caught.value)


@pytest.mark.parametrize("value", [{"env": 5}, {"env": ""}, {"env": None}, {"secret": 5}, {"secret": []}])
def test_a_reference_to_what_is_no_name_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=f"valves.a.{next(iter(value))}: expected"):
        amended("active: true\n", {"valves": {"a": value}}, "f.yaml")
