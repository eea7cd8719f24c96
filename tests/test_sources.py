"""A server follows git repositories beside its own functions: one server, bare repositories that others push to."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from fnsync.syncing.trees import TIDY_EVERY
from fnsync.units import parse_duration
from tests import commands
from tests.conftest import Project, Server, wait_for
from tests.remotes import PIPE, Remote

EVENTS = """
class Event:
    def event(self, event, __event_name__):
        if __event_name__.startswith("sync."):
            print(__event_name__, event["data"])
"""
HOOK = {"name": "hook", "kind": "gitlab", "secret": {"env": "HOOK_SECRET"}, "triggers": ["acme"]}
#: How many commits a source can go back to, this one included.
KEPT = 4
BROKEN = "class Pipe:\n    def pipe(self, body)\n        return 1\n"
RAISES = "raise RuntimeError('not today')\n\nclass Pipe:\n    def pipe(self, body):\n        return 1\n"


class Following:
    """A server with a function of its own, and the source `acme`, whose functions have the prefix `acme_`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.remote = Remote(folder / "acme", {"shout.py": PIPE.format("one"), "other.py": PIPE.format("other")})
        self.project = Project(folder / "project")
        self.project.write("own.py", PIPE.format("own"))
        self.project.write("listen.py", EVENTS)
        self.entry: dict[str, Any] = {
            "name": "acme",
            "url": self.remote.url,
            "path": "functions",
            "prefix": "acme_",
            "interval": "1h",
        }
        #: Seconds that no other configuration has.
        self._intervals = 3600
        self.configure()
        self.project.git("add", ".")
        self.project.commit("first")
        self.server = Server(self.project, environ={"HOOK_SECRET": "hook-secret"})

    def configure(self, **changes: Any) -> None:
        """Have `acme` as it is at first, with these keys."""
        entry = {key: value for key, value in {**self.entry, **changes}.items() if value is not None}
        whole = {"sync": {"keep": KEPT, "max_files": 50}, "webhooks": [HOOK], "sources": [entry]}
        self.project.configure(yaml.safe_dump(whole))

    def reconfigure(self, **changes: Any) -> None:
        """Have `acme` changed, and wait until it is followed so."""
        self._intervals += 1
        changes.setdefault("interval", f"{self._intervals}s")
        self.configure(**changes)
        self.server.process.send_signal(signal.SIGHUP)
        seconds = parse_duration(changes["interval"])
        wait_for("the changed source", lambda: self.source()["interval_s"] == seconds)
        wait_for("its first sync", lambda: self.source()["progress"] is None and self.source()["next_at"] is not None)

    def begin_anew(self) -> None:
        """Whatever the last test left: `acme` is as at first, with its two functions, and nothing holds it."""
        self.reconfigure()
        with self.server.client() as client:

            def is_back() -> bool:
                self.remote.begin_anew()
                self.remote.push({"shout.py": PIPE.format("one"), "other.py": PIPE.format("other")})
                client.post("/api/sources/acme/unpin")
                found = client.post("/api/sources/acme/sync", json={"force": True})
                return found.status_code == 200 and self.source()["commit"]["commit"] == self.remote.head()

            wait_for("acme as at first", is_back)
        self.says("one")
        wait_for("a good source", lambda: self.source()["state"] == "following")

    def source(self, name: str = "acme") -> dict[str, Any]:
        with self.server.client() as client:
            answer = client.get(f"/api/sources/{name}")
        answer.raise_for_status()
        return dict(answer.json())

    def post(self, path: str, body: Any = None, name: str = "acme") -> httpx.Response:
        with self.server.client() as client:
            return client.post(f"/api/sources/{name}/{path}", json=body)

    def sync(self, **body: Any) -> dict[str, Any]:
        answer = self.post("sync", body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def command(self, *arguments: str) -> commands.Told:
        return commands.run(self.project.root, *arguments, FNSYNC_ADMIN_TOKEN=self.server.token)

    def call(self, id: str = "acme_shout") -> httpx.Response:
        with self.server.client() as client:
            body = {"model": id, "messages": [{"role": "user", "content": "?"}]}
            return client.post("/v1/chat/completions", json=body)

    def says(self, text: str, id: str = "acme_shout") -> httpx.Response:
        def answer() -> httpx.Response | None:
            found = self.call(id)
            return found if found.status_code == 200 and text in found.text else None

        return wait_for(f"{id} says {text}", answer)


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Following]:
    following = Following(tmp_path_factory.mktemp("sources"))
    try:
        following.server.wait_ready()
        yield following
    finally:
        following.server.stop()


@pytest.fixture
def followed(one_server: Following, watched: Callable[[Server], Server]) -> Following:
    watched(one_server.server)
    one_server.begin_anew()
    return one_server


# ---- following -------------------------------------------------------------------------------------------


def test_what_is_pushed_goes_live(followed: Following) -> None:
    commit = followed.remote.push({"shout.py": PIPE.format("two"), "third.py": PIPE.format("three")}, "louder")
    synced = followed.sync()
    assert (synced["commit"], synced["count"], synced["commits"][0]["subject"]) == (commit, 1, "louder")
    assert sorted(synced["loaded"]) == ["acme_shout", "acme_third"]
    answer = followed.call()
    assert "two" in answer.text, "a sync answers when its functions do"
    # Git is asked behind all else.
    wait_for("its commit", lambda: followed.call().headers.get("X-Fnsync-Commit") == commit)
    assert followed.call("acme_other").status_code == 200
    row = followed.server.function("acme_shout")
    assert row is not None and (row["source"], row["commit"], row["path"]) == ("acme", commit, "acme:shout.py")
    assert (followed.server.function("own") or {})["source"] == "local"
    assert followed.sync()["count"] == 0


def test_a_source_that_is_polled_goes_live_by_itself(followed: Following) -> None:
    followed.reconfigure(interval="200ms")
    followed.remote.push({"shout.py": PIPE.format("polled")})
    followed.says("polled")


def test_a_webhook_has_it_synced_at_once(followed: Following) -> None:
    followed.remote.push({"shout.py": PIPE.format("hooked")})
    with followed.server.client() as client:
        head = {"X-Gitlab-Token": "hook-secret", "X-Gitlab-Event": "Push Hook"}
        body = {"object_kind": "push", "ref": "refs/heads/main"}
        answer = client.post("/api/webhooks/hook", json=body, headers=head)
        assert (answer.status_code, answer.json()["triggered"]) == (202, ["acme"]), answer.text
        followed.says("hooked")
        metrics = client.get("/metrics").text
    commit = followed.remote.head()
    assert f'fnsync_source_info{{commit="{commit}"' in metrics and 'source="acme"' in metrics
    assert 'fnsync_source_functions{source="acme",status="ready"} 2.0' in metrics


def test_a_branch_of_a_source_is_tried_before_it_is_merged(followed: Following) -> None:
    live = followed.remote.head()
    preview = followed.remote.push({"shout.py": PIPE.format("preview")}, branch="feature-x")
    answer = followed.call("acme_shout@feature-x")
    assert "preview" in answer.text, answer.text
    assert answer.headers["X-Fnsync-Commit"] == preview
    assert "preview" in followed.call(f"acme_shout@{preview}").text
    assert "one" in followed.call().text and followed.source()["commit"]["commit"] == live
    # Another function of the same commit, from a mirror that was made anew and does not have it.
    shutil.rmtree(followed.server.data / "sources/acme/mirror")
    followed.remote.push({"shout.py": PIPE.format("on")})
    followed.sync()
    other = followed.call(f"acme_other@{preview}")
    assert other.status_code == 200 and "other" in other.text, other.text
    unknown = followed.call("acme_shout@nowhere")
    assert unknown.status_code == 404 and "nowhere" in unknown.text


def test_a_plan_tells_what_a_sync_would_do(followed: Following) -> None:
    followed.remote.push({"shout.py": RAISES, "other.py": None, "third.py": PIPE.format("three")})
    planned = followed.command("plan", "acme", "--json")
    assert planned.returncode == 6, planned.stderr
    functions = {one["id"]: one for one in json.loads(planned.stdout)["functions"]}
    actions = {id: one["action"] for id, one in functions.items()}
    assert actions == {"acme_shout": "changed", "acme_other": "removed", "acme_third": "added"}
    assert "not today" in functions["acme_shout"]["error"]["message"]
    dry = followed.command("sync", "acme", "--dry-run")
    assert dry.returncode == 6 and "not today" in dry.stdout and "acme_third" in dry.stdout, dry.stdout + dry.stderr
    assert "one" in followed.call().text and followed.call("acme_other").status_code == 200


def test_what_left_the_repository_is_removed_or_kept(followed: Following) -> None:
    followed.remote.push({"other.py": None})
    assert followed.sync()["removed"] == ["acme_other"]
    assert followed.call("acme_other").status_code == 404
    followed.reconfigure(prune=False)
    followed.remote.push({"shout.py": None, "third.py": PIPE.format("three")})
    followed.sync(force=True)
    followed.says("three", "acme_third")
    assert followed.call().status_code == 200
    assert (followed.server.function("acme_shout") or {})["status"] == "stale"
    followed.reconfigure(prune=True)
    wait_for("the end of acme_shout", lambda: followed.call().status_code == 404)


def test_a_bad_commit_does_not_go_live(followed: Following) -> None:
    good = wait_for("what git says of it", lambda: followed.call().headers.get("X-Fnsync-Commit"))
    bad = followed.remote.push({"shout.py": BROKEN, "other.py": PIPE.format("better")})
    synced = followed.sync()
    assert [one["id"] for one in synced["failed"]] == ["acme_shout"]
    assert synced["failed"][0]["error"]["path"] == "acme:shout.py" and synced["failed"][0]["error"]["line"] == 2
    assert "one" in followed.call().text
    assert "better" in followed.call("acme_other").text
    assert followed.source()["functions"] == {"ready": 1, "stale": 1}
    wait_for("what git says of it", lambda: followed.call("acme_other").headers.get("X-Fnsync-Commit") == bad)
    assert followed.call().headers["X-Fnsync-Commit"] == good, "an answer names the commit that made it"


def test_with_a_gate_for_all_one_bad_function_holds_the_commit(followed: Following) -> None:
    before = followed.remote.head()
    followed.reconfigure(gate="all")
    commit = followed.remote.push({"shout.py": PIPE.format("two"), "other.py": RAISES})
    held = followed.sync()["held"]
    assert held["reason"] == "gate" and "acme_other" in held["message"] and "not today" in held["message"]
    assert "one" in followed.call().text
    found = followed.source()
    assert (found["state"], found["commit"]["commit"], found["held"]["commit"]) == ("held", before, commit)
    wait_for("the event", lambda: "sync.held" in followed.server.log())
    followed.remote.push({"other.py": PIPE.format("mended")})
    assert followed.sync()["held"] is None
    assert "two" in followed.call().text and "mended" in followed.call("acme_other").text


def test_a_merge_goes_live_under_load_without_a_failed_call(followed: Following) -> None:
    failed: list[str] = []
    seen: set[str] = set()
    stop = threading.Event()

    def load() -> None:
        with followed.server.client() as client:
            body = {"model": "acme_shout", "messages": [{"role": "user", "content": "?"}]}
            while not stop.is_set():
                answer = client.post("/v1/chat/completions", json=body)
                if answer.status_code == 200:
                    seen.add(answer.json()["choices"][0]["message"]["content"])
                else:
                    failed.append(answer.text)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(3):
            followed.remote.there.git("checkout", "-q", "-b", f"change-{number}")
            followed.remote.there.write("shout.py", PIPE.format(f"merged {number}"))
            followed.remote.there.commit("a change")
            followed.remote.there.git("checkout", "-q", "main")
            followed.remote.there.git("merge", "-q", "--no-ff", "-m", "merge", f"change-{number}")
            followed.remote.there.git("branch", "-q", "-D", f"change-{number}")
            followed.remote.there.git("push", "-q", "origin", "main")
            followed.sync()
            wait_for(f"merge {number}", lambda number=number: f"merged {number}" in seen)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed


# ---- refs ------------------------------------------------------------------------------------------------


def test_tags_ranges_and_commits(followed: Following) -> None:
    first = followed.remote.push({"shout.py": PIPE.format("1.0")})
    followed.remote.tag("v1.0.0")
    followed.remote.push({"shout.py": PIPE.format("1.1")})
    followed.remote.tag("v1.1.0")
    followed.remote.push({"shout.py": PIPE.format("2.0")})
    followed.remote.tag("v2.0.0")
    followed.reconfigure(ref="^1.0")
    followed.says("1.1")
    assert followed.source()["commit"]["tag"] == "v1.1.0"
    followed.remote.push({"shout.py": PIPE.format("1.2")})
    followed.remote.tag("v1.2.0")
    followed.sync()
    assert "1.2" in followed.call().text
    followed.reconfigure(ref="v1.0.0")
    followed.says("1.0")
    followed.reconfigure(ref="v2.0.0")
    followed.says("2.0")
    followed.reconfigure(ref=first)
    followed.says("1.0")


# ---- what goes wrong -------------------------------------------------------------------------------------


def failing(followed: Following, code: str) -> dict[str, Any]:
    answer = followed.post("sync", {})
    assert answer.status_code in (409, 502, 503), answer.text
    found = followed.source()
    assert found["error"]["code"] == code, found["error"]
    assert found["error"]["since"] and found["tried_at"] < found["next_at"]
    assert found["next_at"] and found["state"] == "failing"
    assert "one" in followed.call().text, "the last good commit serves"
    return found


def test_a_remote_that_vanished_and_came_back(followed: Following) -> None:
    followed.remote.vanish()
    try:
        first = failing(followed, "fetch_failed")
        later = failing(followed, "fetch_failed")
        assert later["failures"] == first["failures"] + 1 and later["error"]["since"] == first["error"]["since"]
        listed = followed.command("source", "list")
        assert "failing" in listed.stdout and "next try in" in listed.stdout
    finally:
        followed.remote.come_back()
    followed.remote.push({"shout.py": PIPE.format("back")})
    followed.sync()
    assert "back" in followed.call().text
    assert followed.source()["error"] is None


def test_trees_that_are_not_kept_are_removed_behind_the_syncs(followed: Following) -> None:
    folder = followed.server.data / "sources/acme"
    first = folder / "trees" / json.loads((folder / "record.json").read_text())["live"]["folder"]
    for number in range(KEPT + TIDY_EVERY):
        if first.exists():
            followed.remote.push({"shout.py": PIPE.format(number)})
            followed.sync()
    wait_for("the tree to go", lambda: not first.exists())
    record = json.loads((folder / "record.json").read_text())
    trees = {path.name for path in (folder / "trees").iterdir()}
    assert trees >= {one["folder"] for one in (record["live"], *record["history"])}


def test_a_ref_that_is_not_there_is_named(followed: Following) -> None:
    followed.reconfigure(ref="mian")
    found = failing(followed, "fetch_failed")
    assert "mian" in found["error"]["message"]


def test_a_rewritten_history_is_followed_and_told(followed: Following) -> None:
    followed.remote.push({"shout.py": PIPE.format("two")})
    followed.sync()
    commit = followed.remote.push({"shout.py": PIPE.format("rewritten")}, amend=True)
    synced = followed.sync()
    assert synced["rewritten"] and synced["commit"] == commit
    assert "rewritten" in followed.call().text


def test_a_corrupt_mirror_heals_by_itself(followed: Following) -> None:
    mirror = followed.server.data / "sources/acme/mirror"
    for pack in (mirror / "objects").rglob("*"):
        if pack.is_file():
            pack.chmod(0o600)
            pack.write_bytes(b"\0" * 16)
    followed.remote.push({"shout.py": PIPE.format("healed")})
    followed.sync()
    assert "healed" in followed.call().text
    shutil.rmtree(mirror)
    followed.remote.push({"shout.py": PIPE.format("again")})
    followed.sync()
    assert "again" in followed.call().text


def test_too_many_files_are_refused(followed: Following) -> None:
    followed.remote.push({f"big/f{number}.txt": "x" for number in range(60)})
    found = failing(followed, "source_refused")
    assert "50" in found["error"]["message"]


def test_a_link_that_leaves_the_tree_is_refused(followed: Following) -> None:
    (followed.remote.there.functions / "passwd.py").symlink_to("/etc/passwd")
    followed.remote.push({})
    found = failing(followed, "source_refused")
    assert "passwd.py" in found["error"]["message"]


def test_a_sync_that_removes_most_functions_asks_first(followed: Following) -> None:
    followed.remote.push({"shout.py": None, "other.py": None, "third.py": PIPE.format("three")})
    held = followed.sync()["held"]
    assert held["reason"] == "guard" and "2 of the 2" in held["message"] and "--force" in held["hint"]
    assert "one" in followed.call().text
    assert followed.command("sync", "acme", "--force").returncode == 0
    assert followed.call().status_code == 404
    assert "three" in followed.call("acme_third").text


# ---- windows, pins, suspending ---------------------------------------------------------------------------


def test_outside_of_its_windows_a_commit_waits(followed: Following) -> None:
    always = [{"cron": "* * * * *", "duration": "2h"}]
    followed.reconfigure(windows={"deny": always})
    followed.remote.push({"shout.py": PIPE.format("late")})
    held = followed.sync()["held"]
    assert held["reason"] == "window"
    assert "one" in followed.call().text
    followed.sync(force=True)
    assert "late" in followed.call().text


def test_rolling_back_pins_until_unpinned(followed: Following) -> None:
    first = followed.remote.head()
    followed.remote.push({"shout.py": PIPE.format("bad idea"), "other.py": None})
    followed.sync(force=True)
    answer = followed.post("rollback", {})
    assert answer.status_code == 200 and answer.json()["commit"] == first, answer.text
    assert "one" in followed.call().text and followed.call("acme_other").status_code == 200
    newest = followed.remote.push({"shout.py": PIPE.format("better")})
    synced = followed.sync()
    assert synced["held"]["reason"] == "pinned" and synced["held"]["commit"] == newest
    assert "one" in followed.call().text
    assert followed.source()["pinned"] == first
    assert followed.post("unpin").status_code == 200
    followed.says("better")
    assert followed.source()["pinned"] is None
    assert followed.post("rollback", {"commit": "0123456789"}).status_code == 404


def test_what_is_pinned_goes_along_with_the_configuration(followed: Following) -> None:
    first = followed.remote.head()
    followed.remote.push({"shout.py": PIPE.format("worse")})
    followed.sync()
    assert followed.post("rollback", {}).status_code == 200
    followed.reconfigure(prefix="b_")
    followed.says("one", "b_shout")
    assert followed.source()["pinned"] == first

    followed.configure(prefix="b_", suspend=True)
    followed.server.process.send_signal(signal.SIGHUP)
    wait_for("the suspended source", lambda: followed.source()["suspended"])
    assert followed.post("unpin").status_code == 200
    with followed.server.client() as client:  # it comes after what `unpin` had begin
        assert client.get("/api/plan", params={"source": "acme", "load": False}).status_code == 200
    assert followed.source()["commit"]["commit"] == first, "what is suspended stays as it is"


def test_nothing_unsigned_comes_back_once_signatures_are_asked_for(followed: Following, tmp_path: Path) -> None:
    first = followed.remote.head()
    followed.remote.push({"shout.py": PIPE.format("two")})
    followed.sync()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    followed.reconfigure(verify={"ssh": [str(tmp_path / "key.pub")]})
    refused = followed.post("rollback", {"commit": first})
    assert refused.status_code >= 400 and "not signed" in refused.text
    assert "two" in followed.call().text and followed.source()["pinned"] is None


def test_one_function_is_rolled_back_while_all_else_follows(followed: Following) -> None:
    followed.remote.push({"shout.py": PIPE.format("bad idea"), "other.py": PIPE.format("better")})
    followed.sync()
    answer = followed.post("functions/rollback", {"id": "acme_shout"})
    assert answer.status_code == 200, answer.text
    assert "one" in followed.call().text and "better" in followed.call("acme_other").text
    row = followed.server.function("acme_shout") or {}
    assert row["status"] == "stale" and row["error"]["code"] == "quarantined"
    followed.remote.push({"other.py": PIPE.format("even better")})
    followed.sync()
    assert "one" in followed.call().text and "even better" in followed.call("acme_other").text
    assert list(followed.source()["quarantine"]) == ["acme_shout"]
    followed.remote.push({"shout.py": PIPE.format("mended")})
    followed.sync()
    assert "mended" in followed.call().text, "another revision is taken"
    followed.post("functions/rollback", {"id": "acme_shout"})
    assert followed.post("functions/release", {"id": "acme_shout"}).json()["loaded"] == ["acme_shout"]
    assert "mended" in followed.call().text
    assert followed.post("functions/release", {"id": "acme_shout"}).status_code == 404


def test_the_command_line_goes_back_too(followed: Following) -> None:
    first = followed.remote.head()
    second = followed.remote.push({"shout.py": PIPE.format("bad idea")}, "Shout worse")
    followed.sync()
    history = followed.command("history", "acme_shout")
    assert (history.returncode, "Shout worse" in history.stdout) == (0, True), history.stderr
    difference = followed.command("diff", "acme_shout")
    assert (difference.returncode, "+++ shout.py\n" in difference.stdout) == (0, True), difference.stderr

    asked = followed.command("rollback", "acme_shout")
    assert asked.returncode == 1 and "say it with --yes" in asked.stderr
    done = followed.command("rollback", "acme_shout", "--yes")
    assert (done.returncode, "--release acme_shout" in done.stdout) == (0, True), done.stderr
    assert "one" in followed.call().text
    assert followed.command("rollback", "acme", "--release", "acme_shout").returncode == 0
    assert "bad idea" in followed.call().text

    done = followed.command("rollback", "acme", "--yes")
    assert (done.returncode, f"acme is at {first[:8]}" in done.stdout) == (0, True), done.stderr
    assert "one" in followed.call().text
    assert followed.command("rollback", "acme", "--unpin").returncode == 0
    followed.says("bad idea")
    assert followed.source()["commit"]["commit"] == second


def test_sources_are_added_and_removed_through_the_configuration(followed: Following, tmp_path: Path) -> None:
    extra = Remote(tmp_path, {"hello.py": PIPE.format("hello")})
    added = followed.command("source", "add", extra.url, "--name", "extra", "--path", "functions")
    assert added.returncode == 0, added.stderr
    assert f"serves  {extra.head()[:8]}" in added.stdout and "functions: 1 ready" in added.stdout
    assert "hello" in followed.call("hello").text
    text = (followed.project.root / "fnsync.yaml").read_text()
    assert [one["name"] for one in yaml.safe_load(text)["sources"]] == ["acme", "extra"]
    assert followed.project.git("log", "-1", "--format=%s") == "Follow the source extra"
    again = followed.command("source", "add", extra.url, "--name", "extra")
    assert again.returncode != 0 and "extra" in again.stderr
    bad = followed.command("source", "add", "https://ada:secret@example.org/x.git")
    assert bad.returncode != 0 and "password" in bad.stderr and "secret" not in bad.stderr
    away = followed.command("source", "add", f"{extra.url}.away", "--name", "away")
    assert away.returncode != 0 and "fnsync source remove away takes it out" in away.stderr
    assert followed.command("source", "remove", "away").returncode == 0

    assert followed.command("source", "suspend", "extra").returncode == 0
    extra.push({"hello.py": PIPE.format("unseen")})
    assert followed.post("sync", {}, "extra").status_code == 409
    assert "hello" in followed.call("hello").text
    assert followed.command("source", "resume", "extra").returncode == 0
    followed.says("unseen", "hello")

    assert followed.command("source", "remove", "extra").returncode == 0
    assert followed.call("hello").status_code == 404
    assert not (followed.server.data / "sources/extra").exists()
    assert followed.source()["state"] == "following"


def test_a_configuration_that_is_no_good_leaves_the_sources_as_they_are(followed: Following) -> None:
    (followed.project.root / "fnsync.yaml").write_text("sources: [{name: acme}]\n")

    def problem() -> str | None:
        with followed.server.client() as client:
            return client.get("/api/sources").json()["problem"]

    assert "url" in wait_for("the problem", problem)
    (followed.project.root / "fnsync.yaml").write_text(f"sources: {'[' * 3000}\n")  # deeper than is read
    wait_for("another problem", lambda: "url" not in (problem() or "url"))
    followed.reconfigure()
    assert wait_for("no problem", lambda: problem() is None)
    assert "one" in followed.call().text


def test_a_local_function_goes_above_one_of_a_source(followed: Following) -> None:
    followed.server.add("third", PIPE.format("mine"))
    followed.reconfigure(prefix="")
    followed.remote.push({"third.py": PIPE.format("theirs")})
    assert followed.sync()["held"]["reason"] == "guard", "under another prefix all that serves would be gone"
    followed.sync(force=True)
    assert "mine" in followed.call("third").text
    rivals = [one for one in followed.server.status()["functions"] if one["status"] == "conflict"]
    assert [one["path"] for one in rivals] == ["acme:third.py"]
    assert followed.source()["functions"]["conflict"] == 1
    followed.project.remove("third.py")
    followed.says("theirs", "third")


def test_functions_of_a_source_are_not_changed_here(followed: Following) -> None:
    with followed.server.client() as client:
        answer = client.post("/api/functions/id/acme_shout/toggle")
        assert answer.status_code == 409 and "acme" in answer.text
        answer = client.delete("/api/functions/id/acme_shout/delete")
        assert answer.status_code == 409


def test_a_function_that_only_a_branch_has_is_tried_and_listed(followed: Following) -> None:
    followed.remote.push({"fresh.py": PIPE.format("fresh")}, branch="feature-y")
    assert "fresh" in followed.call("acme_fresh@feature-y").text
    with followed.server.client() as client:
        listed = {one["id"] for one in client.get("/v1/models", params={"ref": "feature-y"}).json()["data"]}
        assert {"acme_fresh@feature-y", "acme_shout@feature-y"} <= listed
        assert client.get("/v1/models", params={"ref": "no-such"}).status_code == 404
    unknown = followed.call("acme_nothing@feature-y")
    assert unknown.status_code == 404 and "feature-y" in unknown.text


def test_the_status_tells_how_a_source_stands(followed: Following) -> None:
    commit = followed.remote.push({"shout.py": PIPE.format("one louder")}, "Shout louder")
    told = followed.command("sync")
    assert told.returncode == 0 and f"{commit[:8]} Shout louder (Ada)\n  loaded: acme_shout" in told.stdout, told.stderr
    (found,) = followed.server.status()["sources"]
    assert (found["url"], found["ref"], found["commit"]["commit"]) == (followed.remote.url, None, commit)
    assert (found["commit"]["subject"], found["commit"]["author"]) == ("Shout louder", "Ada") and found["age_s"] < 60
    shown = followed.command("status").stdout
    assert f"source acme: {followed.remote.url} default branch functions: following\n" in shown
    assert f"  serves  {commit[:8]} Shout louder (Ada)\n  fetched " in shown and "functions: 2 ready" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("acme_shout ")]
    assert commit[:8] in line and line.endswith("acme:shout.py")

    def failures() -> float:
        with followed.server.client() as client:
            lines = client.get("/metrics").text.splitlines()
        line = next(line for line in lines if line.startswith('fnsync_source_failures_total{source="acme"}'))
        return float(line.split()[1])

    before = failures()
    followed.remote.vanish()
    try:
        failing(followed, "fetch_failed")
        shown = followed.command("status").stdout
        assert "failing\n" in shown and "fails for " in shown and "; last try " in shown and "; next try in " in shown
        assert str(followed.remote.bare) in shown and failures() == before + 1
    finally:
        followed.remote.come_back()


def test_a_hangup_has_sources_synced(followed: Following) -> None:
    followed.remote.push({"shout.py": PIPE.format("hung up")})
    followed.server.process.send_signal(signal.SIGHUP)
    followed.says("hung up")


def test_a_failing_source_keeps_no_other_from_being_synced(followed: Following, tmp_path: Path) -> None:
    added = followed.command("source", "add", f"file://{tmp_path}/nowhere", "--name", "aaa")
    assert added.returncode != 0 and "fnsync source remove aaa" in added.stderr
    try:
        followed.remote.push({"shout.py": PIPE.format("all the same")})
        told = followed.command("sync")
        assert told.returncode == 1 and "nowhere" in told.stderr and "loaded: acme_shout" in told.stdout
    finally:
        assert followed.command("source", "remove", "aaa").returncode == 0
    assert "all the same" in followed.call().text


def test_what_is_taken_of_a_repository(followed: Following) -> None:
    for number in range(3):
        followed.remote.push({"shout.py": PIPE.format(f"number {number}")})
    followed.sync()
    mirror = followed.server.data / "sources/acme/mirror"

    def commits() -> int:
        line = ["git", "-C", mirror, "rev-list", "--count", followed.remote.head()]
        return int(subprocess.run(line, check=True, capture_output=True, text=True).stdout)

    total = int(followed.remote.there.git("rev-list", "--count", "HEAD"))
    shutil.rmtree(mirror)
    followed.sync()
    assert commits() == 1 < total
    shutil.rmtree(mirror)
    followed.reconfigure(include=["s*.py"], depth=0)
    followed.sync(force=True)
    assert followed.call("acme_other").status_code == 404 and "number 2" in followed.call().text and commits() == total
    followed.reconfigure(ignore=["shout.py"])
    followed.sync(force=True)
    assert followed.call().status_code == 404 and "other" in followed.call("acme_other").text


def test_the_last_commits_are_kept_for_going_back(followed: Following) -> None:
    made = []
    for number in range(6):
        made.append(followed.remote.push({"shout.py": PIPE.format(f"number {number}")}))
        followed.sync()
    assert [one["commit"] for one in followed.source()["history"]] == made[4:1:-1], "`keep`, with what serves"
    followed.remote.vanish()
    try:
        assert followed.post("rollback", {"commit": made[2][:8]}).json()["commit"] == made[2]
        assert "number 2" in followed.call().text
        assert followed.command("source", "list", "acme").stdout.count("\n  before  ") == 3
    finally:
        followed.remote.come_back()


def test_what_went_wrong_heals_without_anybody(followed: Following) -> None:
    followed.reconfigure(interval="200ms")
    followed.remote.vanish()
    wait_for("the failure", lambda: followed.source()["failures"] >= 2)
    followed.remote.come_back()
    followed.remote.push({"shout.py": PIPE.format("back")})
    followed.says("back")
    for file in (followed.server.data / "sources/acme/mirror/objects").rglob("*"):
        if file.is_file():
            file.chmod(0o600)
            file.write_bytes(b"\0" * 16)
    followed.remote.push({"shout.py": PIPE.format("healed")})
    followed.says("healed")
    commit = followed.remote.push({"shout.py": PIPE.format("rewritten")}, amend=True)
    followed.says("rewritten")
    assert followed.source()["commit"]["commit"] == commit and followed.source()["error"] is None


def test_submodules_are_taken_where_that_is_wanted(followed: Following, tmp_path: Path) -> None:
    inner = Remote(tmp_path, {"deep.py": PIPE.format("from below")})
    there = followed.remote.there
    there.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner.url, "functions/inner")
    there.git("commit", "-q", "-m", "a submodule")
    there.git("push", "-q", "origin", "HEAD:refs/heads/main")
    try:
        followed.sync()
        assert followed.call("acme_deep").status_code == 404
        followed.reconfigure(submodules=True)
        followed.sync()
        assert "from below" in followed.call("acme_deep").text
    finally:
        followed.reconfigure()
        there.git("rm", "-q", "-f", "functions/inner", ".gitmodules")


# ---- restarts --------------------------------------------------------------------------------------------


def test_a_kill_at_any_step_leaves_one_commit_or_the_other(tmp_path: Path, start_server: Callable[..., Server]) -> None:
    remote = Remote(tmp_path / "acme", {"shout.py": PIPE.format("one"), "twin.py": PIPE.format("one")})
    first = remote.head()
    project = Project(tmp_path / "project")
    entry = {"name": "acme", "url": remote.url, "path": "functions", "interval": "1h"}
    project.configure(yaml.safe_dump({"sources": [entry]}))
    server = start_server(project)
    wait_for("the first sync", lambda: server.function("shout"))
    server.settle("shout")
    server.settle("twin")
    server.stop()
    folder = server.data / "sources/acme"
    for step in ("fetching", "fetched", "materialized", "recorded", "switched"):
        if step != "fetched":  # what was fetched then is there again
            newest = remote.push({"shout.py": PIPE.format(step), "twin.py": PIPE.format(step)})
        wanted = newest if step in ("recorded", "switched") else first
        crashing = start_server(project, ready=False, program=("-m", "tests.crashing", step))
        assert crashing.process.wait(30) == -9, crashing.log()
        assert json.loads((folder / "record.json").read_text())["live"]["commit"] == wanted, step
    remote.vanish()
    server = start_server(project)
    with server.client() as client:

        def texts() -> set[str]:
            bodies = ({"model": id, "messages": [{"role": "user", "content": "?"}]} for id in ("shout", "twin"))
            answers = [client.post("/v1/chat/completions", json=body) for body in bodies]
            return {answer.json()["choices"][0]["message"]["content"] for answer in answers}

        wait_for("what was recorded", lambda: texts() == {"switched"})
        remote.come_back()
        remote.push({"shout.py": PIPE.format("three"), "twin.py": PIPE.format("three")})
        client.post("/api/sources/acme/sync", json={}).raise_for_status()
        assert texts() == {"three"}
        left = [path.name for path in folder.iterdir()] + [path.name for path in (folder / "trees").iterdir()]
        assert not [name for name in left if name.startswith(".tmp-")]
        record = json.loads((folder / "record.json").read_text())
        kept = {one["folder"] for one in (record["live"], *record["history"])}
        assert {path.name for path in (folder / "trees").iterdir()} == kept
