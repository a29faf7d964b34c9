"""A chained audit log that says from where; what a file of tenants declares: marks, sources, rotation, off-boarding."""

import sqlalchemy as sa
from alembic import op

from tenantry.storage.audit import FIRST_HASH, HEAD_NAME, hash_of

revision = "0006"
down_revision = "0005"

_AUDIT_LOG = sa.table(
    "audit_log",
    sa.column("audit_id", sa.Integer()),
    sa.column("at", sa.DateTime(timezone=True)),
    sa.column("actor", sa.String()),
    sa.column("origin", sa.String()),
    sa.column("action", sa.String()),
    sa.column("object", sa.String()),
    sa.column("tenant", sa.String()),
    sa.column("detail", sa.Text()),
    sa.column("prev_hash", sa.String()),
    sa.column("row_hash", sa.String()),
)
_META = sa.table("meta", sa.column("name", sa.String()), sa.column("value", sa.Text()))


def upgrade() -> None:
    for table in ("tiers", "plans", "tenants"):
        with op.batch_alter_table(table) as batch:
            batch.add_column(sa.Column("declared", sa.Boolean(), nullable=False, server_default=sa.false()))
            if table == "tenants":
                batch.add_column(sa.Column("offboard", sa.String(length=8), nullable=False, server_default="keep"))
    with op.batch_alter_table("credentials") as batch:
        batch.add_column(sa.Column("source", sa.Text(), nullable=True))
    with op.batch_alter_table("gateway_keys") as batch:
        batch.add_column(sa.Column("rotate_days", sa.Integer(), nullable=True))
    with op.batch_alter_table("audit_log") as batch:
        batch.add_column(sa.Column("origin", sa.String(length=128), nullable=False, server_default=""))
        batch.add_column(sa.Column("tenant", sa.String(length=63), nullable=True))
        batch.add_column(sa.Column("prev_hash", sa.String(length=64), nullable=False, server_default=FIRST_HASH))
        batch.add_column(sa.Column("row_hash", sa.String(length=64), nullable=False, server_default=FIRST_HASH))
    _chain()
    with op.batch_alter_table("audit_log") as batch:
        for column in ("origin", "prev_hash", "row_hash"):
            batch.alter_column(column, server_default=None)
    op.create_index("ix_audit_log_tenant", "audit_log", ["tenant"])


def _chain() -> None:
    """What was logged before is chained as it stands now. `tenantry init` seals the head: it has the master key."""
    connection = op.get_bind()
    head = FIRST_HASH
    for row in connection.execute(sa.select(_AUDIT_LOG).order_by(_AUDIT_LOG.c.audit_id)).mappings().all():
        row_hash = hash_of({**row, "prev_hash": head})
        connection.execute(
            sa.update(_AUDIT_LOG)
            .where(_AUDIT_LOG.c.audit_id == row["audit_id"])
            .values(prev_hash=head, row_hash=row_hash)
        )
        head = row_hash
    connection.execute(sa.insert(_META).values(name=HEAD_NAME, value=f"{head}:"))
