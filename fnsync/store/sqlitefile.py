"""The state's SQLite file as far as a start needs it: found, made and looked at without SQLAlchemy."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fnsync.errors import StoreError
from fnsync.store.addresses import DAMAGED, SQLITE, UNREACHABLE

BUSY_S = 10.0


def sqlite_path(url: str) -> Path | None:
    """The file of a SQLite URL; None for another database. Raises StoreError when it names no file."""
    if not url.startswith("sqlite"):
        return None
    prefix, path = url[: len(SQLITE)], url[len(SQLITE) :]
    if prefix != SQLITE or not path or path == ":memory:":
        raise StoreError(f"{url!r} names no file for the state database", hint="sqlite:///path/to/state.sqlite3")
    return Path(path)


def at_revision(path: Path, revision: str) -> bool:
    """Whether the file's schema is of that revision. Raises StoreError."""
    if not path.exists():
        return False
    with translated(path), closing(connect(path)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return False
        return bool(connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision,)])


def connect(path: Path) -> sqlite3.Connection:
    """A connection without transactions of its own; for any thread, but for one at a time."""
    return sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def make(path: Path) -> None:
    """Make the file, if it is not there, so that only its owner can read it. Raises StoreError."""
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite and the disk raise into StoreError."""
    try:
        yield
    except (sqlite3.OperationalError, OSError) as exc:
        raise StoreError(f"cannot use the state database {path}: {exc}", hint=UNREACHABLE) from exc
    except sqlite3.DatabaseError as exc:
        raise StoreError(f"the state database {path} is damaged: {exc}", hint=DAMAGED) from exc
