"""A server follows its working tree's remote branch: one server, and a bare repository that others push to."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fnsync.holds import GATE_AGAIN_S, Held, Hold
from fnsync.model import CommitId
from fnsync.periodic import LONGEST_S, wait_s
from tests import commands
from tests.conftest import Project, Server, wait_for

PIPE = "class Pipe:\n    def pipe(self, body):\n        return {!r}\n"
RAISES = PIPE.format("never") + 'raise RuntimeError("not today")\n'
EVENTS = """
class Event:
    def event(self, event, __event_name__):
        if __event_name__.startswith("sync."):
            print(__event_name__, event["data"])
"""


class Followed:
    """The server's project, the bare repository that it follows, and a colleague's clone of that."""

    def __init__(self, folder: Path, pull: str, more: str = "") -> None:
        self.project = Project(folder / "project")
        self.project.write("shout.py", PIPE.format("one"))
        self.project.write("listen.py", EVENTS)
        self.project.configure(f"repository: {{pull: {pull}{more}}}\n")
        self.project.commit("first")
        self.bare = folder / "remote.git"
        subprocess.run(["git", "clone", "-q", "--bare", self.project.root, self.bare], check=True)
        self.project.git("remote", "add", "origin", str(self.bare))
        self.there = Project(folder / "there")
        self.there.git("remote", "add", "origin", str(self.bare))
        self.server = Server(self.project)

    def begin_anew(self) -> None:
        """Whatever the last test left: the server's project, and the clone, are what the remote has."""
        self.project.git("remote", "set-url", "origin", str(self.bare))
        self.there.git("fetch", "-q", "origin", "main")
        self.there.git("checkout", "-q", "--force", "-B", "main", "origin/main")
        wait_for("the reset", self._reset)
        wait_for("a good pull", lambda: self.pull()["error"] is None and self.pull()["behind"] == 0)

    def _reset(self) -> bool:
        try:
            self.project.git("checkout", "-q", "--force", "-B", "main")
            self.project.git("fetch", "-q", "origin", "main:refs/remotes/origin/main")
            self.project.git("reset", "-q", "--hard", "origin/main")
            self.project.git("clean", "-fdq", "functions")
        except subprocess.CalledProcessError:  # the server holds the lock
            return False
        return True

    def push(self, files: dict[str, str], message: str = "change") -> str:
        for path, text in files.items():
            self.there.write(path, text)
        commit = self.there.commit(message)
        self.there.git("push", "-q", "--force", "origin", "main")
        return commit

    def pull(self) -> dict[str, Any]:
        return dict(self.server.status()["pull"])

    def failing(self, code: str) -> dict[str, Any]:
        def error() -> dict[str, Any] | None:
            found = self.pull()
            return found if found["error"] and found["error"]["code"] == code else None

        return wait_for(code, error)

    def says(self, text: str, id: str = "shout") -> None:
        with self.server.client() as client:
            body = {"model": id, "messages": [{"role": "user", "content": "?"}]}

            def answer() -> bool:
                found = client.post("/v1/chat/completions", json=body)
                return found.is_success and found.json()["choices"][0]["message"]["content"] == text

            wait_for(f"{id}: {text}", answer)

    def head(self) -> str:
        return self.project.git("rev-parse", "HEAD")

    def command(self, *arguments: str) -> commands.Told:
        return commands.run(self.project.root, *arguments, FNSYNC_ADMIN_TOKEN=self.server.token)


@pytest.fixture(scope="module")
def module_followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    followed = Followed(tmp_path_factory.mktemp("followed"), "200ms")
    try:
        followed.server.wait_ready()
        yield followed
    finally:
        followed.server.stop()


@pytest.fixture
def followed(module_followed: Followed, watched: Any) -> Followed:
    watched(module_followed.server)
    module_followed.begin_anew()
    return module_followed


def test_what_is_merged_goes_live_beside_uncommitted_work(followed: Followed) -> None:
    followed.project.write("mine.py", PIPE.format("mine"))
    followed.project.write("listen.yaml", "valves: {}\n")
    commit = followed.push({"shout.py": PIPE.format("two"), "new.py": PIPE.format("new")}, "Shout louder")
    followed.says("two")
    followed.says("new", "new")
    followed.says("mine", "mine")
    assert followed.project.git("rev-parse", "HEAD") == commit
    assert followed.server.status()["repository"]["dirty"] == ["listen.yaml", "mine.py"]
    pull = followed.pull()
    assert (pull["remote"], pull["branch"], pull["url"]) == ("origin", "main", str(followed.bare))
    assert (pull["ahead"], pull["behind"], pull["error"]) == (0, 0, None)
    assert pull["age_s"] < 60 and pull["next_at"] and pull["interval_s"] == 0.2
    shown = followed.command("status").stdout
    assert f"follows origin/main at {followed.bare}: fetched " in shown
    with followed.server.client() as client:
        wait_for("the event", lambda: f"'commit': '{commit}'" in client.get("/api/functions/id/listen/logs").text)
        assert 'fnsync_pulls_total{outcome="moved"}' in client.get("/metrics").text


def test_what_is_in_the_way_is_named_until_it_is_gone(followed: Followed) -> None:
    followed.push({"shout.py": PIPE.format("before")})
    followed.says("before")
    followed.project.write("shout.py", PIPE.format("mine"))
    commit = followed.push({"shout.py": PIPE.format("theirs"), "beside.py": PIPE.format("beside")})
    pull = followed.failing("pull_refused")
    assert "functions/shout.py" in pull["error"]["message"] and pull["behind"] == 1 and pull["failing_since"]
    followed.says("mine")
    assert followed.server.function("beside") is None, "all of a pull or nothing"
    told = followed.command("sync")
    assert told.returncode == 1 and "functions/shout.py" in told.stderr and "stash or discard" in told.stderr
    assert "nothing is pulled for" in followed.command("status").stdout
    followed.project.git("checkout", "--", "functions/shout.py")
    followed.says("theirs")
    followed.says("beside", "beside")
    assert followed.project.git("rev-parse", "HEAD") == commit
    wait_for("the end of the error", lambda: followed.pull()["error"] is None)


def test_an_edit_waits_for_a_pull(followed: Followed, tmp_path: Path) -> None:
    """The pull stands still in the middle, under the lock, in a filter that waits."""
    begun, go = tmp_path / "begun", tmp_path / "go"
    waiting = f"touch {begun}; while [ ! -e {go} ]; do sleep 0.02; done; cat"
    followed.project.git("config", "filter.wait.smudge", waiting)
    attributes = followed.project.root / ".git/info/attributes"
    attributes.write_text("functions/shout.py filter=wait\n")
    try:
        commit = followed.push({"shout.py": PIPE.format("pulled")})
        wait_for("the pull", begun.exists)
        answers: list[int] = []

        def edit() -> None:
            with followed.server.client() as client:
                answers.append(client.post("/api/functions/id/listen/toggle").status_code)

        editing = threading.Thread(target=edit)
        editing.start()
        with followed.server.client() as client:
            wait_for("an answer meanwhile", lambda: client.get("/healthz").is_success)
        assert followed.project.git("rev-parse", "HEAD") != commit and answers == []
    finally:
        go.touch()
    editing.join()
    attributes.unlink()
    assert answers == [200]
    followed.says("pulled")
    assert followed.project.git("rev-parse", "HEAD~1") == commit, "the edit came after"
    assert followed.project.git("status", "--porcelain", "functions") == ""
    assert followed.pull()["ahead"] == 1


def test_a_remote_that_is_away_and_comes_back(followed: Followed) -> None:
    followed.push({"shout.py": PIPE.format("still")})
    followed.says("still")
    away = followed.bare.rename(followed.bare.with_name("away.git"))
    try:
        pull = followed.failing("fetch_failed")
        assert str(followed.bare) in pull["error"]["message"] and "git -C" in pull["error"]["hint"]
        followed.says("still")
    finally:
        away.rename(followed.bare)
    followed.push({"shout.py": PIPE.format("back")})
    followed.says("back")


def test_histories_that_diverged_are_left_alone(followed: Followed) -> None:
    followed.project.write("mine.py", PIPE.format("mine"))
    mine = followed.project.commit("mine")
    followed.push({"shout.py": PIPE.format("theirs")})
    pull = followed.failing("pull_refused")
    assert "have diverged: 1 commit only here, 1 commit only there" in pull["error"]["message"]
    assert "git pull --rebase origin main" in pull["error"]["hint"]
    assert (pull["ahead"], pull["behind"]) == (1, 1)
    assert followed.project.git("rev-parse", "HEAD") == mine
    followed.project.git("pull", "-q", "--rebase", "origin", "main")
    wait_for("the end of the error", lambda: followed.pull()["error"] is None)


def test_what_is_checked_out_is_asked_before(followed: Followed) -> None:
    followed.push({"shout.py": PIPE.format("elsewhere")})
    followed.says("elsewhere")
    followed.project.git("checkout", "-q", "--detach")
    assert "HEAD is detached" in followed.failing("pull_refused")["error"]["message"]
    followed.project.git("checkout", "-q", "main")
    (followed.project.root / ".git/MERGE_HEAD").write_text(followed.project.git("rev-parse", "HEAD") + "\n")
    head = followed.project.git("rev-parse", "HEAD")
    followed.push({"shout.py": PIPE.format("later")})
    wait_for("the refusal", lambda: "a merge is under way" in (followed.pull()["error"] or {"message": ""})["message"])
    assert followed.project.git("rev-parse", "HEAD") == head
    followed.project.git("merge", "--quit")
    followed.says("later")


def test_no_credential_is_told(followed: Followed) -> None:
    url = "http://ada:s3cr3t@127.0.0.1:9/x.git?access_token=t0k3n"
    followed.project.git("remote", "set-url", "origin", url)
    followed.failing("fetch_failed")
    # The first one may have looked up the address before.
    pull = wait_for("the address", lambda: (p := followed.pull())["url"] == "http://127.0.0.1:9/x.git" and p)
    with followed.server.client() as client:
        answer = client.post("/api/sync")
        assert answer.status_code == 502 and "127.0.0.1:9" in answer.json()["detail"]
        wait_for("the event", lambda: "127.0.0.1:9" in client.get("/api/functions/id/listen/logs").text)
        everything = answer.text + str(pull) + client.get("/api/functions/id/listen/logs").text
    for arguments in (["status"], ["status", "--json"], ["sync"]):
        told = followed.command(*arguments)
        everything += told.stdout + told.stderr
    everything += followed.server.log()
    assert "s3cr3t" not in everything and "t0k3n" not in everything and "ada:" not in everything


def test_a_commit_that_removes_most_of_what_serves_waits_for_somebody(followed: Followed) -> None:
    followed.push({"shout.py": PIPE.format("kept")})
    followed.says("kept")
    before = followed.head()
    followed.there.git("rm", "-rq", "functions")
    followed.there.git("commit", "-qm", "Clear")
    followed.there.git("push", "-q", "origin", "main")
    commit = followed.there.git("rev-parse", "HEAD")
    held = wait_for("the hold", lambda: followed.pull()["held"])
    assert (held["reason"], held["commit"], held["until"]) == ("guard", commit, None) and held["since"]
    told = followed.command("sync", "repository")
    assert told.returncode == 0 and "functions that the repository serves" in told.stdout
    assert "if that is meant: fnsync sync repository --force" in told.stdout
    assert "held: " in followed.command("status").stdout
    followed.says("kept")
    assert followed.head() == before and followed.pull()["behind"] == 1
    with followed.server.client() as client:
        logs = client.get("/api/functions/id/listen/logs").text
        assert len([line for line in logs.splitlines() if "sync.held" in line and commit in line]) == 1
        assert 'fnsync_pulls_total{outcome="held"}' in client.get("/metrics").text
    told = followed.command("sync", "repository", "--force")
    assert told.returncode == 0 and "1 commit came from" in told.stdout, told.stderr
    assert followed.head() == commit and followed.pull()["held"] is None
    wait_for("its end", lambda: followed.server.function("shout") is None)
    followed.push({"shout.py": PIPE.format("back"), "listen.py": EVENTS})
    followed.says("back")


def test_nothing_is_applied_outside_of_windows_or_if_some_of_it_does_not_load(tmp_path: Path) -> None:
    """With windows that never open, so that only `--force` has a commit looked at; and a gate that it does not pass."""
    never = '{deny: [{cron: "* * * * *", duration: 2h}]}'
    held = Followed(tmp_path, "1h", f", push: true, gate: all, windows: {never}")
    try:
        held.server.wait_ready()
        held.there.git("pull", "-q", "origin", "main")
        before = held.head()
        wait_for("the first pull", lambda: held.pull()["fetched_at"])
        commit = held.push({"shout.py": PIPE.format("two")})
        told = held.command("sync", "repository")
        assert told.returncode == 0 and "when the next window opens" in told.stdout, told.stderr
        pull = held.pull()
        assert (pull["held"]["reason"], pull["held"]["commit"], pull["behind"]) == ("window", commit, 1)
        assert pull["held"]["until"] >= pull["next_at"] and held.head() == before

        with held.server.client() as client:
            assert client.post("/api/functions/id/listen/toggle").status_code == 200
            push = wait_for("the edit waits", lambda: (p := held.server.status()["push"])["error"] and p)
            assert (push["error"]["code"], push["pending"]) == ("pull_held", 1)
            assert "when the next window opens" in push["error"]["message"]

            # What is uncommitted here is no part of the commit.
            held.project.write("mine.py", RAISES)
            wait_for("mine", lambda: (f := held.server.function("mine")) is not None and f["status"] == "failed")
            held.push({"bad.py": RAISES})
            found = client.post("/api/sync", json={"force": True})
            assert found.status_code == 200 and found.json()["count"] == 0
            reason = found.json()["held"]
            assert reason["reason"] == "gate" and "bad: " in reason["message"] and "not today" in reason["message"]
            assert "mine" not in reason["message"]
            assert client.post("/api/sync", json={"force": "maybe"}).status_code == 400
        held.says("one")
        assert held.server.function("bad") is None

        good = held.push({"bad.py": PIPE.format("good")})
        told = held.command("sync", "repository", "--force")
        assert told.returncode == 0 and "3 commits came from" in told.stdout, told.stdout + told.stderr
        held.says("two")
        held.says("good", "bad")
        status = held.server.status()
        assert (status["pull"]["held"], status["push"]["error"], status["push"]["pending"]) == (None, None, 0)
        assert held.head() != good and held.project.git("rev-parse", "HEAD~1") == good
        assert held.there.git("ls-remote", "origin", "main").split()[0] == held.head(), "the edit was pushed"
    finally:
        held.server.stop()


def test_a_hold_is_told_once_and_looked_at_again_after_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    hold, one, two = Hold(), CommitId("1" * 40), CommitId("2" * 40)
    monkeypatch.setattr("time.monotonic", lambda: 1_000.0)
    gate = Held("gate", "…", "…", one)
    assert hold.set(gate) and not hold.set(gate) and not hold.set(Held("gate", "…", "…", one))
    assert hold.stands(one) and not hold.stands(two)
    monkeypatch.setattr("time.monotonic", lambda: 1_000.0 + GATE_AGAIN_S)
    assert not hold.stands(one)
    assert hold.set(Held("guard", "…", "…", one)) and hold.stands(one)
    assert hold.set(Held("window", "…", "…", one)) and not hold.stands(one)
    assert not hold.set(None) and hold.since is None


def test_sync_and_hangup_pull_at_once(tmp_path: Path) -> None:
    """With an interval that never ends meanwhile."""
    slow = Followed(tmp_path, "1h")
    try:
        slow.server.wait_ready()
        slow.there.git("pull", "-q", "origin", "main")
        wait_for("the first pull", lambda: slow.pull()["fetched_at"])
        one = slow.push({"shout.py": PIPE.format("one")}, "Say one")
        two = slow.push({"shout.py": PIPE.format("two")}, "Say two")
        told = slow.command("sync")
        assert told.returncode == 0, told.stderr
        lines = told.stdout.splitlines()
        assert lines[0].startswith(f"2 commits came from origin/main at {slow.bare}: ")
        assert lines[1:] == [f"  {two[:8]} Say two (Ada)", f"  {one[:8]} Say one (Ada)"]
        slow.says("two")
        assert "nothing new in origin/main" in slow.command("sync").stdout
        slow.push({"shout.py": PIPE.format("three")})
        slow.server.process.send_signal(signal.SIGHUP)
        slow.says("three")
        user = slow.server.add_token("user")
        with slow.server.client(user) as client:
            assert client.post("/api/sync").status_code == 401
        # What fetches when the server stops is ended.
        slow.project.git("remote", "set-url", "origin", "ssh://h/x")
        slow.project.git("config", "core.sshCommand", f"touch {tmp_path / 'connecting'}; exec sleep 60 #")
        slow.server.process.send_signal(signal.SIGHUP)
        wait_for("the connection", (tmp_path / "connecting").exists)
        assert slow.server.stop(timeout_s=15) == 0
    finally:
        slow.server.stop()


def test_waits_double_up_to_ten_minutes() -> None:
    assert [wait_s(60, failures) for failures in range(6)] == [60, 120, 240, 480, 600, 600]
    assert wait_s(3600, 3) == 3600
    assert wait_s(0.2, 10_000) == LONGEST_S
