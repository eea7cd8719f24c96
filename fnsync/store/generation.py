"""The state's generation: one number that tells whether anything changed, asked for as seldom as possible."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fnsync.store.sqlitefile import connect, translated

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from fnsync.store.database import Database

#: How long the number may be behind for a database that has to be asked over the network.
GENERATION_AGE_S = 1.0


class Generation(Protocol):
    """Used by one thread at a time."""

    def value(self) -> int:
        """The number. Raises StoreError."""

    def expire(self) -> None:
        """Have the next value be a new one, since something was written here."""

    def close(self) -> None:
        """Give back what asking needs."""


class FileGeneration:
    """Of a SQLite file: a connection that never writes is told cheaply that any other one has."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with translated(path):
            self._connection = connect(path)
        self._version: int | None = None
        self._value = 0

    def value(self) -> int:
        with translated(self._path):
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if version != self._version:
                (self._value,) = self._connection.execute("SELECT value FROM generation").fetchone()
                self._version = version
        return self._value

    def expire(self) -> None:
        """The file itself tells."""

    def close(self) -> None:
        self._connection.close()


class ServerGeneration:
    """Of a database that is reached over the network: asked for when the last answer is old."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked_at = -GENERATION_AGE_S
        self._value = 0

    def value(self) -> int:
        from fnsync.store import tables  # start time

        now = time.monotonic()
        if now - self._asked_at >= GENERATION_AGE_S:
            with self._database.reading() as connection:
                self._value = int(connection.execute(tables.generation.select()).one().value)
            self._asked_at = now
        return self._value

    def expire(self) -> None:
        self._asked_at = -GENERATION_AGE_S

    def close(self) -> None:
        """The connections are the database's."""


def advance(connection: Connection) -> None:
    """Let the number grow, in the transaction of the change itself."""
    from fnsync.store import tables  # start time

    connection.execute(tables.generation.update().values(value=tables.generation.c.value + 1))
