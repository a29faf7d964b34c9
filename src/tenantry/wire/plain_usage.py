"""The usage of nearly every answer, read in one typed decode.

What is not plain in every respect is not read here: `domain.usage.read_usage` reads it member by member and says what
is wrong with it. Both read the same of what both read (tests/unit/wire/test_plain_usage.py).
"""

from __future__ import annotations

from typing import Final

import msgspec

from tenantry.domain.usage import Usage
from tenantry.wire.shapes import ToldUsage

_DECODER: Final = msgspec.json.Decoder(ToldUsage)

# Input, five-minute and one-hour writes to the cache, reads from it, output, thinking: the first six of `Usage`.
Counts = tuple[int, int, int, int, int, int]


def read_plain_counts(raw: bytes | msgspec.Raw, wants_1h: bool) -> Counts | None:
    """The tokens of a usage that is nothing but tokens, at standard speed and list price; None of any other.

    `wants_1h`: as for `read_usage`.
    """
    try:
        told = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if (
        told.speed == "fast"
        or told.inference_geo == "us"
        or (told.service_tier is not None and told.service_tier != "standard")
    ):
        return None
    tools, details = told.server_tool_use, told.output_tokens_details
    if tools is not None and (tools.web_search_requests or tools.web_fetch_requests):
        return None
    write_5m = write_1h = 0
    if told.cache_creation_input_tokens or told.cache_creation is not None:
        write_5m, write_1h = _cache_writes(told, wants_1h)
    return (
        told.input_tokens,
        write_5m,
        write_1h,
        told.cache_read_input_tokens or 0,
        told.output_tokens,
        (details.thinking_tokens or 0) if details is not None else 0,
    )


def _cache_writes(told: ToldUsage, wants_1h: bool) -> tuple[int, int]:
    """Tokens written for 5 minutes and for an hour; what the split does not cover goes where the request asked."""
    write_5m = write_1h = 0
    split = told.cache_creation
    if split is not None:
        write_5m, write_1h = split.ephemeral_5m_input_tokens or 0, split.ephemeral_1h_input_tokens or 0
    beyond = (told.cache_creation_input_tokens or 0) - write_5m - write_1h
    if beyond <= 0:
        return write_5m, write_1h
    return (write_5m, write_1h + beyond) if wants_1h else (write_5m + beyond, write_1h)


def read_plain_usage(raw: bytes | msgspec.Raw, wants_1h: bool) -> Usage | None:
    """The usage in `raw`; None where it has iterations, a word or a number that is not plain, or is no usage.

    `wants_1h`: as for `read_usage`.
    """
    try:
        told = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    write_5m, write_1h = _cache_writes(told, wants_1h)
    tools, details = told.server_tool_use, told.output_tokens_details
    return Usage(
        told.input_tokens,
        write_5m,
        write_1h,
        told.cache_read_input_tokens or 0,
        told.output_tokens,
        (details.thinking_tokens or 0) if details is not None else 0,
        (tools.web_search_requests or 0) if tools is not None else 0,
        (tools.web_fetch_requests or 0) if tools is not None else 0,
        told.speed or "standard",
        told.inference_geo or "global",
        told.service_tier or "standard",
    )
