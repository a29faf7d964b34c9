"""Portal links and sessions of clients; what the status page tells."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"

_WHEN = sa.DateTime(timezone=True)
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "portal_terms",
        _tenant(),
        sa.Column("may_rotate", sa.Boolean(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        _of_tenant("portal_terms"),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_portal_terms")),
    )
    op.create_table(
        "portal_links",
        sa.Column("link_id", sa.String(length=40), nullable=False),
        _tenant(),
        sa.Column("token_digest", sa.LargeBinary(), nullable=False),
        sa.Column("shows_invoices", sa.Boolean(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", _WHEN, nullable=False),
        sa.Column("expires_at", _WHEN, nullable=False),
        sa.Column("revoked_at", _WHEN, nullable=True),
        sa.Column("opened_at", _WHEN, nullable=True),
        _of_tenant("portal_links"),
        sa.PrimaryKeyConstraint("link_id", name=op.f("pk_portal_links")),
        sa.UniqueConstraint("token_digest", name=op.f("uq_portal_links_token_digest")),
    )
    op.create_index("ix_portal_links_tenant_id", "portal_links", ["tenant_id"])
    op.create_table(
        "portal_sessions",
        sa.Column("session_digest", sa.LargeBinary(), nullable=False),
        sa.Column("link_id", sa.String(length=40), nullable=False),
        _tenant(),
        sa.Column("created_at", _WHEN, nullable=False),
        sa.Column("proved_hash", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["link_id"], ["portal_links.link_id"], name=op.f("fk_portal_sessions_link_id")),
        _of_tenant("portal_sessions"),
        sa.PrimaryKeyConstraint("session_digest", name=op.f("pk_portal_sessions")),
    )
    op.create_index("ix_portal_sessions_link_id", "portal_sessions", ["link_id"])
    op.create_index("ix_portal_sessions_tenant_id", "portal_sessions", ["tenant_id"])
    op.create_table(
        "status_days",
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("up", sa.Integer(), nullable=False),
        sa.Column("impaired", sa.Integer(), nullable=False),
        sa.Column("down", sa.Integer(), nullable=False),
        sa.Column("last_minute", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "part", name=op.f("pk_status_days")),
    )
    op.create_table(
        "status_incidents",
        sa.Column("incident_id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("worst", sa.String(length=16), nullable=False),
        sa.Column("began_minute", sa.BigInteger(), nullable=False),
        sa.Column("last_minute", sa.BigInteger(), nullable=False),
        sa.Column("ended_minute", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("incident_id", name=op.f("pk_status_incidents")),
    )
    op.create_index("ix_status_incidents_began_minute", "status_incidents", ["began_minute"])


def _tenant() -> sa.Column[str]:
    return sa.Column("tenant_id", sa.String(length=40), nullable=False)


def _of_tenant(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name=op.f(f"fk_{table}_tenant_id"))
