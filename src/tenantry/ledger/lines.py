"""Lines of a journal, as they are read: `<crc32 as 8 hex digits> <JSON>` and LF.

Nearly every line can be booked as it stands. Those are decoded straight into `BeginLine` and `EndLine`, whose types say
what the ledger's columns take, so that a check of its own is not needed (msgspec looks at bounds as it decodes). Every
other line is decoded by `decode_line` into an event of `domain/attempts`; `rows.unfit` then says what is wrong with it.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, cast

import msgspec
from msgspec import Meta

from tenantry.domain.attempts import BASIS_USAGE, AttemptBegun, AttemptEnded, AttemptProgress, Tally
from tenantry.domain.settlement import COST_NANOS_MAX

LF = 0x0A
CHECKSUM_BYTES = 9  # eight digits and a blank
BEGIN_START = b'{"begin":'
PROGRESS_START = b'{"progress":'
END_START = b'{"end":'
TALLY_START = b'{"tally":'
# A line without it has no text that needs an escape, and none that holds a NUL, which no column takes.
ESCAPE = b"\\"
NUL_ESCAPED = b"\\u0000"

# A thousand times the largest prompt and answer that are sold; as many rows as a quarter of an hour can hold still sum
# up below 2^63 (a sum beyond it would stop every booking after it).
COUNT_MAX = 10**12
NANOS_MAX = COST_NANOS_MAX
# The first day that no calendar of Python's can write, as unix microseconds: exports and stories print times.
TIME_US_END = 253_402_300_800_000_000
STATUS_MAX = 999
# What upstreams make up is kept to this; PostgreSQL's index takes no more than 2,704 bytes.
TOLD_CHARS_MAX = 500

# Lengths of the ledger's columns (`storage/tables.py`); a test holds them equal.
_EntryId = Annotated[str, Meta(max_length=48)]
_HolderId = Annotated[str, Meta(max_length=40)]
_Told = Annotated[str, Meta(max_length=TOLD_CHARS_MAX)]
_Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
_Nanos = Annotated[int, Meta(ge=0, le=NANOS_MAX)]
_TimeUs = Annotated[int, Meta(ge=0, lt=TIME_US_END)]
# `Outcome` as text: an enum's value takes a tenth of the time of a whole row to ask for.
_Outcome = Literal["settled", "voided", "estimated", "orphaned", "unpriced", "adjusted"]


class BeginLine(msgspec.Struct, gc=False, frozen=True):
    """`AttemptBegun`, whose row its columns take as it is, and whose texts need no escape."""

    attempt_id: _EntryId
    request_id: _EntryId
    tenant_id: _HolderId
    key_id: _HolderId
    credential_id: _HolderId
    upstream_id: _HolderId
    model_requested: _Told
    streaming: bool
    begun_at_us: _TimeUs
    bound_nanos: int = 0
    speed: str = "standard"
    inference_geo: str = "global"
    output_nanos: int = 0
    output_tokens: int = 0
    output_tokens_max: int = 0


class UsageCounts(msgspec.Struct, gc=False, frozen=True):
    """What a row keeps of `Usage`; its other members are in `usage_raw`."""

    input_tokens: _Count = 0
    cache_write_5m_tokens: _Count = 0
    cache_write_1h_tokens: _Count = 0
    cache_read_tokens: _Count = 0
    output_tokens: _Count = 0
    thinking_tokens: _Count = 0
    web_search_requests: _Count = 0
    web_fetch_requests: _Count = 0


class EndLine(msgspec.Struct, gc=False, frozen=True):
    """`AttemptEnded`, whose row its columns take as it is."""

    attempt_id: _EntryId
    ended_at_us: _TimeUs
    first_byte_at_us: _TimeUs | None
    status: Annotated[int, Meta(ge=0, le=STATUS_MAX)] | None
    outcome: _Outcome
    model_served: _Told | None
    stop_reason: _Told | None
    usage: UsageCounts
    usage_raw: str
    cost_nanos: _Nanos | None
    price_version: Annotated[str, Meta(max_length=32)] | None
    upstream_request_id: _Told | None
    error: _Told | None
    saved_nanos: Annotated[int, Meta(ge=-NANOS_MAX, le=NANOS_MAX)] | None = None
    basis: Literal["usage", "bound"] = BASIS_USAGE
    flaws: tuple[str, ...] = ()
    held_nanos: _Nanos | None = None

    @property
    def counted_nanos(self) -> int:
        """As `AttemptEnded.counted_nanos`."""
        return self.cost_nanos if self.cost_nanos is not None else self.held_nanos or 0


class _ProgressId(msgspec.Struct, gc=False):
    """Whose progress a line tells: a long stream has many, and the last one alone is ever read."""

    attempt_id: str


Begun = AttemptBegun | BeginLine
Ended = AttemptEnded | EndLine
Event = AttemptBegun | AttemptProgress | AttemptEnded | Tally

# What JSON that is none, or says something else, raises.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

decode_begin = msgspec.json.Decoder(BeginLine).decode
decode_end = msgspec.json.Decoder(EndLine).decode
decode_progress_id = msgspec.json.Decoder(_ProgressId).decode


class _Line(msgspec.Struct):
    begin: AttemptBegun | None = None
    progress: AttemptProgress | None = None
    end: AttemptEnded | None = None
    tally: Tally | None = None


_decode = msgspec.json.Decoder(_Line).decode


def decode_line(line: bytes) -> Event | None:
    """The event of a whole line; None where it is none that this version knows."""
    try:
        decoded = _decode(line[CHECKSUM_BYTES:-1])
    except UNREADABLE:
        return None
    return decoded.begin or decoded.progress or decoded.end or decoded.tally


def event_of(begun: Begun) -> AttemptBegun:
    """The same as a value of the domain."""
    if isinstance(begun, AttemptBegun):
        return begun
    return AttemptBegun(*cast("tuple[str, ...]", msgspec.structs.astuple(begun)))  # pyright: ignore[reportArgumentType] -- field by field the same


_ATTEMPT_ID = re.compile(rb'"attempt_id":"([^"\\]{1,64})"')


def attempt_named_in(line: bytes) -> str | None:
    """The attempt that a line ends which is no event; None where it ends none."""
    found = _ATTEMPT_ID.search(line) if line.startswith(END_START, CHECKSUM_BYTES) else None
    return found.group(1).decode("utf-8", "replace") if found is not None else None
