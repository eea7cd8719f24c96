"""Where events go and how questions are answered, without HTTP: real workers, the hub, queues and streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from fnsync.chat import events
from fnsync.chat.answers import Plain, Streamed
from fnsync.chat.events import EventQueue, Feed, Hub, Place
from fnsync.chat.listening import TurnListener
from fnsync.chat.live import Live
from fnsync.chat.render import DONE
from fnsync.errors import FnsyncError, Invalid, NotFound, RateLimited, TimeLimit, WorkerDied
from fnsync.runtime import wire
from fnsync.runtime.asks import MOST_ASKS
from tests.workbench import Bench, until, within

pytestmark = pytest.mark.anyio
CHAT = Place("ada", "chat-1")
STATUS = {"type": "status", "data": {"description": "working"}}
GONE = {"error": "Client session disconnected."}


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with Bench(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


def frames(data: bytes) -> list[Any]:
    return [json.loads(frame.removeprefix(b"data: ")) for frame in data.split(b"\n\n") if frame]


async def next_frames(feed: Feed) -> list[Any]:
    await within(5, "an event", feed.queue.news())
    return frames(feed.queue.take())


class Heard:
    """A listener that keeps what it hears, and answers a question when it is told to."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.questions: dict[str, asyncio.Future[bytes]] = {}

    def emit(self, data: bytes) -> None:
        self.events.append(json.loads(data))

    async def ask(self, data: bytes) -> bytes:
        name = json.loads(data)["type"]
        self.questions[name] = asyncio.get_running_loop().create_future()
        try:
            return await self.questions[name]
        except asyncio.CancelledError:
            self.events.append(f"{name} given up")
            raise

    async def question(self, name: str) -> asyncio.Future[bytes]:
        return await until(f"the question {name}", lambda: self.questions.get(name))


# ---- a worker's side -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("handler", ["pipe", "inlet", "stream", "outlet", "action"])
async def test_each_handler_emits_and_asks(bench: Bench, kind: str, handler: str) -> None:
    cls = {"pipe": "Pipe", "action": "Action"}.get(handler, "Filter")
    first = "event" if handler == "stream" else "body"
    call = "await {}" if kind == "async def" else "asyncio.run({})"
    source = f"""
    import asyncio
    class {cls}:
        {kind} {handler}(self, {first}, __event_emitter__, __event_call__):
            {call.format("__event_emitter__({'type': 'status', 'data': {}})")}
            return {{"answer": {call.format("__event_call__({'type': 'input', 'data': {}})")}}}
    """
    heard = Heard()
    function = bench.function(source, id=f"{handler}_{kind[:1]}")
    calling = asyncio.create_task(bench.call(function, handler=handler, listener=heard))
    (await heard.question("input")).set_result(b'"typed"')

    assert await within(5, "the call", calling) == {"answer": "typed"}
    assert heard.events == [{"type": "status", "data": {}}]


async def test_several_questions_at_once_each_get_their_own_answer(bench: Bench) -> None:
    source = """
    import asyncio
    class Pipe:
        async def pipe(self, body, __event_call__):
            one, two = __event_call__({"type": "one"}), __event_call__({"type": "two"})
            return {"answers": await asyncio.gather(one, two)}
    """
    heard = Heard()
    calling = asyncio.create_task(bench.call(bench.function(source), listener=heard))
    one, two = await heard.question("one"), await heard.question("two")
    two.set_result(b"2")
    one.set_result(b"1")
    assert await within(5, "the call", calling) == {"answers": [1, 2]}


async def test_answer_to_a_question_that_was_given_up_is_no_answer_to_the_next(bench: Bench) -> None:
    source = """
    import asyncio
    class Pipe:
        async def pipe(self, body, __event_call__):
            try:
                async with asyncio.timeout(0.01):
                    await __event_call__({"type": "given_up"})
            except TimeoutError:
                return {"answer": await __event_call__({"type": "next"})}
    """
    heard = Heard()
    calling = asyncio.create_task(bench.call(bench.function(source), listener=heard))
    given_up, following = await heard.question("given_up"), await heard.question("next")
    given_up.set_result(b'"late"')
    await until("the late answer", given_up.done)
    following.set_result(b'"right"')
    assert await within(5, "the call", calling) == {"answer": "right"}


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_question_ends_with_its_call(bench: Bench, kind: str) -> None:
    """Whether the time limit is over or the client leaves; the worker lets go and stays."""
    ask = "__event_call__({'type': 'endless'})"
    source = f"""
    import asyncio
    class Pipe:
        {kind} pipe(self, body, __event_call__):
            if body.get("ready"):
                return "here"
            return {f"await {ask}" if kind == "async def" else f"asyncio.run({ask})"}
    """
    function = bench.function(source, timeout_s=0.5, id=f"ends_{kind[:1]}")
    assert await bench.call(function, body={"ready": True}) == "here"
    pids = bench.pids(function)
    late, left = Heard(), Heard()
    with pytest.raises(TimeLimit):
        await bench.call(function, listener=late)
    await until("the end of the question", lambda: late.events == ["endless given up"])

    async with bench.running(function, listener=left) as call:
        await left.question("endless")
    await until("the end of the question", lambda: left.events == ["endless given up"])
    await until("the end of the call", lambda: call._ended)
    assert await bench.call(function, body={"ready": True}) == "here"
    assert bench.pids(function) == pids, "the worker was replaced"


async def test_too_many_questions_of_one_call_are_answered_at_once(bench: Bench) -> None:
    source = f"""
    import asyncio
    class Pipe:
        async def pipe(self, body, __event_call__):
            asks = [asyncio.ensure_future(__event_call__({{"type": str(n)}})) for n in range({MOST_ASKS + 1})]
            done, _ = await asyncio.wait(asks, return_when=asyncio.FIRST_COMPLETED)
            return {{"answers": [ask.result() for ask in done]}}
    """
    found = await within(5, "the call", bench.call(bench.function(source), listener=Heard()))
    assert "64 questions" in found["answers"][0]["error"]


async def test_events_ahead_of_a_stream_come_first_and_beside_a_response_too(bench: Bench) -> None:
    """Where a client sees events in its stream, they do not decide what the answer will be."""
    source = """
    from starlette.responses import StreamingResponse
    class Pipe:
        async def pipe(self, body, __event_emitter__):
            await __event_emitter__({"type": "ahead"})
            async def parts():
                yield b"data: {}\\n\\n"
                await __event_emitter__({"type": "beside"})
                yield b"data: [DONE]\\n\\n"
            return StreamingResponse(parts(), media_type="text/event-stream", status_code=201)
    """
    heard = Heard()
    async with bench.running(bench.function(source), stream=True, events=True, listener=heard) as call:
        first = await call.first()
        assert isinstance(first, wire.Begin) and first.head is not None and first.head.status == 201
        items = [item async for part in call.chunks() for item in part]
    assert b"".join(items) == b"data: {}\n\ndata: [DONE]\n\n"
    assert heard.events == [{"type": "ahead"}, {"type": "beside"}]


async def test_flood_of_events_ahead_of_a_stream_waits_for_its_reader(bench: Bench) -> None:
    source = """
    class Pipe:
        async def pipe(self, body, __event_emitter__):
            for _ in range(100):
                await __event_emitter__({"type": "status", "data": "x" * 2**14})
            return "the text"
    """
    heard = Heard()
    function = bench.function(source)
    items = await within(5, "the stream", bench.items(function, events=True, listener=heard))
    assert len(heard.events) + len(items) == 101 and items[-1] == "the text"
    assert len(heard.events) * 2**14 <= wire.STREAM_WINDOW_BYTES


async def test_flood_of_events_beside_a_call_lets_it_be_cancelled(bench: Bench) -> None:
    source = """
    class Pipe:
        async def pipe(self, body, __event_emitter__):
            if body.get("ready"):
                return "here"
            while True:
                await __event_emitter__({"type": "status"})
    """
    function = bench.function(source)
    assert await bench.call(function, body={"ready": True}) == "here"
    pids = bench.pids(function)
    heard = Heard()
    async with bench.running(function, listener=heard) as call:
        await until("an event", lambda: heard.events)
    await until("the end of the call", lambda: call._ended)
    assert bench.pids(function) == pids


async def test_event_that_is_too_long_is_the_functions_fault_and_the_workers_end(bench: Bench) -> None:
    source = """
    import struct, msgspec, socket, os
    class Pipe:
        async def pipe(self, body, __event_emitter__):
            if "call" not in body:
                await __event_emitter__({"type": "status", "data": "x" * 2**25})
            data = msgspec.msgpack.encode([26, body["call"], b"x" * (2**25 + 1)])
            for fd in range(3, 64):
                try:
                    found = socket.socket(fileno=os.dup(fd))
                    peer, _, _ = struct.unpack("3i", found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                    found.setblocking(True)
                    if peer != os.getpid():
                        found.sendall(struct.pack(">I", len(data)) + data)
                except OSError:
                    pass
    """
    function = bench.function(source)
    with pytest.raises(FnsyncError, match="is too long for a stream"):
        await bench.call(function, body={}, listener=Heard())
    with pytest.raises(WorkerDied, match="an event of"):
        await within(8, "the call", bench.call(function, body={"call": bench.executor.next_id() + 1}))


# ---- feeds and questions ---------------------------------------------------------------------------------------


async def test_feeds_get_the_events_of_their_users_chat_alone() -> None:
    hub = Hub(1.0)
    with hub.subscribe(CHAT) as mine, hub.subscribe(Place("eve", "chat-1")) as others, hub.subscribe(CHAT) as second:
        TurnListener(hub, CHAT, "m-1", None).emit(json.dumps(STATUS).encode())
        expected = [{"chat_id": "chat-1", "message_id": "m-1", "data": STATUS}]
        assert await next_frames(mine) == expected == await next_frames(second)
        assert others.queue.take() == b""
    assert not hub.is_heard(CHAT)


async def test_slow_feed_is_told_what_it_missed_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_WAITING", 3)
    hub = Hub(1.0)
    listener = TurnListener(hub, CHAT, None, None)
    with hub.subscribe(CHAT) as feed:
        for number in range(8):
            listener.emit(json.dumps({"type": "status", "data": number}).encode())
        found = [frame["data"] for frame in await next_frames(feed)]
        assert [event["data"] for event in found[:3]] == [0, 1, 2]
        assert found[3:] == [{"type": "events:dropped", "data": {"count": 5}}]
        listener.emit(b'{"type": "status", "data": 8}')
        assert [frame["data"]["data"] for frame in await next_frames(feed)] == [8]


async def test_what_waits_for_a_feed_is_bounded_in_bytes() -> None:
    queue = EventQueue(lambda count: b"%d dropped" % count)
    assert queue.put(b"x" * 2 * events.WAITING_BYTES), "one event may always wait"
    assert not queue.put(b"y")
    assert queue.take() == b"x" * 2 * events.WAITING_BYTES + b"1 dropped"
    assert queue.put(b"z")


async def test_feeds_of_one_user_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_FEEDS", 1)
    hub = Hub(1.0)
    with hub.subscribe(CHAT), pytest.raises(RateLimited), hub.subscribe(Place("ada", "another")):
        pass
    with hub.subscribe(Place("ada", "another")):
        pass


async def test_question_nobody_can_answer_is_answered_at_once() -> None:
    listener = TurnListener(Hub(60.0), CHAT, "m-1", None)
    assert json.loads(await within(1, "the answer", listener.ask(b'{"type": "input", "data": {}}'))) == GONE


async def test_question_times_out() -> None:
    hub = Hub(0.01)
    with hub.subscribe(CHAT):
        answer = json.loads(await TurnListener(hub, CHAT, "m-1", None).ask(b'{"type": "execute"}'))
    assert answer["error"].startswith("Event call timed out.")


async def test_question_goes_to_the_feeds_also_to_those_that_come_later_and_is_over_once_answered() -> None:
    hub = Hub(60.0)
    with hub.subscribe(CHAT) as feed:
        asking = asyncio.create_task(
            TurnListener(hub, CHAT, "m-1", None).ask(b'{"type": "input", "data": {"title": "t"}}')
        )
        (question,) = await next_frames(feed)
        with hub.subscribe(CHAT) as later:
            assert await next_frames(later) == [question]
        id = question["call"]
        assert question["data"] == {"type": "input", "data": {"title": "t", "interaction_id": id}}
        with pytest.raises(NotFound):
            hub.answer("eve", id, b"1")
        hub.answer("ada", id, b'"typed"')
        with pytest.raises(NotFound):
            hub.answer("ada", id, b'"twice"')
        assert await asking == b'"typed"'
        assert [frame["data"] for frame in await next_frames(feed)] == [
            {"type": "request:interaction:done", "data": {"interaction_id": id}}
        ]
        with pytest.raises(NotFound):
            hub.answer("ada", id, b'"late"')


@pytest.mark.parametrize("data", [b"nonsense", b"[1]", b"\xff", b"[" * 100_000])
async def test_what_is_no_event_is_dropped(data: bytes) -> None:
    hub = Hub(60.0)
    listener = TurnListener(hub, CHAT, "m-1", None)
    with hub.subscribe(CHAT) as feed:
        listener.emit(data)
        assert feed.queue.take() == b""
        assert json.loads(await within(1, "the answer", listener.ask(data))) == GONE


# ---- events in a stream ----------------------------------------------------------------------------------------


def stream_queue() -> EventQueue:
    return EventQueue(lambda count: b"")


def described(exc: FnsyncError) -> dict[str, Any]:
    return {"message": exc.message}


Make = Callable[[EventQueue, asyncio.Event], AsyncGenerator[bytes, None]]


def completion(answer: Plain | Streamed | FnsyncError, go: asyncio.Event) -> Any:
    """A completion that answers once `go` is set."""

    @asynccontextmanager
    async def context() -> AsyncIterator[Plain | Streamed]:
        await go.wait()
        if isinstance(answer, FnsyncError):
            raise answer
        yield answer

    return context()


async def parts(*each: bytes) -> AsyncGenerator[bytes, None]:
    for part in each:
        yield part


@pytest.mark.parametrize(
    ("answer", "rest"),
    [
        (Streamed(parts(b"data: 1\n\n", b"data: 2\n\n" + DONE)), b"data: 1\n\ndata: 2\n\n" + DONE),
        (Plain(b'{\n "a": 1}'), b'data: {"a":1}\n\n' + DONE),
        (
            Plain(b'{"id": "c", "choices": [{"message": {"role": "assistant", "content": "hi"}}]}'),
            b'"choices":[{"index":0,"logprobs":null,"finish_reason":null,"delta":{"role":"assistant","content":"hi"}}]}',
        ),
        (Plain(b'{"error": {"message": "quota"}}', 429), b'data: {"error":{"message":"quota"}}\n\n' + DONE),
        (Plain(b'{"detail": "teapot"}', 418), b"teapot"),
        (Plain(b"no such page", 404, "text/plain"), b"no such page"),
        (Streamed(parts(b"\x00"), 200, "image/png"), b"type image/png cannot follow events"),
        (Invalid("broke"), b'data: {"error":{"message":"broke"}}\n\n' + DONE),
    ],
    ids=["stream", "JSON", "a completion", "an error", "a detail", "text", "a picture", "raised"],
)
async def test_answer_begins_with_the_first_event(answer: Plain | Streamed | FnsyncError, rest: bytes) -> None:
    queue, go = stream_queue(), asyncio.Event()
    queue.put(b"data: event\n\n")
    async with Live(completion(answer, go), queue, described) as live:
        assert isinstance(live, Streamed) and live.status == 200
        assert await within(1, "the event", anext(live.parts)) == b"data: event\n\n"
        go.set()
        found = b"".join([part async for part in live.parts])
    assert rest in found and found.endswith(DONE)


async def test_answer_without_events_keeps_its_status() -> None:
    go = asyncio.Event()
    go.set()
    async with Live(completion(Plain(b"{}", 418), go), stream_queue(), described) as live:
        assert isinstance(live, Plain) and live.status == 418
    with pytest.raises(Invalid):
        async with Live(completion(Invalid("broke"), go), stream_queue(), described):
            pass


async def test_events_stand_between_whole_events_of_the_stream_and_before_its_end() -> None:
    queue, go, more = stream_queue(), asyncio.Event(), asyncio.Event()
    go.set()

    async def upstream() -> AsyncGenerator[bytes, None]:
        yield b"data: ha"
        await more.wait()
        yield b"lf\n\n"
        queue.put(b"data: last\n\n")
        yield DONE

    async with Live(completion(Streamed(upstream()), go), queue, described) as live:
        assert isinstance(live, Streamed)
        assert await anext(live.parts) == b"data: ha"
        queue.put(b"data: event\n\n")
        following = asyncio.ensure_future(anext(live.parts))
        await asyncio.sleep(0)
        more.set()
        found = await following + b"".join([part async for part in live.parts])
    assert found.startswith(b"lf\n\ndata: event\n\n")
    assert found.endswith(b"data: last\n\n" + DONE)


async def test_leaving_ends_what_is_under_way() -> None:
    queue, ended = stream_queue(), []

    @asynccontextmanager
    async def endless() -> AsyncIterator[Plain | Streamed]:
        try:
            await asyncio.Event().wait()
            yield Plain(b"")
        finally:
            ended.append("preparing")

    queue.put(b"data: event\n\n")
    async with Live(endless(), queue, described):
        pass
    waiting = asyncio.create_task(Live(endless(), stream_queue(), described).__aenter__())
    await asyncio.sleep(0.01)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    assert ended == ["preparing", "preparing"]
