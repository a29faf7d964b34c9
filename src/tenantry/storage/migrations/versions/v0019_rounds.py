"""Which tenants a month's round of invoices has done, and how often who was refused in which quarter of an hour."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0016"


def upgrade() -> None:
    op.create_table(
        "invoice_rounds",
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("step", sa.String(length=8), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.String(length=96), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("month", "step", "tenant_id", name=op.f("pk_invoice_rounds")),
    )
    op.create_table(
        "refusal_sums",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("quarter_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "quarter_us", "reason", name=op.f("pk_refusal_sums")),
    )
