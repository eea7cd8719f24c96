"""Keys that are replaced: all is under the new one, nothing is lost on the way, and the old one is dropped last."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from fnsync import offline
from fnsync.cli import exits
from fnsync.config import load
from fnsync.edits.manager import Terms
from fnsync.model import FunctionId, User
from fnsync.service import Service
from fnsync.vault import FILE, VARIABLE, Vault, new_key
from tests.commands import environ, run
from tests.conftest import ADMIN_TOKEN, Project, Server
from tests.test_importing import BROKEN, PIPE, TUNED, say

API = "/api/functions"
SECRETS = {"api_key": "s3cret-1", "inner": {"password": "s3cret-2"}}
OWN = {"tone": "s3cret-3"}
OWN_VALVES = """    class UserValves(BaseModel):
        tone: str = ""
"""
HAND_MADE = """# by hand
limits: {{timeout: 7s}}   # enough
valves:
  # what it costs
  api_key: {{secret: {0}}}   # from the vault
  retries: 3
  inner:
    secret: "{1}"
# the last one: {{secret: {2}}}
"""


def keys(data: Path) -> list[str]:
    return (data / FILE).read_text().split()


def prepare(root: Path, variables: Mapping[str, str] | None = None) -> None:
    """A project without a server: a function with secrets in a file made by hand, and a user's values."""
    vault = Vault(root / ".fnsync", variables or {})
    texts = [vault.encrypt(value) for value in (*SECRETS.values(), "old one")]
    (root / "functions").mkdir(parents=True, exist_ok=True)
    (root / "functions/a.py").write_text(TUNED)
    (root / "functions/a.yaml").write_text(HAND_MADE.format(*texts))
    for command in ("init --quiet", "add functions", "commit --quiet -m first"):
        subprocess.run(["git", "-c", "user.name=Ada", "-c", "user.email=a@x", *command.split()], cwd=root, check=True)

    async def work(service: Service, admin: User) -> None:
        await service.reconciler.settled()
        await service.user_valves.set(FunctionId("a"), None, admin, OWN)

    offline.run(load(root / "fnsync.yaml", {}), dict(variables or {}), work)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared") / "project"
    root.mkdir()
    (root / "fnsync.yaml").write_text("server: {port: 0}\n")
    prepare(root)
    return root


@pytest.fixture
def root(prepared: Path, tmp_path: Path) -> Path:
    """A copy of it of the test's own."""
    shutil.copytree(prepared, tmp_path / "project", symlinks=True)
    return tmp_path / "project"


def readable(root: Path, variables: Mapping[str, str] | None = None) -> tuple[Any, Any, str]:
    """The function's values, the user's own, and whether the function serves, as a fresh start finds them."""

    async def work(service: Service, admin: User) -> tuple[Any, Any, str]:
        await service.reconciler.settled()
        own = await service.user_valves.get(FunctionId("a"), None, admin)
        standing = service.manager.standing(FunctionId("a"))
        return service.manager.valves(FunctionId("a")), dict(own), str(standing.status)

    return offline.run(load(root / "fnsync.yaml", {}), dict(variables or {}), work)


WHOLE = ({**SECRETS, "retries": 3}, OWN, "ready")


def test_without_a_server_what_workers_are_forked_from_starts_with_the_first_need(root: Path) -> None:
    async def work(service: Service, admin: User) -> list[bool]:
        processes = service.executor.processes
        await service.reconciler.settled()
        before = bool(processes.zygotes)
        await service.manager.set_valves(FunctionId("a"), {"retries": 4}, Terms(admin))
        return [before, bool(processes.zygotes)]

    assert offline.run(load(root / "fnsync.yaml", {}), {}, work) == [False, True]


def rotate(root: Path, **variables: str) -> dict[str, Any]:
    told = run(root, "secrets", "rotate", "--json", **variables)
    assert told.returncode in (exits.OK, exits.FAILED) and told.stdout, told
    return {**json.loads(told.stdout), "code": told.returncode}


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


# ---- a key of the data folder ----------------------------------------------------------------------------


def test_everything_is_under_a_new_key_and_the_old_one_is_gone(root: Path) -> None:
    old, before = keys(root / ".fnsync"), (root / "functions/a.yaml").read_text()

    told = run(root, "secrets", "rotate")

    assert told.returncode == exits.OK
    commit = git(root, "rev-parse", "HEAD")
    assert told.stdout == f"3 values in settings files, commit {commit[:8]}, 1 of users\n"
    assert told.stderr == "the old key is dropped\n"
    [new] = keys(root / ".fnsync")
    assert new not in old and (root / ".fnsync" / FILE).stat().st_mode & 0o777 == 0o600
    assert readable(root) == WHOLE
    assert git(root, "log", "--format=%an|%s") == "Admin|Encrypt secrets with a new key\nAda|first"
    after = (root / "functions/a.yaml").read_text()
    vault = Vault(root / ".fnsync", {})
    texts = [word.strip('"{}') for word in after.split() if word.strip('"{}').startswith("gAAAA")]
    assert [vault.decrypt(text) for text in texts] == [*SECRETS.values(), "old one"]
    assert after == HAND_MADE.format(*texts), "comments, quotes and order stay"
    assert not any(text in before for text in texts)
    assert "s3cret" not in git(root, "show", "HEAD")


def test_secrets_inside_values_are_under_the_new_key_too(project: Project, start_server: Callable[..., Server]) -> None:
    values = {"headers": {"accept": "*/*", "deep": [{"Authorization": "s3cret-1", "a": {"secret": "s3cret-2"}}]}}
    project.write("a.py", TUNED.replace("retries: int", "headers: dict = {}\n        retries: int"))
    project.commit("first")
    server = start_server(project)
    with server.client() as client:
        client.post(f"{API}/id/a/valves/update", json=values)
        [old] = keys(server.data)

        told = rotate(project.root, FNSYNC_ADMIN_TOKEN=ADMIN_TOKEN)

        assert (told["code"], told["settings"], told["dropped_keys"]) == (exits.OK, 1, 1)
        assert old not in keys(server.data)
        assert client.get(f"{API}/id/a/valves").json() == values
    assert "s3cret" not in project.git("log", "--patch")


def test_a_server_that_runs_uses_the_new_key_from_then_on(
    project: Project, start_server: Callable[..., Server]
) -> None:
    project.write(
        "a.py",
        TUNED.replace("    def pipe", "    class UserValves(BaseModel):\n        tone: str = ''\n\n    def pipe"),
    )
    project.commit("first")
    server = start_server(project)
    with server.client() as client:
        client.post(f"{API}/id/a/valves/update", json=SECRETS)
        client.post(f"{API}/id/a/valves/user/update", json=OWN)
        [old] = keys(server.data)

        told = rotate(project.root, FNSYNC_ADMIN_TOKEN=ADMIN_TOKEN)

        assert (told["code"], told["settings"], told["user_valves"], told["dropped_keys"]) == (exits.OK, 2, 1, 1)
        assert told["commit"] == project.git("rev-parse", "HEAD")
        [new] = keys(server.data)
        assert new != old
        assert say(client, "a") == "2 s3cret-1 s3cret-2"
        assert (server.function("a") or {})["status"] == "ready"
        client.post(f"{API}/id/a/valves/update", json={**SECRETS, "hidden": "s3cret-4"})
        client.post(f"{API}/id/a/valves/user/update", json={"tone": "s3cret-5"})
    server.stop()

    with start_server(project).client() as again:
        assert again.get(f"{API}/id/a/valves").json() == {**SECRETS, "hidden": "s3cret-4"}
        assert again.get(f"{API}/id/a/valves/user").json() == {"tone": "s3cret-5"}
        assert say(again, "a") == "2 s3cret-1 s3cret-2"


STEPS = (
    *("key_added", "begun", "prepared", "written", "committed", "ended"),
    *("settings_renewed", "users_renewed", "serving_renewed", "keys_dropped"),
)


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_loses_nothing_and_rotating_once_more_completes_it(root: Path, step: str) -> None:
    old = keys(root / ".fnsync")
    program = [sys.executable, "-m", "tests.crashing", step, "rotate"]
    variables = environ(PYTHONPATH=str(Path(__file__).parents[1]))
    killed = subprocess.run(program, cwd=root, env=variables, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(keys(root / ".fnsync")) == (1 if step == "keys_dropped" else 2)

    assert readable(root) == WHOLE

    told = rotate(root)
    assert (told["code"], told["kept"]) == (exits.OK, [])
    [new] = keys(root / ".fnsync")
    assert new not in old
    assert readable(root) == WHOLE
    assert git(root, "status", "--porcelain", "functions") == ""


# ---- keys of the variable --------------------------------------------------------------------------------


def test_with_two_keys_given_the_first_is_used_and_the_other_may_go(tmp_path: Path) -> None:
    old, new = new_key(), new_key()
    (tmp_path / "fnsync.yaml").write_text("server: {port: 0}\n")
    prepare(tmp_path, {VARIABLE: old})

    told = run(tmp_path, "secrets", "rotate", **{VARIABLE: f"{new},{old}"})
    again = rotate(tmp_path, **{VARIABLE: f"{new},{old}"})

    assert told.returncode == exits.OK and told.stdout.startswith("3 values in settings files, commit ")
    assert told.stderr == f"all but the first key may be taken out of {VARIABLE}\n"
    assert (again["commit"], again["settings"], again["user_valves"]) == (None, 0, 0)
    assert readable(tmp_path, {VARIABLE: new}) == WHOLE
    assert not (tmp_path / ".fnsync" / FILE).exists()


def test_a_key_that_is_given_takes_over_from_that_of_the_data_folder(root: Path) -> None:
    variables = {VARIABLE: new_key()}
    assert readable(root, variables) == WHOLE

    told = rotate(root, **variables)

    assert (told["code"], told["given"], told["dropped_keys"]) == (exits.OK, True, 1)
    assert keys(root / ".fnsync") == []
    assert readable(root, variables) == WHOLE


def test_a_new_key_is_printed_and_kept_nowhere(tmp_path: Path) -> None:
    told = run(tmp_path, "secrets", "new-key")

    assert Vault(tmp_path, {VARIABLE: told.stdout.strip()}).encrypt("x")
    assert list(tmp_path.iterdir()) == []


# ---- what is in the way ----------------------------------------------------------------------------------


def test_what_no_key_decrypts_is_told_by_function_and_field_and_keeps_the_old_keys(root: Path) -> None:
    lost = Vault(root / "elsewhere", {}).encrypt("s3cret-lost")
    (root / "functions/b.py").write_text(TUNED)
    (root / "functions/b.yaml").write_text(f"valves:\n  api_key: {{secret: {lost}}}\n  retries: 1\n")
    [old] = keys(root / ".fnsync")

    async def work(service: Service, admin: User) -> None:
        service.state.set_user_valves(admin.id, "b", lost)

    offline.run(load(root / "fnsync.yaml", {}), {}, work)
    told = run(root, "secrets", "rotate")

    assert told.returncode == exits.FAILED
    assert told.stdout.splitlines()[1:] == [
        "b valves.api_key: none of the keys decrypts it",
        "b of user admin: none of the keys decrypts it",
    ]
    assert told.stderr == "the old keys are kept, since these may still need them\n"
    new, kept = keys(root / ".fnsync")
    assert kept == old != new
    assert readable(root) == WHOLE, "all else is renewed"
    assert lost in (root / "functions/b.yaml").read_text()
    vault = Vault(root / "other", {VARIABLE: new})
    assert vault.decrypt(yaml.safe_load((root / "functions/a.yaml").read_text())["valves"]["api_key"]["secret"])

    (root / "functions/b.yaml").unlink()
    told = rotate(root)
    assert [(one["function"], one["field"], one["user"]) for one in told["kept"]] == [("b", None, "admin")]


def test_files_that_serve_nothing_now_are_renewed_too(root: Path) -> None:
    vault = Vault(root / ".fnsync", {})
    settings = f"valves: {{api_key: {{secret: {vault.encrypt('s3cret')}}}}}\n"
    (root / "functions/team").mkdir()
    (root / "functions/team/a.py").write_text(PIPE.format("claims the same id"))
    (root / "functions/team/a.yaml").write_text(settings)
    (root / "functions/away.yaml").write_text(settings)
    (root / "functions/no-id.py").write_text(PIPE.format("x"))
    (root / "functions/no-id.yaml").write_text(settings)
    (root / "functions/data.yaml").write_text(f"text: {'gAAAAA' + 'x' * 60}\n")

    told = rotate(root)

    assert (told["code"], told["settings"]) == (exits.OK, 6)
    vault = Vault(root / ".fnsync", {})
    for name in ("team/a", "away", "no-id"):
        stored = yaml.safe_load((root / f"functions/{name}.yaml").read_text())
        assert vault.decrypt(stored["valves"]["api_key"]["secret"]) == "s3cret"


def test_a_settings_file_that_cannot_be_read_keeps_the_old_keys(root: Path) -> None:
    text = (root / "functions/a.yaml").read_text()
    (root / "functions/a.yaml").write_text(text.replace("limits", "limts"))

    told = rotate(root)

    assert told["code"] == exits.FAILED and len(keys(root / ".fnsync")) == 2
    [kept] = told["kept"]
    assert (kept["function"], kept["field"]) == ("a", None) and "limts: unknown key" in kept["reason"]

    (root / "functions/a.yaml").write_text((root / "functions/a.yaml").read_text().replace("limts", "limits"))
    assert rotate(root)["code"] == exits.OK and readable(root) == WHOLE


def test_a_revision_that_serves_while_its_files_are_broken_goes_on_after_the_next_start(root: Path) -> None:
    (root / "functions/a.py").write_text(BROKEN)
    (root / "functions/a.yaml").write_text("valves: {retries: 1}\n")
    assert readable(root)[2] == "stale"

    assert rotate(root)["code"] == exits.OK and len(keys(root / ".fnsync")) == 1

    async def work(service: Service, admin: User) -> dict[str, Any]:
        live = service.manager.standing(FunctionId("a")).live
        assert live is not None
        return service.executor.resolved_valves(live)

    assert offline.run(load(root / "fnsync.yaml", {}), {}, work) == {**SECRETS, "retries": 3}


def test_where_nothing_is_written_it_says_so_before_a_key_is_made(root: Path) -> None:
    (root / "fnsync.yaml").write_text("repository: {write: deny}\n")
    before = keys(root / ".fnsync")

    told = run(root, "secrets", "rotate")

    assert told.returncode == exits.FAILED and told.stderr.startswith("functions are changed through git here")
    assert keys(root / ".fnsync") == before

    (root / "functions/a.yaml").unlink()
    assert rotate(root)["code"] == exits.OK, "only users' values are left"
    assert keys(root / ".fnsync") != before and readable(root)[1] == OWN


def test_with_branches_the_old_key_stays_until_the_edit_is_merged(root: Path, tmp_path: Path) -> None:
    (root / "fnsync.yaml").write_text("repository: {write: branch}\n")
    subprocess.run(["git", "init", "--quiet", "--bare", str(tmp_path / "bare.git")], check=True)
    git(root, "remote", "add", "origin", str(tmp_path / "bare.git"))

    told = run(root, "secrets", "rotate")

    assert told.returncode == exits.FAILED and "waits for review" in told.stderr
    assert len(keys(root / ".fnsync")) == 2 and readable(root) == WHOLE
    branch = told.stderr.split("branch ")[1].split(";")[0]
    git(root, "merge", "--quiet", branch)
    assert readable(root) == WHOLE


# ---- while others work -----------------------------------------------------------------------------------


def test_values_that_are_set_meanwhile_are_under_the_new_key_too(root: Path) -> None:
    async def work(service: Service, admin: User) -> None:
        async def set_all(round: int) -> None:
            users = [User(f"u{number}", "", "", "user") for number in range(20)]
            await asyncio.gather(
                *(service.user_valves.set(FunctionId("a"), None, user, {"round": round}) for user in users),
                service.manager.set_valves(FunctionId("a"), {**SECRETS, "hidden": f"s3cret {round}"}, Terms(admin)),
            )

        for round in range(3):
            _, rotated = await asyncio.gather(set_all(round), service.rotation.run(Terms(admin)))
            assert rotated.kept == () and len(keys(root / ".fnsync")) == 1
        vault = Vault(root / ".fnsync", {})
        for row in service.state.all_user_valves():
            assert vault.decrypt(row.text) in ({"round": 2}, OWN)
        assert service.manager.valves(FunctionId("a"))["hidden"] == "s3cret 2"

    offline.run(load(root / "fnsync.yaml", {}), {}, work)


def test_only_admins_rotate(user_client: httpx.Client) -> None:
    assert user_client.post("/api/secrets/rotate").status_code == 401
