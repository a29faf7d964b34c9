"""Exports as Parquet. Importing this needs the extra: `pip install 'tenantry[parquet]'`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from typing import IO, Any

from tenantry.domain.periods import Period
from tenantry.ledger.exports import COLUMNS, COUNT, FLAG, TEXT, TIME, USD

# It has no types of its own.
_arrow: Any = import_module("pyarrow")
_parquet: Any = import_module("pyarrow.parquet")

# A row group is what is held in memory at once.
_GROUP_ROWS = 20_000

_TYPES: dict[str, Any] = {
    TEXT: _arrow.string(),
    COUNT: _arrow.int64(),
    TIME: _arrow.timestamp("us", tz="UTC"),
    USD: _arrow.decimal128(28, 9),
    FLAG: _arrow.bool_(),
}


def write_parquet(file: IO[bytes], period: Period, rows: Iterator[dict[str, Any]]) -> None:
    """The columns of docs/exports.md, typed; texts as they are, for no spreadsheet runs them."""
    schema = _arrow.schema(
        [(name, _TYPES[kind]) for name, kind in COLUMNS.items()], metadata={"tenantry.period": period.label}
    )
    with _parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(rows, _GROUP_ROWS)):
            writer.write_table(_arrow.Table.from_pylist(group, schema=schema))
