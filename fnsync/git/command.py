"""Runs git. The one door for its failures: each is a RepositoryError with what git said and the way out.

Commands are lists of arguments. They ask no one for a password, take no lock to read, and answer in English.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fnsync.errors import RepositoryError

#: How much of the output is read at once.
PIECE_BYTES = 1 << 20
#: How much of what git says goes into an error.
SAID_BYTES = 4096
#: What a git hook or alias that started us leaves in the environment; it would send git to another repository.
_PLACES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
)
_SETTINGS = {
    "LC_ALL": "C",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "GIT_PAGER": "cat",
}
#: A repository's own configuration must not make reading it run programs.
_OPTIONS = ("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")


def run(folder: Path, *arguments: str, allowed: tuple[int, ...] = (0,)) -> tuple[int, bytes]:
    """Run git in `folder`; returns exit code and output. Raises RepositoryError for a code not in `allowed`."""
    try:
        done = subprocess.run(
            _line(folder, arguments), stdin=subprocess.DEVNULL, capture_output=True, env=_environment(), check=False
        )
    except OSError as exc:
        raise _not_started(folder, exc) from exc
    if done.returncode not in allowed:
        raise _failed(folder, arguments, done.returncode, done.stderr)
    return done.returncode, done.stdout


def fields(folder: Path, *arguments: str) -> Iterator[bytes]:
    """Run git and yield what stands between the NULs of its output, as it comes. Raises RepositoryError."""
    with tempfile.TemporaryFile() as said:  # a pipe that nobody reads meanwhile would hold git up when it is full
        try:
            process = subprocess.Popen(
                _line(folder, arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                env=_environment(),
            )
        except OSError as exc:
            raise _not_started(folder, exc) from exc
        assert process.stdout is not None
        try:
            rest = b""
            while piece := process.stdout.read(PIECE_BYTES):
                *whole, rest = (rest + piece).split(b"\0")
                yield from whole
            if rest:
                yield rest
            if process.wait():
                said.seek(0)
                raise _failed(folder, arguments, process.returncode, said.read(SAID_BYTES))
        finally:
            if process.poll() is None:  # the caller wants no more
                process.kill()
            process.stdout.close()
            process.wait()


def _line(folder: Path, arguments: tuple[str, ...]) -> list[str]:
    return ["git", "-C", str(folder), *_OPTIONS, *arguments]


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in _PLACES}
    return inherited | _SETTINGS


def _not_started(folder: Path, exc: OSError) -> RepositoryError:
    if isinstance(exc, FileNotFoundError):
        return RepositoryError("git is not installed, or not on the PATH", hint="install git 2.22 or newer")
    return RepositoryError(f"git cannot be run in {folder}: {exc}")


def _failed(folder: Path, arguments: tuple[str, ...], code: int, stderr: bytes) -> RepositoryError:
    said = stderr.decode(errors="replace").strip()
    if "dubious ownership" in said:
        return RepositoryError(
            f"git does not trust {folder}: it belongs to another user than the server runs as",
            hint=f"as the server's user: git config --global --add safe.directory '{folder}'; or change the owner",
        )
    if "not a git repository" in said:
        return RepositoryError(
            f"{folder} is no git repository, or a broken one: {said}", hint=f"see what `git -C '{folder}' fsck` says"
        )
    return RepositoryError(f"git {arguments[0]} failed in {folder} with exit code {code}: {said or 'no message'}")
