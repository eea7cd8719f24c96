"""A lifecycle event in the shape that Open WebUI gives its own (function-contract §5)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fnsync.model import User
from fnsync.source.secrets import is_secret_name

#: The version of Open WebUI whose shape it is.
SCHEMA = "0.12.4"
#: How much of a text in `data` is told.
TEXT_CHARACTERS = 1_000


@dataclass(frozen=True, slots=True)
class Origin:
    """The server that events come from."""

    #: Another one after each start.
    instance: str
    version: str
    #: Gives when a user was added, in seconds since the epoch; None: they were not.
    added_at: Callable[[User], Awaitable[int | None]]


@dataclass(slots=True)
class Event:
    """One event; `name` is `<resource>.<operation>`."""

    name: str
    origin: Origin
    #: The function it is about.
    function: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    #: Who asked for it over the API.
    actor: User | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: int = field(default_factory=lambda: int(time.time()))
    _body: bytes = b""

    async def body(self) -> bytes:
        """The envelope, JSON; the same for everyone who gets it."""
        if not self._body:
            self._body = msgspec.json.encode(await self._envelope())
        return self._body

    async def _envelope(self) -> dict[str, Any]:
        resource, _, operation = self.name.rpartition(".")
        return {
            "schema": SCHEMA,
            "id": self.id,
            "event": self.name,
            "resource": resource,
            "operation": operation,
            "created_at": self.created_at,
            "instance_id": self.origin.instance,
            "version": self.origin.version,
            "source": "system" if self.actor is None else "api",
            "actor": None if self.actor is None else await self._told(self.actor),
            "subject": None if self.function is None else {"type": "function", "id": self.function},
            "data": {key: _shown(value) for key, value in self.data.items() if not is_secret_name(key)},
            "message": None,
        }

    async def _told(self, actor: User) -> dict[str, Any]:
        at = await self.origin.added_at(actor)
        return {
            "id": actor.id,
            "name": actor.name,
            "email": actor.email,
            "role": actor.role,
            "created_at": at,
            # Changes of users have no date.
            "updated_at": at,
            "type": "user",
        }


def _shown(value: Any) -> Any:
    return value[:TEXT_CHARACTERS] if isinstance(value, str) else value
