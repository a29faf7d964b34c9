"""From journals to the ledger: every ended attempt becomes one row, once (DESIGN section 5).

A step reads what is new and books it in one transaction together with the cursor, so a crash at any point only means
that lines are read again; the unique attempt id makes a second booking a no-op. Rows of one journal run are chained by
hash in the order in which they were booked.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, AttemptProgress, Outcome, Tally
from tenantry.domain.prices import PriceTable
from tenantry.domain.settlement import Observed, Sent, settle
from tenantry.domain.usage import Usage
from tenantry.ledger.journal import Event, files_of, is_alive, read_file
from tenantry.ledger.rollup import add_to_rollup
from tenantry.ledger.tallies import book_tally
from tenantry.storage.columns import now_utc
from tenantry.storage.tables import journals, ledger

ROWS_PER_TRANSACTION_MAX = 500
FIRST_HASH = "0" * 64


@dataclass(slots=True)
class _Open:
    """An attempt whose end has not been read. `file_number` and `offset` say where its beginning stands."""

    begun: AttemptBegun
    file_number: int
    offset: int
    progress: AttemptProgress | None = None


@dataclass(slots=True)
class _Run:
    """How far one run has been read, and booked."""

    path: Path
    file_number: int = 1
    offset: int = 0
    seq: int = 0
    head_hash: str = FIRST_HASH
    damaged_lines: int = 0
    is_known: bool = False
    open: dict[str, _Open] = field(default_factory=dict[str, _Open])
    tallies: list[Tally] = field(default_factory=list[Tally])

    def cursor(self) -> tuple[int, int]:
        """Where reading must start again after a crash: the oldest beginning without an end."""
        return min(
            [(entry.file_number, entry.offset) for entry in self.open.values()], default=(self.file_number, self.offset)
        )


class Drain:
    """Books the journals below `journal_dir`. One drain at a time per store."""

    def __init__(self, engine: Engine, journal_dir: Path, prices: PriceTable) -> None:
        self._engine = engine
        self._journal_dir = journal_dir
        self._prices = prices
        self._runs: dict[str, _Run] = {}

    def step(self) -> int:
        """Book what is new. Returns the number of rows booked. Cheap when nothing is."""
        booked = 0
        if not self._journal_dir.is_dir():
            return 0
        for path in sorted(entry for entry in self._journal_dir.iterdir() if entry.is_dir()):
            booked += self._drain_run(self._runs.get(path.name) or self._load(path))
        return booked

    def forget(self) -> None:
        """Start again from the cursors: what was read and could not be booked is read again."""
        self._runs.clear()

    def _load(self, path: Path) -> _Run:
        run = self._runs[path.name] = _Run(path)
        with self._engine.connect() as connection:
            row = connection.execute(select(journals).where(journals.c.run_id == path.name)).first()
            if row is None:  # a new run, or one whose cursor was lost: its chain goes on from its last row
                last = connection.execute(
                    select(ledger.c.journal_seq, ledger.c.row_hash)
                    .where(ledger.c.journal_run == path.name)
                    .order_by(ledger.c.journal_seq.desc())
                    .limit(1)
                ).first()
                run.seq, run.head_hash = (last.journal_seq, last.row_hash) if last is not None else (0, FIRST_HASH)
        if row is not None:
            run.is_known = True
            run.file_number, run.offset = row.file_number, row.offset
            run.seq, run.head_hash, run.damaged_lines = row.seq, row.head_hash, row.damaged_lines
        return run

    def _drain_run(self, run: _Run) -> int:
        # Asked first: what a process wrote before it died is then sure to be read below.
        alive = is_alive(run.path)
        booked = 0
        while True:
            ended, more = self._read(run)
            if ended or run.tallies:
                booked += self._book(run, ended)
            if not more:
                break
        if not alive:
            booked += self._close(run)
        return booked

    def _read(self, run: _Run) -> tuple[list[tuple[AttemptBegun, AttemptEnded]], bool]:
        """Read on; the attempts whose end was found, and whether there may be more."""
        ended: list[tuple[AttemptBegun, AttemptEnded]] = []
        files = {int(path.stem): path for path in files_of(run.path)}
        while run.file_number in files:
            path = files[run.file_number]
            if path.stat().st_size > run.offset:
                for entry in read_file(path, run.offset):
                    run.offset = entry.end_offset
                    self._apply(run, entry.event, entry.offset, ended)
                    if len(ended) >= ROWS_PER_TRANSACTION_MAX:
                        return ended, True
            if run.file_number + 1 not in files:
                break
            run.file_number, run.offset = run.file_number + 1, 0
        return ended, False

    def _apply(
        self,
        run: _Run,
        event: Event | None,
        offset: int,
        ended: list[tuple[AttemptBegun, AttemptEnded]],
    ) -> None:
        if event is None:
            run.damaged_lines += 1
        elif isinstance(event, Tally):
            run.tallies.append(event)
        elif isinstance(event, AttemptBegun):
            run.open[event.attempt_id] = _Open(event, run.file_number, offset)
        elif event.attempt_id not in run.open:
            return  # read again after a crash: its beginning is behind the cursor, so its row is booked
        elif isinstance(event, AttemptProgress):
            run.open[event.attempt_id].progress = event
        else:
            ended.append((run.open.pop(event.attempt_id).begun, event))

    def _close(self, run: _Run) -> int:
        """The process is dead: what it left open is orphaned, then its files can go."""
        orphans = [(entry.begun, orphan(entry.begun, entry.progress, self._prices)) for entry in run.open.values()]
        run.open.clear()
        booked = self._book(run, orphans, closed=True)
        shutil.rmtree(run.path)
        del self._runs[run.path.name]
        return booked

    def _book(self, run: _Run, ended: list[tuple[AttemptBegun, AttemptEnded]], closed: bool = False) -> int:
        seq, head_hash = run.seq, run.head_hash
        with self._engine.begin() as connection:
            known = _already_booked(connection, [end.attempt_id for _, end in ended])
            rows: list[dict[str, Any]] = []
            for begun, end in ended:
                if end.attempt_id in known:
                    continue
                known.add(end.attempt_id)
                seq += 1
                row = _row(begun, end) | {"journal_run": run.path.name, "journal_seq": seq, "prev_hash": head_hash}
                head_hash = row["row_hash"] = row_hash(row)
                rows.append(row)
            if rows:
                connection.execute(insert(ledger), rows)
                add_to_rollup(connection, rows)
            for tally in run.tallies:
                book_tally(connection, run.path.name, tally)
            _save_cursor(connection, run, seq, head_hash, closed)
        run.seq, run.head_hash, run.is_known = seq, head_hash, True
        run.tallies.clear()
        return len(rows)


def orphan(begun: AttemptBegun, progress: AttemptProgress | None, prices: PriceTable) -> AttemptEnded:
    """The end of an attempt whose gateway died: what its stream had last said, priced."""
    usage = progress.usage if progress is not None else Usage()
    model = (progress.model_served if progress is not None else None) or None
    seen = Observed(model, None, usage, "", False, progress is not None, False, None, 0)
    booked = settle(Sent(begun.model_requested, 200, True, 0, 0, 0), seen, prices, begun.begun_at_us)
    return AttemptEnded(
        attempt_id=begun.attempt_id,
        # Not when it began: that may lie in a period that is exported and invoiced already.
        ended_at_us=time.time_ns() // 1000,
        first_byte_at_us=None,
        status=None,
        outcome=Outcome.ORPHANED,
        model_served=model,
        stop_reason=None,
        usage=usage,
        usage_raw="",
        cost_nanos=booked.cost_nanos,
        price_version=booked.price_version,
        upstream_request_id=progress.upstream_request_id if progress is not None else None,
        error="gateway_died",
    )


def _already_booked(connection: Connection, attempt_ids: list[str]) -> set[str]:
    query = select(ledger.c.attempt_id).where(ledger.c.attempt_id.in_(attempt_ids))
    return set(connection.execute(query).scalars()) if attempt_ids else set()


def _save_cursor(connection: Connection, run: _Run, seq: int, head_hash: str, closed: bool) -> None:
    file_number, offset = run.cursor()
    values = {
        "file_number": file_number,
        "offset": offset,
        "seq": seq,
        "head_hash": head_hash,
        "damaged_lines": run.damaged_lines,
        "closed_at": now_utc() if closed else None,
    }
    if run.is_known:
        connection.execute(update(journals).where(journals.c.run_id == run.path.name).values(values))
    else:
        connection.execute(insert(journals).values(run_id=run.path.name, **values))


def _row(begun: AttemptBegun, end: AttemptEnded) -> dict[str, Any]:
    usage = end.usage
    return {
        "attempt_id": begun.attempt_id,
        "request_id": begun.request_id,
        "upstream_request_id": end.upstream_request_id,
        "tenant_id": begun.tenant_id,
        "key_id": begun.key_id,
        "credential_id": begun.credential_id,
        "upstream_id": begun.upstream_id,
        "model_requested": begun.model_requested,
        "model_served": end.model_served,
        "streaming": begun.streaming,
        "input_tokens": usage.input_tokens,
        "cache_write_5m_tokens": usage.cache_write_5m_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
        "thinking_tokens": usage.thinking_tokens,
        "web_search_requests": usage.web_search_requests,
        "web_fetch_requests": usage.web_fetch_requests,
        "stop_reason": end.stop_reason,
        "status": end.status,
        "begun_at_us": begun.begun_at_us,
        "first_byte_at_us": end.first_byte_at_us,
        "ended_at_us": end.ended_at_us,
        "outcome": end.outcome.value,
        "cost_nanos": end.cost_nanos,
        "price_version": end.price_version,
        "usage_raw": end.usage_raw,
        "error": end.error,
        "saved_nanos": end.saved_nanos,
    }


# The columns of the first schema that may be NULL; none may ever join or leave this list.
_NULLABLE_FROM_THE_FIRST = frozenset(
    {
        "upstream_request_id",
        "model_served",
        "stop_reason",
        "status",
        "first_byte_at_us",
        "cost_nanos",
        "price_version",
        "error",
    }
)


def row_hash(row: Mapping[str, Any]) -> str:
    """SHA-256 over every column but the row's own id and hash, the previous row's hash included.

    A column that came with a later schema enters only where it has a value, so that older rows keep their hash.
    """
    kept = {
        name: value
        for name, value in row.items()
        if name not in ("entry_id", "row_hash") and (value is not None or name in _NULLABLE_FROM_THE_FIRST)
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
