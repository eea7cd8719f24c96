"""A new state database, made at once as all migrations together leave it: the first start need not load Alembic.

A test holds it to what the migrations make; one that adds rows has them added here too.
"""

from __future__ import annotations

import time

from sqlalchemy import Connection, text

from fnsync.store import tables

#: The newest migration, whose tables these are.
REVISION = "0003"


def make(connection: Connection) -> None:
    """Make the tables and their first rows in an empty database, in the connection's transaction."""
    tables.metadata.create_all(connection)
    connection.execute(tables.generation.insert().values(id=1, value=0))
    admin = {"id": "admin", "name": "Admin", "email": "admin@localhost", "role": "admin", "origin": "local"}
    connection.execute(tables.users.insert().values(**admin, created_at=int(time.time())))
    # As Alembic makes it.
    connection.execute(
        text(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": REVISION})
