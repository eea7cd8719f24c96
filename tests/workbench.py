"""An Executor with functions written on the spot: real zygotes, workers and sockets, without HTTP around them.

Tests that use it are coroutines and run on one uvloop per module (the `anyio` marker).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import textwrap
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest

from fnsync.model import (
    Frontmatter,
    FunctionId,
    Kind,
    Limits,
    LiveFunction,
    Manifest,
    Permissions,
    Revision,
    Settings,
)
from fnsync.runtime import wire
from fnsync.runtime.asks import Listener
from fnsync.runtime.call import Invocation, RunningCall
from fnsync.runtime.environments import Environments, RequirementsPolicy
from fnsync.runtime.executor import Executor, ExecutorOptions
from fnsync.runtime.hosting import Host

WAIT_S = 20.0
MB = 2**20
#: What a neighbour's call may take while another function misbehaves, in seconds; far above what it takes when idle.
NEIGHBOUR_S = 2.0

T = TypeVar("T")

NEIGHBOUR = """
class Pipe:
    def pipe(self, body):
        return "still here"
"""


class Bench:
    """Makes functions and calls them."""

    def __init__(
        self,
        folder: Path,
        *,
        environ: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
        idle_workers: int = 32,
        decrypt: Callable[[str], str] | None = None,
    ) -> None:
        """`environ`: what functions may be given of the server's environment; `variables`: what uv sees; `decrypt`:
        what `{secret: TEXT}` stands for."""
        self.folder = folder
        self.scratch = folder / "scratch"
        environments = Environments(folder / "environments", RequirementsPolicy(), variables or os.environ)
        options = ExecutorOptions(self.scratch, idle_workers)
        self.executor = Executor(environments, self._snapshot, environ or {}, options, decrypt)

    async def __aenter__(self) -> Self:
        await self.executor.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.executor.close()

    def _snapshot(self, revision: Revision) -> Path:
        return self.folder / "snapshots" / revision

    def function(
        self,
        source: str,
        *,
        id: str = "probe",
        files: Mapping[str, str] | None = None,
        valves: Mapping[str, Any] | None = None,
        env: tuple[str, ...] = (),
        requirements: tuple[str, ...] = (),
        **limits: Any,
    ) -> LiveFunction:
        """Write a snapshot and return the function. `files`: place in the snapshot -> content."""
        parts = {"function/main.py": source, **(files or {})}
        parts = {place: textwrap.dedent(text) for place, text in parts.items()}
        revision = Revision(hashlib.sha256(json.dumps([id, parts], sort_keys=True).encode()).hexdigest())
        for place, text in parts.items():
            file = self._snapshot(revision) / place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return LiveFunction(
            id=FunctionId(id),
            name=id,
            kind=Kind.PIPE,
            revision=revision,
            path=f"{id}.py",
            entry="function/main.py",
            manifest=Manifest(Kind.PIPE),
            frontmatter=Frontmatter(requirements=requirements),
            settings=Settings(valves=valves or {}, permissions=Permissions(env=env)),
            limits=Limits(**{"timeout_s": 10.0, **limits}),
            active=True,
            environment="base",
            updated_at=0,
            shown={"function/main.py": f"{id}.py", **{place: place.partition("/")[2] for place in files or {}}},
        )

    def running(self, function: LiveFunction, **given: Any) -> Any:
        """The context manager around a call; see `invocation`."""
        return self.executor.call(function, invocation(**given))

    async def call(self, function: LiveFunction, **given: Any) -> Any:
        """Return the result of a plain call: None, str, what JSON says, or (status, media type, body)."""
        async with self.running(function, **given) as call:
            first = await call.first()
            assert isinstance(first, wire.Reply), f"a stream came where one result was expected: {first}"
            return result(first)

    async def items(self, function: LiveFunction, **given: Any) -> list[Any]:
        """Return a stream's items: str as they are, JSON decoded."""
        async with self.running(function, stream=True, **given) as call:
            first = await call.first()
            assert isinstance(first, wire.Begin), f"one result came where a stream was expected: {first}"
            return await rest(call)

    async def neighbour(self) -> LiveFunction:
        """A function that was called before."""
        function = self.function(NEIGHBOUR, id="neighbour")
        assert await self.call(function) == "still here"
        return function

    async def neighbour_answers(self, function: LiveFunction, while_: asyncio.Task[T]) -> T:
        """Call the neighbour again and again until the task is done; return, or raise, what the task does."""
        calls = 0
        while not while_.done() or not calls:
            began = time.monotonic()
            answer = await self.call(function)
            took = time.monotonic() - began
            assert answer == "still here"
            assert took < NEIGHBOUR_S, f"a neighbour's call took {took:.1f} s"
            calls += 1
            await asyncio.sleep(0.02)
        return await while_

    def log(self, id: str = "probe") -> list[str]:
        return [line.text for line in self.executor.logs.tail(id)]

    def pids(self, function: LiveFunction) -> list[int]:
        """The worker processes of a revision."""
        return [
            pid
            for pid, entry in self.executor.processes.workers.items()
            if (entry.worker.function, entry.worker.revision) == (function.id, function.revision)
        ]


def invocation(
    *,
    body: Any = ...,
    handler: str = "pipe",
    stream: bool = False,
    context: Mapping[str, Any] | None = None,
    user_valves: Mapping[str, Any] | None = None,
    events: bool = False,
    listener: Listener | None = None,
    host: Host | None = None,
) -> Invocation:
    """An Invocation of a chat request, if no other body is given; None: without a body."""
    if body is ...:
        body = {"model": "probe", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    data = b"" if body is None else json.dumps(body).encode()
    return Invocation(handler, data, stream, context or {}, user_valves or {}, events, listener=listener, host=host)


def result(reply: wire.Reply) -> Any:
    match reply.kind:
        case "none":
            return None
        case "text":
            return reply.data.decode()
        case "json":
            return json.loads(reply.data)
    assert reply.head is not None
    return reply.head.status, reply.head.media_type, reply.data


async def rest(call: RunningCall) -> list[Any]:
    """The items of a stream that has begun."""
    found: list[Any] = []
    async for items in call.chunks():
        found += [_item(item) for item in items]
    return found


def _item(item: str | bytes) -> Any:
    if isinstance(item, str):
        return item
    return {"event": json.loads(item[1:])} if item.startswith(wire.EMITTED) else json.loads(item)


async def until(what: str, ask: Callable[[], T], timeout_s: float = WAIT_S) -> T:
    """Return the first true answer of `ask`; fail, saying `what` did not come."""
    end = time.monotonic() + timeout_s
    while not (answer := ask()):
        if time.monotonic() > end:
            pytest.fail(f"{what} did not come within {timeout_s:g} s", pytrace=False)
        await asyncio.sleep(0.02)
    return answer


async def within(seconds: float, what: str, work: Awaitable[T]) -> T:
    """Return what `work` gives; fail if it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        pytest.fail(f"{what} took longer than {seconds:g} s", pytrace=False)


# ---- processes -----------------------------------------------------------------------------------------------------


def rss(pid: int) -> int:
    """Resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def own_memory(pid: int) -> int:
    """What only this process has in memory (not shared with its zygote), in bytes."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return sum(int(fields[name].split()[0]) for name in ("Private_Clean", "Private_Dirty")) * 1024


def alive(pid: int) -> bool:
    """Whether a process runs; a dead one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def descendants(pid: int) -> set[int]:
    """All processes below a process, whatever their session."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found
