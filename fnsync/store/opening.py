"""How the state database is opened, and what all its subjects share: the connections and the generation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Self

from fnsync.errors import StoreError
from fnsync.store.generation import FileGeneration, Generation, ServerGeneration
from fnsync.store.sqlitefile import at_revision, make, sqlite_path

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from fnsync.store.database import Database

#: Revision of the newest migration in `migrations/versions`.
HEAD = "0003"


class Opened:
    """The open database. Safe from any thread and beside other processes; errors are StoreError."""

    def __init__(self, url: str) -> None:
        """Use `open`."""
        self._url = url
        self._database: Database | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._generation: Generation | None = None

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the database, made or brought to the newest schema if need be.

        `url` is `sqlite:///relative`, `sqlite:////absolute` or `postgresql://user:password@host/name`. A new
        SQLite file is readable by its owner only.
        """
        state = cls(url)
        path = sqlite_path(url)
        if path is None or not at_revision(path, HEAD):
            if path is not None:
                make(path)
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

    def generation(self) -> int:
        """A number that grows with each change of users, tokens or user valves, also by another process.

        Cheap enough for every request: some microseconds with SQLite; with PostgreSQL what other processes changed
        is asked for at most once a second.
        """
        with self._lock:
            self._check_open()
            if self._generation is None:
                path = sqlite_path(self._url)
                if path is not None:
                    self._generation = FileGeneration(path)
                else:
                    self._generation = ServerGeneration(self._database or self._connect())
            return self._generation.value()

    def _reading(self) -> AbstractContextManager[Connection]:
        """A connection that sees one moment."""
        return self._connected().reading()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction that is committed at the end."""
        with self._connected().writing() as connection:
            yield connection
        with self._lock:
            if self._generation is not None:
                self._generation.expire()

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
