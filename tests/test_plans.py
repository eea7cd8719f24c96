"""Plans of a running server: of refs, of pulls and of sources, over HTTP and with the command."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fnsync.cli import exits
from fnsync.errors import NotFound
from fnsync.model import CommitId, Limits, Tree
from fnsync.plan import Known, Policy, candidate_of
from fnsync.planning import Planner, Rules
from fnsync.plans import Candidate, Plans
from fnsync.runtime.environments import Environments, RequirementsPolicy
from fnsync.runtime.executor import Executor, ExecutorOptions
from fnsync.source.catalog import Catalog
from fnsync.source.mounts import outer
from fnsync.source.snapshots import Snapshots
from tests import commands
from tests.conftest import Project, Server

PIPE = "class Pipe:\n    def pipe(self, body):\n        return {!r}\n"
KEYED = """
from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        {field}

    def pipe(self, body):
        return "x"
"""
STEALING = """
import os, pathlib

pathlib.Path({path!r}).write_text(str(dict(os.environ)))


class Pipe:
    def pipe(self, body):
        return 1
"""


class Planned:
    """A server on `main` with branches that nobody merged, and a bare remote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = project = Project(folder / "project")
        for name in ("shout", "keep", "gone", "stay"):
            project.write(f"{name}.py", PIPE.format(name))
        project.write("keyed.py", KEYED.format(field="a: str = ''"))
        project.write("keyed.yaml", "valves: {a: {env: HAS}}\n")
        project.configure("sources: []\n")
        self.first = project.commit("first")
        self.bare = folder / "remote.git"
        subprocess.run(["git", "clone", "-q", "--bare", project.root, self.bare], check=True)
        project.git("remote", "add", "origin", str(self.bare))
        project.git("fetch", "-q", "origin")
        self.server = Server(project, environ={"HAS": "1", "HAS_NOT": "hunter2"})

    def branch(self, name: str, files: dict[str, str | None], at: str = "main") -> str:
        """Make a branch with a commit on it, in a working tree of its own; the project's stays as it is."""
        there = self.folder / f"at-{name.replace('/', '-')}"
        self.project.git("worktree", "add", "-q", "-f", "-B", name, str(there), at)
        for path, text in files.items():
            file = there / "functions" / path
            if text is None:
                file.unlink()
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
        for line in (["add", "-A"], ["commit", "-q", "-m", name]):
            subprocess.run(["git", *line], cwd=there, check=True)
        commit = self.project.git("rev-parse", name)
        self.project.git("worktree", "remove", "--force", str(there))
        return commit

    def get(self, **asked: Any) -> httpx.Response:
        with self.server.client() as client:
            return client.get("/api/plan", params=asked)

    def plan(self, **asked: Any) -> dict[str, Any]:
        answer = self.get(**asked)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def command(self, *arguments: str) -> commands.Told:
        return commands.run(self.project.root, "plan", *arguments, FNSYNC_ADMIN_TOKEN=self.server.token)


@pytest.fixture(scope="module")
def module_planned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planned]:
    planned = Planned(tmp_path_factory.mktemp("planned"))
    try:
        planned.server.wait_ready()
        yield planned
    finally:
        planned.server.stop()


@pytest.fixture
def planned(module_planned: Planned, watched: Any) -> Planned:
    watched(module_planned.server)
    return module_planned


def told(plan: dict[str, Any], *keys: str) -> dict[str, Any]:
    """By function, what the plan says of those that do not stay as they are."""
    found = {one["id"]: tuple(one[key] for key in keys) for one in plan["functions"] if one["action"] != "unchanged"}
    return {id: values[0] if len(values) == 1 else values for id, values in found.items()}


# ---- refs ------------------------------------------------------------------------------------------------------


def test_a_branch_before_it_is_merged(planned: Planned) -> None:
    commit = planned.branch(
        "feature/x",
        {
            "shout.py": PIPE.format("louder"),
            "shout.yaml": "limits: {timeout: 3s}\n",
            "gone.py": None,
            "new.py": PIPE.format("new"),
            "boom.py": "import nothing_like_it\n" + PIPE.format(1),
            "raises.py": "raise RuntimeError('at import')\n" + PIPE.format(1),
            "unfit.py": KEYED.format(field="n: int"),
            "unfit.yaml": "valves: {n: many}\n",
        },
    )
    before = planned.project.git("rev-parse", "HEAD")
    found = planned.plan(ref="feature/x")
    assert (found["ref"], found["before"], found["after"], found["source"]) == ("feature/x", before, commit, "local")
    assert told(found, "action") == {
        "shout": "changed",
        "gone": "removed",
        "new": "added",
        "boom": "added",
        "raises": "added",
        "unfit": "added",
    }
    assert found["totals"]["unchanged"] == 3 and found["loaded"] and found["wrong"] and not found["gate_all"]
    assert found["removed_share"] == 0.2
    by_id = {one["id"]: one for one in found["functions"]}
    assert by_id["shout"]["changes"] == ["source", "settings"] and by_id["shout"]["live"]
    assert by_id["shout"]["before"] == planned.server.function("shout")["revision"]  # type: ignore[index]
    raised = by_id["raises"]["error"]
    assert (raised["path"], raised["line"], raised["message"]) == ("raises.py", 1, "RuntimeError: at import")
    assert by_id["unfit"]["error"]["code"] == "valves" and by_id["unfit"]["error"]["path"] == "unfit.yaml"
    assert by_id["new"]["error"] is None
    with planned.server.client() as client:
        assert client.get("/api/functions/id/new").status_code == 404, "nothing was switched"
    assert planned.project.git("status", "--porcelain", "functions") == "", "nor written"


def test_the_errors_are_those_that_a_merge_gives(planned: Planned) -> None:
    files: dict[str, str | None] = {
        "bad_import.py": "import nothing_like_it\n" + PIPE.format(1),
        "bad_valve.py": KEYED.format(field="n: int"),
        "bad_valve.yaml": "valves: {n: many}\n",
        "no_variable.py": KEYED.format(field="n: str = ''"),
        "no_variable.yaml": "valves: {n: {env: NOT_THERE_AT_ALL}}\n",
        "bad_text.py": "class Pipe(:\n",
    }
    planned.branch("errors", files)
    errors = told(planned.plan(ref="errors"), "error")
    for path, text in files.items():
        assert text is not None
        planned.project.write(path, text)
    try:
        for id in ("bad_import", "bad_valve", "bad_text"):
            there = planned.server.settle(id, "failed")["error"]
            assert {key: errors[id][key] for key in ("code", "message", "path", "line")} == {
                key: there[key] for key in ("code", "message", "path", "line")
            }
        assert errors["no_variable"] is None, "whether the server has it is nothing that a branch is told"
    finally:
        for path in files:
            planned.project.remove(path)
        for id in ("bad_import", "bad_valve", "bad_text", "no_variable"):
            planned.server.gone(id)


def test_a_branch_gets_no_secrets_that_what_serves_has_not(planned: Planned, tmp_path: Path) -> None:
    there = tmp_path / "stolen"
    planned.branch(
        "stealing",
        {
            "thief.py": STEALING.format(path=str(there)),
            "thief.yaml": "permissions: {env: [HAS_NOT]}\n",
            "keyed.yaml": "valves: {a: {env: HAS_NOT}}\n",
        },
    )
    found = planned.plan(ref="stealing")
    assert "hunter2" not in there.read_text()
    warnings = told(found, "warnings")
    assert "permissions.env: HAS_NOT" in warnings["thief"][0] and "valves.a" in warnings["keyed"][0]
    assert not found["wrong"]


def test_without_loading_nothing_of_it_is_executed(planned: Planned, tmp_path: Path) -> None:
    there = tmp_path / "executed"
    planned.branch("reading", {"thief.py": STEALING.format(path=str(there)), "bad.py": "def\n"})
    found = planned.plan(ref="reading", load="false")
    assert told(found, "action") == {"thief": "added", "bad": "added"} and not found["loaded"]
    assert not there.exists() and found["totals"]["failing"] == 1


def test_a_branch_that_is_behind_and_one_that_is_older(planned: Planned) -> None:
    planned.branch("behind", {"stay.py": PIPE.format("stay, changed")}, planned.first)
    planned.project.write("keep.py", PIPE.format("kept anew"))
    planned.project.commit("main moves")
    planned.server.settle("keep")
    found = planned.plan(ref="behind")
    assert told(found, "action") == {"stay": "changed"}, "what main changed since is not taken back"
    assert "lacks 1 commit that is here" in found["notes"][0]
    back = planned.plan(ref=planned.first)
    assert told(back, "action") == {"keep": "changed"} and "going back" in back["notes"][0]
    assert planned.plan(ref="HEAD")["totals"]["unchanged"] == 5


def test_uncommitted_work_that_is_in_the_way(planned: Planned) -> None:
    planned.branch("over", {"shout.py": PIPE.format("over")})
    planned.project.write("shout.yaml", "active: true\n")
    planned.project.write("stay.py", PIPE.format("mine"))
    planned.project.write("shout.py", PIPE.format("mine"))
    try:
        assert planned.plan(ref="over", load="false")["notes"] == [
            "changes that are in no commit are in the way here: shout.py"
        ]
    finally:
        planned.project.git("checkout", "-q", "--", "functions")
        planned.project.remove("shout.yaml")


def test_a_pull_request_is_fetched_each_time(planned: Planned) -> None:
    for number, text in enumerate(("one", "two")):
        commit = planned.branch("mine", {"pulled.py": PIPE.format(text)})
        planned.project.git("push", "-q", "--force", "origin", f"{commit}:refs/pull/7/head")
        found = planned.plan(ref="pr/7")
        assert (found["after"], told(found, "action")) == (commit, {"pulled": "added"}), number
    planned.project.git("remote", "set-url", "origin", str(planned.folder / "away.git"))
    try:
        assert planned.plan(ref="pr/7")["after"] == commit, "what is here of it will do"
        away = planned.get(ref="pr/8")
        assert away.status_code == 502 and "cannot be fetched" in away.json()["detail"]
    finally:
        planned.project.git("remote", "set-url", "origin", str(planned.bare))
    assert planned.get(ref="pr/8").status_code == 404


def test_a_commit_that_is_refused(planned: Planned) -> None:
    there = planned.folder / "odd"
    planned.project.git("worktree", "add", "-q", "-B", "odd", str(there), "main")
    (there / "functions/out").symlink_to("/etc/passwd")
    for line in (["add", "-A"], ["commit", "-q", "-m", "odd"]):
        subprocess.run(["git", *line], cwd=there, check=True)
    planned.project.git("worktree", "remove", "--force", str(there))
    answer = planned.get(ref="odd")
    assert answer.status_code == 409 and "/etc/passwd" in answer.json()["detail"]


# ---- pulls -----------------------------------------------------------------------------------------------------


def test_what_the_next_pull_would_do(planned: Planned) -> None:
    commit = planned.branch("coming", {"shout.py": PIPE.format("pulled")})
    planned.project.git("push", "-q", "--force", "origin", "coming:main")
    planned.project.git("update-ref", "refs/remotes/origin/main", planned.first)
    found = planned.plan()
    assert (found["ref"], found["after"]) == ("origin/main", commit), "it was fetched"
    assert told(found, "action")["shout"] == "changed" and found == planned.plan(source="repository")
    assert planned.project.git("rev-parse", "HEAD") != commit


# ---- formats, and whom it is for -------------------------------------------------------------------------------


def test_the_same_as_text_and_markdown(planned: Planned) -> None:
    planned.branch("shown", {"shout.py": PIPE.format("shown"), "bad.py": "class Pipe(:\n"})
    text = planned.get(ref="shown", format="text")
    assert text.headers["content-type"] == "text/plain; charset=utf-8" and "~ shout" in text.text
    markdown = planned.get(ref="shown", format="markdown")
    assert markdown.headers["content-type"] == "text/markdown; charset=utf-8"
    assert "| ✏️ changed | `shout` | source |" in markdown.text
    with planned.server.client() as client:
        accepted = client.get("/api/plan", params={"ref": "shown"}, headers={"Accept": "text/markdown, */*;q=0.1"})
        assert accepted.text == markdown.text
        prefixed = client.get("/api/v1/plan", params={"ref": "shown"}, headers={"Accept": "*/*"})
        assert prefixed.json()["wrong"]


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        ({"ref": "nowhere"}, 404, "'nowhere'"),
        ({"ref": "--output=x"}, 404, "is no name"),
        ({"ref": "HEAD~1"}, 404, "is no name"),
        ({"ref": ""}, 404, "is no name"),
        ({"source": "acme"}, 404, "no source 'acme'"),
        ({"source": "acme", "ref": "main"}, 400, "one of them"),
        ({"ref": "main", "format": "pdf"}, 400, "format"),
        ({"ref": "main", "load": "perhaps"}, 400, "load"),
        ({"ref": "x" * 301}, 400, "ref"),
    ],
)
def test_what_is_no_plan(planned: Planned, asked: dict[str, str], status: int, message: str) -> None:
    answer = planned.get(**asked)
    assert answer.status_code == status and message in answer.json()["detail"]


def test_it_is_for_admins(planned: Planned) -> None:
    with planned.server.client(planned.server.add_token("user")) as client:
        assert client.get("/api/plan", params={"ref": "main"}).status_code == 401


def test_a_cookie_executes_nothing(planned: Planned, tmp_path: Path) -> None:
    """Another site can have an admin's browser ask for a plan."""
    there = tmp_path / "executed"
    planned.branch("lured", {"thief.py": STEALING.format(path=str(there))})
    with httpx.Client(base_url=planned.server.url, cookies={"token": planned.server.token}) as browser:
        assert browser.get("/api/plan", params={"ref": "lured", "load": "true"}).status_code == 401
        assert browser.get("/api/plan", params={"ref": "lured"}).json()["loaded"] is False
    assert not there.exists()


# ---- the command -----------------------------------------------------------------------------------------------


def test_the_command(planned: Planned) -> None:
    planned.branch("good", {"shout.py": PIPE.format("good")})
    planned.branch("bad", {"shout.py": "raise RuntimeError('no')\n" + PIPE.format(1)})
    good = planned.command("good")
    assert good.returncode == 0 and "1 changed, 4 unchanged\n" in good.stdout and "~ shout  source" in good.stdout
    bad = planned.command("bad")
    assert bad.returncode == exits.WOULD_FAIL and "shout.py:1: RuntimeError: no" in bad.stdout
    assert planned.command("bad", "--no-load").returncode == 0, "only a worker can tell"
    assert planned.command("bad", "--markdown").stdout == planned.get(ref="bad", format="markdown").text
    assert planned.command("nowhere").returncode == exits.NOT_FOUND
    assert planned.command("bad", "--json", "--markdown").returncode == exits.USAGE
    data = commands.run(planned.project.root, "plan", "good", "--json", FNSYNC_ADMIN_TOKEN=planned.server.token)
    assert '"loaded": true' in data.stdout


def test_without_a_server_it_only_reads(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.write("a.py", PIPE.format(1))
    project.configure("sources: [{name: acme, url: 'https://h.example/x.git'}]\n")
    project.commit()
    project.git("branch", "feature")
    project.git("checkout", "-q", "feature")
    project.write("b.py", "class Pipe(:\n")
    project.commit()
    project.git("update-ref", "refs/remotes/origin/main", "HEAD")
    project.git("checkout", "-q", "main")
    said = commands.run(project.root, "plan", "feature", "--markdown")
    assert (
        said.returncode == exits.WOULD_FAIL
        and "| ➕ added | `b` |" in said.stdout
        and "nothing was loaded" in said.stdout
    )
    pull = commands.run(project.root, "plan")
    assert pull.returncode == exits.WOULD_FAIL and "nothing was fetched" in pull.stdout
    assert commands.run(project.root, "plan", "main").returncode == 0
    assert commands.run(project.root, "plan", "acme").returncode == exits.NO_SERVER
    assert project.git("status", "--porcelain", "--", "functions") == "" and not (project.root / ".fnsync").exists()


def test_it_makes_no_repository(tmp_path: Path) -> None:
    (tmp_path / "functions").mkdir()
    (tmp_path / "fnsync.yaml").write_text("functions: functions\n")
    said = commands.run(tmp_path, "plan", "main")
    assert said.returncode == exits.FAILED and "no git repository" in said.stderr
    assert {entry.name for entry in tmp_path.iterdir()} == {"functions", "fnsync.yaml"}


# ---- sources ---------------------------------------------------------------------------------------------------


class Source:
    """A source `acme` with a tree per commit, and what a server would know of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known = Known()
        self.tree = self.at("1", {})

    def at(self, digit: str, files: dict[str, str]) -> Tree:
        folder = self.folder / "trees" / digit
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            (folder / path).write_text(text)
        return Tree("acme", "acme_", folder, CommitId(digit * 40), self.folder, ".")

    async def read(self) -> Known:
        return self.known

    async def candidate(self, name: str) -> Candidate:
        if name != "acme":
            raise NotFound(f"there is no source {name!r}")
        return Candidate(self.tree, None, "main", CommitId("0" * 40), ("a note",), Rules(prune=False))


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def executor(tmp_path: Path) -> AsyncIterator[Executor]:
    environments = Environments(tmp_path / "environments", RequirementsPolicy(), os.environ)
    snapshots = Snapshots(tmp_path)
    executor = Executor(environments, snapshots.folder, {"KEY": "k"}, ExecutorOptions(tmp_path / "scratch", 32))
    await executor.start()
    yield executor
    await executor.close()


@pytest.mark.anyio
async def test_a_source_before_it_is_synced(tmp_path: Path, executor: Executor) -> None:
    source = Source(tmp_path)
    source.tree = source.at(
        "2",
        {
            "good.py": KEYED.format(field="key: str"),
            "good.yaml": "valves: {key: {env: KEY}}\n",
            "bad.py": "import _shared\n" + PIPE.format(1),
            "_shared.py": "1 / 0\n",
            **{f"many{n}.py": PIPE.format(n) for n in range(4)},
        },
    )
    planner = Planner(source.read, executor, Snapshots(tmp_path), Policy())
    plans = Plans(planner, None, tmp_path, tmp_path / "previews", remote="origin", branch=None, sources=source)
    plan = await plans.of_source("acme")
    assert (plan.source, plan.ref, plan.before, plan.after) == ("acme", "main", "0" * 40, "2" * 40)
    assert plan.notes == ("a note",) and not plan.prune and plan.totals["added"] == 6
    [bad] = [one for one in plan.functions if one.error]
    assert bad.error is not None and (bad.id, bad.error.path, bad.error.line) == ("acme_bad", "acme:_shared.py", 1)
    with pytest.raises(NotFound):
        await plans.of_source("other")
    # What was tried waits for the switch, with all that it may have.
    catalog = Catalog(source.tree.folder)
    catalog.refresh(None)
    unit = outer(catalog.units["good.py"], "acme", "acme_")
    waiting = set(executor.processes.workers)
    await executor.load(candidate_of(unit, Limits(), True, None))
    assert set(executor.processes.workers) == waiting
    plans.close()
