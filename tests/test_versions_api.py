"""Versions over HTTP: listed, shown, compared, gone back to; and edits that name the one they are based on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from tests.conftest import Project, Server, wait_for
from tests.test_functions_api import form, say, source

API = "/api/v1/functions"


def history(client: httpx.Client, id: str, **query: Any) -> list[dict[str, Any]]:
    answer = client.get(f"{API}/id/{id}/history", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json())


def update(client: httpx.Client, id: str, answer: str, **more: Any) -> dict[str, Any]:
    done = client.post(f"{API}/id/{id}/update", json=form(id, answer, **more))
    assert done.status_code == 200, done.text
    return dict(done.json())


def back(client: httpx.Client, id: str, version: str, **more: Any) -> httpx.Response:
    return client.post(f"{API}/id/{id}/update/version", json={"version_id": version}, **more)


# ---- the list --------------------------------------------------------------------------------------------


def test_the_list_is_what_git_tells_whoever_made_the_commit(server: Server, client: httpx.Client, fn: str) -> None:
    project = server.project
    client.post(f"{API}/create", json=form(fn, "one", commit_message="A greeter\n\nIt greets."))
    project.write(f"{fn}.py", source("two"))
    by_hand = project.commit("Greet twice")
    wait_for("the commit", lambda: client.get(f"{API}/id/{fn}").json()["version_id"] == by_hand)
    last = update(client, fn, "three")["version_id"]

    found = history(client, fn)

    assert [entry["id"] for entry in found] == project.git("log", "--format=%H", "--", f"functions/{fn}*").split()
    assert [entry["id"] for entry in found[:2]] == [last, by_hand]
    assert [entry["commit_message"] for entry in found] == [None, "Greet twice", "A greeter\n\nIt greets."]
    assert [entry["parent_id"] for entry in found] == [by_hand, found[2]["id"], None]
    assert found[1]["user_id"] == project.git("log", "-1", "--format=%ae", by_hand).strip()
    assert found[1]["user"] == {"name": project.git("log", "-1", "--format=%an", by_hand).strip()}
    assert {entry["function_id"] for entry in found} == {fn}


def test_the_author_of_a_commit_is_the_user_with_that_address(server: Server, client: httpx.Client, fn: str) -> None:
    project = server.project
    server.add_token("user", "ada@example.org", "Ada L.")
    project.write(f"{fn}.py", source("one"))
    project.git("add", ".")
    project.git("commit", "-q", "-m", "By hand", "--author", "Ada <Ada@example.org>")
    wait_for("it", lambda: client.get(f"{API}/id/{fn}").status_code == 200)

    (entry,) = history(client, fn)

    with server.state() as state:
        ada = state.user_by_email("ada@example.org")
    assert ada is not None
    assert (entry["user_id"], entry["user"]) == (ada.id, {"name": "Ada L."})


def test_a_page_has_twenty_versions(client: httpx.Client, fn: str) -> None:
    client.post(f"{API}/create", json=form(fn, "0"))
    made = [update(client, fn, str(number))["version_id"] for number in range(1, 23)]

    pages = [history(client, fn, page=page) for page in (1, 2, 3)]

    assert [len(page) for page in pages] == [20, 3, 0]
    assert [entry["id"] for page in pages for entry in page][:22] == made[::-1]
    assert pages[0][-1]["parent_id"] == pages[1][0]["id"]


def test_what_is_in_no_commit_has_no_versions(server: Server, client: httpx.Client, fn: str) -> None:
    server.add("fresh", source("one"))

    assert history(client, "fresh") == []
    assert client.get(f"{API}/id/fresh").json()["version_id"] is None


def test_history_follows_a_rename_and_goes_back_before_it(server: Server, client: httpx.Client, fn: str) -> None:
    project = server.project
    client.post(f"{API}/create", json=form(fn, fn))
    first = history(client, fn)[0]["id"]
    project.git("mv", f"functions/{fn}.py", f"functions/{fn}_new.py")
    project.git("mv", f"functions/{fn}.yaml", f"functions/{fn}_new.yaml")
    renamed = project.commit("Rename it")
    wait_for("the new name", lambda: client.get(f"{API}/id/{fn}_new").status_code == 200)
    update(client, f"{fn}_new", "two")

    assert [entry["id"] for entry in history(client, f"{fn}_new")[1:]] == [renamed, first]
    assert client.get(f"{API}/id/{fn}_new/history/{first}").json()["snapshot"]["content"] == source(fn)

    answer = back(client, f"{fn}_new", first)

    assert (answer.status_code, answer.json()["content"], answer.json()["id"]) == (200, source(fn), f"{fn}_new")
    assert not (project.functions / f"{fn}.py").exists()
    assert client.get(f"{API}/id/{fn}/history").status_code == 404


# ---- rollback --------------------------------------------------------------------------------------------


def test_a_rollback_is_a_new_commit_by_the_caller_and_serves_at_once(
    server: Server, client: httpx.Client, fn: str
) -> None:
    project = server.project
    client.post(f"{API}/create", json=form(fn, "one", meta={"description": "first"}))
    client.post(f"{API}/id/{fn}/toggle")
    first = history(client, fn)[0]["id"]
    second = update(client, fn, "two", name="Second", meta={"description": "second"})["version_id"]
    client.post(f"{API}/id/{fn}/valves/update", json={})

    answer = back(client, fn, first[:9])

    row = answer.json()
    assert say(client, fn) == "one"
    assert (row["name"], row["meta"]["description"], row["is_active"]) == (fn.title(), "first", True)
    assert row["version_id"] == answer.headers["x-fnsync-commit"] == project.git("rev-parse", "HEAD").strip()
    assert [entry["id"] for entry in history(client, fn)] == [row["version_id"], second, first]
    assert history(client, fn)[0]["commit_message"] == f"Roll {fn} back to {first[:12]}"
    assert project.git("status", "--porcelain", f"functions/{fn}*") == ""
    assert project.git("log", "-1", "--format=%an").strip() == "Admin"


def test_a_rollback_takes_a_message_and_does_nothing_when_nothing_differs(
    server: Server, client: httpx.Client, fn: str
) -> None:
    project = server.project
    client.post(f"{API}/create", json=form(fn, "one"))
    first = history(client, fn)[0]["id"]
    update(client, fn, "two")

    body = {"version_id": first, "commit_message": "Two was wrong"}
    assert client.post(f"{API}/id/{fn}/update/version", json=body).status_code == 200
    head = project.git("rev-parse", "HEAD")
    assert project.git("log", "-1", "--format=%s").strip() == "Two was wrong"

    again = back(client, fn, first)
    assert (again.status_code, "x-fnsync-commit" in again.headers) == (200, False)
    assert project.git("rev-parse", "HEAD") == head


FOLDER = "from . import words\n\nclass Pipe:\n    def pipe(self, body):\n        return words.WORD\n"


def test_a_rollback_of_a_folder_brings_helpers_back_and_leaves_the_rest_alone(
    server: Server, client: httpx.Client, fn: str
) -> None:
    project = server.project
    project.write(f"{fn}/main.py", FOLDER)
    project.write(f"{fn}/words.py", "WORD = 'one'\n")
    project.write(f"{fn}/data/list.txt", "a\n")
    project.write(f"{fn}/main.yaml", "# ours\nactive: true\n")
    first = project.commit("first")
    project.write(f"{fn}/words.py", "WORD = 'two'\n")
    project.write(f"{fn}/more.py", "MORE = 1\n")
    project.remove(f"{fn}/data/list.txt")
    project.write(f"{fn}/main.yaml", "# ours\nactive: true\nlimits: {timeout: 20s}\n")
    project.write(f"{fn}_other.py", source("other"))
    project.commit("second")
    wait_for("the second", lambda: say(client, fn) == "two")

    answer = back(client, fn, first)

    assert answer.status_code == 200, answer.text
    assert say(client, fn) == "one"
    assert not (project.functions / f"{fn}/more.py").exists()
    assert (project.functions / f"{fn}/data/list.txt").read_text() == "a\n"
    assert (project.functions / f"{fn}/main.yaml").read_text().endswith("limits: {timeout: 20s}\n")
    assert (project.functions / f"{fn}_other.py").exists()
    assert project.git("status", "--porcelain", f"functions/{fn}*") == ""


def test_a_version_that_does_not_load_any_more_is_refused(server: Server, client: httpx.Client, fn: str) -> None:
    project = server.project
    project.write("_rolled.py", "WORD = 'one'\n")
    project.write(f"{fn}.py", "import _rolled\n" + source("x").replace("'x'", "_rolled.WORD"))
    first = project.commit("first")
    project.write(f"{fn}.py", source("two"))
    project.remove("_rolled.py")
    project.commit("second")
    wait_for("the second", lambda: say(client, fn) == "two")
    head = project.git("rev-parse", "HEAD")

    answer = back(client, fn, first)

    assert answer.status_code == 400
    assert f"{fn}.py:1" in answer.json()["detail"] and "_rolled" in answer.json()["detail"]
    assert say(client, fn) == "two"
    assert (project.git("rev-parse", "HEAD"), project.git("status", "--porcelain", f"functions/{fn}*")) == (head, "")


def test_a_folder_that_became_a_file_says_where_to_move_it(server: Server, client: httpx.Client, fn: str) -> None:
    project = server.project
    project.write(f"{fn}/main.py", FOLDER)
    project.write(f"{fn}/words.py", "WORD = 'one'\n")
    first = project.commit("first")
    project.git("mv", f"functions/{fn}/main.py", f"functions/{fn}.py")
    project.git("rm", "-q", f"functions/{fn}/words.py")
    project.commit("One file")
    project.write(f"{fn}.py", source("two"))
    project.commit("second")
    wait_for("the second", lambda: say(client, fn) == "two")

    answer = back(client, fn, first)

    assert answer.status_code == 409
    assert f"{fn}/main.py" in answer.json()["hint"]


def test_versions_of_others_and_what_is_no_version_are_404(client: httpx.Client, fn: str) -> None:
    client.post(f"{API}/create", json=form(fn, "one"))
    client.post(f"{API}/create", json=form(f"{fn}_2", "other"))
    (other,) = history(client, f"{fn}_2")

    for version in (other["id"], "0" * 40, "HEAD", "main", "-1", "abc", "x" * 60, "%2e%2e"):
        assert client.get(f"{API}/id/{fn}/history/{version}").status_code == 404, version
        assert back(client, fn, version).status_code == 404, version
    assert client.get(f"{API}/id/nobody/history").status_code == 404


def test_with_writing_denied_versions_are_there_and_rollback_says_why_not(
    start_server: Callable[..., Server], project: Project
) -> None:
    project.configure("repository: {write: deny}\n")
    project.write("a.py", source("one"))
    first = project.commit("first")
    server = start_server(project)
    with server.client() as client:
        assert [entry["id"] for entry in history(client, "a")] == [first]
        answer = back(client, "a", first)
    assert (answer.status_code, "repository.write: deny" in answer.json()["detail"]) == (409, True)


# ---- the version an edit is based on ---------------------------------------------------------------------


def test_an_edit_may_name_any_version_that_is_still_what_is_there(client: httpx.Client, fn: str) -> None:
    client.post(f"{API}/create", json=form(fn, "one"))
    first = history(client, fn)[0]["id"]
    client.post(f"{API}/id/{fn}/toggle")
    update(client, fn, "two", version_id=first)

    for named in (first, first[:8], "0" * 40, "no version", ""):
        stale = client.post(f"{API}/id/{fn}/update", json=form(fn, "three"), headers={"If-Match": named})
        assert stale.status_code == 409, named
        assert stale.json()["detail"].startswith(f"{fn} is not at {named!r} any more")

    assert history(client, fn)[0]["parent_id"] == first


def test_an_edit_based_on_what_was_changed_since_but_not_committed_says_what_to_do(
    server: Server, client: httpx.Client, fn: str
) -> None:
    project = server.project
    client.post(f"{API}/create", json=form(fn, "one"))
    version = history(client, fn)[0]["id"]
    project.write(f"{fn}.py", source("by hand"))
    wait_for("it", lambda: client.get(f"{API}/id/{fn}").json()["content"] == source("by hand"))

    answer = client.post(f"{API}/id/{fn}/update", json=form(fn, "two", version_id=version))

    assert answer.status_code == 409
    assert f"{fn}.py holds changes" in answer.json()["detail"]
    revision = answer.json()["hint"].rpartition(" ")[2]
    done = client.post(f"{API}/id/{fn}/update", json=form(fn, "two"), headers={"If-Match": revision})
    assert done.status_code == 200, done.text
    assert [entry["id"] for entry in history(client, fn)][2] == version
    assert client.get(f"{API}/id/{fn}/history/HEAD").status_code == 404
    kept = history(client, fn)[1]["id"]
    snapshot = client.get(f"{API}/id/{fn}/history/{kept}").json()["snapshot"]
    assert snapshot["content"] == source("by hand")


def test_the_diff_names_what_differs(server: Server, client: httpx.Client, fn: str) -> None:
    project = server.project
    project.write(f"{fn}/main.py", FOLDER)
    project.write(f"{fn}/words.py", "WORD = 'one'\n")
    first = project.commit("first")
    project.write(f"{fn}/words.py", "WORD = 'two'\n")
    second = project.commit("second")
    wait_for("it", lambda: say(client, fn) == "two")

    answer = client.get(f"{API}/id/{fn}/history/diff", params={"from_id": first[:10], "to_id": second}).json()

    assert (answer["from_id"], answer["to_id"], answer["metadata"]) == (first, second, {})
    assert answer["content_diff"].splitlines()[:2] == ["--- words.py", "+++ words.py"]
    assert "-WORD = 'one'\n+WORD = 'two'" in answer["content_diff"]


def test_whose_own_function_it_is_sees_and_makes_its_history(
    start_server: Callable[..., Server], project: Project
) -> None:
    project.configure("auth: {user_functions: true}\n")
    server = start_server(project)
    tokens = [server.add_token("user", f"{name}@example.org", name) for name in ("ada", "bob")]
    with server.client(tokens[0]) as ada, server.client(tokens[1]) as bob:
        ada.post(f"{API}/create", json=form("mine", "one"))
        first = history(ada, "mine")[0]
        update(ada, "mine", "two")

        assert back(ada, "mine", first["id"]).status_code == 200
        assert first["user"] == {"name": "ada"}
        assert bob.get(f"{API}/id/mine/history").status_code == 404
        assert back(bob, "mine", first["id"]).status_code == 404
