"""Versions over HTTP: listed, shown, compared, gone back to; and edits that name the one they are based on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import Project, Server, wait_for
from tests.test_functions_api import form, say, source

API = "/api/v1/functions"


@pytest.fixture
def own(start_server: Callable[..., Server], project: Project) -> Server:
    """A server of its own."""
    return start_server(project)


@pytest.fixture
def client(own: Server) -> Iterator[httpx.Client]:
    """An admin's."""
    with own.client() as client:
        yield client


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


def test_the_list_is_what_git_tells_whoever_made_the_commit(own: Server, client: httpx.Client) -> None:
    project = own.project
    client.post(f"{API}/create", json=form("greeter", "one", commit_message="A greeter\n\nIt greets."))
    project.write("greeter.py", source("two"))
    by_hand = project.commit("Greet twice")
    wait_for("the commit", lambda: client.get(f"{API}/id/greeter").json()["version_id"] == by_hand)
    last = update(client, "greeter", "three")["version_id"]

    found = history(client, "greeter")

    assert [entry["id"] for entry in found] == project.git("log", "--format=%H").split()
    assert [entry["id"] for entry in found[:2]] == [last, by_hand]
    assert [entry["commit_message"] for entry in found] == [None, "Greet twice", "A greeter\n\nIt greets."]
    assert [entry["parent_id"] for entry in found] == [by_hand, found[2]["id"], None]
    assert found[1]["user_id"] == project.git("log", "-1", "--format=%ae", by_hand).strip()
    assert found[1]["user"] == {"name": project.git("log", "-1", "--format=%an", by_hand).strip()}
    assert {entry["function_id"] for entry in found} == {"greeter"}


def test_the_author_of_a_commit_is_the_user_with_that_address(own: Server, client: httpx.Client) -> None:
    project = own.project
    own.add_token("user", "ada@example.org", "Ada L.")
    project.write("greeter.py", source("one"))
    project.git("add", ".")
    project.git("commit", "-q", "-m", "By hand", "--author", "Ada <Ada@example.org>")
    wait_for("it", lambda: client.get(f"{API}/id/greeter").status_code == 200)

    (entry,) = history(client, "greeter")

    with own.state() as state:
        ada = state.user_by_email("ada@example.org")
    assert ada is not None
    assert (entry["user_id"], entry["user"]) == (ada.id, {"name": "Ada L."})


def test_a_page_has_twenty_versions(client: httpx.Client) -> None:
    client.post(f"{API}/create", json=form("greeter", "0"))
    made = [update(client, "greeter", str(number))["version_id"] for number in range(1, 23)]

    pages = [history(client, "greeter", page=page) for page in (1, 2, 3)]

    assert [len(page) for page in pages] == [20, 3, 0]
    assert [entry["id"] for page in pages for entry in page][:22] == made[::-1]
    assert pages[0][-1]["parent_id"] == pages[1][0]["id"]


def test_what_is_in_no_commit_has_no_versions(own: Server, client: httpx.Client) -> None:
    own.add("fresh", source("one"))

    assert history(client, "fresh") == []
    assert client.get(f"{API}/id/fresh").json()["version_id"] is None


def test_history_follows_a_rename_and_goes_back_before_it(own: Server, client: httpx.Client) -> None:
    project = own.project
    client.post(f"{API}/create", json=form("greeter", "one"))
    first = history(client, "greeter")[0]["id"]
    project.git("mv", "functions/greeter.py", "functions/welcome.py")
    project.git("mv", "functions/greeter.yaml", "functions/welcome.yaml")
    renamed = project.commit("Rename it")
    wait_for("the new name", lambda: client.get(f"{API}/id/welcome").status_code == 200)
    update(client, "welcome", "two")

    assert [entry["id"] for entry in history(client, "welcome")[1:]] == [renamed, first]
    assert client.get(f"{API}/id/welcome/history/{first}").json()["snapshot"]["content"] == source("one")

    answer = back(client, "welcome", first)

    assert (answer.status_code, answer.json()["content"], answer.json()["id"]) == (200, source("one"), "welcome")
    assert not (project.functions / "greeter.py").exists()
    assert client.get(f"{API}/id/greeter/history").status_code == 404


# ---- rollback --------------------------------------------------------------------------------------------


def test_a_rollback_is_a_new_commit_by_the_caller_and_serves_at_once(own: Server, client: httpx.Client) -> None:
    project = own.project
    client.post(f"{API}/create", json=form("greeter", "one", meta={"description": "first"}))
    client.post(f"{API}/id/greeter/toggle")
    first = history(client, "greeter")[0]["id"]
    second = update(client, "greeter", "two", name="Second", meta={"description": "second"})["version_id"]
    client.post(f"{API}/id/greeter/valves/update", json={})

    answer = back(client, "greeter", first[:9])

    row = answer.json()
    assert say(client, "greeter") == "one"
    assert (row["name"], row["meta"]["description"], row["is_active"]) == ("Greeter", "first", True)
    assert row["version_id"] == answer.headers["x-fnsync-commit"] == project.git("rev-parse", "HEAD").strip()
    assert [entry["id"] for entry in history(client, "greeter")] == [row["version_id"], second, first]
    assert history(client, "greeter")[0]["commit_message"] == f"Roll greeter back to {first[:12]}"
    assert project.git("status", "--porcelain", "functions") == ""
    assert project.git("log", "-1", "--format=%an").strip() == "Admin"


def test_a_rollback_takes_a_message_and_does_nothing_when_nothing_differs(own: Server, client: httpx.Client) -> None:
    project = own.project
    client.post(f"{API}/create", json=form("greeter", "one"))
    first = history(client, "greeter")[0]["id"]
    update(client, "greeter", "two")

    body = {"version_id": first, "commit_message": "Two was wrong"}
    assert client.post(f"{API}/id/greeter/update/version", json=body).status_code == 200
    head = project.git("rev-parse", "HEAD")
    assert project.git("log", "-1", "--format=%s").strip() == "Two was wrong"

    again = back(client, "greeter", first)
    assert (again.status_code, "x-fnsync-commit" in again.headers) == (200, False)
    assert project.git("rev-parse", "HEAD") == head


FOLDER = "from greeter import words\n\nclass Pipe:\n    def pipe(self, body):\n        return words.WORD\n"


def test_a_rollback_of_a_folder_brings_helpers_back_and_leaves_the_rest_alone(
    own: Server, client: httpx.Client
) -> None:
    project = own.project
    project.write("greeter/main.py", FOLDER.replace("from greeter ", "from . "))
    project.write("greeter/words.py", "WORD = 'one'\n")
    project.write("greeter/data/list.txt", "a\n")
    project.write("greeter/main.yaml", "# ours\nactive: true\n")
    first = project.commit("first")
    project.write("greeter/words.py", "WORD = 'two'\n")
    project.write("greeter/more.py", "MORE = 1\n")
    project.remove("greeter/data/list.txt")
    project.write("greeter/main.yaml", "# ours\nactive: true\nlimits: {timeout: 20s}\n")
    project.write("other.py", source("other"))
    project.commit("second")
    wait_for("the second", lambda: say(client, "greeter") == "two")

    answer = back(client, "greeter", first)

    assert answer.status_code == 200, answer.text
    assert say(client, "greeter") == "one"
    assert not (project.functions / "greeter/more.py").exists()
    assert (project.functions / "greeter/data/list.txt").read_text() == "a\n"
    assert (project.functions / "greeter/main.yaml").read_text().endswith("limits: {timeout: 20s}\n")
    assert (project.functions / "other.py").exists()
    assert project.git("status", "--porcelain", "functions") == ""


def test_a_version_that_does_not_load_any_more_is_refused(own: Server, client: httpx.Client) -> None:
    project = own.project
    project.write("_shared.py", "WORD = 'one'\n")
    project.write("greeter.py", "import _shared\n" + source("x").replace("'x'", "_shared.WORD"))
    first = project.commit("first")
    project.write("greeter.py", source("two"))
    project.remove("_shared.py")
    project.commit("second")
    wait_for("the second", lambda: say(client, "greeter") == "two")
    head = project.git("rev-parse", "HEAD")

    answer = back(client, "greeter", first)

    assert answer.status_code == 400
    assert "greeter.py:1" in answer.json()["detail"] and "_shared" in answer.json()["detail"]
    assert say(client, "greeter") == "two"
    assert (project.git("rev-parse", "HEAD"), project.git("status", "--porcelain", "functions")) == (head, "")


def test_a_folder_that_became_a_file_says_where_to_move_it(own: Server, client: httpx.Client) -> None:
    project = own.project
    project.write("greeter/main.py", FOLDER.replace("from greeter ", "from . "))
    project.write("greeter/words.py", "WORD = 'one'\n")
    first = project.commit("first")
    project.git("mv", "functions/greeter/main.py", "functions/greeter.py")
    project.git("rm", "-q", "functions/greeter/words.py")
    project.commit("One file")
    project.write("greeter.py", source("two"))
    project.commit("second")
    wait_for("the second", lambda: say(client, "greeter") == "two")

    answer = back(client, "greeter", first)

    assert answer.status_code == 409
    assert "greeter/main.py" in answer.json()["hint"]


def test_versions_of_others_and_what_is_no_version_are_404(client: httpx.Client) -> None:
    client.post(f"{API}/create", json=form("greeter", "one"))
    client.post(f"{API}/create", json=form("other", "other"))
    (other,) = history(client, "other")

    for version in (other["id"], "0" * 40, "HEAD", "main", "-1", "abc", "x" * 60, "%2e%2e"):
        assert client.get(f"{API}/id/greeter/history/{version}").status_code == 404, version
        assert back(client, "greeter", version).status_code == 404, version
    assert client.get(f"{API}/id/nobody/history").status_code == 404


def test_with_writing_denied_versions_are_there_and_rollback_says_why_not(
    start_server: Callable[..., Server], project: Project
) -> None:
    project.configure("repository: {write: deny}\n")
    project.write("greeter.py", source("one"))
    first = project.commit("first")
    server = start_server(project)
    with server.client() as client:
        assert [entry["id"] for entry in history(client, "greeter")] == [first]
        answer = back(client, "greeter", first)
    assert (answer.status_code, "repository.write: deny" in answer.json()["detail"]) == (409, True)


# ---- the version an edit is based on ---------------------------------------------------------------------


def test_an_edit_may_name_any_version_that_is_still_what_is_there(client: httpx.Client) -> None:
    client.post(f"{API}/create", json=form("greeter", "one"))
    first = history(client, "greeter")[0]["id"]
    client.post(f"{API}/id/greeter/toggle")
    update(client, "greeter", "two", version_id=first)

    for named in (first, first[:8], "0" * 40, "no version", ""):
        stale = client.post(f"{API}/id/greeter/update", json=form("greeter", "three"), headers={"If-Match": named})
        assert stale.status_code == (200 if named == "" else 409), named
        if named:
            assert stale.json()["detail"].startswith(f"greeter is not at {named} any more")

    assert history(client, "greeter")[1]["parent_id"] == first


def test_an_edit_based_on_what_was_changed_since_but_not_committed_says_what_to_do(
    own: Server, client: httpx.Client
) -> None:
    project = own.project
    client.post(f"{API}/create", json=form("greeter", "one"))
    version = history(client, "greeter")[0]["id"]
    project.write("greeter.py", source("by hand"))
    wait_for("it", lambda: client.get(f"{API}/id/greeter").json()["content"] == source("by hand"))

    answer = client.post(f"{API}/id/greeter/update", json=form("greeter", "two", version_id=version))

    assert answer.status_code == 409
    assert "greeter.py holds changes" in answer.json()["detail"]
    revision = answer.json()["hint"].rpartition(" ")[2]
    done = client.post(f"{API}/id/greeter/update", json=form("greeter", "two"), headers={"If-Match": revision})
    assert done.status_code == 200, done.text
    assert [entry["id"] for entry in history(client, "greeter")][2] == version
    assert client.get(f"{API}/id/greeter/history/HEAD").status_code == 404
    kept = history(client, "greeter")[1]["id"]
    snapshot = client.get(f"{API}/id/greeter/history/{kept}").json()["snapshot"]
    assert snapshot["content"] == source("by hand")


def test_the_diff_names_what_differs(own: Server, client: httpx.Client) -> None:
    project = own.project
    project.write("greeter/main.py", FOLDER.replace("from greeter ", "from . "))
    project.write("greeter/words.py", "WORD = 'one'\n")
    first = project.commit("first")
    project.write("greeter/words.py", "WORD = 'two'\n")
    second = project.commit("second")
    wait_for("it", lambda: say(client, "greeter") == "two")

    answer = client.get(f"{API}/id/greeter/history/diff", params={"from_id": first[:10], "to_id": second}).json()

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
