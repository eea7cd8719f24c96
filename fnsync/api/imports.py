"""Takes exports in over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from pydantic import Field

from fnsync.api.answers import Imported as ImportedAnswer
from fnsync.api.answers import ImportProposed
from fnsync.api.exchange import Exchange
from fnsync.api.following import follow
from fnsync.api.forms import Form, read_query
from fnsync.api.functions import EDIT_ERRORS, GROUP, FunctionEndpoints, commit_headers, proposed
from fnsync.api.operations import JSON, NDJSON
from fnsync.api.routes import Answer, Route, api_route
from fnsync.edits.entries import MOST, Outcome, Progress
from fnsync.edits.exports import LenientEntry, taken
from fnsync.edits.importing import Imported, Importer, ImportOptions

if TYPE_CHECKING:
    from fnsync.service import Service


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

        async def told(tell: Callable[[Progress], None]) -> dict[str, Any]:
            return told_of(await work(tell))

        if query.progress:
            await follow(exchange, told)
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
