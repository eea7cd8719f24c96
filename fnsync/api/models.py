"""The lists of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from fnsync.api.completions import PREVIEW_ERRORS
from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form, read_query
from fnsync.api.routes import Answer, Route, prefixed
from fnsync.chat.entries import Entry
from fnsync.chat.models import Models
from fnsync.chat.offers import Offers, at_ref
from fnsync.chat.previewing import Previewing
from fnsync.errors import Invalid, LoadFailed, NotFound, Unavailable, UnknownModel
from fnsync.model import User

if TYPE_CHECKING:
    from fnsync.service import Service


#: What an entry has that comes of other functions.
ATTACHED_KEYS = ("actions", "filters", "tags")
OPENAI_KEYS = ("id", "name", "object", "created", "owned_by")


class RefQuery(Form):
    ref: str | None = Field(
        None, description="A branch, tag, commit or `pr/N`: the models that it offers, for who may preview"
    )


class ModelQuery(RefQuery):
    refresh: bool = Field(False, description="Ask the upstreams and the manifolds again first")


class ModelEntries(BaseModel):
    data: list[dict[str, Any]]


class OpenAIModels(ModelEntries):
    object: str = "list"


class ModelEndpoints:
    """Answers what asks for models."""

    def __init__(self, service: Service, models: Models, previewing: Previewing) -> None:
        self._service = service
        self._models = models
        self._previewing = previewing
        self._offers = Offers(models, previewing)

    def routes(self) -> list[Route]:
        """What it answers."""
        return [
            Route(
                "GET",
                ("/v1/models",),
                self.openai_list,
                "caller",
                "List the models that the caller may use, as OpenAI does",
                "Chat",
                query=RefQuery,
                answers={200: Answer(OpenAIModels)},
                errors=(Invalid, Unavailable, *PREVIEW_ERRORS),
            ),
            Route(
                "GET",
                ("/v1/models/{id:path}",),
                self.one,
                "caller",
                "Describe one model",
                "Chat",
                answers={200: Answer(dict[str, Any])},
                errors=(UnknownModel, LoadFailed, Unavailable, *PREVIEW_ERRORS),
            ),
            Route(
                "GET",
                prefixed("/models"),
                self.list,
                "caller",
                "List the models that the caller may use",
                "Chat",
                query=ModelQuery,
                answers={200: Answer(ModelEntries)},
                errors=(Invalid, Unavailable, *PREVIEW_ERRORS),
            ),
            Route(
                "GET",
                prefixed("/models/base"),
                self.base,
                "admin",
                "List all models, without the actions and filters that go with them",
                "Chat",
                answers={200: Answer(ModelEntries)},
            ),
        ]

    async def openai_list(self, exchange: Exchange) -> None:
        entries = await self._entries(exchange, read_query(exchange, RefQuery).ref)
        await exchange.json(200, {"object": "list", "data": [_openai_entry(entry) for entry in entries]})

    async def list(self, exchange: Exchange) -> None:
        query = read_query(exchange, ModelQuery)
        await exchange.json(200, {"data": await self._entries(exchange, query.ref, anew=query.refresh)})

    async def _entries(self, exchange: Exchange, ref: str | None, *, anew: bool = False) -> Sequence[Entry]:
        world, caller = self._service.registry.world, exchange.caller
        if ref is not None:
            return await self._offers.entries(world, ref, caller)
        return await self._models.entries(world, caller, anew=anew)

    async def base(self, exchange: Exchange) -> None:
        entries = await self._models.entries(self._service.registry.world, exchange.caller)
        bare = [{key: value for key, value in entry.items() if key not in ATTACHED_KEYS} for entry in entries]
        await exchange.json(200, {"data": bare})

    async def one(self, exchange: Exchange) -> None:
        model: str = exchange.scope["path_params"]["id"]
        await exchange.json(200, _openai_entry(await self._entry(model, exchange.caller)))

    async def _entry(self, model: str, caller: User) -> Entry:
        world = self._service.registry.world
        asked = await self._previewing.asked_model(world, model, caller)
        if asked is None:
            return await self._models.entry(world, model, caller)
        try:
            entered = await self._previewing.enter(world, asked, caller)
        except NotFound as exc:
            try:
                return await self._models.entry(world, model, caller)
            except UnknownModel:
                raise exc from None
        return at_ref(await self._models.entry(entered.world, asked.name, caller), asked.ref)


def _openai_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What OpenAI says of a model, and its name.

    Of the rest, `pipe` would have an Open WebUI that is connected here look for the function in itself.
    """
    return {key: entry[key] for key in OPENAI_KEYS if key in entry}
