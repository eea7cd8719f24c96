"""The users of chat servers: who is named gets into the state."""

from __future__ import annotations

import asyncio

import structlog

from fnsync.errors import FnsyncError
from fnsync.model import User
from fnsync.store.state import State

#: Users kept in memory; the state is told of the rest once more.
MANY_USERS = 10_000

log = structlog.get_logger(__name__)


class ChatUsers:
    """What this server knows of them. Naming somebody costs a request no more than a look into a dict."""

    def __init__(self, state: State) -> None:
        self._state = state
        #: By id, as the state has them.
        self._remembered: dict[str, User] = {}
        #: By id, named since the state was told last.
        self._named: dict[str, User] = {}

    def named(self, user: User) -> None:
        """Have the state told of `user`, unless it knows."""
        remembered = self._remembered.get(user.id)
        if remembered is not user and remembered != user and len(self._named) < MANY_USERS:
            self._named[user.id] = user

    def forget(self) -> None:
        """Believe the state anew: users may have been removed."""
        self._remembered.clear()

    async def remember(self) -> None:
        """Tell the state who was named. That it cannot be told is no reason to refuse anybody."""
        if not self._named:
            return
        named, self._named = self._named, {}
        try:
            await asyncio.to_thread(self._state.remember, *named.values())
        except FnsyncError as exc:
            log.warning("users_not_remembered", count=len(named), error=str(exc))
            return
        if len(self._remembered) + len(named) > MANY_USERS:
            self._remembered.clear()
        self._remembered |= named
