"""Users in the state: those added here, and those whom chat servers name."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from fnsync.errors import Conflict, Invalid, NotFound
from fnsync.model import Role, User
from fnsync.store.generation import advance
from fnsync.store.opening import Opened

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: The built-in admin, whom the generated admin token and FNSYNC_ADMIN_TOKEN stand for.
ADMIN = User(id="admin", name="Admin", email="admin@localhost", role="admin")

#: Added here, or named by a chat server, which says name, address and role anew with each call.
Origin = Literal["local", "forwarded"]

ID_CHARACTERS = 64
NAME_CHARACTERS = 255
EMAIL_CHARACTERS = 320

#: What would break a line, steer a terminal or be no text: C0, DEL, C1, Unicode's two separators, lone surrogates.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


@dataclass(frozen=True, slots=True)
class Account:
    """What is kept of a user."""

    user: User
    origin: Origin
    #: Epoch seconds; of a forwarded user, when they were named first.
    created_at: int


class Users(Opened):
    """The part of the state that holds users."""

    def ensure_admin(self) -> User:
        """The built-in admin, added if missing."""
        if self.user(ADMIN.id) is None:
            with suppress(Conflict):  # another process was faster
                self._insert(ADMIN)
        return ADMIN

    def add_user(self, *, name: str = "", email: str, role: Role = "user") -> User:
        """Add a local user; without a name they get that of their address.

        Raises Invalid, and Conflict when another local user has the e-mail address (whatever its case).
        """
        email = _address(email)
        name = _name(name or email.partition("@")[0][:NAME_CHARACTERS])
        user = User(id=str(uuid.uuid4()), name=name, email=email, role=role)
        try:
            self._insert(user)
        except Conflict as exc:
            raise _taken(email) from exc
        return user

    def users(self) -> list[User]:
        """All users, local and forwarded, by e-mail address."""
        return [account.user for account in self.accounts()]

    def accounts(self) -> list[Account]:
        """All users with what is kept of them, by e-mail address."""
        from fnsync.store import tables  # start time

        with self._reading() as connection:
            found = connection.execute(tables.users.select().order_by(tables.users.c.email, tables.users.c.id))
            return [_account(row) for row in found]

    def local_ids(self) -> frozenset[str]:
        """The ids of the users added here, and of the built-in admin, who may not have been."""
        from sqlalchemy import select  # start time

        from fnsync.store import tables

        with self._reading() as connection:
            found = connection.execute(select(tables.users.c.id).where(tables.users.c.origin == "local"))
            return frozenset({ADMIN.id, *found.scalars()})

    def ids_with_role(self, role: Role) -> frozenset[str]:
        """The ids of all users of that role, local and forwarded."""
        from sqlalchemy import select  # start time

        from fnsync.store import tables

        with self._reading() as connection:
            return frozenset(connection.execute(select(tables.users.c.id).where(tables.users.c.role == role)).scalars())

    def user(self, id: str) -> User | None:
        """The user of that id."""
        account = self.account(id)
        return None if account is None else account.user

    def account(self, id: str) -> Account | None:
        """The user of that id, with what is kept of them."""
        with self._reading() as connection:
            return _find(connection, id)

    def user_by_email(self, email: str) -> User | None:
        """The local user with that address, whatever its case; those of chat servers need not be the only ones."""
        from fnsync.store import tables  # start time

        is_meant = (tables.users.c.email == email.strip().lower()) & (tables.users.c.origin == "local")
        with self._reading() as connection:
            row = connection.execute(tables.users.select().where(is_meant)).one_or_none()
            return None if row is None else _account(row).user

    def set_role(self, id: str, role: Role) -> User:
        """Give a local user another role. Raises NotFound and Conflict, as `update_user` does."""
        return self.update_user(id, role=role)

    def update_user(
        self, id: str, *, name: str | None = None, email: str | None = None, role: Role | None = None
    ) -> User:
        """Change a local user; None leaves as it is. Returns the user as they are now.

        Raises NotFound; Invalid; Conflict for an address that is taken, for the built-in admin, who stays as they
        are, and for a user of a chat server, who would be as before with their next call.
        """
        from fnsync.store import tables  # start time

        given: dict[str, Any] = {
            "name": None if name is None else _name(name),
            "email": None if email is None else _address(email, builtin=id == ADMIN.id),
            "role": role,
        }
        with self._writing() as connection:
            account = _find(connection, id)
            if account is None:
                raise NotFound(f"there is no user {id[:ID_CHARACTERS]!r}")
            changed = replace(account.user, **{key: value for key, value in given.items() if value is not None})
            if changed == account.user:
                return changed
            if account.origin == "forwarded":
                raise Conflict(
                    f"{account.user.name} is a user of a chat server, which says their name, address and role anew "
                    "with each call",
                    hint="change them there; the ceiling of the chat server's token bounds what they may here",
                )
            if id == ADMIN.id:
                raise Conflict("the built-in admin stays as it is", hint="add an admin of another name")
            values = {"name": changed.name, "email": changed.email, "role": changed.role}
            others = (tables.users.c.email == changed.email) & (tables.users.c.origin == "local")
            if connection.execute(tables.users.select().where(others, tables.users.c.id != id)).first():
                raise _taken(changed.email)
            connection.execute(tables.users.update().where(tables.users.c.id == id).values(**values))
            advance(connection)
        return changed

    def remove_user(self, id: str) -> User:
        """Remove a user with their tokens and user valves, and return who it was.

        Raises NotFound, and Conflict for the built-in admin: whoever removes all other admins still has that one.
        A user of a chat server comes back with their next call.
        """
        from fnsync.store import tables  # start time

        with self._writing() as connection:
            account = _find(connection, id)
            if account is None:
                raise NotFound(f"there is no user {id[:ID_CHARACTERS]!r}")
            if id == ADMIN.id:
                raise Conflict("the built-in admin cannot be removed")
            connection.execute(tables.user_valves.delete().where(tables.user_valves.c.user_id == id))
            connection.execute(tables.users.delete().where(tables.users.c.id == id))  # and the tokens
            advance(connection)
        return account.user

    def remember(self, *users: User) -> None:
        """Keep what a chat server said of its users, in one transaction; nothing is written that is known already.

        An id that a local user has is left alone. No `generation`: nobody gets in or stays out because of it.
        """
        from fnsync.store import tables  # start time
        from fnsync.store.upserts import upsert

        with self._reading() as connection:
            known = {row.id: _account(row) for row in connection.execute(_with_ids([user.id for user in users]))}
        fresh = [user for user in users if user.id != ADMIN.id and _differs(user, known.get(user.id))]
        if not fresh:
            return
        with self._writing() as connection:
            for user in fresh:
                said = {"name": user.name, "email": user.email, "role": user.role}
                row = {"id": user.id, **said, "origin": "forwarded", "created_at": int(time.time())}
                upsert(connection, tables.users, row, said, tables.users.c.origin == "forwarded")

    def _insert(self, user: User) -> None:
        """Add a local user. Raises Conflict."""
        from fnsync.store import tables  # start time

        row = {"id": user.id, "name": user.name, "email": user.email, "role": user.role}
        with self._writing() as connection:
            connection.execute(tables.users.insert().values(**row, origin="local", created_at=int(time.time())))
            advance(connection)


def one_line(text: str, what: str, limit: int) -> str:
    """`text` as it is. Raises Invalid when it is longer than `limit` characters or holds control characters."""
    if len(text) > limit:
        raise Invalid(f"{what}: is longer than {limit} characters", param=what)
    if _CONTROL.search(text):
        raise Invalid(f"{what}: must not hold line breaks or other control characters", param=what)
    return text


def _name(name: str) -> str:
    """A name as it is kept. Raises Invalid."""
    name = one_line(name.strip(), "name", NAME_CHARACTERS)
    if not name:
        raise Invalid("name: must not be empty", param="name")
    return name


def _address(email: str, *, builtin: bool = False) -> str:
    """An e-mail address as it is kept. Raises Invalid, and Conflict for the built-in admin's."""
    email = one_line(email.strip().lower(), "email", EMAIL_CHARACTERS)
    if not _EMAIL.fullmatch(email):
        raise Invalid(f"{email!r} is no e-mail address", param="email")
    if email == ADMIN.email and not builtin:
        raise _taken(email)
    return email


def _taken(email: str) -> Conflict:
    return Conflict(f"there is a user with the e-mail address {email} already")


def _find(connection: Connection, id: str) -> Account | None:
    row = connection.execute(_with_ids([id])).one_or_none()
    return None if row is None else _account(row)


def _with_ids(ids: Sequence[str]) -> Any:
    from fnsync.store import tables  # start time

    return tables.users.select().where(tables.users.c.id.in_(ids))


def _account(row: Any) -> Account:
    user = User(id=row.id, name=row.name, email=row.email, role=row.role)
    return Account(user, row.origin, row.created_at)


def _differs(user: User, known: Account | None) -> bool:
    return known is None or (known.origin == "forwarded" and known.user != user)
