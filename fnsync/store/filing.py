"""What functions keep for their users: contents of files, and documents such as chats, in one SQLite file.

Each user has their own, whatever is asked for: nothing here is found without the user's id. Made when first used.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fnsync.errors import BodyTooLarge, Conflict, StoreError
from fnsync.store import sqlitefile

#: The largest content and document, in bytes.
CONTENT_BYTES, DOCUMENT_BYTES = 32 * 1024 * 1024, 4 * 1024 * 1024
#: What one user may have in all: how many contents and documents each, and how many bytes of each.
MOST, MOST_CONTENT_BYTES, MOST_DOCUMENT_BYTES = 5_000, 512 * 1024 * 1024, 64 * 1024 * 1024
#: Characters of an id, and of the part of a key that is the file's name.
ID_CHARACTERS, NAME_CHARACTERS = 200, 100

_DDL = """
CREATE TABLE IF NOT EXISTS content (
    user_id TEXT NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (user_id, key));
CREATE TABLE IF NOT EXISTS document (
    user_id TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, size INTEGER NOT NULL,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (user_id, kind, id));
"""
_UNSAFE = re.compile(r"[^\w.\- ]+")


@dataclass(frozen=True, slots=True)
class Document:
    """A document. `value`: a JSON object; times in seconds since the epoch."""

    id: str
    #: Counts up with each change.
    version: int
    created_at: int
    updated_at: int
    value: bytes


def filing_of(data: Path) -> Filing:
    """The one of a data folder."""
    return Filing(data / "filing.sqlite3")


class Filing:
    """Blocking, safe from any thread. Every method raises StoreError when the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # ---- contents ----

    def keep_content(self, user: str, name: str, data: bytes) -> str:
        """Keep a file's content; return the key it is found by, which ends with what is safe of its name.

        Raises BodyTooLarge.
        """
        _check_size("a file", len(data), CONTENT_BYTES)
        key = f"{uuid.uuid4().hex}_{safe_name(name)}"
        with self._writing() as connection:
            _check_room(connection, "content", user, len(data), MOST_CONTENT_BYTES, "files")
            connection.execute("INSERT INTO content VALUES (?, ?, ?, ?)", (user, key, len(data), data))
        return key

    def content(self, user: str, key: str) -> bytes | None:
        """The content that the user has under a key."""
        with self._using() as connection:
            found = connection.execute("SELECT data FROM content WHERE user_id = ? AND key = ?", (user, key)).fetchone()
        return None if found is None else bytes(found[0])

    def drop_content(self, user: str, key: str) -> bool:
        """Forget a content; returns whether it was there."""
        with self._writing() as connection:
            done = connection.execute("DELETE FROM content WHERE user_id = ? AND key = ?", (user, key))
            return done.rowcount > 0

    # ---- documents ----

    def keep(self, user: str, kind: str, id: str, value: bytes, based_on: int | None) -> Document:
        """Keep a document. `based_on`: the version it was made from, 0 for a new one; None: whatever there is.

        Raises Conflict when there is another version, BodyTooLarge.
        """
        _check_size(f"a {kind}", len(value), DOCUMENT_BYTES)
        _check_size("an id", len(id), ID_CHARACTERS)
        now = int(time.time())
        key = (user, kind, id)
        with self._writing() as connection:
            old = connection.execute(_HEAD, key).fetchone()
            version, created_at, size = old or (0, now, 0)
            if based_on is not None and based_on != version:
                raise Conflict(f"the {kind} {id[:ID_CHARACTERS]!r} was changed meanwhile")
            _check_room(connection, "document", user, len(value) - size, MOST_DOCUMENT_BYTES, "documents", new=not old)
            row = (*key, version + 1, len(value), created_at, now, value)
            connection.execute("INSERT OR REPLACE INTO document VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        return Document(id, version + 1, created_at, now, value)

    def kept(self, user: str, kind: str, id: str) -> Document | None:
        """A document of the user's."""
        with self._using() as connection:
            row = connection.execute(_SELECT + _WHERE, (user, kind, id)).fetchone()
        return None if row is None else Document(*row)

    def all_kept(self, user: str, kind: str, skip: int, limit: int) -> list[Document]:
        """The user's documents of a kind, the newest first."""
        order = "ORDER BY updated_at DESC, id LIMIT ? OFFSET ?"
        with self._using() as connection:
            rows = connection.execute(f"{_SELECT} WHERE user_id = ? AND kind = ? {order}", (user, kind, limit, skip))
            return [Document(*row) for row in rows]

    def drop(self, user: str, kind: str, id: str) -> bool:
        """Forget a document; returns whether it was there."""
        with self._writing() as connection:
            return connection.execute(_DELETE, (user, kind, id)).rowcount > 0

    def forget(self, user: str) -> None:
        """Forget all that is a user's, if anything is."""
        if not self._path.exists():
            return
        with self._writing() as connection:
            connection.execute("DELETE FROM content WHERE user_id = ?", (user,))
            connection.execute("DELETE FROM document WHERE user_id = ?", (user,))

    # ---- the file ----

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._open()
                yield self._connection
            except (sqlite3.Error, OSError) as exc:
                hint = "check the disk; the file can be deleted, and with it what functions keep"
                raise StoreError(f"cannot use {self._path}, where functions keep files: {exc}", hint=hint) from exc

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._using() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _open(self) -> sqlite3.Connection:
        sqlitefile.make(self._path)
        connection = sqlitefile.connect(self._path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_DDL)
        return connection


_WHERE = " WHERE user_id = ? AND kind = ? AND id = ?"
_HEAD = "SELECT version, created_at, size FROM document WHERE user_id = ? AND kind = ? AND id = ?"
_DELETE = "DELETE FROM document WHERE user_id = ? AND kind = ? AND id = ?"
_SELECT = "SELECT id, version, created_at, updated_at, value FROM document"


def safe_name(name: str) -> str:
    """What of a file's name can stand in a path: no folders, nothing hidden, no control characters."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return _UNSAFE.sub("_", last).strip(". ")[-NAME_CHARACTERS:].strip(". ") or "file"


def _check_size(what: str, size: int, most: int) -> None:
    if size > most:
        raise BodyTooLarge(f"{what} of {size:,} is larger than the {most:,} that is allowed")


def _check_room(
    connection: sqlite3.Connection, table: str, user: str, size: int, most: int, what: str, *, new: bool = True
) -> None:
    query = f"SELECT count(*), coalesce(sum(size), 0) FROM {table} WHERE user_id = ?"  # noqa: S608  our tables' names
    count, total = connection.execute(query, (user,)).fetchone()
    if new and count >= MOST:
        raise BodyTooLarge(f"functions keep {count:,} {what} for this user already, as many as are allowed")
    if size > 0 and total + size > most:
        raise BodyTooLarge(f"functions keep {total:,} bytes of {what} for this user; {most:,} are allowed in all")
