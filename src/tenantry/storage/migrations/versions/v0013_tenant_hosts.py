"""Host names of clients' own."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "tenant_hosts",
        sa.Column("host", sa.String(length=253), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_tenant_hosts")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_tenant_hosts_tenant_id")),
    )
    op.create_index(op.f("ix_tenant_hosts_tenant_id"), "tenant_hosts", ["tenant_id"])
