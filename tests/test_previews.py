"""Functions as of a ref: which code runs, for whom, with what it is given, and what becomes of its processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from fnsync.errors import FetchFailed, Unavailable, UnknownFunction, UnknownRef
from fnsync.git.selection import Selection
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId, FunctionId, Preview
from fnsync.previews import refs, trees
from fnsync.previews.reading import Scratch, around, read, read_all
from fnsync.previews.refs import LocalRefs, Where
from fnsync.runtime.pool import PREVIEW_IDLE_S
from fnsync.source.snapshots import Snapshots
from tests.commands import run
from tests.conftest import Project, Server, wait_for
from tests.upstream import KEY, Upstream, serving
from tests.workbench import Bench, until

V1 = "/v1/chat/completions"
PIPE = "class Pipe:\n    def pipe(self, body):\n        return {!r}\n"
WORDED = "from _words import WORD\nclass Pipe:\n    def pipe(self, body):\n        return WORD\n"
CONFIG = """
    auth: {preview: [user]}
    policy: {imports: {deny: [ctypes]}}
    upstreams: [{name: up, kind: openai, url: "URL/v1", key: {env: UP_KEY}}]
"""


ENVIRON = {"GIVEN_KEY": "k-1", "GIVEN_SEEN": "s-1", "OTHER_KEY": "k-2", "UP_KEY": KEY}


class Repository(Project):
    """A project whose branches are made without touching the working tree, and its remote."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.remote = root.with_name("remote.git")
        subprocess.run(["git", "init", "--quiet", "--bare", str(self.remote)], check=True)
        self.git("remote", "add", "origin", str(self.remote))

    def put(self, files: Mapping[str, str | None], branch: str | None = None, base: str = "main") -> str:
        """Commit files (path under functions/ -> content, `-> target` for a link) on top of `base`; point a branch at
        it."""
        index = {"GIT_INDEX_FILE": str(self.root / ".git" / "preview-index")}
        self._git("read-tree", base, env=index)
        lines = []
        for path, content in files.items():
            if content is None:
                lines.append(f"0 {'0' * 40}\tfunctions/{path}")
                continue
            mode, text = ("120000", content[3:]) if content.startswith("-> ") else ("100644", content)
            lines.append(f"{mode} {self._git('hash-object', '-w', '--stdin', text=text)}\tfunctions/{path}")
        self._git("update-index", "--index-info", text="\n".join(lines), env=index)
        commit = self._git("commit-tree", "-p", base, "-m", "try", self._git("write-tree", env=index))
        if branch is not None:
            self.git("update-ref", f"refs/heads/{branch}", commit)
        return commit

    def _git(self, *arguments: str, text: str = "", env: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.root,
            check=True,
            capture_output=True,
            text=True,
            input=text,
            env={**os.environ, **(env or {})},
        )
        return done.stdout.strip()

    def push(self, commit: str, ref: str) -> None:
        """Have the remote keep a commit under a name; by its address, since git would note what it pushed by name."""
        self.git("push", "--quiet", "--force", f"file://{self.remote}", f"{commit}:{ref}")


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    """A provider of models, one of which is called as a preview is."""
    with serving() as upstream:
        upstream.models = {"data": [{"id": name, "created": 1} for name in ("echo@main", "base@latest")]}
        yield upstream


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, provider: Upstream) -> Repository:
    made = Repository(tmp_path_factory.mktemp("previews") / "project")
    made.configure(CONFIG.replace("URL", provider.url))
    made.write("echo.py", PIPE.format("live"))
    made.write("_words.py", "WORD = 'live word'\n")
    made.write("worded.py", WORDED)
    made.write("given.py", GIVEN)
    made.write("given.yaml", "valves: {key: {env: GIVEN_KEY}}\npermissions: {env: [GIVEN_SEEN]}\n")
    made.write("closed.py", PIPE.format("closed"))
    made.write("closed.yaml", "access: {users: [grace@example.org]}\n")
    made.write("many.py", MANIFOLD.format("live"))
    made.write("press.py", "class Action:\n    def action(self, body):\n        return 'live action'\n")
    made.write("press.yaml", "global: true\n")
    made.write("wrap.py", FILTER)
    made.write("wrap.yaml", "models: [wrapped]\n")
    made.write("wrapped.py", PIPE.format("live"))
    made.write("limited.py", PIPE.format("live"))
    made.write("limited.yaml", "limits: {rate: 2/minute}\n")
    made.write("mine.py", MINE.format("str = 'none'"))
    made.commit("begin")
    return made


@pytest.fixture(scope="module")
def module_server(repository: Repository) -> Iterator[Server]:
    left = repository.root / ".fnsync" / "previews" / "reading" / "left"
    left.mkdir(parents=True)
    server = Server(repository, environ=ENVIRON)
    try:
        server.wait_ready()
        assert not left.exists(), "what a crash has left is still there"
        yield server
    finally:
        server.stop()


@pytest.fixture
def tried(module_server: Server, watched: Any) -> Server:
    """The server on `repository`."""
    found: Server = watched(module_server)
    return found


@pytest.fixture
def admin(tried: Server) -> Iterator[httpx.Client]:
    with tried.client() as client:
        yield client


@pytest.fixture
def user(tried: Server) -> Iterator[httpx.Client]:
    """Of the role that may preview."""
    with tried.client(tried.add_token("user")) as client:
        yield client


def ask(client: httpx.Client, model: str, path: str = V1, **more: Any) -> httpx.Response:
    return client.post(path, json={"model": model, "messages": [{"role": "user", "content": "hi"}], **more})


def said(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def error(answer: httpx.Response) -> tuple[int, str, str]:
    assert answer.status_code != 200, answer.text
    found = answer.json()["error"]
    return answer.status_code, found["code"], found["message"]


# ---- which code ---------------------------------------------------------------------------------------------


def test_each_kind_of_ref_runs_its_own_code(repository: Repository, admin: httpx.Client) -> None:
    commit = repository.put({"echo.py": PIPE.format("feature")}, "feature-x")
    repository.git("tag", "v1.2", commit)
    repository.git("tag", "-a", "v2", "-m", "second", repository.put({"echo.py": PIPE.format("tagged")}))
    repository.put({"echo.py": PIPE.format("nested")}, "team/fix.1")
    expected = {
        "echo@feature-x": "feature",
        f"echo@{commit}": "feature",
        f"echo@{commit[:8]}": "feature",
        "echo@v1.2": "feature",
        "echo@v2": "tagged",
        "echo@team/fix.1": "nested",
        "echo@refs/heads/feature-x": "feature",
        "echo@HEAD": "live",
        "echo@refs/heads/main": "live",
        "echo": "live",
    }
    assert {model: said(ask(admin, model)) for model in expected} == expected

    for path in (V1, "/api/chat/completions", "/chat/completions"):
        answer = ask(admin, "echo@feature-x", path, stream=False)
        assert said(answer) == "feature"
        assert answer.headers["x-fnsync-function"] == "echo"
        assert answer.headers["x-fnsync-commit"] == commit
        assert answer.json()["model"] == "echo@feature-x"
    assert ask(admin, "echo").headers["x-fnsync-revision"] != answer.headers["x-fnsync-revision"]
    streamed = ask(admin, "echo@feature-x", stream=True)
    assert "feature" in streamed.text and streamed.text.endswith("data: [DONE]\n\n")


def test_a_base_model_of_that_very_name_goes_first(admin: httpx.Client) -> None:
    for model in ("echo@main", "base@latest"):
        answer = ask(admin, model)
        assert said(answer) == "one two three" and answer.headers["x-fnsync-upstream"] == "up"
    status, code, message = error(ask(admin, "base@newest"))
    assert (status, code) == (404, "ref_not_found") and "newest" in message


def test_what_only_the_remote_has_is_fetched(repository: Repository, admin: httpx.Client) -> None:
    repository.push(repository.put({"echo.py": PIPE.format("request")}), "refs/pull/12/head")
    repository.push(repository.put({"echo.py": PIPE.format("merge")}), "refs/merge-requests/13/head")
    repository.push(repository.put({"echo.py": PIPE.format("remote")}), "refs/heads/only-there")
    assert said(ask(admin, "echo@pr/12")) == "request"
    assert said(ask(admin, "echo@pr/13")) == "merge"
    assert said(ask(admin, "echo@only-there")) == "remote"
    assert said(ask(admin, "echo@origin/only-there")) == "remote"
    status, code, message = error(ask(admin, "echo@pr/99"))
    assert (status, code) == (404, "ref_not_found") and "pr/99" in message


@pytest.mark.anyio
async def test_the_remote_is_asked_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Repository(tmp_path / "there")
    there.write("echo.py", PIPE.format("x"))
    first = there.commit()
    second = there.put({}, base=first)
    found = LocalRefs(WorkTree.ensure(there.functions), "origin")

    async def resolved(ref: str) -> str:
        return (await found.resolve("local", ref)).commit

    try:
        with pytest.raises(UnknownRef, match="late"):
            await resolved("late")
        there.push(first, "refs/heads/late")
        with pytest.raises(UnknownRef):
            await resolved("late")
        monkeypatch.setattr(refs, "FRESH_S", 0.0)
        assert await resolved("late") == first
        there.push(second, "refs/heads/late")
        assert await asyncio.gather(*(resolved("late") for _ in range(10))) == [second] * 10
        there.remote.rename(tmp_path / "away")
        assert await resolved("late") == second, "what was there before is used"
        assert await resolved("main") == first, "nobody asks for what is here"
        monkeypatch.setattr(refs, "SPARED_S", 0.0)
    finally:
        await found.close()

    monkeypatch.setattr(refs, "FETCHES", 1)
    found = LocalRefs(WorkTree.ensure(there.functions), "origin")
    try:
        with pytest.raises(FetchFailed):
            await resolved("unheard-of")
        with pytest.raises(Unavailable, match="within a minute"):
            await resolved("another")
        assert await resolved("main") == first
    finally:
        await found.close()


def test_a_branch_that_moves_is_seen_at_the_next_call(repository: Repository, admin: httpx.Client) -> None:
    for word in ("first", "second", "third"):
        repository.put({"echo.py": PIPE.format(word)}, "moving")
        assert said(ask(admin, "echo@moving")) == word
    repository.git("pack-refs", "--all")
    assert said(ask(admin, "echo@moving")) == "third"
    repository.git("update-ref", "-d", "refs/heads/moving")
    assert error(ask(admin, "echo@moving"))[0] == 404


def test_a_function_brings_its_helpers_its_shared_modules_and_its_links(
    repository: Repository, admin: httpx.Client
) -> None:
    folder = "from . import helper\nfrom _words import WORD\nclass Pipe:\n    def pipe(self, body):\n"
    repository.put(
        {
            "_words.py": "WORD = 'tried word'\n",
            "new/main.py": folder + "        return helper.SAID + ' ' + WORD\n",
            "new/helper.py": "SAID = 'helped'\n",
            "worded.py": None,
            "sub/worded.py": "-> ../kept/_worded.py",
            "kept/_worded.py": WORDED.replace("return ", "return 'via ' + "),
        },
        "shared",
    )
    assert said(ask(admin, "new@shared")) == "helped tried word"
    assert said(ask(admin, "worded@shared")) == "via tried word"
    assert said(ask(admin, "worded")) == "live word"
    assert error(ask(admin, "new"))[0] == 404


def test_of_two_claims_the_first_by_path_counts_and_ignored_files_do_not(
    repository: Repository, admin: httpx.Client
) -> None:
    files = {"a/twice.py": PIPE.format("a"), "b/twice.py": PIPE.format("b")}
    repository.put(files, "claims")
    repository.put({**files, ".fnsyncignore": "a/\n"}, "ignoring")
    assert said(ask(admin, "twice@claims")) == "a"
    assert said(ask(admin, "twice@ignoring")) == "b"


def test_functions_of_a_source_are_read_out_of_its_mirror(tmp_path: Path) -> None:
    there = Repository(tmp_path / "there")
    there.write("echo.py", WORDED)
    there.write("_words.py", "WORD = 'x'\n")
    for n in range(20):
        there.write(f"other{n}.py", PIPE.format(n))
    commit = CommitId(there.commit())
    there.push(commit, "refs/heads/main")
    where = Where(there.remote, commit, Selection("functions", ignore=("other1.py",)), source="acme", prefix="acme_")
    scratch, snapshots = Scratch(tmp_path / "reading"), Snapshots(tmp_path / "data")

    unit = read(where, FunctionId("acme_echo"), "main", scratch, snapshots).unit
    assert (unit.id, unit.path, unit.source) == ("acme_echo", "acme:echo.py", "acme")
    assert unit.revision is not None and snapshots.has(unit.revision)
    assert [part.path for part in unit.parts] == ["acme:echo.py", "acme:_words.py"]
    for id in ("echo", "acme_other1", "acme_none"):
        with pytest.raises(UnknownFunction, match=f"{id}' at 'main'"):
            read(where, FunctionId(id), "main", scratch, snapshots)
    assert len(read_all(where, scratch).units) == 20

    paths = [path.relative_to(there.functions).as_posix() for path in there.functions.iterdir()]
    assert sorted(around("echo.py", paths)) == ["_words.py", "echo.py"], "nothing else is written for it"


# ---- who may ------------------------------------------------------------------------------------------------


def test_others_learn_nothing(server: Server, client: httpx.Client, user_client: httpx.Client, fn: str) -> None:
    server.add(fn, PIPE.format("live"))
    server.add(f"{fn}_act", "class Action:\n    def action(self, body):\n        return 'live'\n", f"models: [{fn}]\n")
    commit = server.project.commit()
    assert said(ask(client, f"{fn}@{commit}")) == "live"

    def answers(id: str, ref: str) -> list[Any]:
        chat = {"model": fn, "messages": [], "chat_id": "", "session_id": None, "id": "m"}
        found = [
            ask(user_client, f"{id}@{ref}"),
            user_client.get(f"/v1/models/{id}@{ref}"),
            user_client.get("/v1/models", params={"ref": ref}),
            user_client.get("/api/models", params={"ref": ref}),
            user_client.post(f"/api/chat/actions/{id}_act@{ref}", json=chat),
        ]
        return [(one.status_code, one.text.replace(id, "ID").replace(ref, "REF")) for one in found]

    known = answers(fn, commit)
    assert known == answers(fn, "0" * 40) == answers("nobodys", "unheard-of")
    assert [status for status, _ in known] == [404] * 5
    assert user_client.post(f"/api/functions/id/{fn}@{commit}/invoke", json={}).status_code == 401


def test_roles_of_the_configuration_may(repository: Repository, user: httpx.Client) -> None:
    repository.put({"echo.py": PIPE.format("for users")}, "users")
    assert said(ask(user, "echo@users")) == "for users"


def test_a_ref_opens_a_function_to_nobody(repository: Repository, user: httpx.Client, admin: httpx.Client) -> None:
    repository.put({"closed.yaml": "access: {roles: [user]}\n"}, "opened")
    repository.put({"echo.yaml": "access: {users: [grace@example.org]}\n"}, "shut")
    assert said(ask(admin, "closed@opened")) == "closed"
    status, _, message = error(ask(user, "closed@opened"))
    assert (status, message) == (404, "there is no function 'closed' at 'opened'")
    assert said(ask(admin, "echo@shut")) == "live"
    assert error(ask(user, "echo@shut"))[0] == 404
    ids = {entry["id"] for entry in user.get("/v1/models", params={"ref": "opened"}).json()["data"]}
    assert "closed@opened" not in ids and "echo@opened" in ids


# ---- what is not there --------------------------------------------------------------------------------------


def test_what_is_missing_is_named(repository: Repository, admin: httpx.Client) -> None:
    repository.put({"echo.py": None}, "without")
    status, code, message = error(ask(admin, "echo@no-such-branch"))
    assert (status, code) == (404, "ref_not_found") and "no-such-branch" in message
    status, code, message = error(ask(admin, "echo@without"))
    assert (status, code, message) == (404, "function_not_found", "there is no function 'echo' at 'without'")
    status, code, message = error(ask(admin, "press@main"))
    assert (status, code) == (404, "model_not_found") and "press at 'main' is no model" in message
    status, _, message = error(ask(admin, "many.none@main"))
    assert status == 404 and "many.none" in message and "main" in message


@pytest.mark.parametrize(
    "ref",
    ["--upload-pack=touch x", "HEAD~1", "main^{tree}", "a..b", "main@{0}", "../../config", "x" * 300, "\n", "é\0", " "],
)
def test_a_ref_is_no_expression_of_git(admin: httpx.Client, ref: str) -> None:
    assert error(ask(admin, f"echo@{ref}"))[0] == 404
    assert admin.get("/v1/models", params={"ref": ref}).status_code == 404


def test_what_does_not_load_there_says_where(repository: Repository, admin: httpx.Client) -> None:
    repository.put({"echo.py": "class Pipe:\n    def pipe(self, body)\n"}, "syntax")
    repository.put({"echo.py": "class Pipe:\n    pass\nraise ValueError('at import')\n"}, "raises")
    repository.put({"echo.yaml": "valvs: {}\n"}, "settings")
    repository.put({"echo.py": "import ctypes\n" + PIPE.format("x")}, "denied")
    for ref, place in {
        "denied": "policy.imports.deny",
        "syntax": "echo.py:2",
        "raises": "echo.py:3",
        "settings": "echo.yaml:1",
    }.items():
        for _ in range(2):
            status, code, message = error(ask(admin, f"echo@{ref}"))
            assert (status, code) == (500, "load_failed") and place in message
    assert said(ask(admin, "echo")) == "live"
    answer = admin.post("/api/functions/id/echo@syntax/invoke", json={})
    assert answer.status_code == 500 and "echo.py:2" in answer.json()["detail"]


def test_a_link_out_of_the_repository_is_not_followed(repository: Repository, admin: httpx.Client) -> None:
    repository.put({"echo.py": "-> /etc/hostname"}, "absolute")
    repository.put({"echo.py": "-> ../../../secret.py"}, "above")
    repository.root.parent.joinpath("secret.py").write_text(PIPE.format("outside"))
    for ref in ("absolute", "above"):
        status, _, message = error(ask(admin, f"echo@{ref}"))
        assert status == 500 and "leads out of" in message


# ---- settings, and what they are given ----------------------------------------------------------------------

GIVEN = """
import os
from pydantic import BaseModel
class Pipe:
    class Valves(BaseModel):
        key: str = "default"
        other: str = "default"
    def __init__(self):
        self.valves = self.Valves()
    def pipe(self, body):
        seen = [os.environ.get(name) for name in ("GIVEN_SEEN", "OTHER_KEY")]
        return f"{self.valves.key} {self.valves.other} {seen}"
"""


def test_settings_are_those_of_the_ref(repository: Repository, admin: httpx.Client) -> None:
    repository.put({"given.yaml": "active: false\nvalves: {other: of the ref}\nlimits: {timeout: 7s}\n"}, "settings-x")
    assert said(ask(admin, "given@settings-x")) == "default of the ref [None, None]"
    assert said(ask(admin, "given")) == "k-1 default ['s-1', None]"
    repository.put({"echo.py": "import time\n" + SLOW, "echo.yaml": "limits: {timeout: 100ms}\n"}, "slow")
    assert error(ask(admin, "echo@slow"))[:2] == (408, "time_limit")


SLOW = "class Pipe:\n    async def pipe(self, body):\n        import asyncio\n        await asyncio.sleep(60)\n"


def test_a_ref_is_given_only_what_the_live_settings_name(
    tried: Server, repository: Repository, admin: httpx.Client
) -> None:
    repository.put({"given.yaml": "valves: {other: {env: GIVEN_KEY}, key: {env: GIVEN_SEEN}}\n"}, "same")
    repository.put({"given.yaml": "permissions: {env: [GIVEN_SEEN, OTHER_KEY]}\n"}, "seen")
    repository.put({"given.yaml": "valves: {key: {env: OTHER_KEY}}\n"}, "stolen")
    repository.put({"echo.py": GIVEN, "echo.yaml": "valves: {key: {env: GIVEN_KEY}}\n"}, "elsewhere")
    assert said(ask(admin, "given@same")) == "s-1 k-1 [None, None]"
    assert said(ask(admin, "given@seen")) == "default default ['s-1', None]"
    for model in ("given@stolen", "echo@elsewhere"):
        status, code, message = error(ask(admin, model))
        assert (status, code) == (500, "load_failed")
        assert "is not given to a preview" in message and "k-1" not in message and "k-2" not in message

    # What the live settings no longer name is taken away from what was loaded before.
    before = repository.functions.joinpath("given.yaml").read_text()
    try:
        tried.project.write("given.yaml", "valves: {key: {env: OTHER_KEY}}\n")
        wait_for("the live settings", lambda: said(ask(admin, "given")).startswith("k-2"))
        assert error(ask(admin, "given@same"))[0] == 500
        assert said(ask(admin, "given@stolen")) == "k-2 default [None, None]"
    finally:
        tried.project.write("given.yaml", before)
        wait_for("the settings from before", lambda: said(ask(admin, "given")).startswith("k-1"))
    assert said(ask(admin, "given@same")) == "s-1 k-1 [None, None]"


MINE = """
from pydantic import BaseModel
class Pipe:
    class UserValves(BaseModel):
        word: {}
    def pipe(self, body, __user__):
        return str(__user__["valves"].word)
"""


def test_users_have_their_own_valves_where_they_fit(repository: Repository, user: httpx.Client) -> None:
    assert user.post("/api/functions/id/mine/valves/user/update", json={"word": "mine"}).status_code == 200
    repository.put({"mine.py": MINE.format("str = 'other'")}, "fitting")
    repository.put({"mine.py": MINE.format("int = 7")}, "unfitting")
    assert said(ask(user, "mine")) == said(ask(user, "mine@fitting")) == "mine"
    assert said(ask(user, "mine@unfitting")) == "7"


def test_limits_on_calls_hold_for_whatever_answers(repository: Repository, admin: httpx.Client) -> None:
    repository.put({"limited.yaml": "active: true\n"}, "unlimited")
    assert [ask(admin, "limited@unlimited").status_code for _ in range(3)] == [200, 200, 429]
    assert ask(admin, "limited").status_code == 429
    repository.put({"echo.yaml": "limits: {rate: 1/minute}\n"}, "limiting")
    assert [ask(admin, "echo@limiting").status_code for _ in range(2)] == [200, 429]
    assert said(ask(admin, "echo")) == "live"


def test_encrypted_values_are_given_only_where_the_live_settings_have_the_same(
    repository: Repository, admin: httpx.Client
) -> None:
    source = GIVEN.replace("key: str", "key_secret: str").replace("valves.key}", "valves.key_secret}")
    created = {"id": "sealed", "name": "sealed", "content": source, "meta": {"description": ""}}
    assert admin.post("/api/functions/create", json=created).status_code == 200
    assert admin.post("/api/functions/id/sealed/valves/update", json={"key_secret": "hush"}).status_code == 200
    text = repository.functions.joinpath("sealed.yaml").read_text()
    assert "secret:" in text and "hush" not in text
    files = {"sealed.py": source, "sealed.yaml": text + "limits: {timeout: 5s}\n"}
    repository.put(files, "sealed", repository.git("rev-parse", "HEAD"))
    repository.put({"echo.py": source, "echo.yaml": text}, "opened-seal", repository.git("rev-parse", "HEAD"))
    assert said(ask(admin, "sealed@sealed")).startswith("hush ")
    status, _, message = error(ask(admin, "echo@opened-seal"))
    assert status == 500 and "valves.key_secret: this encrypted value is not given to a preview" in message


# ---- processes ----------------------------------------------------------------------------------------------


def test_many_first_calls_load_once(tried: Server, repository: Repository, admin: httpx.Client) -> None:
    commit = repository.put({"echo.py": "print('loading')\n" + PIPE.format("once")}, "once")
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: ask(admin, "echo@once"), range(50)))
    assert {said(answer) for answer in answers} == {"once"}
    assert tried.log().count(f'"commit": "{commit[:12]}"') == 1
    lines = admin.get(f"/api/functions/id/echo@{commit}/logs").json()["lines"]
    assert [line["text"] for line in lines] == ["loading"]
    assert lines[0]["function"] == f"echo@{commit[:12]}"
    found = next(one for one in admin.get("/api/status").json()["previews"] if one["commit"] == commit)
    assert (found["id"], found["ref"], found["status"], found["workers"]) == ("echo", "once", "ready", 1)


def test_a_preview_of_the_live_revision_shares_no_worker_with_it(repository: Repository, admin: httpx.Client) -> None:
    repository.put({"given.yaml": "valves: {other: tried}\n"}, "other-valves")
    for _ in range(2):
        assert said(ask(admin, "given@other-valves")) == "default tried [None, None]"
        assert said(ask(admin, "given")) == "k-1 default ['s-1', None]"


def test_a_preview_that_crashes_is_alone(repository: Repository, admin: httpx.Client) -> None:
    repository.put({"echo.py": "import os\nclass Pipe:\n    def pipe(self, body):\n        os._exit(3)\n"}, "crash")
    codes = [error(ask(admin, "echo@crash"))[1] for _ in range(4)]
    assert codes == ["worker_died"] * 3 + ["crash_loop"]
    assert said(ask(admin, "echo")) == "live"
    status = admin.get("/api/status").json()
    assert next(one for one in status["functions"] if one["id"] == "echo")["crashes"] == 0
    assert "echo@" not in admin.get("/metrics").text


def test_only_so_many_are_kept(repository: Repository, admin: httpx.Client) -> None:
    commits = [repository.put({"echo.py": PIPE.format(f"number {n}")}) for n in range(18)]
    for n, commit in enumerate(commits):
        assert said(ask(admin, f"echo@{commit}")) == f"number {n}"
    kept = [one["commit"] for one in admin.get("/api/status").json()["previews"]]
    assert kept[:3] == commits[:-4:-1] and len(kept) == 16
    assert said(ask(admin, f"echo@{commits[0]}")) == "number 0"
    assert not list((repository.root / ".fnsync" / "previews" / "reading").iterdir())


@pytest.mark.anyio
async def test_workers_of_previews_are_the_first_to_go(tmp_path: Path) -> None:
    async with Bench(tmp_path, idle_workers=2) as bench:
        lives = [bench.function(PIPE.format(f"live {n}"), id=f"live{n}") for n in range(2)]
        tried = replace(bench.function(PIPE.format("tried"), id="live0"), preview=Preview(CommitId("c" * 40)))
        for function in (*lives, tried):
            assert await bench.call(function) in ("live 0", "live 1", "tried")
        await until("the end of one worker", lambda: bench.executor.worker_count == 2)
        assert [len(bench.pids(function)) for function in lives] == [1, 1]


@pytest.mark.anyio
async def test_a_preview_that_is_dropped_leaves_nothing(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        gate = tmp_path / "gate"
        waiting = f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\nprint('loaded')\n"
        live = bench.function(PIPE.format("live"))
        tried = replace(bench.function(waiting + PIPE.format("tried")), preview=Preview(CommitId("c" * 40)))
        loading = asyncio.create_task(bench.executor.load(tried))
        await until("the beginning", lambda: tried.revision in bench.executor.in_use())
        gate.touch()
        await loading
        assert (await bench.call(tried), await bench.call(live)) == ("tried", "live")
        assert bench.log(tried.runs_as)[:1] == ["loaded"] and bench.log("probe") == []
        assert set(bench.executor.healths()) == {"probe"}

        pools = bench.executor.pool(live), bench.executor.pool(tried)
        for pool in pools:
            pool.reap(time.monotonic() + PREVIEW_IDLE_S + 1)
        await until("the end of its idle worker", lambda: not pools[1].workers)
        assert len(pools[0].workers) == 1
        assert await bench.call(tried) == "tried"
        bench.executor.drop(tried)
        await until("the end of its pool", lambda: tried.revision not in bench.executor.in_use())
        assert bench.log(tried.runs_as) == [] and await bench.call(live) == "live"


def test_trees_of_plans_go_when_they_are_old_or_too_many(tmp_path: Path) -> None:
    def tree(name: str, age_s: float) -> str:
        path = tmp_path / name
        path.mkdir()
        path.joinpath("echo.py").write_text("x")
        os.utime(path, (time.time() - age_s,) * 2)
        return name

    used = {tree(f"{n:040x}", 60) for n in range(trees.MOST + 2)}
    tree("a" * 40, trees.GRACE_S + 60)
    tree(".tmp-1", trees.GRACE_S + 60)
    kept = used | {tree("reading", 10 * trees.LONGEST_S)}
    trees.collect(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept

    for name in used:
        os.utime(tmp_path / name, (time.time() - trees.LONGEST_S - 60,) * 2)
    tree("b" * 40, trees.GRACE_S + 60)
    trees.collect(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"reading", "b" * 40}
    trees.collect(tmp_path / "none")


# ---- the rest of the surface --------------------------------------------------------------------------------

MANIFOLD = """
class Pipe:
    def __init__(self):
        self.name = "Many: "
    def pipes(self):
        return [{{"id": "one", "name": "One {0}"}}, {{"id": "two", "name": "Two"}}]
    def pipe(self, body):
        return "{0} " + body["model"]
"""
FILTER = """
class Filter:
    def inlet(self, body):
        body["messages"][-1]["content"] = "filtered for " + body["model"]
        return body
"""


def test_lists_what_a_ref_offers(repository: Repository, admin: httpx.Client) -> None:
    repository.put(
        {
            "many.py": MANIFOLD.format("tried"),
            "fresh.py": '"""\ntitle: Fresh\n"""\n' + PIPE.format("fresh"),
            "fresh.yaml": "active: false\n",
            "echo.py": None,
            "broken.py": "class Pipe:\n  def\n",
            "worded.py": "class Pipe:\n    class UserValves:\n        pass\n    def pipe(self, body):\n        pass\n",
        },
        "offer/1",
    )
    listed = admin.get("/v1/models", params={"ref": "offer/1"})
    assert listed.status_code == 200, listed.text
    names = {entry["id"]: entry["name"] for entry in listed.json()["data"]}
    assert names["fresh@offer/1"] == "Fresh"
    assert names["many.one@offer/1"] == "Many: One tried"
    assert not {"echo@offer/1", "broken@offer/1", "press@offer/1", "many@offer/1"} & names.keys()
    assert {"fresh", "fresh@offer/1"} & {entry["id"] for entry in admin.get("/v1/models").json()["data"]} == set()
    for id in names.keys() & {"fresh@offer/1", "many.one@offer/1"}:
        assert ask(admin, id).status_code == 200
    rich = {entry["id"]: entry for entry in admin.get("/api/models", params={"ref": "offer/1"}).json()["data"]}
    assert rich["worded@offer/1"]["has_user_valves"] and not rich["fresh@offer/1"]["has_user_valves"]
    assert [action["id"] for action in rich["fresh@offer/1"]["actions"]] == ["press"]
    one = admin.get("/v1/models/many.one@offer/1").json()
    assert (one["id"], one["name"]) == ("many.one@offer/1", "Many: One tried")
    assert admin.get("/v1/models", params={"ref": "no-such"}).status_code == 404


def test_a_manifold_is_asked_for_by_its_own_names(repository: Repository, admin: httpx.Client) -> None:
    repository.put({"many.py": MANIFOLD.format("tried")}, "manifold")
    assert said(ask(admin, "many.two@manifold")) == "tried many.two"
    assert said(ask(admin, "many.two")) == "live many.two"


def test_filters_that_are_live_surround_a_preview(repository: Repository, admin: httpx.Client) -> None:
    code = "class Pipe:\n    def pipe(self, body):\n        return body['messages'][-1]['content']\n"
    repository.put({"wrapped.py": code}, "wrapping")
    assert said(ask(admin, "wrapped@wrapping")) == "filtered for wrapped"
    chat = {"messages": [{"role": "assistant", "content": "x"}], "chat_id": "", "session_id": None, "id": "m"}
    assert admin.post("/api/chat/completed", json={"model": "wrapped@wrapping", **chat}).status_code == 200


NESTED = """
from open_webui.utils.chat import generate_chat_completion
class Pipe:
    def pipes(self):
        return [{"id": "outer", "name": "outer"}, {"id": "inner", "name": "inner"}]
    async def pipe(self, body, __request__, __user__):
        asked = body["messages"][-1]["content"]
        if body["model"].endswith("inner"):
            return "inner of the ref"
        try:
            form = {"model": asked, "messages": [{"role": "user", "content": "x"}]}
            answer = await generate_chat_completion(__request__, form, __user__)
            return answer["choices"][0]["message"]["content"]
        except Exception as exc:
            return "failed: " + str(exc)
"""


def test_a_preview_asks_for_itself_and_for_no_other_ref(repository: Repository, admin: httpx.Client) -> None:
    repository.put({"many.py": NESTED}, "nested")

    def through(model: str) -> str:
        return said(ask(admin, "many.outer@nested", messages=[{"role": "user", "content": model}]))

    assert through("many.inner") == "inner of the ref"
    assert through("echo") == "live"
    assert through("echo@nested").startswith("failed")


def test_actions_and_calls_by_name(repository: Repository, admin: httpx.Client, user: httpx.Client) -> None:
    code = "class Action:\n    def action(self, body, __id__):\n        return ['tried', body['model'], __id__]\n"
    repository.put({"press.py": code, "press.yaml": "active: false\nglobal: true\n"}, "team/press")
    chat = {"model": "echo", "messages": [], "chat_id": "c", "session_id": None, "id": "m"}
    for client in (admin, user):
        answer = client.post("/api/chat/actions/press@team/press", json=chat)
        assert answer.json() == ["tried", "echo", "press"], answer.text
    assert answer.headers["x-fnsync-commit"] == repository.git("rev-parse", "team/press")
    pressed = admin.post("/api/chat/actions/press.sub@team/press", json={**chat, "model": "echo@team/press"})
    assert pressed.json() == ["tried", "echo", "sub"], pressed.text
    assert admin.post("/api/chat/actions/press", json=chat).json() == "live action"
    assert admin.post("/api/chat/actions/press@none", json=chat).status_code == 404

    invoked = admin.post("/api/functions/id/press@team%2Fpress/invoke", json={"body": {"model": "m"}})
    assert invoked.json() == ["tried", "m", "press"]
    assert user.post("/api/functions/id/press@team%2Fpress/invoke", json={}).status_code == 401


def test_from_the_command_line(tried: Server, repository: Repository) -> None:
    repository.put({"echo.py": PIPE.format("typed")}, "team/typed")
    options = ("--url", tried.url, "--token", tried.token)
    assert run(repository.root, "invoke", "echo@team/typed", "-m", "hi", *options).stdout == "typed\n"
    failed = run(repository.root, "invoke", "echo@nowhere", "-m", "hi", *options)
    assert failed.returncode and "nowhere" in failed.stderr


def test_a_restart_keeps_nothing_that_is_needed(repository: Repository, module_server: Server) -> None:
    """The last one: it stops the server."""
    commit = repository.put({"echo.py": PIPE.format("after")}, "restart")
    with module_server.client() as client:
        assert said(ask(client, "echo@restart")) == "after"
    module_server.stop()
    again = Server(repository, environ=ENVIRON)
    try:
        again.wait_ready()
        with again.client() as client:
            assert said(ask(client, f"echo@{commit}")) == "after"
            assert said(ask(client, "echo")) == "live"
            git, away = repository.root / ".git", repository.root.with_name("away.git")
            git.rename(away)
            try:
                assert said(ask(client, f"echo@{commit}")) == "after", "by a whole hash, git is not asked again"
            finally:
                away.rename(git)
    finally:
        again.stop()
