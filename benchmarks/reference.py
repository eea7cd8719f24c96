"""What the product is compared with: the same answers from a bare Starlette application. `… reference PORT`."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from benchmarks.project import CHUNKS, LONG_CHUNKS, word

#: The model of `/v1`.
BASE_MODEL = "base-model"
EVENT_STREAM = "text/event-stream; charset=utf-8"


async def echo(request: Request) -> JSONResponse:
    body = await request.json()
    return JSONResponse(
        {
            "id": f"{body['model']}-{uuid.uuid4()}",
            "created": int(time.time()),
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "logprobs": None,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": body["messages"][-1]["content"]},
                }
            ],
            "object": "chat.completion",
        }
    )


def event(head: dict[str, Any], delta: dict[str, str], reason: str | None = None) -> str:
    choice = {"index": 0, "logprobs": None, "finish_reason": reason, "delta": delta}
    chunk = {**head, "choices": [choice], "object": "chat.completion.chunk"}
    return f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n"


def head_of(model: str) -> dict[str, Any]:
    return {"id": f"{model}-{uuid.uuid4()}", "created": int(time.time()), "model": model}


def events(model: str, chunks: int = CHUNKS) -> Iterator[str]:
    head = head_of(model)
    for number in range(chunks):
        yield event(head, {"content": word(number)})
    yield event(head, {}, "stop")
    yield "data: [DONE]\n\n"


async def stream(request: Request) -> StreamingResponse:
    """Chunks made as they are sent, as an endpoint would make them that calls no function."""
    body = await request.json()

    async def generate() -> AsyncIterator[str]:
        for text in events(body["model"]):
            yield text

    return StreamingResponse(generate(), media_type=EVENT_STREAM)


READY_MADE = [text.encode() for text in events("chunks")]


async def ready_made(request: Request) -> StreamingResponse:
    """Chunks that were bytes before the request came: the least a generator can cost."""
    await request.json()

    async def generate() -> AsyncIterator[bytes]:
        for data in READY_MADE:
            yield data

    return StreamingResponse(generate(), media_type=EVENT_STREAM)


async def plain_stream(request: Request) -> StreamingResponse:
    """A generator that is not async, which Starlette runs in threads."""
    body = await request.json()
    return StreamingResponse(events(body["model"]), media_type=EVENT_STREAM)


async def long_stream(request: Request) -> StreamingResponse:
    """As many chunks as the pipe whose streams run side by side."""
    body = await request.json()

    async def generate() -> AsyncIterator[str]:
        for text in events(body["model"], LONG_CHUNKS):
            yield text

    return StreamingResponse(generate(), media_type=EVENT_STREAM)


async def completions(request: Request) -> Response:
    """As a provider of models answers."""
    body = await request.json()
    return await (ready_made(request) if body.get("stream") else echo(request))


async def inlet(request: Request) -> JSONResponse:
    """As a filter that returns the body with one key more."""
    sent = await request.json()
    return JSONResponse({**sent["body"], "seen_by": sent["user"]["email"]})


async def models(request: Request) -> JSONResponse:
    return JSONResponse({"object": "list", "data": [{"id": BASE_MODEL, "object": "model"}]})


app = Starlette(
    routes=[
        Route("/v1/models", models),
        Route("/v1/chat/completions", completions, methods=["POST"]),
        Route("/inlet", inlet, methods=["POST"]),
        Route("/echo", echo, methods=["POST"]),
        Route("/stream", stream, methods=["POST"]),
        Route("/long-stream", long_stream, methods=["POST"]),
        Route("/ready-made", ready_made, methods=["POST"]),
        Route("/plain-stream", plain_stream, methods=["POST"]),
    ]
)


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), http="httptools", loop="uvloop", log_config=None, access_log=False)
