"""The index: what the function files came to, in one SQLite file that can be deleted at any moment.

Everything in it is derived. A file that is missing, corrupt or of another schema is replaced by an empty one,
and `Index.fresh` tells the caller to fill it. All writes go through one thread; a read never waits for a write.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from fnsync.errors import StoreError
from fnsync.model import FunctionId, FunctionRow, Kind, RowSummary, Unit
from fnsync.store import rows as forms

log = logging.getLogger(__name__)

#: Raised when what the blobs mean changes although the tables stay.
VERSION = 1
#: How long a statement waits for another process's lock.
BUSY_MS = 5_000
#: Connections kept for readers; more are opened when more read at once, and closed after use.
IDLE_READERS = 4

DDL = """
CREATE TABLE function (
    id TEXT PRIMARY KEY NOT NULL, user_id TEXT NOT NULL, name TEXT NOT NULL, type TEXT,
    meta TEXT NOT NULL, valves TEXT NOT NULL, is_active INTEGER NOT NULL, is_global INTEGER NOT NULL,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, path TEXT NOT NULL, revision TEXT, live_revision TEXT,
    status TEXT NOT NULL, error TEXT, source TEXT NOT NULL, "commit" TEXT, rivals TEXT NOT NULL,
    version TEXT, tag TEXT NOT NULL,
    -- Last, so that what is before it is read without it.
    content TEXT NOT NULL
);
CREATE INDEX function_is_global ON function (is_global);
CREATE TABLE unit (path TEXT PRIMARY KEY NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE note (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID;

-- The search takes its text from the function table instead of keeping a copy; the triggers keep it in step.
CREATE VIEW searched AS SELECT rowid, name || ' ' || id AS name,
    coalesce(json_extract(meta, '$.description'), '') AS description, content AS source FROM function;
CREATE VIRTUAL TABLE search USING fts5(name, description, source, content='searched', content_rowid='rowid');
CREATE TRIGGER search_insert AFTER INSERT ON function BEGIN
    INSERT INTO search(rowid, name, description, source) VALUES (new.rowid, new.name || ' ' || new.id,
        coalesce(json_extract(new.meta, '$.description'), ''), new.content);
END;
CREATE TRIGGER search_delete AFTER DELETE ON function BEGIN
    INSERT INTO search(search, rowid, name, description, source) VALUES ('delete', old.rowid,
        old.name || ' ' || old.id, coalesce(json_extract(old.meta, '$.description'), ''), old.content);
END;
CREATE TRIGGER search_update AFTER UPDATE ON function
WHEN old.name IS NOT new.name OR old.content IS NOT new.content OR old.meta IS NOT new.meta BEGIN
    INSERT INTO search(search, rowid, name, description, source) VALUES ('delete', old.rowid,
        old.name || ' ' || old.id, coalesce(json_extract(old.meta, '$.description'), ''), old.content);
    INSERT INTO search(rowid, name, description, source) VALUES (new.rowid, new.name || ' ' || new.id,
        coalesce(json_extract(new.meta, '$.description'), ''), new.content);
END;
"""
#: Weights of name, description and source in the order of a search's results.
RANK = "bm25(search, 20.0, 5.0, 1.0)"
SCHEMA = hashlib.sha256(f"{VERSION}\n{DDL}\n{forms.SHAPE}".encode()).hexdigest()

_SELECT, _SUMMARY = (
    "SELECT {} FROM function".format(", ".join(f'function."{column}"' for column in columns))  # noqa: S608 - constants only
    for columns in (forms.COLUMNS, forms.SUMMARY)
)
_UPSERT = "INSERT INTO function ({}) VALUES ({}) ON CONFLICT (id) DO UPDATE SET {}".format(  # noqa: S608 - constants
    ", ".join(f'"{column}"' for column in forms.COLUMNS),
    ", ".join("?" for _ in forms.COLUMNS),
    ", ".join(f'"{column}" = excluded."{column}"' for column in forms.COLUMNS if column != "id"),
)
_WORD = re.compile(r"[^\W_]+")


class Index:
    """Rows of the `function` table, the units they were made from, and notes; safe from any thread.

    Every method raises StoreError when the file cannot be read or written, or after `close`.
    """

    def __init__(self, path: Path, reason: str | None) -> None:
        """Use `Index.open`."""
        self.path = path
        #: Whether the index began empty, and why.
        self.fresh = reason is not None
        self.reason = reason
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue(IDLE_READERS)
        self._jobs: queue.SimpleQueue[tuple[Callable[[sqlite3.Connection], None], Future[None]] | None]
        self._jobs = queue.SimpleQueue()
        self._closed = False
        #: Held while a job is put or a reader given back, so that none comes after the end.
        self._gate = threading.Lock()
        self._writer = threading.Thread(
            target=self._write_all, args=(_connect(path),), name="fnsync-index", daemon=True
        )
        self._writer.start()

    @classmethod
    def open(cls, path: Path) -> Index:
        """Open the index at `path`, or begin an empty one. A corrupt file is kept beside it as `….corrupt`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with _translated(path):
            reason = _unusable(path)
            if reason is not None:
                _make(path)
            return cls(path, reason)

    @staticmethod
    def peek(path: Path) -> list[FunctionRow]:
        """Return the rows of an index without changing anything; none if it is missing or of another schema."""
        if not path.exists():
            return []
        with _translated(path), closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            if _other_schema(connection):
                return []
            return [forms.row(values) for values in connection.execute(f"{_SELECT} ORDER BY id")]

    def close(self) -> None:
        """Finish the writes under way and close all connections. The second call does nothing."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._writer.join()
        with suppress(queue.Empty):
            while True:
                self._readers.get_nowait().close()

    # ---- reading -----------------------------------------------------------------------------------------

    def units(self) -> list[Unit]:
        """What was read from each source file, by path. One that cannot be decoded is left out, and so read anew."""
        return [unit for (data,) in self._all("SELECT data FROM unit ORDER BY path") if (unit := forms.unit(data))]

    def rows(self, *, active: bool | None = None, kind: Kind | None = None) -> list[FunctionRow]:
        """The rows by id; only active (or inactive) ones, only those of a kind."""
        wanted = {"is_active": active, "type": kind}
        given = {column: value for column, value in wanted.items() if value is not None}
        where = " AND ".join(f"{column} = ?" for column in given) or "1"
        found = self._all(f"{_SELECT} WHERE {where} ORDER BY id", tuple(given.values()))
        return [forms.row(values) for values in found]

    def summaries(self, *, active: bool | None = None, newest_first: bool = False) -> list[RowSummary]:
        """The rows without their texts, in the order in which the functions were made, or were changed last."""
        where = "" if active is None else "WHERE is_active = ?"
        order = "updated_at DESC, id" if newest_first else "created_at, id"
        found = self._all(f"{_SUMMARY} {where} ORDER BY {order}", () if active is None else (active,))
        return [forms.summary(values) for values in found]

    def row(self, id: FunctionId) -> FunctionRow | None:
        """The row of that id."""
        found = self._all(f"{_SELECT} WHERE id = ?", (id,))
        return forms.row(found[0]) if found else None

    def search(self, text: str, *, sources: bool = True) -> list[RowSummary]:
        """The rows that have every word of `text` in name, description or, with `sources`, source, best first.

        The last word may be the beginning of one. Punctuation is ignored; without any word the answer is empty.
        """
        words = _WORD.findall(text)
        if not words:
            return []
        query = " ".join(f'"{word}"' for word in words) + " *"
        if not sources:
            query = f"{{name description}} : ({query})"
        matching = f"JOIN search ON search.rowid = function.rowid WHERE search MATCH ? ORDER BY {RANK}, id"
        return [forms.summary(values) for values in self._all(f"{_SUMMARY} {matching}", (query,))]

    def note(self, key: str) -> str | None:
        """The note of that key, such as `head`: the commit that the git columns were computed at."""
        found = self._all("SELECT value FROM note WHERE key = ?", (key,))
        return str(found[0][0]) if found else None

    # ---- writing -----------------------------------------------------------------------------------------

    def apply(
        self,
        *,
        units: Iterable[Unit] = (),
        gone_units: Iterable[str] = (),
        rows: Iterable[FunctionRow] = (),
        gone: Iterable[FunctionId] = (),
        notes: Mapping[str, str] | None = None,
    ) -> None:
        """Make all changes in one transaction; returns when it is committed. What is gone goes first."""
        # A unit that does not survive the way to disk is not kept: the next start reads its file again.
        encoded = [(unit.path, forms.unit_data(unit)) for unit in units]
        gone_paths = [(path,) for path in gone_units] + [(path,) for path, data in encoded if data is None]
        kept = [(path, data) for path, data in encoded if data is not None]
        values = [forms.row_values(row) for row in rows]
        gone_ids = [(id,) for id in gone]
        remarks = list((notes or {}).items())

        def job(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM unit WHERE path = ?", gone_paths)
            connection.executemany("INSERT OR REPLACE INTO unit (path, data) VALUES (?, ?)", kept)
            connection.executemany("DELETE FROM function WHERE id = ?", gone_ids)
            connection.executemany(_UPSERT, values)
            connection.executemany("INSERT OR REPLACE INTO note (key, value) VALUES (?, ?)", remarks)

        self._submit(job).result()

    def _submit(self, job: Callable[[sqlite3.Connection], None]) -> Future[None]:
        answer: Future[None] = Future()
        with self._gate:
            self._check_open()
            self._jobs.put((job, answer))
        return answer

    def _write_all(self, connection: sqlite3.Connection) -> None:
        """The writing thread: one job, one transaction."""
        while (entry := self._jobs.get()) is not None:
            job, answer = entry
            try:
                with _translated(self.path), _transaction(connection):
                    job(connection)
            except Exception as exc:  # whatever it was, it belongs to the thread that waits for the answer
                answer.set_exception(exc)
            else:
                answer.set_result(None)
            del entry, job, answer  # a future's exception refers back to here
        connection.close()

    # ---- connections -------------------------------------------------------------------------------------

    def _all(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with _translated(self.path), self._reader() as connection:
            return connection.execute(sql, values).fetchall()

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A connection of one's own; given back afterwards, or closed when enough lie idle."""
        self._check_open()
        try:
            connection = self._readers.get_nowait()
        except queue.Empty:
            connection = _connect(self.path)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._gate:
            if not self._closed and not self._readers.full():
                self._readers.put_nowait(connection)
                return
        connection.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"the index {self.path.name} is closed")


def _connect(path: Path) -> sqlite3.Connection:
    # Handed from thread to thread, but only ever used by one at a time.
    connection = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite may have rolled back by itself
            connection.execute("ROLLBACK")
        raise


def _unusable(path: Path) -> str | None:
    """Why the file cannot be used and was moved out of the way; None: it can."""
    if not path.exists():
        _discard(path)
        return "there was no index"
    try:
        connection = _connect(path)
        try:
            reason = _other_schema(connection) or _damage(connection)
        finally:
            connection.close()
    except sqlite3.DatabaseError as exc:
        if isinstance(exc, sqlite3.OperationalError):  # no access, locked, disk full: nothing wrong with the file
            raise
        reason = f"corrupt: {exc}"
    if reason is None:
        return None
    if reason.startswith("corrupt"):
        log.warning("%s is %s; it is kept as %s.corrupt and built anew", path.name, reason, path.name)
        path.replace(path.with_name(path.name + ".corrupt"))
    _discard(path)
    return f"the index was {reason}"


def _other_schema(connection: sqlite3.Connection) -> str | None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        return f"of schema version {version}, and this is {VERSION}"
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    found = connection.execute("SELECT value FROM note WHERE key = 'schema'").fetchone() if "note" in tables else None
    return None if found == (SCHEMA,) else "of another schema"


def _damage(connection: sqlite3.Connection) -> str | None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return None if verdict == "ok" else f"corrupt: {verdict}"


def _discard(path: Path) -> None:
    """Remove the file and what SQLite keeps beside it: a left-over journal would be replayed into a new file."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _make(path: Path) -> None:
    """Make an empty index; a crash leaves one without a schema note, which the next start replaces."""
    # Valves may stand in it in clear.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = _connect(path)
    try:
        connection.executescript(f"BEGIN IMMEDIATE;\n{DDL}\nPRAGMA user_version = {VERSION};\nCOMMIT;")
        connection.execute("INSERT INTO note (key, value) VALUES ('schema', ?)", (SCHEMA,))
    finally:
        connection.close()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """The one door for SQLite's errors."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        raise StoreError(
            f"cannot use the index {path}: {exc}",
            hint="see that the data folder is writable and its disk not full, and that one server alone uses it",
        ) from exc
    except sqlite3.DatabaseError as exc:
        raise StoreError(
            f"the index {path} is damaged: {exc}",
            hint="restart; the index is then built anew. Nothing is lost, it holds only what the files say",
        ) from exc
