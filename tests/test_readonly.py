"""Functions of a source over HTTP: they do all that functions do, and are changed where they come from."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from fnsync.admin import admin_token
from fnsync.api.app import create_app
from fnsync.cli.status import problems
from fnsync.config import parse
from fnsync.model import FunctionId
from fnsync.service import Service
from fnsync.vault import Vault
from tests.repositories import Repository

pytestmark = pytest.mark.anyio

ADMIN = "the-admin-token"
VALVES = "/api/functions/id/acme_shared/valves"

PIPE = '''"""
title: Translator
description: translates
"""
from pydantic import BaseModel
class Pipe:
    class Valves(BaseModel):
        word: str = "bonjour"
        api_key: str = ""
    class UserValves(BaseModel):
        polite: bool = False
    def __init__(self):
        self.valves = self.Valves()
    def pipe(self, body, __user__):
        return f"{self.valves.word} {__user__['valves'].polite}"
'''
FILTER = """
class Filter:
    def outlet(self, body):
        body["messages"][-1]["content"] += " (filtered)"
        return body
"""
PIPELINE = """
class Pipeline:
    def pipe(self, user_message, model_id, messages, body):
        return "piped"
"""


class Api:
    """A service with its application, without sockets."""

    def __init__(self, service: Service, client: httpx.AsyncClient, url: str) -> None:
        self.service = service
        self.client = client
        self.url = url

    async def get(self, path: str, **query: str) -> Any:
        answer = await self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any) -> httpx.Response:
        return await self.client.post(path, json=body)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    root = tmp_path_factory.mktemp("project")
    Repository(root).commit(0, {"own.py": PIPE.replace("Translator", "Own")})
    environ = {"FNSYNC_ADMIN_TOKEN": ADMIN, "FNSYNC_SECRET_KEY": ""}
    acme = Repository(root / "acme")
    url = f"file://{acme.folder}"
    source = f"{{name: acme, url: '{url}', path: functions, prefix: acme_, depth: 0, partial: false}}"
    config = parse(f"sources: [{source}]", environ, root=root)
    acme.commit(0, {"translate.py": PIPE.replace("bonjour", "hello")}, by="eve@example.org", message="Say hello")
    acme.commit(60, {"translate.py": PIPE, "translate.yaml": "valves: {word: salut}\n"}, message="Say bonjour")
    acme.commit(90, {"shout.py": FILTER, "piped.py": PIPELINE, "broken.py": "def broken(:\n"})
    foreign = Vault(root / "elsewhere", {"FNSYNC_SECRET_KEY": "k" * 43 + "="}).encrypt("word")
    acme.commit(99, {"sealed.py": PIPE, "sealed.yaml": f"valves:\n  word: {{secret: {foreign}}}\n"})
    (root / ".fnsync").mkdir(exist_ok=True)
    ours = Vault(root / ".fnsync", {}).encrypt("ciao")
    acme.commit(99, {"shared.py": PIPE, "shared.yaml": f"valves:\n  word: {{secret: {ours}}}\n"})
    service = Service(config, environ)
    await service.start()
    await asyncio.to_thread(admin_token, service.state, config.data, environ)
    await service.reconciler.ready.wait()
    await service.sources.find("acme").sync()
    await service.reconciler.settled()
    app = create_app(service)
    begun, ended = asyncio.Event(), asyncio.Event()

    async def receive() -> Mapping[str, Any]:
        if begun.is_set():
            await ended.wait()
        return {"type": "lifespan"}

    async def send(message: Mapping[str, Any]) -> None:
        begun.set()

    life = asyncio.create_task(app({"type": "lifespan"}, receive, send))  # type: ignore[arg-type]
    await begun.wait()
    headers = {"Authorization": f"Bearer {ADMIN}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test", headers=headers, timeout=30
    ) as client:
        yield Api(service, client, url)
    ended.set()
    await life
    await service.close()


async def test_they_are_listed_with_their_source_and_history(api: Api) -> None:
    rows = {row["id"]: row for row in await api.get("/api/functions/list")}
    assert rows["acme_translate"]["source"] == "acme" and "source" not in rows["own"]
    row = await api.get("/api/functions/id/acme_translate")
    assert (row["source"], row["name"], row["content"]) == ("acme", "Translator", PIPE)
    assert row["user_id"] == "eve@example.org" and row["updated_at"] - row["created_at"] == 60
    history = await api.get("/api/functions/id/acme_translate/history")
    assert [entry["commit_message"] for entry in history] == ["Say bonjour", "Say hello"]
    newest, oldest = (entry["id"] for entry in history)
    assert row["version_id"] == newest
    was = await api.get(f"/api/functions/id/acme_translate/history/{oldest}")
    assert "hello" in was["snapshot"]["content"]
    difference = await api.get("/api/functions/id/acme_translate/history/diff", from_id=oldest, to_id=newest)
    assert '-        word: str = "hello"' in difference["content_diff"]
    status = {one["id"]: one for one in (await api.get("/api/status"))["functions"]}
    assert (status["acme_translate"]["source"], status["acme_translate"]["commit"]) == ("acme", newest)
    assert status["own"]["source"] == "local"
    found = await api.get("/api/functions/search", q="translates")
    assert {one["id"] for one in found} >= {"acme_translate", "own"}


async def test_they_answer_like_others(api: Api) -> None:
    chat = {"model": "acme_translate", "messages": [{"role": "user", "content": "hi"}]}
    answer = await api.post("/v1/chat/completions", chat)
    assert answer.json()["choices"][0]["message"]["content"] == "salut False"
    path = "/api/functions/id/acme_translate/valves"
    assert await api.get(path) == {"word": "salut"}
    assert set((await api.get(f"{path}/spec"))["properties"]) == {"word", "api_key"}
    assert (await api.post(f"{path}/user/update", {"polite": True})).json() == {"polite": True}
    answer = await api.post("/v1/chat/completions", chat)
    assert answer.json()["choices"][0]["message"]["content"] == "salut True"
    assert answer.headers["X-Fnsync-Function"] == "acme_translate"
    done = await api.post(
        "/api/functions/id/acme_shout/invoke",
        {"handler": "outlet", "body": {"messages": [{"role": "assistant", "content": "a"}]}},
    )
    assert "a (filtered)" in done.text
    assert "acme_piped" in {model["id"] for model in (await api.get("/v1/models"))["data"]}


def form(id: str, content: str = PIPE) -> dict[str, Any]:
    return {"id": id, "name": id, "content": content, "meta": {}}


EDITS: list[tuple[str, str, Any]] = [
    ("POST", "/api/functions/create", form("acme_translate")),
    ("POST", "/api/functions/id/acme_translate/update", form("acme_translate", PIPE + "\n")),
    ("PUT", "/api/functions/acme_translate", form("acme_translate", "no python (")),
    ("DELETE", "/api/functions/id/acme_translate/delete", None),
    ("POST", "/api/functions/id/acme_translate/toggle", None),
    ("POST", "/api/functions/id/acme_shout/toggle/global", None),
    ("POST", "/api/functions/id/acme_translate/valves/update", {"word": "hola"}),
    ("POST", "/api/functions/id/acme_broken/toggle", None),
]


@pytest.mark.parametrize(("method", "path", "body"), EDITS)
async def test_an_edit_is_refused_with_where_to_make_it(api: Api, method: str, path: str, body: Any) -> None:
    answer = await api.client.request(method, path, json=body)
    assert answer.status_code == 409, answer.text
    refused = answer.json()
    assert f"of the source acme at {api.url}" in refused["detail"]
    assert ".py there" in refused["hint"] and "fnsync import git+URL" in refused["hint"]
    assert {path.name for path in api.service.config.functions.iterdir()} == {"own.py"}


async def test_going_back_and_pipelines_are_refused_too(api: Api) -> None:
    [newest, oldest] = await api.get("/api/functions/id/acme_translate/history")
    answer = await api.post("/api/functions/id/acme_translate/update/version", {"version_id": oldest["id"]})
    assert answer.status_code == 409 and "acme" in answer.json()["detail"] and newest
    upload = await api.client.post("/pipelines/upload", files={"file": ("acme_piped.py", PIPELINE.encode())})
    assert upload.status_code == 409, upload.text
    answer = await api.client.request("DELETE", "/pipelines/delete", json={"id": "acme_piped"})
    assert answer.status_code == 409, answer.text


async def test_lists_of_functions_leave_them_alone(api: Api) -> None:
    exported = await api.get("/api/functions/export")
    assert {one["id"] for one in exported} >= {"own", "acme_translate"}
    assert all("source" not in one for one in exported), "an export is the peer's format"
    assert (await api.post("/api/functions/import", {"functions": exported})).json()["outcomes"]
    changed = [{**one, "content": one["content"] + "\n"} for one in exported if one["id"] == "acme_translate"]
    done = (await api.post("/api/functions/import", {"functions": changed, "replace": True})).json()
    [outcome] = done["outcomes"]
    assert outcome["outcome"] == "refused" and api.url in outcome["reason"]
    answer = await api.post("/api/functions/sync", {"functions": changed})
    assert answer.status_code == 409 and "acme" in answer.json()["detail"]
    known = [one for one in exported if one["id"] in ("acme_translate", "own")]
    sealed = api.service.reconciler.standings[FunctionId("acme_sealed")]
    answer = await api.post("/api/functions/sync", {"functions": known})
    # It is done; only the answer, which has all valves in clear, cannot have those of another server.
    assert answer.status_code == 500 and "acme_sealed" in answer.text
    assert {"own", "acme_translate", "acme_shout"} <= set(api.service.reconciler.standings) and sealed


async def test_secrets_of_another_server_are_a_clear_problem(api: Api) -> None:
    status = await api.get("/api/status")
    [sealed] = [one for one in status["functions"] if one["id"] == "acme_sealed"]
    assert sealed["status"] == "failed" and sealed["error"]["path"] == "acme:sealed.yaml"
    assert "FNSYNC_SECRET_KEY" in sealed["error"]["hint"] and "{env: NAME}" in sealed["error"]["hint"]
    assert any(problem.path == "acme:broken.py" for _, problem in problems(status))


async def test_replacing_keys_leaves_their_files_alone(api: Api) -> None:
    trees = api.service.config.data / "sources/acme/trees"
    files = {path: path.read_bytes() for path in trees.rglob("*") if path.is_file()}
    rotated = await api.post("/api/secrets/rotate", {})
    assert rotated.status_code == 200, rotated.text
    assert "acme_sealed" not in json.dumps(rotated.json()), "no key of ours has to stay for it"
    [kept] = rotated.json()["kept"]
    assert kept["function"] == "acme_shared" and "source acme" in kept["reason"]
    assert rotated.json()["dropped_keys"] == 0 and (await api.get(f"{VALVES}"))["word"] == "ciao"
    assert files and files == {path: path.read_bytes() for path in trees.rglob("*") if path.is_file()}
