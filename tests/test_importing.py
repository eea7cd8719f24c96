"""Exports taken in over HTTP: what is written, what is told of each function, and what is left as it is."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from fnsync import offline
from fnsync.config import load
from fnsync.edits.entries import Outcome
from fnsync.edits.exports import entries
from fnsync.edits.importing import Importer, ImportOptions
from fnsync.edits.manager import Terms
from fnsync.model import User
from fnsync.runtime import processes
from fnsync.service import Service
from tests.conftest import Project, Server, wait_for

API = "/api/v1/functions"
CHAT = "/v1/chat/completions"

PIPE = "class Pipe:\n    def pipe(self, body):\n        return {!r}\n"
TUNED = """
from pydantic import BaseModel, Field, SecretStr


class Inner(BaseModel):
    host: str = "h"
    password: str = ""


class Pipe:
    class Valves(BaseModel):
        retries: int = Field(default=2, ge=0, le=5)
        api_key: str = ""
        hidden: SecretStr = SecretStr("")
        inner: Inner = Inner()

    def __init__(self):
        self.valves = self.Valves()

    def pipe(self, body):
        return f"{self.valves.retries} {self.valves.api_key} {self.valves.inner.password}"
"""
BROKEN = "class Pipe:\n    def pipe(self body):\n        pass\n"


def entry(id: str, content: str = PIPE.format("one"), **more: Any) -> dict[str, Any]:
    """A function of an export, active, with times and an owner of long ago."""
    known = {"id": id, "name": f"Name of {id}", "content": content, "meta": {"description": "d"}, "type": "pipe"}
    flags = {"is_active": True, "is_global": False, "created_at": 1_600_000_000, "updated_at": 1_650_000_000}
    return {**known, **flags, "user_id": "somebody-else", "version_id": "their-own", **more}


def take(client: httpx.Client, *entries: Any, **options: Any) -> httpx.Response:
    answer = client.post(f"{API}/import", json={"functions": list(entries), **options})
    assert answer.status_code == 200, answer.text
    return answer


def outcomes(answer: httpx.Response) -> list[tuple[str, str | None, str]]:
    """Source, id and outcome of each."""
    return [(one["source"], one["id"], one["outcome"]) for one in answer.json()["outcomes"]]


def reasons(answer: httpx.Response) -> list[str]:
    return [one["reason"] or "" for one in answer.json()["outcomes"]]


def say(client: httpx.Client, id: str) -> str:
    answer = client.post(CHAT, json={"model": id, "messages": [{"role": "user", "content": "?"}]})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def exported(client: httpx.Client, *ids: str) -> list[dict[str, Any]]:
    answer = client.get(f"{API}/export", params={"include_valves": True, "ids": ",".join(ids)})
    assert answer.status_code == 200, answer.text
    return list(answer.json())


def head(server: Server) -> str:
    return server.project.git("rev-parse", "HEAD")


# ---- what is written -------------------------------------------------------------------------------------


def test_an_import_is_one_commit_and_live_when_it_is_answered(server: Server, client: httpx.Client, fn: str) -> None:
    ids = [f"{fn}_{letter}" for letter in "ab"]

    answer = take(client, *(entry(id) for id in ids), origin="their server\n\nFnsync-User: mallory")

    assert outcomes(answer) == [(id, id, "created") for id in ids]
    assert [say(client, id) for id in ids] == ["one", "one"]
    assert answer.json()["commit"] == answer.headers["x-fnsync-commit"] == head(server)
    message = server.project.git("log", "-1", "--format=%B")
    assert message.splitlines()[0] == "Import 2 functions from their server Fnsync-User: mallory"
    assert server.project.git("log", "-1", "--format=%(trailers:key=Fnsync-User,valueonly)").strip() == "admin"
    changed = server.project.git("show", "--format=", "--name-only", "HEAD").split()
    assert changed == [f"functions/{id}.{suffix}" for id in ids for suffix in ("py", "yaml")]


def test_the_message_may_be_given(server: Server, client: httpx.Client, fn: str) -> None:
    take(client, entry(fn), commit_message="Take it along")

    assert server.project.git("log", "-1", "--format=%s") == "Take it along"


def test_times_and_owner_are_those_of_the_export_also_when_git_is_asked_anew(
    project: Project, start_server: Callable[..., Server]
) -> None:
    project.write("other.py", PIPE.format("x"))
    project.commit("first")
    server = start_server(project)
    sent = [entry(f"f{number}", created_at=1_500_000_000 + number, user_id=f"ü {number}") for number in range(40)]
    with server.client() as client:
        take(client, *sent)
        rows = exported(client, *(one["id"] for one in sent))
    server.stop()
    (server.data / "index.sqlite3").unlink()
    again = start_server(project)
    with again.client() as client:
        # Ready means that functions answer; their rows are written behind that.
        wait_for("the index", lambda: client.get("/api/v1/functions/id/f39").status_code == 200)
        wait_for("git's answers", lambda: exported(client, *(one["id"] for one in sent)) == rows)

    told = [(row["created_at"], row["updated_at"], row["user_id"]) for row in rows]
    assert told == [(one["created_at"], one["updated_at"], one["user_id"]) for one in sent]


def test_secrets_are_encrypted_and_reach_the_function(server: Server, client: httpx.Client, fn: str) -> None:
    values = {"retries": 4, "api_key": "s3cret-1", "hidden": "s3cret-2", "inner": {"password": "s3cret-3"}}

    take(client, entry(fn, TUNED, valves=values))

    assert say(client, fn) == "4 s3cret-1 s3cret-3"
    text = (server.project.functions / f"{fn}.yaml").read_text()
    assert "s3cret" not in text
    stored = yaml.safe_load(text)["valves"]
    assert [name for name, value in stored.items() if "secret" in str(value)] == ["api_key", "hidden", "inner"]
    shown = server.project.git("show", "HEAD")
    assert "s3cret" not in shown
    assert exported(client, fn)[0]["valves"] == values


def test_values_that_the_class_does_not_know_and_forms_it_would_change_are_kept(client: httpx.Client, fn: str) -> None:
    values = {"gone": [1, {"a": None}], "old_token": "s3cret", "retries": "3"}

    take(client, entry(fn, TUNED, valves=values), entry(f"{fn}_none", valves={"x": 1}))

    assert [row["valves"] for row in exported(client, fn, f"{fn}_none")] == [values, {"x": 1}]
    assert say(client, fn).startswith("3 ")


def test_references_stay_references(project: Project, start_server: Callable[..., Server]) -> None:
    server = start_server(project, environ={"DEEPL": "from-the-environment"})
    with server.client() as client:
        first = take(client, entry("a", TUNED, valves={"api_key": {"env": "DEEPL"}, "retries": 1}))
        missing = take(client, entry("b", TUNED, valves={"api_key": {"env": "NOT_THERE"}}))
        ours = take(client, entry("c", TUNED, valves={"api_key": {"env": "FNSYNC_ADMIN_TOKEN"}}))

        assert outcomes(first) == [("a", "a", "created")]
        assert say(client, "a").startswith("1 from-the-environment")
        assert exported(client, "a")[0]["valves"] == {"api_key": {"env": "DEEPL"}, "retries": 1}
        assert outcomes(missing) == [("b", None, "refused")] and "NOT_THERE" in reasons(missing)[0]
        assert outcomes(ours) == [("c", None, "refused")]

        written = take(client, entry("b", TUNED, valves={"api_key": {"env": "NOT_THERE"}}), broken=True)
        assert outcomes(written) == [("b", "b", "created")] and "does not serve" in reasons(written)[0]
    assert yaml.safe_load((project.functions / "b.yaml").read_text())["valves"] == {"api_key": {"env": "NOT_THERE"}}


@pytest.mark.parametrize("source", [PIPE.format("one"), TUNED])
def test_a_reference_to_nothing_is_refused_whether_there_is_a_class_or_not(
    server: Server, client: httpx.Client, fn: str, source: str
) -> None:
    answer = take(client, entry(fn, source, valves={"api_key": {"secret": "s3cret"}}))

    assert outcomes(answer) == [(fn, None, "refused")] and "api_key" in reasons(answer)[0]
    assert "s3cret" not in answer.text and not list(server.project.functions.glob(f"{fn}*"))


UNLOADABLE = TUNED.replace("from pydantic", "import not_there_xyz\nfrom pydantic")


@pytest.mark.parametrize(
    ("source", "retries"), [(BROKEN, 1), (UNLOADABLE, 1), (PIPE.format("one"), 1), (TUNED, 99)], ids=range(4)
)
def test_whatever_may_be_a_secret_is_encrypted_where_no_class_has_taken_it(
    server: Server, client: httpx.Client, fn: str, source: str, retries: int
) -> None:
    """Nobody knows then which fields the values are for."""
    values = {"hook": "s3cret", "hidden": {"a": "s3cret"}, "many": ["s3cret"], "retries": retries, "on": True}

    take(client, entry(fn, source, valves=values), broken=True)

    stored = yaml.safe_load((server.project.functions / f"{fn}.yaml").read_text())["valves"]
    assert "s3cret" not in str(stored) and (stored["retries"], stored["on"]) == (retries, True)
    assert exported(client, fn)[0]["valves"] == values
    again = take(client, entry(fn, source, valves=values), broken=True)
    assert [outcome for *_, outcome in outcomes(again)] == ["unchanged"]


# ---- what is there already -------------------------------------------------------------------------------


def test_an_import_that_is_repeated_changes_nothing(server: Server, client: httpx.Client, fn: str) -> None:
    sent = [entry(fn, TUNED, valves={"api_key": "k"}), entry(f"{fn}-dash"), entry(f"{fn}_yes", is_global=True)]
    first = take(client, *sent)
    before = (head(server), exported(client))

    for options in ({}, {"replace": True}, {"broken": True}):
        again = take(client, *sent, **options)
        assert [outcome for *_, outcome in outcomes(again)] == ["unchanged"] * 3
        assert [id for _, id, _ in outcomes(again)] == [id for _, id, _ in outcomes(first)]
        assert again.json()["commit"] is None and "x-fnsync-commit" not in again.headers
    assert (head(server), exported(client)) == before


def test_a_function_that_is_there_is_skipped_and_with_replace_made_what_the_export_says(
    server: Server, client: httpx.Client, fn: str
) -> None:
    take(client, entry(fn, TUNED, valves={"api_key": "k", "retries": 1}))
    server.project.write(f"{fn}.yaml", f"# mine\nlimits: {{timeout: 7s}}\n{settings_of(server, fn)}")
    server.project.commit("mine")
    wait_for("the limits", lambda: (server.function(fn) or {})["status"] == "ready")
    other = entry(fn, PIPE.format("two"), name="Two", is_global=True, valves={}, updated_at=1_660_000_000)

    skipped = take(client, other)
    assert outcomes(skipped) == [(fn, None, "skipped")] and "replace" in reasons(skipped)[0]
    assert say(client, fn).startswith("1 k")

    replaced = take(client, other, replace=True)
    assert outcomes(replaced) == [(fn, fn, "updated")]
    [row] = exported(client, fn)
    assert {key: row[key] for key in ("name", "content", "is_global", "valves", "updated_at")} == {
        key: other[key] for key in ("name", "content", "is_global", "valves", "updated_at")
    }
    text = (server.project.functions / f"{fn}.yaml").read_text()
    assert text.startswith("# mine\nlimits: {timeout: 7s}\n") and "valves" not in text
    assert say(client, fn) == "two"


def settings_of(server: Server, id: str) -> str:
    return (server.project.functions / f"{id}.yaml").read_text()


def test_an_export_without_valves_leaves_those_that_are_stored(client: httpx.Client, fn: str) -> None:
    take(client, entry(fn, TUNED, valves={"api_key": "k", "retries": 1}))

    changed = take(client, entry(fn, TUNED + "\n# newer\n"), replace=True)
    narrower = take(client, entry(fn, TUNED.replace("ge=0", "ge=2")), replace=True)

    assert outcomes(changed) == [(fn, fn, "updated")]
    assert exported(client, fn)[0]["valves"] == {"api_key": "k", "retries": 1}
    assert outcomes(narrower) == [(fn, None, "refused")] and "retries" in reasons(narrower)[0]


def test_a_bom_is_kept_where_nothing_else_changes(server: Server, client: httpx.Client, fn: str) -> None:
    source = "\ufeff" + PIPE.format("one").replace("\n", "\r\n")
    take(client, entry(fn, source))
    [row] = exported(client, fn)
    before = head(server)

    again = take(client, {**row, "is_active": False}, replace=True)

    assert outcomes(again) == [(fn, fn, "updated")] and head(server) != before
    assert (server.project.functions / f"{fn}.py").read_bytes() == source.encode()


def test_what_is_in_no_commit_is_not_overwritten_and_stops_no_other(
    server: Server, client: httpx.Client, fn: str
) -> None:
    server.add(fn, PIPE.format("not committed"))

    answer = take(client, entry(fn, PIPE.format("two")), entry(f"{fn}_other"), replace=True)

    assert outcomes(answer) == [(fn, None, "refused"), (f"{fn}_other", f"{fn}_other", "created")]
    assert "in no commit" in reasons(answer)[0]
    assert say(client, fn) == "not committed"


def test_a_settings_file_that_is_no_good_stops_no_other(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(fn, PIPE.format("x"), "actve: true\n", status="failed")
    server.project.commit(fn)

    answer = take(client, entry(fn, PIPE.format("two")), entry(f"{fn}_other"), replace=True)

    assert outcomes(answer) == [(fn, None, "refused"), (f"{fn}_other", f"{fn}_other", "created")]
    assert "did you mean active?" in reasons(answer)[0]


def test_a_file_that_is_no_function_is_not_overwritten(server: Server, client: httpx.Client, fn: str) -> None:
    server.project.write(f"{fn}.yaml", "active: true\n")

    answer = take(client, entry(fn))

    assert outcomes(answer) == [(fn, None, "refused")] and f"{fn}.yaml is there already" in reasons(answer)[0]


# ---- renamed, skipped, refused ---------------------------------------------------------------------------


def test_ids_become_names_of_files_and_a_repetition_is_told(client: httpx.Client, fn: str) -> None:
    answer = take(client, entry(f"{fn}-x"), entry(f"{fn}_x"), entry(f"{fn}_x"), entry(f"_{fn}"))

    assert outcomes(answer) == [
        (f"{fn}-x", f"{fn}_x_2", "created"),
        (f"{fn}_x", f"{fn}_x", "created"),
        (f"{fn}_x", None, "skipped"),
        (f"_{fn}", fn, "created"),
    ]
    told = reasons(answer)
    assert "another function of the export" in told[0] and told[1] == ""
    assert "twice" in told[2] and "Python name" in told[3]


def test_what_is_wrong_with_one_function_stops_no_other(client: httpx.Client, fn: str) -> None:
    deep: Any = []
    for _ in range(40):
        deep = [deep]
    answer = take(
        client,
        entry(f"{fn}_syntax", BROKEN),
        entry(f"{fn}_values", TUNED, valves={"retries": "s3cret", "inner": {"host": 5}}),
        entry(f"{fn}_deep", meta={"deep": deep}),
        entry(f"{fn}_number", meta={"n": 2**70}),
        entry(f"{fn}_large", "#" * (5 * 1024 * 1024 + 1)),
        entry(f"{fn}_exits", "import os\nos._exit(3)\nclass Pipe: ...\n"),
        {"id": f"{fn}_form", "content": 5},
        [],
        entry(f"{fn}_good"),
    )

    assert [outcome for *_, outcome in outcomes(answer)] == ["refused"] * 8 + ["created"]
    told = reasons(answer)
    words = ["2:19: SyntaxError", "retries: ", "32 deep", "number", "bytes", "exit", "content: ", "object"]
    assert [word for word, reason in zip(words, told, strict=False) if word not in reason] == [], told
    assert "inner.host: " in told[1] and "s3cret" not in answer.text
    assert outcomes(answer)[7][0] == "functions[7]"
    assert say(client, f"{fn}_good") == "one"


def test_a_source_that_never_loads_is_refused_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOAD_S", 1.0)
    (tmp_path / "fnsync.yaml").write_text("defaults: {timeout: 1s}\n")
    stuck = entry("stuck", "import time\ntime.sleep(1000)\nclass Pipe: ...\n")

    async def work(service: Service, admin: User) -> tuple[Outcome, ...]:
        taken = await Importer(service.manager).take(entries([stuck, entry("good")]), ImportOptions(), Terms(admin))
        return taken.outcomes

    told = offline.run(load(tmp_path / "fnsync.yaml", {}), {}, work)

    assert [(one.id, one.outcome) for one in told] == [(None, "refused"), ("good", "created")]
    assert told[0].reason == "stuck did not load within 1 s"


def test_broken_functions_are_written_where_that_is_asked_for(server: Server, client: httpx.Client, fn: str) -> None:
    values = {"api_key": "s3cret", "retries": 99}
    sent = [entry(f"{fn}_syntax", BROKEN, valves=values), entry(f"{fn}_values", TUNED, valves=values)]

    answer = take(client, *sent, broken=True)

    assert [outcome for *_, outcome in outcomes(answer)] == ["created", "created"]
    assert "it does not serve: " in reasons(answer)[0] and "SyntaxError" in reasons(answer)[0]
    assert "retries" in reasons(answer)[1]
    for one in sent:
        assert (server.project.functions / f"{one['id']}.py").read_text() == one["content"]
        assert "s3cret" not in settings_of(server, one["id"])
        assert (server.function(one["id"]) or {})["status"] == "failed"
    assert [row["valves"] for row in exported(client, *(one["id"] for one in sent))] == [values, values]


def test_a_required_valve_that_is_missing_is_told_of_what_is_written(client: httpx.Client, fn: str) -> None:
    needs = TUNED.replace('api_key: str = ""', "api_key: str").replace("self.valves = self.Valves()", "pass")

    answer = take(client, entry(fn, needs))

    assert outcomes(answer) == [(fn, fn, "created")] and "api_key" in reasons(answer)[0]


def test_a_body_of_the_wrong_form_is_refused(client: httpx.Client, user_client: httpx.Client) -> None:
    for body in ({}, {"functions": 5}, {"functions": [], "replace": "perhaps"}, []):
        assert client.post(f"{API}/import", json=body).status_code == 400
    assert client.post("/api/functions/import", json={"functions": []}).json() == {"commit": None, "outcomes": []}
    assert user_client.post(f"{API}/import", json={"functions": []}).status_code == 401


# ---- progress --------------------------------------------------------------------------------------------


def test_progress_is_told_line_by_line(client: httpx.Client, fn: str) -> None:
    sent = [entry(f"{fn}_{number}") for number in range(12)]
    with client.stream("POST", f"{API}/import", params={"progress": True}, json={"functions": sent}) as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.iter_lines() if line]

    *told, last = lines
    assert Counter(one["outcome"] for one in last["outcomes"]) == {"created": 12} and last["commit"]
    checking = [one for one in told if one["step"] == "checking"]
    assert [one["done"] for one in checking] == list(range(1, 13))
    assert {one["total"] for one in told} == {12}
    assert {"step": "writing", "done": 0, "total": 12} in told


def test_an_import_goes_on_when_its_client_leaves(server: Server, client: httpx.Client, fn: str) -> None:
    sent = [entry(f"{fn}_{number}") for number in range(12)]

    with client.stream("POST", f"{API}/import", params={"progress": True}, json={"functions": sent}) as answer:
        assert json.loads(next(answer.iter_lines()))["step"] == "checking"

    wait_for("the last function", lambda: server.function(f"{fn}_11"))
    assert server.project.git("log", "-1", "--format=%s") == "Import 12 functions from an export"


# ---- where edits go --------------------------------------------------------------------------------------


def test_where_nothing_is_written_the_import_says_so_and_a_hook_is_told_with_its_words(
    project: Project, start_server: Callable[..., Server]
) -> None:
    project.write("a.py", PIPE.format("one"))
    project.commit("first")
    hook = project.root / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'no imports on Fridays'; exit 1\n")
    hook.chmod(0o755)
    server = start_server(project)
    with server.client() as client:
        refused = client.post(f"{API}/import", json={"functions": [entry("b")]})
        told = client.post(f"{API}/import", params={"progress": True}, json={"functions": [entry("b")]})
    server.stop()
    project.configure("repository: {write: deny}")
    with start_server(project).client() as client:
        denied = client.post(f"{API}/import", json={"functions": [entry("b")]})

    assert refused.status_code == 400 and "no imports on Fridays" in refused.json()["detail"]
    last = json.loads(told.text.splitlines()[-1])
    assert last["status"] == 400 and "no imports on Fridays" in last["detail"]
    assert denied.status_code == 409 and "through git" in denied.json()["detail"]
    assert project.git("rev-list", "--count", "HEAD") == "1" and not (project.functions / "b.py").exists()


def test_with_branches_an_import_waits_for_review(
    project: Project, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    project.configure("repository: {write: branch}")
    project.write("a.py", PIPE.format("one"))
    project.commit("first")
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    project.git("remote", "add", "origin", str(bare))
    server = start_server(project)

    with server.client() as client:
        answer = client.post(f"{API}/import", json={"functions": [entry("b"), entry("c", BROKEN)]})

    assert answer.status_code == 202
    assert outcomes(answer) == [("b", "b", "created"), ("c", None, "refused")]
    branch = answer.json()["proposal"]["branch"]
    shown = subprocess.run(
        ["git", "show", "--format=", "--name-only", branch], cwd=bare, capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == ["functions/b.py", "functions/b.yaml"]
    assert not (project.functions / "b.py").exists()


# ---- export ----------------------------------------------------------------------------------------------


def test_an_export_may_be_of_some_functions_alone(client: httpx.Client, fn: str) -> None:
    take(client, entry(fn), entry(f"{fn}_b"))

    assert [row["id"] for row in exported(client, f"{fn}_b")] == [f"{fn}_b"]
    plain = client.get(f"{API}/export", params={"ids": fn}).json()
    assert [("valves" in row, row["content"]) for row in plain] == [(False, PIPE.format("one"))]
    unknown = client.get(f"{API}/export", params={"ids": f"{fn},nobody"})
    assert unknown.status_code == 404 and "nobody" in unknown.json()["detail"]
