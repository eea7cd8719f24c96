"""Settings files: what they say, and how a mistake in one is reported."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fnsync.model import Access, LimitOverrides, Permissions, Rate, Settings
from fnsync.source import settings

WHOLE = """\
name: Translator
meta: {description: Says it in French, tags: [fr]}
owner: 0f9a
active: true
global: false
models: ["gpt-4o", "translate*"]   # a comment
valves:
  priority: 10
  ratio: 0.5
  nothing: null
  since: 2024-01-02
  api_key: {env: DEEPL_KEY}
  token: {secret: gAAAAAB}
  nested: {env: a, more: [1, {b: false}]}
access: {users: [ada@example.org], roles: [user]}
limits: {timeout: 30s, memory: 256MB, concurrency: 8, workers: 1, idle: 5m, rate: 60/minute}
permissions: {network: false, write: [out], env: [DEEPL_KEY]}
required: true
"""


def test_every_key_is_read() -> None:
    assert settings.parse(WHOLE, "f.yaml") == Settings(
        active=True,
        is_global=False,
        models=("gpt-4o", "translate*"),
        valves={
            "priority": 10,
            "ratio": 0.5,
            "nothing": None,
            "since": "2024-01-02",
            "api_key": {"env": "DEEPL_KEY"},
            "token": {"secret": "gAAAAAB"},
            "nested": {"env": "a", "more": [1, {"b": False}]},
        },
        access=Access(users=("ada@example.org",), roles=("user",)),
        limits=LimitOverrides(
            timeout_s=30.0, memory_bytes=256 * 1024**2, concurrency=8, workers=1, idle_s=300.0, rate=Rate(60, 60.0)
        ),
        permissions=Permissions(network=False, write=("out",), env=("DEEPL_KEY",)),
        required=True,
        name="Translator",
        meta={"description": "Says it in French", "tags": ["fr"]},
        owner="0f9a",
    )


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "\ufeff", "limits:\nvalves:\nactive:\n", "{}"])
def test_all_keys_are_optional(text: str) -> None:
    assert settings.parse(text, "f.yaml") == Settings()


@pytest.mark.parametrize(
    ("text", "line", "parts"),
    [
        ("active: true\nactve: false\n", 2, ["actve", "did you mean active?"]),
        ("limits:\n  timout: 3\n", 2, ["limits.timout", "did you mean limits.timeout?"]),
        ("timeout: 3\n", 1, ["did you mean limits.timeout?"]),
        ("limits:\n  active: true\n", 2, ["did you mean active at the top?"]),
        ("permissions: {netwrk: true}\n", 1, ["permissions.netwrk", "permissions.network?"]),
        ("access:\n  user: [a]\n", 2, ["access.user", "access.users?"]),
        ("active: yes please\n", 1, ["active", "true or false", "yes please"]),
        ("models: gpt-4o\n", 1, ["models", "a list of texts", "gpt-4o"]),
        ("models:\n  - a\n  - 5\n", 3, ["models", "a list of texts", "5"]),
        ("limits:\n  workers: 0\n", 2, ["limits.workers", "from 1"]),
        ("limits:\n  workers: true\n", 2, ["limits.workers", "true"]),
        ("limits:\n  timeout: soon\n", 2, ["limits.timeout", "soon", "30s"]),
        ("limits:\n  timeout: 0\n", 2, ["limits.timeout", "more than 0"]),
        ("limits:\n  memory: [1]\n", 2, ["limits.memory", "256MB"]),
        ("limits:\n  rate: often\n", 2, ["limits.rate", "60/minute"]),
        ("limits: [1]\n", 1, ["limits", "a mapping of timeout", "a list"]),
        ("- a\n", 1, ["a mapping of name", "a list"]),
        ("valves: 3\n", 1, ["valves", "a mapping"]),
        ("valves:\n  a: {env: 3}\n", 2, ["valves.a.env", "environment variable"]),
        ("valves:\n  a: {secret: ''}\n", 2, ["valves.a.secret", "encrypted"]),
        ("valves:\n  1: a\n", 2, ["the key 1", "quotes"]),
        ("valves:\n  a: 1\n  b: 2\n  a: 3\n", 4, ["the key a is there twice", "line 2"]),
        ("active: true\nactive: true\n", 2, ["twice"]),
        ("valves:\n  a: &x [1]\n  b: *x\n", 3, ["aliases"]),
        ("valves:\n  a: !!python/object:os.system ls\n", 2, ["tag"]),
        ("valves:\n  a: .inf\n", 2, ["finite"]),
        ("valves:\n  a: [\n", 3, ["expected"]),
        ("valves:\n\ta: 1\n", 2, ["cannot start"]),
        ("a: 1\n---\nb: 2\n", 2, ["document"]),
        ("valves: " + "[" * 100 + "]" * 100, 1, ["deep"]),
        ("valves:\n  a: \x01\n", 2, ["U+0001"]),
    ],
)
def test_a_mistake_is_reported_with_line_key_and_what_is_allowed(text: str, line: int, parts: list[str]) -> None:
    with pytest.raises(settings.SettingsError) as caught:
        settings.parse(text, "team/f.yaml")
    problem = caught.value.problem

    assert (problem.code, problem.path, problem.line) == ("settings", "team/f.yaml", line)
    for part in parts:
        assert part in problem.message


def test_an_unknown_key_lists_the_known_ones() -> None:
    with pytest.raises(settings.SettingsError) as caught:
        settings.parse("foo: 1", "f.yaml")

    assert "did you mean" in caught.value.problem.message
    assert "permissions" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("permissions:\n  env:\n    - DEEPL_KEY\n    - FNSYNC_ADMIN_TOKEN\n", 4, "permissions.env"),
        ("valves:\n  key: {env: FNSYNC_SECRET_KEY}\n", 2, "valves.key.env"),
    ],
)
def test_the_servers_own_variables_are_not_for_functions(text: str, line: int, key: str) -> None:
    with pytest.raises(settings.SettingsError) as caught:
        settings.parse(text, "f.yaml")

    problem = caught.value.problem
    assert (problem.path, problem.line) == ("f.yaml", line)
    assert problem.message.startswith(f"{key}: FNSYNC_")
    assert "does not begin with FNSYNC_" in (caught.value.hint or "")


def test_a_bomb_of_nested_lists_ends_at_once() -> None:
    for text in ("[" * 200_000, "- " * 100_000, "a: &a [x]\n" + "b: [*a, *a]\n" * 9, "x" * 300_000):
        with pytest.raises(settings.SettingsError):
            settings.parse(text, "f.yaml")


@given(
    st.lists(
        st.sampled_from(
            [
                "active",
                "limits",
                "valves",
                "timeout",
                ": ",
                "\n",
                "  ",
                "- ",
                "{",
                "}",
                "[",
                "]",
                "1",
                "true",
                "&a ",
                "*a",
                "!!int ",
                "<<",
                "? ",
                "|",
                "0b",
                "1:30",
                "2024-13-45",
                "'",
                "\\",
            ]  # fmt: skip
        ),
        max_size=20,
    ).map("".join)
    | st.text(max_size=40)
)
@example("valves: {a: !!int x}")
@example("!!int ")
@example("!!float ")
@example("valves: {a: !!float x}")
@example("valves: {a: !!bool x}")
@example("valves: {a: !!null x}")
@example("valves: {a: " + "9" * 5000 + "}")
@example("valves: {a: 1:99:99}")
@example("\ud800")
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        settings.parse(text, "f.yaml")
    except settings.SettingsError as exc:
        assert exc.problem.path == "f.yaml"
