"""From journals to the ledger: every ended attempt becomes one row, once (DESIGN section 5).

A step reads what is new and books it in one transaction together with the cursor, so a crash at any point only means
that lines are read again; the unique attempt id makes a second booking a no-op. Rows of one journal run are chained by
hash in the order in which they were booked. A line that cannot be booked goes to quarantine and holds up no other.

A transaction begins by moving the run's cursor on from where this drain found it. Whoever was stopped for a minute,
while another control process went on, finds another cursor there, and books nothing on what it remembers.
"""

from __future__ import annotations

import gc
import logging
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from tenantry.domain.prices import PriceTable
from tenantry.ledger.events import DAMAGED, MISSING_BEGIN, EndedAttempt, RunFold, RunReader, TallyLine, Unusable
from tenantry.ledger.journal import is_alive, last_signs
from tenantry.ledger.own_run import in_order
from tenantry.ledger.quarantine import put_aside
from tenantry.ledger.refused import keep_refused
from tenantry.ledger.rollup import add_to_rollup
from tenantry.ledger.rows import FIRST_HASH, chained, fits, row_insert, row_of, unfit, unfit_tally
from tenantry.ledger.tallies import book_tallies
from tenantry.storage.columns import now_utc
from tenantry.storage.database import write_much
from tenantry.storage.many import insert_of
from tenantry.storage.prices import PriceBook
from tenantry.storage.tables import journals, ledger

log = logging.getLogger("tenantry.ledger")

# A transaction costs a sync of the disk, some milliseconds; a row some hundredths of one. More rows would only hold the
# store's one writer (some 70 ms) longer than anybody who waits for it should.
ROWS_PER_TRANSACTION_MAX = 4000
# Of a reason in the log; the table has more of it.
_REASON_CHARS_MAX = 200
# SQLite takes 32,766 variables in a statement.
IDS_AT_ONCE = 500


class BookedElsewhere(Exception):
    """Another control process has booked this journal meanwhile: it is read again from where that one stands."""


# Of attempts that a transaction has booked. It does not raise.
Watcher = Callable[[Sequence[EndedAttempt]], None]


class _Run:
    """How far one run has been read, and booked. `saved` is the cursor that the store has."""

    __slots__ = ("head_hash", "is_known", "path", "reader", "saved", "seq")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reader = RunReader(path)
        self.saved: tuple[int, int] = (1, 0)
        self.seq = 0
        self.head_hash = FIRST_HASH
        self.is_known = False


class _Batch:
    """What one transaction books: attempts, totals, and lines that cannot be booked."""

    __slots__ = ("attempts", "tallies", "unusable")

    def __init__(
        self,
        attempts: Sequence[EndedAttempt] = (),
        tallies: Sequence[TallyLine] = (),
        unusable: Sequence[Unusable] = (),
    ) -> None:
        self.attempts = attempts
        self.tallies = tallies
        self.unusable = unusable


class Drain:
    """Books the journals below `journal_dir`. `prices`: those that ship.

    Where two drains are at work at once, each line is booked by one of them.
    `watchers` are told what was booked, for monitoring: in this thread, after it stands in the store.
    """

    def __init__(self, engine: Engine, journal_dir: Path, prices: PriceTable, watchers: Sequence[Watcher] = ()) -> None:
        self._watchers = tuple(watchers)
        self._engine = engine
        self._journal_dir = journal_dir
        self._price_book = PriceBook(engine, prices)
        self._runs: dict[str, _Run] = {}
        self._insert = row_insert(engine.dialect)

    def step(self) -> int:
        """Book what is new. Returns the number of rows booked. Cheap when nothing is."""
        booked = 0
        if not self._journal_dir.is_dir():
            return 0
        for path in sorted(entry for entry in self._journal_dir.iterdir() if entry.is_dir()):
            try:
                booked += self._drain_run(self._runs.get(path.name) or self._load(path))
            except BookedElsewhere:
                del self._runs[path.name]
                log.warning("the journal %s was booked by another control process meanwhile", path.name)
        return booked

    def has_news(self) -> bool:
        """Whether a run that is known has written since the last step: as cheap as asking for the size of a file."""
        return any(run.reader.is_behind() for run in self._runs.values())

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
            run.saved = row.file_number, row.offset
            run.reader = RunReader(path, row.file_number, row.offset)
            run.seq, run.head_hash = row.seq, row.head_hash
        return run

    def _drain_run(self, run: _Run) -> int:
        # Asked first: what a process wrote before it died is then sure to be read below.
        alive = is_alive(run.path)
        booked, more = 0, True
        while more:
            with _without_collector():
                more = run.reader.read(ROWS_PER_TRANSACTION_MAX)
                batch = _take(run.reader.fold)
                if batch.attempts or batch.tallies or batch.unusable:
                    booked += self._book(run, batch)
        if not alive:
            booked += self._close(run)
        return booked

    def _close(self, run: _Run) -> int:
        """The process is dead: what it left open is orphaned, then its files can go."""
        fold = run.reader.fold
        self._price_book.refresh()
        fold.ended = fold.orphans(self._price_book.table, _now_us(), last_signs(run.path))
        fold.open.clear()
        booked = self._book(run, _take(fold), closed=True)
        with suppress(FileNotFoundError):  # another control process has found it dead, too
            shutil.rmtree(run.path)
        del self._runs[run.path.name]
        return booked

    def _book(self, run: _Run, batch: _Batch, closed: bool = False) -> int:
        """Book everything at once; where the store refuses a value, one by one, and quarantine what it refuses."""
        cursor = run.reader.cursor()
        try:
            return self._commit(run, batch, cursor, closed)
        except _REFUSED_VALUES as error:
            if _is_trouble(error):
                raise
        booked, refused = 0, list(batch.unusable)
        singles = [_Batch((one,)) for one in batch.attempts]
        singles += [_Batch(tallies=(one,)) for one in batch.tallies]
        for single in singles:
            try:
                # The cursor stays until all are through: a crash in between reads the rest again.
                booked += self._commit(run, single, run.saved, False)
            except _REFUSED_VALUES as error:
                if _is_trouble(error):
                    raise
                refused.extend(_unusable(single, _first_line(error)))
        self._commit(run, _Batch(unusable=refused), cursor, closed)
        return booked

    def _commit(self, run: _Run, batch: _Batch, cursor: tuple[int, int], closed: bool) -> int:
        """In one transaction. That a row is booked already happens after a crash alone: then they are looked up."""
        try:
            return self._write(run, batch.attempts, batch, cursor, closed)
        except IntegrityError:
            with self._engine.connect() as connection:
                known = already_booked(connection, [one.end.attempt_id for one in batch.attempts])
            return self._write(run, _not_in(known, batch.attempts), batch, cursor, closed)

    def _write(
        self, run: _Run, attempts: Sequence[EndedAttempt], batch: _Batch, cursor: tuple[int, int], closed: bool
    ) -> int:
        name, seq = run.path.name, run.seq + len(attempts)
        # Before the transaction, so that the store's one writer is not held up by it.
        rows, head_hash = chained(attempts, name, run.seq, run.head_hash)
        with self._engine.begin() as connection:
            in_order(connection)
            write_much(connection)
            _move_cursor(connection, run, seq, head_hash, cursor, closed)
            if rows:
                self._insert.execute(connection, rows)
                add_to_rollup(connection, rows)
            book_tallies(connection, name, [one.tally for one in batch.tallies])
            keep_refused(connection, [one.tally for one in batch.tallies])
            lost = _not_booked(connection, batch.unusable)
            kept = put_aside(connection, name, lost, _now_us())
            damaged = sum(one.reason == DAMAGED for one in lost) if kept else 0
            if damaged:
                _note_damage(connection, name, damaged)
        if kept:
            log.error(
                "%d lines of the journal %s went to quarantine (`tenantry ledger quarantine`); the first: %s",
                kept,
                name,
                lost[0].reason[:_REASON_CHARS_MAX],
            )
        run.seq, run.head_hash, run.is_known = seq, head_hash, True
        run.saved = cursor
        for watcher in self._watchers if attempts else ():
            watcher(attempts)
        return len(rows)


@contextmanager
def _without_collector() -> Generator[None]:
    """What a batch is made of has no cycles, and looking for them took a tenth of it (measured, 2026-11-25)."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


# What a driver raises for a value that its column does not take, wrapped or bare.
_REFUSED_VALUES = (DataError, StatementError, OverflowError, UnicodeError)


def _is_trouble(error: Exception) -> bool:
    """Whether it is the store that is in trouble (locked, full, gone, damaged) and not one value."""
    return isinstance(error, DBAPIError) and not isinstance(error, DataError)


def _not_in(known: set[str], attempts: Sequence[EndedAttempt]) -> list[EndedAttempt]:
    """Attempts that are not known, the first one of each id."""
    fresh = {one.end.attempt_id: one for one in reversed(attempts) if one.end.attempt_id not in known}
    return [one for one in attempts if fresh.get(one.end.attempt_id) is one]


def _not_booked(connection: Connection, lines: Sequence[Unusable]) -> Sequence[Unusable]:
    """Without ends whose beginning is missing because they are booked."""
    orphaned = [one.attempt_id for one in lines if one.reason == MISSING_BEGIN and one.attempt_id]
    if not orphaned:
        return lines
    known = already_booked(connection, orphaned)
    return [one for one in lines if one.reason != MISSING_BEGIN or one.attempt_id not in known]


def _take(fold: RunFold) -> _Batch:
    """What the fold has gathered; lines whose values no column takes are among the unusable ones."""
    attempts: list[EndedAttempt] = []
    tallies: list[TallyLine] = []
    unusable = fold.unusable
    for one in fold.ended:
        reason = None if fits(one) else unfit(row_of(one.begun, one.end))
        if reason is None:
            attempts.append(one)
        else:
            unusable.append(_refused(one, reason))
    for one in fold.tallies:
        reason = unfit_tally(one.tally)
        if reason is None:
            tallies.append(one)
        else:
            unusable.append(Unusable(reason, one.file_number, one.offset, one.line))
    fold.forget()
    return _Batch(attempts, tallies, unusable)


def _refused(one: EndedAttempt, reason: str) -> Unusable:
    return Unusable(reason, one.file_number, one.offset, one.line, one.end.attempt_id, one.begun, one.begun_line)


def _unusable(single: _Batch, reason: str) -> list[Unusable]:
    """The lines of a batch that the store refused."""
    refused = [_refused(one, reason) for one in single.attempts]
    return refused + [Unusable(reason, one.file_number, one.offset, one.line) for one in single.tallies]


def _now_us() -> int:
    return time.time_ns() // 1000


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]


def already_booked(connection: Connection, attempt_ids: Sequence[str]) -> set[str]:
    """Those of the attempts that have a row. With a NUL in its id none has: PostgreSQL has no such text."""
    booked: set[str] = set()
    askable = [one for one in attempt_ids if "\0" not in one]
    for start in range(0, len(askable), IDS_AT_ONCE):
        some = askable[start : start + IDS_AT_ONCE]
        booked.update(connection.execute(select(ledger.c.attempt_id).where(ledger.c.attempt_id.in_(some))).scalars())
    return booked


def _move_cursor(
    connection: Connection, run: _Run, seq: int, head_hash: str, cursor: tuple[int, int], closed: bool
) -> None:
    """Raises: BookedElsewhere: it is not where this drain found it."""
    columns = journals.c
    values = {
        "file_number": cursor[0],
        "offset": cursor[1],
        "seq": seq,
        "head_hash": head_hash,
        "closed_at": now_utc() if closed else None,
    }
    if run.is_known:
        here = (columns.file_number == run.saved[0]) & (columns.offset == run.saved[1]) & (columns.seq == run.seq)
        move: Any = update(journals).where(columns.run_id == run.path.name, here).values(values)
    else:
        new = insert_of(connection.dialect, journals).values(run_id=run.path.name, damaged_lines=0, **values)
        move = new.on_conflict_do_nothing(index_elements=[columns.run_id])
    if connection.execute(move.returning(columns.run_id)).first() is None:
        raise BookedElsewhere((BookedElsewhere.__doc__ or "").strip())


def _note_damage(connection: Connection, run_id: str, lines: int) -> None:
    more = {"damaged_lines": journals.c.damaged_lines + lines}
    connection.execute(update(journals).where(journals.c.run_id == run_id).values(more))
