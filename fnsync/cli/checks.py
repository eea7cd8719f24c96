"""The checks of `fnsync doctor`: each looks at one thing and says what it found."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fnsync.config import Config
from fnsync.errors import ConfigError

OLDEST_PYTHON = (3, 11)
OLDEST_GIT = (2, 22)
#: One watch per folder; below this a large repository falls back to polling.
ENOUGH_WATCHES = 8192
ENOUGH_INSTANCES = 64

_PR_GET_NO_NEW_PRIVS = 39
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_VERSION_FLAG = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    name: str
    #: `warning`: fnsync works, with less; `missing`: it does not.
    state: Literal["ok", "warning", "missing"]
    detail: str
    #: The way out.
    hint: str | None = None


# ---- the machine -----------------------------------------------------------------------------------------


def python() -> Finding:
    """The Python that fnsync runs on is new enough."""
    text = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < OLDEST_PYTHON:
        return Finding("python", "missing", text, "install Python 3.11 or newer")
    return Finding("python", "ok", text)


def git() -> Finding:
    """git is there, and new enough."""
    version = (_version("git") or "").removeprefix("git version ")
    if not version:
        return Finding("git", "missing", "not on the PATH", "install git")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_GIT:
        return Finding("git", "missing", version, "install git 2.22 or newer")
    return Finding("git", "ok", version)


def uv() -> Finding:
    """uv installs what functions require; it comes with fnsync."""
    beside = Path(sys.executable).with_name("uv")
    version = _version(str(beside) if beside.exists() else "uv")
    if version is None:
        return Finding("uv", "warning", "not found: functions with requirements will fail", "pip install uv")
    return Finding("uv", "ok", version.removeprefix("uv "))


def inotify() -> Finding:
    """The kernel tells of changes, for as many folders as a large project has."""
    limits = {}
    for name in ("max_user_watches", "max_user_instances"):
        try:
            limits[name] = int(Path("/proc/sys/fs/inotify", name).read_text())
        except (OSError, ValueError):
            return Finding("inotify", "warning", "not available: changes are found by polling, within a second")
    detail = f"{limits['max_user_watches']} watches, {limits['max_user_instances']} instances"
    for name, enough in (("max_user_watches", ENOUGH_WATCHES), ("max_user_instances", ENOUGH_INSTANCES)):
        if limits[name] < enough:
            return Finding("inotify", "warning", detail, f"sudo sysctl fs.inotify.{name}={enough}")
    return Finding("inotify", "ok", detail)


def no_new_privs() -> Finding:
    """Workers cannot gain rights, for example through a setuid program."""
    name = "no_new_privs"
    if sys.platform != "linux":
        return Finding(name, "warning", f"not available on {sys.platform}")
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) < 0:
        return Finding(name, "warning", f"not available: {os.strerror(ctypes.get_errno())}", "Linux 3.5 has it")
    return Finding(name, "ok", "available")


def landlock() -> Finding:
    """Workers see only the files they need. The kernel tells which version of it there is."""
    if sys.platform != "linux":
        return Finding("landlock", "warning", f"not available on {sys.platform}")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    version = libc.syscall(
        ctypes.c_long(_LANDLOCK_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(_LANDLOCK_VERSION_FLAG)
    )
    if version > 0:
        tcp = "files and TCP" if version >= 4 else "files"
        return Finding("landlock", "ok", f"version {version}: {tcp}")
    reason = {
        errno.ENOSYS: "the kernel was built without it",
        errno.EOPNOTSUPP: "it was switched off when the kernel was started",
    }.get(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return Finding("landlock", "warning", f"not available: {reason}", "Linux 5.13 has it; some containers hide it")


def cgroup() -> Finding:
    """With a cgroup of its own to write to, memory limits are the kernel's; else they are watched."""
    own = _own_cgroup()
    if own is None:
        return Finding("cgroup", "warning", "no cgroup v2: memory limits are watched by the server")
    controllers = _text(own / "cgroup.controllers").split()
    if "memory" not in controllers or not os.access(own / "cgroup.subtree_control", os.W_OK):
        why = "not writable" if "memory" in controllers else "without the memory controller"
        return Finding("cgroup", "warning", f"{own} is {why}: memory limits are watched by the server")
    return Finding("cgroup", "ok", f"{own} is writable")


def _own_cgroup() -> Path | None:
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        if line.startswith("0::"):
            folder = Path("/sys/fs/cgroup") / line[3:].lstrip("/")
            return folder if (folder / "cgroup.controllers").exists() else None
    return None


# ---- the project -----------------------------------------------------------------------------------------


def functions_folder(config: Config) -> Finding:
    """The functions folder can be read; it says whether it lies in a git repository."""
    folder = config.functions
    if not folder.is_dir():
        return Finding("functions", "missing", f"{folder} is not there", "`fnsync init DIR` makes a project")
    if not os.access(folder, os.R_OK | os.X_OK):
        return Finding("functions", "missing", f"{folder} cannot be read", f"chmod u+rx {folder}")
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return Finding("functions", "ok", f"{folder}, in no git repository yet: the first start makes one")
    return Finding("functions", "ok", str(folder))


def data_folder(config: Config) -> Finding:
    """The data folder can be written to and has room."""
    folder = next(path for path in (config.data, *config.data.parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as exc:
        return Finding("data", "missing", f"{folder} cannot be written to: {exc.strerror}", f"chown or chmod {folder}")
    detail = f"{config.data}, {free // 1024**2} MB free"
    if free < 512 * 1024**2:
        return Finding("data", "warning", detail, "make room: snapshots and environments lie there")
    return Finding("data", "ok", detail)


def port(config: Config) -> Finding:
    """The server's port is free, or taken by the server itself."""
    host, number = config.server.host, config.server.port
    address = f"{host}:{number}"
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            pid = _server_pid(config)
            if pid:
                return Finding("port", "ok", f"{address}, the server with pid {pid} listens there")
            return Finding(
                "port", "missing", f"{address} is taken by another program", "FNSYNC_SERVER__PORT=… or stop it"
            )
        return Finding("port", "missing", f"{address}: {exc.strerror or exc}", "see server.host and server.port")
    return Finding("port", "ok", f"{address} is free")


def _server_pid(config: Config) -> int | None:
    """The pid of the server that runs on this data folder, if it is alive."""
    try:
        pid = int(json.loads((config.data / "server.json").read_text())["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    try:
        os.kill(pid, 0)
    except PermissionError:  # alive, and another user's
        return pid
    except (OSError, OverflowError):
        return None
    return pid


def index(config: Config) -> Finding:
    """The index is whole."""
    return _database("index", config.data / "index.sqlite3", "delete it: the next start makes it again")


def state(config: Config) -> Finding:
    """The state database is whole."""
    return _database("state", config.data / "state.sqlite3", "restore it from a backup: it holds users and tokens")


def secrets(config: Config) -> Finding:
    """The secrets of webhooks and notifications are there; none is shown."""
    named = [(f"webhook {one.name}", one.secret) for one in config.webhooks]
    named += [(f"notification {one.name}", one.secret) for one in config.notifications if one.secret is not None]
    missing = []
    for name, secret in named:
        try:
            secret.value(os.environ)
        except ConfigError as exc:
            missing.append(f"{name}: {exc.message}")
    if missing:
        return Finding("secrets", "missing", "; ".join(missing), "the server does not start without them")
    unsigned = [one.name for one in config.notifications if one.secret is None]
    if unsigned:
        return Finding(
            "secrets", "warning", f"messages to {', '.join(unsigned)} are not signed", "notifications[].secret"
        )
    return Finding("secrets", "ok", f"{len(named)} of webhooks and notifications" if named else "none is named")


def _database(name: str, file: Path, way_out: str) -> Finding:
    if not file.exists():
        return Finding(name, "ok", "not made yet")
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as exc:
        result = str(exc)
    if result != "ok":
        return Finding(name, "missing", f"{file}: {result}", way_out)
    return Finding(name, "ok", f"{file}, {file.stat().st_size // 1024} KB")


MACHINE: tuple[Callable[[], Finding], ...] = (python, git, uv, inotify, no_new_privs, landlock, cgroup)
PROJECT: tuple[Callable[[Config], Finding], ...] = (functions_folder, data_folder, port, index, state, secrets)


def _version(program: str) -> str | None:
    try:
        found = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
