"""What a function may return, yield, raise and ask for, and what the caller gets (function-contract §2.2, §2.3)."""

import asyncio
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fnsync.errors import FnsyncError, FunctionRaised, LoadFailed, Unrenderable
from fnsync.runtime import wire
from tests.workbench import Bench, until, within

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with Bench(tmp_path_factory.mktemp("bench"), environ={"GREETING": "hello from outside"}) as bench:
        yield bench


def pipe(body: str, head: str = "") -> str:
    """A source whose `pipe` has these lines."""
    lines = textwrap.indent(textwrap.dedent(body), " " * 8)
    return f"{textwrap.dedent(head)}\nclass Pipe:\n    def pipe(self, body):\n{lines}\n"


def async_pipe(body: str, head: str = "") -> str:
    return pipe(body, head).replace("    def pipe", "    async def pipe")


MODEL = """
from pydantic import BaseModel
class Answer(BaseModel):
    n: int = 7
"""
RESPONSES = "from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse\n"
COMPLETION = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}

# ---- one result: the same for plain and streaming calls, rendering is the chat's part ------------------------------


@pytest.mark.parametrize("make", [pipe, async_pipe])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("'text'", "text"),
        ("''", ""),
        ("'grüße 🌍'", "grüße 🌍"),
        ("b'bytes'", "bytes"),
        ("bytearray(b'more')", "more"),
        (r"{'half \ud83d': [('\ud83d', 1)], 'whole': '\U0001f30d'}", {"half ?": [["?", 1]], "whole": "🌍"}),
        ("None", None),
        (f"{COMPLETION!r}", COMPLETION),
        ("{'event': {'type': 'status'}}", {"event": {"type": "status"}}),
        ("{'n': 2**70, 'when': __import__('datetime').date(2026, 1, 2)}", {"n": 2**70, "when": "2026-01-02"}),
        ("Answer()", {"n": 7}),
        ("{'inner': Answer()}", {"inner": {"n": 7}}),
        ("'a\\ud800b'", "a?b"),
    ],
)
async def test_single_result(bench: Bench, make: Any, stream: bool, returned: str, expected: Any) -> None:
    function = bench.function(make(f"return {returned}", MODEL))
    assert await bench.call(function, stream=stream) == expected


@pytest.mark.parametrize("make", [pipe, async_pipe])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("returned", "named"),
    [
        ("[1, 2]", "list"),
        ("(1, 2)", "tuple"),
        ("5", "int"),
        ("True", "bool"),
        ("object()", "object"),
        ("{'x': object()}", "object"),
        ("b'\\xff\\xfe'", "UTF-8"),
    ],
)
async def test_result_that_nobody_can_render_names_its_type(
    bench: Bench, make: Any, stream: bool, returned: str, named: str
) -> None:
    with pytest.raises(Unrenderable, match=named):
        await bench.call(bench.function(make(f"return {returned}")), stream=stream)


@pytest.mark.parametrize("make", [pipe, async_pipe])
@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("JSONResponse({'a': 1}, status_code=202)", (202, "application/json", b'{"a":1}')),
        ("PlainTextResponse('plain')", (200, "text/plain; charset=utf-8", b"plain")),
        ("HTMLResponse('<b>x</b>')", (200, "text/html; charset=utf-8", b"<b>x</b>")),
    ],
)
async def test_response_passes_as_it_is(bench: Bench, make: Any, returned: str, expected: Any) -> None:
    function = bench.function(make(f"return {returned}", RESPONSES))
    assert await bench.call(function) == expected
    assert await bench.call(function, stream=True) == expected


@pytest.mark.parametrize("stream", [False, True])
async def test_streaming_response_passes_untouched(bench: Bench, stream: bool) -> None:
    source = pipe(
        """
        def body():
            yield "data: one\\n\\n"
            yield b"\\xff\\x00"
        return StreamingResponse(body(), status_code=203, media_type="text/event-stream", headers={"X-Own": "yes"})
        """,
        RESPONSES,
    )
    async with bench.running(bench.function(source), stream=stream) as call:
        first = await call.first()
        assert isinstance(first, wire.Begin) and first.head is not None
        assert (first.head.status, first.head.media_type) == (203, "text/event-stream; charset=utf-8")
        assert ("x-own", "yes") in first.head.headers
        assert [item async for items in call.chunks() for item in items] == [b"data: one\n\n", b"\xff\x00"]


# ---- streams -------------------------------------------------------------------------------------------------------

ITEMS = """
yield "a"
yield ""
yield "data: {}"
yield b"b\\xc3\\xbc"
yield {"choices": [{"delta": {"content": "c"}}]}
yield {"event": {"type": "status", "data": {}}}
yield None
yield Answer()
"""
STREAMED = [
    "a",
    "",
    "data: {}",
    "bü",
    {"choices": [{"delta": {"content": "c"}}]},
    {"event": {"type": "status", "data": {}}},
    {"n": 7},
]
GENERATED = {
    "sync generator": pipe(ITEMS, MODEL),
    "async generator": async_pipe(ITEMS, MODEL),
    "sync function with a generator": pipe("return items()", MODEL + f"def items():{textwrap.indent(ITEMS, '  ')}"),
    "async function with a sync generator": async_pipe(
        "return items()", MODEL + f"def items():{textwrap.indent(ITEMS, '  ')}"
    ),
    "sync function with an async generator": pipe(
        "return items()", MODEL + f"async def items():{textwrap.indent(ITEMS, '  ')}"
    ),
    "async function with an async generator": async_pipe(
        "return items()", MODEL + f"async def items():{textwrap.indent(ITEMS, '  ')}"
    ),
    "iterator": pipe("return iter(list(items()))", MODEL + f"def items():{textwrap.indent(ITEMS, '  ')}"),
    "map": pipe("return map(lambda x: x, list(items()))", MODEL + f"def items():{textwrap.indent(ITEMS, '  ')}"),
    "class with __aiter__": pipe(
        "return Many()",
        MODEL
        + f"async def items():{textwrap.indent(ITEMS, '  ')}"
        + "class Many:\n    def __aiter__(self):\n        return items()\n",
    ),
}


@pytest.mark.parametrize("form", GENERATED)
async def test_generator_streams_its_items(bench: Bench, form: str) -> None:
    assert await bench.items(bench.function(GENERATED[form])) == STREAMED


@pytest.mark.parametrize("form", GENERATED)
async def test_generator_of_a_plain_call_is_joined(bench: Bench, form: str) -> None:
    """Bytes are text, chunk objects give their content, events and other objects give nothing."""
    assert await bench.call(bench.function(GENERATED[form])) == "adata: {}büc"


@pytest.mark.parametrize("make", [pipe, async_pipe])
async def test_empty_generator(bench: Bench, make: Any) -> None:
    function = bench.function(make("if False:\n    yield 'never'"))
    assert await bench.items(function) == []
    assert await bench.call(function) == ""


@pytest.mark.parametrize("make", [pipe, async_pipe])
async def test_item_that_nobody_can_render_ends_the_stream_and_is_named(bench: Bench, make: Any) -> None:
    function = bench.function(make("yield 'text'\nyield 5"))
    async with bench.running(function, stream=True) as call:
        assert isinstance(await call.first(), wire.Begin)
        with pytest.raises(Unrenderable, match="the generator yielded a int"):
            async for items in call.chunks():
                assert items == ["text"]


@pytest.mark.parametrize("make", [pipe, async_pipe])
async def test_text_with_half_a_surrogate_streams(bench: Bench, make: Any) -> None:
    """Half of a split emoji is no UTF-8; the answer goes on all the same."""
    function = bench.function(make("yield 'a\\ud83d'\nyield 'b'"))
    assert await within(5, "the stream", bench.items(function)) == ["a?", "b"]


@pytest.mark.parametrize("make", [pipe, async_pipe])
async def test_item_larger_than_a_frame_is_an_error(bench: Bench, make: Any) -> None:
    function = bench.function(make("yield 'a'\nyield 'x' * (160 * 2**20)"), memory_bytes=2 * 2**30)
    with pytest.raises(FnsyncError, match="too long|over the limit"):
        await within(8, "the stream", bench.items(function))


async def test_plain_answer_larger_than_a_frame_is_an_error(bench: Bench) -> None:
    function = bench.function(pipe("return 'x' * (160 * 2**20)"), memory_bytes=2 * 2**30)
    with pytest.raises(FnsyncError, match="over the limit"):
        await within(8, "the call", bench.call(function))


# ---- exceptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [pipe, async_pipe])
@pytest.mark.parametrize("stream", [False, True])
async def test_exception_tells_type_message_and_own_lines(bench: Bench, make: Any, stream: bool) -> None:
    source = make("return inner()", "def inner():\n    raise ValueError('no such thing')")
    with pytest.raises(FunctionRaised) as caught:
        await bench.call(bench.function(source), stream=stream)
    assert (caught.value.exception, caught.value.message) == ("ValueError", "no such thing")
    assert caught.value.traceback == (
        "probe.py:5 in pipe: return inner()",
        "probe.py:2 in inner: raise ValueError('no such thing')",
    )


@pytest.mark.parametrize("make", [pipe, async_pipe])
async def test_exception_before_the_first_item_is_no_stream(bench: Bench, make: Any) -> None:
    function = bench.function(make("raise KeyError('x')\nyield 'never'"))
    async with bench.running(function, stream=True) as call:
        with pytest.raises(FunctionRaised, match="x"):
            await call.first()


@pytest.mark.parametrize("make", [pipe, async_pipe])
async def test_exception_after_the_first_item_comes_after_the_items(bench: Bench, make: Any) -> None:
    function = bench.function(make("yield 'one'\nyield 'two'\nraise ValueError('midway')"))
    seen: list[Any] = []
    async with bench.running(function, stream=True) as call:
        await call.first()
        with pytest.raises(FunctionRaised, match="midway"):
            async for items in call.chunks():
                seen += items
    assert seen == ["one", "two"]


@pytest.mark.parametrize("make", [pipe, async_pipe])
async def test_generator_that_fails_is_no_plain_answer(bench: Bench, make: Any) -> None:
    with pytest.raises(FunctionRaised, match="midway"):
        await bench.call(bench.function(make("yield 'one'\nraise ValueError('midway')")))


@pytest.mark.parametrize("make", [pipe, async_pipe])
@pytest.mark.parametrize(
    ("raised", "exception", "message"),
    [
        ("SystemExit(3)", "SystemExit", "3"),
        ("KeyboardInterrupt()", "KeyboardInterrupt", "KeyboardInterrupt"),
        ("HTTPException(403, 'not for you')", "HTTPException", "not for you"),
        ("StopIteration('x')", None, None),
        ("SyntaxError()", "SyntaxError", ""),
        ("SyntaxError(None, ('f.py', 1, 1, 'x'))", "SyntaxError", None),
        ("ValueError('half \\ud800 surrogate')", "ValueError", "half"),
        ("ValueError('x' * 10**7)", "ValueError", "xxx"),
        ("Odd()", "Odd", "cannot be had"),
        ("__import__('asyncio').CancelledError()", "CancelledError", None),
    ],
)
async def test_every_exception_ends_its_call_and_nothing_else(
    bench: Bench, make: Any, raised: str, exception: str | None, message: str | None
) -> None:
    head = """
    from fastapi import HTTPException
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError
    """
    function = bench.function(make(f"if body.get('ok'):\n    return 'fine'\nraise {raised}", head))
    with pytest.raises(FunctionRaised) as caught:
        await within(5, "the call", bench.call(function))
    assert exception is None or caught.value.exception == exception
    assert message is None or message in caught.value.message
    assert len(caught.value.message) < 20_000
    (worker,) = bench.pids(function)
    assert await bench.call(function, body={"ok": True}) == "fine"
    assert bench.pids(function) == [worker], "the worker was lost to an exception"


async def test_handler_that_cannot_be_had_is_an_error_of_the_call(bench: Bench) -> None:
    """A property that raises is function code as well."""
    source = """
    import sys
    class Pipe:
        loaded = False
        @property
        def pipe(self):
            if Pipe.loaded:
                raise ValueError("not today")
            return lambda body: "yes"
        async def action(self, body):
            Pipe.loaded = True
    """
    function = bench.function(source)
    assert await bench.call(function) == "yes"
    await bench.call(function, handler="action")
    with pytest.raises(FunctionRaised, match="not today"):
        await within(5, "the call", bench.call(function))


async def test_class_without_the_handler(bench: Bench) -> None:
    function = bench.function("class Filter:\n    def inlet(self, body):\n        return body\n")
    with pytest.raises(FnsyncError, match="Filter has no `pipe`"):
        await bench.call(function)


# ---- forms of handlers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "class Pipe:\n    @staticmethod\n    def pipe(body):\n        return body['model']",
        "class Pipe:\n    @classmethod\n    async def pipe(cls, body):\n        return body['model']",
        "class Pipe:\n    pipe = lambda self, body: body['model']",
        "import functools\nasync def work(x, body):\n    return body['model']\n"
        "class Pipe:\n    def __init__(self):\n        self.pipe = functools.partial(work, 1)",
        "async def work(body):\n    return body['model']\n"
        "class Pipe:\n    def pipe(self, body):\n        return work(body)",
        "class Call:\n    async def __call__(self, body):\n        return body['model']\n"
        "class Pipe:\n    def __init__(self):\n        self.pipe = Call()",
        "import functools\ndef logged(f):\n    @functools.wraps(f)\n    async def inner(*args, **kwargs):\n"
        "        return await f(*args, **kwargs)\n    return inner\n"
        "class Pipe:\n    @logged\n    async def pipe(self, body, __user__):\n        return body['model']",
        "def make():\n    class Inner:\n        def pipe(self, body):\n            return body['model']\n"
        "    return Inner()\n"
        "def Pipe():\n    return make()",
    ],
    ids=["static", "classmethod", "lambda", "partial", "sync wrapper", "callable", "decorated", "factory"],
)
async def test_forms_of_handlers(bench: Bench, source: str) -> None:
    assert await bench.call(bench.function(source)) == "probe"


async def test_imported_names_decide_no_kind(bench: Bench) -> None:
    source = """
    from multiprocessing import Pipe
    from threading import Event
    class Filter:
        def inlet(self, body):
            return {**body, "seen": True}
    """
    function = bench.function(source)
    assert (await bench.executor.load(function)).kind == "filter"
    assert (await bench.call(function, handler="inlet", body={"a": 1})) == {"a": 1, "seen": True}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("pipes = [{'id': 'a', 'name': 'A'}]", [{"id": "a", "name": "A"}]),
        ("def pipes(self):\n        return [{'id': 'a'}]", [{"id": "a"}]),
        ("async def pipes(self):\n        return [{'id': 'a'}]", [{"id": "a"}]),
        ("def pipes(self):\n        yield {'id': 'a'}", [{"id": "a"}]),
        ("async def pipes(self):\n        yield {'id': 'a'}", [{"id": "a"}]),
        ("def pipes(self):\n        return None", None),
    ],
)
async def test_pipes_in_every_form(bench: Bench, lines: str, expected: Any) -> None:
    function = bench.function(f"class Pipe:\n    {lines}\n    def pipe(self, body):\n        return ''\n")
    assert (await bench.executor.load(function)).manifold
    assert await bench.call(function, handler="pipes", body=None) == expected


# ---- arguments -----------------------------------------------------------------------------------------------------


async def test_arguments_come_by_name(bench: Bench) -> None:
    source = """
    class Pipe:
        def pipe(self, body, __user__, *args, __metadata__, __chat_id__="default", mine="own", **kwargs):
            return {"user": __user__["id"], "metadata": __metadata__, "chat": __chat_id__, "mine": mine,
                    "args": list(args), "kwargs": kwargs}
    """
    context = {"__user__": {"id": "u"}, "__metadata__": {"m": 1}, "__chat_id__": "c", "__files__": [1]}
    assert await bench.call(bench.function(source), context=context) == {
        "user": "u",
        "metadata": {"m": 1},
        "chat": "c",
        "mine": "own",
        "args": [],
        "kwargs": {},
    }


@pytest.mark.parametrize(
    ("parameters", "named"),
    [("self, body, response", "response"), ("self", "body"), ("self, body, /", "body")],
)
async def test_parameters_that_nobody_supplies_are_named(bench: Bench, parameters: str, named: str) -> None:
    function = bench.function(f"class Pipe:\n    def pipe({parameters}):\n        return 'never'\n")
    with pytest.raises(FunctionRaised, match=named) as caught:
        await bench.call(function)
    assert caught.value.exception == "TypeError"


async def test_every_reserved_argument_is_there(bench: Bench) -> None:
    """A function that names one never fails for the lack of it."""
    names = [
        "user",
        "event_emitter",
        "event_call",
        "metadata",
        "request",
        "model",
        "chat_id",
        "message_id",
        "session_id",
        "files",
        "tools",
        "task",
        "task_body",
        "oauth_token",
        "id",
        "features",
        "messages",
    ]
    parameters = ", ".join(f"__{name}__" for name in names)
    function = bench.function(f"class Pipe:\n    def pipe(self, body, {parameters}):\n        return 'called'\n")
    assert await bench.call(function) == "called"


@pytest.mark.parametrize("stream", [False, True])
async def test_emitter_and_event_call_are_never_none(bench: Bench, stream: bool) -> None:
    source = """
    class Pipe:
        async def pipe(self, body, __event_emitter__, __event_call__):
            nothing = await __event_emitter__({"type": "status", "data": {"description": "working"}})
            answer = await __event_call__({"type": "input", "data": {}})
            return {"emitted": nothing, "answer": answer}
    """
    found = await within(5, "the call", bench.call(bench.function(source), stream=stream))
    assert found["emitted"] is None
    assert found["answer"] == {"error": "Client session disconnected."}


async def test_emitter_refuses_what_is_no_event(bench: Bench) -> None:
    function = bench.function(
        "class Pipe:\n    async def pipe(self, body, __event_emitter__):\n        await __event_emitter__('text')\n"
    )
    with pytest.raises(FunctionRaised, match="an event is a dict"):
        await bench.call(function)


@pytest.mark.parametrize(
    "make", ["await emit({'type': 'status', 'n': 1})", "asyncio.run(emit({'type': 'status', 'n': 1}))"]
)
async def test_events_stand_among_a_streams_items_when_they_are_wanted(bench: Bench, make: str) -> None:
    kind = "async def" if make.startswith("await") else "def"
    source = f"""
    import asyncio
    class Pipe:
        {kind} pipe(self, body, __event_emitter__):
            emit = __event_emitter__
            yield "before"
            {make}
            yield "after"
    """
    function = bench.function(source)
    event = {"event": {"type": "status", "n": 1}}
    assert await within(5, "the stream", bench.items(function, events=True)) == ["before", event, "after"]
    assert await within(5, "the stream", bench.items(function)) == ["before", "after"]


async def test_request_tells_of_the_http_call(bench: Bench) -> None:
    source = """
    class Pipe:
        def pipe(self, body, __request__):
            return {
                "language": __request__.headers.get("Accept-Language"),
                "base": str(__request__.base_url),
                "url": str(__request__.url),
                "method": __request__.method,
                "client": __request__.client.host,
            }
    """
    description = {
        "method": "POST",
        "path": "/v1/chat/completions",
        "query": "a=1",
        "headers": {"Accept-Language": "de", "host": "chat.example.org:8470"},
        "client": ["10.0.0.1", 5],
        "base_url": "http://chat.example.org:8470/",
    }
    assert await bench.call(bench.function(source), context={"__request__": description}) == {
        "language": "de",
        "base": "http://chat.example.org:8470/",
        "url": "http://chat.example.org:8470/v1/chat/completions?a=1",
        "method": "POST",
        "client": "10.0.0.1",
    }


# ---- valves --------------------------------------------------------------------------------------------------------

VALVES = """
from typing import Optional
from pydantic import BaseModel, Field
class Pipe:
    class Valves(BaseModel):
        priority: int = Field(default=0)
        key: str = "field"
        host: str = "field"
        note: Optional[str] = "field"
    def __init__(self):
        self.valves = self.Valves(key="constructor", host="constructor")
    def pipe(self, body):
        return self.valves.model_dump()
"""


async def test_valves_stored_over_constructor_over_field(bench: Bench) -> None:
    function = bench.function(VALVES, valves={"host": "stored", "priority": "9", "note": None})
    assert await bench.call(function) == {"priority": 9, "key": "constructor", "host": "stored", "note": "field"}


async def test_valve_from_the_servers_environment(bench: Bench) -> None:
    function = bench.function(VALVES, id="outside", valves={"key": {"env": "GREETING"}})
    assert (await bench.call(function))["key"] == "hello from outside"
    missing = bench.function(VALVES, id="missing", valves={"key": {"env": "NOT_THERE"}})
    with pytest.raises(LoadFailed, match=r"valves\.key: the server's environment has no variable NOT_THERE"):
        await bench.executor.load(missing)


async def test_bad_valve_names_the_field(bench: Bench) -> None:
    function = bench.function(VALVES, id="bad_valve", valves={"priority": "high"})
    with pytest.raises(LoadFailed, match="priority: Input should be a valid integer") as caught:
        await bench.executor.load(function)
    assert caught.value.problem.code == "valves"


async def test_changed_valves_apply_without_loading_again(bench: Bench) -> None:
    function = bench.function(VALVES, id="changing", valves={"host": "one"})
    assert (await bench.call(function))["host"] == "one"
    pids = bench.pids(function)
    await bench.executor.configure(bench.function(VALVES, id="changing", valves={"note": "two"}))
    assert await bench.call(function) == {"priority": 0, "key": "constructor", "host": "constructor", "note": "two"}
    with pytest.raises(LoadFailed, match="priority"):
        await bench.executor.configure(bench.function(VALVES, id="changing", valves={"priority": "x"}))
    assert (await bench.call(function))["note"] == "two", "bad values replaced the good ones"
    assert bench.pids(function) == pids


# ---- loading -------------------------------------------------------------------------------------------------------


async def test_annotations_are_not_evaluated(bench: Bench) -> None:
    source = """
    from typing import TYPE_CHECKING
    if TYPE_CHECKING:
        from nowhere import Thing
    def helper(x: Thing) -> Nothing.At.All: ...
    class Pipe:
        count: Undefined = 0
        def pipe(self, body: Thing) -> Missing:
            return sorted(helper.__annotations__.values())[0]
    """
    assert await bench.call(bench.function(source)) == "Nothing.At.All"


async def test_helpers_relative_imports_and_shared_modules(bench: Bench) -> None:
    source = """
    import helper
    from . import helper as relative
    from .package.inner import deep
    import _shared
    class Pipe:
        def pipe(self, body):
            return [helper.NAME, relative.NAME, deep(), _shared.NAME, (__file__.rpartition("/")[2])].__str__()
    """
    files = {
        "function/helper.py": "NAME = 'helper'\n",
        "function/package/__init__.py": "",
        "function/package/inner.py": "from ..helper import NAME\ndef deep():\n    return NAME + ' deep'\n",
        "shared/_shared.py": "NAME = 'shared'\n",
    }
    answer = await bench.call(bench.function(source, files=files))
    assert answer == "['helper', 'helper', 'helper deep', 'shared', 'main.py']"


async def test_exception_in_a_helper_is_shown_with_its_own_path(bench: Bench) -> None:
    files = {"function/helper.py": "def fail():\n    raise ValueError('deep')\n"}
    function = bench.function(pipe("helper.fail()", "import helper"), files=files)
    with pytest.raises(FunctionRaised) as caught:
        await bench.call(function)
    assert caught.value.traceback[-1] == "helper.py:2 in fail: raise ValueError('deep')"


async def test_source_and_pickle_work(bench: Bench) -> None:
    source = """
    import inspect, pickle
    from dataclasses import dataclass
    @dataclass
    class Thing:
        n: int = 1
    class Pipe:
        def pipe(self, body):
            again = pickle.loads(pickle.dumps(self))
            assert type(again) is Pipe and pickle.loads(pickle.dumps(Thing(3))) == Thing(3)
            return inspect.getsource(Thing).splitlines()[-1]
    """
    assert (await bench.call(bench.function(source))).strip() == "n: int = 1"


async def test_the_loop_runs_while_a_function_is_made(bench: Bench) -> None:
    source = """
    import asyncio
    LOOP = asyncio.get_running_loop()
    class Pipe:
        def __init__(self):
            self.task = asyncio.create_task(self.work())
        async def work(self):
            await asyncio.sleep(0)
            return "background"
        async def pipe(self, body):
            assert asyncio.get_running_loop() is LOOP
            return await self.task
    """
    assert await bench.call(bench.function(source)) == "background"


async def test_a_background_task_that_raises_is_in_the_log(bench: Bench) -> None:
    source = """
    from starlette.background import BackgroundTask
    from starlette.responses import PlainTextResponse
    def behind():
        raise ValueError("nobody waits")
    class Pipe:
        async def pipe(self, body):
            return PlainTextResponse("out", background=BackgroundTask(behind))
    """
    assert (await bench.call(bench.function(source, id="behind")))[2] == b"out"
    said = "the background task of the response raised ValueError: nobody waits (behind.py:5)"
    await until("its line in the log", lambda: said in bench.log("behind"))


async def test_init_runs_once_for_many_calls(bench: Bench) -> None:
    source = """
    class Pipe:
        def __init__(self):
            self.calls = 0
        def pipe(self, body):
            self.calls += 1
            return str(self.calls)
    """
    function = bench.function(source)
    assert [await bench.call(function) for _ in range(3)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("source", "expected", "line"),
    [
        ("class Pipe:\n    def pipe(self, body)\n        return 1\n", "expected ':'", 2),
        ("import nowhere_to_be_found\nclass Pipe: ...\n", "ModuleNotFoundError: No module named", 1),
        ("class Pipe:\n    def __init__(self):\n        raise ValueError('bad start')\n", "ValueError: bad start", 3),
        (
            "def helper(): ...\nclass Tools: ...\n",
            "defines no Pipe, Filter, Action, Event or Pipeline; found: Tools",
            None,
        ),
        ("import sys\nsys.exit('stop here')\nclass Pipe: ...\n", "SystemExit: stop here", 2),
    ],
)
async def test_load_failure_says_what_and_where(bench: Bench, source: str, expected: str, line: int | None) -> None:
    with pytest.raises(LoadFailed) as caught:
        await bench.executor.load(bench.function(source, id="failing"))
    problem = caught.value.problem
    assert expected in problem.message
    assert problem.line == line
    if line is not None:
        assert problem.path == "failing.py"
    await asyncio.sleep(0)


async def test_missing_package_hints_at_requirements(bench: Bench) -> None:
    with pytest.raises(LoadFailed) as caught:
        await bench.executor.load(bench.function("import nowhere.inner\nclass Pipe: ...\n", id="failing"))
    assert "requirements: nowhere" in (caught.value.problem.hint or "")


async def test_manifest_tells_what_was_loaded(bench: Bench) -> None:
    source = """
    from pydantic import BaseModel
    class Filter:
        toggle = True
        icon = "data:image/svg+xml;base64,xyz"
        class Valves(BaseModel):
            priority: int = 3
        class UserValves(BaseModel):
            on: bool = True
        def __init__(self):
            self.valves = self.Valves()
            self.file_handler = True
        async def inlet(self, body, __user__=None, **kwargs):
            return body
        def stream(self, event):
            return event
    """
    manifest = await bench.executor.load(bench.function(source, id="described"))
    assert (manifest.kind, manifest.toggle, manifest.file_handler, manifest.manifold) == ("filter", True, True, False)
    assert manifest.icon == "data:image/svg+xml;base64,xyz"
    assert manifest.valves_schema is not None and manifest.valves_schema["properties"]["priority"]["default"] == 3
    assert manifest.user_valves_schema is not None
    inlet = manifest.handler("inlet")
    assert inlet is not None and inlet.parameters == ("body", "__user__") and inlet.var_keyword and inlet.is_async
    assert {handler.name for handler in manifest.handlers} == {"inlet", "stream"}


async def test_a_body_of_32_mb_passes_both_ways(bench: Bench) -> None:
    function = bench.function(pipe("return body['messages'][0]['content']"), memory_bytes=2**30)
    text = "0123456789abcdef" * (2 * 2**20)
    body = {"messages": [{"role": "user", "content": text}]}
    assert await within(10, "a call with 32 MB", bench.call(function, body=body)) == text
    answer = bench.function(async_pipe("return body['messages'][0]['content']"), memory_bytes=2**30)
    assert await within(10, "a call with 32 MB", bench.call(answer, body=body)) == text


async def test_a_body_too_large_for_a_frame_fails_alone(bench: Bench, tmp_path: Path) -> None:
    function = bench.function(pipe("return 'small'"), concurrency=1, id="large")
    assert await bench.call(function) == "small"
    with pytest.raises(FnsyncError, match="over the limit"):
        await bench.call(function, body="x" * (wire.MAX_FRAME_BYTES + 1))
    assert await within(5, "the next call", bench.call(function)) == "small"
