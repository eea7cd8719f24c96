"""The zygote: a process of one environment with common imports done, which forks workers.

Single-threaded and without an event loop, so that a fork copies no lock in a bad state. It polls two
descriptors: the control socket to the server and the wake-up pipe of SIGCHLD. When the server goes away the
socket ends, and the zygote takes everything it started with it.
"""

from __future__ import annotations

import errno
import gc
import importlib
import inspect
import os
import select
import signal
import socket
from typing import NoReturn

import msgspec

from fnsync.runtime import wire
from fnsync.worker import linux, process

#: What nearly every function imports; loaded once here, shared by all workers.
PRELOADED = (
    "asyncio",
    "concurrent.futures",
    "datetime",
    "json",
    "logging",
    "random",
    "re",
    "typing",
    "uuid",
    "uvloop",
    "pydantic",
    "starlette.requests",
    "starlette.responses",
    "fastapi",
    "httpx",
    "aiohttp",
    "requests",
    "fnsync.worker.session",
    # What functions import of open_webui most; found by its other name, but made here, where its pages are shared.
    *(
        f"fnsync.worker.compat.open_webui.{name}"
        for name in (
            "main",
            "models.chats",
            "models.files",
            "models.functions",
            "models.models",
            "models.users",
            "storage.provider",
            "utils.chat",
            "utils.misc",
        )
    ),
)
#: How long after a fork the next spare is made, in milliseconds: the worker just forked goes first.
SPARE_MS = 25


def main(control_fd: int) -> NoReturn:
    """Serve the control socket until the server is gone."""
    linux.name_process("fnsync-zygote")
    linux.become_subreaper()
    control = socket.socket(fileno=control_fd)
    missing = preload()
    zygote = Zygote(control)
    zygote.send(wire.ZygoteReady(wire.PROTOCOL, os.getpid(), missing))
    zygote.serve()
    zygote.end()


def preload() -> dict[str, str]:
    """Import what workers share. Returns what could not be imported, with the reason."""
    missing = {}
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except Exception as exc:  # a broken package of an environment must not cost the other functions
            missing[name] = f"{type(exc).__name__}: {exc}"
    warm()
    # Objects that live now are never looked at by a worker's collector, so their pages stay shared.
    gc.collect()
    gc.freeze()
    return missing


def warm() -> None:
    """Have lazily made things made here, where workers share them: pydantic's schema code, codecs, line caches."""
    try:
        from pydantic import BaseModel, Field
    except ImportError:
        return  # told in `missing` already

    class Valves(BaseModel):
        number: int = Field(default=1, description="a field with a description")
        text: str = ""
        flag: bool = False
        option: str | None = None

    Valves(number=2).model_dump()
    Valves.model_json_schema()
    inspect.signature(Valves.model_dump)
    wire.Decoder(wire.ToWorker)
    msgspec.json.decode(msgspec.json.encode({"warm": [1, 2.0, None, "text"]}))


class Zygote:
    """The loop of the process."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._decode = msgspec.msgpack.Decoder(wire.ToZygote).decode
        self._workers: set[int] = set()
        #: Pid of a process that waits to become a worker, and the socket that tells it to.
        self._spare: tuple[int, socket.socket] | None = None
        self._wakeup, wake = os.pipe()
        for descriptor in (self._wakeup, wake):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # A terminal's Ctrl-C goes to the whole group: the server decides how to stop.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: self.end())

    def send(self, frame: wire.Frame) -> None:
        try:
            self._control.send(msgspec.msgpack.encode(frame))
        except OSError:
            self.end()

    def serve(self) -> None:
        """Fork what is asked for and report who exited, until the control socket ends."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        while True:
            events = poll.poll(SPARE_MS if self._spare is None else None)
            if not events:
                self.fork_spare()
            for descriptor, _ in events:
                if descriptor == self._wakeup:
                    os.read(self._wakeup, 4096)
                    self.reap()
                elif not self.take():
                    return

    def take(self) -> bool:
        """Handle one message. False: the server is gone."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, process.MESSAGE_BYTES, 2)
        except ConnectionResetError:  # the server died with messages of ours unread
            return False
        if not data:
            return False
        fork = self._decode(data)
        try:
            self.send(wire.Forked(fork.id, self.hand_over(data, descriptors)))
        except OSError as exc:
            self.send(wire.Forked(fork.id, 0, f"fork: {exc.strerror}"))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def hand_over(self, data: bytes, descriptors: list[int]) -> int:
        """Have the spare process become the worker; returns its pid. Raises OSError."""
        for _ in range(2):
            pid, door = self._spare or self.fork_spare()
            self._spare = None
            with door:
                try:
                    socket.send_fds(door, [data], descriptors)
                except BrokenPipeError:
                    continue  # the spare was killed meanwhile
            self._workers.add(pid)
            return pid
        raise BrokenPipeError(errno.EPIPE, "forked processes end at once")

    def fork_spare(self) -> tuple[int, socket.socket]:
        """Fork the next worker ahead of its need: the first call of a revision then does not wait for it."""
        door, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            process.run(parent, inner)
        inner.close()
        self._spare = pid, door
        return self._spare

    def reap(self) -> None:
        """Collect who exited; what a worker left running dies with it."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._spare is not None and pid == self._spare[0]:
                self._spare[1].close()
                self._spare = None
            if pid not in self._workers:
                continue  # a spare, or an orphan of a worker, which came here because this process is a subreaper
            self._workers.discard(pid)
            self.kill_strays(pid)
            self.send(wire.Exited(pid, os.waitstatus_to_exitcode(status)))

    def kill_strays(self, group: int) -> None:
        """Kill what a dead worker started: its process group, and orphans that fell to us, but not those of others."""
        linux.kill_group(group)
        spare = self._spare[0] if self._spare is not None else 0
        for pid in linux.children():
            if pid not in self._workers and pid != spare and linux.session_of(pid) not in self._workers:
                linux.kill(pid)

    def end(self) -> NoReturn:
        """Kill everything below this process, then exit."""
        signal.set_wakeup_fd(-1)
        for _ in range(100):  # a fork bomb may refill the list for a while
            pids = linux.children()
            if not pids:
                break
            for pid in pids:
                linux.kill_group(pid)
                linux.kill(pid)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                break
        os._exit(0)
