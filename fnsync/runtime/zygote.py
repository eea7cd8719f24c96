"""The server's handle for the zygote of one environment."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from fnsync.runtime import wire
from fnsync.runtime.environments import Environment

log = structlog.get_logger()

BOOTSTRAP = Path(__file__).resolve().parent.parent / "worker" / "bootstrap.py"
#: Above any message of a zygote, in bytes.
MESSAGE_BYTES = 256 * 1024
#: Where a zygote's own output goes: the server's standard output may be a terminal or a pipe that people read.
STDERR = 2
#: How long a zygote may take to go away, in seconds.
STOP_S = 5.0


class ZygoteGone(Exception):
    """The zygote's process ended."""


class Zygote:
    """Started once per environment; forks workers and tells who exited."""

    def __init__(self, environment: Environment, on_exit: Callable[[int, int], None]) -> None:
        self.environment = environment
        self.pid = 0
        self.alive = False
        #: When it last had a worker (monotonic).
        self.used_at = time.monotonic()
        #: Packages that could not be imported ahead.
        self.missing: dict[str, str] = {}
        self._on_exit = on_exit
        self._process: subprocess.Popen[bytes] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._control: socket.socket | None = None
        self._forks: dict[int, asyncio.Future[int]] = {}
        self._next = 0
        self._outbox: list[tuple[bytes, list[int]]] = []
        self._decode = msgspec.msgpack.Decoder(wire.FromZygote).decode
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Forks learn of a failed start themselves; nobody need look at this one.
        self.ready.add_done_callback(lambda future: future.cancelled() or future.exception())

    def start(self) -> None:
        """Start the process; forks may be asked for at once and wait until its imports are done."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [str(self.environment.python), "-I", "-u", str(BOOTSTRAP), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=scrubbed_environment(),
                stdin=subprocess.DEVNULL,
                stdout=STDERR,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self.alive = True
        ours.setblocking(False)
        self._control = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._on_readable)

    async def fork(
        self,
        channel: socket.socket,
        output_fd: int,
        *,
        environment: dict[str, str],
        address_space_bytes: int,
        folder: Path,
    ) -> int:
        """Fork a worker that owns `channel` and `output_fd`; returns its pid. Raises ZygoteGone, OSError."""
        if not self.alive:
            raise ZygoteGone(f"the zygote of environment {self.environment.name} is gone")
        self._next += 1
        fork = wire.Fork(self._next, environment, address_space_bytes, str(folder))
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._forks[fork.id] = answer
        # Duplicates: the caller closes its own when it likes, the message may wait.
        descriptors = [os.dup(channel.fileno()), os.dup(output_fd)]
        self._outbox.append((msgspec.msgpack.encode(fork), descriptors))
        self._send()
        return await answer

    def _send(self) -> None:
        control = self._control
        while self._outbox and control is not None:
            data, descriptors = self._outbox[0]
            try:
                socket.send_fds(control, [data], descriptors)
            except BlockingIOError:
                asyncio.get_running_loop().add_writer(control.fileno(), self._on_writable)
                return
            except OSError:
                self._gone()
                return
            self._outbox.pop(0)
            for descriptor in descriptors:
                os.close(descriptor)

    def _on_writable(self) -> None:
        if self._control is not None:
            asyncio.get_running_loop().remove_writer(self._control.fileno())
            self._send()

    def _on_readable(self) -> None:
        while self._control is not None:
            try:
                data = self._control.recv(MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._gone()
                return
            self._on_frame(self._decode(data))

    def _on_frame(self, frame: wire.FromZygote) -> None:
        match frame:
            case wire.Forked():
                answer = self._forks.pop(frame.id, None)
                if answer is not None and not answer.done():
                    if frame.error is None:
                        answer.set_result(frame.pid)
                    else:
                        answer.set_exception(OSError(frame.error))
            case wire.Exited():
                self._on_exit(frame.pid, frame.status)
            case wire.ZygoteReady():
                self.missing = frame.missing
                if frame.missing:
                    log.warning("zygote_imports_missing", environment=self.environment.name, missing=frame.missing)
                if not self.ready.done():
                    self.ready.set_result(None)

    def _gone(self) -> None:
        if not self.alive:
            return
        self.alive = False
        self._close_control()
        gone = ZygoteGone(f"the zygote of environment {self.environment.name} ended")
        for answer in self._forks.values():
            if not answer.done():
                answer.set_exception(gone)
        self._forks.clear()
        if not self.ready.done():
            self.ready.set_exception(gone)
        if self._process is not None:
            self._ending = asyncio.create_task(asyncio.to_thread(_wait, self._process))

    def _close_control(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(control.fileno())
            loop.remove_writer(control.fileno())
            control.close()
        for _, descriptors in self._outbox:
            for descriptor in descriptors:
                os.close(descriptor)
        self._outbox.clear()

    async def stop(self) -> None:
        """End the process and all it started; returns when it is gone."""
        self._gone()
        if self._ending is not None:
            await self._ending


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def scrubbed_environment() -> dict[str, str]:
    """The variables every worker may see: how to find programs and libraries, and how to write text."""
    kept = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
    variables = {name: os.environ[name] for name in kept if name in os.environ}
    return {"PATH": os.defpath, "PYTHONUNBUFFERED": "1", **variables}
