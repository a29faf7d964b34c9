"""Several gateways: who there is, who owns which cells, and what was taken of budgets."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "gateways",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("gateway_id", sa.String(length=80), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("lease_until_us", sa.BigInteger(), nullable=False),
        sa.Column("forgotten_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_gateways")),
        sa.UniqueConstraint("gateway_id", name=op.f("uq_gateways_gateway_id")),
    )
    op.create_table(
        "cells",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("gateway_id", sa.String(length=80), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_cells")),
    )
    op.create_index("ix_cells_gateway_id", "cells", ["gateway_id"])
    op.create_table(
        "cell_tenants",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("cell", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_cell_tenants")),
    )
    op.create_index("ix_cell_tenants_cell", "cell_tenants", ["cell"])
    op.create_table(
        "ceilings",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.Column("unit", sa.String(length=8), nullable=False),
        sa.Column("gateway_id", sa.String(length=80), nullable=False),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "key_id", "unit", "gateway_id", name=op.f("pk_ceilings")),
    )
    op.create_index("ix_ceilings_gateway_id", "ceilings", ["gateway_id"])
