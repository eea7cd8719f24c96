"""None, which cannot be awaited, as the answer of a model method: the source tells whether it is to be."""

import asyncio
import importlib.util
import inspect
from pathlib import Path
from textwrap import indent

import pytest

HEAD = """
import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor

from fnsync.worker.compat.ready import answers

class Table:
    @answers
    def get(self, id=1):
        yield from ()
        return None

Chats = Table()

def fetch(id):
    return Chats.get(id)

async def safe(coroutine, what=""):
    try:
        return await coroutine
    except ValueError:
        return what

async def maybe(value):
    return await value if inspect.isawaitable(value) else value

def blocking(coroutine):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, other(coroutine)).result()

async def other(what):
    return await what

def show(value):
    return value is None

class Helper:
    async def wait(self, coroutine):
        return await asyncio.wait_for(coroutine, 5)

async def main():
"""

AWAITED = {
    "gather": "one, two = await asyncio.gather(Chats.get(1), Chats.get(2))\nreturn one or two",
    "gather of a list": "return (await asyncio.gather(*[Chats.get(id) for id in range(3)]))[2]",
    "gather of what was appended": "found = []\nfor id in range(2):\n    found.append(Chats.get(id))\n"
    "return (await asyncio.gather(*found))[1]",
    "create_task": "return await asyncio.create_task(Chats.get())",
    "wait_for": "return await asyncio.wait_for(timeout=3, fut=Chats.get())",
    "a group of tasks": "async with asyncio.TaskGroup() as group:\n    task = group.create_task(Chats.get())\n"
    "return task.result()",
    "asyncio.run in a thread": "return await asyncio.to_thread(lambda: asyncio.run(Chats.get()))",
    "a name": "found = Chats.get(\n    1\n)\nreturn await found",
    "a name that is looked at": "found = Chats.get()\nif inspect.isawaitable(found):\n    found = await found\n"
    "return None if found is None else 1",
    "a helper": "return await safe(Chats.get(), 'x')",
    "a helper by keyword": "return await safe(what='x', coroutine=Chats.get())",
    "a helper that looks": "return await maybe(Chats.get())",
    "a helper's method": "return await Helper().wait(Chats.get())",
    "a helper of helpers": "return await asyncio.to_thread(blocking, Chats.get()) if False else blocking(Chats.get())",
    "a function that hands it on": "return await fetch(1)",
    "await itself": "return await Chats.get()",
}
PLAIN = {
    "a test": "return Chats.get() is None",
    "a name": "found = Chats.get()\nreturn found is None",
    "a name that is tested first": "found = Chats.get()\nif found is None:\n    return True\nreturn await found",
    "a name that must be true": "found = Chats.get()\nif found and await found:\n    return 1\nreturn found is None",
    "an argument": "return show(Chats.get())",
    "a function's": "return (lambda: Chats.get())() is None",
    "in a thread": "return await asyncio.to_thread(Chats.get) is None",
    "beside what is awaited": "found = Chats.get()\nother = await maybe(1)\nreturn found is None and other == 1",
    "an argument of what is awaited": "return await safe(maybe(1), Chats.get()) == 1 and not Chats.get()",
}


def run(folder: Path, body: str) -> object:
    file = folder / "source.py"
    file.write_text(HEAD + indent(body, "    ") + "\n")
    spec = importlib.util.spec_from_file_location("source", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return asyncio.run(module.main())


@pytest.mark.parametrize("way", AWAITED)
def test_none_can_be_awaited_where_the_source_awaits_it(tmp_path: Path, way: str) -> None:
    assert run(tmp_path, AWAITED[way]) is None


@pytest.mark.parametrize("way", PLAIN)
def test_none_is_none_elsewhere(tmp_path: Path, way: str) -> None:
    found = run(tmp_path, PLAIN[way])
    assert not inspect.isawaitable(found)
    assert found is True
