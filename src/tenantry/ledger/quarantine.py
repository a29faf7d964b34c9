"""Lines of journals that cannot be booked: kept as they are, told, and tried again when asked.

What they may have cost counts in budgets meanwhile (`held_in_quarantine`), for it may be owed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, select

from tenantry.domain.attempts import AttemptBegun, AttemptEnded
from tenantry.domain.orphans import end_of_orphan
from tenantry.domain.prices import PriceTable
from tenantry.domain.printable import printable
from tenantry.domain.values import value
from tenantry.ledger.events import EndedAttempt, Unusable
from tenantry.ledger.lines import NANOS_MAX, Begun, decode_line
from tenantry.ledger.own_run import OwnRun
from tenantry.ledger.rows import fits, row_of, unfit
from tenantry.storage.database import values_of
from tenantry.storage.many import insert_of
from tenantry.storage.tables import ledger, quarantine

_REASON_CHARS_MAX = 300
_ATTEMPT_ID_CHARS_MAX = 64
_HOLDER_CHARS_MAX = 40
# Of what is shown of a line; the whole line stays in the table.
SHOWN_CHARS_MAX = 200
# The `error` of an attempt that was settled out of quarantine at its bound.
SETTLED_AT_BOUND = "quarantined"
_LINES_LISTED_MAX = 1000


@value
class Quarantined:
    """One line, as people see it. `nanos` is what budgets count for it."""

    line_id: int
    found_at: datetime
    run_id: str
    reason: str
    attempt_id: str | None
    tenant_id: str | None
    nanos: int
    line: str


@value
class Resolved:
    """How a try ended: lines whose attempt was booked, lines that were let go, and lines that are left."""

    booked: int
    dropped: int
    left: int


def put_aside(connection: Connection, run_id: str, lines: Sequence[Unusable], at_us: int) -> int:
    """Keep lines that cannot be booked; how many of them were not kept already."""
    added = 0
    for one in lines:
        statement = insert_of(connection.dialect, quarantine).values(_values(one, at_us) | {"run_id": run_id})
        added += max(0, connection.execute(statement.on_conflict_do_nothing()).rowcount)
    return added


def _values(one: Unusable, at_us: int) -> dict[str, Any]:
    begun = one.begun
    holder = [begun.tenant_id, begun.key_id] if begun is not None else ["", ""]
    is_known = begun is not None and all(len(name) <= _HOLDER_CHARS_MAX and "\0" not in name for name in holder)
    attempt_id = one.attempt_id[:_ATTEMPT_ID_CHARS_MAX].replace("\0", "\ufffd") if one.attempt_id is not None else None
    return {
        "file_number": one.file_number,
        "offset": one.offset,
        "reason": one.reason[:_REASON_CHARS_MAX].replace("\0", "\ufffd"),
        "line": one.line,
        "begun_line": one.begun_line,
        "attempt_id": attempt_id,
        "tenant_id": holder[0] if is_known else None,
        "key_id": holder[1] if is_known else None,
        "nanos": _nanos(one),
        "found_at_us": at_us,
    }


def _nanos(one: Unusable) -> int:
    """What the attempt may have cost: as its end says where that can be, else its bound."""
    event = decode_line(one.line)
    if one.begun is None:
        return 0
    return _possible_nanos(one.begun, event.counted_nanos if isinstance(event, AttemptEnded) else 0)


def counted_nanos(one: EndedAttempt) -> int:
    """What budgets count for an attempt that is still to be booked, or to be quarantined."""
    if fits(one) or unfit(row_of(one.begun, one.end)) is None:
        return one.end.counted_nanos
    return _possible_nanos(one.begun, one.end.counted_nanos)


def _possible_nanos(begun: Begun, told: int) -> int:
    if 0 < told <= NANOS_MAX:
        return told
    return begun.bound_nanos if 0 <= begun.bound_nanos <= NANOS_MAX else 0


def attempts_in_quarantine(connection: Connection) -> set[str]:
    """Attempts that `held_in_quarantine` counts: their lines may still stand in a journal."""
    query = select(quarantine.c.attempt_id).where(quarantine.c.attempt_id.is_not(None))
    return set(connection.execute(query).scalars())


def count_quarantined(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(quarantine)).scalar() or 0)


def list_quarantined(engine: Engine) -> list[Quarantined]:
    """The oldest lines first, a thousand at most."""
    query = select(quarantine).order_by(quarantine.c.line_id).limit(_LINES_LISTED_MAX)
    with engine.connect() as connection:
        return [
            Quarantined(
                row["line_id"],
                datetime.fromtimestamp(row["found_at_us"] // 1_000_000, UTC),
                row["run_id"],
                row["reason"],
                row["attempt_id"],
                row["tenant_id"],
                row["nanos"],
                _shown(row["line"]),
            )
            for row in values_of(connection.execute(query))
        ]


def _shown(line: bytes) -> str:
    return printable(line[:SHOWN_CHARS_MAX].decode("utf-8", "replace").rstrip("\n"))


def held_in_quarantine(
    connection: Connection, start_us: int, end_us: int, tenant_id: str | None = None
) -> dict[tuple[str, str], int]:
    """What budgets count for lines that were found in a range of time, by tenant id and key id."""
    columns = quarantine.c
    query = (
        select(columns.tenant_id, columns.key_id, func.sum(columns.nanos))
        .where(columns.tenant_id.is_not(None), columns.found_at_us >= start_us, columns.found_at_us < end_us)
        .group_by(columns.tenant_id, columns.key_id)
    )
    if tenant_id is not None:
        query = query.where(columns.tenant_id == tenant_id)
    return {(tenant, key): int(nanos) for tenant, key, nanos in connection.execute(query)}


def quarantined_of(connection: Connection, run_ids: Sequence[str]) -> list[tuple[str, str, str, int, int]]:
    """What budgets count for lines of these journals: journal, tenant, key, nano-dollars, and when it was found."""
    columns = quarantine.c
    query = select(columns.run_id, columns.tenant_id, columns.key_id, columns.nanos, columns.found_at_us).where(
        columns.run_id.in_(run_ids), columns.tenant_id.is_not(None)
    )
    return [(run_id, tenant, key, int(nanos), at_us) for run_id, tenant, key, nanos, at_us in connection.execute(query)]


def resolve(engine: Engine, prices: PriceTable, at_us: int, *, at_bound: bool = False) -> Resolved:
    """Try every line again, as this version understands it.

    `at_bound`: an attempt that still cannot be booked as its line says is booked at what it may have cost, as if its
    gateway had died; and lines that belong to no attempt that could be booked are let go. Then nothing is left.
    """
    run = OwnRun(engine)
    booked = dropped = 0
    with engine.connect() as connection:
        lines = list(values_of(connection.execute(select(quarantine).order_by(quarantine.c.line_id))))
    for line in lines:
        forget = delete(quarantine).where(quarantine.c.line_id == line["line_id"])
        row = _row_of(line, prices, at_us, at_bound)
        if row is not None and not _is_booked(engine, row["attempt_id"]):
            run.book([row], lambda connection, forget=forget: connection.execute(forget))
            booked += 1
        elif row is not None or at_bound:
            with engine.begin() as connection:
                connection.execute(forget)
            dropped += 1
    return Resolved(booked, dropped, len(lines) - booked - dropped)


def _row_of(line: dict[str, Any], prices: PriceTable, at_us: int, at_bound: bool) -> dict[str, Any] | None:
    """The row that a line makes now; None: it still makes none."""
    begun = decode_line(line["begun_line"]) if line["begun_line"] is not None else None
    if not isinstance(begun, AttemptBegun):
        return None
    event = decode_line(line["line"])
    end = event if isinstance(event, AttemptEnded) else end_of_orphan(begun, None, prices, at_us)
    row = row_of(begun, end)
    if unfit(row) is None and (isinstance(event, AttemptEnded) or line["line"] == line["begun_line"]):
        return row
    if not at_bound:
        return None
    row = row_of(begun, end_of_orphan(begun, None, prices, at_us, SETTLED_AT_BOUND)) | {"cost_nanos": line["nanos"]}
    return row if unfit(row) is None else None


def _is_booked(engine: Engine, attempt_id: str) -> bool:
    with engine.connect() as connection:
        return (
            connection.execute(select(ledger.c.entry_id).where(ledger.c.attempt_id == attempt_id)).first() is not None
        )
