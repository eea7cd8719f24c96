"""Workers of functions: when they start and end, who gets a place, what they may see, and what they leave behind."""

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fnsync.errors import Draining, FunctionRaised, LoadFailed, MemoryLimit, Saturated, TimeLimit, WorkerDied
from fnsync.model import FunctionId
from fnsync.runtime import call as calls
from fnsync.runtime import monitor, processes, wire
from tests.workbench import MB, Bench, alive, own_memory, rest, rss, until, within

pytestmark = pytest.mark.anyio

ECHO = """
class Pipe:
    def pipe(self, body):
        return body["messages"][-1]["content"]
"""


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    environ = {"PERMITTED": "yes", "FNSYNC_ADMIN_TOKEN": "secret", "OPENAI_API_KEY": "secret"}
    async with Bench(tmp_path_factory.mktemp("bench"), environ=environ) as bench:
        yield bench


# ---- what a worker sees --------------------------------------------------------------------------------------------

LOOK = """
import os, random, resource, tempfile, uuid
def descriptors():
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            pass  # the one that listed them
    return found
class Pipe:
    def pipe(self, body):
        status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
        return {
            "environment": dict(os.environ),
            "initial": open("/proc/self/environ").read().split("\\0"),
            "descriptors": descriptors(),
            "no_new_privs": status["NoNewPrivs"],
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "space": resource.getrlimit(resource.RLIMIT_AS),
            "random": [random.random(), uuid.uuid4().hex, tempfile.mktemp()],
            "cwd": os.getcwd(),
            "temp": tempfile.gettempdir(),
            "session": os.getsid(0) == os.getpid(),
        }
"""


async def test_worker_sees_only_what_is_permitted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = await bench.call(bench.function(LOOK, env=("PERMITTED", "NOT_THERE")))
    environment = seen["environment"]
    assert environment.pop("PERMITTED") == "yes"
    assert environment["HOME"] == environment["TMPDIR"] == seen["cwd"] == seen["temp"]
    allowed = {"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "PYTHONUNBUFFERED"}
    assert set(environment) - allowed <= {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"}
    assert not [line for line in seen["initial"] if "FNSYNC" in line or "KEY" in line or "TOKEN" in line]


async def test_worker_has_no_descriptor_of_others(bench: Bench) -> None:
    descriptors = (await bench.call(bench.function(LOOK)))["descriptors"]
    kinds = [target for fd, target in descriptors.items() if int(fd) > 2 and not target.startswith("anon_inode:")]
    assert descriptors["0"] == "/dev/null"
    assert descriptors["1"] == descriptors["2"] and descriptors["1"].startswith("pipe:")
    pipes = [kind for kind in kinds if kind.startswith("pipe:")]
    sockets = [kind for kind in kinds if kind.startswith("socket:")]
    assert set(kinds) == {*pipes, *sockets}, "no file is open"
    assert all(pipes.count(pipe) == 2 for pipe in pipes), "of each pipe of the loop's own both ends are here"
    assert len(sockets) <= 3, "the channel, and the loop's own pair for waking up"


async def test_worker_is_limited_for_good(bench: Bench) -> None:
    seen = await bench.call(bench.function(LOOK, memory_bytes=100 * MB))
    assert seen["no_new_privs"].strip() == "1"
    assert seen["core"] == [0, 0]
    assert seen["files"][0] == seen["files"][1] <= 4096
    assert 0 < seen["space"][0] < 100 * 2**30 and seen["space"][0] == seen["space"][1]
    assert seen["session"]


async def test_two_workers_share_no_random_state(bench: Bench) -> None:
    one, two = [(await bench.call(bench.function(LOOK, id=id)))["random"] for id in ("one", "two")]
    for first, second in zip(one, two, strict=True):
        assert first != second


async def test_private_folder_goes_with_its_worker(bench: Bench) -> None:
    source = """
    import os
    class Pipe:
        def pipe(self, body):
            os.makedirs("deep/er")
            open("deep/er/file", "w").write("x")
            return os.getcwd()
    """
    function = bench.function(source)
    folder = Path(await bench.call(function))
    assert folder.parent == bench.scratch and (folder / "deep/er/file").exists()
    bench.executor.retire(function.id)
    await until("the end of the private folder", lambda: not folder.exists())


# ---- places --------------------------------------------------------------------------------------------------------

WAITING = """
import time, pathlib
class Pipe:
    def pipe(self, body):
        while not pathlib.Path(body["gate"]).exists():
            time.sleep(0.01)
        return "done"
"""


async def test_concurrency_and_queue_are_bounded(bench: Bench, tmp_path: Path) -> None:
    """Two calls run, two wait, the fifth is told to come back."""
    function = bench.function(WAITING, concurrency=2)
    gate = tmp_path / "gate"
    waiting = [asyncio.create_task(bench.call(function, body={"gate": str(gate)})) for _ in range(4)]
    await until("four calls", lambda: bench.executor.health(function.id).waiting == 2)
    assert bench.executor.health(function.id).calls == 2
    with pytest.raises(Saturated) as caught:
        await bench.call(function, body={"gate": str(gate)})
    assert caught.value.status == 503 and caught.value.retry_after_s > 0
    gate.touch()
    assert await within(10, "the calls", asyncio.gather(*waiting)) == ["done"] * 4
    assert await bench.call(function, body={"gate": str(gate)}) == "done"


async def test_waiting_has_an_end(bench: Bench, tmp_path: Path) -> None:
    function = bench.function(WAITING, concurrency=1, timeout_s=0.5, id="jammed")
    first = asyncio.create_task(bench.call(function, body={"gate": str(tmp_path / "never")}))
    await until("a running call", lambda: bench.executor.health("jammed").calls == 1)
    with pytest.raises((Saturated, TimeLimit)):
        await within(3, "a waiting call", bench.call(function, body={"gate": str(tmp_path / "never")}))
    with pytest.raises(TimeLimit):
        await first


async def test_turn_that_comes_as_the_wait_ends_is_used(bench: Bench) -> None:
    """A worker that comes free in the very moment a wait ends must not be lost: its place would be gone for good."""
    function = bench.function(ECHO, concurrency=1, timeout_s=0.2, id="edge")
    assert await bench.call(function) == "hi"
    pool = bench.executor.pool(function)
    await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0.15)
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    # The release comes from a socket, as a worker's answer does, in the turn of the loop in which the wait ends.
    loop.add_reader(ours, lambda: (loop.remove_reader(ours), pool.release(True)))
    theirs.send(b"1")
    time.sleep(0.1)  # noqa: ASYNC251  the loop is busy
    with contextlib.suppress(Saturated):
        await waiting
        pool.release(True)
    ours.close()
    theirs.close()
    assert pool.running == 0
    assert await bench.call(function) == "hi"


async def test_death_by_a_real_time_signal_is_told(bench: Bench) -> None:
    function = bench.function("import os\nclass Pipe:\n    def pipe(self, body):\n        os.kill(os.getpid(), 40)\n")
    with pytest.raises(WorkerDied, match="signal 40"):
        await within(5, "the call", bench.call(function))
    assert bench.executor.health(function.id).crashes == 1


async def test_usage_is_watched_on_after_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One moment without free descriptors must not switch the memory limit off."""
    looks = iter([OSError(errno.EMFILE, "no descriptor"), RuntimeError("whatever else")])
    usage = monitor.usage

    def failing(pid: int) -> monitor.Usage | None:
        for failure in looks:
            raise failure
        return usage(pid)

    monkeypatch.setattr(monitor, "usage", failing)
    function = bench.function(
        "class Pipe:\n    def pipe(self, body):\n        import time\n        x = b'x' * (200 << 20)\n"
        "        time.sleep(10)\n",
        memory_bytes=100 * 2**20,
    )
    with pytest.raises(MemoryLimit):
        await within(8, "the call", bench.call(function))


async def test_who_leaves_the_queue_gives_the_place_to_others(bench: Bench, tmp_path: Path) -> None:
    function = bench.function(WAITING, concurrency=1, id="queue")
    gate = tmp_path / "gate"
    first, second, third = (asyncio.create_task(bench.call(function, body={"gate": str(gate)})) for _ in range(3))
    await until("the queue", lambda: bench.executor.health("queue").waiting == 1)
    second.cancel()
    with pytest.raises(Saturated):
        await third
    gate.touch()
    assert await first == "done"
    assert await within(5, "the next call", bench.call(function, body={"gate": str(gate)})) == "done"
    assert bench.executor.health("queue").calls == 0


async def test_several_workers_share_the_calls(bench: Bench, tmp_path: Path) -> None:
    source = """
    import asyncio, os, pathlib
    class Pipe:
        async def pipe(self, body):
            while not pathlib.Path(body["gate"]).exists():
                await asyncio.sleep(0.01)
            return str(os.getpid())
    """
    function = bench.function(source, workers=2, concurrency=8, id="many")
    gate = tmp_path / "gate"
    running = [asyncio.create_task(bench.call(function, body={"gate": str(gate)})) for _ in range(2)]
    await until("two workers", lambda: bench.executor.health(function.id).workers == 2)
    running += [asyncio.create_task(bench.call(function, body={"gate": str(gate)})) for _ in range(4)]
    await until("six calls", lambda: bench.executor.health(function.id).calls == 6)
    gate.touch()
    pids = await asyncio.gather(*running)
    assert set(pids) == {str(pid) for pid in bench.pids(function)} and len(set(pids)) == 2


async def test_sync_calls_run_side_by_side(bench: Bench) -> None:
    """As many at once as the limit says, also after the limit was raised."""
    source = """
    import threading
    barriers = {}
    class Pipe:
        def pipe(self, body):
            barriers.setdefault(body["n"], threading.Barrier(body["n"])).wait(5)
            return "met"
    """
    function = bench.function(source, concurrency=3)
    assert await within(5, "three", asyncio.gather(*(bench.call(function, body={"n": 3}) for _ in range(3))))
    more = replace(function, limits=replace(function.limits, concurrency=9))
    await bench.executor.configure(more)
    for _ in range(3):
        await within(5, "nine calls at once", asyncio.gather(*(bench.call(more, body={"n": 9}) for _ in range(9))))


async def test_sync_handler_starts_tasks_on_the_workers_loop(bench: Bench) -> None:
    """As files do that were written for a server that runs sync handlers on its loop."""
    function = bench.function(
        """
        import asyncio

        class Pipe:
            async def work(self, said):
                await asyncio.sleep(0)
                return said + " done"

            def pipe(self, body):
                first = asyncio.create_task(self.work("task"), name="named")
                second = asyncio.ensure_future(self.work("future"))
                third = asyncio.run(self.work("run"))
                return f"{first.result()}, {second.result()}, {third}"
        """
    )
    assert await bench.call(function) == "task done, future done, run done"


async def test_async_function_with_sync_generators_runs_them_side_by_side(bench: Bench) -> None:
    source = """
    import threading
    barrier = threading.Barrier(10)
    class Pipe:
        async def pipe(self, body):
            def items():
                barrier.wait(5)
                yield "met"
            return items()
    """
    function = bench.function(source)
    answers = await within(8, "ten streams", asyncio.gather(*(bench.items(function) for _ in range(10))))
    assert answers == [["met"]] * 10


# ---- valves and revisions ------------------------------------------------------------------------------------------


async def test_valves_change_while_every_thread_is_busy(bench: Bench, tmp_path: Path) -> None:
    head = "from pydantic import BaseModel\n"
    source = head + WAITING.replace(
        "class Pipe:",
        "class Pipe:\n    class Valves(BaseModel):\n        x: int = 0\n    def __init__(self):\n"
        "        self.valves = self.Valves()",
    )
    function = bench.function(source, concurrency=1)
    gate = tmp_path / "gate"
    running = asyncio.create_task(bench.call(function, body={"gate": str(gate)}))
    await until("the call", lambda: bench.executor.health(function.id).calls == 1)
    changed = replace(function, settings=replace(function.settings, valves={"x": 1}))
    await within(3, "new valves", bench.executor.configure(changed))
    gate.touch()
    assert await running == "done"


async def test_a_call_finishes_on_the_revision_it_began_on(bench: Bench, tmp_path: Path) -> None:
    old = bench.function(WAITING, id="moving")
    gate = tmp_path / "gate"
    running = asyncio.create_task(bench.call(old, body={"gate": str(gate)}))
    await until("the old call", lambda: bench.executor.health("moving").calls == 1)
    (pid,) = bench.pids(old)
    new = bench.function(ECHO, id="moving")
    await bench.executor.load(new)
    bench.executor.retire(new.id, keep=new.revision)
    assert await bench.call(new) == "hi"
    gate.touch()
    assert await running == "done"
    await until("the end of the old worker", lambda: not alive(pid))
    await until("the end of the old pool", lambda: old.revision not in bench.executor.in_use())
    assert await bench.call(new) == "hi"


async def test_failed_load_leaves_no_process(bench: Bench) -> None:
    before = bench.executor.worker_count
    for source in ("raise ValueError\n", "import os\nos._exit(3)\n", "while True:\n  import nothing_there\n"):
        with pytest.raises((LoadFailed, WorkerDied)):
            await bench.executor.load(bench.function(source, id="failing"))
    await until("the end of failed workers", lambda: bench.executor.worker_count <= before)


async def test_load_that_never_ends_is_cut_off(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOAD_S", 0.5)
    function = bench.function("while True: pass\n", id="endless", timeout_s=0.5)
    with pytest.raises(TimeLimit, match="did not load within 0.5 s"):
        await within(5, "the load", bench.executor.load(function))
    await until("the end of its worker", lambda: not bench.pids(function))


LIE = """
import os, socket, struct, msgspec
def send(value):
    data = msgspec.msgpack.encode(value)
    for fd in range(3, 64):
        try:
            other = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        if other.family == socket.AF_UNIX:
            try:
                other.sendall(struct.pack(">I", len(data)) + data)
            except OSError:
                pass
"""


@pytest.mark.parametrize("told", [b"no json", b'{"kind": "spoon"}', b"[]"])
async def test_worker_that_lies_about_what_it_is_does_not_load(bench: Bench, told: bytes) -> None:
    """It answers the server's question itself, before its loader does."""
    id = bench.executor.next_id()
    lies = f"for id in range({id}, {id + 20}): send([21, id, 'json', {told!r}, None])\n"
    function = bench.function(LIE + lies + "class Pipe: ...\n", id="liar")
    with pytest.raises(LoadFailed, match="what its worker told of it is not understood"):
        await within(5, "the load", bench.executor.load(function))


# ---- cancelling ----------------------------------------------------------------------------------------------------

CLEANUP = """
import asyncio, pathlib, time
class Pipe:
    {kind} pipe(self, body):
        try:
            yield "first"
            for n in range(100_000):
                {sleep}(0.01)
                yield str(n)
        finally:
            pathlib.Path(body["mark"]).write_text("cleaned")
"""
ENDLESS = {
    "sync generator": CLEANUP.format(kind="def", sleep="time.sleep"),
    "async generator": CLEANUP.format(kind="async def", sleep="await asyncio.sleep"),
    "response": """
    import asyncio, pathlib
    from starlette.responses import StreamingResponse
    class Pipe:
        async def pipe(self, body):
            async def items():
                try:
                    while True:
                        yield "x"
                        await asyncio.sleep(0.01)
                finally:
                    pathlib.Path(body["mark"]).write_text("cleaned")
            return StreamingResponse(items())
    """,
    "async function with a sync generator": """
    import pathlib, time
    class Pipe:
        async def pipe(self, body):
            def items():
                try:
                    while True:
                        yield "x"
                        time.sleep(0.01)
                finally:
                    pathlib.Path(body["mark"]).write_text("cleaned")
            return items()
    """,
}


@pytest.mark.parametrize("form", ENDLESS)
async def test_client_that_leaves_runs_finally(bench: Bench, tmp_path: Path, form: str) -> None:
    function = bench.function(ENDLESS[form], id="leaving")
    mark = tmp_path / "mark"
    async with bench.running(function, stream=True, body={"mark": str(mark)}) as call:
        await call.first()
    await until("the generator's finally", lambda: mark.exists() and mark.read_text() == "cleaned")
    await until("the call's end", lambda: bench.executor.health("leaving").calls == 0)
    assert len(bench.pids(function)) == 1, "the worker was replaced although it let go"


@pytest.mark.parametrize("form", ["sync generator", "async generator"])
async def test_client_that_leaves_a_plain_call_runs_finally(bench: Bench, tmp_path: Path, form: str) -> None:
    function = bench.function(ENDLESS[form], id="leaving")
    mark = tmp_path / "mark"
    async with bench.running(function, body={"mark": str(mark)}):
        await asyncio.sleep(0.1)
    await until("the generator's finally", lambda: mark.exists() and mark.read_text() == "cleaned")


async def test_waiting_coroutine_is_cancelled(bench: Bench, tmp_path: Path) -> None:
    source = """
    import asyncio, pathlib
    class Pipe:
        async def pipe(self, body):
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                pathlib.Path(body["mark"]).write_text("cancelled")
                raise
    """
    function = bench.function(source)
    mark = tmp_path / "mark"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await bench.call(function, body={"mark": str(mark)})
    await until("the cancellation", mark.exists)


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_client_that_leaves_at_once_costs_no_place(bench: Bench, kind: str) -> None:
    """The cancellation reaches the worker together with the call."""
    function = bench.function(f"class Pipe:\n    {kind} pipe(self, body):\n        return 'x'\n", concurrency=1)
    assert await bench.call(function) == "x"
    (pid,) = bench.pids(function)
    for _ in range(30):
        async with bench.running(function):
            pass
        await until("the call's end", lambda: bench.executor.health(function.id).calls == 0, 3)
    assert await bench.call(function) == "x"
    assert bench.pids(function) == [pid]


# ---- time limit ----------------------------------------------------------------------------------------------------


async def test_time_limit_of_a_call_that_lets_go_keeps_the_worker(bench: Bench) -> None:
    source = """
    import asyncio
    class Pipe:
        async def pipe(self, body):
            if body.get("slow"):
                await asyncio.sleep(1000)
            return "quick"
    """
    function = bench.function(source, timeout_s=0.3)
    with pytest.raises(TimeLimit) as caught:
        await bench.call(function, body={"slow": True})
    assert caught.value.status == 408 and "0.3 s" in caught.value.message
    (pid,) = bench.pids(function)
    assert await bench.call(function) == "quick"
    assert bench.pids(function) == [pid]


async def test_time_limit_in_mid_stream(bench: Bench) -> None:
    function = bench.function(ENDLESS["async generator"], timeout_s=0.4, id="slow_stream")
    async with bench.running(function, stream=True, body={"mark": "mark"}) as call:
        assert isinstance(await call.first(), wire.Begin)
        with pytest.raises(TimeLimit):
            await rest(call)


async def test_worker_that_does_not_let_go_serves_its_other_calls_to_the_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(calls, "GRACE_S", 0.2)
    source = """
    import pathlib, time
    class Pipe:
        def pipe(self, body):
            if body.get("stuck"):
                time.sleep(1e6)
            while not pathlib.Path(body["gate"]).exists():
                time.sleep(0.01)
            return "done"
    """
    gate = tmp_path / "gate"
    function = bench.function(source, timeout_s=2, id="half_stuck")
    stuck = asyncio.create_task(bench.call(function, body={"stuck": True}))
    await until("the stuck call", lambda: bench.executor.health("half_stuck").calls == 1)
    await asyncio.sleep(1.2)
    (old,) = bench.pids(function)
    other = asyncio.create_task(bench.call(function, body={"gate": str(gate)}))
    with pytest.raises(TimeLimit):
        await stuck
    await asyncio.sleep(0.3)  # the grace is over
    assert alive(old), "the other call's worker was killed under it"
    fresh = asyncio.create_task(bench.call(function, body={"gate": str(gate)}))
    await until("a new worker for new calls", lambda: len(bench.pids(function)) == 2)
    gate.touch()
    assert await other == await fresh == "done"
    await until("the end of the stuck worker", lambda: not alive(old))


# ---- idle workers --------------------------------------------------------------------------------------------------


async def test_idle_worker_is_stopped_and_comes_back(bench: Bench) -> None:
    function = bench.function(ECHO, idle_s=0.2, id="sleepy")
    assert await bench.call(function) == "hi"
    (pid,) = bench.pids(function)
    await until("the end of the idle worker", lambda: not alive(pid))
    await until("no worker in the status", lambda: bench.executor.health("sleepy").workers == 0)
    assert await bench.call(function) == "hi"
    assert bench.executor.health("sleepy").crashes == 0


async def test_running_call_is_not_idle(bench: Bench) -> None:
    source = """
    import asyncio
    class Pipe:
        async def pipe(self, body):
            await asyncio.sleep(1.5)
            return "x"
    """
    function = bench.function(source, idle_s=0.1, id="busy")
    assert await bench.call(function) == "x"


async def test_only_so_many_idle_workers_are_kept(tmp_path: Path) -> None:
    async with Bench(tmp_path, idle_workers=2) as bench:
        functions = [bench.function(ECHO, id=f"f{n}") for n in range(5)]
        for function in functions:
            assert await bench.call(function) == "hi"
        await until("the end of surplus workers", lambda: bench.executor.worker_count == 2)
        assert [len(bench.pids(function)) for function in functions] == [0, 0, 0, 1, 1], "the newest are kept"
        assert await asyncio.gather(*(bench.call(function) for function in functions)) == ["hi"] * 5


# ---- the whole -----------------------------------------------------------------------------------------------------


async def test_no_descriptor_and_no_process_leaks(bench: Bench) -> None:
    """Two hundred loads and calls later everything is as before."""

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def settle() -> None:
        for id, _ in list(bench.executor._pools):
            bench.executor.retire(FunctionId(id))
        await until("the end of all pools", lambda: not bench.executor._pools)
        await until("the end of all workers", lambda: not bench.executor.worker_count)

    await settle()
    before, memory = descriptors(), rss(os.getpid())

    async def one(n: int) -> None:
        function = bench.function(ECHO + f"# {n}\n", id=f"leak{n % 8}")
        await bench.executor.load(function)
        assert await bench.call(function) == "hi"
        with pytest.raises(LoadFailed):
            await bench.executor.load(bench.function(f"raise ValueError({n})", id="leak_failed"))
        bench.executor.retire(function.id)

    for start in range(0, 70, 10):
        await asyncio.gather(*(one(n) for n in range(start, start + 10)))
    await settle()
    await until("the end of private folders", lambda: not list(bench.scratch.iterdir()))
    assert descriptors() <= before
    assert rss(os.getpid()) < memory + 40 * MB


async def test_a_warm_worker_is_small(bench: Bench) -> None:
    function = bench.function(ECHO, id="small")
    assert await bench.call(function) == "hi"
    (pid,) = bench.pids(function)
    assert own_memory(pid) < 12 * MB


async def test_stopping_ends_everything(tmp_path: Path) -> None:
    gate = tmp_path / "never"
    async with Bench(tmp_path / "bench") as bench:
        function = bench.function(WAITING)
        running = asyncio.create_task(bench.call(function, body={"gate": str(gate)}))
        await until("the call", lambda: bool(bench.pids(function)) and bench.executor.health(function.id).calls == 1)
        pids = bench.pids(function) + [zygote.pid for zygote in bench.executor.processes.zygotes.values()]
        began = time.monotonic()
    assert time.monotonic() - began < 5
    with pytest.raises(WorkerDied, match="the server is stopping"):
        await running
    assert not any(alive(pid) for pid in pids)
    with pytest.raises(Draining):
        await bench.call(function)
    assert not bench.scratch.exists()


async def test_failure_in_one_function_is_not_anothers(bench: Bench) -> None:
    function, other = (
        bench.function("class Pipe:\n    def pipe(self, body):\n        1/0\n"),
        bench.function(ECHO, id="other"),
    )
    for _ in range(5):
        with pytest.raises(FunctionRaised):
            await bench.call(function)
        assert await bench.call(other) == "hi"
