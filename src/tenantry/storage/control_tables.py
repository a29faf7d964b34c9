"""Tables of several control processes: who there is, and who does what one does at a time (decision 0024)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, String, Table, Text

from tenantry.storage.tables import metadata

# One row for each life of a control process, on PostgreSQL. `lease_until_us` is of its server's clock.
controls = Table(
    "controls",
    metadata,
    Column("control_id", String(40), primary_key=True),
    Column("machine", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("address", Text, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("lease_until_us", BigInteger, nullable=False),
    Column("is_booking", Boolean, nullable=False),  # the journals of its machine
    Column("runs", Text, nullable=False),  # those that it finds there, one a line
)

# Who leads: for as long as its lease lasts.
leaders = Table(
    "leaders",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("control_id", String(40), nullable=False),
    Column("since_us", BigInteger, nullable=False),
)
