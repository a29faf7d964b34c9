"""Plans as versions with dates, and since when a tenant is on which."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_WHO = "migration"


def upgrade() -> None:
    op.create_table(
        "plan_versions",
        sa.Column("version_id", _BIG, autoincrement=True, nullable=False),
        sa.Column("plan", sa.String(length=64), nullable=False),
        sa.Column("from_day", sa.String(length=10), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_plan_versions")),
    )
    op.create_index("ix_plan_versions_plan", "plan_versions", ["plan"])
    op.create_table(
        "tenant_plans",
        sa.Column("change_id", _BIG, autoincrement=True, nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("slug", sa.String(length=63), nullable=False),
        sa.Column("plan", sa.String(length=64), nullable=True),
        sa.Column("from_day", sa.String(length=10), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("change_id", name=op.f("pk_tenant_plans")),
    )
    op.create_index("ix_tenant_plans_tenant_id", "tenant_plans", ["tenant_id"])
    _carry_over()
    op.drop_column("plans", "terms")


def _carry_over() -> None:
    """A plan's terms count from its beginning, and a tenant's plan from the day on which the tenant was made."""
    connection = op.get_bind()
    versions = sa.table(
        "plan_versions",
        sa.column("plan", sa.String),
        sa.column("from_day", sa.String),
        sa.column("terms", sa.Text),
        sa.column("actor", sa.Text),
        sa.column("created_at", sa.DateTime(timezone=True)),
    )
    plans = sa.table(
        "plans",
        sa.column("name", sa.String),
        sa.column("terms", sa.Text),
        sa.column("created_at", sa.DateTime(timezone=True)),
    )
    columns = (plans.c.name, sa.literal(""), plans.c.terms, sa.literal(_WHO), plans.c.created_at)
    names = ["plan", "from_day", "terms", "actor", "created_at"]
    connection.execute(sa.insert(versions).from_select(names, sa.select(*columns)))
    tenants = sa.table(
        "tenants",
        *(sa.column(name, sa.String) for name in ("tenant_id", "slug", "plan")),
        sa.column("created_at", sa.DateTime(timezone=True)),
    )
    assigned = sa.table(
        "tenant_plans",
        *(sa.column(name, sa.String) for name in ("tenant_id", "slug", "plan", "from_day", "actor")),
        sa.column("created_at", sa.DateTime(timezone=True)),
    )
    rows = connection.execute(
        sa.select(tenants.c.tenant_id, tenants.c.slug, tenants.c.plan, tenants.c.created_at).where(
            tenants.c.plan.is_not(None)
        )
    ).all()
    if rows:
        values = [
            dict(zip(("tenant_id", "slug", "plan", "created_at"), row, strict=True))
            | {"from_day": row[3].date().isoformat(), "actor": _WHO}
            for row in rows
        ]
        connection.execute(sa.insert(assigned), values)
