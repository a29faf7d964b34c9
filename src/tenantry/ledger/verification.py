"""Whether the ledger is what was booked: every row, in its order, to the last one, and the sums made of it.

Each run's rows form a chain of hashes from seq 1. The `journals` row of the run keeps how long the chain is and the
hash of its last row, so a tail that is gone is missed too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Engine, Integer, select, type_coerce

from tenantry.domain.values import value
from tenantry.ledger.rollup import KEY, SUMS, differences
from tenantry.ledger.rows import FIRST_HASH, row_hash
from tenantry.storage.database import reading, values_of
from tenantry.storage.tables import journals, ledger

# More would only repeat what the first ones say; all are counted.
FAULTS_LISTED_MAX = 100
_ROWS_AT_ONCE = 2000


@value
class Fault:
    """One thing that is wrong. `what`: changed, missing, reordered, added, anchor or sums."""

    what: str
    run: str
    seq: int | None
    attempt_id: str | None
    message: str


@dataclass(slots=True)
class Verification:
    """What was found. `head` stands for all chains at once: noted elsewhere, it shows later that none was replaced."""

    rows: int = 0
    runs: int = 0
    fault_count: int = 0
    head: str = ""
    faults: list[Fault] = field(default_factory=list[Fault])

    def add(self, fault: Fault) -> None:
        self.fault_count += 1
        if len(self.faults) < FAULTS_LISTED_MAX:
            self.faults.append(fault)


@dataclass(slots=True)
class _Chain:
    """How far the chain of one run was followed."""

    run: str
    seq: int = 0
    head_hash: str = FIRST_HASH
    entry_id: int = 0


def verify(engine: Engine, came: Callable[[float], None] = lambda share: None) -> Verification:
    """Follow every chain and compare the roll-up, all of one moment. `came` is told the share of rows that is done."""
    found = Verification()
    with reading(engine) as connection:
        anchors = {row.run_id: (row.seq, row.head_hash) for row in connection.execute(select(journals))}
        digest = sha256()
        for run, (seq, head_hash) in sorted(anchors.items()):
            digest.update(f"{run} {seq} {head_hash}\n".encode())
        found.head = digest.hexdigest()
        rows = sum(seq for seq, _ in anchors.values())
        for chain in _follow(connection, found, lambda: came(min(1.0, found.rows / max(1, rows)))):
            found.runs += 1
            _check_anchor(chain, anchors.pop(chain.run, None), found)
        for run, anchor in sorted(anchors.items()):
            _check_anchor(_Chain(run), anchor, found)
        for side, sums in differences(connection, FAULTS_LISTED_MAX):
            found.add(_sums_fault(side, sums))
    return found


def _follow(connection: Connection, found: Verification, tell: Callable[[], None]) -> Iterator[_Chain]:
    """Each run's chain, once its last row was checked. `tell` is called now and then."""
    # Read as the number it is: 2 would otherwise be taken for true, and hashed as if nothing had happened.
    columns = [type_coerce(column, Integer) if column.name == "streaming" else column for column in ledger.columns]
    query = select(*columns).order_by(ledger.c.journal_run, ledger.c.journal_seq)
    chain: _Chain | None = None
    for row in values_of(connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})):
        if chain is None or row["journal_run"] != chain.run:
            if chain is not None:
                yield chain
            chain = _Chain(row["journal_run"])
        found.rows += 1
        _check_row(chain, row, found)
        if not found.rows % _ROWS_AT_ONCE:
            tell()
    if chain is not None:
        yield chain


def _check_row(chain: _Chain, row: dict[str, Any], found: Verification) -> None:
    seq: int = row["journal_seq"]

    def add(what: str, message: str) -> None:
        found.add(Fault(what, chain.run, seq, str(row["attempt_id"]), message))

    if seq != chain.seq + 1:
        gone = (
            f"row {chain.seq + 1} is missing"
            if seq == chain.seq + 2
            else f"rows {chain.seq + 1} to {seq - 1} are missing"
        )
        add("missing", f"{gone}, or this row has another's number")
    elif row["prev_hash"] != chain.head_hash:
        add("reordered", "does not follow the row before it")
    if _hash(row) != row["row_hash"]:
        add("changed", "is not what was booked")
    if row["entry_id"] <= chain.entry_id:
        add("reordered", "stands before the row that it follows")
    chain.seq, chain.head_hash, chain.entry_id = seq, row["row_hash"], row["entry_id"]


def _hash(row: dict[str, Any]) -> str | None:
    """The hash that the row should have; None where a value cannot even be one that was booked."""
    if row["streaming"] not in (0, 1):
        return None
    try:
        return row_hash(row | {"streaming": bool(row["streaming"])})
    except (TypeError, UnicodeEncodeError):  # bytes in a text column, half of a surrogate pair
        return None


def _check_anchor(chain: _Chain, anchor: tuple[int, str] | None, found: Verification) -> None:
    def add(what: str, message: str) -> None:
        found.add(Fault(what, chain.run, chain.seq or None, None, message))

    if anchor is None:
        add("anchor", f"the end of its chain is not noted anywhere; {chain.seq} rows are there")
    elif anchor[0] > chain.seq:
        add("missing", f"rows {chain.seq + 1} to {anchor[0]} are missing from the end")
    elif anchor[0] < chain.seq:
        add("added", f"rows {anchor[0] + 1} to {chain.seq} were added behind the end that was noted")
    elif anchor[1] != chain.head_hash:
        add("anchor", "the last row is not the one that was noted")


def _sums_fault(side: str, values: dict[str, Any]) -> Fault:
    where = ", ".join(str(values[name]) for name in KEY)
    sums = ", ".join(f"{name} {values[name]}" for name in SUMS if values[name])
    told = "is in the roll-up, not in the ledger" if side == "extra" else "is in the ledger, not in the roll-up"
    return Fault("sums", "usage_rollup", None, None, f"{where}: {sums or 'nothing'} {told}")
