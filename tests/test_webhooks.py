"""Webhooks: what code hosts send has a pull begin, at once, and nothing else does. One server, one bare repository."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fnsync import webhooks
from fnsync.api.webhooks import LIMIT_BYTES, MOST_AT_ONCE
from fnsync.errors import Invalid
from fnsync.signatures import sign
from fnsync.webhooks import REMEMBERED_S, Deliveries, Followed, Push, concerned, follows, read
from tests.conftest import NO_CERTIFICATES, Project, Server, wait_for
from tests.receiver import Message, Receiver, closed_port, receiving
from tests.remotes import PIPE, Remote
from tests.test_signatures import KEY, STANDARD_SECRET, standard

SECRET = "correct horse battery staple"
CONFIGURATION = """
repository: {pull: 1h}
webhooks:
  - {name: github, kind: github, secret: {env: HOOK_SECRET}}
  - {name: gitea, kind: gitea, secret: {env: HOOK_SECRET}}
  - {name: gitlab, kind: gitlab, secret: {env: HOOK_SECRET}}
  - {name: gitlab-signed, kind: gitlab, secret: {file: signing-token}}
  - {name: generic, kind: generic, secret: {env: HOOK_SECRET}}
  - {name: listed, kind: generic, secret: {env: HOOK_SECRET}, triggers: [repository]}
  - {name: elsewhere, kind: generic, secret: {env: HOOK_SECRET}, triggers: [asleep]}
  - {name: guessed, kind: gitea, secret: {env: HOOK_SECRET}}
sources:
  - {name: acme, url: "%s", path: functions, prefix: acme_, interval: 1h}
  - {name: asleep, url: "%s", path: functions, prefix: asleep_, suspend: true}
notifications:
  - {name: ops, url: "%s", secret: {env: HOOK_SECRET}}
  - {name: nobody, url: "http://127.0.0.1:%d/"}
"""
Headers = dict[str, str]


class Hooked:
    """A server that follows a bare repository, which others push to, and would not look again for an hour."""

    def __init__(self, folder: Path, told: Receiver) -> None:
        self.told = told
        self.acme = Remote(folder / "acme", {"hum.py": PIPE.format("one")})
        self.project = Project(folder / "project")
        self.project.write("shout.py", PIPE.format("one"))
        self.project.configure(CONFIGURATION % (self.acme.url, self.acme.url, told.url, closed_port()))
        (self.project.root / "signing-token").write_text(STANDARD_SECRET + "\n")
        self.project.commit("first")
        self.bare = folder / "remote.git"
        subprocess.run(["git", "clone", "-q", "--bare", self.project.root, self.bare], check=True)
        self.project.git("remote", "add", "origin", str(self.bare))
        self.there = Project(folder / "there")
        self.there.git("remote", "add", "origin", str(self.bare))
        self.there.git("pull", "-q", "origin", "main")
        environ = {"HOOK_SECRET": SECRET, "FNSYNC_RATE_LIMITS__LOGINS": "3/hour"}
        self.server = Server(self.project, environ=environ)
        self.addresses = iter(range(2, 250))

    def push(self, text: str, source: str = PIPE) -> str:
        self.there.write("shout.py", source.format(text))
        commit = self.there.commit(text)
        self.there.git("push", "-q", "origin", "main")
        return commit

    def says(self, text: str, id: str = "shout") -> None:
        body = {"model": id, "messages": [{"role": "user", "content": "?"}]}
        with self.server.client() as client:
            wait_for(
                f"{id}: {text}",
                lambda: (
                    (found := client.post("/v1/chat/completions", json=body)).is_success
                    and found.json()["choices"][0]["message"]["content"] == text
                ),
            )

    def heard(self, event: str, source: str, commit: str) -> Message:
        """The message that tells of an event."""

        def is_it(said: dict[str, Any]) -> bool:
            about = (said["event"], said["source"], (said["commit"] or {}).get("hash"))
            return about == (event, source, commit)

        def find() -> Message | None:
            return next((one for one in self.told.messages if is_it(one.said)), None)

        return wait_for(f"{event} of {commit}", find)

    def pulls(self) -> int:
        """How many pulls have ended."""
        with self.server.client() as client:
            lines = client.get("/metrics").text.splitlines()
        return sum(int(float(line.split()[1])) for line in lines if line.startswith("fnsync_pulls_total"))

    def quiet(self) -> int:
        """The same, once everything is pulled that was asked for."""
        with self.server.client() as client:
            client.post("/api/sync")
        return self.pulls()

    def counted(self, name: str, result: str) -> int:
        with self.server.client() as client:
            lines = client.get("/metrics").text.splitlines()
        wanted = f'fnsync_webhooks_total{{name="{name}",result="{result}"}} '
        return next((int(float(line.split()[1])) for line in lines if line.startswith(wanted)), 0)

    def send(self, name: str, body: bytes, headers: Headers, **options: Any) -> httpx.Response:
        """Post from an address of its own, so that nothing wrong counts against others."""
        with self.client() as client:
            return client.post(f"/api/webhooks/{name}", content=body, headers=headers, **options)

    def client(self) -> httpx.Client:
        way = httpx.HTTPTransport(local_address=f"127.0.0.{next(self.addresses)}", verify=NO_CERTIFICATES)
        return httpx.Client(base_url=self.server.url, transport=way, timeout=30)


@pytest.fixture(scope="module")
def module_hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooked]:
    with receiving() as told:
        hooked = Hooked(tmp_path_factory.mktemp("hooked"), told)
        try:
            hooked.server.wait_ready()
            wait_for("the first pull", lambda: hooked.server.status()["pull"]["fetched_at"])
            yield hooked
        finally:
            hooked.server.stop()


@pytest.fixture
def hooked(module_hooked: Hooked, watched: Any) -> Hooked:
    watched(module_hooked.server)
    return module_hooked


# ---- what hosts send, in the shapes of their documentation --------------------------------------------------


def hexed(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def github(url: str, ref: str = "refs/heads/main", event: str = "push", secret: str = SECRET) -> tuple[bytes, Headers]:
    commit = secrets.token_hex(20)
    body = json.dumps(
        {
            "ref": ref,
            "before": "0" * 40,
            "after": commit,
            "repository": {
                "id": 186853002,
                "full_name": "acme/functions",
                "html_url": url,
                "git_url": url,
                "ssh_url": url,
                "clone_url": url,
                "default_branch": "main",
                "pushed_at": 1700000000,
            },
            "pusher": {"name": "ada", "email": "ada@example.org"},
            "commits": [{"id": commit, "message": "Shout", "added": [], "modified": ["functions/shout.py"]}],
        }
    ).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": secrets.token_hex(16),
        "X-Hub-Signature-256": f"sha256={hexed(body, secret)}",
    }
    return body, headers


def gitea(url: str) -> tuple[bytes, Headers]:
    body, given = github(url)
    signature = hexed(body)
    ours = {"X-Gitea-Event": "push", "X-Gitea-Delivery": secrets.token_hex(16), "X-Gitea-Signature": signature}
    return body, given | ours | {"X-Forgejo-Event": "push", "X-Forgejo-Signature": signature}


def _gitlab(url: str) -> bytes:
    return json.dumps(
        {
            "object_kind": "push",
            "event_name": "push",
            "before": "0" * 40,
            "after": secrets.token_hex(20),
            "ref": "refs/heads/main",
            "user_username": "ada",
            "project": {
                "id": 15,
                "web_url": url,
                "git_ssh_url": url,
                "git_http_url": url,
                "path_with_namespace": "acme/functions",
                "default_branch": "main",
            },
            "repository": {"name": "functions", "url": url, "git_http_url": url, "git_ssh_url": url},
            "commits": [],
            "total_commits_count": 1,
        }
    ).encode()


def gitlab(url: str) -> tuple[bytes, Headers]:
    headers = {"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": SECRET, "Idempotency-Key": secrets.token_hex(16)}
    return _gitlab(url), headers | {"X-Gitlab-Event-UUID": secrets.token_hex(16)}


def gitlab_signed(url: str) -> tuple[bytes, Headers]:
    body = _gitlab(url)
    signed = standard(KEY, secrets.token_hex(16).encode(), int(time.time()), body)
    return body, {name.decode(): value.decode() for name, value in signed.items()} | {"X-Gitlab-Event": "Push Hook"}


def generic(url: str | None = None, at: float | None = None, **more: Any) -> tuple[bytes, Headers]:
    body = json.dumps(
        ({} if url is None else {"url": url, "ref": "main"}) | {"n": secrets.token_hex(8)} | more
    ).encode()
    return body, {"X-Fnsync-Signature": sign(SECRET, body, int(time.time() if at is None else at))}


SENDERS = {
    "github": github,
    "gitea": gitea,
    "gitlab": gitlab,
    "gitlab-signed": gitlab_signed,
    "generic": generic,
}


@pytest.mark.parametrize("name", SENDERS)
def test_a_push_goes_live_and_its_replay_does_nothing(hooked: Hooked, name: str) -> None:
    hooked.push(f"by {name}")
    body, headers = SENDERS[name](f"file://{hooked.bare}")
    answer = hooked.send(name, body, headers)
    assert (answer.status_code, answer.json()) == (202, {"triggered": ["repository"], "ignored": None}), answer.text
    hooked.says(f"by {name}")

    before = hooked.quiet()
    if name == "github":
        headers["X-GitHub-Delivery"] = "another"
    again = hooked.send(name, body, headers)
    assert (again.status_code, again.json()["triggered"]) == (202, [])
    assert "taken before" in again.json()["ignored"]
    assert hooked.pulls() == before
    assert (hooked.counted(name, "accepted"), hooked.counted(name, "replayed")) == (1, 1)


def test_metrics_tell_how_the_repository_stands(hooked: Hooked) -> None:
    commit = hooked.push("measured")
    hooked.send("listed", *generic())
    hooked.says("measured")
    with hooked.server.client() as client:
        text = client.get("/metrics").text
    with hooked.server.client(hooked.server.add_token("user")) as client:
        wait_for("the token", lambda: client.get("/metrics").is_success)
        assert "fnsync_source_info" not in client.get("/metrics").text, "it names sources"
    assert f'fnsync_source_info{{commit="{commit}",ref="main",source="repository"}} 1.0' in text
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert 0 <= float(found['fnsync_source_age_seconds{source="repository"}']) < 60
    assert float(found['fnsync_source_fetched_timestamp_seconds{source="repository"}']) > time.time() - 60
    assert float(found['fnsync_source_failures_total{source="repository"}']) >= 0
    assert float(found['fnsync_source_functions{source="repository",status="ready"}']) == 1
    moved = float(found['fnsync_sync_duration_seconds_count{result="moved",source="repository"}'])
    assert moved == float(found['fnsync_pulls_total{outcome="moved"}']) > 0


def test_whoever_is_named_is_told_what_became_of_a_push(hooked: Hooked) -> None:
    def told(event: str, commit: str) -> Message:
        return hooked.heard(event, "repository", commit)

    commit = hooked.push("nothing", "class Pipe:\n    def pipe(self, body)\n")
    hooked.send("listed", *generic())
    completed, degraded = told("sync.completed", commit), told("sync.degraded", commit)
    assert completed.is_signed(SECRET) and degraded.is_signed(SECRET)
    said = completed.said
    assert said["commit"] == {"hash": commit, "subject": "nothing", "author": "Ada"}
    assert (said["source"], said["ref"], said["url"]) == ("repository", "main", str(hooked.bare))
    assert [(one["id"], one["place"]) for one in said["functions"]["failed"]] == [("shout", "shout.py:2:25")]
    assert degraded.said["error"]["message"] == "1 function does not load: shout"

    commit = hooked.push("mended")
    hooked.send("listed", *generic())
    assert told("sync.recovered", commit).said["functions"]["failed"] == []
    hooked.says("mended")


def test_a_push_to_a_source_begins_its_sync_and_is_told(hooked: Hooked) -> None:
    hooked.says("one", "acme_hum")
    commit = hooked.acme.push({"hum.py": PIPE.format("two"), "bad.py": "class Pipe:\n    def pipe(self)\n"}, "Hum")
    before = hooked.quiet()
    answer = hooked.send("github", *github(hooked.acme.url))
    assert answer.json()["triggered"] == ["acme"], "neither the repository nor one that is suspended"
    hooked.says("two", "acme_hum")
    said = hooked.heard("sync.completed", "acme", commit).said
    assert (said["url"], said["commit"]["subject"]) == (hooked.acme.url, "Hum")
    assert said["functions"]["loaded"] == ["acme_hum"]
    assert [one["id"] for one in said["functions"]["failed"]] == ["acme_bad"]
    assert hooked.heard("sync.degraded", "acme", commit).said["error"]["code"] == "functions_failed"
    with hooked.server.client() as client:
        text = client.get("/metrics").text
    assert f'fnsync_source_info{{commit="{commit}",ref="",source="acme"}} 1.0' in text
    assert 'fnsync_source_functions{source="acme",status="failed"} 1.0' in text
    assert 'fnsync_sync_duration_seconds_count{result="moved",source="acme"} 2.0' in text

    commit = hooked.acme.push({"bad.py": None}, "Mend")
    assert hooked.send("github", *github(hooked.acme.url)).json()["triggered"] == ["acme"]
    hooked.heard("sync.recovered", "acme", commit)
    assert hooked.pulls() == before, "the repository was not pulled for it"


def test_a_notification_can_be_tried(hooked: Hooked) -> None:
    with hooked.server.client() as client:
        hooked.told.then.append((418, {}, b"short and stout"))
        tried = client.post("/api/notifications/ops/test").json()
        assert (tried["delivered"], tried["status"], tried["answer"]) == (False, 418, "short and stout")
        tried = client.post("/api/v1/notifications/ops/test").json()
        assert (tried["delivered"], tried["status"], tried["error"]) == (True, 204, None)
        assert hooked.told.messages[-1].said["event"] == "sync.test"
        tried = client.post("/api/notifications/nobody/test").json()
        assert (tried["delivered"], tried["status"]) == (False, None) and "its host" in tried["error"]
        assert client.post("/api/notifications/else/test").status_code == 404
        assert [one["name"] for one in client.get("/api/status").json()["notifications"]] == ["ops", "nobody"]
    with hooked.server.client(hooked.server.add_token("user")) as user:
        wait_for("the token", lambda: user.get("/v1/models").is_success)
        assert user.post("/api/notifications/ops/test").status_code == 401


def test_a_form_is_read_too(hooked: Hooked) -> None:
    """GitHub and Gitea send one where the content type was left as it was."""
    body, headers = github(str(hooked.bare))
    form = str(httpx.QueryParams({"payload": body.decode()})).encode()
    signed = {"X-Hub-Signature-256": f"sha256={hexed(form)}", "Content-Type": "application/x-www-form-urlencoded"}
    assert hooked.send("github", form, headers | signed).json()["triggered"] == ["repository"]


def test_a_burst_is_answered_at_once_and_becomes_two_pulls(hooked: Hooked, tmp_path: Path) -> None:
    """While the remote hangs, so no answer can have waited for it."""
    connecting, go = tmp_path / "connecting", tmp_path / "go"
    before = hooked.quiet()
    waiting = f"echo >> {connecting}; while [ ! -e {go} ]; do sleep 0.02; done; exit 1 #"
    hooked.project.git("config", "core.sshCommand", waiting)
    hooked.project.git("remote", "set-url", "origin", "ssh://git@git.example.org/acme/functions.git")
    try:
        with hooked.client() as client:

            def ask() -> list[str]:
                body, headers = generic()
                return list(client.post("/api/webhooks/listed", content=body, headers=headers).json()["triggered"])

            assert ask() == ["repository"]
            wait_for("the first fetch", connecting.exists)
            assert all(ask() == ["repository"] for _ in range(30))
        assert hooked.pulls() == before
        # By now the pull knows its new address, in whichever form.
        other = generic("https://GIT.example.org:8443/Acme/functions/")
        assert hooked.send("generic", *other).json()["triggered"] == ["repository"]
        body, headers = generic("https://git.example.org/acme/other.git")
        assert "addresses" in hooked.send("generic", body, headers).json()["ignored"]
    finally:
        go.touch()
        hooked.project.git("remote", "set-url", "origin", str(hooked.bare))
        hooked.project.git("config", "--unset", "core.sshCommand")
    wait_for("both pulls", lambda: hooked.pulls() == before + 2)
    hooked.push("after the burst")
    assert hooked.send("listed", *generic()).status_code == 202
    hooked.says("after the burst")
    assert hooked.pulls() == before + 3


def test_what_concerns_nobody_says_why(hooked: Hooked) -> None:
    before, url = hooked.quiet(), str(hooked.bare)
    answers = {
        "pong": hooked.send("github", *github(url, event="ping")),
        "nothing begins for pull_request": hooked.send("github", *github(url, event="pull_request")),
        "nobody follows refs/heads/feature": hooked.send("github", *github(url, "refs/heads/feature")),
        "nobody follows refs/tags/v1": hooked.send("github", *github(url, "refs/tags/v1")),
        "one of the addresses": hooked.send("github", *github("https://github.com/acme/other.git")),
        "names no repository": hooked.send("generic", *generic()),
        "`triggers` names": hooked.send("elsewhere", *generic(url)),
    }
    for reason, answer in answers.items():
        assert answer.status_code == 202 and answer.json()["triggered"] == [], reason
        assert reason in answer.json()["ignored"]
    assert hooked.pulls() == before


def test_what_is_not_the_senders_is_refused(hooked: Hooked) -> None:
    before, url = hooked.quiet(), str(hooked.bare)
    body, headers = github(url)
    signed = {"X-Gitlab-Token": STANDARD_SECRET, "X-Gitlab-Event": "Push Hook"}
    late_body, late = generic(url, at=time.time() - 400)
    large = b" " * (LIMIT_BYTES + 1)
    unsigned = {"X-Hub-Signature-256": "sha256=" + "0" * 64}
    refused = [
        (401, "github", *github(url, secret="guess")),
        (401, "github", body + b" ", headers),
        (401, "github", body, {}),
        (401, "github", body, {"X-Hub-Signature-256": ""}),
        (401, "gitlab", _gitlab(url), {"X-Gitlab-Token": "guess"}),
        (401, "gitlab-signed", _gitlab(url), signed),
        (401, "generic", late_body, late),
        (400, "github", body, headers | {"Content-Encoding": "gzip"}),
        (400, "github", gzip.compress(body), headers | {"Content-Encoding": "gzip"}),
        (413, "github", large, unsigned),
        (404, "nobody", body, headers),
    ]
    for status, name, sent, how in refused:
        answer = hooked.send(name, sent, how)
        assert answer.status_code == status, (name, how, answer.text)
        assert status != 401 or answer.json() == {
            "detail": "the message is not signed with the webhook's secret, or too long ago"
        }
    for text in (b"{", b"[]", b'"text"', b"\xff", b"[" * 100_000, b'{"a":' * 100_000):
        answer = hooked.send("github", text, {"X-Hub-Signature-256": f"sha256={hexed(text)}"})
        assert (answer.status_code, "no JSON object" in answer.json()["detail"]) == (400, True)
    odd = json.dumps({"ref": [1], "repository": {"clone_url": 7, "ssh_url": None}, "project": [], "refs": {}}).encode()
    answer = hooked.send("github", odd, {"X-Hub-Signature-256": f"sha256={hexed(odd)}"})
    assert (answer.status_code, answer.json()["triggered"]) == (202, [])
    assert hooked.pulls() == before
    assert SECRET not in hooked.server.log() and STANDARD_SECRET not in hooked.server.log()
    assert hooked.counted("github", "refused") == 4 and hooked.counted("github", "invalid") == 6


def test_a_large_push_is_read(hooked: Hooked) -> None:
    body, headers = github(str(hooked.bare))
    message = json.loads(body)
    message["commits"] *= LIMIT_BYTES // 150
    body = json.dumps(message).encode()
    answer = hooked.send("github", body, headers | {"X-Hub-Signature-256": f"sha256={hexed(body)}"})
    assert 1024**2 < len(body) <= LIMIT_BYTES and answer.json()["triggered"] == ["repository"], answer.text


def test_only_so_many_bodies_are_read_at_once(hooked: Hooked) -> None:
    """Whoever sends them has shown nothing yet."""
    host, port = httpx.URL(hooked.server.url).host, httpx.URL(hooked.server.url).port
    head = "POST /api/webhooks/github HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: x\r\n"
    head += f"Content-Length: {LIMIT_BYTES}\r\n"
    body, headers = github("https://github.com/acme/other.git")

    def status() -> int:
        return hooked.send("github", body, headers).status_code

    slow = [socket.create_connection((host, port or 80)) for _ in range(MOST_AT_ONCE)]
    try:
        for connection in slow:
            connection.sendall(head.encode() + b"\r\n{")
        wait_for("the refusal", lambda: status() == 503)
    finally:
        for connection in slow:
            connection.close()
    wait_for("the next", lambda: status() == 202)


def test_who_guesses_signatures_has_to_wait(hooked: Hooked) -> None:
    body, headers = gitea("https://git.example.org/acme/other")
    wrong = dict.fromkeys(("X-Forgejo-Signature",), "0" * 64)
    with hooked.client() as client:

        def post(name: str, headers: Headers) -> int:
            return client.post(f"/api/webhooks/{name}", content=body, headers=headers).status_code

        assert post("gitea", headers) == 202
        assert [post("guessed", {}) for _ in range(5)] == [401] * 5, "showing no signature is no guess"
        assert [post("guessed", wrong) for _ in range(5)] == [401] * 3 + [429] * 2
        assert post("guessed", headers) == 429, "whoever it is has to wait"
        assert post("gitea", headers) == 202, "its secret was right from here before"
        token = client.get("/api/status", headers={"Authorization": "Bearer wrong"})
        assert token.status_code == 429, "wrong tokens count with them"


# ---- without a server ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "pushed", "default", "expected"),
    [
        ("main", "refs/heads/main", None, True),
        ("main", "refs/heads/main2", None, False),
        ("feature/x", "refs/heads/feature/x", None, True),
        ("refs/heads/main", "refs/heads/main", None, True),
        ("refs/heads/main", "refs/tags/main", None, False),
        ("v1.2.3", "refs/tags/v1.2.3", None, True),
        ("main", "refs/tags/v2", None, False),
        (">=1.2", "refs/tags/v2", None, True),
        ("^1.2", "refs/tags/v1.3.0", None, True),
        ("1.x", "refs/tags/1.4", None, True),
        ("~1.2, <2", "refs/tags/1.4", None, True),
        (">=1.2", "refs/heads/main", None, False),
        ("3f2c1ab", "refs/tags/v2", None, False),
        (None, "refs/heads/trunk", "trunk", True),
        (None, "refs/heads/main", "trunk", False),
        (None, "refs/heads/anything", None, True),
        (None, "refs/tags/v1", None, False),
    ],
)
def test_who_follows_a_ref(ref: str | None, pushed: str, default: str | None, expected: bool) -> None:
    assert follows(ref, pushed, Push(default_branch=default)) is expected


def test_a_message_concerns_those_of_its_repository_and_branch() -> None:
    followed = [
        Followed("repository", "git@github.com:acme/functions.git", "main"),
        Followed("acme", "https://github.com/Acme/Functions", None),
        Followed("tagged", "https://github.com/acme/functions", "^1.0"),
        Followed("other", "https://github.com/acme/other", "main"),
        Followed("unknown", None, "main"),
    ]
    here = frozenset({"github.com/acme/functions"})
    assert concerned(Push(here, ("refs/heads/main",), "main"), followed).triggered == ("repository", "acme", "unknown")
    assert concerned(Push(here, ("refs/tags/v1.1",), "main"), followed).triggered == ("tagged",)
    assert concerned(Push(here), followed).triggered == ("repository", "acme", "tagged", "unknown")


@pytest.mark.parametrize(
    ("kind", "headers", "message", "expected"),
    [
        ("github", {b"x-github-event": b"create"}, {"ref": "v1", "ref_type": "tag"}, ("refs/tags/v1",)),
        ("gitea", {b"x-gitea-event": b"create"}, {"ref": "x", "ref_type": "branch"}, ("refs/heads/x",)),
        ("gitlab", {}, {"object_kind": "tag_push", "ref": "refs/tags/v1"}, ("refs/tags/v1",)),
        ("gitlab", {}, {"event_name": "repository_update", "refs": ["refs/heads/a"]}, ("refs/heads/a",)),
        ("generic", {}, {"ref": "main"}, ("refs/heads/main", "refs/tags/main")),
        ("generic", {}, {"event": "sync.pushed", "ref": "refs/heads/main"}, ("refs/heads/main",)),
        ("gitlab", {}, {"object_kind": "merge_request"}, "nothing begins for merge_request"),
        ("generic", {}, {"event": "sync.test"}, "pong: the webhook is set up right"),
    ],
)
def test_what_messages_say(kind: Any, headers: Any, message: dict[str, Any], expected: tuple[str, ...] | str) -> None:
    found = read(kind, headers, json.dumps(message).encode())
    assert found == expected if isinstance(expected, str) else isinstance(found, Push) and found.refs == expected


def test_a_form_with_too_many_fields_is_refused() -> None:
    with pytest.raises(Invalid, match="no form"):
        read("github", {b"content-type": b"application/x-www-form-urlencoded"}, b"a=1&" * 20)


def test_deliveries_are_remembered_for_a_day_and_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "MOST_REMEMBERED", 100)
    now = [0.0]
    seen = Deliveries(lambda: now[0])
    seen.add(b"a")
    assert b"a" in seen and b"b" not in seen
    now[0] = REMEMBERED_S
    assert b"a" in seen
    now[0] += 1
    assert b"a" not in seen
    seen.add(b"b")
    assert len(seen._known) == 1
    for number in range(1000):
        seen.add(b"%d" % number)
    assert len(seen._known) == 100 and b"999" in seen and b"b" not in seen
