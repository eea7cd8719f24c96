"""Whether a caller may is asked again when a request takes effect: body and trial may both take long."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from fnsync import offline
from fnsync.config import load
from fnsync.edits.drafts import Content, Drafting
from fnsync.edits.entries import Entry
from fnsync.edits.importing import Importer, ImportOptions
from fnsync.edits.manager import Manager, Terms
from fnsync.edits.transfer import Transfer
from fnsync.errors import Unauthorized, UnknownFunction
from fnsync.model import FunctionId, Settings, Unit, User
from fnsync.service import Service
from tests.conftest import Project, Server, wait_for

API = "/api/functions"
SOURCE = """
from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        key: str = ""

    class UserValves(BaseModel):
        tone: str = ""

    def pipe(self, body):
        return "one"
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server where users may have functions of their own."""
    project = Project(tmp_path_factory.mktemp("authorization") / "project")
    project.configure("auth: {user_functions: true}")
    server = Server(project)
    try:
        yield server.wait_ready()
    finally:
        server.stop()


class Owned:
    """A function of Ada's, and what may happen to her or to it meanwhile."""

    def __init__(self, server: Server, id: str) -> None:
        self.server = server
        self.id = id
        self.ada_token = server.add_token("user", f"ada-{id}@example.org")
        self._bob_token = server.add_token("user", f"bob-{id}@example.org")
        with server.client(self.ada_token) as ada:
            made = ada.post(API, json=form(id))
            assert made.status_code == 200, made.text
            assert ada.post(f"{API}/id/{id}/toggle").status_code == 200
            self.version = ada.get(f"{API}/id/{id}").json()["version_id"]
        with server.state() as state:
            users = {user.email: user.id for user in state.users()}
        self.ada, self.bob = users[f"ada-{id}@example.org"], users[f"bob-{id}@example.org"]

    def happen(self, change: str) -> None:
        with self.server.client() as admin, self.server.client(self._bob_token) as bob:
            match change:
                case "she is to wait":
                    assert admin.put(f"/api/users/{self.ada}", json={"role": "pending"}).status_code == 200
                case "she is removed":
                    assert admin.delete(f"/api/users/{self.ada}").status_code == 200
                case "her token is revoked beside the server":
                    with self.server.state() as state:
                        for token in state.tokens(self.ada):
                            state.revoke(token.id)
                case "it is given to somebody else":
                    self.server.project.write(f"{self.id}.yaml", f"active: true\nowner: {self.bob}\n")
                    wait_for("his", lambda: bob.get(f"{API}/id/{self.id}").status_code == 200)
                case "it is for all":
                    self.server.project.write(f"{self.id}.yaml", "active: true\n")
                    wait_for("nobody's", lambda: bob.get(f"{API}/id/{self.id}").status_code == 401)
                case "somebody else makes another one of the name":
                    assert admin.delete(f"{API}/{self.id}").status_code == 200
                    assert bob.post(API, json=form(self.id, "bob's")).status_code == 200

    def files(self) -> dict[str, str]:
        found = self.server.project.functions.glob(f"{self.id}*")
        return {path.name: path.read_text() for path in found}


CHANGES = {
    "she is to wait": 401,
    "she is removed": 401,
    "her token is revoked beside the server": 401,
    "it is given to somebody else": 404,
    "it is for all": 401,
    "somebody else makes another one of the name": 404,
}
REQUESTS: dict[str, tuple[str, str, Callable[[Owned], Any]]] = {
    "update": ("PUT", "{id}", lambda owned: form(owned.id, "changed")),
    "valves": ("POST", "id/{id}/valves/update", lambda owned: {"key": "changed"}),
    "rollback": ("POST", "id/{id}/update/version", lambda owned: {"version_id": owned.version}),
    "invoke": ("POST", "id/{id}/invoke", lambda owned: {"body": {}}),
}


def form(id: str, answer: str = "one") -> dict[str, Any]:
    return {"id": id, "name": id, "content": SOURCE.replace('"one"', repr(answer)), "meta": {}}


@contextmanager
def begun(server: Server, token: str, method: str, path: str, body: Any) -> Iterator[Callable[[], tuple[int, Any]]]:
    """A request whose body is awaited by its endpoint; gives what sends the body and returns the answer."""
    data = json.dumps(body).encode()
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.putrequest(method, path)
    for name, value in (("Authorization", f"Bearer {token}"), ("Expect", "100-continue")):
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(data)))
    connection.endheaders()
    told = b""
    while not told.endswith(b"\r\n\r\n"):
        told += connection.sock.recv(1)
    assert b" 100 " in told, told

    def finish() -> tuple[int, Any]:
        connection.send(data)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    try:
        yield finish
    finally:
        connection.close()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("request_", REQUESTS)
def test_who_may_no_longer_when_the_body_has_come_is_refused(
    shared: Server, fn: str, request_: str, change: str
) -> None:
    owned = Owned(shared, fn)
    method, path, body = REQUESTS[request_]

    with begun(shared, owned.ada_token, method, f"{API}/{path.format(id=fn)}", body(owned)) as finish:
        owned.happen(change)
        before = owned.files()
        status, answer = finish()

    assert (status, set(answer) - {"hint"}) == (CHANGES[change], {"detail"})
    assert owned.files() == before


@pytest.mark.parametrize("change", [change for change in CHANGES if change != "it is for all"])
def test_user_valves_are_for_who_sees_the_function_when_the_body_has_come(shared: Server, fn: str, change: str) -> None:
    owned = Owned(shared, fn)

    with begun(shared, owned.ada_token, "POST", f"{API}/id/{fn}/valves/user/update", {"tone": "warm"}) as finish:
        owned.happen(change)
        status, _ = finish()

    assert status == CHANGES[change]


def test_a_user_who_is_to_wait_makes_no_function(shared: Server, fn: str) -> None:
    owned = Owned(shared, fn)

    with begun(shared, owned.ada_token, "POST", API, form(f"{fn}_more")) as finish:
        owned.happen("she is to wait")
        status, _ = finish()

    assert status == 401 and set(owned.files()) == {f"{fn}.py", f"{fn}.yaml"}


@pytest.mark.parametrize("path", ["sync", "import"])
def test_an_admin_no_longer_one_when_the_body_has_come_is_refused(shared: Server, fn: str, path: str) -> None:
    token = shared.add_token("admin", f"{fn}@example.org")
    entry = {**form(fn), "type": "pipe", "updated_at": 0, "created_at": 0}

    with begun(shared, token, "POST", f"{API}/{path}", {"functions": [entry]}) as finish:
        with shared.state() as state:
            boss = state.user_by_email(f"{fn}@example.org")
            assert boss is not None
            state.set_role(boss.id, "user")
        status, _ = finish()

    assert status == 401 and not list(shared.project.functions.glob(f"{fn}*"))


@pytest.mark.parametrize("change", CHANGES)
def test_a_log_is_followed_by_who_may_read_it_alone(shared: Server, fn: str, change: str) -> None:
    owned = Owned(shared, fn)

    with shared.client(owned.ada_token) as ada, ada.stream("GET", f"{API}/id/{fn}/logs?follow=true") as answer:
        assert answer.status_code == 200
        owned.happen(change)
        assert [line for line in answer.iter_lines() if line] == [], "it ends"


@pytest.mark.parametrize("change", CHANGES)
def test_who_may_no_longer_when_the_trial_is_over_is_refused(
    shared: Server, fn: str, change: str, tmp_path: Path
) -> None:
    owned = Owned(shared, fn)
    trying, go = tmp_path / "trying", tmp_path / "go"
    waits = f"import pathlib, time\npathlib.Path({str(trying)!r}).touch()\n"
    waits += f"while not pathlib.Path({str(go)!r}).exists():\n    time.sleep(0.01)\n"
    sent = {**form(fn), "content": waits + SOURCE}

    with ThreadPoolExecutor() as threads, shared.client(owned.ada_token) as ada:
        answer = threads.submit(ada.put, f"{API}/{fn}", json=sent)
        wait_for("the trial", trying.exists)
        try:
            owned.happen(change)
            before = owned.files()
        finally:
            go.touch()
        refused: httpx.Response = answer.result()

    assert refused.status_code == CHANGES[change], refused.text
    assert owned.files() == before


# ---- each edit, by itself --------------------------------------------------------------------------------

EDITS: dict[str, Callable[[Manager, str, Terms], Any]] = {
    "create": lambda manager, version, terms: manager.create("more", Content("more", SOURCE), terms),
    "update": lambda manager, version, terms: manager.update(MINE, Content("mine", "class Pipe: ...\n"), terms),
    "toggle": lambda manager, version, terms: manager.toggle(MINE, terms),
    "toggle_global": lambda manager, version, terms: manager.toggle_global(MINE, terms),
    "roll_back": lambda manager, version, terms: manager.roll_back(MINE, version, terms),
    "delete": lambda manager, version, terms: manager.delete(MINE, terms),
    "set_valves": lambda manager, version, terms: manager.set_valves(MINE, {"key": "changed"}, terms),
    "refer": lambda manager, version, terms: manager.set_valves(MINE, {"key": {"env": "DEEPL"}}, terms),
    "sync": lambda manager, version, terms: Transfer(manager).sync([], terms),
    "import": lambda manager, version, terms: Importer(manager).take(
        [Entry("more", Content("more", SOURCE))], ImportOptions(), terms
    ),
}
MINE = FunctionId("mine")


def edited(project: Project, edit: str, authorize: Callable[[Unit | None], User]) -> None:
    """Make an edit of a function that has two versions."""
    project.configure("defaults: {active: true}")
    for source in (SOURCE.replace('"one"', '"first"'), SOURCE):
        project.write("mine.py", source)
        version = project.commit()

    async def work(service: Service, admin: User) -> None:
        await service.manager.informed()
        await EDITS[edit](service.manager, project.git("rev-parse", "HEAD~1"), Terms(admin, authorize=authorize))

    try:
        offline.run(load(project.root / "fnsync.yaml", {}), {"DEEPL": "secret"}, work)
    finally:
        assert project.git("status", "--porcelain", "functions") == ""
        assert project.git("rev-parse", "HEAD") == version, "nothing was committed"


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_authorized_again_when_it_is_written(project: Project, edit: str) -> None:
    asked: list[Unit | None] = []

    def authorize(unit: Unit | None) -> User:
        asked.append(unit)
        if len(asked) > 1:
            raise Unauthorized("no longer")
        return User("ada", "Ada", "ada@example.org", "admin")

    with pytest.raises(Unauthorized, match="no longer"):
        edited(project, edit, authorize)

    of_one = edit not in ("create", "sync", "import")
    assert [unit.id if unit else None for unit in asked] == [MINE if of_one else None] * 2


def test_a_reference_needs_an_admin_when_it_is_stored(project: Project) -> None:
    def authorize(unit: Unit | None) -> User:
        return User("ada", "Ada", "ada@example.org", "user")

    with pytest.raises(Unauthorized, match="only an admin"):
        edited(project, "refer", authorize)


@pytest.mark.parametrize(
    ("text", "owner", "is_known"), [("owner: bob\n", "bob", True), (None, None, True), ("ownr: bob\n", None, False)]
)
def test_what_is_authorized_is_what_the_disk_says(
    project: Project, text: str | None, owner: str | None, is_known: bool
) -> None:
    read = Unit(MINE, "mine.py", None, settings=Settings(owner="ada"))
    drafting = Drafting(project.functions, lambda id: read, active=True)
    project.write("mine.py", SOURCE)
    if text is not None:
        project.write("mine.yaml", text)

    unit = drafting.on_disk(read)

    assert (unit.settings.owner, unit.settings_known) == (owner, is_known)


def test_what_is_gone_from_the_disk_is_authorized_for_nobody(project: Project) -> None:
    read = Unit(MINE, "mine.py", None, settings=Settings(owner="ada"))

    with pytest.raises(UnknownFunction):
        Drafting(project.functions, lambda id: read, active=True).on_disk(read)


ADMINS = {
    "a user": ("POST", "/api/users", {"email": "new@example.org", "role": "admin"}),
    "a role": ("PUT", "/api/users/{id}", {"role": "admin"}),
    "a token": ("POST", "/api/users/{id}/tokens", {}),
}


@pytest.mark.parametrize("request_", ADMINS)
def test_nor_does_an_admin_who_is_none_any_more_make_users_and_tokens(shared: Server, request_: str) -> None:
    address = f"former-{request_.replace(' ', '-')}@example.org"
    token = shared.add_token("admin", address)
    with shared.state() as state:
        admin = state.user_by_email(address)
    assert admin is not None
    method, path, body = ADMINS[request_]

    with begun(shared, token, method, path.format(id=admin.id), body) as finish:
        with shared.state() as state:
            state.set_role(admin.id, "user")
        status, answer = finish()

    assert (status, answer["detail"]) == (401, "this needs an admin's token")
