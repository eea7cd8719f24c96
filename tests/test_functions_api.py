"""The Functions API beyond what was recorded: folders, owners, search, invoke, status, and the words of refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.anew import begin_anew
from tests.conftest import Project, Server, wait_for

API = "/api/functions"
CHAT = "/v1/chat/completions"


def source(answer: str) -> str:
    return f"class Pipe:\n    def pipe(self, body):\n        return {answer!r}\n"


def form(id: str, answer: str = "one", **more: Any) -> dict[str, Any]:
    return {"id": id, "name": id.title(), "content": source(answer), "meta": {}, **more}


def say(client: httpx.Client, id: str) -> str:
    answer = client.post(CHAT, json={"model": id, "messages": [{"role": "user", "content": "?"}]})
    return str(answer.json()["choices"][0]["message"]["content"]) if answer.status_code == 200 else answer.text


# ---- the REST forms --------------------------------------------------------------------------------------


def test_the_rest_forms_do_the_same(client: httpx.Client, fn: str) -> None:
    made = client.post(API, json=form(fn))
    changed = client.put(f"{API}/{fn}", json=form(fn, "two", name="Two"))
    found = client.get(f"{API}/{fn}")
    removed = client.delete(f"{API}/{fn}")

    assert [answer.status_code for answer in (made, changed, found, removed)] == [200] * 4
    assert found.json() == changed.json()
    assert (found.json()["name"], found.json()["content"]) == ("Two", source("two"))
    assert removed.json() is True
    assert client.get(f"{API}/{fn}").status_code == 404
    assert client.delete(f"{API}/{fn}").status_code == 404


def test_an_id_that_is_taken_is_409_before_the_content_is_looked_at(client: httpx.Client, fn: str) -> None:
    client.post(API, json=form(fn))

    answer = client.post(API, json={**form(fn), "content": "no python"})

    assert answer.status_code == 409 and fn in answer.json()["detail"]


@pytest.mark.parametrize("id", ["list", "search", "export", "create", "sync", "import", "load", "id"])
def test_a_function_that_is_called_what_an_address_is_can_be_changed_and_removed(client: httpx.Client, id: str) -> None:
    assert client.post(API, json=form(id)).status_code == 200

    changed = client.put(f"{API}/{id}", json=form(id, "two"))
    fixed = client.get(f"{API}/{id}", params={"q": "one"}).json()
    removed = client.delete(f"{API}/{id}")

    assert (changed.status_code, changed.json().get("content")) == (200, source("two"))
    assert isinstance(fixed, list) is (id in ("list", "search", "export"))
    assert (removed.status_code, removed.json()) == (200, True)
    assert client.get(f"{API}/id/{id}").status_code == 404


def test_a_method_that_neither_address_takes_is_405(client: httpx.Client) -> None:
    answer = client.post(f"{API}/list")

    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, PUT")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("class Pipe:\n    def pipe(self, body)\n        pass\n", ["{fn}.py:2:25: SyntaxError: expected ':'"]),
        ("x = 1\n", ["{fn}.py", "defines no Pipe", "found: no class"]),
        ("import surely_not_there_x\nclass Pipe: ...\n", ["{fn}.py:1", "ModuleNotFoundError", "surely_not_there_x"]),
        (
            "class Pipe:\n    def __init__(self):\n        raise ValueError('no way')\n",
            ["{fn}.py:3", "ValueError: no way"],
        ),
        ('"""\n---\ntitle: [\n---\n"""\nclass Pipe: ...\n', ["{fn}.py:4", "frontmatter"]),
        ("import os\nos._exit(3)\nclass Pipe: ...\n", ["{fn}.py", "exit"]),
        ('"""\nrequirements: --index-url x\n"""\nclass Pipe: ...\n', ["{fn}.py:2", "--index-url"]),
        ("", ["{fn}.py", "defines no Pipe"]),
    ],
)
def test_content_that_does_not_load_is_refused_with_the_cause_and_nothing_is_stored(
    server: Server, client: httpx.Client, fn: str, content: str, words: list[str]
) -> None:
    before = server.project.git("rev-parse", "--verify", "--quiet", "HEAD") if _has_head(server) else ""

    answer = client.post(API, json={**form(fn), "content": content})

    assert answer.status_code == 400
    for word in words:
        assert word.format(fn=fn) in answer.json()["detail"]
    assert not list(server.project.functions.glob(f"{fn}*"))
    assert client.get(f"{API}/{fn}").status_code == 404
    assert before == (server.project.git("rev-parse", "HEAD") if _has_head(server) else "")


def _has_head(server: Server) -> bool:
    return bool(server.project.git("rev-list", "--all", "--max-count=1"))


def test_an_admin_sees_the_traceback_of_a_source_that_does_not_load(client: httpx.Client, fn: str) -> None:
    content = "def helper():\n    raise ValueError('deep')\nclass Pipe:\n    def __init__(self):\n        helper()\n"

    answer = client.post(API, json={**form(fn), "content": content})

    assert [f"{fn}.py" in line for line in answer.json()["traceback"]] == [True, True]


def test_an_address_whose_host_is_no_name_is_refused(client: httpx.Client) -> None:
    answer = client.post(f"{API}/load/url", json={"url": "http://xn--a/x.py"})

    assert answer.status_code == 400 and "http://xn--a/x.py cannot be fetched" in answer.json()["detail"]


# ---- name and meta ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [256 * 1024 - 2, 300_000])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_name_or_meta_that_no_settings_file_can_hold_is_refused_by_its_name(
    client: httpx.Client, fn: str, method: str, size: int
) -> None:
    if method == "PUT":
        client.post(API, json=form(fn))
    at = API if method == "POST" else f"{API}/{fn}"

    for field, more in (
        ("name", {"name": "x" * size}),
        ("meta.description", {"meta": {"description": "x" * size}}),
        ("meta.tags", {"meta": {"tags": ["x" * size]}}),
    ):
        answer = client.request(method, at, json={**form(fn), **more})
        assert answer.status_code == 400 and answer.json()["detail"].startswith(f"{field}: too long")


def test_name_and_meta_are_written_only_where_the_frontmatter_says_otherwise(
    server: Server, client: httpx.Client, fn: str
) -> None:
    content = f'"""\ntitle: Title\ndescription: About\n"""\n{source("x")}'
    client.post(API, json={"id": fn, "name": "Title", "content": content, "meta": {"description": "About"}})
    settings = server.project.functions / f"{fn}.yaml"
    assert settings.read_text() == "active: false\n"

    row = client.put(f"{API}/{fn}", json={"name": "Other", "content": content, "meta": {"tags": ["a"]}}).json()

    assert settings.read_text() == "active: false\nname: Other\nmeta:\n  tags: [a]\n"
    assert row["name"] == "Other" and row["meta"]["tags"] == ["a"] and row["meta"]["description"] == "About"

    client.put(f"{API}/{fn}", json={"name": "Title", "content": content, "meta": {}})
    assert settings.read_text() == "active: false\n"


def test_a_hand_made_settings_file_keeps_what_is_in_it(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(fn, source("x"), "# ours\nlimits: {timeout: 7s}   # enough\n")
    server.project.commit(fn)

    client.post(f"{API}/id/{fn}/toggle")
    client.post(f"{API}/id/{fn}/toggle/global")

    text = (server.project.functions / f"{fn}.yaml").read_text()
    assert text == "# ours\nlimits: {timeout: 7s}   # enough\nactive: false\nglobal: true\n"


def test_a_settings_file_that_is_no_good_is_told_of_and_not_changed(
    server: Server, client: httpx.Client, fn: str
) -> None:
    server.add(fn, source("x"), "actve: true\n", status="failed")
    server.project.commit(fn)

    answer = client.post(f"{API}/id/{fn}/toggle")

    assert answer.status_code == 409
    assert f"{fn}.yaml:1:1" in answer.json()["detail"] and "did you mean active?" in answer.json()["detail"]


# ---- functions that are folders --------------------------------------------------------------------------


def test_a_folder_function_is_edited_and_removed_as_a_whole(server: Server, client: httpx.Client, fn: str) -> None:
    project = server.project
    project.write(f"{fn}/main.py", f"from words import WORD\n{source('x').replace(repr('x'), 'WORD')}")
    project.write(f"{fn}/words.py", "WORD = 'from beside'\n")
    server.settle(fn)
    project.commit(fn)

    edited = client.put(
        f"{API}/{fn}",
        json={
            "name": fn,
            "content": f"from words import WORD\n{source('x').replace(repr('x'), 'WORD * 2')}",
            "meta": {},
        },
    )
    assert edited.status_code == 200, edited.text
    assert say(client, fn) == "from besidefrom beside"

    assert client.delete(f"{API}/{fn}").status_code == 200
    assert not (project.functions / fn).exists()
    assert project.git("show", "--format=", "--name-status", "HEAD").split()[::2] == ["D", "D"]


def test_a_shared_module_is_there_when_an_edit_is_tried(server: Server, client: httpx.Client, fn: str) -> None:
    server.project.write(f"_{fn}.py", "WORD = 'shared'\n")

    made = client.post(
        API, json={**form(fn), "content": f"from _{fn} import WORD\n{source('x').replace(repr('x'), 'WORD')}"}
    )

    assert made.status_code == 200, made.text
    client.post(f"{API}/id/{fn}/toggle")
    assert say(client, fn) == "shared"


# ---- who sees and does what ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[bool], Server]]:
    """Two servers, started when first asked for: with functions of users' own, and without."""
    servers: dict[bool, Server] = {}

    def run(enabled: bool) -> Server:
        if enabled not in servers:
            project = Project(tmp_path_factory.mktemp("owned") / "project")
            project.configure(f"auth: {{user_functions: {str(enabled).lower()}}}")
            servers[enabled] = Server(project, environ={"DEEPL": "secret"})
        return servers[enabled] if servers[enabled].url else servers[enabled].wait_ready()

    yield run
    for server in servers.values():
        server.stop()


Anew = Callable[..., Server]


@pytest.fixture
def anew(running: Callable[[bool], Server], watched: Callable[[Server], Server]) -> Anew:
    """A server with these files, and with functions of users' own or without."""

    def begin(files: dict[str, str], enabled: bool = True) -> Server:
        server = watched(running(enabled))
        begin_anew(server, files)
        return server

    return begin


def test_users_manage_their_own_functions_alone(anew: Anew) -> None:
    server = anew({"all.py": source("for all")})
    ada, bob = (server.client(server.add_token("user", f"{name}@example.org")) for name in ("ada", "bob"))
    with ada, bob, server.client() as admin:
        made = ada.post(API, json=form("mine", "for me"))
        assert made.status_code == 200 and made.json()["is_global"] is False
        assert server.project.git("log", "-1", "--format=%ae") == "ada@example.org"
        assert ada.post(f"{API}/id/mine/toggle").status_code == 200
        assert [say(who, "mine") for who in (ada, admin)] == ["for me", "for me"]
        assert "does not exist" in say(bob, "mine")
        assert bob.get(f"{API}/id/mine").status_code == 404
        for call in ("toggle", "valves/update", "update", "invoke"):
            assert bob.post(f"{API}/id/mine/{call}", json=form("mine", "stolen")).status_code == 404, call
        assert bob.delete(f"{API}/mine").status_code == 404
        assert [row["id"] for row in bob.get(API).json()] == ["all"]
        asked = [(who, word) for who in (admin, ada, bob) for word in ("all", "mine", "return")]
        told = [[row["id"] for row in who.get(f"{API}/search", params={"q": word}).json()] for who, word in asked]
        assert told[:2] == [["all"], ["mine"]] and set(told[2]) == {"all", "mine"}, "admins search in sources"
        assert told[3:] == [["all"], ["mine"], [], ["all"], [], []]
        assert {row["id"] for row in ada.get(API).json()} == {"all", "mine"}
        assert bob.get(f"{API}/id/mine/valves/user").status_code == 404

        assert ada.put(f"{API}/mine", json=form("mine", "changed")).status_code == 200
        assert ada.post(f"{API}/id/mine/toggle/global").status_code == 401
        assert ada.put(f"{API}/all", json=form("all", "stolen")).status_code == 401
        assert ada.post(API, json=form("all")).status_code == 409

        assert admin.post(f"{API}/id/mine/toggle/global").status_code == 200
        assert say(bob, "mine") == "changed"
        assert bob.put(f"{API}/mine", json=form("mine", "stolen")).status_code == 401
        assert ada.delete(f"{API}/mine").status_code == 200


def test_owners_see_how_their_functions_stand_call_them_and_read_their_logs_and_nobody_elses(anew: Anew) -> None:
    server = anew({"all.py": source("for all")})
    ada, bob = (server.client(server.add_token("user", f"{name}@example.org")) for name in ("ada", "bob"))
    content = "class Pipe:\n    def pipe(self, body):\n        print('heard', body)\n"
    with ada, bob, server.client() as admin:
        ada.post(API, json={**form("mine"), "content": content})
        assert ada.post(f"{API}/id/mine/invoke", json={"body": 7}).status_code == 200

        def heard(who: httpx.Client) -> bool:
            return [line["text"] for line in who.get(f"{API}/id/mine/logs").json()["lines"]] == ["heard 7"]

        for who in (ada, admin):
            wait_for("what it printed", lambda who=who: heard(who))  # type: ignore[misc]
            assert who.get(f"{API}/id/mine/status").json()["id"] == "mine"
        for id, status in (("mine", 404), ("all", 401), ("none", 404)):
            asked = [bob.get(f"{API}/id/{id}/{what}") for what in ("status", "logs", "logs?follow=true")]
            called = bob.post(f"{API}/id/{id}/invoke", json={})
            assert [answer.status_code for answer in (*asked, called)] == [status] * 4, id


@pytest.mark.parametrize("path", ["sync", "import"])
@pytest.mark.parametrize("enabled", [True, False])
def test_functions_of_users_that_come_in_a_list_stay_theirs_alone(anew: Anew, path: str, enabled: bool) -> None:
    server = anew({}, enabled)
    project = server.project
    tokens = {role: server.add_token(role) for role in ("user", "admin", "pending")}
    service = server.add_token("user", "chat@example.org", ceiling="user")
    zoe = {"X-OpenWebUI-User-Id": "7f3c", "X-OpenWebUI-User-Role": "user"}
    with server.client() as admin, server.client(tokens["user"]) as ada, server.client(service) as chat:
        chat.get("/v1/models", headers=zoe)

        def users() -> dict[str, str]:
            return {user["email"]: user["id"] for user in admin.get("/api/users").json()["users"]}

        wait_for("Zoë", lambda: "7f3c" in users().values())
        ids = {email.partition("@")[0]: id for email, id in users().items()} | {"zoe": "7f3c", "unknown": "somebody"}
        known = {"type": "pipe", "updated_at": 1, "created_at": 1, "is_active": True}
        sent = [
            {**form(f"{who}_{kind}"), **known, "is_global": kind == "public", "user_id": ids[who]}
            for who in ("user", "zoe", "admin", "pending", "unknown")
            for kind in ("own", "public")
        ]

        assert admin.post(f"{API}/{path}", json={"functions": sent}).status_code == 200

        owners = {file.stem: yaml.safe_load(file.read_text()).get("owner") for file in project.functions.glob("*.yaml")}
        own = {"user_own": ids["user"], "zoe_own": "7f3c"} if enabled else {}
        assert owners == {one["id"]: own.get(one["id"]) for one in sent}
        if enabled:
            seen = {row["id"] for row in ada.get(API).json() if row["id"].endswith("_own")}
            assert seen == {"admin_own", "pending_own", "unknown_own", "user_own"}
            assert say(ada, "user_own") == "one" and "does not exist" in say(ada, "zoe_own")
            assert ada.put(f"{API}/user_own", json=form("user_own", "two")).status_code == 200
            for one in sent:
                one["user_id"] = "7f3c"
            assert admin.post(f"{API}/{path}", json={"functions": sent, "replace": True}).status_code == 200
            assert yaml.safe_load((project.functions / "user_own.yaml").read_text())["owner"] == ids["user"]


def test_an_export_of_what_cannot_be_read_is_taken_once_it_can(anew: Anew) -> None:
    """Nothing tells the type of such a function, so its export has none."""
    server = anew({})
    server.project.write("torn.py", "class Pipe:\n    def pipe(self body):\n")
    server.project.commit("torn")
    server.settle("torn", "failed")
    with server.client() as client:
        client.post(API, json=form("whole"))
        rows = {row["id"]: row for row in client.get(f"{API}/export").json()}
        assert rows["torn"]["type"] is None

        refused = client.post(f"{API}/sync", json={"functions": list(rows.values())})
        assert refused.status_code == 400 and "torn.py:2" in refused.json()["detail"], refused.text
        assert client.post(f"{API}/import", json={"functions": list(rows.values())}).status_code == 200

        rows["torn"]["content"] = source("mended")
        taken = client.post(f"{API}/sync", json={"functions": list(rows.values())})
        assert taken.status_code == 200 and {row["type"] for row in taken.json()} == {"pipe"}


def test_a_users_function_cannot_read_the_servers_environment(anew: Anew) -> None:
    server = anew({})
    content = "from pydantic import BaseModel\nclass Pipe:\n    class Valves(BaseModel):\n        key: str = ''\n"
    with server.client(server.add_token("user")) as ada:
        ada.post(API, json={**form("mine"), "content": content})

        answer = ada.post(f"{API}/id/mine/valves/update", json={"key": {"env": "DEEPL"}})

        assert answer.status_code == 401
        assert ada.post(f"{API}/id/mine/valves/update", json={"key": "own"}).json() == {"key": "own"}


def test_without_that_setting_only_admins_manage(user_client: httpx.Client) -> None:
    for method, path in (("POST", API), ("GET", f"{API}/x"), ("PUT", f"{API}/x"), ("POST", f"{API}/id/x/toggle")):
        assert user_client.request(method, path, json={}).status_code == 401


# ---- lists, search, status, invoke -----------------------------------------------------------------------


def test_search_finds_words_in_name_description_and_source(client: httpx.Client, fn: str) -> None:
    client.post(API, json={**form(fn), "name": f"Zebra {fn}", "meta": {"description": "gallops"}})

    for words in ("zebra", "gallops", "pipe gallo"):
        found = client.get(f"{API}/search", params={"q": words}).json()
        assert fn in [row["id"] for row in found], words
    assert client.get(f"{API}/search").status_code == 400
    assert client.get(f"{API}/search", params={"q": "zebra", "limit": 0}).status_code == 400


def test_status_tells_how_one_function_stands(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(fn, source("x"))

    entry = client.get(f"{API}/id/{fn}/status").json()

    assert (entry["id"], entry["status"], entry["path"]) == (fn, "ready", f"{fn}.py")


def test_any_handler_can_be_invoked(server: Server, client: httpx.Client, fn: str) -> None:
    server.add(
        fn,
        """
        class Filter:
            class UserValves(__import__("pydantic").BaseModel):
                tone: str = "plain"

            def inlet(self, body, __user__, __id__):
                return {**body, "user": __user__["email"], "tone": __user__["valves"].tone, "id": __id__}

            async def outlet(self, body):
                return None

            def stream(self, event):
                raise ValueError("no streams here")
        """,
    )
    client.post(f"{API}/id/{fn}/valves/user/update", json={"tone": "warm"})

    def invoke(**given: Any) -> httpx.Response:
        return client.post(f"{API}/id/{fn}/invoke", json=given)

    inlet = invoke(body={"a": 1})
    assert inlet.json() == {"a": 1, "user": "admin@localhost", "tone": "warm", "id": fn}
    assert inlet.headers["x-fnsync-function"] == fn
    assert invoke(handler="outlet", body={}).json() is None
    raised = invoke(handler="stream", body={})
    assert raised.status_code == 500 and raised.json()["detail"] == "ValueError: no streams here"
    unknown = invoke(handler="pipe", body={})
    assert unknown.status_code == 400 and "inlet, stream, outlet" in unknown.json()["detail"]


# ---- documents -------------------------------------------------------------------------------------------


def test_the_description_has_every_route_and_the_page_loads_nothing_from_elsewhere(server: Server) -> None:
    with httpx.Client(base_url=server.url) as anyone:
        document = anyone.get("/openapi.json").json()
        page = anyone.get("/docs")
        assert "://" not in page.text.replace("http://www.w3.org", "")
        for part in ("docs/swagger-ui.js", "docs/swagger-ui.css", "docs/page.js"):
            assert part in page.text and anyone.get(f"/{part}").status_code == 200
    assert document["openapi"] == "3.1.0"
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for path in ("/api/functions/sync", "/api/functions/id/{id}/update", "/v1/chat/completions", "/api/users"):
        assert path in document["paths"]
    update = document["paths"]["/api/functions/id/{id}/update"]["post"]
    assert {"200", "202", "400", "401", "404", "408", "409", "413", "503"} <= update["responses"].keys()
    assert "`stale_edit`" in update["responses"]["409"]["description"]
