"""What the tests share: a project on disk, and a real server on it.

`server` runs for the whole session of a test process, so tests give their functions ids of their own. A test that
needs other settings, or that stops the server, starts one with `start_server`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from hypothesis import HealthCheck, settings

from fnsync.model import Ceiling, Role
from fnsync.store.state import State
from tests import databases

ADMIN_TOKEN = "test-admin-token"
START_S = 60.0
WAIT_S = 20.0

T = TypeVar("T")

# Clients are made by the thousand, and each would read the machine's certificates, of which no plain address needs one.
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

# Tests say themselves who commits and how: neither the machine's git configuration nor its variables do.
# Nor is it the repository that a hook or `git rebase --exec` names which runs them: tests would write into that one.
_OURS = ("GIT_AUTHOR_", "GIT_COMMITTER_", "GIT_CONFIG")
_PLACES = subprocess.run(["git", "rev-parse", "--local-env-vars"], check=True, capture_output=True, text=True)
for _name in [name for name in os.environ if name.startswith(_OURS) or name in _PLACES.stdout.split()]:
    del os.environ[_name]
os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
# The same examples each time, however slow the machine is; `--hypothesis-profile=explore` looks for new ones.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
# Servers are started by the hundred: each would compile all of fnsync where the machine wants no bytecode written.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# What a shell starts in the background ignores Ctrl-C, and so would the programs that are started here.
signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for(what: str, ask: Callable[[], T | None], timeout_s: float = WAIT_S) -> T:
    """Return the first true answer of `ask`; fail, saying `what` did not come."""
    until = time.monotonic() + timeout_s
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > until:
            pytest.fail(f"{what} did not come within {timeout_s:g} s; last: {answer!r}", pytrace=False)
        time.sleep(0.02)


class Project:
    """A git working tree with a functions folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.functions = root / "functions"
        self.functions.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "Ada")
        self.git("config", "user.email", "ada@example.org")

    def write(self, path: str, text: str) -> Path:
        """Write a file under functions/ as an editor does: beside it, then renamed over it."""
        file = self.functions / path
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f".{file.name}.tmp")
        fresh.write_text(textwrap.dedent(text), encoding="utf-8")
        fresh.replace(file)
        return file

    def remove(self, path: str) -> None:
        (self.functions / path).unlink()

    def configure(self, text: str) -> None:
        (self.root / "fnsync.yaml").write_text(textwrap.dedent(text), encoding="utf-8")

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.root, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, message: str = "change") -> str:
        """Commit everything under functions/; return the commit's hash."""
        self.git("add", "functions")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


class Server:
    """A running `fnsync serve`, and ways to wait for what files come to in it."""

    def __init__(
        self,
        project: Project,
        *,
        environ: Mapping[str, str] | None = None,
        port: int = 0,
        program: Sequence[str] = ("-m", "fnsync.cli.main", "serve"),
        data: Path | None = None,
        log: Path | None = None,
    ) -> None:
        self.project = project
        self.data = data or project.root / ".fnsync"
        self._log_path = log or project.root / "server.log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FNSYNC_")}
        variables = {
            "FNSYNC_ADMIN_TOKEN": ADMIN_TOKEN,
            "FNSYNC_SERVER__PORT": str(port),
            # All tests come from one address, and many show wrong tokens.
            "FNSYNC_RATE_LIMITS__LOGINS": "unlimited",
            **(environ or {}),
        }
        with self._log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *program],
                cwd=project.root,
                env={**kept, "PYTHONPATH": str(Path(__file__).parents[1]), **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.token = variables["FNSYNC_ADMIN_TOKEN"]
        self.url = ""

    def wait_ready(self, timeout_s: float = START_S) -> Server:
        self.url = wait_for(f"the server\n{self.log()}", self._url, timeout_s)
        wait_for("/readyz", self._is_ready, timeout_s)
        return self

    def _url(self) -> str | None:
        if self.process.poll() is not None:
            pytest.fail(f"the server ended with {self.process.returncode}:\n{self.log()}", pytrace=False)
        try:
            found = json.loads((self.data / "server.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return str(found["url"]) if found["pid"] == self.process.pid else None

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", verify=NO_CERTIFICATES).status_code == 200
        except httpx.TransportError:
            return False

    def log(self) -> str:
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def client(self, token: str | None = None, **options: Any) -> httpx.Client:
        """Return a client with a token, the admin's if not said otherwise."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        options = {"timeout": 30, "verify": NO_CERTIFICATES, **options}
        return httpx.Client(base_url=self.url, headers=headers, **options)

    # ---- functions ----

    def status(self) -> dict[str, Any]:
        with self.client() as client:
            answer = client.get("/api/status")
        answer.raise_for_status()
        return dict(answer.json())

    def function(self, id: str) -> dict[str, Any] | None:
        """Return the function's entry in the status, None when there is none."""
        return next((dict(entry) for entry in self.status()["functions"] if entry["id"] == id), None)

    def add(self, id: str, text: str, settings: str | None = None, *, status: str = "ready") -> dict[str, Any]:
        """Write a function's file, and its settings if given; wait until it has come to `status`."""
        before = self.function(id)
        if settings is not None:
            self.project.write(f"{id}.yaml", settings)
        self.project.write(f"{id}.py", text)
        return self.settle(id, status, since=before)

    def settle(self, id: str, status: str = "ready", *, since: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Wait until the function has that status, and another revision than `since`."""

        def settled() -> dict[str, Any] | None:
            found = self.function(id)
            if found is None or found["status"] != status:
                return None
            changed = since is None or found["revision"] != since["revision"] or found["status"] != since["status"]
            return found if changed else None

        try:
            return wait_for(f"{id}: {status}", settled)
        except pytest.fail.Exception as exc:
            pytest.fail(f"{exc}\nstatus: {self.function(id)}", pytrace=False)

    def gone(self, id: str) -> None:
        wait_for(f"the end of {id}", lambda: self.function(id) is None)

    # ---- users ----

    @contextmanager
    def state(self) -> Iterator[State]:
        """The state, opened beside the server, as the command line does."""
        state = State.open(f"sqlite:///{self.data / 'state.sqlite3'}")
        try:
            yield state
        finally:
            state.close()

    def add_token(
        self, role: Role = "user", email: str | None = None, name: str | None = None, *, ceiling: Ceiling | None = None
    ) -> str:
        """Make a user with that role, unless there is one of that address, and a token of theirs."""
        email = email or f"{role}@example.org"
        with self.state() as state:
            user = state.user_by_email(email) or state.add_user(name=name or role.title(), email=email, role=role)
            return state.add_token(user.id, "test", ceiling=ceiling)[1]

    # ---- the end ----

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 30.0) -> int:
        """Send a signal, unless it has ended; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"the server did not stop within {timeout_s:g} s\n{self.log()[-3000:]}", pytrace=False)


@pytest.fixture(params=databases.KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty state database, of each kind."""
    with databases.database(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def any_state(database_url: str) -> Iterator[State]:
    """An empty state, on each kind of database."""
    state = State.open(database_url)
    yield state
    state.close()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh project without functions."""
    return Project(tmp_path / "project")


@pytest.fixture
def watched(request: pytest.FixtureRequest) -> Callable[[Server], Server]:
    """Has a running server's log shown from here on, should the test fail."""

    def watch(server: Server) -> Server:
        request.node.stash.setdefault(_SERVERS, []).append((server, len(server.log())))
        return server

    return watch


@pytest.fixture
def start_server(request: pytest.FixtureRequest) -> Iterator[Callable[..., Server]]:
    """Starts servers on projects of the test's own, and stops them after it."""
    started: list[Server] = []

    def start(project: Project, *, ready: bool = True, **options: Any) -> Server:
        server = Server(project, **options)
        started.append(server)
        request.node.stash.setdefault(_SERVERS, []).append((server, 0))
        return server.wait_ready() if ready else server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def session_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = Project(tmp_path_factory.mktemp("shared") / "project")
    server = Server(project)
    try:
        yield server.wait_ready()
    finally:
        server.stop()


@pytest.fixture
def server(session_server: Server, watched: Callable[[Server], Server]) -> Server:
    """The server that tests share."""
    return watched(session_server)


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """A client of `server` with the admin's token."""
    with server.client() as client:
        yield client


@pytest.fixture
def user_client(server: Server) -> Iterator[httpx.Client]:
    """A client of `server` with the token of a user who is no admin."""
    with server.client(server.add_token("user")) as client:
        yield client


@pytest.fixture
def fn(request: pytest.FixtureRequest) -> str:
    """A function id of the test's own."""
    return re.sub(r"\W+", "_", request.node.name).strip("_").lower()[:80]


_SERVERS = pytest.StashKey[list[tuple[Server, int]]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show what the servers of a failed test wrote meanwhile."""
    report = yield
    if report.failed:  # type: ignore[attr-defined]
        for server, start in item.stash.get(_SERVERS, []):
            report.sections.append(("server log", server.log()[start:][-8000:]))  # type: ignore[attr-defined]
    return report
