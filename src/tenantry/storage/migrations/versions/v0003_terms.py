"""Plans, budgets and their temporary raises; a tenant's contact, plan, budget mode and disconnect policy."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "plans",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_plans")),
    )
    with op.batch_alter_table("tenants") as batch:
        batch.add_column(sa.Column("plan", sa.String(length=64), nullable=True))
        batch.add_column(sa.Column("contact", sa.Text(), nullable=True))
        batch.add_column(sa.Column("budget_mode", sa.String(length=8), nullable=False, server_default="hard"))
        batch.add_column(sa.Column("disconnect", sa.String(length=8), nullable=False, server_default="drain"))
        batch.create_foreign_key(op.f("fk_tenants_plan"), "plans", ["plan"], ["name"])
    op.create_table(
        "budgets",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.Column("period", sa.String(length=8), nullable=False),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_budgets_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "key_id", "period", name=op.f("pk_budgets")),
    )
    op.create_table(
        "budget_raises",
        sa.Column("raise_id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("period", sa.String(length=8), nullable=False),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name=op.f("fk_budget_raises_tenant_id")),
        sa.PrimaryKeyConstraint("raise_id", name=op.f("pk_budget_raises")),
    )
    op.create_index("ix_budget_raises_tenant_id", "budget_raises", ["tenant_id"])
