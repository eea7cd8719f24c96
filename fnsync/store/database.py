"""The state database's engine: which driver, how it is opened, and that its schema is at head.

The one door for SQLAlchemy's and Alembic's errors. Importing SQLAlchemy takes most of a second here, so that
`fnsync.store.state` imports this module only when it must.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, event, inspect, text
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from fnsync.errors import Conflict, StoreError
from fnsync.store import fresh
from fnsync.store.addresses import DAMAGED, SQLITE, UNREACHABLE

BUSY_MS = 10_000
#: Any number will do, as long as every fnsync asks for the same one.
POSTGRES_LOCK = 0x666E73796E63


class Database:
    """An engine with its schema at `head`. Every error that comes out is a StoreError (or Conflict)."""

    def __init__(self, url: str, *, head: str) -> None:
        self._engine = _engine(_parsed(url))
        self._where = self._engine.url.render_as_string(hide_password=True)
        try:
            with self.reading() as connection:
                at_head = _revision(connection) == head
            if not at_head:
                self._upgrade(head)
        except BaseException:
            self._engine.dispose()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one moment."""
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is committed at the end. On SQLite it holds the write lock from its beginning."""
        with (
            self._translated(),
            self._engine.connect() as connection,
            connection.execution_options(fnsync_write=True).begin(),
        ):
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _upgrade(self, head: str) -> None:
        with self.writing() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": POSTGRES_LOCK})
            if _revision(connection) == head:  # another process was faster
                return
            if head == fresh.REVISION and not inspect(connection).get_table_names():
                fresh.make(connection)
                return
            self._migrate(connection, head)

    def _migrate(self, connection: Connection, head: str) -> None:
        # start time: Alembic takes longer to import than the rest of the start
        from alembic import command
        from alembic.config import Config
        from alembic.script.revision import ResolutionError
        from alembic.util import CommandError

        config = Config()
        # A ConfigParser reads it, to which % is special.
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, head)
        except (CommandError, ResolutionError) as exc:
            raise StoreError(
                f"the state database {self._where} has schema {_revision(connection)}, which this version of "
                f"fnsync (schema {head}) does not know",
                hint="it was written by a newer fnsync; upgrade this one",
            ) from exc

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as exc:
            raise Conflict(f"the state database refuses this: {exc.orig}") from exc
        except DBAPIError as exc:
            raise StoreError(f"cannot use the state database {self._where}: {exc.orig}", hint=_hint(exc)) from exc
        except SQLAlchemyError as exc:
            raise StoreError(f"cannot use the state database {self._where}: {exc}") from exc


def _parsed(url: str) -> URL:
    if url.startswith(SQLITE):  # a path is taken as it is, with whatever characters
        return URL.create("sqlite", database=url.removeprefix(SQLITE))
    try:
        parsed = make_url(url)
    except ArgumentError as exc:
        raise StoreError(f"{url!r} is no database URL", hint="sqlite:///path or postgresql://user@host/name") from exc
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def _engine(url: URL) -> Engine:
    try:
        if url.get_backend_name() == "sqlite":
            engine = create_engine(url, connect_args={"timeout": BUSY_MS / 1000, "check_same_thread": False})
            event.listen(engine, "connect", _set_up_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        return create_engine(url, pool_pre_ping=True)
    except NoSuchModuleError as exc:
        raise StoreError(
            f"state databases of kind {url.drivername!r} are unknown; known are sqlite and postgresql"
        ) from exc
    except ModuleNotFoundError as exc:
        raise StoreError(
            f"the state database {url.render_as_string()} needs the package {exc.name}, which is not installed",
            hint="pip install 'psycopg[binary]'",
        ) from exc


def _set_up_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    # sqlite3 would begin transactions by itself, and never for DDL; _begin_sqlite does it instead.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    # A writer that only turns into one on its way could not wait for another one.
    write = connection.get_execution_options().get("fnsync_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _revision(connection: Connection) -> str | None:
    """The schema's revision; None: there is no schema yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _hint(exc: DBAPIError) -> str:
    if isinstance(exc.orig, sqlite3.OperationalError):
        return UNREACHABLE
    if isinstance(exc.orig, sqlite3.DatabaseError):
        return DAMAGED
    return "see that the database runs, and that name and password in its URL are right"
