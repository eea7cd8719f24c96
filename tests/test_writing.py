"""Edits over HTTP as commits: beside other people's changes, many at once, through crashes, where none are wanted."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.anew import begin_anew
from tests.commands import run
from tests.conftest import ADMIN_TOKEN, Project, Server, wait_for

API = "/api/v1/functions"
CHAT = "/v1/chat/completions"


def source(answer: str) -> str:
    return f"class Pipe:\n    def pipe(self, body):\n        return {answer!r}\n"


def form(id: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "name": id, "content": source(answer), "meta": {}, **more}


def create(client: httpx.Client, id: str, answer: str = "one", **more: Any) -> dict[str, Any]:
    made = client.post(f"{API}/create", json=form(id, answer, **more))
    assert made.status_code == 200, made.text
    return dict(made.json())


def update(client: httpx.Client, id: str, answer: str, **more: Any) -> httpx.Response:
    headers = more.pop("headers", None)
    return client.post(f"{API}/id/{id}/update", json=form(id, answer, **more), headers=headers)


def told(root: Path) -> str:
    """What `fnsync status` prints."""
    return run(root, "status", "--token", ADMIN_TOKEN).stdout


def say(client: httpx.Client, id: str) -> str:
    answer = client.post(CHAT, json={"model": id, "messages": [{"role": "user", "content": "?"}]})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(Project(tmp_path_factory.mktemp("writing") / "project"))
    try:
        yield server.wait_ready()
    finally:
        server.stop()


@pytest.fixture
def ready(running: Server, watched: Callable[[Server], Server]) -> Server:
    """A server on a project with one committed, active function `a` that says `one`."""
    begin_anew(running, {"a.py": source("one")})
    return watched(running)


# ---- the commit ------------------------------------------------------------------------------------------


def test_an_edit_is_a_commit_by_its_caller_and_live_when_it_is_answered(ready: Server) -> None:
    token = ready.add_token("admin", "ada@example.org", "Ada Lovelace")
    with ready.client(token) as client:
        answer = update(client, "a", "two", commit_message="Say two\n\nBecause one is not enough.")

        assert answer.status_code == 200
        assert say(client, "a") == "two"
    commit = ready.project.git("rev-parse", "HEAD")
    assert answer.headers["x-fnsync-commit"] == answer.json()["version_id"] == commit
    shown = ready.project.git("log", "-1", "--format=%an <%ae>%n%B")
    user_id = ready.project.git("log", "-1", "--format=%(trailers:key=Fnsync-User,valueonly)")
    assert shown == (f"Ada Lovelace <ada@example.org>\nSay two\n\nBecause one is not enough.\n\nFnsync-User: {user_id}")
    assert ready.project.git("status", "--porcelain", "functions") == ""


def test_without_a_change_there_is_no_commit(ready: Server) -> None:
    with ready.client() as client:
        before = client.get(f"{API}/id/a").json()

        answer = update(client, "a", "one", name="a")

    assert answer.status_code == 200 and answer.json() == before
    assert "x-fnsync-commit" not in answer.headers
    assert ready.project.git("rev-list", "--count", "HEAD") == "1"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("x\n\nFnsync-User: somebody-else", "x"),
        ("x\n\nFNSYNC-ORIGIN: created=1 user=me path=functions/a.py\nReviewed-by: Bob", "x\n\nReviewed-by: Bob"),
        ("half \ud800 pair\0", "half ? pair"),
        ("ünï ☃\r\nmore", "ünï ☃\nmore"),
        ("   ", "Update a"),
    ],
)
def test_a_message_cannot_say_who_made_the_edit(ready: Server, said: str, kept: str) -> None:
    with ready.client() as client:
        body = httpx.Request("POST", "http://x", json=form("a", "two", commit_message="@")).content
        text = body.replace(b'"@"', _json(said))

        answer = client.post(f"{API}/id/a/update", content=text)

    if answer.status_code == 400:  # half of a pair is no text
        assert "\ud800" in said
        assert "commit_message" in answer.text or "JSON" in answer.text
        return
    message = ready.project.git("log", "-1", "--format=%B")
    assert message.endswith("Fnsync-User: admin")
    assert message.removesuffix("Fnsync-User: admin").rstrip() == kept
    assert ready.project.git("log", "-1", "--format=%(trailers:key=Fnsync-User,valueonly)") == "admin"


def _json(text: str) -> bytes:
    import json

    return json.dumps(text).encode()


# ---- based on ----------------------------------------------------------------------------------------------


def test_an_edit_of_a_stale_version_is_refused_and_one_of_the_newest_is_not(ready: Server) -> None:
    with ready.client() as client:
        first = client.get(f"{API}/id/a")
        second = update(client, "a", "two", headers={"If-Match": first.headers["etag"]})
        assert second.status_code == 200

        by_header = update(client, "a", "three", headers={"If-Match": first.headers["etag"]})
        by_body = update(client, "a", "three", version_id=first.json()["version_id"])
        removal = client.delete("/api/functions/a", params={"version_id": first.json()["version_id"]})
        good = update(client, "a", "three", version_id=second.json()["version_id"][:10])

    assert [answer.status_code for answer in (by_header, by_body, removal, good)] == [409, 409, 409, 200]
    assert "a is not at" in by_header.json()["detail"]


def test_what_is_shown_and_what_is_edited_are_compared_with_the_disk_not_with_the_last_look(ready: Server) -> None:
    """Another branch is checked out between reading and writing, too late for anything to have noticed."""
    project = ready.project
    project.git("checkout", "--quiet", "-b", "side")
    project.write("a.py", source("side"))
    project.commit("side")
    with ready.client() as client:
        wait_for("side", lambda: say(client, "a") == "side")
        project.git("checkout", "--quiet", "main")
        main = project.git("rev-parse", "main")
        wait_for("main", lambda: client.get(f"{API}/id/a").json()["version_id"] == main and say(client, "a") == "one")
        seen = client.get(f"{API}/id/a")

        project.git("checkout", "--quiet", "side")
        by_tag = update(client, "a", "two", headers={"If-Match": seen.headers["etag"]})
        by_version = update(client, "a", "two", version_id=seen.json()["version_id"])

    assert [by_tag.status_code, by_version.status_code] == [409, 409]
    assert project.git("log", "-1", "--format=%s") == "side"


def test_no_version_is_shown_for_what_is_in_no_commit(ready: Server) -> None:
    with ready.client() as client:
        assert client.get(f"{API}/id/a").json()["version_id"] is not None
        ready.project.write("a.py", source("not committed"))
        wait_for("the new answer", lambda: say(client, "a") == "not committed")
        shown = client.get(f"{API}/id/a")

    assert shown.json()["version_id"] is None and shown.json()["content"] == source("not committed")


def while_git_is_at_work(
    server: Server, send: Callable[[], httpx.Response], change: Callable[[], object]
) -> httpx.Response:
    """The answer to an edit that waited for git's lock, and what it was based on changed meanwhile."""
    held = server.project.root / ".git/index.lock"
    held.write_bytes(b"")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(send)
        wait_for("the edit to wait", lambda: list(held.parent.glob("fnsync-*.lock")))
        change()
        held.unlink()
        return answer.result()


def test_what_changes_while_an_edit_waits_for_git_counts(project: Project, start_server: Callable[..., Server]) -> None:
    project.configure("auth: {user_functions: true}")
    server = start_server(project)
    token = server.add_token("user", "ada@example.org", "Ada")
    with server.client() as admin, server.client(token) as ada:
        create(admin, "a")
        create(ada, "mine")
        tag = admin.get(f"{API}/id/a").headers["etag"]
        toggled = while_git_is_at_work(
            server,
            lambda: admin.post(f"{API}/id/a/toggle", headers={"If-Match": tag}),
            lambda: project.write("a.py", source("by hand")),
        )
        project.git("checkout", "--quiet", "functions")
        given = while_git_is_at_work(
            server, lambda: update(ada, "mine", "two"), lambda: project.write("mine.yaml", "owner: bob\n")
        )
        project.git("checkout", "--quiet", "functions")

        def demote() -> None:
            with server.state() as state:
                user = state.user_by_email("ada@example.org")
                assert user is not None
                state.set_role(user.id, "pending")

        wait_for("ada's function again", lambda: ada.get(f"{API}/id/mine").status_code == 200)
        demoted = while_git_is_at_work(server, lambda: update(ada, "mine", "two"), demote)

    assert [answer.status_code for answer in (toggled, given, demoted)] == [409, 404, 401], given.text
    assert project.git("log", "--format=%s").splitlines() == ["Create mine", "Create a"]


@pytest.mark.parametrize("header", ['""', ""])
def test_an_edit_based_on_nothing_is_refused(ready: Server, header: str) -> None:
    with ready.client() as client:
        assert update(client, "a", "two", headers={"If-Match": header}).status_code == 409
        assert update(client, "a", "two", version_id="").status_code == 409


def test_valves_and_switches_are_edited_on_what_was_seen(ready: Server) -> None:
    head = "from pydantic import BaseModel\n\nclass Pipe:\n    class Valves(BaseModel):\n        x: int = 0\n"
    body = head + "    valves = Valves()\n    def pipe(self, body):\n        pass\n"
    with ready.client() as client:
        made = client.post(f"{API}/create", json=form("v", "") | {"content": body})
        first = client.get(f"{API}/id/v/valves").headers
        assert first["etag"] == client.get(f"{API}/id/v").headers["etag"] == made.headers["etag"]

        one = client.post(f"{API}/id/v/valves/update", json={"x": 1}, headers={"If-Match": first["etag"]})
        two = client.post(f"{API}/id/v/valves/update", json={"x": 2}, headers={"If-Match": first["etag"]})
        toggled = client.post(f"{API}/id/v/toggle", headers={"If-Match": first["etag"]})
        three = client.post(f"{API}/id/v/toggle", headers={"If-Match": one.headers["etag"]})

    assert [answer.status_code for answer in (one, two, toggled, three)] == [200, 409, 409, 200]
    assert ready.project.git("log", "--format=%s").splitlines()[0] == "Activate v"


def test_toggles_and_valves_make_no_other_version(ready: Server) -> None:
    with ready.client() as client:
        first = client.get(f"{API}/id/a").json()
        client.post(f"{API}/id/a/toggle")

        assert client.get(f"{API}/id/a").json()["version_id"] == first["version_id"]
        assert update(client, "a", "two", version_id=first["version_id"]).status_code == 200


# ---- what is not committed -------------------------------------------------------------------------------


def test_uncommitted_work_on_a_source_is_not_overwritten(ready: Server) -> None:
    ready.project.write("a.py", source("not committed"))
    with ready.client() as client:
        wait_for("the new answer", lambda: say(client, "a") == "not committed")
        refused = update(client, "a", "two")
        removal = client.delete("/api/functions/a")
        revision = ready.function("a")["revision"]  # type: ignore[index]
        informed = update(client, "a", "two", headers={"If-Match": revision})

    assert [refused.status_code, removal.status_code, informed.status_code] == [409, 409, 200]
    assert "in no commit" in refused.json()["detail"] and "a.py" in refused.json()["detail"]
    log = ready.project.git("log", "--format=%an|%s").splitlines()
    assert log == ["Admin|Update a", "Ada|Keep what was on disk of a.py", "Ada|first"]
    users = ready.project.git("log", "-2", "--format=%(trailers)").split()
    assert users[0::2] == ["Fnsync-User:", "Fnsync-Kept:"] and users[1] == users[3], "it may be pushed with the edit"
    assert "not committed" in ready.project.git("show", "HEAD~1:functions/a.py")


def test_a_switch_works_although_settings_are_not_committed_and_keeps_them(ready: Server) -> None:
    ready.project.write("a.yaml", "# mine\nlimits: {timeout: 7s}\n")
    with ready.client() as client:
        answer = client.post(f"{API}/id/a/toggle")

    assert answer.status_code == 200 and answer.json()["is_active"] is False
    assert (ready.project.functions / "a.yaml").read_text() == "# mine\nlimits: {timeout: 7s}\nactive: false\n"
    assert ready.project.git("log", "--format=%an|%s").splitlines()[:2] == [
        "Admin|Deactivate a",
        "Ada|Keep what was on disk of a.yaml",
    ]


def test_what_is_staged_only_is_not_lost(ready: Server) -> None:
    project = ready.project
    project.write("a.py", source("staged"))
    project.git("add", "functions/a.py")
    project.write("a.py", source("on disk"))
    with ready.client() as client:
        wait_for("the new answer", lambda: say(client, "a") == "on disk")
        tag = client.get(f"{API}/id/a").headers["etag"]
        refused = update(client, "a", "two", headers={"If-Match": tag})
        assert refused.status_code == 409 and "what is staged of a.py" in refused.json()["detail"]
        assert source("staged").strip() == project.git("show", ":functions/a.py")

        project.git("add", "functions/a.py")
        assert update(client, "a", "two", headers={"If-Match": tag}).status_code == 200
    assert source("on disk").strip() == project.git("show", "HEAD~1:functions/a.py")
    assert project.git("status", "--porcelain", "functions") == ""


def test_what_git_does_not_take_is_not_edited(ready: Server) -> None:
    (ready.project.root / ".gitignore").write_text("/functions/*.yaml\n")
    with ready.client() as client:
        answer = client.post(f"{API}/id/a/toggle")

    assert (answer.status_code, answer.json()["hint"][:18]) == (409, "take the rule away")
    assert "functions/a.yaml is ignored by .gitignore:1" in answer.json()["detail"]
    assert not (ready.project.functions / "a.yaml").exists()


def test_no_edit_goes_through_a_link(ready: Server) -> None:
    """Neither of a file that lies elsewhere, nor in a folder; a link can be removed."""
    project = ready.project
    (project.root / "lib").mkdir()
    for path in ("lib/shared.py", "lib/main.py"):
        (project.root / path).write_text(source("shared"))
    (project.functions / "linked.py").symlink_to("a.py")
    (project.functions / "folder").symlink_to("../lib")
    project.git("add", ".")
    project.commit("links")
    with ready.client() as client:
        wait_for("the link", lambda: ready.function("linked"))
        answers = [update(client, "linked", "two"), client.post(f"{API}/id/linked/toggle")]
        assert [answer.status_code for answer in answers] == [409, 200], [answer.text for answer in answers]
        assert "linked.py is a link to a.py" in answers[0].json()["detail"]
        assert client.delete(f"{API}/id/linked/delete").status_code == 200
        assert say(client, "a") == "one"
        assert update(client, "folder", "two").status_code == 404  # links to folders are no functions

    assert not (project.functions / "linked.py").is_symlink()
    assert (project.root / "lib/main.py").read_text() == source("shared")
    assert project.git("status", "--porcelain", "functions") == ""


def test_the_functions_folder_outlives_its_last_function(ready: Server) -> None:
    with ready.client() as client:
        assert client.delete("/api/functions/a").json() is True
        assert ready.project.functions.is_dir()
        create(client, "b")


def test_other_peoples_changes_stay_as_they_are(ready: Server) -> None:
    project = ready.project
    project.write("staged.py", source("staged"))
    project.git("add", "functions/staged.py")
    project.write("untracked.py", source("untracked"))
    (project.root / "notes.txt").write_text("mine")
    before = project.git("status", "--porcelain")

    with ready.client() as client:
        create(client, "b")
        assert update(client, "a", "two").status_code == 200

    assert project.git("status", "--porcelain") == before


# ---- git at work -----------------------------------------------------------------------------------------


def test_while_git_holds_its_lock_an_edit_waits_and_then_says_so(ready: Server) -> None:
    held = ready.project.root / ".git/index.lock"
    held.write_bytes(b"")
    with ready.client() as client:
        timer = threading.Timer(0.3, held.unlink)
        timer.start()
        assert update(client, "a", "two").status_code == 200

        held.write_bytes(b"")
        try:
            refused = update(client, "a", "three")
        finally:
            held.unlink()
        assert refused.status_code == 503 and "index.lock" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) > 0
        assert say(client, "a") == "two"


def test_in_the_middle_of_a_merge_an_edit_is_refused(ready: Server) -> None:
    project = ready.project
    project.git("checkout", "--quiet", "-b", "side")
    project.write("b.py", source("side"))
    project.commit("side")
    project.git("checkout", "--quiet", "main")
    project.write("b.py", source("main"))
    project.commit("main")
    subprocess.run(["git", "merge", "side"], cwd=project.root, capture_output=True)

    with ready.client() as client:
        answer = update(client, "a", "two")

    assert "a merge is under way: no edits over the API" in told(ready.project.root)
    assert answer.status_code == 409 and "a merge is under way" in answer.json()["detail"]


def test_a_hook_that_refuses_is_told_with_its_words(ready: Server) -> None:
    hook = ready.project.root / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'functions need a docstring'; exit 1\n")
    hook.chmod(0o755)

    with ready.client() as client:
        answer = update(client, "a", "two")

        assert answer.status_code == 400 and "functions need a docstring" in answer.json()["detail"]
        assert say(client, "a") == "one"
    assert ready.project.git("status", "--porcelain", "functions") == ""


# ---- many at once ----------------------------------------------------------------------------------------


def test_two_hundred_edits_at_once_are_all_in_history_or_refused(ready: Server) -> None:
    project = ready.project
    with ready.client() as client:
        ids = ["a", *(f"f{number}" for number in range(7))]
        for id in ids[1:]:
            create(client, id)
        versions = {id: client.get(f"{API}/id/{id}").json()["version_id"] for id in ids}
    before = int(project.git("rev-list", "--count", "HEAD"))

    def edit(number: int) -> tuple[str, str, bool, httpx.Response]:
        id, text = ids[number % len(ids)], f"edit {number}"
        based = number % 3 == 0
        with ready.client() as mine:
            mine.timeout = httpx.Timeout(120)
            more = {"version_id": versions[id]} if based else {}
            return id, text, based, update(mine, id, text, commit_message=text, **more)

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        done = list(pool.map(edit, range(200)))

    accepted = [(id, text, answer) for id, text, _, answer in done if answer.status_code == 200]
    refused = [(based, answer) for _, _, based, answer in done if answer.status_code != 200]
    assert len(accepted) + len(refused) == 200 and accepted
    assert {answer.status_code for _, answer in refused} <= {409}, [a.text for _, a in refused if a.status_code != 409]
    assert all(based for based, _ in refused), "an edit that was based on nothing was refused"
    for id, text, answer in accepted:
        commit = answer.headers["x-fnsync-commit"]
        assert project.git("show", f"{commit}:functions/{id}.py") == source(text).strip()
        assert project.git("log", "-1", "--format=%s", commit) == text
    assert int(project.git("rev-list", "--count", "HEAD")) - before == len(accepted)
    assert project.git("status", "--porcelain", "functions") == ""
    last = {id: project.git("log", "-1", "--format=%s", "--", f"functions/{id}.py") for id in ids}
    with ready.client() as client:
        assert {id: client.get(f"{API}/id/{id}").json()["content"] for id in ids} == {
            id: source(text) for id, text in last.items()
        }
        assert say(client, "a") == last["a"]


def test_edits_race_checkouts_and_pulls_and_none_is_missing(
    project: Project, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    for number in range(6):
        project.write(f"f{number}.py", source("first"))
    project.commit("first")
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(project.root), str(bare)], check=True)
    project.git("remote", "add", "origin", str(bare))
    project.git("config", "pull.rebase", "false")
    project.git("branch", "side")
    other = Project.__new__(Project)
    other.root, other.functions = tmp_path / "other", tmp_path / "other/functions"
    subprocess.run(["git", "clone", "--quiet", str(bare), str(other.root)], check=True)
    for key, value in (("user.name", "Bob"), ("user.email", "bob@example.org")):
        other.git("config", key, value)
    server = start_server(project)
    stop = threading.Event()

    def disturb() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            other.write("f5.py", source(f"pulled {number}"))
            other.commit(f"pulled {number}")
            other.git("push", "--quiet")
            # A checkout that found the lock taken leaves the pull on the other branch, where it may conflict.
            for command in ("checkout side", "checkout main", "pull --no-edit origin main", "merge --abort"):
                subprocess.run(["git", *command.split()], cwd=project.root, capture_output=True)

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    accepted = []
    refused = []
    try:
        with server.client() as client:
            for number in range(60):
                id = f"f{number % 4}"
                answer = update(client, id, f"edit {number}", commit_message=f"edit {number}")
                (accepted if answer.status_code == 200 else refused).append((id, number, answer))
    finally:
        stop.set()
        disturbing.join()

    assert len(accepted) >= 20, [answer.text for _, _, answer in refused]
    assert {answer.status_code for _, _, answer in refused} <= {409, 503}
    everything = project.git("log", "--all", "--format=%H").split()
    for id, number, answer in accepted:
        commit = answer.headers["x-fnsync-commit"]
        assert commit in everything
        assert project.git("show", f"{commit}:functions/{id}.py") == source(f"edit {number}").strip()
        assert project.git("show", "--format=", "--name-only", commit) == f"functions/{id}.py"


# ---- crashes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["begun", "prepared", "written", "committed", "ended"])
def test_after_a_kill_the_edit_is_whole_committed_and_served(
    project: Project, start_server: Callable[..., Server], step: str
) -> None:
    project.write("a.py", source("one"))
    project.write("a.yaml", "active: true\n")
    project.commit("first")
    project.write("mine.py", source("staged"))
    project.git("add", "functions/mine.py")
    server = start_server(project, program=("-m", "tests.crashing", step))
    with server.client() as client, pytest.raises(httpx.TransportError):
        update(client, "a", "two", name="Another name")
    assert server.process.wait(10) == -signal.SIGKILL

    again = start_server(project)

    with again.client() as client:
        assert say(client, "a") == "two"
        row = client.get(f"{API}/id/a").json()
        assert (row["name"], row["content"], row["version_id"]) == (
            "Another name",
            source("two"),
            project.git("rev-parse", "HEAD"),
        )
    assert project.git("log", "--format=%an|%s").splitlines() == ["Admin|Update a", "Ada|first"]
    assert project.git("status", "--porcelain", "functions") == "A  functions/mine.py"
    assert not (project.root / ".git/index.lock").exists()
    recovered = again.status()["recovered"]
    assert [found["outcome"] for found in recovered] == {"ended": [], "committed": ["kept"]}.get(step, ["completed"])
    shown = told(project.root)
    line = {"ended": None, "committed": "interrupted edit was committed already"}.get(
        step, "interrupted edit completed"
    )
    assert (f"{line}: Update a (functions/a.py, functions/a.yaml)" in shown) == (line is not None)


def test_after_a_kill_a_file_that_somebody_changed_stays_and_the_status_says_where_the_edit_is(
    project: Project, start_server: Callable[..., Server]
) -> None:
    project.write("a.py", source("one"))
    project.commit("first")
    server = start_server(project, program=("-m", "tests.crashing", "written"))
    with server.client() as client, pytest.raises(httpx.TransportError):
        update(client, "a", "two")
    assert server.process.wait(10) == -signal.SIGKILL
    project.write("a.py", source("three"))

    again = start_server(project)

    with again.client() as client:
        assert say(client, "a") == "three"
    assert [found["outcome"] for found in again.status()["recovered"]] == ["unfinished"]
    shown = told(project.root)
    assert "an edit was interrupted and is not completed: Update a" in shown
    assert "functions/a.py changed since" in shown
    (folder,) = (project.root / ".fnsync/edits").iterdir()
    assert str(folder.relative_to(project.root)) in shown
    assert (folder / "files/functions/a.py").read_text() == source("two")


# ---- where edits go --------------------------------------------------------------------------------------


def test_where_writes_are_denied_the_answer_says_why(project: Project, start_server: Callable[..., Server]) -> None:
    project.configure("repository: {write: deny}")
    project.write("a.py", source("one"))
    project.commit("first")
    server = start_server(project)

    with server.client() as client:
        answers = [update(client, "a", "two"), client.post(f"{API}/id/a/toggle"), client.delete("/api/functions/a")]

    assert {answer.status_code for answer in answers} == {409}
    assert "through git" in answers[0].json()["detail"]
    assert "edits over the API: refused (repository.write: deny)" in told(project.root)
    assert project.git("rev-list", "--count", "HEAD") == "1"


def test_with_branches_an_edit_is_pushed_for_review(
    project: Project, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    project.configure("repository: {write: branch}")
    project.write("a.py", source("one"))
    project.commit("first")
    bare = tmp_path / "github.com" / "acme.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    project.git("remote", "add", "origin", "https://github.com/acme/functions.git")
    project.git("config", f"url.{bare}.pushInsteadOf", "https://github.com/acme/functions.git")
    server = start_server(project)

    with server.client() as client:
        answer = update(client, "a", "two", commit_message="Say two")
        broken = client.post(f"{API}/id/a/update", json={**form("a", "x"), "content": "class Pipe:"})
        pipeline = b"class Pipeline:\n    def pipe(self, **given):\n        return 'x'\n"
        uploaded = client.post("/pipelines/upload", files={"file": ("p.py", pipeline)})
        assert say(client, "a") == "one"

    assert (uploaded.status_code, uploaded.json()["pushed"]) == (202, True)
    assert answer.status_code == 202 and broken.status_code == 400
    told = answer.json()
    assert told["branch"] == f"fnsync/a-{told['commit'][:8]}" and told["pushed"] is True
    done = subprocess.run(["git", "rev-parse", told["branch"]], cwd=bare, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == told["commit"]
    assert project.git("status", "--porcelain", "functions") == ""
    assert (project.functions / "a.py").read_text() == source("one")


# ---- disks -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
@pytest.mark.parametrize("data", ["elsewhere", "disk"])
def test_on_a_disk_that_is_read_only_or_full_edits_are_refused_and_calls_answered(tmp_path: Path, data: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted: {mounted.stderr.decode()}")
    server = None
    try:
        project = Project(disk / "project")
        project.write("a.py", source("one"))
        project.commit("first")
        project.configure(f"data: {tmp_path / data / 'data'}")
        server = Server(project, data=tmp_path / data / "data", log=tmp_path / "server.log").wait_ready()
        with server.client() as client:
            with (disk / "filler").open("wb", buffering=0) as file, pytest.raises(OSError):
                while True:
                    file.write(bytes(4096))
            full = update(client, "a", "two")
            assert say(client, "a") == "one"
            (disk / "filler").unlink()
            assert full.status_code == 503 and ("No space left" in full.text or "diskspace" in full.text), full.text
            if data == "elsewhere":  # else what the server keeps open holds the disk as it is
                subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
                fixed = update(client, "a", "two")
                subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
                assert fixed.status_code == 503 and "Read-only" in fixed.text
            assert update(client, "a", "two").status_code == 200
    finally:
        if server is not None:
            server.stop()
        subprocess.run(["umount", "--lazy", str(disk)], check=False)
