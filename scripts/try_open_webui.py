"""What `try-open-webui.sh` checks: `python -m scripts.try_open_webui PYTHON`, an interpreter that has Open WebUI.

Starts a provider of models, fnsync with some functions, and Open WebUI with both as its connections. Everything is then
asked of Open WebUI, as its web page does it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests import upstream
from tests.conftest import Project, Server

#: Open WebUI makes its database and loads its libraries first.
START_S = 300.0
PASSWORD = secrets.token_urlsafe(12)
#: Which connection is fnsync, in the order they are configured.
FNSYNC = 0

ECHO = """
class Pipe:
    def pipe(self, body, __user__):
        return f"{__user__['name']} said: " + body["messages"][-1]["content"]
"""
WORDS = """
class Pipeline:
    def __init__(self):
        self.name = "Words"
    async def pipe(self, user_message, model_id, messages, body):
        async def words():
            for word in (user_message + " for " + body["user"]["email"]).split():
                yield word + " "
        return words()
"""
MANIFOLD = """
class Pipeline:
    def __init__(self):
        self.type = "manifold"
        self.id = "many"
        self.name = "Many: "
        self.pipelines = [{"id": "one", "name": "One"}, {"id": "two", "name": "Two"}]
    def pipe(self, user_message, model_id, messages, body):
        return model_id
    async def inlet(self, body, user=None):
        return body
"""
TAG = """
from pydantic import BaseModel
class Pipeline:
    class Valves(BaseModel):
        pipelines: list[str] = ["*"]
        priority: int = 0
        tag: str = "tagged"
        api_key: str = ""
    def __init__(self):
        self.type = "filter"
        self.name = "Tag"
        self.valves = self.Valves()
    async def inlet(self, body, user=None):
        last = body["messages"][-1]
        if "forbidden" in str(last["content"]):
            raise Exception("not here")
        last["content"] += f" [{self.valves.tag} for {(user or {}).get('name')}]"
        return body
    async def outlet(self, body, user=None):
        body["messages"][-1]["content"] += " [out]"
        return body
"""
BOOM = """
class Pipeline:
    def pipe(self, user_message, model_id, messages, body):
        raise ValueError("broken inside")
"""
FUNCTIONS = {"boom": BOOM, "echo": ECHO, "words": WORDS, "many_file": MANIFOLD, "tag": TAG}
UPLOADED = "class Pipeline:\n    def pipe(self, user_message, model_id, messages, body):\n        return 'uploaded'\n"


class Checks:
    """Runs checks and counts what fails."""

    def __init__(self) -> None:
        self.failed = 0
        self.passed = 0

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        except Exception as exc:  # each is told, and the next one is made
            self.failed += 1
            print(f"FAIL  {what}: {type(exc).__name__}: {str(exc)[:1000]}", flush=True)
        else:
            self.passed += 1
            print(f"ok    {what} ({time.monotonic() - began:.2f} s)", flush=True)


class Chat:
    """Open WebUI, asked by one of its users."""

    def __init__(self, client: httpx.Client, token: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        return self._client.request(method, path, headers=self._headers, **given)

    def json(self, method: str, path: str, **given: Any) -> Any:
        answer = self.request(method, path, **given)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def models(self) -> dict[str, dict[str, Any]]:
        return {model["id"]: model for model in self.json("GET", "/api/models?refresh=true")["data"]}

    def ask(self, model: str, text: str, *, stream: bool = False) -> httpx.Response:
        body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}
        return self.request("POST", "/api/chat/completions", json=body)

    def answer(self, model: str, text: str) -> str:
        answer = self.ask(model, text)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text[:500]}"
        return str(answer.json()["choices"][0]["message"]["content"])

    def pipelines(self, path: str) -> str:
        return f"/api/v1/pipelines/{path}{'&' if '?' in path else '?'}urlIdx={FNSYNC}"


def check(fnsync: Server, provider: upstream.Upstream, admin: Chat, user: Chat) -> Checks:
    """Drive everything."""
    checks = Checks()
    with checks("Open WebUI takes fnsync for a Pipelines server"):
        assert [one["idx"] for one in admin.json("GET", "/api/v1/pipelines/list")["data"]] == [FNSYNC]
    with checks("models: pipelines, pipes and base models are listed, filters are not"):
        models = admin.models()
        names = {id: models[id]["name"] for id in ("words", "many.one", "many.two", "echo", "fs-base-model")}
        assert names["words"] == "Words" and names["many.two"] == "Many: Two", names
        assert "tag" not in models and models["words"]["pipeline"] == {"type": "pipe", "valves": False}
    check_chats(checks, provider, admin, user)
    check_valves(checks, fnsync, admin)
    check_files(checks, fnsync, admin)
    return checks


def check_chats(checks: Checks, provider: upstream.Upstream, admin: Chat, user: Chat) -> None:
    with checks("chat: plain, through the filter's inlet"):
        assert admin.answer("words", "hello") == "hello [tagged for Admin] for admin@example.com "
    with checks("chat: streamed"):
        answer = admin.ask("words", "hello", stream=True)
        chunks = [line for line in answer.text.splitlines() if line.startswith("data: {")]
        texts = [json.loads(line[6:])["choices"][0]["delta"].get("content", "") for line in chunks]
        assert answer.status_code == 200 and "".join(texts).startswith("hello [tagged for Admin]"), answer.text
        assert len(texts) > 4 and "data: [DONE]" in answer.text
    with checks("chat: the models of a manifold"):
        assert admin.answer("many.one", "x") == "one"
        assert admin.answer("many.two", "x") == "two"
    with checks("chat: a pipe of the other kind knows the user whom headers name"):
        assert admin.answer("echo", "hello") == "Admin said: hello [tagged for Admin]"
        assert user.answer("echo", "hello") == "Ulla said: hello [tagged for Ulla]"
    with checks("chat: a base model behind fnsync"):
        assert admin.answer("fs-base-model", "hello") == "one two three"
    with checks("chat: the filter surrounds models that are not fnsync's"):
        provider.requests.clear()
        assert admin.answer("base-model", "hello") == "one two three"
        [asked] = provider.asked("/v1/chat/completions")
        assert b"hello [tagged for Admin]" in asked.body, asked.body
    with checks("filter: a refusal ends the chat with its status"):
        answer = admin.ask("words", "forbidden")
        assert answer.status_code == 400, f"{answer.status_code} {answer.text}"
    with checks("filter: outlet"):
        messages = [
            {"id": "1", "role": "user", "content": "q"},
            {"id": "2", "role": "assistant", "content": "a"},
        ]
        body = {"model": "words", "messages": messages, "chat_id": "local:t", "session_id": "s", "id": "2"}
        found = admin.json("POST", "/api/chat/completed", json=body)
        assert found["messages"][-1]["content"] == "a [out]", found
    with checks("chat: an error of a function has its status"):
        for stream in (False, True):
            answer = admin.ask("boom", "x", stream=stream)
            assert answer.status_code == 500 and "broken inside" in answer.text, f"{answer.status_code} {answer.text}"


def check_valves(checks: Checks, fnsync: Server, admin: Chat) -> None:
    with checks("valves: the page lists the pipelines"):
        found = {one["id"]: one for one in admin.json("GET", admin.pipelines(""))["data"]}
        assert found["tag"] == {"id": "tag", "name": "tag", "type": "filter", "valves": True}, found
        assert {"words", "many"} <= found.keys() and "echo" not in found
    with checks("valves: read, with their schema"):
        values = admin.json("GET", admin.pipelines("tag/valves"))
        assert values == {"pipelines": ["*"], "priority": 0, "tag": "tagged", "api_key": ""}, values
        assert "tag" in admin.json("GET", admin.pipelines("tag/valves/spec"))["properties"]
    with checks("valves: an update is in effect with the next chat, and a commit"):
        before = fnsync.project.git("rev-parse", "HEAD")
        posted = {"pipelines": ["*"], "priority": 1, "tag": "marked", "api_key": "sk-123456789"}
        assert admin.json("POST", admin.pipelines("tag/valves/update"), json=posted) == posted
        assert "[marked for Admin]" in admin.answer("words", "hello")
        assert fnsync.project.git("rev-parse", "HEAD") != before
        assert "sk-123456789" not in (fnsync.project.functions / "tag.yaml").read_text()
    with checks("valves: values that do not fit are refused"):
        answer = admin.request("POST", admin.pipelines("tag/valves/update"), json={"priority": "high"})
        assert answer.status_code == 400, f"{answer.status_code} {answer.text}"
    with checks("valves: a filter is for the models that its valves name"):
        admin.json("POST", admin.pipelines("tag/valves/update"), json={"pipelines": ["many.one"]})
        admin.models()
        assert admin.answer("words", "hello") == "hello for admin@example.com "


def check_files(checks: Checks, fnsync: Server, admin: Chat) -> None:
    def upload(name: str, source: str) -> httpx.Response:
        files = {"file": (name, source.encode())}
        return admin.request("POST", "/api/v1/pipelines/upload", data={"urlIdx": str(FNSYNC)}, files=files)

    with checks("upload: a model at once, and a commit"):
        assert upload("new_one.py", UPLOADED).status_code == 200
        assert "new_one" in admin.models()
        assert admin.answer("new_one", "hello") == "uploaded"
        assert "new_one.py" in fnsync.project.git("show", "--stat", "--format=", "HEAD")
    with checks("upload: a file that does not load is refused"):
        answer = upload("broken.py", "class Pipeline:\n    def pipe(self:\n")
        assert answer.status_code == 400, f"{answer.status_code} {answer.text}"
    with checks("edit: a file that is saved answers the next chat"):
        fnsync.project.write("new_one.py", UPLOADED.replace("uploaded", "edited"))
        _until("the edit", lambda: admin.answer("new_one", "hello") == "edited")
        fnsync.project.commit("edit by hand")
    with checks("delete: no model any more, and a commit"):
        body = {"id": "new_one", "urlIdx": FNSYNC}
        admin.json("DELETE", "/api/v1/pipelines/delete", json=body)
        assert "new_one" not in admin.models()
        assert not (fnsync.project.functions / "new_one.py").exists()


# ---- what has to run -----------------------------------------------------------------------------------------------


@contextmanager
def open_webui(python: str, folder: Path) -> Iterator[httpx.Client]:
    """A running Open WebUI, without connections yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "open-webui.log"
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LD_LIBRARY_PATH")}
    environ = {
        **kept,
        "HOME": str(folder),
        # As its own command does, which has it find what was installed with it.
        "FROM_INIT_PY": "true",
        "DATA_DIR": str(folder / "data"),
        "WEBUI_SECRET_KEY": secrets.token_hex(32),
        "WEBUI_AUTH": "true",
        "BYPASS_MODEL_ACCESS_CONTROL": "true",
        "ENABLE_FORWARD_USER_INFO_HEADERS": "true",
        "ENABLE_OLLAMA_API": "false",
        "ENABLE_OPENAI_API": "false",
        # Nothing is fetched, and nobody told.
        "OFFLINE_MODE": "true",
        "HF_HUB_OFFLINE": "1",
        "RAG_EMBEDDING_ENGINE": "openai",
        "RAG_EMBEDDING_MODEL_AUTO_UPDATE": "false",
        "RAG_RERANKING_MODEL_AUTO_UPDATE": "false",
        "WHISPER_MODEL_AUTO_UPDATE": "false",
        "ENABLE_VERSION_UPDATE_CHECK": "false",
        "ANONYMIZED_TELEMETRY": "false",
        "DO_NOT_TRACK": "true",
        "SCARF_NO_ANALYTICS": "true",
    }
    (folder / "data").mkdir()
    command = [python, "-m", "uvicorn", "open_webui.main:app", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=output, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

            def ready() -> bool:
                if process.poll() is not None:
                    raise RuntimeError(f"Open WebUI ended with {process.returncode}:\n{log.read_text()[-3000:]}")
                try:
                    return client.get("/health", timeout=5).status_code == 200
                except httpx.TransportError:
                    return False

            _until(f"Open WebUI (see {log})", ready, START_S)
            yield client
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def accounts(client: httpx.Client) -> tuple[Chat, Chat]:
    """An admin and a user of Open WebUI; who signs up first is the admin."""
    form = {"name": "Admin", "email": "admin@example.com", "password": PASSWORD}
    answer = client.post("/api/v1/auths/signup", json=form)
    assert answer.status_code == 200, answer.text
    admin = Chat(client, answer.json()["token"])
    form = {"name": "Ulla", "email": "ulla@example.com", "password": PASSWORD, "role": "user"}
    return admin, Chat(client, admin.json("POST", "/api/v1/auths/add", json=form)["token"])


def connect(admin: Chat, connections: dict[str, str]) -> None:
    """Give Open WebUI its connections: address -> key."""
    config = {
        "ENABLE_OPENAI_API": True,
        "OPENAI_API_BASE_URLS": list(connections),
        "OPENAI_API_KEYS": list(connections.values()),
        "OPENAI_API_CONFIGS": {},
    }
    admin.json("POST", "/openai/config/update", json=config)


def _until(what: str, ask: Callable[[], bool], limit_s: float = 20.0) -> None:
    end = time.monotonic() + limit_s
    while not ask():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {limit_s:g} s")
        time.sleep(0.1)


def main(python: str) -> int:
    with tempfile.TemporaryDirectory(prefix="try-open-webui-") as name, upstream.serving() as provider:
        folder = Path(name)
        project = Project(folder / "project")
        for id, source in FUNCTIONS.items():
            project.write(f"{id}.py", source)
        project.commit("functions")
        project.configure(f"upstreams: [{{name: stub, kind: openai, url: '{provider.url}/v1', prefix: 'fs-'}}]\n")
        fnsync = Server(project)
        try:
            fnsync.wait_ready()
            key = fnsync.add_token("admin", email="chat@example.org", ceiling="admin")
            print(f"fnsync at {fnsync.url}; Open WebUI starts", flush=True)
            with open_webui(python, folder) as client:
                admin, user = accounts(client)
                connect(admin, {fnsync.url: key, f"{provider.url}/v1": "any"})
                checks = check(fnsync, provider, admin, user)
        finally:
            fnsync.stop()
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if checks.failed or not checks.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
