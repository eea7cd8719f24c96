"""Pipelines as people use them: who may do what, whose user a pipeline is told of, and what edits come to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from fnsync.chat.pipelines import applies_to
from fnsync.model import (
    Frontmatter,
    FunctionId,
    Kind,
    Limits,
    LiveFunction,
    Manifest,
    PipelineFacts,
    Revision,
    Settings,
)
from tests.conftest import Project, Server, wait_for

SHOW = """
import json
class Pipeline:
    def __init__(self):
        self.name = "Show"
    def pipe(self, user_message, model_id, messages, body):
        return json.dumps(body)
    async def inlet(self, body, user):
        return {"user": user}
"""
EVENTS = """
class Pipeline:
    async def pipe(self, user_message, model_id, messages, body, __event_emitter__, __event_call__):
        await __event_emitter__({"type": "status", "data": {"description": "working"}})
        return str(await __event_call__({"type": "input", "data": {}}))
"""
MANIFOLD = """
class Pipeline:
    def __init__(self):
        self.type = "manifold"
        self.id = "many"
        self.name = "M: "
        self.pipelines = [{"id": "a/b", "name": "AB"}]
    def pipe(self, user_message, model_id, messages, body):
        return model_id
    async def inlet(self, body, user):
        return {**body, "seen": True}
    async def outlet(self, body, user):
        return "no body"
"""
TUNED = """
from pydantic import BaseModel
class Pipeline:
    class Valves(BaseModel):
        api_key: str = ""
        home: str = "none"
        number: int = 1
        pipelines: list[str] = []
        priority: int = 0
    def __init__(self):
        self.type = "filter"
        self.name = "Tuned"
        self.valves = self.Valves(pipelines=["show"], priority=5, home="made")
"""
ODD = "class Pipeline:\n    type = 'strange'\n"
PIPE = "class Pipe:\n    def pipe(self, body):\n        return 'pipe'\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = Project(tmp_path_factory.mktemp("pipelines") / "project")
    project.configure("auth: {user_functions: true}")
    for name, source in {
        "show": SHOW,
        "shown": EVENTS,
        "many_file": MANIFOLD,
        "tuned": TUNED,
        "odd": ODD,
        "plain": PIPE,
        "off": SHOW,
        "mine": SHOW,
    }.items():
        project.write(f"{name}.py", source)
    project.write("off.yaml", "active: false\n")
    project.write("mine.yaml", "access: {users: [root@example.org]}\n")
    project.write("tuned.yaml", "# kept\nname: Well tuned\nvalves:\n  home: {env: HOME}\n")
    project.commit("first")
    server = Server(project)
    try:
        yield server.wait_ready()
    finally:
        server.stop()


@pytest.fixture
def admin(served: Server) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


@pytest.fixture
def user(served: Server) -> Iterator[httpx.Client]:
    with served.client(served.add_token("user", name="Ulla")) as client:
        yield client


@pytest.fixture
def chat_server(served: Server) -> Iterator[httpx.Client]:
    """A chat server: an admin's service token, whose users are users at most."""
    with served.client(served.add_token("admin", email="chat@example.org", ceiling="user")) as client:
        yield client


def ask(client: httpx.Client, model: str, path: str = "/chat/completions", **more: Any) -> httpx.Response:
    body = {"model": model, "stream": False, "messages": [{"role": "user", "content": "hello"}], **more}
    return client.post(path, json=body)


def said(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def upload(client: httpx.Client, name: str, source: str) -> httpx.Response:
    return client.post("/pipelines/upload", files={"file": (name, source.encode())})


ADA = {"id": "u-1", "name": "Ada", "email": "ada@example.org", "role": "admin", "more": 1}

# ---- whom it is for ------------------------------------------------------------------------------------------------


def told(client: httpx.Client, **more: Any) -> Any:
    """The user whom a pipe and an inlet are told of."""
    shown = yaml.safe_load(said(ask(client, "show", **more)))["user"]
    inlet = client.post("/show/filter/inlet", json={"body": {}, **more}).json()["user"]
    return shown, inlet


def test_who_may_name_users_in_the_body_does(
    admin: httpx.Client, user: httpx.Client, chat_server: httpx.Client
) -> None:
    short = {key: ADA[key] for key in ("name", "id", "email", "role")}
    for client in (admin, chat_server):
        assert told(client, user=ADA) == (short, ADA)

    shown, inlet = told(user, user=ADA)
    assert shown["name"] == inlet["name"] == "Ulla"
    assert shown["id"] == inlet["id"] != "u-1"


def test_a_user_whom_headers_name_counts_more(chat_server: httpx.Client) -> None:
    named = {"X-OpenWebUI-User-Id": "h-1", "X-OpenWebUI-User-Name": "Grace", "X-OpenWebUI-User-Role": "admin"}
    chat_server.headers.update(named)
    for shown in told(chat_server, user=ADA):
        assert (shown["id"], shown["name"], shown["role"]) == ("h-1", "Grace", "user")


def test_without_a_user_a_pipe_is_told_of_the_caller_and_a_filter_of_nobody(admin: httpx.Client) -> None:
    shown, inlet = told(admin)
    assert shown["role"] == "admin"
    assert inlet is None
    assert yaml.safe_load(said(ask(admin, "show", user="me")))["user"] == shown


def test_pipelines_that_are_not_for_the_caller_are_not_there(admin: httpx.Client, user: httpx.Client) -> None:
    assert "mine" in {one["id"] for one in admin.get("/pipelines").json()["data"]}
    for path in ("/models", "/pipelines", "/v1/models"):
        assert "mine" not in {one["id"] for one in user.get(path).json()["data"]}
    assert ask(user, "mine").status_code == 404
    assert user.post("/mine/filter/inlet", json={"body": {}}).status_code == 404
    assert user.get("/mine/valves").status_code == 404


def test_only_who_manages_a_pipeline_changes_it(user: httpx.Client) -> None:
    assert user.get("/tuned/valves").status_code == 401
    assert user.get("/tuned/valves/spec").status_code == 401
    assert user.post("/tuned/valves/update", json={}).status_code == 401
    assert user.request("DELETE", "/pipelines/delete", json={"id": "tuned"}).status_code == 401
    assert upload(user, "tuned.py", TUNED).status_code == 401
    assert user.post("/pipelines/add", json={"url": "http://127.0.0.1:1/x.py"}).status_code == 401
    assert user.post("/pipelines/reload").status_code == 401


# ---- models --------------------------------------------------------------------------------------------------------


def test_pipelines_are_models_on_every_surface(admin: httpx.Client) -> None:
    models = {one["id"]: one for one in admin.get("/api/models").json()["data"]}
    assert models["show"]["name"] == "Show"
    assert models["show"]["pipeline"] == {"type": "pipe", "valves": False}
    assert models["many.a/b"]["name"] == "M: AB"
    assert models["many.a/b"]["pipeline"] == {"type": "manifold", "valves": False}
    assert not {"tuned", "odd", "off"} & models.keys()
    assert "pipe" not in models["show"] and models["plain"]["pipe"] == {"type": "pipe"}

    for path in ("/v1/chat/completions", "/api/chat/completions", "/chat/completions"):
        # A manifold is known by what it calls itself, and by its file.
        assert said(ask(admin, "many.a/b", path)) == said(ask(admin, "many_file.a/b", path)) == "a/b"
        assert said(ask(admin, "plain", path)) == "pipe"
    assert admin.get("/v1/models/many.a/b").json()["id"] == "many.a/b"


def test_the_list_of_a_pipelines_server_has_filters_and_all_models(admin: httpx.Client) -> None:
    answer = admin.get("/models").json()
    models = {one["id"]: one for one in answer["data"]}
    assert answer["pipelines"] is True
    assert models["tuned"]["pipeline"] == {"type": "filter", "valves": True, "pipelines": ["show"], "priority": 5}
    assert models["tuned"]["name"] == "Well tuned"
    # Its hooks would be asked for otherwise.
    assert "pipeline" not in models["plain"]
    assert {one["id"]: one["type"] for one in admin.get("/pipelines").json()["data"]}["odd"] == "strange"


@pytest.mark.parametrize("id", ["tuned", "odd", "off"])
def test_what_is_no_model_is_named_as_what_it_is(admin: httpx.Client, id: str) -> None:
    answer = ask(admin, id)
    assert answer.status_code == 404
    assert ("switched off" if id == "off" else "pipeline of the type") in answer.json()["detail"]
    assert admin.post("/off/filter/inlet", json={"body": {}}).status_code == 404


def test_hooks_are_found_by_the_id_of_a_model_with_slashes_and_prefixes(admin: httpx.Client) -> None:
    for id in ("many.a/b", "many_file.a/b", "prefix.many.a/b"):
        for path in (f"/{id}/filter/inlet", f"/v1/{id}/filter/inlet"):
            assert admin.post(path, json={"body": {"model": id}}).json() == {"model": id, "seen": True}
    refused = admin.post("/many.a/b/filter/outlet", json={"body": {}})
    assert refused.status_code == 500
    assert "no body" in refused.json()["detail"]
    assert admin.post("/plain/filter/inlet", json={"body": {}}).status_code == 404


def test_events_are_in_the_streams_that_a_pipelines_client_asks_for(admin: httpx.Client) -> None:
    event = 'data: {"event":{"type":"status","data":{"description":"working"}}}'
    answer = ask(admin, "shown", stream=True).text
    assert event in answer
    assert "Client session disconnected" in answer, "such a client has no way to answer"
    assert event not in ask(admin, "shown", "/v1/chat/completions", stream=True).text


# ---- valves --------------------------------------------------------------------------------------------------------


def test_valves_are_told_whole_and_replaced_whole(admin: httpx.Client, served: Server) -> None:
    whole = {"api_key": "", "home": {"env": "HOME"}, "number": 1, "pipelines": ["show"], "priority": 5}
    assert admin.get("/tuned/valves").json() == whole
    assert admin.get("/v1/tuned/valves/spec").json()["properties"]["number"]["default"] == 1

    posted = {**whole, "api_key": "sk-1234567", "number": 7, "pipelines": ["*"], "priority": 2}
    answer = admin.post("/tuned/valves/update", json=posted)
    assert (answer.status_code, answer.json()) == (200, posted)
    settings = (served.project.functions / "tuned.yaml").read_text()
    assert settings.startswith("# kept\n") and "sk-1234567" not in settings
    assert yaml.safe_load(settings)["valves"]["home"] == {"env": "HOME"}
    listed = {one["id"]: one for one in admin.get("/models").json()["data"]}["tuned"]["pipeline"]
    assert (listed["pipelines"], listed["priority"]) == (["*"], 2)

    # What is not named, or null, is what the constructor makes it; but for references.
    assert admin.post("/tuned/valves/update", json={"number": None}).json() == whole
    refused = admin.post("/tuned/valves/update", json={"number": "many"})
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith("number: ")


def test_valves_that_do_not_fit_any_more_are_told_all_the_same(admin: httpx.Client, served: Server) -> None:
    served.add("bent", TUNED, "valves: {number: many}\n", status="failed")
    assert admin.get("/bent/valves").json() == {
        "api_key": "",
        "home": "none",
        "number": "many",
        "pipelines": [],
        "priority": 0,
    }


@pytest.mark.parametrize("id", ["plain", "show", "nothing", "many.a"])
def test_what_is_no_pipeline_or_has_no_valves_is_not_found(admin: httpx.Client, id: str) -> None:
    assert admin.get(f"/{id}/valves").status_code == 404
    assert admin.get(f"/{id}/valves/spec").status_code == 404
    assert admin.post(f"/{id}/valves/update", json={}).status_code == 404


# ---- files ---------------------------------------------------------------------------------------------------------


def test_an_upload_is_a_commit_and_active_at_once(admin: httpx.Client, served: Server) -> None:
    answer = upload(admin, "folder/Up Load.py", SHOW)
    assert answer.json()["detail"] == "Pipeline uploaded successfully to up_load.py; its id is up_load"
    assert answer.headers["x-fnsync-commit"] == served.project.git("rev-parse", "HEAD")
    assert yaml.safe_load(said(ask(admin, "up_load")))["model"] == "up_load"

    deleted = admin.request("DELETE", "/v1/pipelines/delete", json={"id": "up_load"})
    assert deleted.json() == {"status": True, "detail": "Pipeline up_load deleted successfully"}
    assert ask(admin, "up_load").status_code == 404
    assert not (served.project.functions / "up_load.py").exists()


def test_an_upload_over_a_pipeline_keeps_its_settings_and_switches_it_on(admin: httpx.Client, served: Server) -> None:
    served.add("again", SHOW, "active: false\nname: Named\nmeta: {x: 1}\naccess: {roles: [admin]}\n", status="inactive")
    served.project.commit("again")
    assert upload(admin, "again.py", SHOW.replace('"Show"', '"Other"')).status_code == 200

    settings = yaml.safe_load((served.project.functions / "again.yaml").read_text())
    assert settings == {"active": True, "name": "Named", "meta": {"x": 1}, "access": {"roles": ["admin"]}}
    assert {one["id"]: one for one in admin.get("/models").json()["data"]}["again"]["name"] == "Named"


def test_no_upload_takes_the_place_of_another_kind(admin: httpx.Client) -> None:
    assert upload(admin, "plain.py", SHOW).status_code == 409
    assert upload(admin, "other.py", PIPE).status_code == 400
    assert upload(admin, "bytes.py", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1")).status_code == 400
    assert said(ask(admin, "plain")) == "pipe"


def test_users_upload_pipelines_of_their_own(admin: httpx.Client, user: httpx.Client, served: Server) -> None:
    assert upload(user, "own.py", SHOW).status_code == 200
    assert "own" in {one["id"] for one in user.get("/pipelines").json()["data"]}
    assert user.request("DELETE", "/pipelines/delete", json={"id": "own"}).status_code == 200
    with served.client(served.add_token("user", email="other@example.org")) as other:
        assert upload(user, "own.py", SHOW).status_code == 200
        assert ask(other, "own").status_code == 404


def test_a_reload_waits_for_the_files_and_tells_what_does_not_load(admin: httpx.Client, served: Server) -> None:
    served.project.write("fresh.py", SHOW.replace("json.dumps(body)", '"fresh"'))
    served.project.write("broken.py", "class Pipeline:\n    def pipe(self:\n")
    message = admin.post("/pipelines/reload").json()["message"]
    assert message.startswith("Pipelines reloaded successfully.")
    assert "broken: broken.py:2" in message
    assert said(ask(admin, "fresh")) == "fresh"
    served.project.remove("broken.py")
    wait_for("the end of broken", lambda: served.function("broken") is None)


# ---- what a filter is for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "given", "model", "applies"),
    [
        (None, ("*",), "any", True),
        (None, ("a", "b"), "b", True),
        (None, ("a",), "b", False),
        (None, ("*", "a"), "b", False),
        (None, None, "a", False),
        (["b"], ("a",), "b", True),
        ([], ("*",), "b", False),
        ({"env": "X"}, ("a",), "a", True),
    ],
)
def test_targets_are_the_stored_ones_else_the_constructors(
    stored: Any, given: tuple[str, ...] | None, model: str, applies: bool
) -> None:
    manifest = Manifest(Kind.PIPELINE, pipeline=PipelineFacts("filter", None, given), valves_schema={"properties": {}})
    function = LiveFunction(
        FunctionId("f"),
        "f",
        Kind.PIPELINE,
        Revision("r"),
        "f.py",
        "function/main.py",
        manifest,
        Frontmatter(),
        Settings(valves={} if stored is None else {"pipelines": stored}),
        Limits(),
        True,
        "base",
        0,
    )
    assert applies_to(function, model) is applies
