"""Lines of a journal, as they are read: `<crc32 as 8 hex digits> <JSON>` and LF.

Nearly every line can be booked as it stands. Those are decoded straight into `BeginLine` and `EndLine`, whose types say
what the ledger's columns take, so that a check of its own is not needed (msgspec looks at bounds as it decodes). Every
other line is decoded by `decode_line` into an event of `domain/attempts`; `rows.unfit` then says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tenantry.domain.attempts import (
    BASIS_USAGE,
    AttemptBegun,
    AttemptEnded,
    AttemptProgress,
    KeyUse,
    Outcome,
    RefusalCount,
    RefusedRequest,
    Tally,
)
from tenantry.domain.settlement import COST_NANOS_MAX
from tenantry.domain.usage import Iteration, Usage

LF = 0x0A
CHECKSUM_BYTES = 9  # eight digits and a blank
BEGIN_START = b'{"begin":'
PROGRESS_START = b'{"progress":'
END_START = b'{"end":'
TALLY_START = b'{"tally":'
# A line without it has no text that needs an escape, and none that holds a NUL, which no column takes.
ESCAPE = b"\\"
_NUL = "\0"

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
    queue_wait_us: _TimeUs | None = None
    traceparent: str | None = None


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


def has_nul(end: EndLine) -> bool:
    """Whether a text of the line holds a NUL. To look for its escape in the line takes three times as long."""
    return (
        _NUL in end.usage_raw
        or _NUL in (end.upstream_request_id or "")
        or _NUL in (end.model_served or "")
        or _NUL in (end.stop_reason or "")
        or _NUL in (end.price_version or "")
        or (end.error is not None and _NUL in end.error)
        or (bool(end.flaws) and any(_NUL in flaw for flaw in end.flaws))
    )


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


# Of any other line: the events as they are written, with what lines of older versions have none of. Apart from the
# events themselves, for those are compiled, and msgspec fills no class that is.


class _Iteration(msgspec.Struct):
    type: str
    model: str | None
    input_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    cache_read_tokens: int
    output_tokens: int


class _Usage(msgspec.Struct):
    input_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    web_search_requests: int = 0
    web_fetch_requests: int = 0
    speed: str = "standard"
    inference_geo: str = "global"
    service_tier: str = "standard"
    iterations: tuple[_Iteration, ...] = ()


class _Begun(msgspec.Struct):
    attempt_id: str
    request_id: str
    tenant_id: str
    key_id: str
    credential_id: str
    upstream_id: str
    model_requested: str
    streaming: bool
    begun_at_us: int
    bound_nanos: int = 0
    speed: str = "standard"
    inference_geo: str = "global"
    output_nanos: int = 0
    output_tokens: int = 0
    output_tokens_max: int = 0
    queue_wait_us: int | None = None
    traceparent: str | None = None


class _Progress(msgspec.Struct):
    attempt_id: str
    model_served: str
    usage: _Usage
    upstream_request_id: str | None = None
    held_nanos: int = 0


class _Ended(msgspec.Struct):
    attempt_id: str
    ended_at_us: int
    first_byte_at_us: int | None
    status: int | None
    outcome: Outcome
    model_served: str | None
    stop_reason: str | None
    usage: _Usage
    usage_raw: str
    cost_nanos: int | None
    price_version: str | None
    upstream_request_id: str | None
    error: str | None
    saved_nanos: int | None = None
    basis: str = BASIS_USAGE
    flaws: tuple[str, ...] = ()
    held_nanos: int | None = None


class _Refusals(msgspec.Struct):
    tenant_id: str
    reason: str
    count: int
    last_at_us: int


class _KeyUse(msgspec.Struct):
    key_id: str
    at_us: int
    address: str
    agent: str


class _Refused(msgspec.Struct):
    request_id: str
    tenant_id: str
    key_id: str
    at_us: int
    status: int
    error: str
    reason: str
    model: str


class _Tally(msgspec.Struct):
    refusals: list[_Refusals]
    keys: list[_KeyUse]
    recent: list[_Refused] = []


class _Line(msgspec.Struct):
    begin: _Begun | None = None
    progress: _Progress | None = None
    end: _Ended | None = None
    tally: _Tally | None = None


_decode = msgspec.json.Decoder(_Line).decode
# What becomes which value of the domain, member by member in their order; a test holds them equal.
SHAPES: dict[type[msgspec.Struct], Callable[..., Any]] = {
    _Iteration: Iteration,
    _Usage: Usage,
    _Begun: AttemptBegun,
    _Progress: AttemptProgress,
    _Ended: AttemptEnded,
    _Refusals: RefusalCount,
    _KeyUse: KeyUse,
    _Refused: RefusedRequest,
    _Tally: Tally,
    BeginLine: AttemptBegun,
}


def _value_of(told: Any) -> Any:
    """The value of the domain that was told, with all that is in it."""
    if isinstance(told, msgspec.Struct):
        return SHAPES[type(told)](*[_value_of(member) for member in msgspec.structs.astuple(told)])
    if isinstance(told, list | tuple):
        members: list[Any] = [_value_of(member) for member in told]  # pyright: ignore[reportUnknownVariableType] -- of any kind
        return tuple(members) if isinstance(told, tuple) else members
    return told


def decode_line(line: bytes) -> Event | None:
    """The event of a whole line; None where it is none that this version knows."""
    try:
        decoded = _decode(line[CHECKSUM_BYTES:-1])
    except UNREADABLE:
        return None
    return _value_of(decoded.begin or decoded.progress or decoded.end or decoded.tally)


def event_of(begun: Begun) -> AttemptBegun:
    """The same as a value of the domain."""
    if isinstance(begun, AttemptBegun):
        return begun
    return _value_of(begun)


_ATTEMPT_ID = re.compile(rb'"attempt_id":"([^"\\]{1,64})"')


def attempt_named_in(line: bytes) -> str | None:
    """The attempt that a line ends which is no event; None where it ends none."""
    found = _ATTEMPT_ID.search(line) if line.startswith(END_START, CHECKSUM_BYTES) else None
    return found.group(1).decode("utf-8", "replace") if found is not None else None
