"""Tables of the people who sign in. Whatever opens a door is kept as a digest, or sealed."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Index, LargeBinary, String, Table, Text

from tenantry.storage.tables import metadata

people = Table(
    "people",
    metadata,
    Column("person_id", String(40), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),  # in small letters
    Column("email", String(254), unique=True),  # in small letters; by which an OIDC provider's people are known
    Column(
        "oidc_subject", String(512), unique=True
    ),  # issuer and `sub`, from the first sign-in through the provider on
    Column("role", String(16), nullable=False),
    Column("scope", String(8), nullable=False),  # all | some: those of people_tenants
    Column("password_hash", Text),  # argon2id; NULL: has not chosen one
    Column("password_at", DateTime(timezone=True)),
    Column("disabled_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("signed_in_at", DateTime(timezone=True)),
)

# The tenants that somebody is confined to, by their internal ids: a slug may be given to another client later.
people_tenants = Table(
    "people_tenants",
    metadata,
    Column("person_id", String(40), ForeignKey(people.c.person_id), primary_key=True),
    Column("tenant_id", String(40), primary_key=True),
)

# One-time links. A row is deleted by whoever uses it: that is what makes it work once.
people_links = Table(
    "people_links",
    metadata,
    Column("token_digest", LargeBinary, primary_key=True),
    Column("purpose", String(16), nullable=False),  # first | invite | reset
    Column("person_id", String(40), ForeignKey(people.c.person_id)),  # NULL: of the first owner, who has no name yet
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Index("ix_people_links_person_id", "person_id"),
)

# Second factors: a secret, sealed, that counts once a code of it was shown (`confirmed_at`).
people_totp = Table(
    "people_totp",
    metadata,
    Column("person_id", String(40), ForeignKey(people.c.person_id), primary_key=True),
    Column("master_key_id", String(32), nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("last_step", BigInteger, nullable=False),  # of the code that was used last: one works once
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("confirmed_at", DateTime(timezone=True)),
)

people_recovery = Table(
    "people_recovery",
    metadata,
    Column("person_id", String(40), ForeignKey(people.c.person_id), primary_key=True),
    Column("code_digest", LargeBinary, primary_key=True),
)

people_sessions = Table(
    "people_sessions",
    metadata,
    Column("session_digest", LargeBinary, primary_key=True),  # of what the cookie holds
    Column("session_id", String(40), nullable=False, unique=True),
    Column("person_id", String(40), ForeignKey(people.c.person_id), nullable=False),
    Column("stage", String(8), nullable=False),  # full | second: the password was right, a code is to come
    Column("way", String(8), nullable=False),  # password | oidc
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("proved_at", DateTime(timezone=True), nullable=False),  # that it is this person: at sign-in, and again
    Column("seen_at", DateTime(timezone=True), nullable=False),
    Column("address", String(64), nullable=False),
    Column("agent", String(256), nullable=False),
    Column("notice", Text),  # shown once, on the next page
    Index("ix_people_sessions_person_id", "person_id"),
)
