"""Functions that block, crash, leak, flood or attack: their own call gets the right error, all others go on."""

import asyncio
import contextlib
import os
import re
import signal
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from fnsync.errors import CrashLoop, FnsyncError, MemoryLimit, TimeLimit, WorkerDied
from fnsync.model import LiveFunction
from fnsync.runtime import call as calls
from fnsync.runtime import pool, wire
from fnsync.runtime import worker as workers
from tests.conftest import Project, Server, wait_for
from tests.workbench import MB, Bench, alive, descendants, rest, rss, until, within

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with Bench(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "GRACE_S", 0.2)


def source(lines: str, head: str = "", kind: str = "def") -> str:
    """A pipe that does these lines unless the body says `ok`."""
    body = textwrap.indent(textwrap.dedent(lines).strip(), " " * 8)
    return f"""
import asyncio, ctypes, os, pathlib, signal, socket, struct, subprocess, sys, threading, time
{textwrap.dedent(head)}
class Pipe:
    {kind} pipe(self, body):
        if body.get("ok"):
            return "fine"
{body}
"""


async def fails_alone(
    bench: Bench, function: LiveFunction, error: type[FnsyncError], seconds: float = 8, **given: Any
) -> FnsyncError:
    """Call it beside a neighbour; return its error after the next call has worked."""
    neighbour = await bench.neighbour()
    assert await bench.call(function, body={"ok": True}) == "fine"
    call = asyncio.create_task(within(seconds, "the call", bench.call(function, **given)))
    with pytest.raises(error) as caught:
        await bench.neighbour_answers(neighbour, call)
    assert await within(5, "the next call", bench.call(function, body={"ok": True})) == "fine"
    return caught.value


# ---- blocking ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("lines", ["while True: pass", "time.sleep(1e6)"])
async def test_function_that_blocks(bench: Bench, kind: str, lines: str) -> None:
    function = bench.function(source(lines, kind=kind), timeout_s=0.5, id="blocked")
    error = await fails_alone(bench, function, TimeLimit)
    assert error.status == 408
    assert "blocked took longer than its time limit of 0.5 s" in error.message
    await until("one worker, the fresh one", lambda: len(bench.pids(function)) == 1)
    assert bench.executor.health("blocked").crashes == 0


async def test_function_that_swallows_its_cancellation(bench: Bench) -> None:
    lines = """
    while True:
        try:
            await asyncio.sleep(1000)
        except BaseException:
            pass
    """
    function = bench.function(source(lines, kind="async def"), timeout_s=0.3, id="stubborn")
    await fails_alone(bench, function, TimeLimit)


async def test_function_that_stops_itself(bench: Bench) -> None:
    function = bench.function(
        source("os.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(10)"), timeout_s=0.5, id="stopped"
    )
    await fails_alone(bench, function, TimeLimit)


async def test_function_that_ignores_every_signal(bench: Bench) -> None:
    lines = """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
    while True: pass
    """
    function = bench.function(source(lines, kind="async def"), timeout_s=0.3, id="deaf")
    await fails_alone(bench, function, TimeLimit)


# ---- dying ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("os._exit(1)", "exited with status 1"),
        ("os._exit(0)", "exited with status 0"),
        ("ctypes.string_at(0)", "SIGSEGV"),
        ("os.abort()", "SIGABRT"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("os.kill(0, signal.SIGTERM)\ntime.sleep(10)", "SIGTERM"),
        # The loop aborts if it polls before the end of the socket is noticed.
        ("os.closerange(0, 4096)\ntime.sleep(10)", "closed its connection|SIGABRT"),
    ],
)
@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_worker_that_dies_says_how(bench: Bench, kind: str, lines: str, message: str) -> None:
    function = bench.function(source(lines, kind=kind), id=f"dying{abs(hash((kind, lines)))}")
    error = await fails_alone(bench, function, WorkerDied)
    assert error.status == 500 and re.search(message, error.message)
    assert bench.executor.health(function.id).crashes == 1


async def test_death_in_mid_stream_comes_after_the_items(bench: Bench) -> None:
    function = bench.function(source("yield 'one'\ntime.sleep(0.2)\nos._exit(1)"), id="dying_stream")
    async with bench.running(function, stream=True) as call:
        await call.first()
        seen: list[Any] = []
        with pytest.raises(WorkerDied):
            async for items in call.chunks():
                seen += items
    assert seen == ["one"]


async def test_death_fails_each_call_of_the_worker_once(bench: Bench, tmp_path: Path) -> None:
    lines = """
    while not pathlib.Path(body["gate"]).exists():
        time.sleep(0.01)
    os._exit(1)
    """
    function = bench.function(source(lines), id="together")
    gate = tmp_path / "gate"
    running = [asyncio.create_task(bench.call(function, body={"gate": str(gate)})) for _ in range(5)]
    await until("five calls", lambda: bench.executor.health("together").calls == 5)
    gate.touch()
    results = await asyncio.gather(*running, return_exceptions=True)
    assert [type(result) for result in results] == [WorkerDied] * 5
    assert bench.executor.health("together").crashes == 1
    assert await bench.call(function, body={"ok": True}) == "fine"
    assert bench.executor.health("together").calls == 0


async def test_crash_loop_backs_off_and_recovers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "BACKOFF_S", 0.4)
    function = bench.function(source("os._exit(7)"), id="looping")
    for _ in range(pool.CRASHES):
        with pytest.raises(WorkerDied):
            await bench.call(function)
    with pytest.raises(CrashLoop) as caught:
        await bench.call(function)
    assert caught.value.status == 503 and 0 < caught.value.retry_after_s <= 0.4
    assert "exited with status 7" in caught.value.message
    health = bench.executor.health("looping")
    assert health.crashes == pool.CRASHES and health.retry_at is not None
    assert health.message is not None and "crash loop" in health.message
    await until("the next try", lambda: bench.executor.health("looping").retry_at is None)
    assert await bench.call(function, body={"ok": True}) == "fine"
    with pytest.raises(WorkerDied):  # a call that worked ends the count
        await bench.call(function)
    assert await bench.call(function, body={"ok": True}) == "fine"


async def test_crash_loop_waits_longer_each_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "BACKOFF_S", 0.1)
    function = bench.function(source("os._exit(7)"), id="longer")
    waits = []
    for _ in range(pool.CRASHES + 2):
        await until("the next try", lambda: bench.executor.health("longer").retry_at is None)
        with pytest.raises(WorkerDied):
            await bench.call(function)
        try:
            await bench.call(function)
        except CrashLoop as exc:
            waits.append(exc.retry_after_s)
        except WorkerDied:
            pass
    assert len(waits) >= 2 and waits == sorted(waits) and waits[-1] > 1.5 * waits[0]


# ---- taking too much -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_two_gigabytes_allocated(bench: Bench, kind: str) -> None:
    lines = """
    parts = []
    for _ in range(64):
        parts.append(bytearray(b"x" * (32 * 2**20)))
    time.sleep(5)
    """
    function = bench.function(source(lines, kind=kind), memory_bytes=256 * MB, id="hungry")
    error = await fails_alone(bench, function, MemoryLimit)
    assert "memory limit" in error.message and error.hint is not None and "limits" in error.hint


async def test_absurd_allocation_is_an_exception_of_the_function(bench: Bench) -> None:
    function = bench.function(source("return str(len(bytearray(2**40)))"), memory_bytes=256 * MB, id="absurd")
    with pytest.raises(FnsyncError, match="MemoryError"):
        await bench.call(function)
    assert await bench.call(function, body={"ok": True}) == "fine"


async def test_fork_bomb_of_threads(bench: Bench) -> None:
    lines = """
    while True:
        try:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        except RuntimeError:
            time.sleep(0.01)
    """
    function = bench.function(source(lines), id="threads")
    error = await fails_alone(bench, function, WorkerDied)
    assert "threads" in error.message
    assert bench.executor.health("threads").crashes == 1, "the status must tell of it"


@pytest.mark.parametrize(
    "lines",
    [
        "for _ in range(2**17): print('x' * 8191)",
        "data = (b'x' * 1023 + b'\\n') * 64\nfor _ in range(2**14): os.write(1, data)",
        "subprocess.run(['head', '-c', str(2**30), '/dev/zero'], check=True)",
        "import logging\nfor _ in range(2**17): logging.warning('x' * 8191)",
    ],
    ids=["print", "os.write", "subprocess", "logging"],
)
async def test_one_gigabyte_printed(bench: Bench, lines: str) -> None:
    """It is cut, not waited for; the function goes on."""
    function = bench.function(source(f"{lines}\nreturn 'printed'"), timeout_s=60, id="printing")
    neighbour = await bench.neighbour()
    before = rss(os.getpid())
    call = asyncio.create_task(bench.call(function))
    assert await bench.neighbour_answers(neighbour, call) == "printed"
    assert rss(os.getpid()) - before < 60 * MB
    await until("a note of what was dropped", lambda: any("dropped" in line for line in bench.log("printing")))
    assert len(bench.log("printing")) <= 1000


async def test_slow_reader_of_a_gigabyte_bounds_both_sides(bench: Bench) -> None:
    """A client that reads one chunk and then nothing holds at most the window on each side."""
    neighbour = await bench.neighbour()
    for kind in ("def", "async def"):
        loop = "for _ in range(2**14):\n            yield 'x' * 2**16\n"
        text = f"class Pipe:\n    {kind} pipe(self, body):\n        {loop}"
        function = bench.function(text, id="big_stream")
        before = rss(os.getpid())
        async with bench.running(function, stream=True) as call:
            await call.first()
            (pid,) = bench.pids(function)
            worker_before = rss(pid)
            for _ in range(10):
                await asyncio.sleep(0.05)
                assert await bench.call(neighbour) == "still here"
                assert call._size <= wire.STREAM_WINDOW_BYTES + 2**16, "more waits than the product states"
            assert rss(os.getpid()) - before < 20 * MB
            assert rss(pid) - worker_before < 20 * MB


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_slow_reader_of_endless_empty_items(bench: Bench, kind: str) -> None:
    """They have no length, but they take memory."""
    pause = "await asyncio.sleep(0)" if kind == "async def" else "pass"
    loop = f"while True:\n            yield ''\n            {pause}"
    text = f"import asyncio\nclass Pipe:\n    {kind} pipe(self, body):\n        {loop}"
    function = bench.function(text, id="empty_items")
    async with bench.running(function, stream=True) as call:
        await call.first()
        await asyncio.sleep(0.5)
        assert 0 < len(call._items) <= wire.STREAM_WINDOW_BYTES / wire.ITEM_BYTES + 1


async def test_full_disk_of_private_folders_is_an_error(tmp_path: Path) -> None:
    """No folder can be made for the worker: the call says so at once."""
    async with Bench(tmp_path) as bench:
        neighbour = await bench.neighbour()
        bench.scratch.rename(tmp_path / "away")
        bench.scratch.touch()
        function = bench.function(source("return 'x'"), id="homeless")
        with pytest.raises(WorkerDied, match="no worker can be started"):
            await within(5, "the call", bench.call(function))
        assert await bench.call(neighbour) == "still here"
        bench.scratch.unlink()
        (tmp_path / "away").rename(bench.scratch)
        assert await bench.call(function) == "x"


async def test_reader_of_a_gigabyte_gets_all_of_it(bench: Bench) -> None:
    lines = "for _ in range(2**14):\n    yield 'x' * 2**16"
    function = bench.function(source(lines), timeout_s=60, id="whole_stream")
    before, most, size = rss(os.getpid()), 0, 0
    async with bench.running(function, stream=True) as call:
        await call.first()
        (pid,) = bench.pids(function)
        async for items in call.chunks():
            size += sum(map(len, items))
            most = max(most, rss(os.getpid()) - before)
            assert rss(pid) < 300 * MB
    assert size == 2**30
    assert most < 40 * MB


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_flood_of_events_waits_for_its_reader(bench: Bench, kind: str) -> None:
    """Events are part of the stream, and of what a slow client can make the server hold."""
    emit = "await emit(event)" if kind == "async def" else "asyncio.run(emit(event))"
    text = f"""
    import asyncio
    class Pipe:
        {kind} pipe(self, body, __event_emitter__):
            emit = __event_emitter__
            event = {{"type": "status", "data": "x" * 2**14}}
            for _ in range(300):
                {emit}
            yield "end"
    """
    function = bench.function(text, id=f"events_{kind[:1]}")
    async with bench.running(function, stream=True, events=True) as call:
        await within(5, "the begin of the stream", call.first())
        await asyncio.sleep(0.3)
        assert call._size <= wire.STREAM_WINDOW_BYTES + 2**15
        items = await within(5, "the rest", rest(call))
    assert len(items) == 301 and items[-1] == "end"


async def test_answer_after_many_events(bench: Bench) -> None:
    """So many events that the stream had to begin before the function returned its text."""
    text = """
    class Pipe:
        async def pipe(self, body, __event_emitter__):
            for _ in range(40):
                await __event_emitter__({"type": "status", "data": "x" * 2**14})
            return "the text"
    """
    items = await within(5, "the stream", bench.items(bench.function(text, id="late_text"), events=True))
    assert len(items) == 41 and items[-1] == "the text"


# ---- attacking -----------------------------------------------------------------------------------------------------

CHANNEL = """
def channel():
    for fd in range(3, 64):
        try:
            found = socket.socket(fileno=os.dup(fd))
            found.setblocking(True)
            peer, _, _ = struct.unpack("3i", found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if peer != os.getpid():  # else it is the loop's own pair
                yield found
        except OSError:
            continue
def flood(data, count=1):
    for found in channel():
        for _ in range(count):
            try:
                found.sendall(data)
            except OSError:
                break
def packed(value):
    import msgspec
    data = msgspec.msgpack.encode(value)
    return struct.pack(">I", len(data)) + data
"""


@pytest.mark.parametrize(
    "lines",
    [
        "flood(b'\\xff' * 4096)",
        "flood(struct.pack('>I', 2**31) + b'x')",
        "flood(packed([99, 1]))",
        "flood(packed([23, 1, [1.5]]))",
        "flood(b'\\x00' * 2**22)",
    ],
    ids=["garbage", "oversize", "unknown frame", "wrong item", "empty frames"],
)
async def test_worker_that_writes_garbage_to_its_socket(bench: Bench, lines: str) -> None:
    function = bench.function(source(f"{lines}\ntime.sleep(10)", CHANNEL), id=f"garbage{abs(hash(lines))}")
    error = await fails_alone(bench, function, WorkerDied)
    assert "broke the wire protocol" in error.message


async def test_worker_that_floods_chunks_beyond_its_credit(bench: Bench) -> None:
    lines = """
    yield "first"
    time.sleep(0.1)  # it is sent
    chunk = packed([23, body["call"], ["x" * 2**20]])
    flood(chunk, 1000)
    """
    function = bench.function(source(lines, CHANNEL), id="beyond")
    neighbour = await bench.neighbour()
    assert await bench.items(bench.function(source("yield 'x'"), id="beyond_warm")) == ["x"]
    before = rss(os.getpid())

    async def call() -> None:
        # Its id is not told to functions; the next one is easily guessed.
        async with bench.running(function, stream=True, body={"call": guess}) as running:
            assert running.id == guess
            await running.first()
            await until("the worker's end", lambda: running._ended)  # the client does not read
            assert rss(os.getpid()) - before < 400 * MB
            await rest(running)

    await bench.executor.load(function)
    guess = bench.executor.next_id() + 1
    with pytest.raises(WorkerDied, match="more of a stream than it had credit for"):
        await call()
    assert await bench.call(neighbour) == "still here"


async def test_worker_that_asks_and_never_reads(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers would pile up in the server."""
    monkeypatch.setattr(workers, "UNREAD_BYTES", MB)
    lines = """
    for found in channel():
        while True:
            found.sendall(packed([27, body["call"], 1, b"{}"]) * 1000)
    """
    function = bench.function(source(lines, CHANNEL, kind="async def"), id="asking")
    await bench.executor.load(function)
    body = {"call": bench.executor.next_id() + 1}
    with pytest.raises(WorkerDied, match="does not read the answers"):
        await within(8, "the call", bench.call(function, body=body))
    assert await bench.call(function, body={"ok": True}) == "fine"


async def test_worker_that_floods_lines_frames(bench: Bench) -> None:
    """Frames of lines, written past the worker's own limit."""
    lines = """
    line = [time.time(), "stdout", "INFO", 0, "x" * 8000, ""]
    flood(packed([28, [line] * 100, 0]), 100)
    return "flooded"
    """
    function = bench.function(source(lines, CHANNEL), timeout_s=30, id="lines")
    neighbour = await bench.neighbour()
    before = rss(os.getpid())
    assert await bench.neighbour_answers(neighbour, asyncio.create_task(bench.call(function))) == "flooded"
    assert rss(os.getpid()) - before < 60 * MB


async def test_function_that_forks(bench: Bench) -> None:
    """The child comes back out of the handler as well; only one answer counts, and the child ends."""
    for kind in ("def", "async def"):
        lines = "pid = os.fork()\nif pid == 0: print('in the child')\nreturn str(pid)"
        function = bench.function(source(lines, kind=kind), id=f"forking_{kind[:1]}")
        child = int(await bench.call(function))
        assert child > 0, "the child's answer came"
        assert await bench.call(function, body={"ok": True}) == "fine"
        await until("the end of the child", partial(ended, child))


def ended(pid: int) -> bool:
    return not alive(pid)


GRANDCHILD = """
def start(mark):
    code = f"import os, pathlib, time; os.setsid(); p = pathlib.Path({mark!r}); "
    code += "p.with_suffix('.tmp').write_text(str(os.getpid())); p.with_suffix('.tmp').rename(p); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", code])
    while not os.path.exists(mark):
        time.sleep(0.01)
"""


@pytest.mark.parametrize("end", ["os._exit(1)", "time.sleep(1e6)", "idle"])
async def test_what_a_worker_started_dies_with_it(bench: Bench, tmp_path: Path, end: str) -> None:
    """Also a grandchild in a session of its own."""
    mark = tmp_path / "pid"
    lines = f"start({str(mark)!r})\n" + ("return 'fine'" if end == "idle" else end)
    function = bench.function(source(lines, GRANDCHILD), timeout_s=3, idle_s=0.2, id=f"parent{abs(hash(end))}")
    try:
        await within(8, "the call", bench.call(function))
    except FnsyncError:
        assert end != "idle"
    pid = int(mark.read_text())
    await until("the end of the grandchild", lambda: not alive(pid))


# ---- kill -9 -------------------------------------------------------------------------------------------------------


async def test_kill_of_a_worker(bench: Bench) -> None:
    function = bench.function(source("time.sleep(30)"), id="killed")
    running = asyncio.create_task(bench.call(function))
    await until("the call", lambda: bench.executor.health("killed").calls == 1)
    (pid,) = bench.pids(function)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="SIGKILL"):
        await within(3, "the call", running)
    assert await bench.call(function, body={"ok": True}) == "fine"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_kill_of_the_zygote(tmp_path: Path, number: int) -> None:
    """Its workers go with it, and what they had started; the next call gets new ones."""
    async with Bench(tmp_path / "bench") as bench:
        mark = tmp_path / "pid"
        starts = "subprocess.Popen(['sleep', '600']); print('ready', flush=True); time.sleep(600)"
        function = bench.function(source(starts, GRANDCHILD), id="orphan")
        running = asyncio.create_task(bench.call(function))
        await until("its child", lambda: bench.log("orphan") == ["ready"])
        (zygote,) = (zygote.pid for zygote in bench.executor.processes.zygotes.values())
        below = descendants(zygote)
        assert len(below) >= 2
        os.kill(zygote, number)
        with pytest.raises(WorkerDied):
            await within(5, "the call", running)
        await until("the end of all below the zygote", lambda: not any(alive(pid) for pid in below))
        assert await within(10, "the next call", bench.call(function, body={"ok": True})) == "fine"
        assert bench.executor.health("orphan").crashes == 0, "the function is not to blame"
        await until("the reaping of the dead zygote", lambda: not Path(f"/proc/{zygote}").exists())
        assert not mark.exists()


async def test_kill_of_the_zygote_while_a_function_loads(tmp_path: Path) -> None:
    """The function is not to blame: it loads all the same."""
    async with Bench(tmp_path / "bench") as bench:
        assert await bench.call(await bench.neighbour()) == "still here"
        text = f"import pathlib, time\npathlib.Path({str(tmp_path / 'mark')!r}).touch()\ntime.sleep(0.5)\n"
        function = bench.function(text + source("return 'x'"), id="loading")
        loading = asyncio.create_task(bench.executor.load(function))
        await until("the load", (tmp_path / "mark").exists)
        (zygote,) = (zygote.pid for zygote in bench.executor.processes.zygotes.values())
        os.kill(zygote, signal.SIGKILL)
        assert (await within(15, "the load", loading)).kind == "pipe"
        assert await bench.call(function) == "x"


async def test_stopped_zygote_costs_only_new_workers(tmp_path: Path) -> None:
    """kill -STOP of the zygote: warm functions go on answering."""
    async with Bench(tmp_path) as bench:
        neighbour = await bench.neighbour()
        (zygote,) = (zygote.pid for zygote in bench.executor.processes.zygotes.values())
        os.kill(zygote, signal.SIGSTOP)
        try:
            for _ in range(5):
                assert await within(2, "a call", bench.call(neighbour)) == "still here"
        finally:
            os.kill(zygote, signal.SIGCONT)
        assert await bench.call(bench.function(source("return 'x'"), id="fresh")) == "x"


# ---- over HTTP -----------------------------------------------------------------------------------------------------

LIMITS = "limits: {timeout: 1s}\n"
MESSAGES = [{"role": "user", "content": "hi"}]


def chat(client: httpx.Client, model: str, **body: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES, **body})


@pytest.mark.parametrize(
    ("id", "lines", "status", "said"),
    [
        ("http_loop", "while True: pass", 408, "took longer than its time limit of 1 s"),
        ("http_exit", "os._exit(3)", 500, "exited with status 3"),
        ("http_crash", "ctypes.string_at(0)", 500, "SIGSEGV"),
    ],
)
def test_faults_over_http(server: Server, client: httpx.Client, id: str, lines: str, status: int, said: str) -> None:
    server.add(id, source(lines), LIMITS)
    if server.function("http_neighbour") is None:
        server.add("http_neighbour", "class Pipe:\n    def pipe(self, body):\n        return 'still here'\n")
    with ThreadPoolExecutor(1) as threads:
        failing = threads.submit(chat, client, id)
        calls = 0
        while not failing.done() or not calls:
            answer = chat(client, "http_neighbour")
            assert answer.json()["choices"][0]["message"]["content"] == "still here"
            assert answer.elapsed.total_seconds() < 2
            calls += 1
            time.sleep(0.05)
    assert failing.result().status_code == status
    assert said in failing.result().json()["error"]["message"]
    assert chat(client, id, ok=True).json()["choices"][0]["message"]["content"] == "fine"


def test_crash_loop_over_http(server: Server, client: httpx.Client) -> None:
    server.add("http_crashes", source("os._exit(3)"))
    for _ in range(pool.CRASHES):
        assert chat(client, "http_crashes").status_code == 500
    turned_away = chat(client, "http_crashes")
    assert turned_away.status_code == 503 and int(turned_away.headers["retry-after"]) >= 1
    assert "crashed 3 times in a row" in turned_away.json()["error"]["message"]
    entry = server.function("http_crashes") or {}
    assert entry["crashes"] == pool.CRASHES and entry["retry_at"] is not None and "crash loop" in entry["health"]
    wait_for("the next try", lambda: chat(client, "http_crashes", ok=True).status_code == 200)


def test_client_that_leaves_over_http(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    for kind, wait in (("def", "time.sleep(0.01)"), ("async def", "await asyncio.sleep(0.01)")):
        mark = tmp_path / f"mark {kind}"
        text = f"""
        import asyncio, pathlib, time
        class Pipe:
            {kind} pipe(self, body):
                try:
                    while True:
                        yield "x"
                        {wait}
                finally:
                    pathlib.Path({str(mark)!r}).write_text("cleaned")
        """
        server.add("http_leaving", text)
        body = {"model": "http_leaving", "messages": MESSAGES, "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert next(answer.iter_lines()).startswith("data: ")
        wait_for("the generator's finally", mark.exists)


def test_slow_reader_over_http_bounds_server_and_worker(server: Server, client: httpx.Client) -> None:
    server.add(
        "http_big",
        "class Pipe:\n    def pipe(self, body):\n        for _ in range(2**14):\n            yield 'x' * 2**16\n",
    )
    body = {"model": "http_big", "messages": MESSAGES, "stream": True}
    before = memory_below(server.process.pid)
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert next(answer.iter_raw(1024)).startswith(b"data: ")
        until_ = time.monotonic() + 1
        while time.monotonic() < until_:
            assert chat(client, "http_big_neighbour").status_code == 404
            for pid, size in memory_below(server.process.pid).items():
                assert size - before.get(pid, size) < 30 * MB, "a client that does not read fills memory"
            time.sleep(0.05)


def memory_below(pid: int) -> dict[int, int]:
    """Resident memory of a process and all below it."""
    found = {}
    for one in {pid, *descendants(pid)}:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[one] = rss(one)
    return found


def test_kill_of_the_server_leaves_no_process(
    project: Project, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    """Workers, zygotes, what functions started, also in a session of its own, and a worker that blocks."""
    mark = tmp_path / "pid"
    project.write("parent.py", source(f"start({str(mark)!r})\nreturn 'started'", GRANDCHILD))
    project.write("blocking.py", source("while True: pass"))
    server = start_server(project)
    with server.client() as client, ThreadPoolExecutor(1) as threads:
        assert chat(client, "parent").status_code == 200
        blocked = threads.submit(chat, client, "blocking")
        wait_for("the blocked call", lambda: (server.function("blocking") or {})["calls"] == 1)
        below = descendants(server.process.pid)
        assert int(mark.read_text()) in below and len(below) >= 4
        os.kill(server.process.pid, signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            blocked.result()
    server.process.wait()
    wait_for("the end of all processes", lambda: not [pid for pid in below if alive(pid)])
    again = start_server(project)
    with again.client() as client:
        assert chat(client, "parent", ok=True).status_code == 200
