"""The lists of models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fnsync.api.auth import Auth
from fnsync.api.exchange import Exchange
from fnsync.chat.models import Models

if TYPE_CHECKING:
    from fnsync.service import Service


class ModelEndpoints:
    """Answers what asks for models."""

    def __init__(self, service: Service, auth: Auth, models: Models) -> None:
        self._service = service
        self._auth = auth
        self._models = models

    async def openai_list(self, exchange: Exchange) -> None:
        """`GET /v1/models`"""
        exchange.only("GET")
        caller = await self._auth.caller(exchange.authorization)
        entries = await self._models.entries(self._service.registry.world, caller)
        await exchange.json(200, {"object": "list", "data": entries})

    async def list(self, exchange: Exchange) -> None:
        """`GET /api/models`"""
        exchange.only("GET")
        caller = await self._auth.caller(exchange.authorization)
        await exchange.json(200, {"data": await self._models.entries(self._service.registry.world, caller)})

    async def one(self, exchange: Exchange) -> None:
        """`GET /v1/models/{id}`"""
        exchange.only("GET")
        caller = await self._auth.caller(exchange.authorization)
        model: str = exchange.scope["path_params"]["id"]
        await exchange.json(200, await self._models.entry(self._service.registry.world, model, caller))
