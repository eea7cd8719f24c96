"""LangChain's client of OpenAI's protocol, as programs use it: whole answers, streams, errors, with filters around."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from tests.conftest import Server

WORDS = """
    class Pipe:
        async def pipe(self, body):
            for word in body["messages"][-1]["content"].split():
                yield word.upper() + " "
"""
FAILS = """
    class Pipe:
        def pipe(self, body):
            yield "so far "
            raise RuntimeError("no further")
"""
FILTER = """
    class Filter:
        def inlet(self, body):
            body["messages"][-1]["content"] += " and more"
            return body

        def stream(self, event):
            for choice in event["choices"]:
                if choice["delta"].get("content"):
                    choice["delta"]["content"] = choice["delta"]["content"].lower()
            return event

        def outlet(self, body):
            body["messages"][-1]["content"] = body["messages"][-1]["content"].lower()
            return body
"""


@pytest.fixture
def chat(server: Server, fn: str) -> Any:
    """A model of words with a filter around it."""
    from langchain_openai import ChatOpenAI  # takes a second

    server.add(fn, WORDS)
    server.add(f"{fn}_filter", FILTER, f"models: [{fn}]\n")
    return ChatOpenAI(base_url=f"{server.url}/v1", api_key=server.token, model=fn, max_retries=0)


def test_langchain_reads_whole_answers_streams_and_batches(chat: Any) -> None:
    assert chat.invoke("one two").content == "one two and more "
    chunks = [chunk.content for chunk in chat.stream([("system", "be brief"), ("human", "one two")])]
    assert [chunk for chunk in chunks if chunk] == ["one ", "two ", "and ", "more "]

    async def batch() -> list[str]:
        try:
            return [answer.content for answer in await chat.abatch(["a", "b", "c"])]
        finally:
            await chat.root_async_client.close()

    assert asyncio.run(batch()) == ["a and more ", "b and more ", "c and more "]


def test_langchain_tells_errors(server: Server, chat: Any, fn: str) -> None:
    server.add(f"{fn}_fails", FAILS)
    failing = chat.model_copy(update={"model_name": f"{fn}_fails"})
    with pytest.raises(openai.APIError, match="no further"):
        list(failing.stream("x"))
    with pytest.raises(openai.InternalServerError, match="RuntimeError: no further"):
        failing.invoke("x")
    with pytest.raises(openai.NotFoundError, match="no_such"):
        chat.model_copy(update={"model_name": "no_such"}).invoke("x")
