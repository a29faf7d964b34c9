"""People who sign in: names, passwords, second factors, one-time links, sessions."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"

_WHEN = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "people",
        sa.Column("person_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=True),
        sa.Column("oidc_subject", sa.String(length=512), nullable=True),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("scope", sa.String(length=8), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("password_at", _WHEN, nullable=True),
        sa.Column("disabled_at", _WHEN, nullable=True),
        sa.Column("created_at", _WHEN, nullable=False),
        sa.Column("signed_in_at", _WHEN, nullable=True),
        sa.PrimaryKeyConstraint("person_id", name=op.f("pk_people")),
        sa.UniqueConstraint("name", name=op.f("uq_people_name")),
        sa.UniqueConstraint("email", name=op.f("uq_people_email")),
        sa.UniqueConstraint("oidc_subject", name=op.f("uq_people_oidc_subject")),
    )
    op.create_table(
        "people_tenants",
        _person(),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        _of_person("people_tenants"),
        sa.PrimaryKeyConstraint("person_id", "tenant_id", name=op.f("pk_people_tenants")),
    )
    op.create_table(
        "people_links",
        sa.Column("token_digest", sa.LargeBinary(), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        _person(is_nullable=True),
        sa.Column("created_at", _WHEN, nullable=False),
        sa.Column("expires_at", _WHEN, nullable=False),
        _of_person("people_links"),
        sa.PrimaryKeyConstraint("token_digest", name=op.f("pk_people_links")),
    )
    op.create_index("ix_people_links_person_id", "people_links", ["person_id"])
    op.create_table(
        "people_totp",
        _person(),
        sa.Column("master_key_id", sa.String(length=32), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _WHEN, nullable=False),
        sa.Column("confirmed_at", _WHEN, nullable=True),
        _of_person("people_totp"),
        sa.PrimaryKeyConstraint("person_id", name=op.f("pk_people_totp")),
    )
    op.create_table(
        "people_recovery",
        _person(),
        sa.Column("code_digest", sa.LargeBinary(), nullable=False),
        _of_person("people_recovery"),
        sa.PrimaryKeyConstraint("person_id", "code_digest", name=op.f("pk_people_recovery")),
    )
    op.create_table(
        "people_sessions",
        sa.Column("session_digest", sa.LargeBinary(), nullable=False),
        sa.Column("session_id", sa.String(length=40), nullable=False),
        _person(),
        sa.Column("stage", sa.String(length=8), nullable=False),
        sa.Column("way", sa.String(length=8), nullable=False),
        sa.Column("created_at", _WHEN, nullable=False),
        sa.Column("proved_at", _WHEN, nullable=False),
        sa.Column("seen_at", _WHEN, nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("agent", sa.String(length=256), nullable=False),
        sa.Column("notice", sa.Text(), nullable=True),
        _of_person("people_sessions"),
        sa.PrimaryKeyConstraint("session_digest", name=op.f("pk_people_sessions")),
        sa.UniqueConstraint("session_id", name=op.f("uq_people_sessions_session_id")),
    )
    op.create_index("ix_people_sessions_person_id", "people_sessions", ["person_id"])


def _person(*, is_nullable: bool = False) -> sa.Column[str]:
    return sa.Column("person_id", sa.String(length=40), nullable=is_nullable)


def _of_person(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["person_id"], ["people.person_id"], name=op.f(f"fk_{table}_person_id"))
