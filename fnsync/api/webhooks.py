"""Takes what code hosts tell of pushes. Nothing is fetched before the answer. It asks for no token but a signature."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import BaseModel, ConfigDict, Field

from fnsync.api.auth import Auth
from fnsync.api.exchange import Exchange
from fnsync.api.forms import LARGE_BODY_BYTES
from fnsync.api.routes import Answer, Route, api_route
from fnsync.errors import Invalid, NotFound, RateLimited, Saturated, Unauthorized
from fnsync.signatures import Signed
from fnsync.webhooks import INVALID, REFUSED, Push, Webhook, read

if TYPE_CHECKING:
    from fnsync.service import Service

GROUP = "Sync"
#: The largest body. A push of 2,048 commits, the most that GitHub lists, has about two thirds of that.
LIMIT_BYTES = 4 * 1024**2
#: So many bodies are read at once: nobody has shown yet that they may send any.
MOST_AT_ONCE = 32

log = structlog.get_logger(__name__)


class WebhookMessage(BaseModel):
    """What is read of a message: of code hosts what they send; of others these keys, of which none is required."""

    model_config = ConfigDict(extra="allow")

    url: Any = Field(None, description="Address of the repository")
    ref: Any = Field(None, description="The branch or tag that was pushed, such as `refs/heads/main`")


class WebhookAnswer(BaseModel):
    triggered: list[str] = Field(description="Sources that are synced now, and `repository` for the local one")
    ignored: str | None = Field(description="Why nothing is")


class WebhookEndpoints:
    """Answers senders of webhooks."""

    def __init__(self, service: Service, auth: Auth) -> None:
        self._webhooks = service.webhooks
        self._auth = auth
        self._under_way = 0

    def routes(self) -> list[Route]:
        """What it answers."""
        return [
            api_route(
                "POST",
                "/webhooks/{name}",
                self.take,
                "sender",
                "Say that something was pushed",
                GROUP,
                {202: Answer(WebhookAnswer, "What begins; nothing was fetched yet")},
                body=WebhookMessage,
                errors=(Invalid, NotFound, RateLimited, Saturated, Unauthorized),
            )
        ]

    async def take(self, exchange: Exchange) -> None:
        """`POST /api/webhooks/{name}`."""
        name: str = exchange.scope["path_params"]["name"]
        webhook = self._webhooks.find(name)
        if webhook is None:
            raise NotFound(f"there is no webhook {name[:100]}", hint="see `webhooks` in fnsync.yaml")
        headers = dict(exchange.scope["headers"])
        if not any(header in headers for header in webhook.scheme.names):
            self._webhooks.counts[name, REFUSED] += 1
            log.debug("webhook_refused", webhook=name, reason="no signature")  # anybody could fill the log
            raise _not_signed()
        if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
            raise Invalid("a compressed body is not read")
        self._auth.check_sender(exchange, webhook.digest)
        body = await self._body(exchange)
        if len(body) > LARGE_BODY_BYTES:
            signed, told = await asyncio.to_thread(self._checked, webhook, headers, body)
        else:
            signed, told = self._checked(webhook, headers, body)
        if signed is None:
            self._webhooks.counts[name, REFUSED] += 1
            log.warning("webhook_refused", webhook=name, reason="the signature is wrong, or too old")
            self._auth.sender_failed(exchange)
            raise _not_signed()
        self._auth.sender_accepted(exchange, webhook.digest)
        if isinstance(told, Invalid):
            self._webhooks.counts[name, INVALID] += 1
            raise told
        outcome = self._webhooks.take(webhook, signed, told)
        log.info("webhook", webhook=name, triggered=outcome.triggered, ignored=outcome.ignored)
        await exchange.json(202, {"triggered": outcome.triggered, "ignored": outcome.ignored})

    async def _body(self, exchange: Exchange) -> bytes:
        if self._under_way >= MOST_AT_ONCE:
            raise Saturated(f"{MOST_AT_ONCE} webhooks are being read already", retry_after_s=5.0)
        self._under_way += 1
        try:
            return await exchange.body(LIMIT_BYTES)
        finally:
            self._under_way -= 1

    def _checked(
        self, webhook: Webhook, headers: dict[bytes, bytes], body: bytes
    ) -> tuple[Signed | None, Push | str | Invalid]:
        """Who sent it, and what it says; the latter is looked at only if the first is known."""
        signed = webhook.scheme.check(headers, body, time.time())
        if signed is None:
            return None, ""
        try:
            return signed, read(webhook.config.kind, headers, body)
        except Invalid as exc:
            return signed, exc


def _not_signed() -> Unauthorized:
    """The same for all: it tells nobody how far they got."""
    return Unauthorized("the message is not signed with the webhook's secret, or too long ago")
