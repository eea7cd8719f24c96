"""Functions that are copied out of a git repository: in one commit or not at all, and again later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest

from fnsync.cli import exits
from tests.commands import Told, run
from tests.conftest import ADMIN_TOKEN, Project, Server
from tests.githosts_auth import GuardedHost, guarded_host
from tests.repositories import Repository
from tests.test_functions_api import say

API = "/api/v1/functions"
PIPE = 'class Pipe:\n    def pipe(self, body):\n        return "{}"\n'
SHOUTS = "from _loud import loud\n\n\nclass Pipe:\n    def pipe(self, body):\n        return loud({!r})\n"
LOUD = "def loud(text):\n    return text + {!r}\n"
PASSWORD = "geheim-und-lang"


@dataclass
class World:
    """A server, a host of repositories, and what may be read of them without the host."""

    server: Server
    host: GuardedHost
    folder: Path
    times: Iterator[int] = field(default_factory=lambda: iter(range(1, 1000)))

    def origin(self, name: str, **files: str | None) -> Origin:
        made = Origin(self, Repository(self.folder / name), name)
        made.commit(files)
        return made

    def sync(self, origin: Origin | str, **keys: Any) -> httpx.Response:
        url = origin if isinstance(origin, str) else origin.url
        with self.server.client() as client:
            return client.post(f"{API}/sync", json={"url": url, "mode": "vendor", **keys})

    def vendor(self, origin: Origin | str, **keys: Any) -> dict[str, Any]:
        answer = self.sync(origin, **keys)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def say(self, id: str) -> str:
        with self.server.client() as client:
            return str(say(client, id))

    def git(self, *arguments: str) -> str:
        return self.server.project.git(*arguments)

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def read(self, path: str) -> str:
        return (self.server.project.functions / path).read_text()

    def there(self, path: str) -> bool:
        return (self.server.project.functions / path).exists()

    def edit(self, id: str, path: str, text: str) -> None:
        """Change a function here and commit it."""
        before = self.server.function(id)
        self.server.project.write(path, text)
        self.server.settle(id, since=before)
        self.server.project.commit(f"Edit {path}")


@dataclass
class Origin:
    """A repository elsewhere, with functions in `functions/`."""

    world: World
    repository: Repository
    name: str

    @property
    def url(self) -> str:
        return self.world.host.url(f"{self.name}/.git")

    def commit(self, files: dict[str, str | None]) -> str:
        named = {path.replace("__", "/").replace("_py", ".py").replace("_yaml", ".yaml"): files[path] for path in files}
        return self.repository.commit(next(self.world.times), named, message=f"Change {self.name}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("there")
    project = Project(tmp_path_factory.mktemp("here") / "project")
    asyncssh.generate_private_key("ssh-ed25519").write_public_key(project.root / "signer.pub")
    project.configure(f"""
        sources:
          - {{name: known, url: '{folder}/known', suspend: true}}
          - {{name: signed, url: '{folder}/signed', suspend: true, verify: {{ssh: [signer.pub]}}}}
        """)
    project.write("mine.py", PIPE.format("mine"))
    project.commit("first")
    with guarded_host(folder) as host:
        server = Server(project, environ={"ORIGIN_PASSWORD": PASSWORD})
        try:
            yield World(server.wait_ready(), host, folder)
        finally:
            server.stop()


def actions(told: dict[str, Any]) -> dict[str, str]:
    return {one["id"]: one["action"] for one in told["plan"]["functions"]}


def warnings(told: dict[str, Any], id: str) -> str:
    return " ".join(next(one for one in told["plan"]["functions"] if one["id"] == id)["warnings"])


# ---- the first time --------------------------------------------------------------------------------------


def test_all_functions_come_with_what_they_need_in_one_commit(world: World) -> None:
    origin = world.origin("whole")
    commit = origin.repository.commit(
        next(world.times),
        {
            "first_a.py": SHOUTS.format("a"),
            "first_a.yaml": "limits: {timeout: 7s}  # theirs\n",
            "first_b/main.py": "from .words import WORD\n" + PIPE.replace('"{}"', "WORD"),
            "first_b/words.py": "WORD = 'b'\n",
            "deep/first_c.py": PIPE.format("c"),
            "_loud.py": LOUD.format("!"),
            "_unused.py": "",
            "setup.py": "print('no function')\n",
            "README.md": "hello\n",
        },
    )
    (origin.repository.folder / "functions/first_d.py").symlink_to("deep/first_c.py")
    origin.repository.git("add", "-A")
    origin.repository.git("commit", "-q", "-m", "A link\n\nSigned-off-by: Eve", "--amend")
    commit = origin.repository.head()
    before = world.head

    told = world.vendor(origin, path="functions")

    assert actions(told) == dict.fromkeys(("first_a", "first_b", "first_c", "first_d"), "added")
    assert told["origin"]["commit"]["commit"] == commit
    assert told["origin"]["commit"]["subject"] == "A link"
    assert "setup.py" in " ".join(told["plan"]["notes"])
    assert told["commit"] == world.head
    assert world.git("rev-parse", "HEAD^") == before
    assert world.git("log", "-1", "--format=%B").splitlines() == [
        f"Copy 4 functions from {origin.url} at {commit[:12]}",
        "",
        world.git("log", "-1", "--format=%(trailers:key=Fnsync-User)"),
        f"Origin-Url: {origin.url}",
        f"Origin-Commit: {commit}",
        "Origin-Path: functions",
    ]
    changed = world.git("show", "--name-only", "--format=").splitlines()
    assert set(changed) == {
        "functions/_loud.py",
        "functions/deep/first_c.py",
        "functions/first_a.py",
        "functions/first_a.yaml",
        "functions/first_b/main.py",
        "functions/first_b/words.py",
        "functions/first_d.py",
    }
    assert world.read("first_a.yaml") == "limits: {timeout: 7s}  # theirs\n"
    assert not (world.server.project.functions / "first_d.py").is_symlink()
    assert [world.say(f"first_{id}") for id in "abcd"] == ["a!", "b", "c", "c"]
    assert list((world.server.data / "scratch").glob("checkout-*")) == []

    again = world.vendor(origin, path="functions")
    assert (set(actions(again).values()), again["commit"]) == ({"unchanged"}, None)


@pytest.mark.parametrize(
    ("path", "ids"),
    [
        ("functions/one_a.py", {"one_a"}),
        ("functions/one_b", {"one_b"}),
        ("functions/one_b/main.py", {"one_b"}),
        ("functions", {"one_a", "one_b"}),
        (None, {"one_a", "one_b"}),
    ],
)
def test_a_path_is_a_folder_a_function_or_a_file(world: World, path: str | None, ids: set[str]) -> None:
    if not (world.folder / "parts").exists():
        world.origin("parts").repository.commit(
            1, {"one_a.py": SHOUTS.format("a"), "one_b/main.py": PIPE.format("b"), "_loud.py": LOUD.format("!")}
        )
    url = world.host.url("parts/.git")
    told = world.vendor(url, path=path, prefix="by_path_", dry_run=True)
    assert actions(told) == {f"by_path_{id}": "added" for id in ids}
    assert told["commit"] is None
    assert not [one for one in told["plan"]["functions"] if one["error"]]


def test_a_prefix_renames_functions_and_leaves_shared_modules(world: World) -> None:
    origin = world.origin("prefixed", word_py=SHOUTS.format("w").replace("_loud", "_pre"), _pre_py=LOUD.format("."))
    told = world.vendor(origin, path="functions", prefix="acme_")
    assert actions(told) == {"acme_word": "added"}
    assert world.say("acme_word") == "w."
    assert (world.there("acme_word.py"), world.there("_pre.py"), world.there("word.py")) == (True, True, False)


def test_a_ref_may_be_a_tag_or_a_commit(world: World) -> None:
    origin = world.origin("tagged", tagged_py=PIPE.format("old"))
    old = origin.repository.head()
    origin.repository.git("tag", "v1")
    origin.commit({"tagged_py": PIPE.format("new")})
    for ref in ("v1", old, old[:10]):
        told = world.vendor(origin, ref=ref, path="functions", dry_run=True)
        assert told["origin"]["commit"]["commit"] == old, ref
    assert world.vendor(origin, path="functions")["origin"]["commit"]["commit"] == origin.repository.head()


# ---- what is in the way ----------------------------------------------------------------------------------


def test_an_id_that_is_taken_is_a_conflict_and_nothing_is_written(world: World) -> None:
    origin = world.origin("rival", mine_py=PIPE.format("theirs"), rival_a_py=PIPE.format("a"))
    before = world.head

    answer = world.sync(origin, path="functions")
    assert answer.status_code == 409
    assert "mine: the id mine is taken, by mine.py, which did not come from there" in answer.json()["detail"]
    assert (world.head, world.there("rival_a.py"), world.say("mine")) == (before, False, "mine")

    told = world.vendor(origin, path="functions", dry_run=True)
    assert actions(told) == {"mine": "conflict", "rival_a": "added"}
    assert world.vendor(origin, path="functions", prefix="r_")["commit"] == world.head
    assert world.say("r_mine") == "theirs"


def test_a_shared_module_with_another_content_is_a_conflict(world: World) -> None:
    world.server.project.write("_ours.py", "A = 1\n")
    world.server.project.commit("ours")
    source = "from _ours import A\n\n\nclass Pipe:\n    def pipe(self, body):\n        return A\n"
    origin = world.origin("sharing", sharing_py=source, _ours_py="A = 2\n")
    answer = world.sync(origin, path="functions")
    assert answer.status_code == 409
    assert "_ours.py: the shared module _ours.py is there with another content" in answer.json()["detail"]
    origin.commit({"_ours_py": "A = 1\n"})
    assert actions(world.vendor(origin, path="functions")) == {"sharing": "added"}


def test_a_folder_that_would_swallow_functions_is_a_conflict(world: World) -> None:
    world.server.add("swallowed", PIPE.format("x"))
    world.server.project.functions.joinpath("belly").mkdir()
    world.server.project.write("belly/inner.py", PIPE.format("x"))
    world.server.settle("inner")
    world.server.project.commit("belly")
    origin = world.origin("swallowing", belly__main_py=PIPE.format("y"))
    answer = world.sync(origin, path="functions")
    assert (answer.status_code, "the folder belly is there already" in answer.json()["detail"]) == (409, True)
    other = world.origin("inside", first_b__nested_py=PIPE.format("y"))
    world.server.project.write("first_b2/main.py", PIPE.format("x"))
    world.server.settle("first_b2")
    other.commit({"first_b__nested_py": None, "first_b2__nested_py": PIPE.format("y")})
    answer = world.sync(other, path="functions")
    assert (answer.status_code, "would be a helper of" in answer.json()["detail"]) == (409, True)


def test_what_does_not_load_is_refused_whole(world: World) -> None:
    origin = world.origin("broken", broken_a_py=PIPE.format("a"), broken_b_py="import nothing_like_it\n" + PIPE)
    before = world.head
    answer = world.sync(origin, path="functions")
    assert answer.status_code == 400
    assert "broken_b.py:1" in answer.json()["detail"]
    assert (world.head, world.there("broken_a.py")) == (before, False)

    told = world.vendor(origin, path="functions", dry_run=True)
    errors = {one["id"]: one["error"] for one in told["plan"]["functions"]}
    assert (errors["broken_a"], errors["broken_b"]["path"], errors["broken_b"]["line"]) == (None, "broken_b.py", 1)
    assert told["plan"]["wrong"]


def test_uncommitted_work_is_not_overwritten(world: World) -> None:
    origin = world.origin("loose", loose_py=PIPE.format("one"))
    world.vendor(origin, path="functions")
    before = world.server.function("loose")
    world.server.project.write("loose.py", PIPE.format("by hand"))
    world.server.settle("loose", since=before)
    origin.commit({"loose_py": PIPE.format("two")})
    answer = world.sync(origin, path="functions")
    assert (answer.status_code, "loose.py was changed here and there" in answer.json()["detail"]) == (409, True)
    answer = world.sync(origin, path="functions", force=True)
    assert (answer.status_code, "changes that are in no commit" in answer.json()["detail"]) == (409, True)
    assert "by hand" in world.read("loose.py")


# ---- again, later ----------------------------------------------------------------------------------------


def test_what_came_before_is_updated_and_settings_of_ours_stay(world: World) -> None:
    origin = world.origin("later", later_a_py=PIPE.format("1"), later_a_yaml="limits: {timeout: 5s}\n", later_b_py=PIPE)
    world.vendor(origin, path="functions")
    world.server.project.write("later_a.yaml", "limits: {timeout: 9s}\n")
    world.server.project.commit("Ours")
    newest = origin.commit({"later_a_py": PIPE.format("2"), "later_a_yaml": "limits: {timeout: 6s}\n"})

    told = world.vendor(origin, path="functions")

    assert actions(told) == {"later_a": "changed", "later_b": "unchanged"}
    assert "later_a.yaml stays as it was changed here" in warnings(told, "later_a")
    assert (world.say("later_a"), world.read("later_a.yaml")) == ("2", "limits: {timeout: 9s}\n")
    assert world.git("log", "-1", "--format=%s") == f"Copy later_a from {origin.url} at {newest[:12]}"
    # The update did not touch the settings, which are still not as they came.
    origin.commit({"later_a_yaml": "limits: {timeout: 8s}\n", "later_b_yaml": "limits: {timeout: 3s}\n"})
    told = world.vendor(origin, path="functions")
    assert actions(told) == {"later_a": "unchanged", "later_b": "changed"}
    assert world.read("later_a.yaml") == "limits: {timeout: 9s}\n"


def test_what_was_changed_here_stays_unless_it_changed_there_too(world: World) -> None:
    origin = world.origin("both", both_py=PIPE.format("1"), other_py=PIPE.format("1"))
    world.vendor(origin, path="functions")
    world.edit("both", "both.py", PIPE.format("ours"))
    origin.commit({"other_py": PIPE.format("2")})

    told = world.vendor(origin, path="functions")
    assert actions(told) == {"both": "unchanged", "other": "changed"}
    assert "what was changed here stays" in warnings(told, "both")

    origin.commit({"both_py": PIPE.format("theirs")})
    assert world.sync(origin, path="functions").status_code == 409
    assert world.say("both") == "ours"
    assert actions(world.vendor(origin, path="functions", force=True)) == {"both": "changed", "other": "unchanged"}
    assert world.say("both") == "theirs"


def test_prune_removes_what_left_the_place_it_came_from(world: World) -> None:
    origin = world.origin("leaving", leave_a_py=SHOUTS.format("a").replace("_loud", "_leave"), leave_b_py=PIPE)
    origin.commit({"_leave_py": LOUD.format("!"), "elsewhere__leave_c_py": PIPE.format("c")})
    world.vendor(origin, path="functions")
    world.vendor(origin, path="functions/leave_b.py", prefix="single_")
    origin.commit({"leave_a_py": None, "_leave_py": None, "elsewhere__leave_c_py": None})

    told = world.vendor(origin, path="functions")
    assert actions(told) == {"leave_a": "unchanged", "leave_b": "unchanged", "leave_c": "unchanged"}
    assert "with prune it goes" in warnings(told, "leave_a")

    told = world.vendor(origin, path="functions", prune=True)
    assert actions(told) == {"leave_a": "removed", "leave_b": "unchanged", "leave_c": "removed"}
    gone = [world.there(path) for path in ("leave_a.py", "_leave.py", "elsewhere")]
    kept = [world.there(path) for path in ("leave_b.py", "single_leave_b.py", "mine.py")]
    assert (gone, kept) == ([False] * 3, [True] * 3)
    assert "the removal of 2 functions" in world.git("log", "-1", "--format=%s")


def test_a_function_that_moved_there_moves_here(world: World) -> None:
    origin = world.origin("moving", moved_py=PIPE.format("1"), moved_yaml="limits: {timeout: 5s}\n")
    world.vendor(origin, path="functions")
    world.server.project.write("moved.yaml", "limits: {timeout: 9s}\n")
    world.server.project.commit("Ours")
    origin.commit({"moved_py": None, "moved_yaml": None, "moved__main_py": PIPE.format("2")})
    told = world.vendor(origin, path="functions")
    assert actions(told) == {"moved": "changed"}
    assert (world.there("moved.py"), world.say("moved")) == (False, "2")
    assert world.read("moved/main.yaml") == "limits: {timeout: 9s}\n"


def test_a_shared_module_that_others_use_is_not_broken(world: World) -> None:
    origin = world.origin("shared", user_a_py=SHOUTS.format("a").replace("_loud", "_joint"), _joint_py=LOUD.format("!"))
    world.vendor(origin, path="functions")
    world.server.add("joint_user", SHOUTS.format("ours").replace("_loud", "_joint"))
    world.server.project.commit("A user of ours")
    origin.commit({"_joint_py": "def shout(text):\n    return text\n", "user_a_py": PIPE.format("a")})
    told = world.vendor(origin, path="functions")
    assert actions(told) == {"user_a": "changed"}, "what nothing there uses any more does not come"
    origin.commit({"user_a_py": "from _joint import shout\n\n" + PIPE.format("a")})
    answer = world.sync(origin, path="functions")
    assert (answer.status_code, "joint_user.py" in answer.json()["detail"]) == (400, True)
    assert world.say("joint_user") == "ours!"


# ---- one source ------------------------------------------------------------------------------------------


def load(world: World, url: str) -> httpx.Response:
    with world.server.client() as client:
        return client.post(f"{API}/load/url", json={"url": url})


def test_a_source_is_fetched_from_a_git_address(world: World) -> None:
    origin = world.origin("loaded", alone_py=PIPE.format("old"), _words_py="W = 1\n")
    origin.repository.git("branch", "feature/old")
    origin.commit({"alone_py": PIPE.format("new"), "pack__main_py": PIPE.format("pack"), "pack__helper_py": "H = 1\n"})

    for place, name, word in (
        ("@feature/old", "alone", "old"),
        ("@feature/old#functions", "alone", "old"),
        ("#functions/alone.py", "alone", "new"),
        ("@main#functions/pack", "pack", "pack"),
        ("#functions/pack/main.py", "pack", "pack"),
        ("#subdirectory=functions/pack", "pack", "pack"),
    ):
        answer = load(world, f"git+{origin.url}{place}")
        assert answer.json() == {"name": name, "content": PIPE.format(word)}, place

    several = load(world, f"git+{origin.url}#functions")
    assert several.status_code == 400
    assert "2 functions: functions/alone.py, functions/pack/main.py" in several.json()["detail"]
    refused = {
        f"git+{origin.url}#README.md": 409,
        f"git+{origin.url}#functions/_words.txt": 409,
        f"git+{origin.url}@nowhere": 502,
        f"git+file://{world.folder}/loaded": 400,
        f"git+https://{PASSWORD}@host/a.git": 400,
    }
    assert {url: load(world, url).status_code for url in refused} == refused
    assert not any(PASSWORD in load(world, url).text for url in refused)


# ---- the command line ------------------------------------------------------------------------------------


def command(cwd: Path, *arguments: str) -> Told:
    return run(cwd, "import", *arguments, FNSYNC_TOKEN=ADMIN_TOKEN)


def test_import_copies_from_a_git_address(world: World) -> None:
    origin = world.origin("commanded", spoken_py=PIPE.format("1"), mine_py=PIPE.format("x"))
    here = world.server.project.root

    foreseen = command(here, f"git+{origin.url}#functions", "--dry-run")
    assert (foreseen.returncode, "the id mine is taken" in foreseen.stdout) == (exits.FAILED, True)
    refused = command(here, f"git+{origin.url}#functions")
    assert (refused.returncode, "nothing was copied" in refused.stderr) == (exits.FAILED, True)
    done = command(here, f"git+{origin.url}@main#functions", "--prefix", "cli_", "--message", "Take them")
    assert done.returncode == exits.OK, done.stderr
    assert [line.split()[:3] for line in done.stdout.splitlines()[1:]] == [
        ["added", "cli_mine", "cli_mine.py"],
        ["added", "cli_spoken", "cli_spoken.py"],
    ]
    assert done.stderr == f"2 added; {origin.url} at {origin.repository.head()[:8]}; commit {world.head[:8]}\n"
    assert world.git("log", "-1", "--format=%s") == "Take them"
    assert command(here, f"git+{origin.url}", "--replace").returncode == exits.FAILED
    assert command(here, "some.json", "--prune").returncode == exits.FAILED


def test_import_copies_without_a_server_too(world: World, project: Project) -> None:
    origin = world.origin("served", quiet_py=PIPE.format("quiet"))
    done = command(project.root, f"git+{origin.url}#functions", "--json")
    assert done.returncode == exits.OK, done.stderr
    told = json.loads(done.stdout)
    assert (actions(told), told["commit"]) == ({"quiet": "added"}, project.git("rev-parse", "HEAD"))


def test_copies_may_wait_for_review(world: World, project: Project) -> None:
    project.configure("repository: {write: branch}\n")
    project.commit("first")
    before = project.git("rev-parse", "HEAD")
    origin = world.origin("reviewed", waiting_py=PIPE.format("later"))
    done = command(project.root, f"git+{origin.url}#functions", "--json")
    assert done.returncode == exits.OK, done.stderr
    proposal = json.loads(done.stdout)["proposal"]
    assert f"Origin-Url: {origin.url}" in project.git("log", "-1", "--format=%B", proposal["branch"])
    assert (project.git("rev-parse", "HEAD"), (project.functions / "waiting.py").exists()) == (before, False)


# ---- who may fetch what ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"url": "/etc"}, "the server's own disk"),
        ({"url": "file:///etc"}, "the server's own disk"),
        ({"url": "ext::sh -c id"}, "address of a git repository"),
        ({"url": "ftp://host/a"}, "no way to a repository"),
        ({"url": f"https://u:{PASSWORD}@host/a"}, "no user or password"),
        ({"url": "https://host/a", "ref": "--upload-pack=id"}, "ref"),
        ({"url": "https://host/a", "path": "../x"}, "path"),
        ({"url": "https://host/a", "prefix": "_x"}, "prefix"),
        ({"url": "https://host/a", "auth": {"token": PASSWORD}}, "auth.token"),
        ({"url": "https://host/a", "auth": {"token": {"env": "FNSYNC_ADMIN_TOKEN"}}}, "the server's own"),
        ({"url": "https://host/a", "auth": {"token": {"file": "/etc/passwd"}}}, "auth.token.file"),
        (
            {"url": "https://host/a", "auth": {"token": {"env": "A"}, "ssh_key": {"env": "B"}}},
            "one of token and ssh_key",
        ),
        ({"url": "https://host/a", "mode": "other"}, "mode"),
        ({"url": "https://host/a", "functions": []}, "functions and keys of a git repository"),
    ],
)
def test_what_may_not_be_fetched_is_refused(world: World, keys: dict[str, Any], words: str) -> None:
    answer = world.sync(**{"origin": "", **keys})
    assert (answer.status_code, words in answer.json()["detail"]) == (400, True), answer.text
    assert PASSWORD not in answer.text


def test_a_body_without_its_url_is_no_empty_list(world: World) -> None:
    with world.server.client() as client:
        for body in ({"mode": "vendor", "path": "x"}, {"dry_run": True}, {"prune": True, "ref": "main"}):
            answer = client.post(f"{API}/sync", json=body)
            assert (answer.status_code, "url" in answer.json()["detail"]) == (400, True), body
    assert world.say("mine") == "mine"


def test_only_admins_may(world: World) -> None:
    with world.server.client(world.server.add_token("user")) as client:
        assert client.post(f"{API}/sync", json={"url": "https://host/a", "mode": "vendor"}).status_code == 401


def test_a_repository_of_a_source_may_lie_here(world: World) -> None:
    origin = world.origin("known", known_py=PIPE.format("known"))
    told = world.vendor(f"{origin.repository.folder}", path="functions", dry_run=True)
    assert actions(told) == {"known": "added"}


def test_what_a_source_has_to_prove_a_copy_has_to_prove_too(world: World) -> None:
    origin = world.origin("signed", signed_py=PIPE.format("unsigned"))
    answer = world.sync(f"{origin.repository.folder}", path="functions")
    assert (answer.status_code, "sign" in answer.json()["detail"]) == (409, True)
    assert not world.there("signed.py")


def test_what_cannot_be_had_is_named_without_secrets(world: World) -> None:
    origin = world.origin("guarded", guarded_py=PIPE.format("in"))
    world.host.logins = {"ada": PASSWORD}
    try:
        refused = world.sync(origin, path="functions")
        auth = {"username": "ada", "password": {"env": "ORIGIN_PASSWORD"}}
        let_in = world.vendor(origin, path="functions", auth=auth, dry_run=True)
        unset = world.sync(origin, auth={"token": {"env": "NOT_SET_ANYWHERE"}})
    finally:
        world.host.logins = None
    assert (refused.status_code, "/guarded/.git" in refused.json()["detail"]) == (502, True)
    assert actions(let_in) == {"guarded": "added"}
    assert (unset.status_code, "NOT_SET_ANYWHERE" in unset.json()["detail"]) == (400, True)
    missing = world.sync(world.host.url("nowhere/.git"))
    assert (missing.status_code, "/nowhere/.git" in missing.json()["detail"]) == (502, True)
    unknown = world.sync(origin, ref="no-such-branch")
    assert (unknown.status_code, "no-such-branch" in unknown.json()["detail"]) == (502, True)
    no_path = world.sync(origin, path="funktions")
    assert (no_path.status_code, "functions" in no_path.json()["detail"]) == (409, True)
    empty = world.origin("empty", notes_txt="x")
    assert world.sync(empty, path="functions").status_code == 404
    assert PASSWORD not in world.server.log()


def test_a_repository_may_be_followed_instead(world: World) -> None:
    origin = world.origin("mirrored", mirrored_py=PIPE.format("followed"))
    for keys in ({"dry_run": True}, {"force": True}, {"url": "/etc"}):
        refused = world.sync(**{"origin": origin, "mode": "mirror", **keys})
        assert refused.status_code == 400, refused.text
    answer = world.sync(origin, mode="mirror", path="functions", prefix="m_", name="followed")
    assert answer.status_code == 200, answer.text
    assert answer.json()["name"] == "followed"
    try:
        world.server.settle("m_mirrored")
        assert (world.say("m_mirrored"), world.there("m_mirrored.py")) == ("followed", False)
        taken = world.sync(origin, path="functions", prefix="m_")
        assert "taken, by a function of the source followed" in taken.json()["detail"]
    finally:
        with world.server.client() as client:
            assert client.delete("/api/sources/followed").status_code == 200


def test_progress_is_told_line_by_line(world: World) -> None:
    origin = world.origin("told", told_py=PIPE.format("told"))
    with world.server.client() as client:
        body = {"url": origin.url, "mode": "vendor", "path": "functions"}
        answer = client.post(f"{API}/sync", params={"progress": True}, json=body)
        lines = [json.loads(line) for line in answer.text.splitlines() if line]
        failed = client.post(f"{API}/sync", params={"progress": True}, json={**body, "path": "nowhere"})
    assert {line["step"] for line in lines[:-1]} >= {"fetching", "checking"}
    assert lines[-1]["commit"] == world.head
    assert json.loads(failed.text.splitlines()[-1])["status"] == 409
