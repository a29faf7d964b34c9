"""A store's rows into an empty store of the other kind, in a way that may be killed at any moment and goes on.

While it is not whole, nothing opens the target: its schema says so (`schema.COPYING`). The tables that grow for ever go
first, in parts that are committed; all others, which change, in one transaction. Then a digest of every table is
compared. What the source says is never changed: sealed values and hashes are copied as the bytes they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    func,
    insert,
    literal_column,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy import false as sql_false
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.types import TypeEngine

from tenantry.storage.all_tables import ALL_TABLES
from tenantry.storage.cell_tables import gateways
from tenantry.storage.control_tables import controls
from tenantry.storage.database import reading, write_much
from tenantry.storage.migrating import migrate
from tenantry.storage.schema import COPYING, applied_revision, known_revisions, require_current_schema
from tenantry.storage.server import copy_rows, is_server
from tenantry.storage.tables import audit_log, ledger

# What a kill costs at most: about a second of work (measured: 25 us a row into SQLite, 45 us into PostgreSQL).
ROWS_AT_ONCE: Final = 10_000
# Rows are only ever added to these, by rising numbers.
GROWING: Final = (ledger, audit_log)
_DIGEST_BITS: Final = 256

# In the target as long as it is not whole; of no migration, for it is gone before anything else opens the store.
_marker = Table(
    "store_copy",
    MetaData(),
    Column("site", String(64), nullable=False),
    Column("has_all", Boolean, nullable=False, server_default=sql_false()),
)
_version = Table("alembic_version", MetaData(), Column("version_num", String(32)))

Told = Callable[[int], None]


class TargetTaken(Exception):
    """A site is in it already: name an empty database."""


class CopyDiffers(Exception):
    """A table of the copy is not what it is in the store that it is of. Nothing opens the copy."""


class RowRefused(Exception):
    """The database that the copy is for does not take a row. What was copied before it stays there."""


class Digest(NamedTuple):
    """Of all rows of a table, in whatever order they come: each counts as often as it is there."""

    rows: int
    sum: int


def tables() -> Sequence[Table]:
    """All, those that others refer to first."""
    return ALL_TABLES.sorted_tables


def count_rows(connection: Connection) -> int:
    return sum(connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables())


def site_of(connection: Connection) -> str:
    """What tells a site from every other: the hash of the first thing that was done in it, with who, where and when."""
    query = select(audit_log.c.row_hash).order_by(audit_log.c.audit_id).limit(1)
    return connection.execute(query).scalar() or ""


def prepare(target: Engine, site: str) -> bool:
    """Make the target ready for the rows of this site; whether it has some already, of a copy that was not finished.

    Raises:
        TargetTaken: another site is in it, or this one, whole.
        MigrationBroken: its schema cannot be made.
        StoreLater: a later version has made it.
    """
    with target.connect() as connection:
        revision = applied_revision(connection)
        if revision == COPYING:
            begun = connection.execute(select(_marker.c.site)).scalar_one()
            if begun != site:
                raise TargetTaken("there is the unfinished copy of another site in it: name an empty database")
            return True
    migrate(target)
    require_current_schema(target)
    with target.begin() as connection:
        if site_of(connection) == site and site:
            raise TargetTaken("this site is in it already, as it was at some time: name an empty database")
        # What migrations write themselves stands in `meta`, and goes with the rows of the site's own.
        if any(connection.execute(select(table).limit(1)).first() for table in tables() if table.name != "meta"):
            raise TargetTaken((TargetTaken.__doc__ or "").strip())
        _marker.create(connection)
        connection.execute(insert(_marker).values(site=site))
        connection.execute(update(_version).values(version_num=COPYING))
    return False


def begin_again(target: Engine) -> None:
    """The rows of an unfinished copy are taken out: the source is not what it was when they were copied."""
    with target.begin() as connection:
        for table in reversed(tables()):
            connection.execute(table.delete())
        connection.execute(update(_marker).values(has_all=False))


def copy(source: Connection, target: Engine, told: Told) -> None:
    """Every row that is not there yet. `told` is called with the number of rows that came to be there."""
    with _writing(target) as connection:
        if connection.execute(select(_marker.c.has_all)).scalar_one():
            told(count_rows(source))
            return
    for table in GROWING:
        _append(source, target, table, told)
    with _writing(target) as connection:
        for table in tables():
            if table not in GROWING:
                connection.execute(table.delete())  # what migrations wrote
                for rows in _parts(source, table, None):
                    _insert(connection, table, rows)
                    told(len(rows))
        connection.execute(update(_marker).values(has_all=True))


def _append(source: Connection, target: Engine, table: Table, told: Told) -> None:
    number = _number_of(table)
    with target.connect() as connection:
        last, there = connection.execute(select(func.max(number), func.count()).select_from(table)).one()
    told(there)
    for rows in _parts(source, table, last):
        with _writing(target) as connection:
            _insert(connection, table, rows)
        told(len(rows))


@contextmanager
def _writing(engine: Engine) -> Generator[Connection]:
    with engine.begin() as connection:
        write_much(connection)
        yield connection


def _number_of(table: Table) -> Column[Any]:
    return next(iter(table.primary_key.columns))


def _parts(source: Connection, table: Table, behind: int | None) -> Iterator[Sequence[Any]]:
    """The rows of a table, some thousand at a time; of one that grows, those `behind` this number, in order."""
    query = select(table)
    if table in GROWING:
        query = query.order_by(_number_of(table))
    if behind is not None:
        query = query.where(_number_of(table) > behind)
    times = _places(table, DateTime)
    with source.execute(query, execution_options={"yield_per": ROWS_AT_ONCE}) as result:
        for part in result.partitions():
            rows = [list(row) for row in part]
            for row in rows if times else ():
                for place in times:
                    row[place] = _in_utc(row[place])
            yield rows


def _places(table: Table, kind: type[TypeEngine[Any]]) -> list[int]:
    return [place for place, one in enumerate(table.columns) if isinstance(one.type, kind)]


def _insert(connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> None:
    """Raises: RowRefused: a value is none for this database, such as a text that is longer than its column."""
    names = [column.name for column in table.columns]
    try:
        if is_server(connection):
            copy_rows(connection, table.name, names, rows)
        else:
            connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows])
    except (DataError, IntegrityError) as error:
        raise RowRefused(f"a row of the table {table.name} is refused: {str(error.orig).splitlines()[0]}") from error


def require_same(source: Connection, target: Engine, told: Told) -> dict[str, Digest]:
    """The digest of each table, of both. `told` is called with the number of rows that were read of either.

    Raises:
        CopyDiffers: one is not as the other; which, and in what.
    """
    found: dict[str, Digest] = {}
    with reading(target) as connection:
        for table in tables():
            ours, theirs = digest_of(source, table, told), digest_of(connection, table, told)
            if ours != theirs:
                what = f"{theirs.rows} rows for {ours.rows}" if ours.rows != theirs.rows else "other values"
                raise CopyDiffers(f"the table {table.name} of the copy has {what}")
            found[table.name] = ours
    return found


def digest_of(connection: Connection, table: Table, told: Told = lambda count: None) -> Digest:
    """Of values and their types, alike in both databases: a time is UTC, a truth value the number that is there."""
    columns = [type_coerce(one, Integer) if isinstance(one.type, Boolean) else one for one in table.columns]
    times, truths = _places(table, DateTime), _places(table, Boolean)
    count = total = 0
    with connection.execute(select(*columns), execution_options={"yield_per": ROWS_AT_ONCE}) as result:
        for part in result.partitions():
            for row in part:
                values = list(row)
                for place in times:
                    values[place] = _in_utc(values[place])
                for place in truths:
                    values[place] = int(values[place]) if isinstance(values[place], bool) else values[place]
                total += int.from_bytes(hashlib.sha256(repr(values).encode("utf-8", "surrogatepass")).digest())
            count += len(part)
            told(len(part))
    return Digest(count, total % (1 << _DIGEST_BITS))


def _in_utc(at: object) -> object:
    """A time of SQLite's, which is UTC without saying so, or of PostgreSQL's."""
    if not isinstance(at, datetime):
        return at
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def finish(target: Engine) -> None:
    """The copy is a store from now on. No process of the site runs, and leases are of the other store's clock."""
    with target.begin() as connection:
        connection.execute(update(gateways).values(lease_until_us=0))
        connection.execute(update(controls).values(lease_until_us=0))
        if is_server(connection):
            for table in tables():
                _go_on_counting(connection, table)
        _marker.drop(connection)
        connection.execute(update(_version).values(version_num=known_revisions()[0]))
    if target.dialect.name == "postgresql":
        with target.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))  # or its first reports are planned as for empty tables


def _go_on_counting(connection: Connection, table: Table) -> None:
    """The next number of a table that counts is the one behind its last, as on SQLite."""
    column = table.autoincrement_column
    if column is None or not isinstance(column.type, BigInteger):
        return
    sequence = connection.execute(select(func.pg_get_serial_sequence(table.name, column.name))).scalar()
    if sequence is not None:
        last = select(func.max(column)).scalar_subquery()
        none_yet = last.is_(None)
        connection.execute(select(func.setval(sequence, func.coalesce(last, literal_column("1")), ~none_yet)))
