"""The databases that tests of the state run on: SQLite, and PostgreSQL where TEST_POSTGRESQL_URL names a server."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

POSTGRESQL = "TEST_POSTGRESQL_URL"
KINDS = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.skipif(not os.environ.get(POSTGRESQL), reason=f"no {POSTGRESQL}")),
]


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database of that kind; of PostgreSQL it is a schema of its own."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'state.sqlite3'}"
        return
    import psycopg

    url, schema = os.environ[POSTGRESQL], f"test_{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        try:
            yield f"{url}?options=-csearch_path%3D{schema}"
        finally:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")
