"""State: what belongs to users and not to reviewers. Unlike the index it cannot be rebuilt from the files.

A SQLite file whose schema is at head is opened without SQLAlchemy, whose import would be the longest part of
a start; the first question about users or tokens loads it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from fnsync.errors import Conflict, Invalid, NotFound, StoreError
from fnsync.model import User
from fnsync.store.addresses import DAMAGED, SQLITE, UNREACHABLE

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from fnsync.store.database import Database

#: Revision of the newest migration in `migrations/versions`.
HEAD = "0001"
#: The built-in admin, whom the generated admin token and FNSYNC_ADMIN_TOKEN stand for.
ADMIN = User(id="admin", name="Admin", email="admin@localhost", role="admin")
#: How long `generation` may be behind for a database that has to be asked over the network.
GENERATION_AGE_S = 1.0


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of an access token; its text is shown once and never stored."""

    #: 8 hex digits; also the first part of the token's text, `fns_<id>_<secret>`.
    id: str
    user_id: str
    label: str
    #: SHA-256 of the whole text, 64 hex digits.
    digest: str
    created_at: int
    last_used_at: int | None = None


class State:
    """Users and tokens; safe from any thread and beside other processes. Errors are StoreError."""

    def __init__(self, url: str) -> None:
        """Use `State.open`."""
        self._url = url
        self._database: Database | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._generation: _Generation | None = None

    @classmethod
    def open(cls, url: str) -> State:
        """Open the database, made or brought to the newest schema if need be.

        `url` is `sqlite:///relative`, `sqlite:////absolute` or `postgresql://user:password@host/name`. A new
        SQLite file is readable by its owner only.
        """
        state = cls(url)
        path = _sqlite_path(url)
        if path is None or not _at_head(path):
            if path is not None:
                _make(path)
            state.warm()
        return state

    def warm(self) -> None:
        """Connect now rather than with the first question; takes about a second the first time."""
        self._connected()

    def close(self) -> None:
        """Close all connections. The second call does nothing."""
        with self._lock:
            self._closed = True
            database, self._database = self._database, None
            generation, self._generation = self._generation, None
        if database is not None:
            database.close()
        if generation is not None:
            generation.close()

    # ---- users -------------------------------------------------------------------------------------------

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
        from fnsync.store import tables

        with self._connected().reading() as connection:
            found = connection.execute(tables.users.select().order_by(tables.users.c.email))
            return [User(id=row.id, name=row.name, email=row.email, role=row.role) for row in found]

    def user(self, id: str) -> User | None:
        """The user of that id."""
        from fnsync.store import tables

        with self._connected().reading() as connection:
            row = connection.execute(tables.users.select().where(tables.users.c.id == id)).one_or_none()
            return None if row is None else User(id=row.id, name=row.name, email=row.email, role=row.role)

    def _insert_user(self, user: User) -> None:
        from fnsync.store import tables

        with self._connected().writing() as connection:
            connection.execute(
                tables.users.insert().values(
                    id=user.id, name=user.name, email=user.email, role=user.role, created_at=int(time.time())
                )
            )
            _changed(connection)

    # ---- tokens ------------------------------------------------------------------------------------------

    def add_token(self, user_id: str, label: str) -> tuple[Token, str]:
        """Make a token; returns it and its text, which cannot be had again. Raises NotFound for an unknown user."""
        from fnsync.store import tables

        if self.user(user_id) is None:
            raise NotFound(f"there is no user {user_id!r}")
        id = secrets.token_hex(4)
        secret = f"fns_{id}_{secrets.token_urlsafe(32)}"
        token = Token(id, user_id, label, digest(secret), int(time.time()))
        with self._connected().writing() as connection:
            connection.execute(
                tables.tokens.insert().values(
                    id=id, user_id=user_id, label=label, digest=token.digest, created_at=token.created_at
                )
            )
            _changed(connection)
        return token, secret

    def tokens(self) -> list[Token]:
        """All tokens, oldest first."""
        from fnsync.store import tables

        with self._connected().reading() as connection:
            found = connection.execute(tables.tokens.select().order_by(tables.tokens.c.created_at, tables.tokens.c.id))
            return [Token(r.id, r.user_id, r.label, r.digest, r.created_at, r.last_used_at) for r in found]

    def revoke(self, token_id: str) -> bool:
        """Remove a token; false when there is none of that id."""
        from fnsync.store import tables

        with self._connected().writing() as connection:
            removed = connection.execute(tables.tokens.delete().where(tables.tokens.c.id == token_id)).rowcount > 0
            if removed:
                _changed(connection)
        return removed

    def mark_used(self, used: Mapping[str, int]) -> None:
        """Note when tokens were last used (id -> epoch seconds); does not change `generation`."""
        from fnsync.store import tables

        with self._connected().writing() as connection:
            for id, at in used.items():
                connection.execute(tables.tokens.update().where(tables.tokens.c.id == id).values(last_used_at=at))

    # ---- changes -----------------------------------------------------------------------------------------

    def generation(self) -> int:
        """A number that grows with each change of users or tokens, also by another process.

        Cheap enough for every request: some microseconds with SQLite; with PostgreSQL it is asked at most once
        a second.
        """
        with self._lock:
            self._check_open()
            if self._generation is None:
                path = _sqlite_path(self._url)
                if path is not None:
                    self._generation = _FileGeneration(path)
                else:
                    self._generation = _ServerGeneration(self._database or self._connect())
            return self._generation.value()

    # ---- the database ------------------------------------------------------------------------------------

    def _connected(self) -> Database:
        with self._lock:
            self._check_open()
            return self._database or self._connect()

    def _connect(self) -> Database:
        """Under the lock."""
        from fnsync.store.database import Database  # start time

        self._database = Database(self._url, head=HEAD)
        return self._database

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the state database is closed")


def digest(text: str) -> str:
    """What is stored of a token's text: SHA-256, 64 hex digits. Tokens have 256 random bits, so no salt is needed."""
    return hashlib.sha256(text.encode()).hexdigest()


class _Generation(Protocol):
    """The generation, asked for as seldom as possible. Used under the state's lock."""

    def value(self) -> int: ...

    def close(self) -> None: ...


class _FileGeneration:
    """Of a SQLite file: a connection that never writes is told cheaply that any other one has."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _translated(path):
            self._connection = _connect(path)
        self._version: int | None = None
        self._value = 0

    def value(self) -> int:
        with _translated(self._path):
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if version != self._version:
                (self._value,) = self._connection.execute("SELECT value FROM generation").fetchone()
                self._version = version
        return self._value

    def close(self) -> None:
        self._connection.close()


class _ServerGeneration:
    """Of a database that is reached over the network: asked for when the last answer is old."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked_at = -GENERATION_AGE_S
        self._value = 0

    def value(self) -> int:
        from fnsync.store import tables

        now = time.monotonic()
        if now - self._asked_at >= GENERATION_AGE_S:
            with self._database.reading() as connection:
                self._value = int(connection.execute(tables.generation.select()).one().value)
            self._asked_at = now
        return self._value

    def close(self) -> None:
        """The connections are the database's."""


def _changed(connection: Connection) -> None:
    """Let the generation grow, in the transaction of the change itself."""
    from fnsync.store import tables

    connection.execute(tables.generation.update().values(value=tables.generation.c.value + 1))


def _sqlite_path(url: str) -> Path | None:
    """The file of a SQLite URL; None for another database."""
    if not url.startswith("sqlite"):
        return None
    prefix, path = url[: len(SQLITE)], url[len(SQLITE) :]
    if prefix != SQLITE or not path or path == ":memory:":
        raise StoreError(f"{url!r} names no file for the state database", hint="sqlite:///path/to/state.sqlite3")
    return Path(path)


def _at_head(path: Path) -> bool:
    """Whether the file's schema is the newest, found without SQLAlchemy."""
    if not path.exists():
        return False
    with _translated(path), closing(_connect(path)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return False
        return bool(connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)])


def _connect(path: Path) -> sqlite3.Connection:
    # Under the state's lock, so by one thread at a time.
    return sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)


def _make(path: Path) -> None:
    """Make the file, if it is not there, so that only its owner can read it."""
    with _translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, OSError) as exc:
        raise StoreError(f"cannot use the state database {path}: {exc}", hint=UNREACHABLE) from exc
    except sqlite3.DatabaseError as exc:
        raise StoreError(f"the state database {path} is damaged: {exc}", hint=DAMAGED) from exc
