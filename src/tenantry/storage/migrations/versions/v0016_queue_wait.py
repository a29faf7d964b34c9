"""How long a request waited for its turn."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    # Not in a batch: SQLite adds a column that may be NULL without copying the table, and the ledger may be large.
    op.add_column("ledger", sa.Column("queue_wait_us", sa.BigInteger(), nullable=True))
