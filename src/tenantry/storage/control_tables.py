"""Tables of several control processes: who there is, and who does what one does at a time (decision 0024)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, String, Table, Text

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

# What the gateways of a machine do now, as the control that books there tells those of other machines.
live_records = Table(
    "live_records",
    metadata,
    Column("control_id", String(40), primary_key=True),
    Column("told", LargeBinary, nullable=False),
)

# What takes longer than an answer, so that each control can show what another runs. `lease_until_us`: of the server's
# clock, or on SQLite of the machine's; behind it who runs the task has ended.
tasks = Table(
    "tasks",
    metadata,
    Column("task_id", String(40), primary_key=True),
    Column("begun_us", BigInteger, nullable=False),
    Column("lease_until_us", BigInteger, nullable=False),
    Column("running_kind", String(64), unique=True),  # one of a kind runs at a time; NULL: it has ended
    Column("told", LargeBinary, nullable=False),
    Index("ix_tasks_begun_us", "begun_us"),
)

# Guesses at passwords and codes, by what they count for (a digest: a name may be what somebody typed there by mistake):
# when all that it may has come back. And addresses from which somebody signed in: until when they are known. Behind
# `until_us`, of the same clock, a row says nothing.
guesses = Table(
    "guesses",
    metadata,
    Column("counted", LargeBinary, primary_key=True),
    Column("until_us", BigInteger, nullable=False),
    Index("ix_guesses_until_us", "until_us"),
)
