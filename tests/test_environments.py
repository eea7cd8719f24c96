"""Environments of requirements: the base where it does, else one per distinct set, built once and kept."""

import asyncio
import base64
import hashlib
import importlib.metadata
import json
import os
import socket
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fnsync.errors import EnvironmentFailed
from fnsync.runtime.environments import BASE, COMPLETE, Environments, EnvironmentState, RequirementsPolicy
from tests.conftest import Project, Server, wait_for
from tests.workbench import Bench, alive, descendants, until, within

pytestmark = pytest.mark.anyio

VERSION = """
import fnsync_tiny
class Pipe:
    def pipe(self, body):
        return fnsync_tiny.VERSION
"""


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


def make_wheel(folder: Path, version: str) -> Path:
    """Write a wheel of the package `fnsync-tiny`, which nobody else has."""
    info = f"fnsync_tiny-{version}.dist-info"
    files = {
        "fnsync_tiny.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: fnsync-tiny\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={digest(text)},{len(text)}\n" for name, text in files.items())
    path = folder / f"fnsync_tiny-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            wheel.writestr(name, text)
    return path


def digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("1.0", "2.0"):
        make_wheel(folder, version)
    return folder


@pytest.fixture(scope="module")
def environ(wheels: Path) -> dict[str, str]:
    return {**os.environ, "UV_FIND_LINKS": str(wheels)}


@pytest.fixture(scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str]) -> AsyncIterator[Bench]:
    async with Bench(tmp_path_factory.mktemp("bench"), variables=environ) as bench:
        yield bench


def environments(folder: Path, policy: RequirementsPolicy | None = None, **given: Any) -> Environments:
    return Environments(folder, policy or RequirementsPolicy(), os.environ, **given)


# ---- which environment ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "requirements",
    [
        (),
        ("requests",),
        ("Requests>=2", "httpx"),
        (f"pydantic=={importlib.metadata.version('pydantic')}",),
        ("nowhere-at-all; python_version < '3'",),
    ],
)
async def test_base_does(tmp_path: Path, requirements: tuple[str, ...]) -> None:
    found = environments(tmp_path)
    assert found.named(requirements) == BASE
    assert await found.ensure(requirements) == found.base
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "requirements",
    [
        ("fnsync-tiny",),
        ("pydantic<1",),
        ("httpx[http2]",),
        ("requests @ https://example.org/requests.whl",),
        ("git+https://example.org/repository.git",),
        ("https://example.org/package-1.0-py3-none-any.whl",),
    ],
)
def test_base_does_not_do(tmp_path: Path, requirements: tuple[str, ...]) -> None:
    assert environments(tmp_path).named(requirements) != BASE


def test_one_environment_per_distinct_set(tmp_path: Path) -> None:
    found = environments(tmp_path)
    assert found.named(("a", "b")) == found.named(("b", "a")) == environments(tmp_path / "other").named(("a", "b"))
    names = {found.named(("a",)), found.named(("a", "b")), found.named(("a==1",)), found.named((), "<3")}
    assert len(names) == 4


async def test_what_is_no_requirement_is_told(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="not a requirement!"):
        await environments(tmp_path).ensure(("not a requirement!",))
    with pytest.raises(EnvironmentFailed, match="three"):
        await environments(tmp_path).ensure((), "three")


# ---- policy --------------------------------------------------------------------------------------------------------


async def test_policy_that_installs_nothing(tmp_path: Path) -> None:
    found = environments(tmp_path, RequirementsPolicy(install=False))
    with pytest.raises(EnvironmentFailed, match=r"fnsync-tiny.*policy\.requirements\.install is false") as caught:
        await found.ensure(("fnsync-tiny",))
    assert caught.value.hint is not None and "pydantic" in caught.value.hint
    assert await found.ensure(("requests",)) == found.base, "nothing has to be installed for it"


@pytest.mark.parametrize("entry", ["numpy", "git+https://example.org/x.git", "https://example.org/x-1.0.whl"])
async def test_policy_that_allows_some(tmp_path: Path, entry: str) -> None:
    found = environments(tmp_path, RequirementsPolicy(allow=("fnsync-*", "pandas")))
    with pytest.raises(EnvironmentFailed, match=r"not allowed by policy\.requirements\.allow") as caught:
        await found.ensure(("Fnsync_Tiny", entry))
    assert entry in caught.value.message
    states = {state.name: state for state in found.states()}
    assert states[found.named(("Fnsync_Tiny", entry))].state == "failed"


# ---- building ------------------------------------------------------------------------------------------------------


async def test_conflicting_pins_side_by_side(bench: Bench) -> None:
    """Two functions of one server use two versions of a package; each environment is built once."""
    one = bench.function(VERSION, id="one", requirements=("fnsync-tiny==1.0",))
    two = bench.function(VERSION, id="two", requirements=("fnsync-tiny==2.0",))
    other = bench.function(VERSION + "# another function\n", id="other", requirements=("fnsync-tiny==1.0",))
    seen: list[EnvironmentState] = []
    bench.executor.environments._on_change = seen.append
    await within(100, "the builds", asyncio.gather(*(bench.executor.load(function) for function in (one, two, other))))
    assert [await bench.call(function) for function in (one, two, other)] == ["1.0", "2.0", "1.0"]
    waiting = [state for state in seen if state.progress == "waiting"]
    assert sorted(state.requirements for state in waiting) == [("fnsync-tiny==1.0",), ("fnsync-tiny==2.0",)]
    told = [state.progress for state in seen if state.requirements == ("fnsync-tiny==1.0",) and state.progress]
    assert any(line.startswith("Installed ") for line in told), f"uv's lines are the progress: {told}"
    done = [state for state in seen if state.state == "ready"]
    assert len(done) == 2 and all(state.took_s for state in done)
    plain = bench.function("class Pipe:\n    def pipe(self, body):\n        return 'base'\n", id="plain")
    assert await bench.call(plain) == "base"


async def test_environment_is_found_again_after_a_restart(bench: Bench, environ: dict[str, str]) -> None:
    """No uv runs for it, so it works without a network and with installing forbidden."""
    requirements = ("fnsync-tiny==1.0",)
    await within(100, "the build", bench.executor.environments.ensure(requirements))
    again = Environments(bench.folder / "environments", RequirementsPolicy(install=False), {})
    found = await again.ensure(requirements)
    assert found.python.exists()
    assert [state.state for state in again.states() if state.name == found.name] == ["ready"]


async def test_build_that_was_cut_off_is_done_again(bench: Bench, environ: dict[str, str]) -> None:
    requirements = ("fnsync-tiny==2.0",)
    folder = bench.folder / "environments"
    name = bench.executor.environments.named(requirements)
    half = folder / name
    (half / "lib").mkdir(parents=True, exist_ok=True)
    (half / COMPLETE).unlink(missing_ok=True)
    (half / "left").touch()
    again = Environments(folder, RequirementsPolicy(), environ)
    found = await within(100, "the build", again.ensure(requirements))
    assert found.python.exists() and not (half / "left").exists()
    assert json.loads((half / COMPLETE).read_bytes())["requirements"] == ["fnsync-tiny==2.0"]


async def test_failing_requirement_shows_uvs_words_and_fails_alone(bench: Bench) -> None:
    function = bench.function(VERSION, id="failing", requirements=("fnsync-tiny==3.0",))
    with pytest.raises(EnvironmentFailed) as caught:
        await within(60, "the build", bench.executor.load(function))
    message = caught.value.message
    assert "fnsync-tiny==3.0" in message and "uv says:" in message
    assert "no version of fnsync-tiny==3.0" in " ".join(message.split())
    (state,) = [state for state in bench.executor.environments.states() if state.state == "failed"]
    assert state.error == message and state.progress is None
    plain = bench.function("class Pipe:\n    def pipe(self, body):\n        return 'base'\n", id="plain")
    assert await bench.call(plain) == "base"


async def test_what_is_not_needed_is_removed(bench: Bench, tmp_path: Path) -> None:
    found = environments(tmp_path)
    for name in ("keep", "drop"):
        (tmp_path / name / "bin").mkdir(parents=True)
    assert found.collect({"keep"}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["keep"]
    assert environments(tmp_path / "missing").collect(()) == 0


async def test_nothing_of_the_servers_secrets_reaches_uv(tmp_path: Path) -> None:
    """A source package runs code while it is built."""
    from fnsync.runtime import environments as module

    given = {
        "FNSYNC_ADMIN_TOKEN": "x",
        "OPENAI_API_KEY": "x",
        "UV_FIND_LINKS": "/wheels",
        "HTTPS_PROXY": "p",
        "HOME": "/h",
    }
    assert set(module._uv_environment(given)) == {"PATH", "UV_FIND_LINKS", "HTTPS_PROXY", "HOME"}


# ---- a build that hangs --------------------------------------------------------------------------------------------


class SilentServer:
    """Takes a connection and never answers."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        listener.settimeout(60)
        self.requirement = (
            f"fnsync-tiny @ http://127.0.0.1:{listener.getsockname()[1]}/fnsync_tiny-1.0-py3-none-any.whl"
        )

    def wait_for_uv(self) -> int:
        """Return the process that waits for an answer."""
        self._connection, (_, port) = self._listener.accept()
        return next(pid for pid in descendants(os.getpid()) if Path(f"/proc/{pid}/comm").read_text() == "uv\n")


@pytest.fixture
def silent_server() -> Iterator[SilentServer]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = SilentServer(listener)
        yield server
        server._connection.close()


async def test_stopping_ends_a_build(tmp_path: Path, silent_server: SilentServer) -> None:
    found = environments(tmp_path)
    building = asyncio.create_task(found.ensure((silent_server.requirement,)))
    uv = await asyncio.to_thread(silent_server.wait_for_uv)
    await within(5, "the end", found.close())
    with pytest.raises(asyncio.CancelledError):
        await building
    await until("the end of uv", lambda: not alive(uv))


def test_kill_of_the_server_ends_a_build(
    project: Project, start_server: Callable[..., Server], silent_server: SilentServer
) -> None:
    frontmatter = f'"""\ntitle: Waiting\nrequirements: {silent_server.requirement}\n"""\n'
    project.write("waiting.py", f"{frontmatter}class Pipe:\n    pass\n")
    server = start_server(project, ready=False)
    uv = silent_server.wait_for_uv()
    below = descendants(server.process.pid)
    assert uv in below
    server.process.kill()
    server.process.wait()
    wait_for("the end of all processes", lambda: not [pid for pid in below if alive(pid)])
