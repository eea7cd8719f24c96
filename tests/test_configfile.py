"""Sources are added to a configuration file, and taken out, without touching anything else in it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fnsync.errors import ConfigError, Conflict, NotFound
from fnsync.syncing.configfile import added, amended, removed

FILE = """\
# ours
server: {port: 1}   # the port

sources:
  # the first
  - {name: acme, url: "https://x/y.git", ref: main}   # with a remark
  - name: b
    url: /srv/b   # a path

    # before the rest
defaults:
  timeout: 60s
"""


def test_adding_leaves_the_rest_as_it_is() -> None:
    entry = {"name": "c", "url": "git@x:y", "auth": {"token": {"env": "X"}}}
    made = added(FILE, entry)
    block = "  - name: c\n    url: git@x:y\n    auth:\n      token:\n        env: X\n"
    assert made == FILE.replace("# a path\n", "# a path\n" + block)


def test_taking_out_leaves_the_rest_as_it_is() -> None:
    assert removed(FILE, "acme") == FILE.replace(
        '  - {name: acme, url: "https://x/y.git", ref: main}   # with a remark\n', ""
    )
    assert removed(FILE, "b") == FILE.replace("  - name: b\n    url: /srv/b   # a path\n", "")
    assert "sources" not in removed(removed(FILE, "acme"), "b")


def test_suspending_and_resuming() -> None:
    made = amended(FILE, "b", "suspend", True)
    assert made == FILE.replace("# a path\n", "# a path\n    suspend: true\n")
    assert amended(made, "b", "suspend", False) == made.replace("suspend: true", "suspend: false")
    assert amended(made, "b", "suspend", True) == made
    flow = amended(FILE, "acme", "suspend", True)
    assert "ref: main, suspend: true}   # with a remark" in flow
    assert flow.splitlines()[6:] == FILE.splitlines()[6:]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "sources:\n  - name: c\n    url: u\n"),
        ("# only\n", "# only\nsources:\n  - name: c\n    url: u\n"),
        ("a: 1", "a: 1\nsources:\n  - name: c\n    url: u\n"),
        ("sources: []\na: 1\n", "sources:\n  - name: c\n    url: u\na: 1\n"),
        ("sources:\n  # - {name: x}\na: 1\n", "sources:\n  - name: c\n    url: u\n  # - {name: x}\na: 1\n"),
        ("sources:\r\n- name: d\r\n  url: k\r\n", "sources:\r\n- name: d\r\n  url: k\r\n- name: c\r\n  url: u\r\n"),
        ("sources:\n- name: d\n  url: k", "sources:\n- name: d\n  url: k\n- name: c\n  url: u\n"),
    ],
)  # fmt: skip
def test_adding_to_other_forms(text: str, wanted: str) -> None:
    assert added(text, {"name": "c", "url": "u"}) == wanted


def test_what_is_wrong_is_told() -> None:
    with pytest.raises(Conflict, match="acme"):
        added(FILE, {"name": "acme", "url": "u"})
    for work in (lambda: removed(FILE, "x"), lambda: amended(FILE, "x", "suspend", True)):
        with pytest.raises(NotFound):
            work()
    for text in ("a: [", "- 1\n", "sources: {a: 1}\n", "sources: [1]\n"):
        with pytest.raises(ConfigError):
            added(text, {"name": "c", "url": "u"})


NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,6}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
ENTRIES = st.fixed_dictionaries(
    {"name": NAMES, "url": TEXTS},
    optional={"ref": TEXTS, "include": st.lists(TEXTS, min_size=1, max_size=3), "prune": st.booleans()},
)


@given(st.lists(ENTRIES, min_size=1, max_size=4, unique_by=lambda entry: entry["name"]), st.data())
def test_any_entry_comes_back(entries: list[dict[str, Any]], data: st.DataObject) -> None:
    text = "a: 1\n"
    for entry in entries:
        text = added(text, entry)
    assert yaml.safe_load(text) == {"a": 1, "sources": entries}
    gone = data.draw(st.sampled_from(entries))
    suspended = amended(text, gone["name"], "suspend", True)
    assert yaml.safe_load(suspended)["sources"][entries.index(gone)] == {**gone, "suspend": True}
    left = [entry for entry in entries if entry is not gone]
    assert yaml.safe_load(removed(suspended, gone["name"])).get("sources", []) == left
