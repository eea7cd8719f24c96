"""Users in the state."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from typing import Literal

from fnsync.errors import Conflict, Invalid
from fnsync.model import User
from fnsync.store.generation import advance
from fnsync.store.opening import Opened

#: The built-in admin, whom the generated admin token and FNSYNC_ADMIN_TOKEN stand for.
ADMIN = User(id="admin", name="Admin", email="admin@localhost", role="admin")


class Users(Opened):
    """The part of the state that holds users."""

    def ensure_admin(self) -> User:
        """The built-in admin, added if missing."""
        if self.user(ADMIN.id) is None:
            with suppress(Conflict):  # another process was faster
                self._insert_user(ADMIN)
        return ADMIN

    def add_user(self, *, name: str, email: str, role: Literal["admin", "user", "pending"] = "user") -> User:
        """Add someone. Raises Conflict when the e-mail address is taken (whatever its case)."""
        user = User(id=str(uuid.uuid4()), name=name.strip(), email=email.strip().lower(), role=role)
        if "@" not in user.email:
            raise Invalid(f"{email!r} is no e-mail address", param="email")
        try:
            self._insert_user(user)
        except Conflict as exc:
            raise Conflict(f"there is a user with the e-mail address {user.email} already") from exc
        return user

    def users(self) -> list[User]:
        """All users, by e-mail address."""
        from fnsync.store import tables  # start time

        with self._reading() as connection:
            found = connection.execute(tables.users.select().order_by(tables.users.c.email))
            return [User(id=row.id, name=row.name, email=row.email, role=row.role) for row in found]

    def user(self, id: str) -> User | None:
        """The user of that id."""
        from fnsync.store import tables  # start time

        with self._reading() as connection:
            row = connection.execute(tables.users.select().where(tables.users.c.id == id)).one_or_none()
            return None if row is None else User(id=row.id, name=row.name, email=row.email, role=row.role)

    def _insert_user(self, user: User) -> None:
        from fnsync.store import tables  # start time

        with self._writing() as connection:
            connection.execute(
                tables.users.insert().values(
                    id=user.id, name=user.name, email=user.email, role=user.role, created_at=int(time.time())
                )
            )
            advance(connection)
