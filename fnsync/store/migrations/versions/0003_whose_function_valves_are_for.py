"""Whose function a user's values are for; those of before are for functions that are nobody's own."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("user_valves", sa.Column("owner", sa.Text))


def downgrade() -> None:
    op.drop_column("user_valves", "owner")
