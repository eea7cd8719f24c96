"""Where users come from, service tokens, user valves, notes; the built-in admin is always there."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

#: PostgreSQL's own name for the constraint; batch mode gives it the nameless one of SQLite too.
EMAIL_KEY = {"uq": "%(table_name)s_%(column_0_name)s_key"}


def upgrade() -> None:
    connection = op.get_bind()
    before = sa.MetaData()
    users = sa.Table("users", before, autoload_with=connection)
    tokens = sa.Table("tokens", before, autoload_with=connection)

    # SQLite changes a table by dropping it, which takes along what refers to its rows.
    kept = [dict(row) for row in connection.execute(tokens.select()).mappings()]
    connection.execute(tokens.delete())
    with op.batch_alter_table("users", naming_convention=EMAIL_KEY) as batch:
        batch.drop_constraint("users_email_key", type_="unique")
        batch.add_column(sa.Column("origin", sa.String(16), nullable=False, server_default="local"))
    with op.batch_alter_table("users") as batch:
        batch.alter_column("origin", server_default=None)
    is_local = sa.text("origin = 'local'")
    op.create_index(
        "ix_users_local_email", "users", ["email"], unique=True, sqlite_where=is_local, postgresql_where=is_local
    )
    if kept:
        op.bulk_insert(tokens, kept)
    op.add_column("tokens", sa.Column("ceiling", sa.String(16)))

    op.create_table(
        "user_valves",
        sa.Column("user_id", sa.String(64), primary_key=True),
        sa.Column("function", sa.String(255), primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_user_valves_function", "user_valves", ["function"])
    op.create_table(
        "notes",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )

    taken = sa.or_(users.c.id == "admin", users.c.email == "admin@localhost")
    if not connection.execute(sa.select(users.c.id).where(taken)).first():
        after = sa.Table("users", sa.MetaData(), autoload_with=connection)
        admin = {"id": "admin", "name": "Admin", "email": "admin@localhost", "role": "admin", "origin": "local"}
        connection.execute(after.insert().values(**admin, created_at=int(time.time())))


def downgrade() -> None:
    raise NotImplementedError("users of chat servers may share addresses, for which schema 0001 has no place")
