"""The tables of the state database, as the newest migration leaves them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text, text

metadata = MetaData()
_IS_LOCAL = text("origin = 'local'")

users = Table(
    "users",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("email", String(320), nullable=False),
    Column("role", String(16), nullable=False),
    #: `local` or `forwarded`.
    Column("origin", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # Chat servers have rules of their own, and there may be several.
    Index("ix_users_local_email", "email", unique=True, sqlite_where=_IS_LOCAL, postgresql_where=_IS_LOCAL),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(8), primary_key=True),
    Column("user_id", String(64), ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("label", String(255), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    #: `user` or `admin` of a service token; null: no service token.
    Column("ceiling", String(16)),
)

#: No foreign keys: valves outlive their function, and a user whom a chat server names may be remembered after the
#: first values came.
user_valves = Table(
    "user_valves",
    metadata,
    Column("user_id", String(64), primary_key=True),
    Column("function", String(255), primary_key=True, index=True),
    Column("text", Text, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    #: Whose own the function was that they were set for; null: nobody's.
    Column("owner", Text),
)

notes = Table(
    "notes",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

#: One row: a number that grows with every change of users, tokens and user valves.
generation = Table(
    "generation",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("value", BigInteger, nullable=False),
)
