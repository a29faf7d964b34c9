"""What booking costs: `python -m bench.drain [ROWS]` (default 40,000), in CPU time and beside SQLite itself.

With `--postgresql` the store is a server of Debian's as it comes, every commit synced to the disk, on this machine.

The control is SQLite taking the same rows with one `executemany` for each transaction of the same size, into the same
tables with the same indexes: what is above it is Tenantry's. Both take turns, three times; medians are told.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median

from sqlalchemy import Engine, create_engine, make_url, text
from tests.postgresql import start

from bench.ledger import END_US, MODELS, RAW, TENANTS
from bench.processes import tree_seconds
from tenantry.domain.attempts import AttemptEnded, AttemptProgress, Outcome
from tenantry.domain.prices import load_default_prices
from tenantry.domain.usage import Usage
from tenantry.gateway.request import Names
from tenantry.ledger.booking import ROWS_PER_TRANSACTION_MAX, Drain
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.templates import begin_template, settled_line
from tenantry.ledger.verification import verify
from tenantry.storage.database import WRITER_CACHE_KIB, WRITER_LOG_PAGES, open_store
from tenantry.storage.migrating import migrate
from tenantry.wire.bytework import fill_line

ROWS = 40_000
ROUNDS = 3
_USAGE = Usage(input_tokens=1000, cache_read_tokens=20_000, output_tokens=300)


def main() -> None:
    words = [word for word in sys.argv[1:] if word != "--postgresql"]
    count = int(words[0]) if words else ROWS
    if "--postgresql" in sys.argv:
        into_server(count)
        return
    drained: list[float] = []
    raw: list[float] = []
    rates: list[float] = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as name:
            folder = Path(name)
            cpu, seconds = drain(folder, count)
            drained.append(cpu / count * 1e6)
            rates.append(count / seconds)
            raw.append(insert_again(folder, count) / count * 1e6)
    ratio = median(one / other for one, other in zip(drained, raw, strict=True))
    print(f"{count:,} rows, medians of {ROUNDS} (least)\n\n| | |\n|---|---|")
    print(f"| booking, CPU us a row | {median(drained):.1f} ({min(drained):.1f}) |")
    print(f"| SQLite alone, CPU us a row | {median(raw):.1f} ({min(raw):.1f}) |")
    print(f"| booking beside SQLite | {ratio:.2f}x |")
    print(f"| booking, rows a second | {median(rates):,.0f} |")


def into_server(count: int) -> None:
    """Book into a new database each time, and verify each."""
    server, drained, rates, verified = start(settings=()), list[float](), list[float](), list[float]()
    served: list[float] = []
    try:
        for number in range(ROUNDS):
            url = make_url(server.url)
            with create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT").connect() as one:
                one.execute(text(f"CREATE DATABASE of_round_{number}"))
            engine = open_store(url.set(database=f"of_round_{number}").render_as_string())
            with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as name:
                write_journal(Path(name) / "journal", count)
                migrate(engine)
                before = tree_seconds(server.process.pid)
                cpu, seconds = book_written(engine, Path(name), count)
                served.append((tree_seconds(server.process.pid) - before) / count * 1e6)
            drained.append(cpu / count * 1e6)
            rates.append(count / seconds)
            started = time.perf_counter()
            if verify(engine).fault_count:
                raise SystemExit("the ledger does not verify")
            verified.append(count / (time.perf_counter() - started))
            engine.dispose()
    finally:
        server.stop()
    print(f"{count:,} rows into PostgreSQL, medians of {ROUNDS} (least)\n\n| | |\n|---|---|")
    print(f"| booking, CPU us a row, without the server's | {median(drained):.1f} ({min(drained):.1f}) |")
    print(f"| the server's | {median(served):.1f} ({min(served):.1f}) |")
    print(f"| booking, rows a second | {median(rates):,.0f} ({min(rates):,.0f}) |")
    print(f"| `ledger verify`, rows a second | {median(verified):,.0f} |")


def drain(folder: Path, count: int) -> tuple[float, float]:
    """Book a journal into an empty store: CPU seconds, and seconds."""
    engine = open_store(f"sqlite:///{folder / 'drained.db'}")
    found = book(engine, folder, count)
    engine.dispose()
    return found


def book(engine: Engine, folder: Path, count: int) -> tuple[float, float]:
    write_journal(folder / "journal", count)
    migrate(engine)
    return book_written(engine, folder, count)


def book_written(engine: Engine, folder: Path, count: int) -> tuple[float, float]:
    """Book a journal that is there: CPU seconds of this process, and seconds."""
    one = Drain(engine, folder / "journal", load_default_prices())
    started, cpu = time.perf_counter(), time.process_time()
    booked = one.step()
    found = time.process_time() - cpu, time.perf_counter() - started
    if booked != count:
        raise SystemExit(f"{booked} of {count} rows were booked")
    return found


def insert_again(folder: Path, count: int) -> float:
    """The rows of that store into another, by SQLite alone: CPU seconds."""
    path = folder / "again.db"
    engine = open_store(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()
    with closing(sqlite3.connect(folder / "drained.db")) as source, closing(sqlite3.connect(path)) as target:
        cursor = source.execute("SELECT * FROM ledger ORDER BY entry_id")
        rows = cursor.fetchall()
        statement = f"INSERT INTO ledger VALUES ({', '.join('?' * len(cursor.description))})"  # noqa: S608 -- marks alone
        # As the booking's own connection (storage/database.py).
        own = (f"cache_size = -{WRITER_CACHE_KIB}", f"wal_autocheckpoint = {WRITER_LOG_PAGES}")
        for pragma in ("journal_mode = WAL", "synchronous = FULL", *own):
            target.execute(f"PRAGMA {pragma}")
        cpu = time.process_time()
        for first in range(0, count, ROWS_PER_TRANSACTION_MAX):
            with target:
                target.executemany(statement, rows[first : first + ROWS_PER_TRANSACTION_MAX])
        return time.process_time() - cpu


def write_journal(folder: Path, count: int) -> None:
    """What a gateway writes for so many attempts, half of them streams, and then ends."""
    writer, names = JournalWriter(folder, "gateway"), Names()
    for number in range(count):
        name, at_us = names.new(), END_US + number * 1000
        model, streams, who = MODELS[number % 3], bool(number & 1), number % TENANTS
        ids = (f"tnt_{who:020d}", f"key_{who:020d}", f"crd_{who:020d}", "ups_00000000000000000000")
        begin = begin_template(*ids, model, streams)
        writer.add(fill_line(begin, name, 1, name, at_us, 15_000_000, 5_000, 3_000, 64_000))
        told, times = f"req_011D{number:020d}", (at_us + 2000, at_us + 500)
        if streams:
            attempt = f"att_{name.decode()}_1"
            writer.progress(AttemptProgress(attempt, model, _USAGE, told, 15_000_000))
            end = (200, Outcome.SETTLED, model, "end_turn", _USAGE, RAW, 5000, "2026-11-24", told, None)
            writer.end(AttemptEnded(attempt, *times, *end))
        else:
            counts = (_USAGE.input_tokens, 0, 0, _USAGE.cache_read_tokens, _USAGE.output_tokens, 0)
            end = (counts, RAW.encode().replace(b'"', b'\\"'), 5000, "2026-11-24", told)
            writer.add(settled_line(name, 1, *times, model, "end_turn", *end))
        writer.flush()
    writer.close()


if __name__ == "__main__":
    main()
