"""Sources end to end where hosts ask who calls, hang, refuse, cut and spoil: one server, hosts that misbehave."""

from __future__ import annotations

import base64
import http.client
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncssh
import httpx
import pytest
import yaml

from fnsync.periodic import JITTER, LONGEST_S, wait_s
from tests import commands
from tests.commandlines import command_lines
from tests.conftest import Project, Server, wait_for
from tests.githosts import LOOPBACK, CuttingProxy
from tests.githosts_auth import certificates, guarded_host, ssh_host
from tests.receiver import closed_port, receiving
from tests.remotes import PIPE, Remote

TOKEN = "glpat-0123+456/789="
PASSWORD = "pa%ss w/ord'\"&é"
#: So many bytes of a pack are not all of it.
PART = 40
FIVE = ("one", "two", "three", "four", "five")
EVENTS = """
class Event:
    def event(self, event, __event_name__):
        if __event_name__.startswith("sync."):
            print(__event_name__, event["data"])
"""


class Hang:
    """A host that takes connections and never says anything."""

    def __init__(self) -> None:
        self._listener = socket.create_server((LOOPBACK, 0), backlog=100)
        self.port = int(self._listener.getsockname()[1])

    def url(self, number: int) -> str:
        scheme = ("http", "https", "git", "ssh")[number % 4]
        return f"{scheme}://{LOOPBACK}:{self.port}/acme-{number}.git"

    def close(self) -> None:
        self._listener.close()


class Hosts:
    """A server that follows one source of each kind of host; all have five functions."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        files = {f"{name}.py": PIPE.format(name) for name in FIVE}
        self.remotes = {name: Remote(folder / "served" / name, files) for name in ("basic", "tls", "sshd", "cut")}
        self.signed = Remote(folder / "signed", {"sure.py": PIPE.format("unsigned")})
        tls = certificates(folder / "certificates")
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.key_file, self.known_hosts = folder / "deploy", folder / "known_hosts"
        self.key_file.write_bytes(self.key.export_private_key())
        self.key_file.chmod(0o600)
        self.signers = {name: folder / f"{name}.key" for name in ("ada", "eve")}
        for name, file in self.signers.items():
            line = ("-q", "-t", "ed25519", "-N", "", "-C", f"{name}@example.org", "-f", file)
            subprocess.run(["ssh-keygen", *line], check=True)
        self.basic = stack.enter_context(guarded_host(folder / "served"))
        self.tls = stack.enter_context(guarded_host(folder / "served", tls))
        self.open = stack.enter_context(guarded_host(folder / "served"))
        self.ssh = stack.enter_context(ssh_host(self.key))
        self.known_hosts.write_text(self.ssh.known_hosts())
        self.proxy = stack.enter_context(CuttingProxy(int(self.open.address.rpartition(":")[2])))
        self.hang = Hang()
        stack.callback(self.hang.close)
        self.receiver = stack.enter_context(receiving())
        self.let_in()
        self.project = Project(folder / "project")
        self.project.write("own.py", PIPE.format("own"))
        self.project.write("listen.py", EVENTS)
        self.configure()
        self.project.git("add", ".")
        self.project.commit("first")
        self.environ = {"BASIC_TOKEN": TOKEN, "TLS_PASSWORD": PASSWORD, "GIT_SSL_CAINFO": str(tls.ca)}
        self.server = Server(self.project, environ=self.environ)

    def let_in(self) -> None:
        self.basic.logins, self.tls.logins = {"oauth2": TOKEN}, {"ada": PASSWORD}

    def entries(self) -> list[dict[str, Any]]:
        auth: dict[str, Any] = {
            "basic": {"token": {"env": "BASIC_TOKEN"}},
            "tls": {"username": "ada", "password": {"env": "TLS_PASSWORD"}},
            "sshd": {"ssh_key": {"file": str(self.key_file)}, "known_hosts": str(self.known_hosts)},
        }
        urls = {
            "basic": self.basic.url("basic/remote.git"),
            "tls": self.tls.url("tls/remote.git"),
            "sshd": self.ssh.url(self.remotes["sshd"].bare),
            "cut": self.proxy.url("cut/remote.git"),
        }
        found = [{"name": name, "url": url, "auth": auth.get(name, {})} for name, url in urls.items()]
        verify = {"ssh": [str(self.signers["ada"].with_suffix(".key.pub"))]}
        return [*found, {"name": "signed", "url": self.signed.url, "verify": verify}]

    def configure(self, *more: dict[str, Any]) -> None:
        """Have the usual sources, and more."""
        common = {"path": "functions", "interval": "1h"}
        sources = [{**common, "prefix": f"{one['name']}_", **one} for one in [*self.entries(), *more]]
        told = [{"name": "told", "url": self.receiver.url}]
        # What waits for answers at a stop would wait for this long.
        whole = {"server": {"drain": "10m"}, "sources": sources, "notifications": told}
        self.project.configure(yaml.safe_dump(whole))

    def reconfigure(self, *more: dict[str, Any]) -> None:
        self.configure(*more)
        self.server.process.send_signal(signal.SIGHUP)
        names = {one["name"] for one in (*self.entries(), *more)}
        wait_for("the changed sources", lambda: set(self.sources()) == names)

    def again(self) -> None:
        """Have the server started anew, after it has ended."""
        self.server = Server(self.project, environ=self.environ).wait_ready()

    def sources(self) -> dict[str, dict[str, Any]]:
        with self.server.client() as client:
            return {one["name"]: one for one in client.get("/api/sources").json()["sources"]}

    def source(self, name: str) -> dict[str, Any]:
        return self.sources()[name]

    def post(self, name: str, path: str = "sync", body: Any = None) -> httpx.Response:
        with self.server.client(timeout=60) as client:
            return client.post(f"/api/sources/{name}/{path}", json=body or {})

    def sync(self, name: str) -> dict[str, Any]:
        answer = self.post(name)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def fails(self, name: str, code: str) -> dict[str, Any]:
        """A sync that fails, while what serves goes on; returns how the source stands."""
        before = self.source(name)["commit"]
        answer = self.post(name)
        assert answer.status_code in (409, 502), answer.text
        found = self.source(name)
        assert found["state"] == "failing" and found["error"]["code"] == code, found["error"]
        assert found["error"]["since"] and found["next_at"] and found["commit"] == before
        return found

    def call(self, id: str) -> httpx.Response:
        with self.server.client() as client:
            body = {"model": id, "messages": [{"role": "user", "content": "?"}]}
            return client.post("/v1/chat/completions", json=body)

    def says(self, id: str) -> str:
        answer = self.call(id)
        assert answer.status_code == 200, f"{id}: {answer.text}"
        return str(answer.json()["choices"][0]["message"]["content"])

    def change(self, name: str, text: str) -> str:
        """Push another text for the function `one` of a source."""
        return self.remotes[name].push({"one.py": PIPE.format(text)})

    def sign(self, who: str | None, text: str) -> str:
        """Push a commit that somebody has signed; None: nobody."""
        there = self.signed.there
        there.write("sure.py", PIPE.format(text))
        there.git("add", "functions")
        options = [] if who is None else ["-c", "gpg.format=ssh", "-c", f"user.signingkey={self.signers[who]}"]
        there.git(*options, "commit", "-q", *(["-S"] if who else []), "-m", text)
        there.git("push", "-q", "origin", "HEAD:refs/heads/main")
        return self.signed.head()

    def command(self, *arguments: str) -> commands.Told:
        return commands.run(self.project.root, *arguments, FNSYNC_ADMIN_TOKEN=self.server.token)

    def settle(self) -> None:
        """Have everything as usual, and all functions answer."""
        if self.server.process.poll() is not None:
            self.again()
        self.let_in()
        self.proxy.reset()
        self.basic.gate.set()
        self.basic.waiting.clear()
        for remote in self.remotes.values():
            if not remote.bare.exists():
                remote.come_back()
        if set(self.sources()) != {*self.remotes, "signed"}:
            self.reconfigure()
        for name in self.remotes:
            self.sync(name)


@pytest.fixture(scope="module")
def all_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with ExitStack() as stack:
        hosts = Hosts(tmp_path_factory.mktemp("hosts"), stack)
        stack.callback(lambda: hosts.server.stop())
        hosts.server.wait_ready()
        yield hosts


@pytest.fixture
def hosts(all_hosts: Hosts, watched: Callable[[Server], Server]) -> Hosts:
    watched(all_hosts.server)
    all_hosts.settle()
    return all_hosts


# ---- who calls -------------------------------------------------------------------------------------------


def secrets_of(hosts: Hosts) -> set[bytes]:
    """Whatever must be seen nowhere, in every form it is sent in."""
    found = {TOKEN, quote(TOKEN, safe=""), PASSWORD, quote(PASSWORD, safe="")}
    for login in (f"oauth2:{TOKEN}", f"ada:{PASSWORD}", TOKEN, PASSWORD):
        found.add(base64.b64encode(login.encode()).decode().rstrip("="))
    found |= {line for line in hosts.key_file.read_text().splitlines() if not line.startswith("-----")}
    return {text.encode() for text in found} | {PASSWORD.encode("unicode_escape")}


def all_told(hosts: Hosts) -> Iterator[tuple[str, bytes]]:
    """Everything that the server tells or keeps, and where."""
    for folder in (hosts.server.data, hosts.project.root):
        for file in folder.rglob("*"):
            if file.is_file():
                with suppress(FileNotFoundError):  # it was a temporary one
                    yield str(file), file.read_bytes()
    mirrors = list(hosts.server.data.glob("sources/*/mirror"))
    assert len(mirrors) == 5
    for mirror in mirrors:
        line = ["git", "-C", mirror, "config", "-l"]
        yield f"config of {mirror}", subprocess.run(line, check=True, capture_output=True).stdout
    with hosts.server.client() as client:
        for path in ("/api/status", "/api/sources", "/metrics", "/api/functions/", "/openapi.json"):
            yield path, client.get(path).content
    for arguments in (("source", "list"), ("source", "list", "basic"), ("status",), ("sync", "basic")):
        told = hosts.command(*arguments)
        yield " ".join(arguments), (told.stdout + told.stderr).encode()
    yield "git log", hosts.project.git("log", "-p", "--all").encode()
    yield from (("a notification", message.body) for message in hosts.receiver.messages)
    yield from (("a command line", line) for line in command_lines())


def test_private_sources_are_followed_and_no_credential_shows(hosts: Hosts) -> None:
    for name in ("basic", "tls", "sshd"):
        commit = hosts.change(name, f"over {name}")
        assert hosts.sync(name)["commit"] == commit
        assert hosts.says(f"{name}_one") == f"over {name}" and hosts.says(f"{name}_five") == "five"
    assert any(hosts.basic.shown) and hosts.ssh.commands, "nobody was asked who calls"

    hosts.basic.logins, hosts.tls.logins = {"oauth2": "another"}, {"ada": "another"}
    for name, key, user in (("basic", "token", "oauth2"), ("tls", "password", "ada")):
        error = hosts.fails(name, "access_refused")["error"]
        assert f"sources[{name}].auth.{key}" in error["message"] and "login was refused" in error["message"], error
        assert error["hint"] and user not in error["message"]
        assert hosts.says(f"{name}_one") == f"over {name}", "the last good commit serves"
    hosts.known_hosts.write_text(hosts.ssh.known_hosts(asyncssh.generate_private_key("ssh-ed25519")))
    try:
        error = hosts.fails("sshd", "access_refused")["error"]
        assert "another key" in error["message"] and str(hosts.known_hosts) in error["message"] + error["hint"]
    finally:
        hosts.known_hosts.write_text(hosts.ssh.known_hosts())
    listed = hosts.command("source", "list").stdout
    assert "login was refused" in listed and "next try in" in listed

    wait_for("the notification", lambda: any(b"access_refused" in one.body for one in hosts.receiver.messages))
    wait_for("the event", lambda: hosts.server.log().count("access_refused") >= 3)
    secrets = secrets_of(hosts)
    shown = [where for where, text in all_told(hosts) if any(secret in text for secret in secrets)]
    assert shown == []

    # While a fetch is under way the credentials are in use.
    hosts.let_in()
    hosts.basic.gate.clear()
    hosts.change("basic", "healed")
    with ThreadPoolExecutor() as threads:
        synced = threads.submit(hosts.sync, "basic")
        assert hosts.basic.waiting.wait(20)
        shown = [where for where, text in meanwhile(hosts) if any(secret in text for secret in secrets)]
        hosts.basic.gate.set()
        synced.result()
    assert shown == []
    assert hosts.says("basic_one") == "healed"


def meanwhile(hosts: Hosts) -> Iterator[tuple[str, bytes]]:
    yield from (("a command line", line) for line in command_lines())
    for file in hosts.server.data.rglob("*"):
        if file.is_file():
            with suppress(FileNotFoundError):
                yield str(file), file.read_bytes()


# ---- hosts that hang -------------------------------------------------------------------------------------


def test_hosts_that_hang_hold_up_nothing_else(hosts: Hosts, tmp_path: Path) -> None:
    refusing = f"http://{LOOPBACK}:{closed_port()}/acme.git"
    good = Remote(tmp_path, {"day.py": PIPE.format("good")})
    hung = [{"name": f"hung-{number}", "url": hosts.hang.url(number), "prefix": f"h{number}_"} for number in range(10)]
    refused = [{"name": f"refused-{number}", "url": refusing, "prefix": f"r{number}_"} for number in range(2)]
    hosts.reconfigure(*hung, *refused, {"name": "good", "url": good.url})
    names = [one["name"] for one in hung]

    def all_hang() -> bool:
        found = hosts.sources()
        return all(found[name]["state"] == "syncing" and found[name]["progress"] for name in names)

    wait_for("ten sources that hang", all_hang)
    wait_for("two that are refused", lambda: all(hosts.source(one["name"])["failures"] for one in refused))
    assert hosts.source("refused-0")["error"]["code"] == "fetch_failed"
    wait_for("the good source", lambda: hosts.call("good_day").status_code == 200)
    good.push({"day.py": PIPE.format("better")})
    hosts.sync("good")
    assert hosts.says("good_day") == "better" and hosts.says("own") == "own" and hosts.says("tls_two") == "two"
    hosts.server.add("saved", PIPE.format("saved"))
    assert hosts.says("saved") == "saved"
    with hosts.server.client() as client:
        form = {"id": "edited", "name": "Edited", "content": PIPE.format("edited"), "meta": {"description": ""}}
        assert client.post("/api/functions/create", json=form).status_code == 200
        assert len(client.get("/api/status").json()["sources"]) == len(hosts.sources())
        plans = [Asked(hosts, f"/api/plan?source=hung-{number}") for number in (7, 8, 9)]
        assert client.get("/api/plan", params={"source": "good"}).json()["after"] == good.head()
    assert "hung-3" in hosts.command("source", "list").stdout
    assert all_hang(), "they did not hang all the time"

    # Whoever waits for such a source gets an answer when it is gone, also behind the sync that is under way.
    asked = [Asked(hosts, path, body) for path, body in waiting_for("hung-0")]
    hosts.reconfigure(*hung[1:])
    assert [one.status() for one in asked] == [503, 503, 503]
    # Nor is a stop held up by such sources, or by who waits for them.
    asked = [Asked(hosts, path, body) for path, body in waiting_for("hung-1")]
    assert hosts.server.stop() == 0
    assert [one.status() for one in asked + plans] == [503] * 6
    assert not [line for line in command_lines() if f":{hosts.hang.port}/".encode() in line]


def waiting_for(source: str) -> list[tuple[str, str | None]]:
    sync = f"/api/sources/{source}/sync"
    return [(sync, "{}"), (sync, "{}"), (f"/api/plan?source={source}", None)]


class Asked:
    """A request, POST if it has a body, that the server has begun to answer."""

    def __init__(self, hosts: Hosts, path: str, body: str | None = None) -> None:
        url = httpx.URL(hosts.server.url)
        self._connection = http.client.HTTPConnection(url.host, url.port or 80, timeout=60)
        headers = {"Authorization": f"Bearer {hosts.server.token}", "Content-Type": "application/json"}
        self._connection.request("GET" if body is None else "POST", path, body, headers)
        for _ in range(3):  # what is asked later is answered later
            hosts.sources()

    def status(self) -> int:
        with closing(self._connection):
            return self._connection.getresponse().status


# ---- connections that break ------------------------------------------------------------------------------


def test_connections_that_are_cut_or_spoilt_heal(hosts: Hosts) -> None:
    for how in ("cut_after", "spoil_after"):
        before = hosts.says("cut_one")
        commit = hosts.change("cut", how)
        hosts.proxy.reset(in_pack=True, **{how: PART})
        found = hosts.fails("cut", "fetch_failed")
        assert hosts.proxy.has_struck.is_set()
        assert found["error"]["message"] and found["failures"] == 1
        assert hosts.says("cut_one") == before
        hosts.proxy.reset()
        assert hosts.sync("cut")["commit"] == commit
        assert hosts.says("cut_one") == how and hosts.source("cut")["error"] is None


def test_a_source_whose_host_hangs_is_rolled_back_at_once(hosts: Hosts) -> None:
    hosts.change("basic", "good")
    first = hosts.sync("basic")["commit"]
    hosts.change("basic", "bad")
    hosts.sync("basic")
    hosts.change("basic", "newest")
    hosts.basic.gate.clear()
    with ThreadPoolExecutor() as threads:
        hanging = threads.submit(hosts.sync, "basic")
        try:
            assert hosts.basic.waiting.wait(20)
            assert hosts.post("basic", "unpin").status_code == 200
            assert hosts.post("basic", "rollback").json()["commit"] == first
            assert hosts.says("basic_one") == "good"
            found = hosts.source("basic")
            assert found["state"] == "syncing" and found["pinned"] == first and not hanging.done()
        finally:
            hosts.basic.gate.set()
        assert hanging.result()["held"]["reason"] == "pinned"
    assert hosts.says("basic_one") == "good", "a fetch that was under way does not undo a rollback"
    assert hosts.post("basic", "unpin").status_code == 200
    wait_for("the newest commit", lambda: hosts.says("basic_one") == "newest")


def test_failures_are_further_and_further_apart(hosts: Hosts) -> None:
    hosts.proxy.reset(cut_after=0)
    hosts.reconfigure({"name": "flaky", "url": hosts.proxy.url("cut/remote.git"), "interval": "60s"})
    wait_for("the first failure", lambda: hosts.source("flaky")["state"] == "failing")
    waits = []
    for failures in range(2, 7):
        begun = time.time()
        found = hosts.fails("flaky", "fetch_failed")
        waits.append(wait_s(60.0, failures))
        assert found["failures"] == failures
        assert begun + waits[-1] * (1 - JITTER) <= found["next_at"] <= time.time() + waits[-1] * (1 + JITTER)
    assert waits == [240.0, 480.0, LONGEST_S, LONGEST_S, LONGEST_S]
    hosts.proxy.reset()
    begun = time.time()
    hosts.sync("flaky")
    found = hosts.source("flaky")
    assert (found["failures"], found["error"], found["state"]) == (0, None, "following")
    assert begun + 60 * (1 - JITTER) <= found["next_at"] <= time.time() + 60 * (1 + JITTER)


# ---- signatures ------------------------------------------------------------------------------------------


def test_only_signed_commits_are_applied(hosts: Hosts) -> None:
    unsigned = hosts.sign(None, "nobody's")
    error = hosts.fails("signed", "verification_failed")["error"]
    assert "is not signed" in error["message"] and "ada@example.org" in error["message"]
    assert hosts.call("signed_sure").status_code == 404
    hosts.sign("eve", "eve's")
    error = hosts.fails("signed", "verification_failed")["error"]
    assert "not among them" in error["message"]
    commit = hosts.sign("ada", "ada's")
    assert hosts.sync("signed")["commit"] == commit
    assert hosts.says("signed_sure") == "ada's"
    assert "ada@example.org" in hosts.source("signed")["commit"]["signer"]
    later = hosts.sign(None, "nobody's again")
    hosts.fails("signed", "verification_failed")
    assert hosts.says("signed_sure") == "ada's"
    kept = {path.name.partition("-")[0] for path in (hosts.server.data / "sources/signed/trees").iterdir()}
    assert kept == {commit}, "nothing of what is not signed was written out"
    for ref in (later, unsigned):
        assert hosts.call(f"signed_sure@{ref}").status_code != 200
        assert hosts.post("signed", "rollback", {"commit": ref}).status_code in (404, 409)
    assert hosts.says("signed_sure") == "ada's"
    hosts.sign("ada", "ada's again")
    hosts.sync("signed")
    assert hosts.says("signed_sure") == "ada's again"


# ---- kills -----------------------------------------------------------------------------------------------


def fetching(hosts: Hosts) -> set[int]:
    """The gits that fetch through the proxy."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = process.joinpath("cmdline").read_bytes().split(b"\0")
            if b"fetch" in words and f"remote.fnsync.url={hosts.proxy.url('cut/remote.git')}".encode() in words:
                found.add(int(process.name))
    return found


def test_a_kill_in_mid_fetch_and_remotes_that_are_gone(hosts: Hosts) -> None:
    pinned = hosts.source("cut")["commit"]["commit"]
    hosts.change("cut", "rolled back")
    hosts.sync("cut")
    assert hosts.post("cut", "rollback").json()["commit"] == pinned
    live = {name: one["commit"] for name, one in hosts.sources().items()}
    texts = {f"{name}_{one}": hosts.says(f"{name}_{one}") for name in hosts.remotes for one in FIVE}
    commit = hosts.change("cut", "after the kill")
    hosts.proxy.reset(in_pack=True, hold_after=PART)
    with ThreadPoolExecutor() as threads:
        cut = threads.submit(hosts.post, "cut")
        orphans = wait_for("a fetch that is held", lambda: hosts.proxy.has_struck.is_set() and fetching(hosts))
        hosts.server.stop(signal.SIGKILL)
        assert isinstance(cut.exception(), httpx.TransportError)
    assert orphans & fetching(hosts), "nothing was left that had to be ended"
    gone = ("basic", "tls", "sshd")
    for name in gone:
        hosts.remotes[name].vanish()
    hosts.again()
    assert {id: hosts.says(id) for id in texts} == texts
    assert hosts.source("cut")["pinned"] == pinned, "a pin outlives the server"
    wait_for("the end of what was left", lambda: not orphans & fetching(hosts))
    for name in gone:
        wait_for(f"the failure of {name}", lambda name=name: hosts.source(name)["state"] == "failing")
        assert hosts.source(name)["commit"] == live[name]
    assert hosts.source("cut")["state"] == "syncing"
    assert {id: hosts.says(id) for id in texts} == texts
    hosts.proxy.reset()
    hosts.proxy.let_go()
    wait_for("the fetch that is cut", lambda: hosts.source("cut")["progress"] is None)
    assert hosts.post("cut", "unpin").status_code == 200
    assert hosts.sync("cut")["commit"] == commit
    assert hosts.says("cut_one") == "after the kill"
    left = [path.name for path in (hosts.server.data / "sources/cut").iterdir()]
    assert sorted(left) == ["mirror", "mirror.lock", "record.json", "trees"]
