"""Alembic runs this for each upgrade; the connection is the caller's, and so is its transaction."""

from alembic import context

from fnsync.store import tables

context.configure(connection=context.config.attributes["connection"], target_metadata=tables.metadata)
context.run_migrations()
