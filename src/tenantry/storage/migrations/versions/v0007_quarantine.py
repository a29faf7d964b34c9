"""Where a cost comes from, what budgets count where there is none, flaws of usage; lines that cannot be booked."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    # Not in a batch: SQLite adds a column that may be NULL without copying the table, and the ledger may be large.
    op.add_column("ledger", sa.Column("basis", sa.String(length=8), nullable=True))
    op.add_column("ledger", sa.Column("held_nanos", sa.BigInteger(), nullable=True))
    op.add_column("ledger", sa.Column("flaws", sa.Text(), nullable=True))
    for name, column, where in (
        ("ix_ledger_held", "ended_at_us", "held_nanos IS NOT NULL"),
        ("ix_ledger_adjustments", "entry_id", "adjusts IS NOT NULL"),
        ("ix_ledger_flaws", "entry_id", "flaws IS NOT NULL"),
    ):
        op.create_index(name, "ledger", [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where))
    op.create_table(
        "quarantine",
        sa.Column("line_id", _ID, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(length=80), nullable=False),
        sa.Column("file_number", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("line", sa.LargeBinary(), nullable=False),
        sa.Column("begun_line", sa.LargeBinary(), nullable=True),
        sa.Column("attempt_id", sa.Text(), nullable=True),
        sa.Column("tenant_id", sa.String(length=40), nullable=True),
        sa.Column("key_id", sa.String(length=40), nullable=True),
        sa.Column("nanos", sa.BigInteger(), nullable=False),
        sa.Column("found_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("line_id", name=op.f("pk_quarantine")),
        sa.UniqueConstraint("run_id", "file_number", "offset", name="uq_quarantine_run_id_file_number_offset"),
    )
