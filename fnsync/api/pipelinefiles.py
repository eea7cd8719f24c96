"""The protocol of a Pipelines server: the files of pipelines, and their valves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import BaseModel, Field

from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form
from fnsync.api.functions import EDIT_ERRORS, PROPOSED, FunctionEndpoints, commit_headers, propose
from fnsync.api.multipart import file_in
from fnsync.api.pipelines import GROUP, both
from fnsync.api.routes import Errors, Route, ok
from fnsync.api.valves import WORKER_ERRORS, Values
from fnsync.chat.models import Models
from fnsync.edits import pipelines
from fnsync.edits.fetching import fetch, name_of, raw_address
from fnsync.edits.manager import Manager
from fnsync.edits.writer import Written
from fnsync.errors import FnsyncError, Invalid, NotFound, SourceError, TimeLimit, UnknownFunction
from fnsync.model import FunctionId, Kind, LiveFunction
from fnsync.plan import Standing
from fnsync.source.decoding import decode
from fnsync.source.reading import SOURCE_BYTES
from fnsync.vault import Undecipherable

if TYPE_CHECKING:
    from fnsync.service import Service

#: What a form may have around the file that it sends.
FORM_BYTES = 64 * 1024
#: How long a reload waits for what is being loaded, in seconds.
RELOAD_S = 60.0
#: How many pipelines are started anew at once.
RENEWED_AT_ONCE = 4

log = structlog.get_logger(__name__)


class Done(BaseModel):
    status: bool
    detail: str


class Message(BaseModel):
    message: str


class AddForm(Form):
    url: str = Field(description="Of a .py file, or of the page that a code host shows of one")


class DeleteForm(Form):
    id: str


class UploadForm(BaseModel):
    file: bytes = Field(description="A .py file")


class PipelineFileEndpoints:
    """Answers what changes pipelines."""

    def __init__(self, service: Service, functions: FunctionEndpoints, models: Models) -> None:
        self._service = service
        self._functions = functions
        self._models = models
        self._manager: Manager = service.manager
        self._max_body = service.config.server.max_body
        self._renewing = asyncio.Semaphore(RENEWED_AT_ONCE)

    def routes(self) -> list[Route]:
        """What it answers."""
        values, schema = ok(dict[str, Any]), ok(dict[str, Any], "A JSON schema")
        done = {**ok(Done), 202: PROPOSED}
        edit: Errors = (*EDIT_ERRORS, UnknownFunction)
        told: Errors = (UnknownFunction, NotFound, Undecipherable, *WORKER_ERRORS)
        return [
            Route(
                "POST",
                both("/pipelines/upload"),
                self.upload,
                "manager",
                "Make a pipeline of a file; it is active at once",
                GROUP,
                UploadForm,
                answers=done,
                errors=EDIT_ERRORS,
                media_type="multipart/form-data",
            ),
            Route(
                "POST",
                both("/pipelines/add"),
                self.add,
                "admin",
                "Make a pipeline of a file at an address; it is active at once",
                GROUP,
                AddForm,
                answers=done,
                errors=(*EDIT_ERRORS, TimeLimit),
            ),
            Route(
                "POST",
                both("/pipelines/reload"),
                self.reload,
                "admin",
                "Have the files on disk be what answers, and start pipelines anew",
                GROUP,
                answers=ok(Message),
            ),
            Route(
                "DELETE",
                both("/pipelines/delete"),
                self.delete,
                "manager",
                "Remove a pipeline; its history stays in git",
                GROUP,
                DeleteForm,
                answers=done,
                errors=edit,
            ),
            Route(
                "GET",
                both("/{id}/valves"),
                self.valves,
                "manager",
                "What all fields of a pipeline's valves are",
                GROUP,
                answers=values,
                errors=told,
            ),
            Route(
                "GET",
                both("/{id}/valves/spec"),
                self.spec,
                "manager",
                "What valves a pipeline has",
                GROUP,
                answers=schema,
                errors=told,
            ),
            Route(
                "POST",
                both("/{id}/valves/update"),
                self.set_valves,
                "manager",
                "Replace the stored valves of a pipeline; answers all fields",
                GROUP,
                Values,
                answers={**values, 202: PROPOSED},
                errors=(*EDIT_ERRORS, *told),
            ),
        ]

    # ---- files -------------------------------------------------------------------------------------------

    async def upload(self, exchange: Exchange) -> None:
        content_type = next((value for name, value in exchange.scope["headers"] if name == b"content-type"), b"")
        body = await self._functions.raw_body(exchange, min(self._max_body, SOURCE_BYTES + FORM_BYTES))
        sent = await asyncio.to_thread(file_in, body, content_type.decode("latin-1"), "file")
        if not sent.name.endswith(".py"):
            raise Invalid("Only Python files are allowed.", param="file", hint="the file's name has to end in .py")
        try:
            source = decode(sent.data, sent.name)
        except SourceError as exc:
            raise Invalid(str(exc), param="file", hint=exc.hint) from exc
        await self._put(exchange, sent.name.removesuffix(".py"), source, "uploaded successfully to")

    async def add(self, exchange: Exchange) -> None:
        form = await self._functions.body(exchange, AddForm)
        if name_of(raw_address(form.url)) is None:
            raise Invalid("URL must point to a Python file", param="url", hint="its path has to end in .py")
        fetched = await fetch(form.url, SOURCE_BYTES)
        await self._put(exchange, fetched.name, fetched.content, "added successfully from")

    async def _put(self, exchange: Exchange, name: str, source: str, said: str) -> None:
        terms = self._functions.terms(exchange)
        id, written = await pipelines.put(self._manager, name, source, terms, owner=exchange.caller.id)
        if written.proposal is not None:
            await propose(exchange, written)
            return
        standing = self._manager.standing(id)
        detail = f"Pipeline {said} {standing.unit.path}; its id is {self._name(standing)}"
        if standing.problem is not None:
            detail += f"; it does not serve: {standing.problem}"
        await self._done(exchange, detail, written)

    async def delete(self, exchange: Exchange) -> None:
        form = await self._functions.body(exchange, DeleteForm)
        unit = self._managed(exchange, form.id).unit
        written = await self._manager.delete(unit.id, self._functions.terms(exchange))
        if written.proposal is not None:
            await propose(exchange, written)
        else:
            await self._done(exchange, f"Pipeline {form.id} deleted successfully", written)

    async def _done(self, exchange: Exchange, detail: str, written: Written) -> None:
        await exchange.json(200, {"status": True, "detail": detail}, commit_headers(written))

    async def reload(self, exchange: Exchange) -> None:
        reconciler = self._service.reconciler
        await reconciler.reconcile(None)
        try:
            async with asyncio.timeout(RELOAD_S):
                await reconciler.settled()
        except TimeoutError:
            log.warning("reload_still_loading", waited_s=RELOAD_S)
        live = [function for function in self._service.registry.world.functions.values() if _is_running(function)]
        failed = dict(
            zip([function.id for function in live], await asyncio.gather(*map(self._renew, live)), strict=True)
        )
        for id, standing in reconciler.standings.items():
            if standing.problem is not None and (_is_pipeline(standing) or standing.unit.inspection.kind is None):
                failed[id] = str(standing.problem)
        self._models.list_anew()
        wrong = [f"{id}: {why}" for id, why in sorted(failed.items()) if why is not None]
        message = "Pipelines reloaded successfully."
        await exchange.json(200, {"message": f"{message} Not these: {'; '.join(wrong)}" if wrong else message})

    async def _renew(self, function: LiveFunction) -> str | None:
        """Start a pipeline anew; what keeps it from that, after which it goes on as it was."""
        try:
            async with self._renewing:
                await self._service.executor.renew(function)
        except FnsyncError as exc:
            return exc.message
        return None

    # ---- valves ------------------------------------------------------------------------------------------

    async def valves(self, exchange: Exchange) -> None:
        id = self._managed(exchange, exchange.scope["path_params"]["id"]).unit.id
        await exchange.json(200, await self._manager.all_valves(id))

    async def spec(self, exchange: Exchange) -> None:
        id = self._managed(exchange, exchange.scope["path_params"]["id"]).unit.id
        schema = await self._manager.schema(id, "valves", exchange.caller)
        if schema is None:
            raise NotFound(f"{id} has no valves")
        await exchange.json(200, schema)

    async def set_valves(self, exchange: Exchange) -> None:
        asked: str = exchange.scope["path_params"]["id"]
        self._managed(exchange, asked)
        posted = await self._functions.body(exchange, Values)
        id = self._managed(exchange, asked).unit.id
        written, _ = await self._manager.set_valves(id, posted.root, self._functions.terms(exchange))
        if written.proposal is not None:
            await propose(exchange, written)
        else:
            await exchange.json(200, await self._manager.all_valves(id), commit_headers(written))

    def _managed(self, exchange: Exchange, asked: str) -> Standing:
        """The pipeline of an id, which the caller may manage. Raises UnknownFunction, Unauthorized."""
        named = self._models.pipelines(self._service.registry.world).find(asked)
        id = FunctionId(asked) if named is None else named.id
        standing = self._service.reconciler.standings.get(id)
        if standing is None or not _is_pipeline(standing):
            raise UnknownFunction(f"Pipeline {asked[:200]} not found")
        return self._functions.managed_function(exchange, id)

    def _name(self, standing: Standing) -> str:
        world = self._service.registry.world
        live = world.functions.get(standing.unit.id)
        return standing.unit.id if live is None else self._models.pipelines(world).id_of(live)


def _is_running(function: LiveFunction) -> bool:
    return function.kind is Kind.PIPELINE and function.active


def _is_pipeline(standing: Standing) -> bool:
    is_live = standing.live is not None and standing.live.kind is Kind.PIPELINE
    return is_live or standing.unit.inspection.kind is Kind.PIPELINE
