"""When a check by hand last found a credential to work."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("credentials", sa.Column("checked_at", sa.DateTime(timezone=True)))
