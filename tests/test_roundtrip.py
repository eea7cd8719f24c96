"""What is exported, taken in elsewhere and exported again is the same; taken in where it came from, nothing changes."""

from __future__ import annotations

import json
import keyword
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fnsync.cli import exits
from tests.commands import run
from tests.conftest import ADMIN_TOKEN, Project, Server, wait_for
from tests.test_importing import PIPE, TUNED

API = "/api/functions"
FILTER = '''"""
title: Ünï «Filter»
description: it's #1: "yes"
icon_url: data:image/svg+xml;base64,AAAA
"""


class Filter:
    def __init__(self):
        self.toggle = True

    def inlet(self, body):
        return body
'''
ACTION = "class Action:\n    async def action(self, body):\n        return body\n"


# ---- any functions ---------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
#: What files of Python can have in a comment.
COMMENT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=12)
JSON = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False), TEXT),
    lambda inner: st.one_of(
        st.lists(st.one_of(inner, st.none()), max_size=3),
        st.dictionaries(TEXT.filter(lambda key: key not in ("env", "secret")), inner, max_size=3),
    ),
    max_leaves=6,
)
META = st.dictionaries(TEXT, JSON, max_size=3).map(lambda meta: {**meta, "description": str(meta.get("", "about"))})
VALVES = st.fixed_dictionaries(
    {},
    optional={
        **{"retries": st.integers(0, 5), "api_key": TEXT, "hidden": TEXT, "gone": JSON},
        "inner": st.fixed_dictionaries({}, optional={"host": TEXT, "password": TEXT}),
    },
)
SOURCES = st.builds(
    lambda source, comment, ends, bom: bom + f"{source}# {comment}\n".replace("\n", ends),
    st.sampled_from([PIPE.format("x"), FILTER, ACTION, TUNED]),
    COMMENT,
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\ufeff"]),
)
TIMES = st.integers(-999_999_999_999, 999_999_999_999)


@st.composite
def functions(draw: Callable[..., Any]) -> list[dict[str, Any]]:
    """Functions of an export, as different as can be."""
    found = []
    for id in draw(st.lists(st.text(min_size=1, max_size=6), min_size=4, max_size=8, unique=True)):
        content = draw(SOURCES)
        one = {"id": id, "name": draw(TEXT), "content": content, "meta": draw(META)}
        flags = {"is_active": draw(st.booleans()), "is_global": draw(st.booleans())}
        times = {"created_at": draw(TIMES), "updated_at": draw(TIMES)}
        # Each has an owner of its own, by whom the test knows it again.
        found.append({**one, **flags, **times, "user_id": f"{draw(TEXT)} {len(found)}", "valves": draw(VALVES)})
    return found


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two servers whose functions are a test's own."""
    found = [Server(Project(tmp_path_factory.mktemp(name) / "project")) for name in ("one", "other")]
    try:
        yield found[0].wait_ready(), found[1].wait_ready()
    finally:
        for server in found:
            server.stop()


def take(client: httpx.Client, sent: list[dict[str, Any]], **options: Any) -> list[tuple[str, str | None]]:
    answer = client.post(f"{API}/import", json={"functions": sent, **options})
    assert answer.status_code == 200, answer.text
    return [(one["outcome"], one["reason"]) for one in answer.json()["outcomes"]]


def came_to(told: list[tuple[str, str | None]]) -> set[str]:
    """What the functions came to; where it is a refusal, with its reason."""
    return {outcome if outcome != "refused" else f"refused: {reason}" for outcome, reason in told}


def export(client: httpx.Client) -> list[dict[str, Any]]:
    answer = client.get(f"{API}/export", params={"include_valves": True})
    assert answer.status_code == 200, answer.text
    return list(answer.json())


def elsewhere(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What has to be the same elsewhere: a version is a commit, which is another one there."""
    return [{key: value for key, value in row.items() if key != "version_id"} for row in rows]


@given(sent=functions())
@settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_any_functions_come_back_the_same(servers: tuple[Server, Server], sent: list[dict[str, Any]]) -> None:
    one, other = servers
    with one.client() as here, other.client() as there:
        for client in (here, there):
            assert client.post(f"{API}/sync", json={"functions": []}).status_code == 200

        assert came_to(take(here, sent)) == {"created"}
        rows = export(here)
        assert rows == sorted(rows, key=lambda row: (row["created_at"], row["id"]))
        by_owner = {row["user_id"]: row for row in rows}
        for function in sent:
            row = by_owner[function["user_id"]]
            assert (row["created_at"], row["updated_at"]) == (function["created_at"], function["updated_at"])
            assert row["content"] == function["content"].removeprefix("\ufeff")
            assert (row["is_active"], row["is_global"]) == (function["is_active"], function["is_global"])
            assert row["valves"] == function["valves"]
            known = {key: row["meta"][key] for key in function["meta"].keys() - {"manifest", "toggle"}}
            assert known == {key: value for key, value in function["meta"].items() if key in known}
            assert not function["name"] or row["name"] == function["name"]

        assert came_to(take(there, rows)) == {"created"}
        assert elsewhere(export(there)) == elsewhere(rows)
        for options in ({}, {"replace": True}):
            assert came_to(take(here, rows, **options)) == {"unchanged"}
        assert export(here) == rows


# ---- by hand ---------------------------------------------------------------------------------------------

BY_HAND = """# a team's own file
limits: {timeout: 7s}
global: true
valves:
  retries: "3"          # a text, which the class takes
  api_key: {env: DEEPL}
  gone: [1, two]
meta: {tags: [a, b], "1": yes}
"""


def test_a_project_made_by_hand_comes_back_the_same_in_a_fresh_one(
    project: Project, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    project.write("by_hand.py", TUNED)
    project.write("by_hand.yaml", BY_HAND)
    project.write("team/Filtered.py", FILTER)
    project.write("folder/main.py", PIPE.format("in a folder"))
    (project.functions / "windows.py").write_bytes(b"\xef\xbb\xbf" + PIPE.format("crlf").replace("\n", "\r\n").encode())
    project.write("off.py", ACTION)
    project.write("off.yaml", "active: false\n")
    assert keyword.iskeyword("lambda")
    project.write("lambda.py", PIPE.format("a word of Python's"))
    project.commit("first")
    environ = {"DEEPL": "k"}
    variables = {**environ, "FNSYNC_ADMIN_TOKEN": ADMIN_TOKEN}
    first = start_server(project, environ=environ)
    with first.client() as client:
        values = {"hidden": "s3cret", "inner": {"password": "s3cret"}, "retries": "3", "api_key": {"env": "DEEPL"}}
        assert client.post(f"{API}/id/by_hand/valves/update", json=values).status_code == 200
        wait_for("git's answers", lambda: all(row["version_id"] for row in export(client)))
    out = tmp_path / "out.json"
    assert run(project.root, "export", str(out), "--valves", **variables).returncode == exits.OK
    fresh = tmp_path / "fresh"
    fresh.mkdir()

    taken = run(fresh, "import", str(out), **environ)
    again = run(fresh, "export", "--valves", **environ)
    commits = project.git("rev-list", "--count", "HEAD")
    back = run(project.root, "import", str(out), "--replace", **variables)
    same = run(project.root, "export", "--valves", **variables)

    rows = json.loads(out.read_text())
    assert {row["id"] for row in rows} == {"by_hand", "filtered", "folder", "windows", "off", "lambda"}
    assert taken.returncode == exits.OK, taken.stdout
    assert elsewhere(json.loads(again.stdout)) == elsewhere(rows)
    assert (back.returncode, back.stderr) == (exits.OK, "6 unchanged\n")
    assert json.loads(same.stdout) == rows
    assert project.git("rev-list", "--count", "HEAD") == commits
    assert {row["user_id"] for row in rows} == {"ada@example.org"}
    assert "s3cret" not in (fresh / "functions/by_hand.yaml").read_text()
