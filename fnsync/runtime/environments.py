"""Python environments: the server's own as the base, and one built with uv for each other set of requirements."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec
import structlog
import uv
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from fnsync.errors import EnvironmentFailed

log = structlog.get_logger()

BASE = "base"
#: What every environment has: the first two run workers, the others are what nearly every function imports.
BASE_PACKAGES = ("msgspec", "uvloop", "aiohttp", "fastapi", "httpx", "pydantic", "requests", "starlette")
#: Part of the hash: raise it when environments of an older layout must not be used any more.
LAYOUT = "1"
#: Written last; an environment without it was cut off while it was built.
COMPLETE = ".complete.json"
#: Runs a command that does not outlive this process.
TETHER = (sys.executable, "-I", str(Path(__file__).resolve().parent.parent / "worker" / "tether.py"))
#: How long uv may take, in seconds.
BUILD_S = 1800.0
#: How much of uv's output is kept for an error, in characters; its end tells most.
KEPT_OUTPUT = 32 * 1024
#: Builds that run at once.
BUILDS = 2


@dataclass(frozen=True, slots=True)
class Environment:
    """A set of installed requirements, ready to use."""

    name: str
    python: Path
    requirements: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EnvironmentState:
    """What became of an environment. `state`: `ready`, `building` or `failed`."""

    name: str
    state: Literal["ready", "building", "failed"]
    requirements: tuple[str, ...] = ()
    #: uv's latest line while it builds.
    progress: str | None = None
    error: str | None = None
    took_s: float | None = None


@dataclass(frozen=True, slots=True)
class RequirementsPolicy:
    """What may be installed, and from where."""

    install: bool = True
    index: str | None = None
    #: Globs over package names; None: all.
    allow: tuple[str, ...] | None = None
    #: Whether what imports ask for and nobody declared is installed too.
    infer: bool = True


class Environments:
    """Finds, builds and removes environments; each is built once, however many functions need it."""

    def __init__(
        self,
        folder: Path,
        policy: RequirementsPolicy,
        environ: Mapping[str, str],
        on_change: Callable[[EnvironmentState], None] = lambda _: None,
    ) -> None:
        self.base = Environment(BASE, Path(sys.executable))
        self._folder = folder
        self._policy = policy
        self._environ = environ
        self._on_change = on_change
        self._states: dict[str, EnvironmentState] = {}
        self._builds: dict[str, asyncio.Task[Environment]] = {}
        self._slots = asyncio.Semaphore(BUILDS)

    def states(self) -> tuple[EnvironmentState, ...]:
        """What is known of each environment that was asked for."""
        return (EnvironmentState(BASE, "ready"), *self._states.values())

    def named(
        self, requirements: Collection[str], requires_python: str | None = None, inferred: Collection[str] = ()
    ) -> str:
        """The name of the environment for these requirements: `base`, or a hash of what decides its content.

        `inferred`: those that nobody declared. The base environment will do if it happens to have them.
        """
        requirements = self._needed(requirements, requires_python, inferred)
        if _python_fits(requires_python) and all(_in_base(entry) for entry in requirements):
            return BASE
        identity = [LAYOUT, platform.python_version(), requires_python or "", *BASE_PACKAGES, *sorted(requirements)]
        return hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]

    def _needed(
        self, requirements: Collection[str], requires_python: str | None, inferred: Collection[str]
    ) -> tuple[str, ...]:
        """What has to be installed, if not all of it is in the base environment."""
        if not inferred or not self._policy.infer:
            return tuple(requirements)
        is_base = _python_fits(requires_python) and all(_in_base(entry) for entry in requirements)
        return tuple(requirements) if is_base and all(map(_is_here, inferred)) else (*requirements, *inferred)

    async def ensure(
        self, requirements: tuple[str, ...], requires_python: str | None = None, inferred: tuple[str, ...] = ()
    ) -> Environment:
        """Return the environment, built if it is not there yet; the arguments are those of `named`.

        Raises EnvironmentFailed with uv's own words.
        """
        name = self.named(requirements, requires_python, inferred)
        if name == BASE:
            return self.base
        requirements = self._needed(requirements, requires_python, inferred)
        environment = Environment(name, self._folder / name / "bin" / "python", requirements)
        if await asyncio.to_thread((self._folder / name / COMPLETE).exists):
            self._states.setdefault(name, EnvironmentState(name, "ready", requirements))
            return environment
        build = self._builds.get(name)
        if build is None:
            build = asyncio.create_task(self._build(environment, requires_python))
            self._builds[name] = build
            build.add_done_callback(lambda _: self._builds.pop(name, None))
        # One caller that gives up must not end the build for the others.
        return await asyncio.shield(build)

    async def _build(self, environment: Environment, requires_python: str | None) -> Environment:
        started = time.monotonic()
        state = EnvironmentState(environment.name, "building", environment.requirements, "waiting")
        self._set(state)
        try:
            self._check_policy(environment.requirements)
            async with self._slots:
                await self._install(environment, requires_python)
        except EnvironmentFailed as exc:
            self._set(replace(state, state="failed", progress=None, error=exc.message))
            raise
        took = time.monotonic() - started
        self._set(replace(state, state="ready", progress=None, took_s=took))
        return environment

    def _set(self, state: EnvironmentState) -> None:
        self._states[state.name] = state
        log.info("environment", name=state.name, state=state.state, progress=state.progress, error=state.error)
        self._on_change(state)

    def _check_policy(self, requirements: tuple[str, ...]) -> None:
        if not self._policy.install:
            raise EnvironmentFailed(
                f"requirements {', '.join(requirements)} are not installed: policy.requirements.install is false",
                hint="allow it in fnsync.yaml, or use what the base environment has: " + ", ".join(BASE_PACKAGES),
            )
        allow = self._policy.allow
        if allow is None:
            return
        for entry in requirements:
            # One that is only an address has no name that could be allowed.
            name = "" if _is_address(entry) else canonicalize_name(_parsed(entry).name)
            if not any(name and fnmatchcase(name, canonicalize_name(glob)) for glob in allow):
                raise EnvironmentFailed(
                    f"requirement {entry!r} is not allowed by policy.requirements.allow ({', '.join(allow)})",
                    hint="add the package's name to policy.requirements.allow in fnsync.yaml",
                )

    async def _install(self, environment: Environment, requires_python: str | None) -> None:
        folder = self._folder / environment.name
        await asyncio.to_thread(_remove, folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        python = sys.executable if _python_fits(requires_python) else str(requires_python)
        await self._uv(environment, "venv", "--python", python, str(folder))
        index = ["--default-index", self._policy.index] if self._policy.index else []
        target = ["--python", str(environment.python)]
        await self._uv(environment, "pip", "install", *target, *index, *BASE_PACKAGES, *environment.requirements)
        record = msgspec.json.encode({"requirements": environment.requirements, "built_at": int(time.time())})
        (folder / COMPLETE).write_bytes(record)

    async def _uv(self, environment: Environment, *arguments: str) -> None:
        """Run uv, pass its lines on as progress. Raises EnvironmentFailed with all it said."""
        process = await asyncio.create_subprocess_exec(
            *TETHER,
            str(os.getpid()),
            uv.find_uv_bin(),
            "--no-progress",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=_uv_environment(self._environ),
            limit=16 * KEPT_OUTPUT,  # of one line
        )
        said = ""
        try:
            async with asyncio.timeout(BUILD_S):
                assert process.stdout is not None
                async for line in process.stdout:
                    text = line.decode(errors="replace").rstrip()
                    said = f"{said}{text}\n"[-KEPT_OUTPUT:]
                    if text and not text.startswith(" "):  # the list of what was installed is indented
                        self._set(
                            EnvironmentState(environment.name, "building", environment.requirements, text.strip())
                        )
                status = await process.wait()
        except TimeoutError as exc:
            raise EnvironmentFailed(f"uv did not finish within {BUILD_S:.0f} s; it said:\n{said}") from exc
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if status != 0:
            wanted = ", ".join(environment.requirements)
            raise EnvironmentFailed(
                f"requirements {wanted} cannot be installed; uv says:\n{said.strip()}",
                hint="correct `requirements` in the function's frontmatter; what only an import asks for is installed "
                "as the newest version, unless `requirements` names another",
            )

    def collect(self, keep: Collection[str]) -> int:
        """Remove environments that nobody needs and what a crash left; blocking. Returns how many."""
        if not self._folder.is_dir():
            return 0
        unneeded = [path for path in self._folder.iterdir() if path.name not in keep and path.name not in self._builds]
        for path in unneeded:
            _remove(path)
            self._states.pop(path.name, None)
        return len(unneeded)

    async def close(self) -> None:
        """End what is being built."""
        for build in list(self._builds.values()):
            build.cancel()
        await asyncio.gather(*self._builds.values(), return_exceptions=True)


def _remove(folder: Path) -> None:
    # The mark first: a half-removed environment must not look complete.
    (folder / COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _is_address(entry: str) -> bool:
    """Whether an entry is of the form that gives no name: `git+https://…`, `https://…`."""
    return "://" in entry.partition(" ")[0]


def _parsed(entry: str) -> Requirement:
    try:
        return Requirement(entry)
    except InvalidRequirement as exc:
        raise EnvironmentFailed(f"requirement {entry!r} is not understood: {exc}") from exc


def _in_base(entry: str) -> bool:
    """Whether the base environment satisfies a requirement."""
    if _is_address(entry):
        return False
    requirement = _parsed(entry)
    if requirement.url or requirement.extras:
        return False
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    name = canonicalize_name(requirement.name)
    if name not in BASE_PACKAGES:
        return False
    return requirement.specifier.contains(importlib.metadata.version(name), prereleases=True)


@cache
def _is_here(entry: str) -> bool:
    """Whether the server itself has a package, and so the base environment."""
    try:
        importlib.metadata.version(_parsed(entry).name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _python_fits(requires_python: str | None) -> bool:
    if requires_python is None:
        return True
    try:
        return SpecifierSet(requires_python).contains(platform.python_version())
    except InvalidSpecifier as exc:
        raise EnvironmentFailed(f"requires-python {requires_python!r} is not understood: {exc}") from exc


def _uv_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What uv needs of the server's environment: paths, proxies, certificates, its own settings; no secret."""
    names = {"PATH", "HOME", "TMPDIR", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_CACHE_HOME", "NETRC"}
    proxies = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
    return {
        "PATH": os.defpath,
        **{
            name: value
            for name, value in environ.items()
            if name in names or name.startswith("UV_") or name.lower() in proxies
        },
    }
