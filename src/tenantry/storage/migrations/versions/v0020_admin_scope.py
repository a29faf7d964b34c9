"""The tenants that an admin token is confined to; answers of the admin API, kept for who asks again."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.add_column("admin_users", sa.Column("tenants", sa.Text(), nullable=True))
    op.create_table(
        "kept_answers",
        sa.Column("answer_id", sa.String(length=40), primary_key=True),
        sa.Column("holder", sa.String(length=128), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=False),
        sa.Column("asked", sa.LargeBinary(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("master_key_id", sa.String(length=32), nullable=True),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=True),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=True),
        sa.UniqueConstraint("holder", "idempotency_key", name="uq_kept_answers_holder_idempotency_key"),
    )
    op.create_index("ix_kept_answers_begun_at", "kept_answers", ["begun_at"])
