"""Cells that are to move to another gateway, and how much each gateway has to do."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
kind = "expand"


def upgrade() -> None:
    op.add_column("cells", sa.Column("wanted_by", sa.String(length=80), nullable=True))
    op.add_column("gateways", sa.Column("load", sa.BigInteger(), nullable=True))
