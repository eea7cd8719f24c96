"""The real `openai` client against a real server: what its users write works, and fails as they expect."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.conftest import Server

HELLO: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]

ECHO = """
    class Pipe:
        def pipe(self, body):
            return "you said: " + body["messages"][-1]["content"]
"""


def connect(server: Server, token: str | None = None) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=token or server.token, max_retries=0, timeout=30)


@pytest.fixture
def ai(server: Server) -> Iterator[openai.OpenAI]:
    with connect(server) as client:
        yield client


# ---- what works ------------------------------------------------------------------------------------------


def test_models_are_listed_and_retrieved(server: Server, ai: openai.OpenAI, fn: str) -> None:
    server.add(fn, ECHO)

    assert fn in [model.id for model in ai.models.list()]
    model = ai.models.retrieve(fn)
    assert (model.id, model.object, model.owned_by) == (fn, "model", "openai")
    assert abs(model.created - time.time()) < 600


def test_a_completion(server: Server, ai: openai.OpenAI, fn: str) -> None:
    server.add(fn, ECHO)

    answer = ai.chat.completions.create(model=fn, messages=HELLO, temperature=0.5)

    assert answer.choices[0].message.content == "you said: hello"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == fn


def test_a_stream(server: Server, ai: openai.OpenAI, fn: str) -> None:
    server.add(fn, 'class Pipe:\n    def pipe(self, body):\n        yield from ("one ", "", "two")\n')

    chunks = list(ai.chat.completions.create(model=fn, messages=HELLO, stream=True))

    assert [chunk.choices[0].delta.content for chunk in chunks] == ["one ", "", "two", None]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, "stop"]
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_stream_helper_collects_the_answer(server: Server, ai: openai.OpenAI, fn: str) -> None:
    server.add(fn, 'class Pipe:\n    def pipe(self, body):\n        yield from ("one ", "two")\n')

    with ai.chat.completions.stream(model=fn, messages=HELLO) as stream:
        final = stream.get_final_completion()

    assert final.choices[0].message.content == "one two"


def test_tool_calls_arrive_also_in_a_stream(server: Server, ai: openai.OpenAI, fn: str) -> None:
    server.add(
        fn,
        """
        class Pipe:
            def pipe(self, body):
                call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                message = {"role": "assistant", "content": None, "tool_calls": [call]}
                return {"id": "x", "object": "chat.completion", "created": 1, "model": "m",
                        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
                        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
        """,
    )

    plain = ai.chat.completions.create(model=fn, messages=HELLO)
    first, last = list(ai.chat.completions.create(model=fn, messages=HELLO, stream=True))

    assert plain.choices[0].message.tool_calls and plain.choices[0].message.tool_calls[0].id == "c1"
    assert first.choices[0].delta.tool_calls and first.choices[0].delta.tool_calls[0].id == "c1"
    assert last.choices[0].finish_reason == "tool_calls"
    assert last.usage and last.usage.total_tokens == 3


def test_a_manifold_is_several_models(server: Server, ai: openai.OpenAI, fn: str) -> None:
    server.add(
        fn,
        """
        class Pipe:
            pipes = [{"id": "a", "name": "A"}, {"id": "b/c", "name": "B"}]

            def pipe(self, body):
                return body["model"]
        """,
    )

    assert {f"{fn}.a", f"{fn}.b/c"} <= {model.id for model in ai.models.list()}
    assert ai.models.retrieve(f"{fn}.b/c").id == f"{fn}.b/c"
    answer = ai.chat.completions.create(model=f"{fn}.b/c", messages=HELLO)
    assert answer.choices[0].message.content == f"{fn}.b/c"


# ---- what fails ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_token_is_an_authentication_error(server: Server, stream: bool) -> None:
    with connect(server, "fns_00000000_wrong") as ai, pytest.raises(openai.AuthenticationError) as caught:
        ai.chat.completions.create(model="any", messages=HELLO, stream=stream)

    assert caught.value.code == "unauthorized"


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_a_not_found_error(ai: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ai.chat.completions.create(model="no_such_model", messages=HELLO, stream=stream)

    assert caught.value.code == "model_not_found"
    assert "'no_such_model' does not exist" in caught.value.message


def test_retrieving_an_unknown_model_is_a_not_found_error(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        ai.models.retrieve("no_such_model")


def test_no_messages_is_a_bad_request_error(server: Server, ai: openai.OpenAI, fn: str) -> None:
    server.add(fn, ECHO)

    with pytest.raises(openai.BadRequestError) as caught:
        ai.chat.completions.create(model=fn, messages=[])

    assert caught.value.param == "messages"


@pytest.mark.parametrize("stream", [False, True])
def test_an_exception_in_the_pipe_is_an_internal_server_error(
    server: Server, ai: openai.OpenAI, fn: str, stream: bool
) -> None:
    server.add(fn, 'class Pipe:\n    def pipe(self, body):\n        raise KeyError("colour")\n')

    with pytest.raises(openai.InternalServerError) as caught:
        ai.chat.completions.create(model=fn, messages=HELLO, stream=stream)

    assert caught.value.status_code == 500
    assert caught.value.code == "function_raised"
    assert "KeyError: 'colour'" in caught.value.message


def test_an_exception_in_mid_stream_is_an_api_error(server: Server, ai: openai.OpenAI, fn: str) -> None:
    server.add(fn, 'class Pipe:\n    def pipe(self, body):\n        yield "one "\n        raise ValueError("broke")\n')

    chunks = ai.chat.completions.create(model=fn, messages=HELLO, stream=True)
    assert next(chunks).choices[0].delta.content == "one "
    with pytest.raises(openai.APIError, match="ValueError: broke"):
        next(chunks)


@pytest.mark.parametrize("stream", [False, True])
def test_a_time_limit_is_a_408(server: Server, ai: openai.OpenAI, fn: str, stream: bool) -> None:
    text = "import asyncio\nclass Pipe:\n    async def pipe(self, body):\n        await asyncio.sleep(60)\n"
    server.add(fn, text, "limits: {timeout: 300ms}")

    with pytest.raises(openai.APIStatusError) as caught:
        ai.chat.completions.create(model=fn, messages=HELLO, stream=stream)

    assert caught.value.status_code == 408
    assert caught.value.code == "time_limit"


def test_a_rate_limit_is_a_rate_limit_error(server: Server, ai: openai.OpenAI, fn: str) -> None:
    server.add(fn, ECHO, "limits: {rate: 2/minute}")
    for _ in range(2):
        ai.chat.completions.create(model=fn, messages=HELLO)

    with pytest.raises(openai.RateLimitError) as caught:
        ai.chat.completions.create(model=fn, messages=HELLO)

    assert 0 < int(caught.value.response.headers["retry-after"]) <= 60


def test_too_many_calls_at_once_are_a_503_with_retry_after(server: Server, fn: str) -> None:
    text = "import time\nclass Pipe:\n    def pipe(self, body):\n        time.sleep(1)\n        return 'done'\n"
    server.add(fn, text, "limits: {concurrency: 1}")

    def call(_: int) -> int:
        with connect(server) as ai:
            try:
                ai.chat.completions.create(model=fn, messages=HELLO)
            except openai.InternalServerError as exc:
                assert int(exc.response.headers["retry-after"]) >= 1
                return exc.status_code
        return 200

    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(pool.map(call, range(4)))

    assert statuses == [200, 200, 503, 503], "one runs, one waits, the others are sent away"
