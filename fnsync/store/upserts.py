"""Insert or change in one statement, which both databases know and SQLAlchemy has apart for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(
    connection: Connection,
    table: Table,
    row: Mapping[str, Any],
    changes: Mapping[str, Any],
    where: ColumnElement[bool] | None = None,
) -> None:
    """Insert `row`; if its primary key is there already, make `changes` to that one instead, where it fits `where`."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    keys = list(table.primary_key.columns)
    connection.execute(
        insert(table).values(**row).on_conflict_do_update(index_elements=keys, set_=dict(changes), where=where)
    )
