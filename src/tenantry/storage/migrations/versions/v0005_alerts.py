"""Alerts: thresholds, targets, what was raised, and the outbox of deliveries."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "alert_thresholds",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("percents", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_alert_thresholds_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_alert_thresholds")),
    )
    op.create_table(
        "alert_targets",
        sa.Column("target_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=True),
        sa.Column("kinds", sa.Text(), nullable=False),
        sa.Column("hint", sa.String(length=80), nullable=False),
        sa.Column("master_key_id", sa.String(length=32), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_alert_targets_tenant_id")),
        sa.PrimaryKeyConstraint("target_id", name=op.f("pk_alert_targets")),
        sa.UniqueConstraint("name", name=op.f("uq_alert_targets_name")),
    )
    op.create_index("ix_alert_targets_tenant_id", "alert_targets", ["tenant_id"])
    op.create_table(
        "alerts",
        sa.Column("alert_id", _ID, autoincrement=True, nullable=False),
        sa.Column("occasion", sa.String(length=250), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=160), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=True),
        sa.Column("slug", sa.String(length=63), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("raised_at_us", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_alerts")),
        sa.UniqueConstraint("occasion", name=op.f("uq_alerts_occasion")),
    )
    op.create_index("ix_alerts_kind_subject", "alerts", ["kind", "subject"])
    op.create_index("ix_alerts_tenant_id", "alerts", ["tenant_id"])
    op.create_table(
        "alert_deliveries",
        sa.Column("delivery_id", sa.String(length=40), nullable=False),
        sa.Column("alert_id", _ID, nullable=False),
        sa.Column("target_id", sa.String(length=40), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at_us", sa.BigInteger(), nullable=False),
        sa.Column("lease", sa.String(length=40), nullable=False),
        sa.Column("leased_until_us", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("ended_at_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.alert_id"], name=op.f("fk_alert_deliveries_alert_id")),
        sa.ForeignKeyConstraint(["target_id"], ["alert_targets.target_id"], name=op.f("fk_alert_deliveries_target_id")),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_alert_deliveries")),
        sa.UniqueConstraint("alert_id", "target_id", name="uq_alert_deliveries_alert_id_target_id"),
    )
    op.create_index("ix_alert_deliveries_status_due_at_us", "alert_deliveries", ["status", "due_at_us"])
    op.create_index("ix_alert_deliveries_target_id", "alert_deliveries", ["target_id"])
