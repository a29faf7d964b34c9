"""Several control processes: what gateways of other machines do, tasks that each can show, guesses over all of them."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
kind = "expand"


def upgrade() -> None:
    op.create_table(
        "live_records",
        sa.Column("control_id", sa.String(length=40), nullable=False),
        sa.Column("told", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("control_id", name=op.f("pk_live_records")),
    )
    op.create_table(
        "tasks",
        sa.Column("task_id", sa.String(length=40), nullable=False),
        sa.Column("begun_us", sa.BigInteger(), nullable=False),
        sa.Column("lease_until_us", sa.BigInteger(), nullable=False),
        sa.Column("running_kind", sa.String(length=64), nullable=True),
        sa.Column("told", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_tasks")),
        sa.UniqueConstraint("running_kind", name=op.f("uq_tasks_running_kind")),
    )
    op.create_index("ix_tasks_begun_us", "tasks", ["begun_us"])
    op.create_table(
        "guesses",
        sa.Column("counted", sa.LargeBinary(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("counted", name=op.f("pk_guesses")),
    )
    op.create_index("ix_guesses_until_us", "guesses", ["until_us"])
