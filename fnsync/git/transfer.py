"""Runs git commands that speak to a remote: with progress, within a time and a size, and ended by `stop`.

Whatever git or the remote says gets out of here only without credentials, and without what terminals obey.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fnsync.errors import Draining, FetchFailed, FetchReason, FnsyncError, NotWritable, SourceRefused
from fnsync.git import command
from fnsync.git.access import GitAccess
from fnsync.git.refusals import refusal
from fnsync.git.remote import SILENT

#: What git may speak to remotes; helpers of other names run programs.
_PROTOCOLS = "file:git:http:https:ssh"
_OPTIONS = (
    "-c",
    "protocol.version=2",
    "-c",
    "protocol.ext.allow=never",
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
)
#: How often time and size are looked at, in seconds.
_LOOK_S = 0.1
#: How much of what is said is kept: its end.
_SAID_CHARS = 4096
_PIECE_BYTES = 1 << 16
_PROGRESS = re.compile(r"(?:remote: )?(\w[\w -]*?):\s+(?:(\d{1,3})% \(|\d+(?:, done\.)?)")

#: Phase and per cent, where there are such.
OnProgress = Callable[[str, int | None], None]


#: Whatever git itself is set up with.
OPEN = GitAccess()


@dataclass(frozen=True, slots=True)
class Bounds:
    """What holds for all commands of one fetch."""

    #: As `time.monotonic` counts.
    until: float
    limit_s: float
    max_bytes: int


class Stopper:
    """Ends the command that runs, and has none begin any more; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.is_stopped = False

    def stop(self) -> None:
        with self._lock:
            self.is_stopped = True
            if self._process is not None:
                kill(self._process)

    def began(self, process: subprocess.Popen[bytes] | None) -> None:
        with self._lock:
            self._process = process
            if process is not None and self.is_stopped:
                kill(process)

    def check(self) -> None:
        """Raises Draining once it is stopped."""
        if self.is_stopped:
            raise Draining("the fetch was ended")


@dataclass(frozen=True, slots=True)
class Remote:
    """One remote for the time of one fetch, its URL, and who wants something of it."""

    url: str
    access: GitAccess
    bounds: Bounds
    stopper: Stopper
    #: A descriptor that git gets, so that others see that it runs.
    keep: int
    on_progress: OnProgress | None = None
    #: Called with the process group of each git that is started.
    on_start: Callable[[int], None] | None = None

    #: What it is called in commands. Not `origin`: that may be somebody's.
    NAME = "fnsync"

    @property
    def shown(self) -> str:
        """The URL for people."""
        return self.clean(self.url)

    def clean(self, text: str) -> str:
        """What git said, for people."""
        shown = self.access.redacted(text, self.url)
        return "".join(char if char.isprintable() or char == "\n" else " " for char in shown).strip()

    def run(
        self, repository: Path, *arguments: str, stdin: bytes | None = None, output: IO[bytes] | None = None
    ) -> command.Done:
        """Run a command in a bare repository, whatever it comes to. What it answers goes to `output`, if given.

        Raises FetchFailed when it takes too long, SourceRefused when too much comes, Draining when it is stopped.
        """
        self.stopper.check()
        line = (*self.access.options, *_OPTIONS, "-c", f"remote.{self.NAME}.url={self.url}", "--git-dir=.", *arguments)
        variables = SILENT | dict(self.access.variables) | {"GIT_ALLOW_PROTOCOL": _PROTOCOLS}
        with tempfile.TemporaryFile() as kept, tempfile.TemporaryFile() as given:
            answer = output or kept
            given.write(stdin or b"")
            given.seek(0)
            process = command.begin(
                repository, *line, stdin=given, stdout=answer, variables=variables, keep=(self.keep,)
            )
            try:
                if self.on_start is not None:
                    self.on_start(process.pid)
                self.stopper.began(process)
                said = self._follow(process, repository, answer)
            finally:
                self.stopper.began(None)
                kill(process)
                process.wait()
                if process.stderr is not None:
                    process.stderr.close()
            self.stopper.check()
            kept.seek(0)
            return command.Done(process.returncode, kept.read(), self.clean(said))

    def _follow(self, process: subprocess.Popen[bytes], repository: Path, output: IO[bytes]) -> str:
        """Read what a process says until it ends; returns it without the progress. Raises as `run`."""
        assert process.stderr is not None
        heard = _Heard(process.stderr, self.on_progress)
        before = _pack_bytes(repository)
        is_open = True
        while True:
            if is_open:
                is_open = heard.listen(_LOOK_S)
            else:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_S)
            self._check_size(_pack_bytes(repository) - before + os.fstat(output.fileno()).st_size)
            # What it has started may hold the pipe open.
            if process.poll() is not None and not (is_open and heard.is_more):
                return heard.said
            if time.monotonic() > self.bounds.until:
                raise FetchFailed(
                    f"{self.shown} did not deliver within {self.bounds.limit_s:g} s; the fetch was ended",
                    reason="timeout",
                    hint="see whether it can be reached from here, or raise sync.timeout",
                )

    def _check_size(self, brought: int) -> None:
        if brought > self.bounds.max_bytes:
            raise SourceRefused(
                f"a fetch from {self.shown} brings more than the {self.bounds.max_bytes:,} bytes that are taken "
                f"({brought:,} so far); it was ended",
                hint="fetch less of its history with the source's depth, or raise sync.max_size",
            )

    # ---- failures ------------------------------------------------------------------------------------------

    def failure(self, what: str, done: command.Done) -> FnsyncError:
        """What a run that failed is told as; `what` could not be done."""
        said = done.said or f"git ended with exit code {done.code}"
        foreseen = command.failure(Path(), ("fetch",), command.Done(done.code, b"", said))
        if isinstance(foreseen, NotWritable):
            return foreseen
        reason = reason_of(said) or "unreachable"
        hints: dict[FetchReason, str] = {
            "refused": "see the source's auth, and what it may read",
            "unreachable": "see whether it can be reached from here, and whether the address is right",
            "corrupt": "see what `git fsck` says there; it is tried again",
        }
        return FetchFailed(f"{what} from {self.shown}: {said}", reason=reason, hint=hints.get(reason))


#: What git, ssh and servers say, by what it means; the first that fits counts.
_SAID: dict[FetchReason, tuple[str, ...]] = {
    "refused": ("Access denied|terminal prompts disabled|Invalid (credentials|username or password)|not authorized",),
    "unreachable": (
        "early EOF|RPC failed|hung up|disconnect|recv failure|Connection (refused|reset|timed out|closed)",
        "unable to (access|connect|look up)|Could not resolve|Failed to connect|No route to host|unreachable",
        "SSL|TLS|certificate|not appear to be a git repo|repository .* not found|does not exist",
        "transport '.*' not allowed|Could not read from remote|Unable to find remote helper",
    ),
    "corrupt": (
        "index-pack|unpack-objects|inflate|corrupt|bad (pack|line length|band|object)|pack (signature|has)",
        "protocol error|fsck|invalid server response|(unexpected|expected) .*packet|fetch-pack: |remote error",
        "not receive expected object|not send all necessary objects|missing necessary objects",
    ),
}
_REASONS = {reason: re.compile("|".join(said), re.IGNORECASE) for reason, said in _SAID.items()}


def reason_of(said: str) -> FetchReason | None:
    """What kind of failure git tells; None: none that has to do with the remote."""
    if refusal(said) is not None:
        return "refused"
    return next((reason for reason, pattern in _REASONS.items() if pattern.search(said)), None)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session of its own, with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class _Heard:
    """What a process says: the progress is told on, the rest kept."""

    def __init__(self, pipe: IO[bytes], on_progress: OnProgress | None) -> None:
        self.said = ""
        #: Whether the last `listen` brought something.
        self.is_more = False
        self._descriptor = pipe.fileno()
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._on_progress = on_progress
        self._rest = b""
        self._told: tuple[str, int | None] | None = None

    def listen(self, limit_s: float) -> bool:
        """Take what comes within a time; False when nothing comes any more."""
        self.is_more = bool(self._poll.poll(limit_s * 1000))
        if not self.is_more:
            return True
        piece = os.read(self._descriptor, _PIECE_BYTES)
        *lines, self._rest = re.split(rb"[\r\n]", self._rest[-_PIECE_BYTES:] + piece)
        if not piece:
            lines, self._rest = [self._rest], b""
        for line in lines:
            self._take(line.decode(errors="replace"))
        return bool(piece)

    def _take(self, line: str) -> None:
        found = _PROGRESS.match(line)
        if found is None:
            if line.strip():
                self.said = f"{self.said}{line.rstrip()}\n"[-_SAID_CHARS:]
            return
        told = (found[1].lower(), None if found[2] is None else min(int(found[2]), 100))
        if self._on_progress is not None and told != self._told:
            self._told = told
            self._on_progress(*told)


def _pack_bytes(repository: Path) -> int:
    """The size of all packs, those that are being written too."""
    total = 0
    with suppress(FileNotFoundError), os.scandir(repository / "objects" / "pack") as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                total += entry.stat(follow_symlinks=False).st_size
    return total
