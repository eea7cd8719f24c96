"""The commands, run as programs: what they print, where, and with which exit code."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from fnsync.cli import checks, exits, sourcechecks
from fnsync.cli.client import Address, error_message, find_server, find_token
from fnsync.cli.exits import NoServer
from fnsync.cli.invoke import frames
from fnsync.cli.logs import log_text
from fnsync.cli.output import printable
from fnsync.cli.reloads import problem_lines, report_lines
from fnsync.config import Config, load
from fnsync.errors import Unauthorized
from fnsync.model import Problem, User
from fnsync.reports import ReloadReport
from fnsync.store.state import State
from tests.commands import run, run_program


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a configuration and no functions."""
    (tmp_path / "functions").mkdir()
    (tmp_path / "fnsync.yaml").write_text("server: {port: 0}\n")
    return tmp_path


# ---- the frame -------------------------------------------------------------------------------------------


def test_help_names_every_command(tmp_path: Path) -> None:
    told = run_program(tmp_path, "--help")
    assert told.returncode == exits.OK
    for command in (
        *("init", "serve", "dev", "status", "invoke", "logs", "import", "export"),
        *("token", "user", "secrets", "doctor"),
    ):
        assert re.search(rf"^\W*{command}\s+[A-Z]", told.stdout, re.MULTILINE), told.stdout


def test_help_imports_nothing_that_takes_long(tmp_path: Path) -> None:
    code = (
        "import sys, fnsync.cli.main\n"
        "heavy = {'httpx', 'pydantic', 'yaml', 'git', 'sqlalchemy', 'alembic', 'starlette', 'uvicorn'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run(tmp_path, "--version").stdout)


def test_a_mistyped_command_is_a_usage_error(tmp_path: Path) -> None:
    told = run(tmp_path, "stats")
    assert told.returncode == exits.USAGE
    assert "status" in told.stderr


@pytest.mark.parametrize("arguments", [("-C", "gone.yaml", "status"), ("status", "--config", "gone.yaml")])
def test_the_configuration_file_can_be_named_before_and_after_the_command(project: Path, arguments: Any) -> None:
    told = run(project, *arguments)
    assert told.returncode == exits.USAGE
    assert told.stderr.splitlines()[0] == "gone.yaml: there is no such file"
    (project / "gone.yaml").write_text("data: elsewhere\n")
    assert "elsewhere" in run(project, *arguments).stderr


def test_a_bad_configuration_is_shown_with_line_and_key(project: Path) -> None:
    (project / "fnsync.yaml").write_text("server:\n  prot: 1\n")
    for command in (["status"], ["serve"], ["token", "list"]):
        told = run(project, *command)
        assert (told.returncode, told.stdout) == (exits.USAGE, "")
        assert told.stderr == "fnsync.yaml:2: server.prot: unknown key; did you mean port?\n"


# ---- init ------------------------------------------------------------------------------------------------


def test_init_makes_a_project_that_starts(tmp_path: Path) -> None:
    told = run(tmp_path, "init", "chat bots")
    assert told.returncode == exits.OK, told.stderr
    folder = tmp_path / "chat bots"
    assert (folder / ".git").is_dir()
    assert load(folder / "fnsync.yaml", {}).server.port == 8470
    assert "class Pipe" in (folder / "functions/hello.py").read_text()
    assert ".fnsync/" in (folder / ".gitignore").read_text().splitlines()
    assert "cd 'chat bots' && fnsync dev" in told.stdout
    compile((folder / "functions/hello.py").read_text(), "hello.py", "exec")


def test_init_changes_nothing_of_a_project_that_is_there(project: Path) -> None:
    (project / "functions/mine.py").write_text("# mine\n")
    before = {path: path.read_text() for path in project.rglob("*") if path.is_file()}
    told = run(project, "init", ".")
    assert told.returncode == exits.FAILED
    assert told.stderr.startswith(". has fnsync.yaml and functions already; nothing was changed\n")
    assert {path: path.read_text() for path in project.rglob("*") if path.is_file()} == before


def test_init_completes_the_gitignore_of_an_existing_repository(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("*.log")
    (tmp_path / "sub").mkdir()
    assert run(tmp_path, "init", ".").returncode == exits.OK
    assert (tmp_path / ".gitignore").read_text() == "*.log\n.fnsync/\n__pycache__/\n"
    assert run(tmp_path, "init", "sub").returncode == exits.OK
    assert not (tmp_path / "sub/.git").exists(), "a folder in a repository needs no repository of its own"


def test_init_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = run(tmp_path, "init", "file")
    assert (told.returncode, told.stderr) == (exits.FAILED, "file is a file\nname a folder\n")


# ---- without a server ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["invoke", "echo", "-m", "hi"], ["logs", "echo"], ["status"]])
def test_without_a_server_commands_say_how_to_start_one(project: Path, command: list[str]) -> None:
    told = run(project, *command)
    assert told.returncode == exits.NO_SERVER
    assert told.stderr == f"no server is running on {project / '.fnsync'}\nstart it with: fnsync serve\n"


def test_a_server_that_died_is_no_server(project: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    data = project / ".fnsync"
    data.mkdir()
    (data / "server.json").write_text(json.dumps({"pid": 4, "url": f"http://127.0.0.1:{port}"}))
    told = run(project, "invoke", "echo", "-m", "hi", "--token", "x")
    assert told.returncode == exits.NO_SERVER
    assert told.stderr.startswith(f"no server answers at http://127.0.0.1:{port} (pid 4, as server.json says)\n")


def test_a_call_needs_a_message_or_a_pipe(project: Path) -> None:
    told = run(project, "invoke", "echo", text="hello")
    assert told.returncode == exits.NO_SERVER  # it got as far as looking for the server


def test_status_json_without_a_server_is_json_all_the_same(project: Path) -> None:
    told = run(project, "status", "--json")
    assert told.returncode == exits.NO_SERVER
    assert json.loads(told.stdout) == {"running": False, "functions": []}


# ---- finding server and token ----------------------------------------------------------------------------


def test_the_address_is_the_one_given_else_that_of_server_json(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text('{"pid": 7, "url": "http://0.0.0.0:8470"}')
    assert find_server(tmp_path) == Address("http://127.0.0.1:8470", 7)
    assert find_server(tmp_path, "example.org:80/") == Address("http://example.org:80")
    (tmp_path / "server.json").write_text('{"pid": 7, "url": "http://[::]:1"}')
    assert find_server(tmp_path).url == "http://[::1]:1"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pid": "x", "url": "http://h"}'])
def test_a_damaged_server_json_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "server.json").write_text(text)
    with pytest.raises(NoServer, match=r"server\.json cannot be read"):
        find_server(tmp_path)


def test_tokens_are_looked_for_in_order(tmp_path: Path) -> None:
    (tmp_path / "admin-token").write_text("from-file\n")
    here = Address("http://127.0.0.1:1")
    variables = {"FNSYNC_TOKEN": "t", "FNSYNC_ADMIN_TOKEN": "a"}
    assert find_token(tmp_path, here, "given", variables) == "given"
    assert find_token(tmp_path, here, None, variables) == "t"
    assert find_token(tmp_path, here, None, {"FNSYNC_ADMIN_TOKEN": "a"}) == "a"
    assert find_token(tmp_path, here, None, {}) == "from-file"


def test_the_admin_token_is_not_sent_to_another_machine(tmp_path: Path) -> None:
    (tmp_path / "admin-token").write_text("from-file\n")
    with pytest.raises(Unauthorized, match=r"no token for https://example\.org"):
        find_token(tmp_path, Address("https://example.org"), None, {})


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["status"], exits.NO_SERVER),
        (["status", "--json"], exits.NO_SERVER),
        (["token", "list"], exits.OK),
        (["token", "revoke", "01234567"], exits.NOT_FOUND),
        (["user", "list"], exits.OK),
        (["user", "set-role", "ada@example.org", "admin"], exits.NOT_FOUND),
        (["user", "remove", "ada@example.org"], exits.NOT_FOUND),
        (["logs", "any"], exits.NO_SERVER),
        (["doctor"], exits.FAILED),
    ],
)
def test_reading_makes_nothing(tmp_path: Path, command: list[str], code: int) -> None:
    told = run(tmp_path, *command)
    assert told.returncode == code, told
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_nothing_it_is_said(tmp_path: Path) -> None:
    assert "there is no project here" in run(tmp_path, "status").stdout
    for command in ("token", "user"):
        told = run(tmp_path, command, "list")
        assert told.stderr == f"no server has run on {tmp_path / '.fnsync'} yet\n"
        assert json.loads(run(tmp_path, command, "list", "--json").stdout) == []


def test_commands_find_the_project_above_the_current_folder(project: Path) -> None:
    inside = project / "functions" / "team"
    inside.mkdir()
    assert run(inside, "token", "create").returncode == exits.OK
    assert (project / ".fnsync" / "state.sqlite3").exists()
    assert list(inside.iterdir()) == []


# ---- answers of any server -------------------------------------------------------------------------------

ANSWERS: dict[str, tuple[int, dict[str, str], str]] = {
    "busy": (503, {"Retry-After": "3"}, '{"error": {"message": "busy is saturated", "type": "server_error"}}'),
    "locked": (503, {"Retry-After": "9"}, '{"detail": "git holds its lock", "hint": "remove index.lock"}'),
    "unknown": (404, {}, '{"error": {"message": "there is no model unknown"}}'),
    "filter": (404, {}, '{"error": {"message": "filter is a filter", "hint": "only pipes answer"}}'),
    "forbidden": (401, {}, '{"detail": "this token is not known"}'),
    "proxy": (502, {}, "<html>Bad Gateway</html>"),
    "object": (200, {}, '{"answer": 42}'),
    "plain": (200, {"Content-Type": "text/plain"}, "plain text"),
    "words": (
        200,
        {"Content-Type": "text/event-stream"},
        'data: {"choices": [{"delta": {"content": "one "}}]}\n\n: a comment\n\n'
        'data: {"choices": [{"delta": {"content": "two"}}]}\n\ndata: {"choices": [{"delta": {}}]}\n\ndata: [DONE]\n\n',
    ),
    "broken": (
        200,
        {"Content-Type": "text/event-stream"},
        'data: {"choices": [{"delta": {"content": "one"}}]}\n\n'
        'data: {"error": {"message": "ValueError: two", "type": "server_error"}}\n\ndata: [DONE]\n\n',
    ),
}


class Peer(BaseHTTPRequestHandler):
    """Answers as the model that is called says; stands for servers and proxies of all kinds."""

    def do_POST(self) -> None:
        model = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["model"]
        status, headers, text = ANSWERS[model]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def peer() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Peer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("model", "code", "stdout", "stderr"),
    [
        ("busy", exits.FAILED, "", "busy is saturated\ntry again in 3 s\n"),
        ("locked", exits.FAILED, "", "git holds its lock\nremove index.lock; try again in 9 s\n"),
        ("unknown", exits.NOT_FOUND, "", "there is no model unknown\n`fnsync status` lists the functions\n"),
        ("filter", exits.NOT_FOUND, "", "filter is a filter\nonly pipes answer\n"),
        ("forbidden", exits.UNAUTHORIZED, "", "this token is not known\nthe token is not accepted by URL for this\n"),
        ("proxy", exits.FAILED, "", "the server answered 502\n"),
        ("object", exits.OK, '{\n  "answer": 42\n}\n', ""),
        ("plain", exits.OK, "plain text\n", ""),
    ],
)
def test_each_answer_has_its_exit_code(
    project: Path, peer: str, model: str, code: int, stdout: str, stderr: str
) -> None:
    told = run(project, "invoke", model, "-m", "hi", "--url", peer, "--token", "x")
    assert (told.returncode, told.stdout, told.stderr.replace(peer, "URL")) == (code, stdout, stderr)


def test_a_stream_is_printed_as_text(project: Path, peer: str) -> None:
    told = run(project, "invoke", "words", "-m", "hi", "--stream", "--url", peer, FNSYNC_TOKEN="x")
    assert (told.returncode, told.stdout, told.stderr) == (exits.OK, "one two\n", "")


def test_a_stream_as_json_has_a_chunk_per_line(project: Path, peer: str) -> None:
    told = run(project, "invoke", "words", "-m", "hi", "--stream", "--json", "--url", peer, "--token", "x")
    chunks = [json.loads(line) for line in told.stdout.splitlines()]
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["one ", "two", None]


def test_a_stream_that_fails_says_so_after_what_came(project: Path, peer: str) -> None:
    told = run(project, "invoke", "broken", "-m", "hi", "--stream", "--url", peer, "--token", "x")
    assert (told.returncode, told.stdout, told.stderr) == (exits.FAILED, "one\n", "ValueError: two\n")


def test_an_error_before_a_stream_has_its_exit_code_too(project: Path, peer: str) -> None:
    told = run(project, "invoke", "unknown", "-m", "hi", "--stream", "--url", peer, "--token", "x")
    assert (told.returncode, told.stderr.splitlines()[0]) == (exits.NOT_FOUND, "there is no model unknown")


def test_frames_are_read_up_to_done() -> None:
    lines = ["", ": ping", "event: x", 'data: {"a": 1}', "data: not json", "data: [DONE]", 'data: {"b": 1}']
    assert list(frames(lines)) == [{"a": 1}, {"choices": [{"delta": {"content": "not json\n"}}]}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"detail": "a"}', "a"),
        ('{"error": {"message": "b"}}', "b"),
        ('{"error": "c"}', "c"),
        ('{"error": {"detail": "d"}}', "d"),
        ("[]", None),
        ("<html>", None),
    ],
)
def test_error_bodies_of_every_shape_are_understood(text: str, message: str | None) -> None:
    assert error_message(text) == message


# ---- token -----------------------------------------------------------------------------------------------


def test_a_token_is_made_listed_and_revoked(project: Path) -> None:
    made = run(project, "token", "create", "for tests", "--user", "ada@example.org")
    assert made.returncode == exits.OK, made.stderr
    token = made.stdout.strip()
    assert re.fullmatch(r"fns_[0-9a-f]{8}_[\w-]{43}", token), "only the token goes to stdout"

    [listed] = json.loads(run(project, "token", "list", "--json").stdout)
    assert (listed["label"], listed["user"], listed["role"]) == ("for tests", "ada@example.org", "user")
    assert token not in json.dumps(listed)
    assert "digest" not in listed
    assert "ada@example.org" in run(project, "token", "list").stdout

    assert run(project, "token", "revoke", listed["id"]).returncode == exits.OK
    assert json.loads(run(project, "token", "list", "--json").stdout) == []
    again = run(project, "token", "revoke", token)
    assert (again.returncode, again.stderr.splitlines()[0]) == (exits.NOT_FOUND, f"there is no token {listed['id']}")


def test_a_token_without_a_user_is_the_admins(project: Path) -> None:
    made = json.loads(run(project, "token", "create", "--json").stdout)
    assert made["role"] == "admin"
    assert made["token"].startswith(f"fns_{made['id']}_")


def test_a_token_for_somebody_who_is_nobody_is_refused(project: Path) -> None:
    told = run(project, "token", "create", "--user", "ada")
    assert (told.returncode, told.stderr) == (exits.FAILED, "ada is no e-mail address and no known user\n")


def test_a_service_token_has_a_ceiling(project: Path) -> None:
    made = run(project, "token", "create", "chat", "--user", "chat@example.org", "--service")
    assert "service token" in made.stderr and "with the ceiling user of chat@example.org" in made.stderr
    run(project, "token", "create", "tools", "--user", "chat@example.org", "--service", "--ceiling", "admin")
    run(project, "token", "create", "plain", "--user", "chat@example.org")

    listed = json.loads(run(project, "token", "list", "--json").stdout)
    assert {token["label"]: token["ceiling"] for token in listed} == {"chat": "user", "tools": "admin", "plain": None}
    assert "ceiling" in run(project, "token", "list").stdout.splitlines()[0]
    told = run(project, "token", "create", "--ceiling", "admin")
    assert (told.returncode, told.stderr) == (exits.FAILED, "--ceiling is for service tokens\nadd --service\n")
    assert run(project, "token", "create", "--service", "--ceiling", "root").returncode == exits.USAGE


# ---- user ------------------------------------------------------------------------------------------------


def users(project: Path) -> dict[str, dict[str, Any]]:
    return {user["email"]: user for user in json.loads(run(project, "user", "list", "--json").stdout)}


def test_a_user_is_added_listed_given_a_role_and_removed(project: Path) -> None:
    made = json.loads(run(project, "user", "add", "Ada@example.org", "--name", "Ada L.", "--json").stdout)
    assert run(project, "user", "add", "grace@example.org", "--role", "pending").returncode == exits.OK
    assert users(project)["ada@example.org"] == made
    assert (made["name"], made["role"], made["origin"]) == ("Ada L.", "user", "local")
    assert users(project)["grace@example.org"]["name"] == "grace"
    assert set(users(project)) == {"ada@example.org", "grace@example.org", "admin@localhost"}
    line = next(line for line in run(project, "user", "list").stdout.splitlines() if "grace" in line)
    assert "pending" in line and "here" in line

    assert run(project, "user", "set-role", "ada@example.org", "admin").returncode == exits.OK
    assert run(project, "user", "set-role", made["id"], "pending").returncode == exits.OK
    assert users(project)["ada@example.org"]["role"] == "pending"
    run(project, "token", "create", "--user", "ada@example.org")
    assert run(project, "user", "remove", "ADA@example.org").returncode == exits.OK
    assert "ada@example.org" not in users(project)
    assert json.loads(run(project, "token", "list", "--json").stdout) == [], "tokens go with their user"


def test_what_cannot_be_done_to_a_user_is_said(project: Path) -> None:
    run(project, "user", "add", "ada@example.org")
    for arguments, code, said in [
        (["add", "ada@example.org"], exits.FAILED, "there is a user with the e-mail address ada@example.org already"),
        (["add", "ada"], exits.FAILED, "'ada' is no e-mail address"),
        (["remove", "bob@example.org"], exits.NOT_FOUND, "there is no user bob@example.org"),
        (["remove", "admin"], exits.FAILED, "the built-in admin cannot be removed"),
        (["set-role", "admin@localhost", "user"], exits.FAILED, "the built-in admin stays as it is"),
        (["set-role", "ada@example.org", "root"], exits.USAGE, ""),
    ]:
        told = run(project, "user", *arguments)
        assert told.returncode == code, told
        assert said in told.stderr.splitlines()[0] or not said


def test_a_user_of_a_chat_server_is_found_by_an_address_that_only_one_has(project: Path) -> None:
    run(project, "user", "list")
    run(project, "token", "create")
    state = State.open(f"sqlite:///{project / '.fnsync/state.sqlite3'}")
    state.remember(*(User(id, id, email, "user") for id, email in [("1", "a@x"), ("2", "b@x"), ("3", "b@x")]))
    state.close()

    assert "a chat server" in run(project, "user", "list").stdout
    assert run(project, "user", "remove", "a@x").returncode == exits.OK
    told = run(project, "user", "remove", "b@x")
    assert told.returncode == exits.FAILED and "2 users of chat servers have the address b@x" in told.stderr
    assert run(project, "user", "remove", "2").returncode == exits.OK
    told = run(project, "user", "set-role", "3", "admin")
    assert told.returncode == exits.FAILED and "is a user of a chat server" in told.stderr


@pytest.mark.parametrize("last", [["remove", "ada@example.org"], ["set-role", "ada@example.org", "user"]])
def test_whoever_takes_away_the_last_admin_is_told_who_is_left(project: Path, last: list[str]) -> None:
    run(project, "user", "add", "ada@example.org", "--role", "admin")
    run(project, "user", "add", "grace@example.org", "--role", "admin")
    warning = "the built-in admin is the only one left; its token is that of FNSYNC_ADMIN_TOKEN, or in "

    assert warning not in run(project, "user", "remove", "grace@example.org").stderr
    assert f"{warning}{project / '.fnsync/admin-token'}" in run(project, "user", *last).stderr


# ---- doctor ----------------------------------------------------------------------------------------------


def test_doctor_finds_nothing_missing_here(project: Path) -> None:
    told = run(project, "doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(told.stdout)}
    assert set(findings) == {
        *("python", "git", "uv", "inotify", "no_new_privs", "landlock", "cgroup"),
        *("configuration", "functions", "data", "port", "index", "state", "secrets"),
    }
    assert told.returncode == exits.OK, [one for one in findings.values() if one["state"] == "missing"]
    assert not (project / ".fnsync").exists(), "doctor changes nothing"


def test_doctor_as_text_has_a_line_per_check(project: Path) -> None:
    lines = run(project, "doctor").stdout.splitlines()
    assert lines[0].startswith("✓ python ")
    assert any(line.startswith("✓ port ") for line in lines)


def test_doctor_says_which_secrets_are_not_there_and_shows_none(project: Path) -> None:
    (project / "fnsync.yaml").write_text(
        "webhooks: [{name: hub, kind: github, secret: {env: HUB}}, {name: lab, kind: gitlab, secret: {env: LAB}}]\n"
        "notifications: [{name: ops, url: 'http://h/T0KEN', secret: {file: missing}}, {name: bare, url: 'http://h/'}]\n"
    )
    told = run(project, "doctor", HUB="s3cr3t").stdout
    assert "webhook lab: the environment variable LAB is not set" in told and "notification ops: the file" in told
    (project / "missing").write_text("s3cr3t\n")
    told += (last := run(project, "doctor", HUB="s3cr3t", LAB="s3cr3t").stdout)
    assert "messages to bare are not signed" in last
    assert "s3cr3t" not in told and "T0KEN" not in told


def test_doctor_says_what_is_wrong_with_the_configuration(project: Path) -> None:
    (project / "fnsync.yaml").write_text("server: {prot: 1}\n")
    told = run(project, "doctor")
    assert told.returncode == exits.FAILED
    assert "✗ configuration  fnsync.yaml:1: server.prot: unknown key; did you mean port?" in told.stdout


def at(root: Path, **sections: Any) -> Config:
    return Config.model_validate(sections, context={"root": root})


def test_doctor_sees_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = at(tmp_path, server={"port": taken.getsockname()[1]})
        assert checks.port(config).state == "missing"
        config.data.mkdir()
        (config.data / "server.json").write_text(json.dumps({"pid": os.getpid()}))
        assert checks.port(config).detail.endswith(f"the server with pid {os.getpid()} listens there")


def test_doctor_sees_missing_folders_and_damaged_databases(tmp_path: Path) -> None:
    config = at(tmp_path)
    assert checks.functions_folder(config).state == "missing"
    config.data.mkdir()
    assert checks.index(config).detail == "not made yet"
    (config.data / "index.sqlite3").write_bytes(b"no database " * 1000)
    assert checks.index(config).state == "missing"
    assert (checks.index(config).hint or "").startswith("delete it")
    (tmp_path / "file").touch()
    assert checks.data_folder(at(tmp_path, data="file")).state == "missing"
    assert checks.port(at(tmp_path, server={"host": "no.such.host.invalid"})).state == "missing"


def test_doctor_tells_what_each_source_lacks_without_its_secrets(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    (tmp_path / "open").write_text("the-token\n")
    (tmp_path / "open").chmod(0o644)
    (tmp_path / "bad").write_text("no key\n")
    url, ssh = "https://git.example.org/a.git", "git@git.example.org:a.git"
    entries = [
        {"name": "good", "url": url, "auth": {"token": {"env": "THERE"}}, "verify": {"ssh": ["key.pub"]}},
        {"name": "ssh", "url": ssh, "auth": {"ssh_key": {"file": "key"}, "known_hosts": "key.pub"}},
        {"name": "unset", "url": url, "auth": {"token": {"env": "ABSENT"}}},
        {"name": "open", "url": url, "auth": {"token": {"file": "open"}}},
        {"name": "unfit", "url": "http://git.example.org/a", "auth": {"token": {"env": "THERE"}}},
        {"name": "public", "url": ssh, "auth": {"ssh_key": {"file": "key.pub"}, "known_hosts": "absent"}},
        {"name": "keys", "url": url, "verify": {"ssh": ["bad"], "gpg": ["absent"]}},
        {"name": "app", "url": url, "auth": {"github_app": {"id": 1, "installation": 2, "key": {"file": "absent"}}}},
    ]
    findings = sourcechecks.sources(at(tmp_path, sources=entries), {"THERE": "the-token"})
    told = [(one.name.removeprefix("source "), one.state, one.detail) for one in findings]
    assert told[0] == ("good", "ok", f"{url}, with token, signatures are checked")
    assert told[1] == ("ssh", "ok", f"{ssh}, with ssh_key")
    assert told[2] == ("unset", "warning", "auth.token: the environment variable ABSENT is not set")
    assert told[3] == ("open", "warning", f"auth.token: others can read {tmp_path / 'open'}")
    assert told[4][:2] == ("unfit", "missing") and "only sent over https" in told[4][2]
    assert told[5][:2] == ("public", "missing") and "auth.ssh_key: is a public key" in told[5][2]
    assert told[6][:2] == ("public", "missing") and "auth.known_hosts: the file" in told[6][2]
    assert told[7][:2] == ("keys", "missing") and "bad:1: holds no public key" in told[7][2]
    assert told[8][:2] == ("keys", "missing") and "verify.gpg: there is no file" in told[8][2]
    assert told[9][:2] == ("app", "missing") and told[9][2].startswith("auth.github_app.key: the file")
    assert len(told) == 10
    assert "the-token" not in str(findings)


def test_doctor_tells_which_programs_sources_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ada.asc").touch()
    entry = {"name": "a", "url": "ssh://git@h/a.git", "lfs": True, "verify": {"gpg": ["ada.asc"]}}
    config = at(tmp_path, sources=[entry])
    monkeypatch.setenv("PATH", str(tmp_path))
    told = [one.detail for one in sourcechecks.sources(config, {})]
    assert told == [f"{program} is not on the PATH" for program in ("ssh", "gpg", "git-lfs")]


def test_doctor_sees_a_git_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\necho git version 2.21.9\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checks.git() == checks.Finding("git", "missing", "2.21.9", "install git 2.22 or newer")


# ---- how things are shown --------------------------------------------------------------------------------


def test_an_error_is_shown_with_its_line_and_a_mark_under_the_column(tmp_path: Path) -> None:
    problem = Problem("syntax", "SyntaxError: '(' was never closed", "a.py", 12, 7, "answer(x", hint="close it")
    assert [line.plain for line in problem_lines(problem, tmp_path)] == [
        f"{tmp_path}/a.py:12:7",
        "SyntaxError: '(' was never closed",
        "12 │ answer(x",
        "           ^",
        "close it",
    ]


def test_what_a_function_prints_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\r\nc\td\x9b") == "a�[2Jb\nc\td�"
    line = {"at": 0.25, "revision": "0123456789", "level": "error", "stream": "log", "text": "\x1b]0;x", "logger": "a"}
    assert log_text(line).plain.endswith(".250 01234567 error    a: �]0;x")


def test_a_reload_tells_what_each_function_came_to(tmp_path: Path) -> None:
    report = ReloadReport(
        at=0.0,
        took_ms=31.4,
        changed=("a.py", "b.yaml", "c.py", "d.py"),
        loaded=(("a", "4f1c22ab", 24.4),),
        failed=(("c", Problem("load", "ValueError: no", "c.py", 3)),),
        removed=("d",),
        applied=(("b", "valves"),),
    )
    assert [line.plain for line in report_lines(report, tmp_path)][1:] == [
        "  ✓ a is live as 4f1c22ab  24 ms",
        "  ✓ b: valves applied",
        "  - d is gone",
        "  ✗ c",
        f"    {tmp_path}/c.py:3",
        "    ValueError: no",
    ]


def test_a_reload_of_very_many_functions_stays_readable(tmp_path: Path) -> None:
    loaded = tuple((f"f{number}", "0" * 8, 1.0) for number in range(1000))
    report = ReloadReport(at=0.0, took_ms=900.0, changed=tuple(f"{id}.py" for id, *_ in loaded), loaded=loaded)
    lines = [line.plain for line in report_lines(report, tmp_path)]
    assert "1000 files changed" in lines[0]
    assert lines[-1] == "  … and 980 more are live"
    assert len(lines) == 22
