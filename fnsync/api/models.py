"""The lists of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form, read_query
from fnsync.api.routes import Answer, Route, prefixed
from fnsync.chat.models import Models
from fnsync.errors import Invalid, Unavailable, UnknownModel

if TYPE_CHECKING:
    from fnsync.service import Service


#: What an entry has that comes of other functions.
ATTACHED_KEYS = ("actions", "filters", "tags")
OPENAI_KEYS = ("id", "name", "object", "created", "owned_by")


class RefreshQuery(Form):
    refresh: bool = Field(False, description="Ask the upstreams and the manifolds again first")


class ModelEntries(BaseModel):
    data: list[dict[str, Any]]


class OpenAIModels(ModelEntries):
    object: str = "list"


class ModelEndpoints:
    """Answers what asks for models."""

    def __init__(self, service: Service, models: Models) -> None:
        self._service = service
        self._models = models

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
                answers={200: Answer(OpenAIModels)},
            ),
            Route(
                "GET",
                ("/v1/models/{id:path}",),
                self.one,
                "caller",
                "Describe one model",
                "Chat",
                answers={200: Answer(dict[str, Any])},
                errors=(UnknownModel, Unavailable),
            ),
            Route(
                "GET",
                prefixed("/models"),
                self.list,
                "caller",
                "List the models that the caller may use",
                "Chat",
                query=RefreshQuery,
                answers={200: Answer(ModelEntries)},
                errors=(Invalid,),
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
        entries = await self._models.entries(self._service.registry.world, exchange.caller)
        await exchange.json(200, {"object": "list", "data": [_openai_entry(entry) for entry in entries]})

    async def list(self, exchange: Exchange) -> None:
        anew = read_query(exchange, RefreshQuery).refresh
        entries = await self._models.entries(self._service.registry.world, exchange.caller, anew=anew)
        await exchange.json(200, {"data": entries})

    async def base(self, exchange: Exchange) -> None:
        entries = await self._models.entries(self._service.registry.world, exchange.caller)
        bare = [{key: value for key, value in entry.items() if key not in ATTACHED_KEYS} for entry in entries]
        await exchange.json(200, {"data": bare})

    async def one(self, exchange: Exchange) -> None:
        model: str = exchange.scope["path_params"]["id"]
        entry = await self._models.entry(self._service.registry.world, model, exchange.caller)
        await exchange.json(200, _openai_entry(entry))


def _openai_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What OpenAI says of a model, and its name.

    Of the rest, `pipe` would have an Open WebUI that is connected here look for the function in itself.
    """
    return {key: entry[key] for key in OPENAI_KEYS if key in entry}
