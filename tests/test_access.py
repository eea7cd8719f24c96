"""Who may call what: each caller's list of models, and every call, from the caller's side."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests import upstream as stub
from tests.conftest import Project, Server, wait_for
from tests.upstream import Upstream

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
SAYS = "class Pipe:\n    def pipe(self, body):\n        return 'said'\n"
MANIFOLD = """
class Pipe:
    def __init__(self):
        self.times = 0

    def pipes(self):
        self.times += 1
        return [{"id": f"m{self.times}", "name": "M"}]

    def pipe(self, body):
        return "said"
"""
ACTION = "class Action:\n    def action(self, body):\n        return {}\n"
FILTER = "class Filter:\n    toggle = True\n\n    def inlet(self, body):\n        return body\n"

#: Function -> its settings; {ada} stands for Ada's id.
SETTINGS = {
    "open": "active: true",
    "off": "active: false",
    "named": "access: {users: [Ada@Example.org]}",
    "users": "access: {roles: [user]}",
    "nobodys": "access: {users: [], roles: []}",
    "own": "owner: {ada}",
    "shared": "owner: {ada}\nglobal: true",
}
CALLERS = ("admin", "ada", "bea")
#: Model -> who may use it.
MAY = {
    "open": ("admin", "ada", "bea"),
    "named": ("admin", "ada"),
    "users": ("admin", "ada", "bea"),
    "nobodys": ("admin",),
    "own": ("admin", "ada"),
    "shared": ("admin", "ada", "bea"),
    "off": (),
    "all-model": ("admin", "ada", "bea"),
    "ada-model": ("admin", "ada"),
    "admin-model": ("admin",),
    "twice": ("admin", "ada", "bea"),
}
#: The upstream whose model of that id a caller gets: the first that they may use.
TWICE = {"admin": "adas", "ada": "adas", "bea": "everyones"}


@dataclass
class Served:
    server: Server
    clients: dict[str, httpx.Client]
    upstreams: dict[str, Upstream]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a function, and an upstream, for each kind of access; and a client for each caller."""
    project = Project(tmp_path_factory.mktemp("access") / "project")
    names = ("adas", "admins", "everyones")
    with ExitStack() as stack:
        upstreams = {name: stack.enter_context(stub.serving()) for name in names}
        for name, ids in zip(names, (["ada-model", "twice"], ["admin-model"], ["all-model", "twice"]), strict=True):
            upstreams[name].models = {"data": [{"id": id} for id in ids]}
        access = {"adas": ", access: {users: [ADA@example.org]}", "admins": ", access: {roles: [admin]}"}
        lines = [
            f'  - {{name: {name}, kind: openai, url: "{upstreams[name].url}/v1"{access.get(name, "")}}}'
            for name in names
        ]
        project.configure("\n".join(["upstreams:", *lines]))
        server = Server(project)
        stack.callback(server.stop)
        server.wait_ready()
        tokens = {
            "admin": None,
            "ada": server.add_token("user", "ada@example.org"),
            "bea": server.add_token("user", "bea@example.org"),
            "pending": server.add_token("pending", "zoe@example.org"),
        }
        with server.state() as state:
            ada = state.user_by_email("ada@example.org")
        assert ada is not None
        for id, settings in SETTINGS.items():
            project.write(f"{id}.yaml", settings.replace("{ada}", ada.id))
            project.write(f"{id}.py", SAYS)
        for id in SETTINGS:
            server.settle(id, "inactive" if id == "off" else "ready")
        clients = {name: stack.enter_context(server.client(token)) for name, token in tokens.items()}
        yield Served(server, clients, upstreams)


def ask(client: httpx.Client, model: str) -> httpx.Response:
    return client.post(CHAT, json={"model": model, "messages": HELLO})


def ids(client: httpx.Client, path: str = "/api/models") -> list[str]:
    return [entry["id"] for entry in client.get(path).json()["data"]]


@pytest.mark.parametrize("caller", CALLERS)
def test_each_caller_is_shown_what_they_may_call_and_no_more(served: Served, caller: str) -> None:
    client = served.clients[caller]
    expected = {model for model, who in MAY.items() if caller in who}
    for path in ("/v1/models", "/api/models", "/api/v1/models", "/api/models?refresh=true"):
        assert set(ids(client, path)) & MAY.keys() == expected, path
    for model in MAY:
        assert ask(client, model).status_code == (200 if model in expected else 404), model
        assert client.get(f"/v1/models/{model}").status_code == (200 if model in expected else 404), model


def test_a_model_that_is_not_for_the_caller_is_like_one_that_is_not_there(served: Served) -> None:
    bea = served.clients["bea"]
    for model in ("named", "own", "nobodys", "ada-model", "admin-model"):
        refused, missing = ask(bea, model), ask(bea, "missing")
        assert refused.json()["error"]["message"].replace(model, "missing") == missing.json()["error"]["message"]
        assert {**refused.json()["error"], "message": ""} == {**missing.json()["error"], "message": ""}


@pytest.mark.parametrize("caller", CALLERS)
def test_of_two_upstreams_with_one_id_the_first_counts_that_the_caller_may_use(served: Served, caller: str) -> None:
    answer = ask(served.clients[caller], "twice")
    assert answer.headers["x-fnsync-upstream"] == TWICE[caller]


def test_who_waits_for_an_admin_may_nothing(served: Served) -> None:
    pending = served.clients["pending"]
    assert ask(pending, "open").status_code == ask(pending, "all-model").status_code == 401
    for path in ("/v1/models", "/v1/models/open", "/api/models", "/api/models/base", "/api/functions/"):
        assert pending.get(path).status_code == 401, path


def test_functions_that_are_not_for_a_caller_are_in_none_of_their_lists(served: Served) -> None:
    for caller in CALLERS:
        listed = {row["id"] for row in served.clients[caller].get("/api/functions/").json()}
        assert listed & SETTINGS.keys() == {id for id in SETTINGS if caller in MAY[id]}
    bea = served.clients["bea"]
    for method, rest in (("GET", "valves/user"), ("GET", "valves/user/spec"), ("POST", "valves/user/update")):
        assert bea.request(method, f"/api/functions/id/own/{rest}", json={}).status_code == 404
    for path in ("", "/valves", "/status"):
        assert bea.get(f"/api/functions/id/own{path}").status_code == 401, "managing is for admins here"
    assert bea.post("/api/functions/id/own/invoke", json={}).status_code == 401


def test_entries_show_the_actions_and_filters_that_the_caller_may_use(served: Served) -> None:
    server, clients = served.server, served.clients
    server.add("act_all", ACTION, "global: true")
    server.add("act_ada", ACTION, "global: true\naccess: {users: [ada@example.org]}")
    server.add("filter_ada", FILTER, "global: true\naccess: {users: [ada@example.org]}")

    def attached(caller: str, model: str) -> tuple[list[str], list[str]]:
        entries: list[dict[str, Any]] = clients[caller].get("/api/models").json()["data"]
        entry = next(entry for entry in entries if entry["id"] == model)
        return [item["id"] for item in entry["actions"]], [item["id"] for item in entry["filters"]]

    for model in ("open", "all-model"):
        assert attached("ada", model) == attached("admin", model) == (["act_ada", "act_all"], ["filter_ada"])
        assert attached("bea", model) == (["act_all"], [])


def test_base_entries_are_for_admins_and_without_what_is_attached(served: Served) -> None:
    admin = served.clients["admin"]
    assert ids(admin, "/api/models/base") == ids(admin, "/api/v1/models/base") == ids(admin)
    entries = {entry["id"]: entry for entry in admin.get("/api/models/base").json()["data"]}
    assert entries["open"].keys() == {"id", "name", "object", "created", "owned_by", "pipe", "has_user_valves"}
    assert entries["all-model"].keys() == {"id", "name", "object", "created", "owned_by", "openai"}
    assert served.clients["ada"].get("/api/models/base").status_code == 401


def test_a_refresh_asks_upstreams_and_manifolds_again(served: Served) -> None:
    served.server.add("many", MANIFOLD)
    bea, upstream = served.clients["bea"], served.upstreams["everyones"]
    before = ids(bea)
    upstream.models["data"].append({"id": "fresh"})

    assert ids(bea) == before, "lists are kept for a minute"
    assert "many.m1" in before

    def renewed() -> bool:
        found = ids(bea, "/api/models?refresh=true")
        return "fresh" in found and "many.m1" not in found

    wait_for("new lists, a second after the last ones", renewed)
    assert bea.get("/api/models?refresh=perhaps").status_code == 400


def test_metrics_count_what_is_asked_of_each_upstream(served: Served) -> None:
    admin = served.clients["admin"]

    def counted() -> dict[str, float]:
        lines = (line.rpartition(" ") for line in admin.get("/metrics").text.splitlines())
        return {name: float(value) for name, _, value in lines if "upstream=" in name}

    before, began = counted(), time.monotonic()
    refused = {"model": "admin-model", "messages": [{"role": "user", "content": "!status 429"}]}
    assert ask(admin, "admin-model").status_code == 200
    assert admin.post(CHAT, json=refused).status_code == 429
    took, after = time.monotonic() - began, counted()

    def more(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert more('fnsync_upstream_requests_total{status="200",upstream="admins"}') == 1
    assert more('fnsync_upstream_requests_total{status="429",upstream="admins"}') == 1
    assert more('fnsync_upstream_duration_seconds_count{upstream="admins"}') == 2
    assert 0 < more('fnsync_upstream_duration_seconds_sum{upstream="admins"}') < took
    assert "upstream=" not in served.clients["bea"].get("/metrics").text
