"""Several control processes: who there is, who leads, and on whose disk a file of an export lies."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
kind = "expand"


def upgrade() -> None:
    op.create_table(
        "controls",
        sa.Column("control_id", sa.String(length=40), nullable=False),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("lease_until_us", sa.BigInteger(), nullable=False),
        sa.Column("is_booking", sa.Boolean(), nullable=False),
        sa.Column("runs", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("control_id", name=op.f("pk_controls")),
    )
    op.create_table(
        "leaders",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("control_id", sa.String(length=40), nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leaders")),
    )
    op.add_column("exports", sa.Column("machine", sa.Text(), nullable=True))
