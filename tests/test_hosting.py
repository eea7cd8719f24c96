"""What a function asks of the server through frames: from any thread and loop, within bounds, until its call ends."""

import asyncio
import json
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fnsync.errors import FunctionRaised, NotFound, TimeLimit
from fnsync.runtime import wire
from fnsync.runtime.hosting import MOST_ASKED, Flowing, Hosting, Told
from tests.workbench import WAIT_S, Bench, until, within

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with Bench(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


class Echoing:
    """A host that answers with what it was asked, and knows how it was left."""

    def __init__(self, user: str = "ada") -> None:
        self.user = user
        self.entered = 0
        self.left = 0
        #: Bytes of a stream that were taken from it.
        self.flowed = 0

    @asynccontextmanager
    async def ask(self, name: str, body: bytes, data: bytes) -> AsyncIterator[Told | Flowing]:
        self.entered += 1
        try:
            match name:
                case "missing":
                    raise NotFound("there is no such thing", hint="make it")
                case "wait":
                    await asyncio.Event().wait()
                case "broken":
                    raise ValueError("a bug")
                case "flow":
                    yield Flowing(wire.Head(200, "text/event-stream", []), self._parts(json.loads(body)), True)
                    return
            yield Told(json.dumps([self.user, name, json.loads(body)]).encode(), data[::-1])
        finally:
            self.left += 1

    async def _parts(self, count: int) -> AsyncIterator[bytes]:
        for number in range(count):
            part = b"%09d\n" % number * 100
            self.flowed += len(part)
            yield part


HEAD = """
import asyncio, threading
from concurrent.futures import ThreadPoolExecutor
from fnsync.worker import host

def ask(name="who", value=None, data=b""):
    return host.current().ask(name, value, data).value

async def ask_async(name="who", value=None, data=b""):
    return (await host.current().ask_async(name, value, data)).value
"""


def probe(methods: str, head: str = "") -> str:
    """A source whose Pipe has these methods; the first line of them is indented as the second, less four."""
    first, _, rest = methods.strip().partition("\n")
    body = textwrap.indent(f"{first}\n    {textwrap.dedent(rest).replace(chr(10), chr(10) + '    ')}", "    ")
    return f"{HEAD}\n{textwrap.dedent(head)}\nclass Pipe:\n{body}\n"


WAYS = {
    "a sync handler": "def pipe(self, body):\n    return {'found': ask()}",
    "an async handler": "async def pipe(self, body):\n    return {'found': await ask_async()}",
    "the loop, without await": "async def pipe(self, body):\n    return {'found': ask()}",
    "a generator": "def pipe(self, body):\n    yield str(ask()[0])",
    "asyncio.run in a thread": "def pipe(self, body):\n    return {'found': asyncio.run(ask_async())}",
    "a thread of the function": """def pipe(self, body):
            found = []
            thread = threading.Thread(target=lambda: found.append(ask()))
            thread.start()
            thread.join()
            return {'found': found[0]}""",
    "a pool of threads": """def pipe(self, body):
            return {'found': POOL.submit(ask).result()}""",
    "an executor of the loop": """async def pipe(self, body):
            return {'found': await asyncio.get_running_loop().run_in_executor(None, ask)}""",
    "a thread that the loop waits for": """async def pipe(self, body):
            return {'found': ThreadPoolExecutor(1).submit(ask).result()}""",
    "a loop in a thread that the loop waits for": """async def pipe(self, body):
            with ThreadPoolExecutor(1) as pool:
                return {'found': pool.submit(asyncio.run, ask_async()).result()}""",
    "a loop in a thread, from the loop": """async def pipe(self, body):
            return {'found': await asyncio.to_thread(lambda: asyncio.run(ask_async()))}""",
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_function_asks_from_wherever_it_runs(bench: Bench, way: str) -> None:
    function = bench.function(probe(WAYS[way], "POOL = ThreadPoolExecutor(1)"))
    answers = await asyncio.gather(*(bench.call(function, host=Echoing(user)) for user in ("ada", "bob", "ada")))
    users = [answer if isinstance(answer, str) else answer["found"][0] for answer in answers]
    assert users == ["ada", "bob", "ada"], f"{way}: one user's question was asked for another"


async def test_many_questions_at_once_and_content(bench: Bench) -> None:
    source = probe("""async def pipe(self, body):
            found = await asyncio.gather(*(ask_async("n", i) for i in range(30)))
            told = host.current().ask("file", None, b"abc" * 1000000)
            return {"numbers": [value[2] for value in found], "content": told.data[:3].decode(), "size": len(told.data)}
    """)
    answer = await bench.call(bench.function(source), host=Echoing())
    assert answer == {"numbers": list(range(30)), "content": "cba", "size": 3_000_000}


async def test_what_else_comes_while_the_loop_is_held_up_is_not_lost(bench: Bench) -> None:
    """A handler that asks without `await` holds up the loop; the other calls go on behind it, in order."""
    source = probe("""async def pipe(self, body):
            for _ in range(20):
                ask()
                await asyncio.sleep(0)
            return body["messages"][0]["content"]
    """)
    function = bench.function(source)
    texts = [f"text {number}" for number in range(12)]
    bodies = [{"messages": [{"role": "user", "content": text}]} for text in texts]
    assert await asyncio.gather(*(bench.call(function, body=body, host=Echoing()) for body in bodies)) == texts


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("missing", "there is no such thing; make it"),
        ("broken", "the server failed; its log says why"),
    ],
)
async def test_a_refusal_is_an_exception_in_the_function(bench: Bench, asked: str, said: str) -> None:
    function = bench.function(probe(f"def pipe(self, body):\n            return ask({asked!r})"))
    with pytest.raises(FunctionRaised, match=said) as caught:
        await bench.call(function, host=Echoing())
    assert caught.value.exception == "Refused"
    with pytest.raises(FunctionRaised, match="this call cannot ask the server"):
        await bench.call(function)


async def test_bounds_on_what_one_call_asks_at_once(bench: Bench) -> None:
    source = probe("""async def pipe(self, body):
            many = [asyncio.create_task(ask_async("wait")) for _ in range(40)]
            done, waiting = await asyncio.wait(many, return_when=asyncio.FIRST_COMPLETED)
            while len(done) < 8:
                done, waiting = await asyncio.wait(many, return_when=asyncio.ALL_COMPLETED, timeout=0.05)
            reasons = {str(task.exception()) for task in done}
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            try:
                ask("file", None, b"x" * 70_000_000)
            except host.Refused as exc:
                reasons.add(str(exc))
            return {"reasons": sorted(reasons), "after": ask()[0]}
    """)
    echoing = Echoing()
    answer = await bench.call(bench.function(source), host=echoing)
    assert answer["after"] == "ada"
    assert [reason.partition(" may ")[0] for reason in answer["reasons"]] == ["a call", "a call"], answer
    await until("the end of the cancelled questions", lambda: echoing.left == echoing.entered)


async def test_what_was_answered_counts_no_more() -> None:
    """A function that has as many questions under way as it may asks the next as soon as one is answered."""
    told: list[wire.Frame] = []

    def send(frame: wire.Frame) -> None:
        told.append(frame)
        if isinstance(frame, wire.HostReply) and frame.number <= 3 * MOST_ASKED:
            hosting.on_call(wire.HostCall(1, frame.number + MOST_ASKED, "next", b"1"))

    hosting = Hosting(1, Echoing(), send)
    for number in range(1, MOST_ASKED + 1):
        hosting.on_call(wire.HostCall(1, number, "first", b"1"))
    await until("all answers", lambda: len(told) == 4 * MOST_ASKED)
    assert {type(frame) for frame in told} == {wire.HostReply}


FLOW = probe("""async def pipe(self, body):
            stream = await host.current().ask_async("flow", 5000)
            size = 0
            async for chunk in stream.chunks():
                size += len(chunk)
                if body.get("stop") and size > body["stop"]:
                    break
            return {"size": size, "text": stream.text}
""")


async def test_a_stream_comes_whole(bench: Bench) -> None:
    answer = await bench.call(bench.function(FLOW), host=Echoing())
    assert answer == {"size": 5_000_000, "text": True}


async def test_a_stream_comes_whole_to_a_thread_that_the_loop_waits_for(bench: Bench) -> None:
    source = FLOW.replace("async def pipe", "async def read").replace(
        "class Pipe:\n",
        """class Pipe:
    async def pipe(self, body):
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(asyncio.run, self.read(body)).result()
        return {**found, "after": await ask_async()}

""",
    )
    function = bench.function(source)
    answers = await asyncio.gather(*(bench.call(function, host=Echoing(user)) for user in ("ada", "bob")))
    assert [answer["size"] for answer in answers] == [5_000_000] * 2
    assert [answer["after"][0] for answer in answers] == ["ada", "bob"]


async def test_a_stream_that_is_left_ends_at_the_server(bench: Bench) -> None:
    echoing = Echoing()
    answer = await bench.call(bench.function(FLOW), body={"stop": 1000}, host=echoing)
    assert answer["size"] < 4_000_000
    await until("the end of the stream", lambda: echoing.left)
    assert echoing.flowed < 5_000_000


async def test_a_stream_that_is_not_read_is_not_buffered(bench: Bench) -> None:
    source = probe("""async def pipe(self, body):
            stream = await host.current().ask_async("flow", 100_000)
            while ask("flowed_more"):
                await asyncio.sleep(0.02)
            return "done"
    """)

    class Watching(Echoing):
        seen = -1

        @asynccontextmanager
        async def ask(self, name: str, body: bytes, data: bytes) -> AsyncIterator[Told | Flowing]:
            if name == "flowed_more":
                more, self.seen = self.flowed > self.seen, self.flowed
                yield Told(json.dumps(more).encode())
                return
            async with super().ask(name, body, data) as told:
                yield told

    watching = Watching()
    assert await bench.call(bench.function(source), host=watching) == "done"
    assert 0 < watching.flowed < 2 * wire.HOST_WINDOW_BYTES + 100_000, "the server went on without a reader"
    await until("the end of the stream", lambda: watching.left == 1)


WAITING = (
    "def pipe(self, body):\n    body.get('later') or ask('wait')",
    "async def pipe(self, body):\n    body.get('later') or await ask_async('wait')",
    "async def pipe(self, body):\n    body.get('later') or ask('wait')",
)


@pytest.mark.parametrize("handler", WAITING)
async def test_the_end_of_a_call_ends_its_questions(bench: Bench, handler: str) -> None:
    echoing = Echoing()
    source = probe(handler)
    function = bench.function(source, timeout_s=0.4)
    with pytest.raises(TimeLimit):
        await bench.call(function, host=echoing)
    await until("the end of the question", lambda: echoing.left == 1)
    pids = bench.pids(function)
    await within(WAIT_S, "the next call", bench.call(function, body={"later": True}))
    assert bench.pids(function) == pids, "a worker that let go of its call was killed"


async def test_outside_a_call_there_is_one_clear_error(bench: Bench) -> None:
    head = """
    def attempt():
        try:
            return ask()
        except host.OutsideCall as exc:
            return str(exc)
    LOADING = attempt()
    """
    source = f"{HEAD}\n{textwrap.dedent(head)}" + textwrap.dedent("""
    class Pipe:
        def __init__(self):
            self.init = attempt()
        def pipe(self, body):
            return {"loading": LOADING, "init": self.init}
    """)
    answer = await bench.call(bench.function(source), host=Echoing())
    assert "no call is under way here" in answer["loading"]
    assert answer["init"] == answer["loading"]


async def test_after_the_answer_nothing_can_be_asked(bench: Bench) -> None:
    source = probe(
        """async def pipe(self, body):
            if body.get("second"):
                WAKE.set()
                await TASK[0]
                return SAID[0]
            async def late():
                await WAKE.wait()
                try:
                    await ask_async()
                except host.OutsideCall as exc:
                    SAID.append(str(exc))
            TASK.append(asyncio.create_task(late()))
            return "first"
""",
        "WAKE, TASK, SAID = asyncio.Event(), [], []",
    )
    function = bench.function(source)
    assert await bench.call(function, host=Echoing()) == "first"
    said = await bench.call(function, body={"second": True}, host=Echoing("bob"))
    assert said.startswith("the call is over, so the server cannot be asked")
