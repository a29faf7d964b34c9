"""Tables of what is sold and billed. Rows of all of them are only ever added, but for billing details."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, String, Table, Text

from tenantry.storage.tables import metadata

# The terms of a plan from a day on; they stay when the plan goes.
plan_versions = Table(
    "plan_versions",
    metadata,
    Column("version_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("plan", String(64), nullable=False, index=True),
    Column("from_day", String(10), nullable=False),  # of the agency; "" for the beginning
    Column("terms", Text, nullable=False),  # JSON: domain/plans.py
    Column("actor", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

# The plan that a tenant is on from a day on; they stay when the tenant goes.
tenant_plans = Table(
    "tenant_plans",
    metadata,
    Column("change_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("tenant_id", String(40), nullable=False),
    Column("slug", String(63), nullable=False),
    Column("plan", String(64)),  # NULL: none from that day on
    Column("from_day", String(10), nullable=False),
    Column("slots", Integer),  # that were agreed on; NULL: those of the plan
    Column("actor", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("ix_tenant_plans_tenant_id", "tenant_id"),
)
