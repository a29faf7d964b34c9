"""Admin tokens with an end, that can be rotated and revoked; a place for what each may do."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    with op.batch_alter_table("admin_users") as batch:
        batch.add_column(sa.Column("role", sa.String(length=16), nullable=False, server_default="owner"))
        batch.add_column(sa.Column("hint", sa.String(length=16), nullable=False, server_default=""))
        batch.add_column(sa.Column("expires_at", sa.DateTime(timezone=True)))
        batch.add_column(sa.Column("revoked_at", sa.DateTime(timezone=True)))
        batch.add_column(sa.Column("last_digest", sa.LargeBinary()))
        batch.add_column(sa.Column("last_until", sa.DateTime(timezone=True)))
        batch.add_column(sa.Column("used_at", sa.DateTime(timezone=True)))
