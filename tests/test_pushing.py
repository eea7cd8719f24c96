"""Three servers on one bare repository: each pushes its edits, and takes in those of the others."""

from __future__ import annotations

import concurrent.futures
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import commands
from tests.conftest import Project, Server, wait_for

API = "/api/v1/functions"
GAP = "        #\n" * 6
LISTEN = """
class Event:
    def event(self, event, __event_name__):
        if __event_name__.startswith("sync."):
            print(__event_name__, event["data"])
"""
NAMES = ("a", "b", "c")
#: Each has its own line of `shared`; all have the line of `hot`, and those of one server that of its own function.
CLIENTS = [f"{server}{number}" for server in NAMES for number in (1, 2)]
EDITS = 4


def source(**lines: Any) -> str:
    """A pipe with a line for each name, far apart, so that git can merge changes of different ones."""
    marked = "".join(f"{GAP}        {name} = {value!r}\n" for name, value in lines.items())
    return f"class Pipe:\n    def pipe(self, body):\n{marked}{GAP}        return str(locals())\n"


class Shared:
    """The bare repository, a colleague's clone, and three projects with a server each."""

    def __init__(self, folder: Path) -> None:
        self.bare = folder / "remote.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.bare], check=True)
        self.there = Project(folder / "there")
        self.there.git("remote", "add", "origin", str(self.bare))
        self.there.write("listen.py", LISTEN)
        self.there.write("shared.py", source(**dict.fromkeys(CLIENTS, 0)))
        self.there.write("hot.py", source(line=0))
        for name in NAMES:
            self.there.write(f"own_{name}.py", source(line=0))
        self.there.commit("first")
        self.there.git("push", "-q", "origin", "main")
        self.projects = {name: Project(folder / name) for name in NAMES}
        for project in self.projects.values():
            project.git("remote", "add", "origin", str(self.bare))
            project.git("pull", "-q", "origin", "main")
            project.configure("repository: {pull: 1h, push: true}\n")
        self.servers = {name: Server(project) for name, project in self.projects.items()}

    def push(self, **files: str) -> str:
        """A colleague's commit."""
        self.there.git("pull", "-q", "--rebase", "origin", "main")
        for id, text in files.items():
            self.there.write(f"{id}.py", text)
        commit = self.there.commit("theirs")
        self.there.git("push", "-q", "origin", "main")
        return commit

    def head(self) -> str:
        return self.there.git("--git-dir", str(self.bare), "rev-parse", "main")

    def converge(self) -> str:
        """Have all servers pull and push until they are one; returns the commit."""

        def is_one() -> bool:
            for server in self.servers.values():
                with server.client() as client:
                    client.post("/api/sync")
            heads = {project.git("rev-parse", "HEAD") for project in self.projects.values()}
            pending = [server.status()["push"]["pending"] for server in self.servers.values()]
            return heads == {self.head()} and pending == [0, 0, 0]

        wait_for("one HEAD", is_one, 60)
        return self.head()


@pytest.fixture(scope="module")
def module_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    shared = Shared(tmp_path_factory.mktemp("shared"))
    try:
        for server in shared.servers.values():
            server.wait_ready()
        yield shared
    finally:
        for server in shared.servers.values():
            server.stop()


@pytest.fixture
def shared(module_shared: Shared, watched: Any) -> Shared:
    for server in module_shared.servers.values():
        watched(server)
    return module_shared


def row(client: httpx.Client, id: str) -> dict[str, Any]:
    answer = client.get(f"{API}/id/{id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def update(
    client: httpx.Client, id: str, content: str, message: str, version: str | None = None, etag: str = "*"
) -> httpx.Response:
    form = {"id": id, "name": id, "content": content, "meta": {}, "commit_message": message, "version_id": version}
    headers = {} if version else {"If-Match": etag}
    return client.post(f"{API}/id/{id}/update", json=form, headers=headers)


def edit(client: httpx.Client, id: str, line: str, value: int, message: str) -> dict[str, Any]:
    """Set a line, on top of whatever is there by now; returns the answer."""
    while True:
        before = client.get(f"{API}/id/{id}")
        lines = before.json()["content"].splitlines()
        at = next(at for at, text in enumerate(lines) if text.strip().startswith(f"{line} = "))
        lines[at] = f"        {line} = {value}"
        answer = update(client, id, "\n".join(lines) + "\n", message, etag=before.headers["ETag"])
        if answer.status_code == 200:
            return dict(answer.json())
        assert answer.status_code == 409, answer.text


def pushed(shared: Shared, name: str) -> dict[str, Any]:
    """The push status once nothing waits any more."""
    server = shared.servers[name]

    def done() -> dict[str, Any] | None:
        push = server.status()["push"]
        return push if push["pending"] == 0 and push["pushed_at"] else None

    return dict(wait_for("the push", done))


def logs(server: Server) -> str:
    with server.client() as client:
        return client.get("/api/functions/id/listen/logs").text


def test_an_edit_is_pushed_behind_its_answer(shared: Shared) -> None:
    server = shared.servers["a"]
    with server.client() as client:
        answer = edit(client, "own_a", "line", 1, "An edit")
        push = pushed(shared, "a")
        assert shared.head() == answer["version_id"] == shared.projects["a"].git("rev-parse", "HEAD")
        assert push["error"] is None and push["pushed_at"] and push["conflicts"] == []
        assert 'fnsync_pushes_total{outcome="pushed"}' in client.get("/metrics").text
    wait_for("the event", lambda: "sync.pushed" in logs(server) and "'commits': 1" in logs(server))


def test_what_does_not_fit_is_kept_and_told_of(shared: Shared) -> None:
    """A colleague was faster. One edit fits, one does not, and what is not saved yet stays."""
    server, project = shared.servers["a"], shared.projects["a"]
    with server.client() as client:
        before = row(client, "own_a")
        shared.push(hot=source(line="theirs"))
        # The first push finds that the remote has moved on; both edits have to be made by then.
        project.git("remote", "set-url", "--push", "origin", str(shared.bare.with_name("away.git")))
        mine = edit(client, "own_a", "line", 2, "It fits")
        lost = edit(client, "hot", "line", 2, "It does not fit")
        assert "cannot push" in wait_for("the failure", lambda: server.status()["push"]["error"])["message"]
        assert server.status()["push"]["pending"] == 2 and server.status()["push"]["next_at"]
        assert "2 commits wait to be pushed" in told(server)
        project.git("config", "--unset", "remote.origin.pushurl")
        project.write("untracked.py", source(line="mine"))
        synced = client.post("/api/sync").json()
        assert (synced["count"], synced["replayed"], synced["ahead"], synced["push_error"]) == (1, 1, 0, None)
        assert synced["conflict"].startswith("fnsync/conflict/")

        wait_for("theirs", lambda: "'theirs'" in row(client, "hot")["content"])
        (branch,) = server.status()["push"]["conflicts"]
        assert (branch["branch"], branch["subject"], branch["commits"]) == (synced["conflict"], "It does not fit", 1)
        assert branch["paths"] == ["functions/hot.py"] and branch["author"] == "Admin" and branch["pushed"]
        shown = subprocess.run(
            ["git", "--git-dir", shared.bare, "show", f"{branch['branch']}:functions/hot.py"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        assert "line = 2" in shown
        assert f"on the branch {branch['branch']}" in told(server) and "git merge fnsync/conflict/" in told(server)
        wait_for("the event", lambda: "sync.conflict" in logs(server) and "It does not fit" in logs(server))
        assert "conflict" in server.log() and "fnsync_conflicts_total 1.0" in client.get("/metrics").text
        assert server.status()["repository"]["dirty"] == ["untracked.py"]
        project.remove("untracked.py")

        # The edit that fits has another hash now, as its history tells. What was made from the old one still is.
        def renewed() -> bool:
            return bool(row(client, "own_a")["version_id"] == project.git("rev-parse", "HEAD"))

        wait_for("the new version", renewed)
        after = row(client, "own_a")
        assert after["version_id"] != mine["version_id"]
        kept = ("created_at", "updated_at", "user_id")
        assert [after[key] for key in kept] == [mine[key] for key in kept]
        again = update(client, "own_a", source(line=3), "From the old one", mine["version_id"])
        assert again.status_code == 200, again.text
        for stale in (update(client, "hot", source(line=3), "stale", lost["version_id"]),
                      update(client, "own_a", source(line=4), "stale", before["version_id"])):  # fmt: skip
            assert stale.status_code == 409
    pushed(shared, "a")
    project.git("branch", "-D", branch["branch"])
    assert server.status()["push"]["conflicts"] == []


def told(server: Server) -> str:
    return commands.run(server.project.root, "status", FNSYNC_ADMIN_TOKEN=server.token).stdout


def test_a_remote_that_refuses_is_told_of_and_spared(shared: Shared) -> None:
    server = shared.servers["b"]
    hook, calls = shared.bare / "hooks/pre-receive", shared.bare / "calls"
    hook.write_text(f"#!/bin/sh\necho >>{calls}\necho Only through pull requests >&2\nexit 1\n")
    hook.chmod(0o755)
    try:
        with server.client() as client:
            edit(client, "own_b", "line", 1, "Refused")
            error = wait_for("the refusal", lambda: server.status()["push"]["error"])
            assert error["code"] == "push_refused" and "Only through pull requests" in error["message"]
            for value in (2, 3, 4):
                edit(client, "own_b", "line", value, f"Still {value}")
            push = server.status()["push"]
            assert push["pending"] == 4 and push["next_at"] and push["failing_since"]
            failed = [line for line in client.get("/metrics").text.splitlines() if 'pushes_total{outcome="f' in line]
            assert len(calls.read_text()) == float(failed[0].split()[-1]) <= 3, "not once for each edit"
            assert "Only through pull requests" in told(server)
            synced = client.post("/api/sync").json()
            assert synced["ahead"] == 4 and "Only through pull requests" in synced["push_error"]
            hook.unlink()
            assert client.post("/api/sync").json()["ahead"] == 0
            assert server.status()["push"]["error"] is None
    finally:
        hook.unlink(missing_ok=True)


def value(client_name: str, number: int) -> int:
    """What an edit sets: never what another one set."""
    return 100 * (CLIENTS.index(client_name) + 1) + number


def test_three_servers_under_edits_become_one(shared: Shared) -> None:
    """All edit the same functions at once, and their own. One of them, which cannot push, is killed meanwhile."""
    accepted: dict[str, list[str]] = {name: [] for name in NAMES}
    cut_off = shared.projects["c"]
    cut_off.git("remote", "set-url", "--push", "origin", str(shared.bare.with_name("away.git")))

    def work(client_name: str) -> None:
        name = client_name[0]
        with shared.servers[name].client() as client:
            for number in range(EDITS):
                id, line = [("shared", client_name), (f"own_{name}", "line"), ("hot", "line")][number % 3]
                message = f"{client_name} edit {number}"
                try:
                    edit(client, id, line, value(client_name, number), message)
                except httpx.TransportError:
                    assert name == "c", "only that one was killed"
                    return
                accepted[name].append(message)
                if name == "c" and len(accepted[name]) == 3:
                    shared.servers["c"].stop(signal.SIGKILL)

    with concurrent.futures.ThreadPoolExecutor(len(CLIENTS)) as pool:
        list(pool.map(work, CLIENTS))
    assert len(accepted["c"]) >= 3
    cut_off.git("config", "--unset", "remote.origin.pushurl")
    shared.servers["c"] = Server(cut_off).wait_ready()
    assert pushed(shared, "c")["pushed_at"], "a start pushes what was not"

    commit = shared.converge()
    on_main = shared.there.git("--git-dir", str(shared.bare), "log", "--format=%s", commit).splitlines()
    edits = [said for said in on_main if " edit " in said]
    assert len(edits) == len(set(edits)), "none is there twice"
    for name, server in shared.servers.items():
        branches = [branch["branch"] for branch in server.status()["push"]["conflicts"]]
        aside = server.project.git("log", "--format=%s", *branches, "--").splitlines() if branches else []
        lost = [message for message in accepted[name] if message not in on_main and message not in aside]
        assert lost == [], f"accepted by {name}"
    text = shared.projects["a"].functions.joinpath("shared.py").read_text()
    for client_name in CLIENTS:
        done = [number for number in range(0, EDITS, 3) if f"{client_name} edit {number}" in on_main]
        if done:
            assert f" {client_name} = {value(client_name, done[-1])}\n" in text, "what is on main is in the files"

    def lists() -> list[list[tuple[Any, ...]]]:
        keys = ("id", "name", "content", "is_active", "user_id", "created_at", "updated_at", "version_id")
        found = []
        for server in shared.servers.values():
            with server.client() as client:
                rows = [row(client, entry["id"]) for entry in client.get(f"{API}/").json()]
                found.append([tuple(one[key] for key in keys) for one in rows])
        return found

    wait_for("equal lists", lambda: len({str(one) for one in lists()}) == 1)
    for server in shared.servers.values():
        status = server.status()
        assert status["repository"]["dirty"] == [] and status["push"]["error"] is None
        assert {one["status"] for one in status["functions"]} == {"ready"}
