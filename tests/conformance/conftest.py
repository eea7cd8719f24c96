"""One server with every function of `functions/`, for all tests of this folder; and short ways to ask it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Project, Server

FUNCTIONS = Path(__file__).parent / "functions"
CHAT = "/v1/chat/completions"
API = "/api/v1/functions"


class Asker:
    """Asks the server as one user."""

    def __init__(self, server: Server, client: httpx.Client) -> None:
        self.server = server
        self.client = client

    # ---- chats ----

    def chat(self, model: str, said: str = "hello", *, headers: dict[str, str] | None = None, **more: Any) -> Any:
        """The HTTP answer to a chat; `more`: further keys of the body."""
        body = {"model": model, "messages": [{"role": "user", "content": said}], **more}
        return self.client.post(CHAT, json=body, headers=headers)

    def whole(self, model: str, said: str = "hello", **more: Any) -> dict[str, Any]:
        """The completion object."""
        answer = self.chat(model, said, **more)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def say(self, model: str, said: str = "hello", **more: Any) -> str:
        """What a plain answer says."""
        return str(self.whole(model, said, **more)["choices"][0]["message"]["content"])

    def told(self, model: str, said: str = "hello", **more: Any) -> Any:
        """The JSON value that a plain answer says."""
        return json.loads(self.say(model, said, **more))

    def told_before(self, model: str, mark: str) -> Any:
        """The JSON value that a plain answer says, up to `mark`."""
        return json.loads(self.say(model).partition(mark)[0])

    def stream(self, model: str, said: str = "hello", **more: Any) -> list[Any]:
        """The events of a streamed answer, `[DONE]` left out: objects, or text."""
        answer = self.chat(model, said, stream=True, **more)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.text.endswith("data: [DONE]\n\n"), answer.text
        found = [event.removeprefix("data:").strip() for event in answer.text.split("\n\n") if event.strip()]
        return [json.loads(event) if event.startswith("{") else event for event in found[:-1]]

    def refused(self, model: str, said: str = "hello", **more: Any) -> tuple[int, dict[str, Any]]:
        """Status and error object of an answer that is an error."""
        answer = self.chat(model, said, **more)
        assert answer.status_code >= 400, answer.text
        return answer.status_code, answer.json()["error"]

    # ---- functions ----

    def row(self, id: str) -> dict[str, Any]:
        """The function as the Functions API tells it."""
        answer = self.client.get(f"{API}/id/{id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def manifest(self, id: str) -> dict[str, Any]:
        return dict(self.row(id)["meta"]["manifest"])

    def model(self, id: str) -> dict[str, Any] | None:
        """The model's entry in the list."""
        return next((entry for entry in self.models if entry["id"] == id), None)

    def models_of(self, id: str) -> dict[str, str]:
        """The models of a function: id -> name."""
        mine = [entry for entry in self.models if entry["id"].partition(".")[0] == id]
        return {entry["id"]: entry["name"] for entry in mine}

    @cached_property
    def models(self) -> list[dict[str, Any]]:
        return list(self.client.get("/api/models").json()["data"])

    @cached_property
    def standings(self) -> dict[str, dict[str, Any]]:
        """How each function stands, by id, as it was when first asked for."""
        return {entry["id"]: entry for entry in self.server.status()["functions"]}

    def problem(self, id: str) -> dict[str, Any]:
        """Why the function has no revision that loads."""
        entry = self.standings[id]
        assert entry["status"] == "failed", entry
        return dict(entry["error"])

    def log(self, id: str) -> list[str]:
        """What the function wrote."""
        answer = self.client.get(f"/api/functions/id/{id}/logs")
        assert answer.status_code == 200, answer.text
        return [line["text"] for line in answer.json()["lines"]]


def text_of(events: list[Any]) -> str:
    """What the chunks of a stream say together."""
    chunks = [event for event in events if isinstance(event, dict) and event.get("choices")]
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in chunks)


def shows(section: str, sentence: str, *values: Any, here: str = "") -> Any:
    """A row of a table: a sentence of the contract and what shows it. `here`: what fnsync does instead, and why."""
    return pytest.param(*values, id=f"{section} {sentence}" + (f" (here: {here})" if here else ""))


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = Project(tmp_path_factory.mktemp("conformance") / "project")
    shutil.copytree(FUNCTIONS, project.functions, dirs_exist_ok=True)
    # Hundreds of workers would wait beside all other tests; those that keep something between calls say so.
    project.configure("defaults: {idle: 3s}")
    project.commit("the functions")
    server = Server(project)
    try:
        yield server.wait_ready()
    finally:
        server.stop()


def _asker(host: Server, token: str) -> Iterator[Asker]:
    with host.client(token) as client:
        yield Asker(host, client)


@pytest.fixture(scope="session")
def ask(host: Server) -> Iterator[Asker]:
    """Asks as the admin."""
    yield from _asker(host, host.token)


@pytest.fixture(scope="session")
def ada(host: Server) -> Iterator[Asker]:
    """Asks as a user."""
    yield from _asker(host, host.add_token("user", "ada@example.org", "Ada"))


@pytest.fixture(scope="session")
def bob(host: Server) -> Iterator[Asker]:
    """Asks as another user."""
    yield from _asker(host, host.add_token("user", "bob@example.org", "Bob"))
