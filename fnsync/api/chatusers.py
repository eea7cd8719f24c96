"""The users of chat servers: who is named gets into the state, who logs in is looked up there."""

from __future__ import annotations

import asyncio
import time

import structlog

from fnsync.errors import FnsyncError
from fnsync.model import User
from fnsync.store.state import State

#: Users kept in memory; the rest is asked of the state, or told to it, once more.
MANY_USERS = 10_000
#: How long what the state said of somebody is believed; another server may have changed it.
BELIEVED_S = 30.0

log = structlog.get_logger(__name__)


class ChatUsers:
    """What this server knows of them. Naming somebody costs a request no more than a look into a dict."""

    def __init__(self, state: State) -> None:
        self._state = state
        #: By id, as the state has them.
        self._remembered: dict[str, User] = {}
        #: By id, named since the state was told last.
        self._named: dict[str, User] = {}
        #: Id -> what the state said, and until when (time.monotonic()) that is believed.
        self._looked_up: dict[str, tuple[User | None, float]] = {}

    def named(self, user: User) -> None:
        """Have the state told of `user`, unless it knows."""
        remembered = self._remembered.get(user.id)
        if remembered is not user and remembered != user and len(self._named) < MANY_USERS:
            self._named[user.id] = user

    async def known(self, id: str) -> User | None:
        """The user of that id, if a chat server has named them. Raises StoreError."""
        user = self._named.get(id) or self._remembered.get(id)
        if user is not None:
            return user
        user, until = self._looked_up.get(id, (None, 0.0))
        if time.monotonic() >= until:
            user = await asyncio.to_thread(self._asked, id)
            if len(self._looked_up) >= MANY_USERS:
                self._looked_up.clear()
            self._looked_up[id] = (user, time.monotonic() + BELIEVED_S)
        return user

    def known_now(self, id: str) -> User | None:
        """The same by what the state says at this moment; blocking. Raises StoreError."""
        return self._named.get(id) or self._asked(id)

    def _asked(self, id: str) -> User | None:
        account = self._state.account(id)
        return account.user if account is not None and account.origin == "forwarded" else None

    def forget(self) -> None:
        """Believe the state anew: users may have been removed."""
        self._remembered.clear()
        self._looked_up.clear()

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
        for id in named:
            self._looked_up.pop(id, None)
