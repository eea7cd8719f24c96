"""Rotates keys over HTTP, so that the server that runs uses the new one from then on."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fnsync.api.answers import RotatedAnswer
from fnsync.api.exchange import Exchange
from fnsync.api.functions import EDIT_ERRORS, commit_headers, proposed
from fnsync.api.routes import Route, api_route, ok
from fnsync.edits.manager import Terms
from fnsync.edits.rotation import Rotated
from fnsync.errors import StoreError

if TYPE_CHECKING:
    from fnsync.service import Service

GROUP = "Secrets"


class SecretEndpoints:
    """Answers what is asked about keys. No key is ever in an answer."""

    def __init__(self, service: Service) -> None:
        self._rotation = service.rotation

    def routes(self) -> list[Route]:
        """What it answers."""
        return [
            api_route(
                "POST",
                "/secrets/rotate",
                self.rotate,
                "admin",
                "Encrypt everything with a new key, or with the first of FNSYNC_SECRET_KEY",
                GROUP,
                ok(RotatedAnswer, "What was encrypted anew, and what keeps the old keys"),
                errors=(*EDIT_ERRORS, StoreError),
            )
        ]

    async def rotate(self, exchange: Exchange) -> None:
        rotated = await self._rotation.run(Terms(exchange.caller))
        await exchange.json(200, rotation_told(rotated), commit_headers(rotated.written))


def rotation_told(rotated: Rotated) -> dict[str, Any]:
    """What a rotation came to, as the API tells it."""
    proposal = rotated.written.proposal
    return {
        "commit": rotated.written.commit,
        "settings": rotated.settings,
        "user_valves": rotated.user_valves,
        "given": rotated.is_given,
        "dropped_keys": rotated.dropped,
        "kept": [asdict(one) for one in rotated.kept],
        "proposal": None if proposal is None else proposed(proposal),
    }
