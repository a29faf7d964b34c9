"""How far the ledger is behind the journals: what has ended and is not booked yet."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, select

from tenantry.domain.values import value
from tenantry.ledger.booking import already_booked
from tenantry.ledger.events import RunFold, RunReader
from tenantry.ledger.journal import is_alive
from tenantry.ledger.quarantine import attempts_in_quarantine
from tenantry.storage.tables import journals

# Enough to say that it is much; reading a million of lines takes half a minute.
ATTEMPTS_COUNTED_MAX = 100_000


@value
class Lag:
    """Attempts that have ended and are not booked; those of a gateway that died have ended with it.

    `journal_bytes` is what their lines take. `oldest_us`: when the oldest of them ended, in unix microseconds; None
    where there is none. `is_more`: there are more than were counted.
    """

    attempts: int
    journal_bytes: int
    oldest_us: int | None
    is_more: bool


def booking_lag(engine: Engine, journal_dir: Path) -> Lag:
    """Read the journals from where the ledger stands. Changes nothing.

    Raises:
        SQLAlchemyError: the store cannot be read.
        OSError: a journal cannot be read.
    """
    with engine.connect() as connection:
        cursors = {row.run_id: (row.file_number, row.offset) for row in connection.execute(select(journals))}
        put_aside = attempts_in_quarantine(connection)
    waiting: dict[str, tuple[int, int]] = {}  # when it ended and the bytes of its lines, by attempt
    is_more = False
    for path in sorted(journal_dir.iterdir()) if journal_dir.is_dir() else []:
        if not path.is_dir():
            continue
        try:
            died_us = None if is_alive(path) else path.stat().st_mtime_ns // 1000
            reader = RunReader(path, *cursors.get(path.name, (1, 0)))
            is_more |= reader.read(max(1, ATTEMPTS_COUNTED_MAX - len(waiting)))
        except FileNotFoundError:  # it was booked to its end, and removed, meanwhile
            continue
        waiting.update(_ended(reader.fold, died_us))
    with engine.connect() as connection:
        known = already_booked(connection, list(waiting)) | put_aside
    left = [one for attempt_id, one in waiting.items() if attempt_id not in known]
    return Lag(len(left), sum(size for _, size in left), min((at_us for at_us, _ in left), default=None), is_more)


def _ended(fold: RunFold, died_us: int | None) -> dict[str, tuple[int, int]]:
    found = {one.end.attempt_id: (one.end.ended_at_us, len(one.begun_line) + len(one.line)) for one in fold.ended}
    if died_us is not None:
        found |= {attempt_id: (died_us, len(one.line)) for attempt_id, one in fold.open.items()}
    return found
