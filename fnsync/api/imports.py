"""Takes exports in over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import Field

from fnsync.api import errors
from fnsync.api.answers import Imported as ImportedAnswer
from fnsync.api.answers import ImportProposed
from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form, read_query
from fnsync.api.functions import EDIT_ERRORS, GROUP, FunctionEndpoints, commit_headers, proposed
from fnsync.api.operations import JSON, KEEP_OPEN_S, NDJSON
from fnsync.api.routes import Answer, Route, api_route
from fnsync.edits.entries import MOST, Outcome, Progress
from fnsync.edits.exports import LenientEntry, taken
from fnsync.edits.importing import Imported, Importer, ImportOptions
from fnsync.errors import FnsyncError

if TYPE_CHECKING:
    from fnsync.service import Service

Work = Callable[[Callable[[Progress], None]], Coroutine[Any, Any, Imported]]


class ImportForm(Form):
    """An export, and how it is taken in."""

    functions: list[LenientEntry] = Field(max_length=MOST)
    replace: bool = Field(False, description="Make functions that are there already what the export says")
    broken: bool = Field(False, description="Write functions that do not load, too")
    origin: str = Field("an export", description="Where it came from, for the commit's message")
    commit_message: str | None = None


class ImportQuery(Form):
    progress: bool = Field(False, description="Answer with NDJSON that tells how far it is, and what it came to")


class ImportEndpoints:
    """Answers imports."""

    def __init__(self, service: Service, functions: FunctionEndpoints) -> None:
        self._importer = Importer(service.manager)
        self._functions = functions

    def routes(self) -> list[Route]:
        """What it answers."""
        told = Answer(ImportedAnswer, "What became of each function", (JSON, NDJSON))
        return [
            api_route(
                "POST",
                "/functions/import",
                self.take,
                "admin",
                "Take an export in, in one commit; what is wrong with one function stops no other",
                GROUP,
                {200: told, 202: Answer(ImportProposed, "With `repository.write: branch`: it waits for review")},
                body=ImportForm,
                query=ImportQuery,
                errors=EDIT_ERRORS,
            )
        ]

    async def take(self, exchange: Exchange) -> None:
        query = read_query(exchange, ImportQuery)
        form = await self._functions.body(exchange, ImportForm)
        options = ImportOptions(form.replace, form.broken, form.origin)
        terms = self._functions.terms(exchange, form.commit_message)

        def work(tell: Callable[[Progress], None]) -> Coroutine[Any, Any, Imported]:
            return self._importer.take(taken(form.functions), options, terms, tell)

        if query.progress:
            await _follow(exchange, work)
            return
        imported = await work(lambda progress: None)
        status = 200 if imported.written.proposal is None else 202
        await exchange.json(status, told_of(imported), commit_headers(imported.written))


def told_of(imported: Imported) -> dict[str, Any]:
    """What an import came to, as the API tells it."""
    answer: dict[str, Any] = {
        "commit": imported.written.commit,
        "outcomes": [_outcome(one) for one in imported.outcomes],
    }
    if imported.written.proposal is not None:
        answer["proposal"] = proposed(imported.written.proposal)
    return answer


def _outcome(one: Outcome) -> dict[str, Any]:
    return {"source": one.source, "id": one.id, "outcome": one.outcome, "reason": one.reason}


# ---- with progress ---------------------------------------------------------------------------------------


async def _follow(exchange: Exchange, work: Work) -> None:
    """Answer line by line how far the work is; the last line is what it came to, or an error with its status."""
    await exchange.start(200, NDJSON, [])
    async with aclosing(_lines(work)) as lines:
        async for line in lines:
            await exchange.part(msgspec.json.encode(line) + b"\n" if line is not None else b"\n")
    await exchange.end()


async def _lines(work: Work) -> AsyncGenerator[Any, None]:
    """How far it is, None where that did not change for a while, and then what it came to."""
    told: asyncio.Queue[Progress | None] = asyncio.Queue()
    task = asyncio.create_task(work(told.put_nowait))
    task.add_done_callback(lambda _: told.put_nowait(None))
    try:
        while True:
            try:
                async with asyncio.timeout(KEEP_OPEN_S):
                    progress = await told.get()
            except TimeoutError:
                yield None
                continue
            if progress is None:
                break
            yield progress
        try:
            yield told_of(task.result())
        except FnsyncError as exc:
            yield {**errors.body(exc, openai=False, admin=True), "status": exc.status}
    finally:
        task.cancel()
