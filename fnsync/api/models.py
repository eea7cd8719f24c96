"""The lists of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from fnsync.api.exchange import Exchange
from fnsync.api.routes import Answer, Route, prefixed
from fnsync.chat.models import Models
from fnsync.errors import Unavailable, UnknownModel

if TYPE_CHECKING:
    from fnsync.service import Service


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
                answers={200: Answer(ModelEntries)},
            ),
        ]

    async def openai_list(self, exchange: Exchange) -> None:
        entries = await self._models.entries(self._service.registry.world, exchange.caller)
        await exchange.json(200, {"object": "list", "data": entries})

    async def list(self, exchange: Exchange) -> None:
        await exchange.json(200, {"data": await self._models.entries(self._service.registry.world, exchange.caller)})

    async def one(self, exchange: Exchange) -> None:
        model: str = exchange.scope["path_params"]["id"]
        await exchange.json(200, await self._models.entry(self._service.registry.world, model, exchange.caller))
