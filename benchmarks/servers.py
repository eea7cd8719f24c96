"""The processes that are measured: started on free ports, with nothing inherited, and always stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.connection import Connection, get
from benchmarks.project import Project

TOKEN = "benchmark-token"
#: How long a server may take to start and to stop, in seconds.
START_S, STOP_S = 600.0, 30.0
#: How often a starting server is asked, in seconds.
ASK_S = 0.002
ROOT = Path(__file__).resolve().parent.parent


class ServerFailed(Exception):
    """A server did not come up; the message holds what it printed."""


class Running:
    """A server's process and how to reach it."""

    def __init__(self, arguments: list[str], port: int, folder: Path, log: Path, environ: Mapping[str, str]) -> None:
        self.port = port
        self._log = log
        self.started_at = time.perf_counter()
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                arguments,
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal is ours to pass on
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def connect(self) -> Connection:
        """Wait until it listens. Raises ServerFailed."""
        while True:
            try:
                return Connection(self.port)
            except OSError:
                self.check()
                time.sleep(ASK_S)

    def check(self) -> None:
        """Raise ServerFailed if it ended, or should have been up by now."""
        if self.process.poll() is not None or time.perf_counter() - self.started_at > START_S:
            raise ServerFailed(f"the server did not start:\n{self.log()[-4000:]}")

    def wait_ready(self) -> None:
        """Wait until `/readyz` says 200."""
        with self.connect() as connection:
            while connection.send(get("/readyz", TOKEN))[0] != 200:
                self.check()
                time.sleep(ASK_S)

    def status(self) -> dict[str, Any]:
        """What `/api/status` answers."""
        with self.connect() as connection:
            status, body = connection.send(get("/api/status", TOKEN))
        if status != 200:
            raise ServerFailed(f"/api/status: {status} {body[:1000]!r}")
        return dict(json.loads(body))

    def wait(self, what: str, condition: Callable[[], bool], timeout_s: float = START_S) -> None:
        until = time.perf_counter() + timeout_s
        while not condition():
            if time.perf_counter() > until:
                raise ServerFailed(f"{what} did not come within {timeout_s:g} s:\n{self.log()[-4000:]}")
            time.sleep(0.02)


@contextlib.contextmanager
def product(project: Project, **variables: str) -> Iterator[Running]:
    """`fnsync serve` on a project, not waited for."""
    port = free_port()
    environ = {**clean_environ(), "FNSYNC_ADMIN_TOKEN": TOKEN, "FNSYNC_SERVER__PORT": str(port), **variables}
    arguments = [sys.executable, "-m", "fnsync.cli.main", "serve"]
    server = Running(arguments, port, project.root, project.root / "server.log", environ)
    try:
        yield server
    finally:
        stop(server.process)


@contextlib.contextmanager
def reference(folder: Path) -> Iterator[Running]:
    """The bare application, once it listens."""
    port = free_port()
    arguments = [sys.executable, "-m", "benchmarks.reference", str(port)]
    server = Running(arguments, port, ROOT, folder / "reference.log", clean_environ())
    try:
        server.connect().close()
        yield server
    finally:
        stop(server.process)


def clean_environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("FNSYNC_")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process and wait for it; a second Ctrl-C meanwhile kills it."""
    try:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
