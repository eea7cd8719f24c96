"""Runs git. The one door for its failures: each is a RepositoryError with what git said and the way out.

Commands are lists of arguments. They ask no one for a password, take no lock to read, and answer in English. Hooks
run only where a command asks for them.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, cast

from fnsync.errors import CommitRefused, FnsyncError, NotWritable, RepositoryError

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
#: The server's own variables, keys and tokens among them: no business of hooks and filters.
OURS = "FNSYNC_"
_SETTINGS = {
    "LC_ALL": "C",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "GIT_PAGER": "cat",
}
#: A repository's own configuration must not make reading it run programs.
_NO_MONITOR = ("-c", "core.fsmonitor=false")
_OPTIONS = (*_NO_MONITOR, "-c", f"core.hooksPath={os.devnull}")
#: What git says when the disk takes nothing.
_NOT_WRITABLE = ("No space left on device", "Out of diskspace", "Read-only file system", "Disk quota exceeded")
_FILTER = re.compile(r"external filter .* failed|(clean|smudge) filter '.*' failed", re.DOTALL)
_VERB = re.compile(r"[a-z][a-z-]*")


class TookTooLong(RepositoryError):
    """A run was ended because of its time limit."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a run of git ended."""

    code: int
    output: bytes
    #: What it said on standard error, bounded.
    said: str


def run(
    folder: Path,
    *arguments: str,
    allowed: tuple[int, ...] = (0,),
    stdin: bytes | None = None,
    variables: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """Run git in `folder`; returns exit code and output. Raises RepositoryError for a code not in `allowed`."""
    done = attempt(folder, *arguments, stdin=stdin, variables=variables)
    if done.code not in allowed:
        raise failure(folder, arguments, done)
    return done.code, done.output


def attempt(
    folder: Path,
    *arguments: str,
    stdin: bytes | None = None,
    variables: Mapping[str, str] | None = None,
    hooks: bool = False,
    limit_s: float | None = None,
    keep: int | None = None,
    on_start: Callable[[subprocess.Popen[bytes]], None] | None = None,
) -> Done:
    """Run git in `folder`, whatever it comes to. Raises RepositoryError when it cannot be run or takes too long.

    `variables` are added to its environment. With `hooks` the repository's hooks run. After `limit_s` it is killed,
    with all that it started. `keep` is a descriptor that it and its hooks get. `on_start` gets the process, so that
    others may end it.
    """
    line = _line(folder, arguments, _NO_MONITOR if hooks else _OPTIONS)
    environment = _environment(hooks) | dict(variables or {})
    # Not pipes: what a hook leaves running would hold them open.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=output,
                stderr=said,
                env=environment,
                start_new_session=limit_s is not None,
                pass_fds=() if keep is None else (keep,),
            )
        except OSError as exc:
            raise _not_started(folder, exc) from exc
        if on_start is not None:
            on_start(process)
        try:
            process.communicate(stdin, limit_s)
        except subprocess.TimeoutExpired as exc:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise TookTooLong(
                f"git {_verb(arguments)} took longer than {limit_s:g} s in {folder} and was ended",
                hint="see whether one of the repository's hooks, or a signing program, waits for something",
            ) from exc
        output.seek(0)
        said.seek(max(0, said.seek(0, os.SEEK_END) - SAID_BYTES))
        return Done(process.returncode, output.read(), said.read().decode(errors="replace").strip())


def begin(
    folder: Path,
    *arguments: str,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    variables: Mapping[str, str] | None = None,
    keep: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start git in a session of its own; what it says comes through a pipe. Raises RepositoryError.

    The caller ends it, and reads meanwhile. `keep` are descriptors that it and all that it starts get.
    """
    try:
        return subprocess.Popen(
            _line(folder, arguments, _OPTIONS),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=_environment() | dict(variables or {}),
            start_new_session=True,
            pass_fds=keep,
        )
    except OSError as exc:
        raise _not_started(folder, exc) from exc


def end(process: subprocess.Popen[bytes]) -> None:
    """End a git that leads a session of its own, with all that it started; from any thread."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def fields(
    folder: Path, *arguments: str, variables: Mapping[str, str] | None = None, limit_s: float | None = None
) -> Iterator[bytes]:
    """Run git and yield what stands between the NULs of its output, as it comes. Raises RepositoryError, TookTooLong
    after `limit_s`."""
    with _Running(folder, arguments, subprocess.DEVNULL, variables, limit_s) as git:
        rest = b""
        while piece := git.output.read1(PIECE_BYTES):
            *whole, rest = (rest + piece).split(b"\0")
            yield from whole
        if rest:
            yield rest
        git.end()


@contextmanager
def conversation(folder: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> Iterator[Conversation]:
    """Run a git that answers what it is asked, as long as the block lasts. Raises RepositoryError."""
    with _Running(folder, arguments, subprocess.PIPE, variables) as git:
        yield Conversation(git)


class Conversation:
    """A git that answers line by line. Every method raises RepositoryError when it has ended."""

    def __init__(self, git: _Running) -> None:
        """Use `conversation`."""
        self._git = git

    def ask(self, line: bytes) -> bytes:
        """Send a line; returns the first line of the answer, without its end."""
        try:
            self._git.input.write(line + b"\n")
            self._git.input.flush()
        except BrokenPipeError:
            raise self._git.failure() from None
        answer = self._git.output.readline()
        if not answer.endswith(b"\n"):
            raise self._git.failure()
        return answer[:-1]

    def read(self, size: int) -> bytes:
        """The next `size` bytes of the answer."""
        data = self._git.output.read(size)
        if len(data) < size:
            raise self._git.failure()
        return data


class _Running:
    """A git process; it ends with the block."""

    def __init__(
        self,
        folder: Path,
        arguments: tuple[str, ...],
        stdin: int,
        variables: Mapping[str, str] | None,
        limit_s: float | None = None,
    ) -> None:
        self._folder = folder
        self._arguments = arguments
        # A pipe that nobody reads meanwhile would hold git up when it is full.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end of the block
        try:
            self._process = subprocess.Popen(
                _line(folder, arguments, _OPTIONS),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env=_environment() | dict(variables or {}),
            )
        except OSError as exc:
            self._said.close()
            raise _not_started(folder, exc) from exc
        self._limit_s = limit_s
        self._is_over = False
        self._timer = None if limit_s is None else threading.Timer(limit_s, self._expire)
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()

    def _expire(self) -> None:
        self._is_over = True
        self._process.kill()

    @property
    def input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def output(self) -> BufferedReader:
        return cast(BufferedReader, self._process.stdout)

    def end(self) -> None:
        """Wait until it ends by itself. Raises RepositoryError if it failed."""
        if self._process.wait():
            raise self.failure()

    def failure(self) -> FnsyncError:
        code = self._process.wait()
        if self._is_over:
            return TookTooLong(f"git {_verb(self._arguments)} took longer than {self._limit_s:g} s and was ended")
        self._said.seek(0)
        text = self._said.read(SAID_BYTES).decode(errors="replace").strip()
        return failure(self._folder, self._arguments, Done(code, b"", text))

    def __enter__(self) -> _Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._process.poll() is None:  # the caller wants no more
            self._process.kill()
        self._process.wait()
        self.output.close()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        self._said.close()


def _line(folder: Path, arguments: tuple[str, ...], options: tuple[str, ...]) -> list[str]:
    return ["git", "-C", str(folder), *options, *_bare(folder), *arguments]


def _bare(folder: Path) -> tuple[str, ...]:
    """A bare repository is named: git may be told not to look for one."""
    is_bare = (folder / "HEAD").is_file() and (folder / "objects").is_dir() and not (folder / ".git").exists()
    return ("--git-dir=.",) if is_bare else ()


def _environment(hooks: bool = False) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in _PLACES and not name.startswith(OURS)}
    # What hooks print is for people, so it may be any text.
    return inherited | _SETTINGS | ({"LC_ALL": "C.UTF-8"} if hooks else {})


def _verb(arguments: tuple[str, ...]) -> str:
    return next((argument for argument in arguments if _VERB.fullmatch(argument)), "")


def _not_started(folder: Path, exc: OSError) -> RepositoryError:
    if isinstance(exc, FileNotFoundError):
        return RepositoryError("git is not installed, or not on the PATH", hint="install git 2.22 or newer")
    return RepositoryError(f"git cannot be run in {folder}: {exc}")


def failure(folder: Path, arguments: tuple[str, ...], done: Done) -> FnsyncError:
    """What a run that failed is told as: a RepositoryError, NotWritable, or CommitRefused for a filter."""
    said = done.said
    if _FILTER.search(said):
        return CommitRefused(
            f"a filter of the repository fails: {said}",
            hint="see `git check-attr filter -- <file>` and `git config --get-regexp filter`, as the server's user",
        )
    if any(reason in said for reason in _NOT_WRITABLE):
        hint = "make room, or let the server's user write there"
        return NotWritable(f"git cannot write in {folder}: {said}", retry_after_s=30.0, hint=hint)
    if "dubious ownership" in said:
        return RepositoryError(
            f"git does not trust {folder}: it belongs to another user than the server runs as",
            hint=f"as the server's user: git config --global --add safe.directory '{folder}'; or change the owner",
        )
    if "not a git repository" in said:
        return RepositoryError(
            f"{folder} is no git repository, or a broken one: {said}", hint=f"see what `git -C '{folder}' fsck` says"
        )
    told = said or "no message"
    return RepositoryError(f"git {_verb(arguments)} failed in {folder} with exit code {done.code}: {told}")
