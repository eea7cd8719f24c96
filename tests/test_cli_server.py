"""The commands against a running server, and the samples through it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from fnsync.cli import exits
from tests.commands import PROGRAM, environ, run, run_program

ROOT = Path(__file__).parents[1]

TALKER = '''"""
title: Talker
"""

import logging


class Pipe:
    def pipe(self, body):
        text = body["messages"][-1]["content"]
        print("said", text)
        logging.getLogger("talker").warning("careful")
        if text == "raise":
            raise ValueError("not that")
        return text
'''

PATIENCE_S = 30.0


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition; what it is about is the failure's message."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE_S:.0f} s for {what}"
        time.sleep(0.02)


@contextmanager
def serving(project: Path, command: str = "serve") -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A server on this project, ready, and the file with what it prints; stopped at the end."""
    output = project / f"{command}.txt"
    with output.open("w") as printed:
        server = subprocess.Popen(
            [*PROGRAM, command], cwd=project, stdout=printed, stderr=subprocess.STDOUT, env=environ(), text=True
        )
    try:
        until(lambda: "curl" in output.read_text() or server.poll() is not None, "the server to start")
        assert server.poll() is None, output.read_text()
        yield server, output
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running server with the samples and a talker."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "functions", folder / "functions", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "functions/talker.py").write_text(TALKER)
    shutil.copy(ROOT / "fnsync.yaml", folder)
    with serving(folder):
        yield folder


# ---- status ----------------------------------------------------------------------------------------------


def test_status_has_a_line_for_each_function(project: Path) -> None:
    told = run(project, "status")
    assert told.returncode == exits.OK, told.stderr
    rows = {line.split()[0]: line.split() for line in told.stdout.splitlines() if line.rstrip().endswith(".py")}
    kinds = {id: (row[1], row[2]) for id, row in rows.items()}
    assert kinds["text"] == ("pipe", "ready")
    assert kinds["redact"] == ("filter", "ready")
    assert kinds["contents"] == ("action", "ready")
    assert rows["glossary"][-1] == "glossary/main.py"
    assert "_text" not in rows


def test_status_json_is_what_the_server_answers(project: Path) -> None:
    found = json.loads(run(project, "status", "--json").stdout)
    assert (found["running"], found["ready"]) == (True, True)
    assert {function["id"] for function in found["functions"]} >= {"echo", "calc", "text", "outline", "redact"}


def test_status_of_one_function(project: Path) -> None:
    assert [one["id"] for one in json.loads(run(project, "status", "calc", "--json").stdout)["functions"]] == ["calc"]
    told = run(project, "status", "nobody")
    assert (told.returncode, told.stderr.splitlines()[0]) == (exits.NOT_FOUND, "there is no function nobody")


# ---- invoke ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "message", "answer"),
    [
        ("echo", "hello", "hello"),
        ("calc", "3 * (4 + 5) ** 2", "243"),
        ("text.upper", "straße", "STRASSE"),
        ("text.slug", "Crème brûlée", "creme-brulee"),
        ("outline", "# A\n\n## B", "- A\n  - B\n"),
        ("glossary", "the zygotes", "**zygote**: a process with the usual imports done, from which workers are forked"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_the_samples_answer(project: Path, model: str, message: str, answer: str, stream: bool) -> None:
    told = run(project, "invoke", model, "--message", message, *(["--stream"] if stream else []))
    assert (told.returncode, told.stdout.rstrip("\n"), told.stderr) == (exits.OK, answer.rstrip("\n"), "")


def test_the_settings_of_a_sample_are_in_effect(project: Path) -> None:
    told = run(project, "invoke", "text.wordcount", "-m", "a b c d e f")
    assert len(told.stdout.splitlines()) == 1 + 5  # text.yaml says most_frequent: 5, the code 3


def test_what_comes_through_a_pipe_is_the_message(project: Path) -> None:
    text = "ü" * 300_000
    assert run(project, "invoke", "echo", text=text).stdout == text + "\n"


def test_invoke_json_is_the_whole_completion(project: Path) -> None:
    completion = json.loads(run(project, "invoke", "echo", "-m", "hi", "--json").stdout)
    assert (completion["object"], completion["choices"][0]["message"]["content"]) == ("chat.completion", "hi")


@pytest.mark.parametrize("stream", [[], ["--stream"]], ids=["plain", "stream"])
def test_failures_have_their_exit_codes(project: Path, stream: list[str]) -> None:
    raised = run(project, "invoke", "talker", "-m", "raise", *stream)
    assert (raised.returncode, raised.stdout) == (exits.FAILED, "")
    assert "not that" in raised.stderr
    assert run(project, "invoke", "nobody", "-m", "hi", *stream).returncode == exits.NOT_FOUND
    assert run(project, "invoke", "echo", "-m", "hi", "--token", "x", *stream).returncode == exits.UNAUTHORIZED


def test_a_closed_pipe_ends_a_command_without_a_traceback(project: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, "invoke", "echo"],
        cwd=project,
        env=environ(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.write(b"x" * 300_000)
        process.stdin.close()
        assert b"Traceback" not in process.stderr.read()


# ---- token -----------------------------------------------------------------------------------------------


def test_a_new_token_is_good_at_once_and_a_revoked_one_is_not(project: Path) -> None:
    made = json.loads(run(project, "token", "create", "--user", "ada@example.org", "--json").stdout)

    def call(*arguments: str) -> int:
        return run(project, *arguments, FNSYNC_TOKEN=made["token"]).returncode

    until(lambda: call("invoke", "echo", "-m", "hi") == exits.OK, "the new token to be accepted")
    assert call("status") == exits.UNAUTHORIZED, "status is for admins"
    assert run(project, "token", "revoke", made["id"]).returncode == exits.OK
    until(lambda: call("invoke", "echo", "-m", "hi") == exits.UNAUTHORIZED, "the revoked token to be refused")


# ---- logs ------------------------------------------------------------------------------------------------


def test_logs_show_prints_and_records(project: Path) -> None:
    run(project, "invoke", "talker", "-m", "one thing")
    until(lambda: "said one thing" in run(project, "logs", "talker").stdout, "the printed line")
    lines = [json.loads(line) for line in run(project, "logs", "talker", "--json").stdout.splitlines()]
    printed = next(line for line in lines if line["text"] == "said one thing")
    assert (printed["function"], printed["stream"]) == ("talker", "stdout")
    assert any((line["logger"], line["level"].lower()) == ("talker", "warning") for line in lines)
    assert len(run(project, "logs", "talker", "-n", "1").stdout.splitlines()) == 1
    assert run(project, "logs", "nobody").returncode == exits.NOT_FOUND


def test_logs_follow_until_ctrl_c(project: Path) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "logs", "talker", "--follow", "-n", "0", "--json"],
        cwd=project,
        env=environ(),
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            seen: list[str] = []
            until(lambda: follow_one(project, process.stdout, seen), "a followed line")
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=PATIENCE_S) == exits.INTERRUPTED
        finally:
            process.kill()


def follow_one(project: Path, lines: IO[str] | None, seen: list[str]) -> bool:
    """Call once; take a line if one has come. The first calls may come before the command listens."""
    import select

    assert lines
    run(project, "invoke", "talker", "-m", "follow")
    while select.select([lines], [], [], 0.5)[0]:
        seen.append(json.loads(lines.readline())["text"])
    # The command may have begun to listen between two lines of a call.
    return any(text.startswith("said follow") for text in seen)


# ---- serve, dev, init ------------------------------------------------------------------------------------


def test_two_servers_do_not_share_a_data_folder(project: Path) -> None:
    told = run_program(project, "serve")
    assert told.returncode == exits.USAGE
    assert "serves with the data folder" in told.stderr


def test_a_port_that_is_taken_is_named(project: Path, tmp_path: Path) -> None:
    port = json.loads((project / ".fnsync/server.json").read_text())["url"].rpartition(":")[2]
    told = run_program(tmp_path, "serve", "--port", port)
    assert told.returncode == exits.USAGE
    assert f"127.0.0.1:{port}" in told.stderr


def test_a_new_project_is_developed(tmp_path: Path) -> None:
    """init, dev, a call, a mistake, its repair: what dev prints, and what answers meanwhile."""
    assert run(tmp_path, "init", ".").returncode == exits.OK
    hello = tmp_path / "functions/hello.py"
    good = hello.read_text()
    with serving(tmp_path, "dev") as (server, output):
        assert run(tmp_path, "invoke", "hello", "-m", "hi").stdout.startswith("Hello, ")

        hello.write_text(good + "    def x(:\n")
        until(lambda: "✗ hello" in output.read_text(), "dev to tell of the mistake")
        line = len(good.splitlines()) + 1
        until(lambda: f"{line} │     def x(:" in output.read_text(), "dev to show the line")
        assert f"functions/hello.py:{line}:" in output.read_text()
        assert run(tmp_path, "invoke", "hello", "-m", "hi").stdout.startswith("Hello, ")
        assert "hello is stale" in run(tmp_path, "status").stdout

        hello.write_text(good.replace('default="Hello"', 'default="Howdy"'))
        (tmp_path / "functions/hello.yaml").unlink()
        until(lambda: run(tmp_path, "invoke", "hello", "-m", "hi").stdout.startswith("Howdy, "), "the repair")
        until(lambda: output.read_text().count("✓ hello is live as ") >= 2, "the repair to be told")
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=PATIENCE_S) == exits.OK
    assert not (tmp_path / ".fnsync/server.json").exists()

    told = run(tmp_path, "status")
    assert told.returncode == exits.NO_SERVER
    assert "hello  pipe  ready" in told.stdout
    assert "no server is running" in told.stderr
