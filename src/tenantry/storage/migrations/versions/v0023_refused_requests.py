"""The newest refused requests, by the id that their clients were told."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "refused_requests",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("request_id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_refused_requests")),
        sa.UniqueConstraint("request_id", name=op.f("uq_refused_requests_request_id")),
    )
    op.create_index("ix_refused_requests_tenant_id", "refused_requests", ["tenant_id", "number"])
