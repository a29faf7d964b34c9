"""Limits of tiers, tenants and keys; upstreams with capacity; fall-back credentials; refusals; last use of keys."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# What a tier of the first schema meant, in the limits of the second.
_DEFAULTS: dict[str, object] = {
    "requests_per_minute": 60,
    "request_burst": 10,
    "input_tokens_per_minute": None,
    "output_tokens_per_minute": None,
    "max_tokens_cap": None,
    "max_tokens_policy": "cap",
    "models": [],
    "speeds": [],
    "inference_geos": [],
    "service_tiers": [],
    "server_tools": [],
    "queue_depth_max": 64,
    "queue_wait_ms_max": 10_000,
    "weight": 1,
}


def upgrade() -> None:
    connection = op.get_bind()
    known = list(connection.execute(sa.text("SELECT name, sessions_max FROM tiers")))
    with op.batch_alter_table("tiers") as batch:
        batch.add_column(sa.Column("limits", sa.Text(), nullable=False, server_default="{}"))
        batch.drop_column("sessions_max")
    for name, sessions_max in known:
        connection.execute(
            sa.text("UPDATE tiers SET limits = :limits WHERE name = :name"),
            {"name": name, "limits": json.dumps({"sessions_max": sessions_max} | _DEFAULTS)},
        )
    with op.batch_alter_table("upstreams") as batch:
        batch.add_column(sa.Column("connect_seconds", sa.Float(), nullable=False, server_default="5"))
        batch.add_column(sa.Column("answer_seconds", sa.Float(), nullable=False, server_default="600"))
        batch.add_column(sa.Column("capacity", sa.Text(), nullable=False, server_default="{}"))
        batch.add_column(sa.Column("shares_capacity", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("tenants") as batch:
        batch.add_column(sa.Column("limits", sa.Text(), nullable=False, server_default="{}"))
        batch.add_column(sa.Column("fallback_credential_id", sa.String(length=40), nullable=True))
        batch.create_foreign_key(
            op.f("fk_tenants_fallback_credential_id"), "credentials", ["fallback_credential_id"], ["credential_id"]
        )
    with op.batch_alter_table("gateway_keys") as batch:
        batch.add_column(sa.Column("limits", sa.Text(), nullable=False, server_default="{}"))
        batch.add_column(sa.Column("replaced_by", sa.String(length=40), nullable=True))
        batch.add_column(sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))
        batch.add_column(sa.Column("last_used_address", sa.String(length=64), nullable=True))
        batch.add_column(sa.Column("last_used_agent", sa.String(length=200), nullable=True))
    op.create_table(
        "refusals",
        sa.Column("run_id", sa.String(length=80), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("last_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "tenant_id", "reason", name=op.f("pk_refusals")),
    )
    op.create_index("ix_refusals_tenant_id", "refusals", ["tenant_id"])
