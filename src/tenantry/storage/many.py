"""A statement for many rows at once, compiled once.

SQLAlchemy's own way binds each value of each row by name: a fifth of what booking took (measured, 2026-11-25), and
more where each row is of another tenant, with sums of its own. Here the driver gets the rows as they are.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Dialect, Insert, Row, Table, select

from tenantry.storage.server import copy_rows

# SQLite takes 32,766 values in a statement, PostgreSQL 65,535; each is bound by name, which takes its time too.
VALUES_AT_ONCE = 500


def insert_of(dialect: Dialect, table: Table) -> Any:
    """The INSERT of a dialect, which can say `on_conflict_do_update`: SQLite's or PostgreSQL's, alike to their callers.

    Only the one in use is loaded: PostgreSQL's takes 25 ms of every start (measured, 2026-11-29).
    """
    return importlib.import_module(f"sqlalchemy.dialects.{dialect.name}").insert(table)


def rows_where(
    connection: Connection, columns: Sequence[Any], column: Column[Any], values: Sequence[Any]
) -> Iterator[Row[*tuple[Any, ...]]]:
    """The rows in which `column` has one of these values, asked for some hundred at a time."""
    for first in range(0, len(values), VALUES_AT_ONCE):
        yield from connection.execute(select(*columns).where(column.in_(values[first : first + VALUES_AT_ONCE])))


class ManyRows:
    """`statement` for rows whose values are those of the columns `names`, in their order.

    A truth value is 1 or 0: SQLite's driver takes as long for True as for three other values.
    """

    __slots__ = ("_copied", "_is_positional", "_names", "_sql", "_truths")

    def __init__(self, dialect: Dialect, statement: Insert, names: Sequence[str], *, may_copy: bool = False) -> None:
        """`may_copy`: the statement is an INSERT and nothing more, for which PostgreSQL has COPY."""
        compiled = statement.inline().compile(dialect=dialect, column_keys=list(names))
        self._sql = str(compiled)
        self._names = tuple(names)
        self._truths = [name for name in names if isinstance(statement.table.c[name].type, Boolean)]
        self._copied = statement.table.name if may_copy and dialect.name == "postgresql" else None
        self._is_positional = compiled.positional
        if compiled.positional and tuple(compiled.positiontup or ()) != self._names:
            raise TypeError("the statement's values are not in the order of its columns")

    def execute(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        if not rows:
            return
        if self._copied is not None:
            copy_rows(connection, self._copied, self._names, rows)
            return
        if self._is_positional:
            connection.exec_driver_sql(self._sql, rows)
            return
        values = [dict(zip(self._names, row, strict=True)) for row in rows]
        for name in self._truths:
            for one in values:
                one[name] = bool(one[name])
        connection.exec_driver_sql(self._sql, values)
