"""Schemas of valves: known for every revision, with options that methods of the class give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from fnsync.errors import LoadFailed
from tests.workbench import Bench, until, within

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with Bench(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


PLAIN = """
from pydantic import BaseModel
class Pipe:
    class Valves(BaseModel):
        api_key: str
        limit: int = 3
    def __init__(self):
        self.valves = None
    def pipe(self, body):
        return "still here"
"""
ADA = {"id": "u1", "name": "Ada", "email": "ada@example.org", "role": "admin"}


def select(options: str) -> str:
    return f"Field(default='', json_schema_extra={{'input': {{'type': 'select', 'options': {options}}}}})"


SELECTS = f"""
import asyncio, time, threading
from pydantic import BaseModel, Field
LOOP = threading.get_ident()
class Pipe:
    class Valves(BaseModel):
        fixed: str = {select("['a', {'value': 'b', 'label': 'B'}]")}
        classy: str = {select("'of_class'")}
        static: str = {select("'of_static'")}
        bound: str = {select("'of_object'")}
        later: str = {select("'of_coroutine'")}
        again: str = {select("'of_static'")}
        url: str = "http://localhost"

        @classmethod
        def of_class(cls, __user__):
            return [cls.__name__, __user__["id"], __user__.name, __user__.get("email")]
        @staticmethod
        def of_static(user, other=None):
            assert threading.get_ident() != LOOP
            return [user.role, user["role"], user.model_dump()["name"], hasattr(user, "nothing")]
        def of_object(self):
            return [self.url]
        @classmethod
        async def of_coroutine(cls, __user__, user):
            await asyncio.sleep(0.01)
            return [{{"value": user.id, "label": __user__.name}}]
    class UserValves(BaseModel):
        tone: str = {select("'tones'")}
        @classmethod
        def tones(cls):
            return ["warm", "cold"]
    def __init__(self):
        self.valves = self.Valves()
"""


def options_in(schema: Any) -> dict[str, Any]:
    """The options of each field that has some."""
    return {name: field["input"]["options"] for name, field in schema["properties"].items() if "input" in field}


async def test_options_come_from_methods_of_the_class(bench: Bench) -> None:
    function = bench.function(SELECTS, id="selects", valves={"url": "http://set"})
    await bench.executor.load(function)
    schema = await bench.executor.valves_schema(function, "valves", ADA)
    assert options_in(schema) == {
        "fixed": ["a", {"value": "b", "label": "B"}],
        "classy": ["Valves", "u1", "Ada", "ada@example.org"],
        "static": ["admin", "admin", "Ada", False],
        "bound": ["http://set"],
        "later": [{"value": "u1", "label": "Ada"}],
        "again": ["admin", "admin", "Ada", False],
    }
    assert schema is not None and schema["title"] == "Valves" and list(schema["properties"])[-1] == "url"
    assert schema["properties"]["fixed"]["input"]["type"] == "select"
    user_schema = await bench.executor.valves_schema(function, "user_valves", ADA)
    assert options_in(user_schema) == {"tone": ["warm", "cold"]}
    eve = await bench.executor.valves_schema(function, "valves", {**ADA, "id": "u2"})
    assert options_in(eve)["classy"][1] == "u2", "options of one user were given to another"


POOR = f"""
import asyncio, time
from pydantic import BaseModel, Field
class Pipe:
    class Valves(BaseModel):
        good: str = {select("'of_good'")}
        absent: str = {select("'of_absent'")}
        number: str = {select("'limit'")}
        raising: str = {select("'of_raising'")}
        tuples: str = {select("'of_tuple'")}
        strange: str = {select("'of_strange'")}
        large: str = {select("'of_large'")}
        wants: str = {select("'of_wants'")}
        exits: str = {select("'of_exits'")}
        limit: int = 3
        @classmethod
        def of_good(cls):
            return ["good"]
        @classmethod
        def of_raising(cls):
            raise ValueError("nothing to choose from")
        @classmethod
        def of_tuple(cls):
            return ("a", "b")
        @classmethod
        def of_strange(cls):
            return [object()]
        @classmethod
        def of_large(cls):
            return ["x" * 300_000]
        @classmethod
        def of_wants(cls, more):
            return [more]
        @classmethod
        def of_exits(cls):
            raise SystemExit("no")
    def pipe(self, body):
        return "still here"
"""


async def test_a_method_that_gives_no_options_leaves_its_name_and_says_why(bench: Bench) -> None:
    function = bench.function(POOR, id="poor")
    await bench.executor.load(function)
    schema = await bench.executor.valves_schema(function, "valves", ADA)
    assert options_in(schema) == {
        "good": ["good"],
        "absent": "of_absent",
        "number": "limit",
        "raising": "of_raising",
        "tuples": "of_tuple",
        "strange": "of_strange",
        "large": "of_large",
        "wants": "of_wants",
        "exits": "of_exits",
    }

    def lines() -> dict[str, str]:
        said = (line.partition(" gives no options: ") for line in bench.log("poor"))
        return {method.removeprefix("Valves."): reason for method, _, reason in said}

    await until("a line for each", lambda: len(lines()) >= 8)
    assert lines() == {
        "of_absent": "there is no such method",
        "limit": "there is no such method",
        "of_raising": "ValueError: nothing to choose from",
        "of_tuple": "it gave a tuple, not a list",
        "of_strange": "the result cannot be written as JSON: it holds a object",
        "of_large": "300,004 bytes of options are too many; 262,144 are allowed",
        "of_wants": lines()["of_wants"],
        "of_exits": "SystemExit: no",
    }
    assert "missing 1 required positional argument: 'more'" in lines()["of_wants"]
    assert await bench.call(function) == "still here"


HANGING = f"""
import asyncio, time
from pydantic import BaseModel, Field
class Pipe:
    class Valves(BaseModel):
        sleeps: str = {select("'of_sleep'")}
        blocks: str = {select("'of_blocked_loop'")}
        waits: str = {select("'of_waiting'")}
        good: str = {select("'of_good'")}
        @classmethod
        def of_sleep(cls):
            time.sleep(60)
        @classmethod
        async def of_blocked_loop(cls):
            time.sleep(60)
        @classmethod
        async def of_waiting(cls):
            await asyncio.sleep(60)
        @classmethod
        def of_good(cls):
            return ["good"]
    async def pipe(self, body):
        return "still here"
"""


async def test_methods_that_hang_hold_up_neither_calls_nor_other_options(bench: Bench) -> None:
    function = bench.function(HANGING, id="hanging", concurrency=1)
    await bench.executor.load(function)
    asking = asyncio.create_task(within(7, "the schema", bench.executor.valves_schema(function, "valves", ADA)))
    schema = await bench.neighbour_answers(function, asking)
    assert options_in(schema) == {
        "sleeps": "of_sleep",
        "blocks": "of_blocked_loop",
        "waits": "of_waiting",
        "good": ["good"],
    }
    for name in ("of_sleep", "of_blocked_loop", "of_waiting"):
        found = await until("its line", lambda name=name: [line for line in bench.log("hanging") if name in line])
        assert "longer than 5 s" in found[0]


async def test_only_so_many_methods_are_asked(bench: Bench) -> None:
    fields = "".join(f"        f{n}: str = {select(f'{chr(39)}of{n}{chr(39)}')}\n" for n in range(20))
    methods = "".join(f"        @classmethod\n        def of{n}(cls):\n            return [{n}]\n" for n in range(20))
    source = (
        f"from pydantic import BaseModel, Field\nclass Pipe:\n    class Valves(BaseModel):\n{fields}{methods}"
        "    def pipe(self, body):\n        return 'x'\n"
    )
    options = options_in(await bench.executor.valves_schema(bench.function(source, id="many"), "valves", ADA))
    assert [options[f"f{n}"] for n in range(20)] == [[n] for n in range(16)] + [f"of{n}" for n in range(16, 20)]


async def test_methods_that_never_end_do_not_add_up(bench: Bench) -> None:
    """Each reading of a schema would cost a thread for good."""
    fields = "".join(f"        f{n}: str = {select(f'{chr(39)}hang{n}{chr(39)}')}\n" for n in range(20))
    methods = "".join(
        f"        @classmethod\n        def hang{n}(cls):\n            Pipe.hanging += 1\n            time.sleep(60)\n"
        for n in range(20)
    )
    source = (
        f"import time\nfrom pydantic import BaseModel, Field\nclass Pipe:\n    hanging = 0\n"
        f"    class Valves(BaseModel):\n{fields}{methods}    def pipe(self, body):\n        return str(Pipe.hanging)\n"
    )
    function = bench.function(source, id="adding")
    await bench.executor.load(function)
    await asyncio.gather(*(bench.executor.valves_schema(function, "valves", ADA) for _ in range(4)))
    assert await bench.call(function) == "32"
    assert len(bench.pids(function)) == 1


async def test_a_schema_without_methods_costs_no_worker(bench: Bench) -> None:
    """Making a schema costs a worker a megabyte for good; what loading told is kept."""
    function = bench.function(PLAIN, id="plain", valves={"api_key": "k"}, idle_s=0.1)
    manifest = await bench.executor.load(function)
    await until("the end of the idle worker", lambda: not bench.pids(function))
    assert await bench.executor.valves_schema(function, "valves", ADA) == manifest.valves_schema
    assert await bench.executor.valves_schema(function, "user_valves", ADA) is None
    known = replace(bench.function(PLAIN, id="restored_schema"), manifest=manifest)
    assert await bench.executor.valves_schema(known, "valves", ADA) == manifest.valves_schema
    assert not bench.pids(function) and not bench.pids(known)


async def test_a_field_that_json_has_no_schema_for_does_not_keep_a_function_from_running(bench: Bench) -> None:
    source = PLAIN.replace("api_key: str", "on_error: __import__('typing').Callable = print")
    function = bench.function(source, id="callable")
    manifest = await bench.executor.load(function)
    assert manifest.valves_schema is not None
    assert manifest.valves_schema["properties"]["limit"] == {"default": 3, "title": "Limit", "type": "integer"}
    assert await bench.call(function) == "still here"


async def test_a_function_whose_manifest_nobody_knew_tells_it_when_it_is_called(bench: Bench) -> None:
    function = bench.function(PLAIN, id="unknown", valves={"api_key": "k"})
    assert await bench.call(function) == "still here"
    (pid,) = bench.pids(function)
    schema = await bench.executor.valves_schema(function, "valves", ADA)
    assert schema is not None and schema["required"] == ["api_key"]
    assert bench.pids(function) == [pid]


async def test_the_schema_of_a_revision_that_cannot_go_live(bench: Bench) -> None:
    for n, values in enumerate(({}, {"api_key": {"env": "GONE"}}, {"limit": "many"}, {"api_key": {"secret": "x"}})):
        function = bench.function(PLAIN, id=f"never_live_{n}", valves=values)
        schema = await bench.executor.valves_schema(function, "valves", ADA)
        assert schema is not None and schema["required"] == ["api_key"]
        assert function.revision not in bench.executor.in_use()
    source = SELECTS.replace('url: str = "http://localhost"', "url: str").replace("= self.Valves()", "= None")
    function = bench.function(source, id="never_live")
    options = options_in(await bench.executor.valves_schema(function, "valves", ADA))
    assert options["classy"] == ["Valves", "u1", "Ada", "ada@example.org"]
    assert options["bound"] == "of_object", "there is no object that it could be called on"
    with pytest.raises(LoadFailed, match="broken"):
        await bench.executor.valves_schema(bench.function("raise ValueError('broken')", id="n"), "valves", ADA)


async def test_options_of_a_worker_that_dies_stay_names(bench: Bench) -> None:
    dies = POOR.replace('raise SystemExit("no")', "import os; os._exit(3)")
    function = bench.function(dies, id="dying")
    await bench.executor.load(function)
    schema = await within(8, "the schema", bench.executor.valves_schema(function, "valves", ADA))
    assert options_in(schema)["good"] == "of_good"
    assert await bench.call(function) == "still here"


LIE = f"""
import os, socket, struct, msgspec
from pydantic import BaseModel, Field
class Pipe:
    class Valves(BaseModel):
        choice: str = {select("'of_lie'")}
        @classmethod
        def of_lie(cls, user):
            for fd in range(3, 64):
                try:
                    other = socket.socket(fileno=os.dup(fd))
                except OSError:
                    continue
                for id in range(user["from"], user["from"] + 20):
                    data = msgspec.msgpack.encode([21, id, "json", user["lie"].encode(), None])
                    try:
                        other.sendall(struct.pack(">I", len(data)) + data)
                    except OSError:
                        pass
            return ["true"]
"""


LIES = ["no json", "[]", '{"of_lie": "text"}', '{"of_lie": {"a": 1}}', '{"of_lie": ' + "[" * 100_000]


@pytest.mark.parametrize("lie", LIES)
async def test_a_worker_that_lies_about_options_is_not_believed(bench: Bench, lie: str) -> None:
    function = bench.function(LIE, id="liar")
    await bench.executor.load(function)
    user = {"from": bench.executor.next_id(), "lie": lie}
    schema = await within(5, "the schema", bench.executor.valves_schema(function, "valves", user))
    assert options_in(schema) == {"choice": "of_lie"}
