"""A week or month of the ledger as a file: every row, corrections as lines of their own, sums equal to the nano.

Rows are streamed, never held; a file appears whole under its name, or not at all. docs/exports.md lists the columns:
they are a promise, so new ones are only ever added at the end.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, Engine, Select, func, select

from tenantry.domain.periods import Period
from tenantry.domain.spreadsheets import guarded
from tenantry.domain.values import value
from tenantry.ledger.rollup import TOKEN_CLASSES
from tenantry.regular_files import sync_folder
from tenantry.storage.database import reading, streamed, values_of
from tenantry.storage.tables import gateway_keys, ledger, tenants, usage_rollup

_ROWS_AT_ONCE = 2000

TEXT, COUNT, TIME, USD, FLAG = "text", "count", "time", "usd", "flag"
COLUMNS: dict[str, str] = {
    "tenant": TEXT,
    "ended_at": TIME,
    "begun_at": TIME,
    "request_id": TEXT,
    "attempt_id": TEXT,
    "adjusts": TEXT,
    "upstream_request_id": TEXT,
    "key_id": TEXT,
    "model_requested": TEXT,
    "model_served": TEXT,
    "streaming": FLAG,
    "status": COUNT,
    "outcome": TEXT,
    "stop_reason": TEXT,
    "error": TEXT,
    **dict.fromkeys(TOKEN_CLASSES, COUNT),
    "cost_nanos": COUNT,
    "cost_usd": USD,
    "price_version": TEXT,
    "row_hash": TEXT,
    "slot": TEXT,
}


class SumsDiffer(Exception):
    """The rows do not add up to the ledger's sums; nothing was written. `tenantry ledger verify` says where."""


@value
class Exported:
    """One file that was written. `tenant_id` is None for all tenants."""

    path: Path
    tenant_id: str | None
    row_count: int
    cost_nanos: int
    sha256: str


@value
class Wanted:
    """One file to write: `name` without its folder."""

    name: str
    tenant_id: str | None


def file_name(period: Period, slug: str | None, form: str) -> str:
    """`usage-2026-W47-acme.csv`; without the slug, all tenants."""
    return f"usage-{period.label}{f'-{slug}' if slug is not None else ''}.{form}"


Write = Callable[[IO[bytes], Period, Iterator[dict[str, Any]]], None]


def write_exports(
    engine: Engine,
    period: Period,
    wanted: Iterable[Wanted],
    folder: Path,
    write: Write,
    came: Callable[[float], None] = lambda share: None,
) -> list[Exported]:
    """Write files for one period, all as the ledger was at one moment. `came` is told the share of rows that is done.

    Raises:
        SumsDiffer: the rows contradict the roll-up; earlier files of the call stay.
        OSError: the disk refused; that file is not there, or as it was.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = list(wanted)
    with reading(engine) as connection:
        booked = [_booked(connection, period, one.tenant_id) for one in files]
        passed = _Passed(sum(rows for rows, _ in booked), came)
        return [
            _write_one(connection, period, one, folder, write, sums, passed)
            for one, sums in zip(files, booked, strict=True)
        ]


@dataclass(slots=True)
class _Passed:
    """How many of `rows` have been written, of all files together."""

    rows: int
    came: Callable[[float], None]
    done: int = 0

    def add(self) -> None:
        self.done += 1
        if not self.done % _ROWS_AT_ONCE:
            self.came(min(1.0, self.done / max(1, self.rows)))


def _write_one(
    connection: Connection,
    period: Period,
    wanted: Wanted,
    folder: Path,
    write: Write,
    booked: tuple[int, int],
    passed: _Passed,
) -> Exported:
    tally = _Tally(passed)
    path = folder / wanted.name
    with replacing(path) as file:
        with streamed(connection, _query(period, wanted.tenant_id), _ROWS_AT_ONCE) as rows:
            write(file, period, tally.count(map(_line, rows)))
        if (tally.rows, tally.nanos) != booked:
            raise SumsDiffer((SumsDiffer.__doc__ or "").strip())
        digest = _digest(file)
    return Exported(path, wanted.tenant_id, tally.rows, tally.nanos, digest)


@contextmanager
def replacing(path: Path) -> Generator[IO[bytes]]:
    """A file for its owner only that takes its name when it is whole and on the disk; an error leaves no trace."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with open(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@dataclass(slots=True)
class _Tally:
    """What passed by, into one file."""

    passed: _Passed
    rows: int = 0
    nanos: int = 0

    def count(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in rows:
            self.rows += 1
            self.nanos += row["cost_nanos"] or 0
            self.passed.add()
            yield row


def _query(period: Period, tenant_id: str | None) -> Select[*tuple[Any, ...]]:
    query = (
        _read()
        .where(ledger.c.ended_at_us >= period.start_us, ledger.c.ended_at_us < period.end_us)
        .order_by(ledger.c.ended_at_us, ledger.c.entry_id)
    )
    if tenant_id is not None:
        query = query.where(ledger.c.tenant_id == tenant_id)
    return query


def export_lines(connection: Connection, entry_ids: Collection[int]) -> list[dict[str, Any]]:
    """Some rows by their numbers, newest first, as an export has them."""
    newest = (ledger.c.ended_at_us.desc(), ledger.c.entry_id.desc())
    query = _read().where(ledger.c.entry_id.in_(entry_ids)).order_by(*newest)
    return list(map(_line, values_of(connection.execute(query))))


def _read() -> Select[*tuple[Any, ...]]:
    plain = [ledger.c[name] for name in COLUMNS if name in ledger.c]
    return (
        select(
            ledger.c.tenant_id, ledger.c.ended_at_us, ledger.c.begun_at_us, tenants.c.slug, gateway_keys.c.slot, *plain
        )
        .outerjoin(tenants, tenants.c.tenant_id == ledger.c.tenant_id)
        .outerjoin(gateway_keys, gateway_keys.c.key_id == ledger.c.key_id)
    )


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    nanos = row["cost_nanos"]
    made = {
        "tenant": row["slug"] or row["tenant_id"],  # a tenant whose provisioning failed is no longer there
        "ended_at": _time(row["ended_at_us"]),
        "begun_at": _time(row["begun_at_us"]),
        "cost_usd": Decimal(nanos).scaleb(-9) if nanos is not None else None,
        "slot": row["slot"] or None,
    }
    return {name: made[name] if name in made else row[name] for name in COLUMNS}


def _time(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).replace(microsecond=at_us % 1_000_000)


def _booked(connection: Connection, period: Period, tenant_id: str | None) -> tuple[int, int]:
    """How many rows the roll-up has for the period, and their cost."""
    columns = usage_rollup.c
    query = select(func.sum(columns.attempts + columns.adjustments), func.sum(columns.cost_nanos)).where(
        columns.quarter_us >= period.start_us, columns.quarter_us < period.end_us
    )
    if tenant_id is not None:
        query = query.where(columns.tenant_id == tenant_id)
    rows, nanos = connection.execute(query).one()
    return int(rows or 0), int(nanos or 0)


def _digest(file: IO[bytes]) -> str:
    file.flush()
    file.seek(0)
    digest = sha256()
    while part := file.read(1 << 20):
        digest.update(part)
    return digest.hexdigest()


# CSV


class _Utf8:
    """Text into a binary file, for the csv module."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())


def write_csv(file: IO[bytes], _period: Period, rows: Iterator[dict[str, Any]]) -> None:
    """RFC 4180 in UTF-8, safe to open in a spreadsheet."""
    writer = csv.writer(_Utf8(file))
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(_cells(row))


def csv_line(row: Mapping[str, Any]) -> bytes:
    """One line of such a file."""
    text = io.StringIO()
    csv.writer(text).writerow(_cells(row))
    return text.getvalue().encode()


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [_cell(COLUMNS[name], value) for name, value in row.items()]


def _cell(kind: str, value: Any) -> str:
    text = _text(kind, value)
    # Numbers may begin with a minus: a spreadsheet reads them as numbers, and so they must stay.
    return guarded(text) if kind == TEXT else text


def _text(kind: str, value: Any) -> str:
    if value is None:
        return ""
    if kind == TIME:
        return f"{value:%Y-%m-%dT%H:%M:%S.%f}Z"
    if kind == USD:
        return f"{value:.9f}"
    return ("true" if value else "false") if kind == FLAG else str(value)


# JSON


def write_json(file: IO[bytes], period: Period, rows: Iterator[dict[str, Any]]) -> None:
    """One object; a row a line, so that it can be read by line too."""
    head = {"period": period.label, "start": _iso(period.start_us), "end": _iso(period.end_us)}
    file.write(json.dumps(head).encode()[:-1] + b', "rows": [')
    separator = b"\n"
    for row in rows:
        file.write(separator + json.dumps(_json_row(row), ensure_ascii=False).encode())
        separator = b",\n"
    file.write(b"\n]}\n")


def _json_row(row: dict[str, Any]) -> dict[str, Any]:
    as_text = (TIME, USD)
    return {
        name: _text(COLUMNS[name], value) if value is not None and COLUMNS[name] in as_text else value
        for name, value in row.items()
    }


def _iso(at_us: int) -> str:
    return _text(TIME, _time(at_us))
