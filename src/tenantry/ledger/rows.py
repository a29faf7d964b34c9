"""A row of the ledger: how it is made of an attempt, whether it fits its columns, and its hash."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from json.encoder import encode_basestring as _quoted
from typing import Any

from sqlalchemy import Connection, Dialect, String, insert

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, Tally
from tenantry.domain.settlement import COST_NANOS_MAX
from tenantry.ledger.rollup import TOKEN_CLASSES
from tenantry.storage.tables import gateway_keys, ledger, refusals

FIRST_HASH = "0" * 64

# A thousand times the largest prompt and answer that are sold; as many rows as a quarter of an hour can hold still sum
# up below 2^63 (a sum beyond it would stop every booking after it).
COUNT_MAX = 10**12
NANOS_MAX = COST_NANOS_MAX
# The first day that no calendar of Python's can write, as unix microseconds: exports and stories print times.
TIME_US_END = 253_402_300_800_000_000
STATUS_MAX = 999
# What upstreams make up is kept to this; PostgreSQL's index takes no more than 2,704 bytes.
TOLD_CHARS_MAX = 500

_NANOS = ("cost_nanos", "held_nanos")
_TIMES = ("begun_at_us", "first_byte_at_us", "ended_at_us")
# Above the smallest and below the largest value of each number; a missing value is none.
_RANGES: tuple[tuple[str, int, int], ...] = (
    *((name, 0, COUNT_MAX) for name in TOKEN_CLASSES),
    *((name, 0, NANOS_MAX) for name in _NANOS),
    *((name, 0, TIME_US_END - 1) for name in _TIMES),
    ("saved_nanos", -NANOS_MAX, NANOS_MAX),
    ("status", 0, STATUS_MAX),
)
_LENGTHS = tuple(
    (column.name, column.type.length)
    for column in ledger.columns
    if isinstance(column.type, String)
    and column.type.length
    and column.name not in ("row_hash", "prev_hash", "adjusts")
)
_AGENT_CHARS_MAX = 200
# What `row_of` fills, in its order: all but the row's number, and what only corrections have.
COLUMNS = tuple(column.name for column in ledger.columns if column.name not in ("entry_id", "adjusts"))


def row_of(begun: AttemptBegun, end: AttemptEnded) -> dict[str, Any]:
    """The row of an attempt, in the order of the table's columns; its place in a chain is still empty."""
    usage = end.usage
    return {
        "attempt_id": begun.attempt_id,
        "request_id": begun.request_id,
        "upstream_request_id": _told(end.upstream_request_id),
        "tenant_id": begun.tenant_id,
        "key_id": begun.key_id,
        "credential_id": begun.credential_id,
        "upstream_id": begun.upstream_id,
        "model_requested": _told(begun.model_requested),
        "model_served": _told(end.model_served),
        "streaming": begun.streaming,
        "input_tokens": usage.input_tokens,
        "cache_write_5m_tokens": usage.cache_write_5m_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
        "thinking_tokens": usage.thinking_tokens,
        "web_search_requests": usage.web_search_requests,
        "web_fetch_requests": usage.web_fetch_requests,
        "stop_reason": _told(end.stop_reason),
        "status": end.status,
        "begun_at_us": begun.begun_at_us,
        "first_byte_at_us": end.first_byte_at_us,
        "ended_at_us": end.ended_at_us,
        "outcome": end.outcome.value,
        "cost_nanos": end.cost_nanos,
        "price_version": end.price_version,
        "usage_raw": end.usage_raw.replace("\0", "\ufffd") if "\0" in end.usage_raw else end.usage_raw,
        "error": _told(end.error),
        "journal_run": "",
        "journal_seq": 0,
        "prev_hash": "",
        "row_hash": "",
        "saved_nanos": end.saved_nanos,
        "basis": end.basis,
        "held_nanos": end.held_nanos,
        "flaws": _told(",".join(end.flaws)) if end.flaws else None,
    }


class RowInsert:
    """The INSERT of rows that `row_of` made, compiled once: SQLAlchemy's own way binds each value of each row by name,
    which took a fifth of the whole drain (measured, 2026-11-25).
    """

    __slots__ = ("_is_positional", "_sql")

    def __init__(self, dialect: Dialect) -> None:
        compiled = insert(ledger).inline().compile(dialect=dialect, column_keys=list(COLUMNS))
        self._sql = str(compiled)
        self._is_positional = compiled.positional
        if compiled.positional and tuple(compiled.positiontup or ()) != COLUMNS:
            raise TypeError("the statement's values are not in the order of the table's columns")

    def __call__(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        if self._is_positional:
            connection.exec_driver_sql(self._sql, [tuple(row.values()) for row in rows])
        else:
            connection.exec_driver_sql(self._sql, list(rows))


def _told(text: str | None) -> str | None:
    """Text that an upstream or a client made up: a mark that no column takes must not cost the row."""
    if text is None:
        return None
    if len(text) > TOLD_CHARS_MAX:
        text = text[:TOLD_CHARS_MAX]
    return text.replace("\0", "\ufffd") if "\0" in text else text


def unfit(row: Mapping[str, Any]) -> str | None:
    """Why a row cannot be booked; None when it can."""
    for name, low, high in _RANGES:
        number = row[name]
        if number is not None and not low <= number <= high:
            return f"{name} is out of range"
    for name, length in _LENGTHS:
        text = row.get(name)
        if text is not None and (len(text) > length or "\0" in text):
            return f"{name} does not fit its column"
    return None


def unfit_tally(tally: Tally) -> str | None:
    """The same for totals."""
    reason_chars = _length(refusals.c.reason.type)
    tenant_chars = _length(refusals.c.tenant_id.type)
    address_chars = _length(gateway_keys.c.last_used_address.type)
    for one in tally.refusals:
        if not (0 <= one.count <= COUNT_MAX and 0 <= one.last_at_us < TIME_US_END):
            return "a count or a time of a refusal is out of range"
        if not (_fits(one.reason, reason_chars) and _fits(one.tenant_id, tenant_chars)):
            return "a text of a refusal does not fit its column"
    for use in tally.keys:
        if not 0 <= use.at_us < TIME_US_END:
            return "the time of a key's use is out of range"
        if not (_fits(use.key_id, tenant_chars) and _fits(use.address, address_chars)):
            return "a text of a key's use does not fit its column"
        if not _fits(use.agent, _AGENT_CHARS_MAX):
            return "a key's user agent does not fit its column"
    return None


def _length(kind: object) -> int:
    return kind.length or 0 if isinstance(kind, String) else 0


def _fits(text: str, chars_max: int) -> bool:
    return len(text) <= chars_max and "\0" not in text


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


# Made once: `json.dumps` makes one for each call, a tenth of a row's cost.
_HASHED = json.JSONEncoder(sort_keys=True, ensure_ascii=False)


def row_hash(row: Mapping[str, Any]) -> str:
    """SHA-256 over every column but the row's own id and hash, the previous row's hash included.

    A column that came with a later schema enters only where it has a value, so that older rows keep their hash.
    """
    kept = {
        name: value
        for name, value in row.items()
        if name not in ("entry_id", "row_hash") and (value is not None or name in _NULLABLE_FROM_THE_FIRST)
    }
    return sha256(_HASHED.encode(kept).encode()).hexdigest()


def hash_of_booked(row: Mapping[str, Any]) -> str:
    """`row_hash` of a row that `row_of` made: the same text, out of a template, in a quarter of the time.

    A row costs some 25 us to book, and JSON with sorted names took 9 us of them (measured, 2026-11-25).
    """
    cost, first_byte, status = row["cost_nanos"], row["first_byte_at_us"], row["status"]
    # What came with later schemas enters only where it has a value.
    flaws = "" if row["flaws"] is None else f'"flaws": {_quoted(row["flaws"])}, '
    held = "" if row["held_nanos"] is None else f'"held_nanos": {row["held_nanos"]}, '
    saved = "" if row["saved_nanos"] is None else f'"saved_nanos": {row["saved_nanos"]}, '
    text = (
        f'{{"attempt_id": {_quoted(row["attempt_id"])}, "basis": {_quoted(row["basis"])}, '
        f'"begun_at_us": {row["begun_at_us"]}, "cache_read_tokens": {row["cache_read_tokens"]}, '
        f'"cache_write_1h_tokens": {row["cache_write_1h_tokens"]}, '
        f'"cache_write_5m_tokens": {row["cache_write_5m_tokens"]}, '
        f'"cost_nanos": {"null" if cost is None else cost}, "credential_id": {_quoted(row["credential_id"])}, '
        f'"ended_at_us": {row["ended_at_us"]}, "error": {_or_null(row["error"])}, '
        f'"first_byte_at_us": {"null" if first_byte is None else first_byte}, '
        f'{flaws}{held}"input_tokens": {row["input_tokens"]}, "journal_run": {_quoted(row["journal_run"])}, '
        f'"journal_seq": {row["journal_seq"]}, "key_id": {_quoted(row["key_id"])}, '
        f'"model_requested": {_quoted(row["model_requested"])}, "model_served": {_or_null(row["model_served"])}, '
        f'"outcome": {_quoted(row["outcome"])}, "output_tokens": {row["output_tokens"]}, '
        f'"prev_hash": "{row["prev_hash"]}", "price_version": {_or_null(row["price_version"])}, '
        f'"request_id": {_quoted(row["request_id"])}, '
        f'{saved}"status": {"null" if status is None else status}, "stop_reason": {_or_null(row["stop_reason"])}, '
        f'"streaming": {"true" if row["streaming"] else "false"}, "tenant_id": {_quoted(row["tenant_id"])}, '
        f'"thinking_tokens": {row["thinking_tokens"]}, "upstream_id": {_quoted(row["upstream_id"])}, '
        f'"upstream_request_id": {_or_null(row["upstream_request_id"])}, '
        f'"usage_raw": {_quoted(row["usage_raw"])}, "web_fetch_requests": {row["web_fetch_requests"]}, '
        f'"web_search_requests": {row["web_search_requests"]}}}'
    )
    return sha256(text.encode()).hexdigest()


def _or_null(text: str | None) -> str:
    return "null" if text is None else _quoted(text)
