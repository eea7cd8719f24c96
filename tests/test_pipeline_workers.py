"""`class Pipeline` in its worker: how it is called, begins and ends, and what it can import (function-contract §10)."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from fnsync.errors import LoadFailed, TimeLimit
from fnsync.model import Kind, LiveFunction, PipelineFacts
from fnsync.runtime import processes
from tests.workbench import Bench, until

pytestmark = pytest.mark.anyio

USER = {"id": "u-1", "name": "Ada", "email": "ada@example.org", "role": "user"}
MESSAGES = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": [{"type": "image_url", "image_url": {}}, {"type": "text", "text": "first text"}]},
    {"role": "assistant", "content": None},
]


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with Bench(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


async def loaded(bench: Bench, source: str, **given: Any) -> LiveFunction:
    """The function, loaded as one that is to serve."""
    function = bench.function(source, **given)
    return replace(function, manifest=await bench.executor.load(function), kind=Kind.PIPELINE)


# ---- the pipe ------------------------------------------------------------------------------------------------------

SHOW = """
class Pipeline:
    def pipe(self, user_message, model_id, messages, body):
        messages[0]["content"] = "changed"
        return {"user_message": user_message, "model_id": model_id, "messages": messages, "body": body}
"""


async def test_a_pipe_gets_its_four_arguments(bench: Bench) -> None:
    body = {"model": "show", "messages": MESSAGES, "temperature": 0.5, "user": "me"}
    found = await bench.call(bench.function(SHOW, id="show"), body=body, context={"__user__": USER})

    assert found["user_message"] == "first text"
    assert found["model_id"] == "show"
    assert found["messages"] == [{"role": "system", "content": "changed"}, *MESSAGES[1:]]
    assert found["body"] == {**body, "user": {key: USER[key] for key in ("name", "id", "email", "role")}}


async def test_without_a_message_of_the_user_there_is_no_text(bench: Bench) -> None:
    body = {"model": "show", "messages": [{"role": "assistant", "content": "a"}]}
    assert (await bench.call(bench.function(SHOW, id="show"), body=body))["user_message"] is None


MANIFOLD = """
class Pipeline:
    def __init__(self):
        self.type = "manifold"
        self.id = "a.mani"
        self.name = "M: "
        {listing}

    def pipe(self, user_message, model_id, messages, body):
        return model_id
"""


@pytest.mark.parametrize(
    "listing",
    [
        'self.pipelines = [{"id": "x.y", "name": "X"}]',
        'self.pipelines = lambda: [{"id": "x.y", "name": "X"}]',
        "\n    async def pipelines(self):\n        return [{'id': 'x.y', 'name': 'X'}]",
    ],
    ids=["list", "function", "async method"],
)
async def test_a_manifold_lists_its_models_and_is_told_which_it_is(bench: Bench, listing: str) -> None:
    function = await loaded(bench, MANIFOLD.replace("{listing}", listing), id="mani")

    assert await bench.call(function, handler="pipes", body=None) == [{"id": "x.y", "name": "X"}]
    for model in ("a.mani.x.y", "mani.x.y"):
        assert await bench.call(function, body={"model": model, "messages": []}) == "x.y"
    assert function.manifest.manifold
    assert function.manifest.pipeline == PipelineFacts("manifold", "a.mani")


ASYNC = """
class Pipeline:
    async def pipe(self, user_message, model_id, messages, body):
        async def words():
            yield "one "
            yield "two"
        return words()
"""
GENERATOR = """
class Pipeline:
    def pipe(self, user_message, model_id, messages, body, __user__):
        yield __user__["name"]
        yield " twice"
"""


async def test_pipes_stream_be_they_sync_or_async(bench: Bench) -> None:
    assert await bench.items(bench.function(ASYNC, id="words")) == ["one ", "two"]
    assert await bench.call(bench.function(ASYNC, id="words")) == "one two"


async def test_reserved_arguments_are_given_by_name_too(bench: Bench) -> None:
    function = bench.function(GENERATOR, id="generator")
    assert await bench.items(function, context={"__user__": USER}) == ["Ada", " twice"]


# ---- filters -------------------------------------------------------------------------------------------------------

FILTER = """
from pydantic import BaseModel
class Pipeline:
    class Valves(BaseModel):
        pipelines: list[str] = []
        priority: int = 3
    def __init__(self):
        self.type = "filter"
        self.valves = self.Valves(pipelines=["llama", "*"])
    async def inlet(self, body, person=None):
        return {**body, "for": person}
    def outlet(self, body):
        return None
"""


async def test_a_filter_gets_body_and_user_by_place(bench: Bench) -> None:
    function = await loaded(bench, FILTER, id="filter", valves={"priority": 9, "pipelines": []})

    assert await bench.call(function, handler="inlet", context={"__user__": USER}, body={"a": 1}) == {
        "a": 1,
        "for": USER,
    }
    assert await bench.call(function, handler="inlet", context={"__user__": None}, body={}) == {"for": None}
    assert await bench.call(function, handler="outlet", body={}) is None
    assert "`outlet` returned nothing: the body stays as it was" in bench.log("filter")
    assert function.manifest.pipeline == PipelineFacts("filter", None, ("llama", "*"), 3.0)
    assert [handler.parameters for handler in function.manifest.handlers] == [("body", "__user__")] * 2


# ---- the beginning and the end -------------------------------------------------------------------------------------

LIFE = """
from pydantic import BaseModel
class Pipeline:
    class Valves(BaseModel):
        word: str = "a"
    def __init__(self):
        self.valves = self.Valves()
        self.said = ["made " + self.valves.word]
    async def on_startup(self):
        self.said.append("started " + self.valves.word)
    async def on_valves_updated(self):
        self.said.append("updated " + self.valves.word)
        if self.valves.word == "bad":
            raise ValueError("it does not like it")
    async def on_shutdown(self):
        print("stopped", self.valves.word)
    def pipe(self, user_message, model_id, messages, body):
        return self.said
"""


def with_word(function: LiveFunction, word: str) -> LiveFunction:
    return replace(function, settings=replace(function.settings, valves={"word": word}))


LISTED = LIFE.replace("return self.said", "return ', '.join(self.said)")


async def test_hooks_run_at_their_moments(bench: Bench) -> None:
    function = await loaded(bench, LISTED, id="life", valves={"word": "b"})
    assert await bench.call(function) == "made a, started b"

    await bench.executor.configure(with_word(function, "c"))
    assert await bench.call(function) == "made a, started b, updated c"

    await bench.executor.configure(with_word(function, "bad"))
    assert (await bench.call(function)).endswith("updated bad")
    assert any(
        "on_valves_updated raised ValueError: it does not like it (life.py:14)" in line for line in bench.log("life")
    )

    bench.executor.retire(function.id)
    await until("the end of its worker", lambda: not bench.pids(function))
    assert bench.log("life")[-1] == "stopped bad"
    assert bench.executor.health("life").crashes == 0


async def test_what_only_answers_a_question_is_not_started(bench: Bench) -> None:
    function = bench.function(LISTED + "print('loaded')\n", id="asked")
    checked = await bench.executor.checked_valves(function, "valves", {"word": "b"}, whole=True)

    assert checked.whole == {"word": "b"}
    assert "loaded" in bench.log("asked")
    assert not any("stopped" in line for line in bench.log("asked"))


async def test_a_pipeline_that_does_not_start_does_not_load(bench: Bench) -> None:
    source = "class Pipeline:\n    async def on_startup(self):\n        raise ValueError('cannot start')\n"
    with pytest.raises(LoadFailed) as raised:
        await bench.executor.load(bench.function(source, id="never"))

    assert str(raised.value.problem) == "never.py:3: ValueError: cannot start"


async def test_a_start_that_hangs_is_over_with_the_time_for_loading(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LOAD_S", 0.3)
    source = "import asyncio\nclass Pipeline:\n    async def on_startup(self):\n        await asyncio.sleep(60)\n"
    with pytest.raises(TimeLimit):
        await bench.executor.load(bench.function(source, id="hangs", timeout_s=0.3))


HANGING = """
import time
class Pipeline:
    def on_shutdown(self):
        print("stopping")
        time.sleep(60)
    def pipe(self, user_message, model_id, messages, body):
        return "x"
"""


async def test_an_end_that_hangs_is_bounded_and_no_crash(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fnsync.runtime.wire.SHUTDOWN_S", -0.5)
    function = await loaded(bench, HANGING, id="hanging")
    bench.executor.retire(function.id)

    await until("the end of its worker", lambda: not bench.pids(function))
    assert bench.log("hanging") == ["stopping"]
    assert bench.executor.health("hanging").crashes == 0


async def test_workers_are_renewed_on_demand(bench: Bench) -> None:
    function = await loaded(bench, LISTED, id="renewed")
    [before] = bench.pids(function)
    await bench.executor.renew(function)

    await until("the end of the old worker", lambda: before not in bench.pids(function))
    assert len(bench.pids(function)) == 1
    assert bench.log("renewed") == ["stopped a"]
    assert await bench.call(function) == "made a, started a"


# ---- what it can import --------------------------------------------------------------------------------------------

IMPORTS = """
from schemas import OpenAIChatMessage
from utils.pipelines.main import (
    add_or_update_system_message, get_last_assistant_message, get_last_user_message, get_system_message,
    get_tools_specs, pop_system_message, remove_system_message, stream_message_template,
)
from typing import Literal, Optional

class Tools:
    limit = 3
    def weather(self, city: str, unit: Literal["C", "F"], days: Optional[int] = 1) -> str:
        \"\"\"Tell the weather.
        :param city: where
        \"\"\"

class Pipeline:
    def pipe(self, user_message, model_id, messages, body):
        chunk = stream_message_template("m", "t")
        return {
            "message": OpenAIChatMessage(role="user", content="x", more=1).model_dump(),
            "last": [get_last_user_message(messages), get_last_assistant_message(messages)],
            "system": get_system_message(messages),
            "without": [m["role"] for m in remove_system_message(messages)],
            "popped": pop_system_message(messages)[0]["content"],
            "added": add_or_update_system_message("new", [dict(m) for m in messages])[0]["content"],
            "made": add_or_update_system_message("new", []),
            "chunk": [chunk["object"], chunk["model"], chunk["choices"][0]["delta"]],
            "tools": get_tools_specs(Tools()),
        }
"""


async def test_helpers_of_a_pipelines_server_can_be_imported(bench: Bench) -> None:
    found = await bench.call(bench.function(IMPORTS, id="imports"), body={"model": "m", "messages": MESSAGES})

    assert found == {
        "message": {"role": "user", "content": "x", "more": 1},
        "last": ["first text", None],
        "system": {"role": "system", "content": "s"},
        "without": ["user", "assistant"],
        "popped": "s",
        "added": "new\ns",
        "made": [{"role": "system", "content": "new"}],
        "chunk": ["chat.completion.chunk", "m", {"content": "t"}],
        "tools": [
            {
                "name": "weather",
                "description": "Tell the weather.",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "city": {"type": "string", "description": "where"},
                        "unit": {"type": "string", "enum": ["C", "F"], "description": "unit"},
                        "days": {"type": "integer", "description": "days"},
                    },
                    "required": ["city", "unit"],
                },
            }
        ],
    }


BLUEPRINT = """
from blueprints.function_calling_blueprint import Pipeline as Blueprint

class Pipeline(Blueprint):
    class Valves(Blueprint.Valves):
        suffix: str = "!"

    class Tools:
        def __init__(self, pipeline):
            self.pipeline = pipeline
        def shout(self, text: str) -> str:
            return text.upper() + self.pipeline.valves.suffix

    def __init__(self):
        super().__init__()
        self.name = "Shouting"
        self.valves = self.Valves(**{**self.valves.model_dump(), "pipelines": ["*"], "TEMPLATE": "<{{CONTEXT}}>"})
        self.tools = self.Tools(self)

    def run_completion(self, system_prompt, content):
        assert '"name": "shout"' in system_prompt and "Query: first text" in content
        return {"name": "shout", "parameters": {"text": "hey"}}
"""


async def test_the_blueprint_for_tools_calls_the_one_that_is_chosen(bench: Bench) -> None:
    function = await loaded(bench, BLUEPRINT, id="blueprint")
    assert function.manifest.pipeline == PipelineFacts("filter", None, ("*",), 0.0)

    found = await bench.call(function, handler="inlet", body={"model": "m", "messages": MESSAGES})
    assert found["messages"][0]["content"] == "<HEY!>\ns"
    task = {"messages": MESSAGES, "metadata": {"task": "title_generation"}}
    assert await bench.call(function, handler="inlet", body=task) == task


async def test_modules_of_its_own_come_first_and_other_kinds_have_none(bench: Bench) -> None:
    own = {"function/schemas.py": "OpenAIChatMessage = 'mine'\n"}
    source = "import schemas\nclass Pipeline:\n    def pipe(self, **given):\n        return schemas.OpenAIChatMessage\n"
    assert await bench.call(bench.function(source, id="own", files=own)) == "mine"

    with pytest.raises(LoadFailed, match="No module named 'schemas'"):
        await bench.executor.load(bench.function("import schemas\nclass Pipe:\n    pass\n", id="other"))


async def test_a_stop_of_the_server_ends_pipelines_as_they_want(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with Bench(tmp_path_factory.mktemp("stopped")) as bench:
        await loaded(bench, LISTED, id="life")
    assert bench.log("life") == ["stopped a"]
