"""The roll-up of the ledger, adjustments, what was exported; the ledger by time and by upstream request id."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_COUNTS = (
    "input_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "cache_read_tokens",
    "output_tokens",
    "thinking_tokens",
    "web_search_requests",
    "web_fetch_requests",
)
_QUARTER_US = 15 * 60 * 1_000_000
_MODEL_CHARS_MAX = 128


def upgrade() -> None:
    with op.batch_alter_table("ledger") as batch:
        batch.add_column(sa.Column("adjusts", sa.String(length=48), nullable=True))
        batch.add_column(sa.Column("saved_nanos", sa.BigInteger(), nullable=True))
    op.create_index("ix_ledger_ended_at_us", "ledger", ["ended_at_us"])
    told, adjusts = sa.text("upstream_request_id IS NOT NULL"), sa.text("adjusts IS NOT NULL")
    op.create_index(
        "ix_ledger_upstream_request_id", "ledger", ["upstream_request_id"], sqlite_where=told, postgresql_where=told
    )
    op.create_index("ix_ledger_adjusts", "ledger", ["adjusts"], sqlite_where=adjusts, postgresql_where=adjusts)
    op.create_table(
        "usage_rollup",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("quarter_us", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("adjustments", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        sa.Column("cost_nanos", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        sa.Column("saved_nanos", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "quarter_us", "key_id", "model", "outcome", name=op.f("pk_usage_rollup")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_usage_rollup_quarter_us", "usage_rollup", ["quarter_us", "tenant_id", "key_id", "cost_nanos"])
    op.create_table(
        "exports",
        sa.Column("period", sa.String(length=16), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("cost_nanos", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("period", "tenant_id", name=op.f("pk_exports")),
    )
    _fill()


def _fill() -> None:
    """The roll-up of what is booked already. No row of it is an adjustment yet."""
    key = [sa.column(name, sa.String()) for name in ("tenant_id", "key_id", "outcome")]
    ended_at_us, cost_nanos = (sa.column(name, sa.BigInteger()) for name in ("ended_at_us", "cost_nanos"))
    # Written out: in a GROUP BY, PostgreSQL does not take two parameters for the same number.
    quarter = ended_at_us - ended_at_us % sa.literal_column(str(_QUARTER_US), sa.BigInteger())
    asked = sa.func.coalesce(sa.column("model_served", sa.Text()), sa.column("model_requested", sa.Text()))
    model = sa.func.substr(asked, sa.literal_column("1"), sa.literal_column(str(_MODEL_CHARS_MAX)))
    group = [key[0], quarter, key[1], model, key[2]]
    sums = [sa.cast(sa.func.sum(sa.column(name, sa.BigInteger())), sa.BigInteger()) for name in _COUNTS]
    query = (
        sa.select(
            *group,
            sa.func.count(),
            sa.literal(0),
            *sums,
            sa.cast(sa.func.sum(sa.func.coalesce(cost_nanos, 0)), sa.BigInteger()),
            sa.func.count() - sa.func.count(cost_nanos),
            sa.literal(0),
        )
        .select_from(sa.table("ledger"))
        .group_by(*group)
    )
    names = ["tenant_id", "quarter_us", "key_id", "model", "outcome", "attempts", "adjustments", *_COUNTS]
    columns = [*names, "cost_nanos", "unpriced", "saved_nanos"]
    rollup = sa.table("usage_rollup", *(sa.column(name, sa.String()) for name in columns))
    op.execute(sa.insert(rollup).from_select(columns, query))
