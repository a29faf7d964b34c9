"""Tables of what is sold and billed. Rows are only ever added, but for billing details and empty months."""

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

# Who is billed, and who bills ("" for the agency): addresses, currency, taxes. What was issued has its own copy.
billing_details = Table(
    "billing_details",
    metadata,
    Column("tenant_id", String(40), primary_key=True),
    Column("details", Text, nullable=False),  # JSON: domain/billing_details.py
)

# The last number of a series; taken in the transaction that issues.
invoice_series = Table(
    "invoice_series",
    metadata,
    Column("series", String(64), primary_key=True),
    Column("last_number", BigInteger, nullable=False),
)

# Invoices and credit notes as they were issued. `occasion` is what makes one be issued once, whoever issues it.
invoices = Table(
    "invoices",
    metadata,
    Column("invoice_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("number", String(96), nullable=False, unique=True),
    Column("series", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # invoice | credit_note
    Column("occasion", String(160), nullable=False, unique=True),
    Column("tenant_id", String(40), nullable=False),
    Column("slug", String(63), nullable=False),
    Column("month", String(7), nullable=False),
    Column("credits", String(96)),  # the number that a credit note takes back
    Column("currency", String(3), nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("document", Text, nullable=False),  # JSON: all that it says
    Column("prev_hash", String(64), nullable=False),
    Column("row_hash", String(64), nullable=False),
    Column("actor", Text, nullable=False),
    Column("issued_at", DateTime(timezone=True), nullable=False),
    Index("ix_invoices_tenant_id", "tenant_id"),
)

# Which ledger rows an invoice covers, by the month in which they ended; a credit note gives them back, below zero.
invoice_months = Table(
    "invoice_months",
    metadata,
    Column("number", String(96), primary_key=True),
    Column("month", String(7), primary_key=True),
    Column("tenant_id", String(40), nullable=False),
    Column("row_count", BigInteger, nullable=False),
    Column("cost_nanos", BigInteger, nullable=False),
    Column("net_nanos", BigInteger, nullable=False),
    Index("ix_invoice_months_tenant_id", "tenant_id"),
)

# Whom the round of a month has done: its preview or its invoice made, or known to have none. `number` is the invoice's.
# `nothing` is of whoever issues: a month that had nothing to bill, until it has an invoice.
invoice_rounds = Table(
    "invoice_rounds",
    metadata,
    Column("month", String(7), primary_key=True),
    Column("step", String(8), primary_key=True),  # preview | issue | nothing
    Column("tenant_id", String(40), primary_key=True),
    Column("number", String(96)),
    Column("ended_at", DateTime(timezone=True), nullable=False),
)
