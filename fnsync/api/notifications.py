"""Tries a notification: sends a message that says nothing, and tells what came back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from fnsync.api.exchange import Exchange
from fnsync.api.routes import Route, api_route, ok
from fnsync.errors import NotFound

if TYPE_CHECKING:
    from fnsync.service import Service

GROUP = "Sync"


class TriedAnswer(BaseModel):
    delivered: bool = Field(description="Whether the other side took it: a status from 200 to 299")
    status: int | None = Field(description="What it answered; null: it did not")
    answer: str = Field(description="The beginning of its answer")
    error: str | None = Field(description="Why there was none")
    took_ms: float


class NotificationEndpoints:
    """Answers what is asked about notifications."""

    def __init__(self, service: Service) -> None:
        self._notifier = service.notifier

    def routes(self) -> list[Route]:
        """What it answers."""
        return [
            api_route(
                "POST",
                "/notifications/{name}/test",
                self.test,
                "admin",
                "Send `sync.test` to a receiver of notifications, once",
                GROUP,
                ok(TriedAnswer, "What the other side answered"),
                errors=(NotFound,),
            )
        ]

    async def test(self, exchange: Exchange) -> None:
        """`POST /api/notifications/{name}/test`."""
        name: str = exchange.scope["path_params"]["name"]
        began = time.perf_counter()
        answered = await self._notifier.test(name)
        if answered is None:
            raise NotFound(f"there is no notification {name[:100]}", hint="see `notifications` in fnsync.yaml")
        tried = TriedAnswer(
            delivered=answered.is_taken,
            status=answered.status,
            answer=answered.said,
            error=answered.error,
            took_ms=round((time.perf_counter() - began) * 1000, 1),
        )
        await exchange.json(200, tried.model_dump())
