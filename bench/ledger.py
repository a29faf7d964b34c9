"""How fast the ledger is: `python -m bench.ledger [ROWS]` (default 1,000,000; some 1.1 GB of disk for each million)."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, insert

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, AttemptProgress, Outcome
from tenantry.domain.periods import MONTH, WEEK, period_of, previous_period
from tenantry.domain.prices import load_default_prices
from tenantry.domain.usage import Usage
from tenantry.ledger.booking import Drain
from tenantry.ledger.exports import Wanted, write_csv, write_exports
from tenantry.ledger.journal import JournalWriter, files_of
from tenantry.ledger.rollup import KEY, SUMS, sums_of_ledger
from tenantry.ledger.spending import spent_by_tenant, spent_nanos
from tenantry.ledger.story import find_story
from tenantry.ledger.usage import month_usage
from tenantry.ledger.verification import verify
from tenantry.storage.database import open_store
from tenantry.storage.migrating import migrate
from tenantry.storage.tables import ledger, usage_rollup

TENANTS = 50
MODELS = ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5")
DAYS = 60
# 2026-12-01 00:00 UTC: the rows lie in the 60 days before.
END_US = 1_796_083_200_000_000
ZONE = ZoneInfo("Europe/Berlin")
DRAINED = 50_000
RAW = '{"input_tokens":1000,"cache_read_input_tokens":20000,"output_tokens":300,"service_tier":"standard"}'
REPEATS = 7


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as name:
        folder = Path(name)
        path = folder / "tenantry.db"
        engine = open_store(f"sqlite:///{path}")
        migrate(engine)
        started = time.perf_counter()
        fill(engine, path, count)
        print(f"{count:,} rows, {path.stat().st_size / 1e9:.2f} GB, made in {time.perf_counter() - started:.0f} s\n")
        print("| | ms (median of 7) |\n|---|---|")
        for what, call in queries(engine, folder).items():
            print(f"| {what} | {median_ms(call):.1f} |")
        print("\n| | |\n|---|---|")
        for what, figure in drain(engine, folder).items():
            print(f"| {what} | {figure} |")
        engine.dispose()


def fill(engine: Engine, path: Path, count: int, tenants: int = TENANTS, days: int = DAYS) -> None:
    """Rows as the drain books them but for their hashes, which nothing here reads."""
    later = ("entry_id", "adjusts", "basis", "held_nanos", "flaws", "queue_wait_us")
    names = [column.name for column in ledger.columns if column.name not in later]
    marks = ", ".join(f":{name}" for name in names)
    engine.dispose()  # a mode without a journal needs the file alone
    with closing(sqlite3.connect(path)) as connection:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -300000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.executemany(f"INSERT INTO ledger ({', '.join(names)}) VALUES ({marks})", rows(count, tenants, days))  # noqa: S608 -- names of columns
        connection.commit()
    query = sums_of_ledger().subquery()
    with engine.begin() as connection:
        names = [*KEY, *SUMS]
        connection.execute(insert(usage_rollup).from_select(names, query.select()))


def rows(count: int, tenants: int, days: int) -> Iterator[dict[str, Any]]:
    step_us = days * 86_400_000_000 // count
    for number in range(count):
        ended_at_us = END_US - (count - number) * step_us
        tenant = number * 7919 % 104_729 % tenants
        yield {
            "attempt_id": f"att_{number:020d}",
            "request_id": f"req_{number:020d}",
            "upstream_request_id": f"req_011C{number:020d}",
            "tenant_id": f"tnt_{tenant:020d}",
            "key_id": f"key_{tenant:020d}",
            "credential_id": f"crd_{tenant:020d}",
            "upstream_id": "ups_00000000000000000000",
            "model_requested": MODELS[number % 3],
            "model_served": MODELS[number % 3],
            "streaming": number & 1,
            "input_tokens": number % 5000,
            "cache_write_5m_tokens": number % 900,
            "cache_write_1h_tokens": 0,
            "cache_read_tokens": number % 40_000,
            "output_tokens": number % 700,
            "thinking_tokens": number % 100,
            "web_search_requests": 0,
            "web_fetch_requests": 0,
            "stop_reason": "end_turn",
            "status": 200,
            "begun_at_us": ended_at_us - 2_000_000,
            "first_byte_at_us": ended_at_us - 1_500_000,
            "ended_at_us": ended_at_us,
            "outcome": "settled",
            "cost_nanos": number % 10_000_000,
            "price_version": "2026-11-24",
            "usage_raw": RAW,
            "error": None,
            "saved_nanos": None,
            "journal_run": "gateway-00000000000000000000-1",
            "journal_seq": number + 1,
            "prev_hash": "0" * 64,
            "row_hash": "0" * 64,
        }


def queries(engine: Engine, folder: Path) -> dict[str, Callable[[], object]]:
    one = f"tnt_{7:020d}"
    month = period_of(MONTH, END_US - 86_400_000_000, ZONE)
    week = previous_period(period_of(WEEK, END_US - 86_400_000_000, ZONE), ZONE)
    wanted = [Wanted("one.csv", one)]
    return {
        "`usage` of a tenant, a month": lambda: month_usage(engine, one, "2026-11", ZONE),
        "spending of a tenant, a month": lambda: spent_nanos(engine, one, month.start_us, month.end_us),
        "the same, bounds within quarters": lambda: spent_nanos(engine, one, month.start_us + 1, month.end_us - 1),
        "spending of every tenant, a month": lambda: spent_by_tenant(engine, month.start_us, month.end_us),
        "`ledger show`": lambda: find_story(engine, f"req_011C{1000:020d}"),
        "`export` of a tenant, a week": lambda: write_exports(engine, week, wanted, folder / "exports", write_csv),
    }


def median_ms(call: Callable[[], object]) -> float:
    taken: list[float] = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return sorted(taken)[REPEATS // 2] * 1000


def drain(engine: Engine, folder: Path) -> dict[str, str]:
    """Book a journal of half streams into the filled store; then verify a store of its own."""
    writer = JournalWriter(folder / "journal", "gateway")
    usage = Usage(input_tokens=1000, cache_read_tokens=20_000, output_tokens=300)
    for number in range(DRAINED):
        attempt = f"att_drain_{number:016d}"
        at_us = END_US + number * 1000
        tenant = f"tnt_{number % TENANTS:020d}"
        ids = (f"key_{number % TENANTS:020d}", f"crd_{number % TENANTS:020d}", "ups_00000000000000000000")
        model, streams = MODELS[number % 3], bool(number & 1)
        writer.begin(AttemptBegun(attempt, f"req_drain_{number:016d}", tenant, *ids, model, streams, at_us))
        told = f"req_011D{number:020d}"
        if streams:
            writer.progress(AttemptProgress(attempt, model, usage, told))
        times = (at_us + 2000, at_us + 500)
        writer.end(
            AttemptEnded(
                attempt, *times, 200, Outcome.SETTLED, model, "end_turn", usage, RAW, 5000, "2026-11-24", told, None
            )
        )
        writer.flush()
    size = sum(path.stat().st_size for path in files_of(folder / "journal" / writer.run_id))
    writer.close()
    figures = {"journal bytes a request, half of them streams": f"{size / DRAINED:.0f}"}
    for what, target in (("the store above", engine), ("an empty store", open_store(f"sqlite:///{folder / 'new.db'}"))):
        migrate(target)
        copy = folder / f"journal-{what.split()[1]}"
        (folder / "journal").rename(copy) if target is not engine else _copy_tree(folder / "journal", copy)
        started = time.perf_counter()
        booked = Drain(target, copy, load_default_prices()).step()
        figures[f"drain into {what}, rows/s"] = f"{booked / (time.perf_counter() - started):,.0f}"
    started = time.perf_counter()
    found = verify(target)
    assert found.rows == DRAINED
    assert not found.fault_count
    figures["`ledger verify`, rows/s"] = f"{found.rows / (time.perf_counter() - started):,.0f}"
    target.dispose()
    return figures


def _copy_tree(source: Path, target: Path) -> None:

    shutil.copytree(source, target)


if __name__ == "__main__":
    main()
