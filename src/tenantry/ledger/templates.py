"""Journal lines that are filled, not encoded: what most attempts say differs from one to the next in some numbers.

What is filled decodes to the same event as the encoder's line (`tests/unit/ledger/test_templates.py`). Nothing that
comes from outside is put into a line but as a JSON string that the encoder has written, or as the inside of one that
`wire.plain` has.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from tenantry.wire.bytework import fill_line

_encode: Final = msgspec.json.Encoder().encode

# Connections that ask for the same under the same key share a line of some 330 bytes.
TEMPLATES_MAX: Final = 1024

_END: Final = (
    b'{"end":{"attempt_id":"att_%b_%d","ended_at_us":%d,"first_byte_at_us":%d,"status":200,"outcome":"settled",'
    b'"model_served":%b,"stop_reason":%b,"usage":{"input_tokens":%d,"cache_write_5m_tokens":%d,'
    b'"cache_write_1h_tokens":%d,"cache_read_tokens":%d,"output_tokens":%d,"thinking_tokens":%d},"usage_raw":"%b",'
    b'"cost_nanos":%d,"price_version":%b,"upstream_request_id":%b,"error":null}}'
)


@lru_cache(maxsize=1024)
def json_word(text: str | None) -> bytes:
    """The text as a JSON string, null for None. For words that come again: what is asked for lately is kept."""
    return _encode(text)


@lru_cache(maxsize=TEMPLATES_MAX)
def begin_template(
    tenant_id: str, key_id: str, credential_id: str, upstream_id: str, model: str, streaming: bool
) -> bytes:
    """The beginning of an attempt at standard speed and at no place that was asked for, but for what differs: to be
    filled (`fill_line`) with the name of its request twice, the attempt's number between them, the time, and the four
    bounds.
    """
    same = b'"tenant_id":%b,"key_id":%b,"credential_id":%b,"upstream_id":%b,"model_requested":%b,"streaming":%b' % (
        _encode(tenant_id),
        _encode(key_id),
        _encode(credential_id),
        _encode(upstream_id),
        _encode(model),
        b"true" if streaming else b"false",
    )
    return (
        b'{"begin":{"attempt_id":"att_%b_%d","request_id":"req_%b",'
        + same.replace(b"%", b"\\u0025")
        + b',"begun_at_us":%d,"bound_nanos":%d,"output_nanos":%d,"output_tokens":%d,"output_tokens_max":%d}}'
    )


def settled_line(
    name: bytes,
    number: int,
    ended_at_us: int,
    first_byte_at_us: int,
    model: str,
    stop_reason: str | None,
    counts: tuple[int, int, int, int, int, int],
    usage_raw: bytes,
    cost_nanos: int,
    price_version: str,
    upstream_request_id: str | None,
) -> bytes:
    """The line of the end of an attempt that was answered whole, and settled by its usage at list price.

    `name` is that of its request, `counts` are the first six of `Usage`, and `usage_raw` the inside of a
    JSON string (`wire.plain`).
    """
    return fill_line(
        _END,
        name,
        number,
        ended_at_us,
        first_byte_at_us,
        json_word(model),
        json_word(stop_reason),
        *counts,
        usage_raw,
        cost_nanos,
        json_word(price_version),
        _encode(upstream_request_id),
    )
