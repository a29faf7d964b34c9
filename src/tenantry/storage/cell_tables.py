"""Tables of several gateways: who there is, who owns which cells, and what was taken of budgets (decision 0021)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from tenantry.storage.tables import metadata

# One row for each life of a gateway process. `lease_until_us` is of the store's clock (storage/leases.py), the others
# are unix time. `boot` names what that clock began with, where it is a machine's.
gateways = Table(
    "gateways",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("gateway_id", String(80), nullable=False, unique=True),  # the run of its journal
    Column("address", Text, nullable=False),  # where other gateways reach it; "" where none can
    Column("machine", Text, nullable=False),
    Column("boot", String(64), nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("lease_until_us", BigInteger, nullable=False),
    Column("forgotten_at_us", BigInteger),  # its machine was declared lost
    Column("load", BigInteger),  # what it had to do lately (domain/balance.py); NULL: it does not say
)

# A capacity, and who owns it. `epoch` is another one with each owner; `wanted_by`: the gateway that it is to move to.
cells = Table(
    "cells",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("gateway_id", String(80), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("wanted_by", String(80)),
    Index("ix_cells_gateway_id", "gateway_id"),
)

# The cell whose owner grants for a tenant.
cell_tenants = Table(
    "cell_tenants",
    metadata,
    Column("tenant_id", String(40), primary_key=True),
    Column("cell", String(64), nullable=False),
    Index("ix_cell_tenants_cell", "cell"),
)

# The most that a gateway may have spent and held of an account since `since_us`, when it opened that.
ceilings = Table(
    "ceilings",
    metadata,
    Column("tenant_id", String(40), primary_key=True),
    Column("key_id", String(40), primary_key=True),  # "" for the tenant as a whole
    Column("unit", String(8), primary_key=True),  # nanos | tokens
    Column("gateway_id", String(80), primary_key=True),
    Column("taken", BigInteger, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Index("ix_ceilings_gateway_id", "gateway_id"),
)
