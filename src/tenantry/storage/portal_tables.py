"""Tables of what clients and everybody are shown: portal links and their sessions; the status page's days."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from tenantry.storage.tables import metadata, tenants

# What a tenant's portal allows beyond looking; without a row: nothing, and no password.
portal_terms = Table(
    "portal_terms",
    metadata,
    Column("tenant_id", String(40), ForeignKey(tenants.c.tenant_id), primary_key=True),
    Column("may_rotate", Boolean, nullable=False),
    Column("password_hash", Text),  # argon2id; NULL: the link is enough
)

# Each is a capability: whoever has the link sees the tenant's portal until it ends. Only a digest of it is kept.
portal_links = Table(
    "portal_links",
    metadata,
    Column("link_id", String(40), primary_key=True),
    Column("tenant_id", String(40), ForeignKey(tenants.c.tenant_id), nullable=False),
    Column("token_digest", LargeBinary, nullable=False, unique=True),
    Column("shows_invoices", Boolean, nullable=False),  # whether who made it may see invoices
    Column("actor", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("revoked_at", DateTime(timezone=True)),
    Column("opened_at", DateTime(timezone=True)),  # last
    Index("ix_portal_links_tenant_id", "tenant_id"),
)

portal_sessions = Table(
    "portal_sessions",
    metadata,
    Column("session_digest", LargeBinary, primary_key=True),  # of what the cookie holds
    Column("link_id", String(40), ForeignKey(portal_links.c.link_id), nullable=False),
    Column("tenant_id", String(40), ForeignKey(tenants.c.tenant_id), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    # Of the password that was given; another password asks again.
    Column("proved_hash", Text),
    Index("ix_portal_sessions_link_id", "link_id"),
    Index("ix_portal_sessions_tenant_id", "tenant_id"),
)

# Minutes of a day in UTC that were looked at, by what was found; what is missing of the day is unknown.
status_days = Table(
    "status_days",
    metadata,
    Column("day", String(10), primary_key=True),
    Column("part", String(16), primary_key=True),  # gateway | models
    Column("up", Integer, nullable=False),
    Column("impaired", Integer, nullable=False),
    Column("down", Integer, nullable=False),
    Column("last_minute", BigInteger, nullable=False),  # since 1970: one minute counts once, whoever looks
)

status_incidents = Table(
    "status_incidents",
    metadata,
    Column("incident_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("part", String(16), nullable=False),
    Column("worst", String(16), nullable=False),  # impaired | down
    Column("began_minute", BigInteger, nullable=False),
    Column("last_minute", BigInteger, nullable=False),  # in which it was seen
    Column("ended_minute", BigInteger),  # in which it was seen to be over
    Index("ix_status_incidents_began_minute", "began_minute"),
)
