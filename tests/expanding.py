"""What a migration that says it only expands must not have done, found by what the database says of itself."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    Table,
    UniqueConstraint,
    delete,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.types import Boolean, DateTime, Integer, LargeBinary, Numeric

from tenantry.storage.migrating import migrate

_CHANGES = re.compile(
    r'\s*(INSERT INTO|UPDATE|DELETE FROM)\s+"?(\w+)"?(?:\s+SET\s+(.*?)(?:\sWHERE\s.*)?$)?', re.IGNORECASE | re.DOTALL
)
_SET = re.compile(r'"?(\w+)"?\s*=')
# Alembic's own notes, ours of them, and the copies by which SQLite's tables are changed.
_OWN = re.compile(r"alembic_version|meta|_alembic_tmp_\w+")


def expand(engine: Engine, revision: str) -> list[str]:
    """Migrate to this revision, one step; everything about it that a version before it would not survive."""
    before = schema_of(engine)
    with _heard(engine) as statements:
        migrate(engine, revision)
    after = schema_of(engine)
    found = [fault for table in before.tables.values() for fault in _of_table(table, after)]
    found += [fault for table in after.tables.values() if table.name not in before.tables for fault in _of_new(table)]
    found += [fault for one in statements for fault in _of_statement(one, before, after)]
    return found or _of_use(engine, before)


def schema_of(engine: Engine) -> MetaData:
    found = MetaData()
    found.reflect(engine)
    return found


@contextmanager
def _heard(engine: Engine) -> Generator[list[str]]:
    statements: list[str] = []

    def hear(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", hear)
    yield statements
    event.remove(engine, "before_cursor_execute", hear)


def _of_table(table: Table, after: MetaData) -> list[str]:
    now = after.tables.get(table.name)
    if now is None:
        return [f"{table.name} is gone"]
    found = [fault for column in table.columns for fault in _of_column(column, now)]
    found += [
        f"{table.name}.{column.name} has to be given, and earlier versions do not know it"
        for column in now.columns
        if column.name not in table.columns and not column.nullable and column.server_default is None
    ]
    if _uniques(now) - _uniques(table):
        found.append(f"{table.name} takes less than before: {sorted(_uniques(now) - _uniques(table))} is unique")
    more = _references(now) - _references(table)
    found += [f"{table.name} refers to more than before: {key}" for key in more if key[0] in table.c]
    return found


def _of_column(column: Column[Any], now: Table) -> list[str]:
    name = f"{now.name}.{column.name}"
    found = now.columns.get(column.name)
    if found is None:
        return [f"{name} is gone"]
    faults: list[str] = []
    if str(found.type) != str(column.type) and not _is_wider(found, column):
        faults.append(f"{name} is {found.type} and no longer {column.type}")
    if found.nullable != column.nullable:
        faults.append(f"{name} may {'' if found.nullable else 'not '}be NULL now")
    if column.server_default is not None and found.server_default is None:
        faults.append(f"{name} has no default any more")
    if found.primary_key != column.primary_key:
        faults.append(f"{name} is part of another key")
    return faults


def _is_wider(found: Column[Any], before: Column[Any]) -> bool:
    lengths = [getattr(one.type, "length", None) for one in (found, before)]
    return type(found.type) is type(before.type) and None not in lengths and lengths[0] > lengths[1]


def _uniques(table: Table) -> set[tuple[str, ...]]:
    found = [one.columns for one in table.constraints if isinstance(one, UniqueConstraint)]
    found += [one.columns for one in table.indexes if one.unique]
    return {tuple(sorted(column.name for column in columns)) for columns in found}


def _references(table: Table) -> set[tuple[str, str]]:
    return {(one.parent.name, one.target_fullname) for one in table.foreign_keys}


def _of_new(table: Table) -> list[str]:
    return [
        f"{table.name}.{one.parent.name} keeps earlier versions from deleting a row of {one.column.table.name}"
        for one in table.foreign_keys
        if one.ondelete not in ("CASCADE", "SET NULL")
    ]


def _of_statement(statement: str, before: MetaData, after: MetaData) -> list[str]:
    told = _CHANGES.match(statement)
    if told is None or _OWN.fullmatch(told[2]) or told[2] not in before.tables:
        return []
    if told[1].upper() == "UPDATE" and told[2] in after.tables:
        written, known = set(_SET.findall(told[3] or "")), before.tables[told[2]].columns
        if written and not any(name in known for name in written):
            return []
    return [f"it changes rows of {told[2]}, which earlier versions read: {statement.strip()[:80]}"]


def _of_use(engine: Engine, before: MetaData) -> list[str]:
    """A row of each table, written, read, changed and deleted as an earlier version does; rolled back."""
    with engine.connect() as connection:
        try:
            _use(connection, before)
        except Exception as error:  # noqa: BLE001 -- whatever it is, an earlier version would have met it
            return [str(error).splitlines()[0]]
        finally:
            connection.rollback()
    return []


def _use(connection: Connection, before: MetaData) -> None:
    tables = [table for table in before.sorted_tables if not _OWN.fullmatch(table.name)]
    rows: dict[str, dict[str, Any]] = {}
    for table in reversed(tables):
        connection.execute(delete(table))
    for table in tables:
        row = rows[table.name] = {column.name: _value(column, rows) for column in table.columns}
        connection.execute(insert(table).values(row))
    for table in tables:
        (read,) = connection.execute(select(table)).mappings()
        assert read.keys() == rows[table.name].keys()
        connection.execute(update(table).values(dict(rows[table.name])))
    for table in reversed(tables):
        connection.execute(delete(table))


def _value(column: Column[Any], rows: dict[str, dict[str, Any]]) -> Any:
    for one in column.foreign_keys:
        parent = rows.get(one.column.table.name)
        return parent[one.column.name] if parent is not None else None
    kind = column.type
    if isinstance(kind, Boolean):
        return True
    if isinstance(kind, Integer | Numeric):
        return 1
    if isinstance(kind, DateTime):
        return datetime(2026, 11, 29, tzinfo=UTC)
    return b"1" if isinstance(kind, LargeBinary) else "1"
