"""Requests and answers that are plain: nearly all of them. `_plain.c` reads them too; `plain` says which of them runs.

What is not plain in every respect is None here, and read member by member elsewhere (`inspect`, `answers`), which says
the same of what is plain (tests/unit/wire/test_plain.py). The two read alike what both read; each leaves something to
the full readers that the other does not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from tenantry.wire.plain_usage import Counts, read_plain_counts
from tenantry.wire.shapes import PlainMessage, PlainRequest

# Today's have 300 bytes.
USAGE_BYTES_MAX: Final = 2048
# Printable ASCII without the backslash: in a JSON string it stands as it is, but for the quotation mark.
_CLEAN: Final = bytes(byte for byte in range(0x20, 0x7F) if byte != 0x5C)
_QUOTE: Final = b'"'[0]

# The model that answered, why it stopped, the tokens, the text of the usage as the inside of a JSON string.
PlainAnswer = tuple[str, str | None, Counts, bytes]
# The model that is asked, the most tokens that it may write, whether it is to stream.
Plainly = tuple[str, int, bool]

_ANSWER: Final = msgspec.json.Decoder(PlainMessage)
_REQUEST: Final = msgspec.json.Decoder(PlainRequest)
_encode: Final = msgspec.json.Encoder().encode
_NOT_PLAIN: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

# Models and stop reasons are a handful; what is asked for lately is kept.
_is_word = lru_cache(maxsize=1024)(str.isprintable)


def plain_answer(body: bytes, wants_1h: bool) -> PlainAnswer | None:
    """What a whole message says whose words are words, and whose usage is nothing but tokens at list price.

    The text of its usage is printable ASCII without a backslash. `wants_1h`: as for `domain.usage.read_usage`.
    """
    try:
        message = _ANSWER.decode(body)
    except _NOT_PLAIN:
        return None
    raw, reason = bytes(message.usage), message.stop_reason
    if (
        len(raw) > USAGE_BYTES_MAX
        or not _is_word(message.model)
        or (reason is not None and not _is_word(reason))
        or raw.translate(None, _CLEAN)
    ):
        return None
    counts = read_plain_counts(raw, wants_1h)
    return None if counts is None else (message.model, reason, counts, raw.replace(b'"', b'\\"'))


def plain_request(body: bytes) -> Plainly | None:
    """What a Messages request asks for that is nothing but texts, a model and a bound; no name stands twice in it."""
    try:
        asked = _REQUEST.decode(body)
        if len(_encode(asked)) != len(body):  # it has spaces, or a name twice
            return None
    except _NOT_PLAIN:
        return None
    if not _is_word(asked.model) or (asked.system and memoryview(asked.system)[0] != _QUOTE):
        return None
    for message in asked.messages:
        if memoryview(message.content)[0] != _QUOTE:
            return None
    return asked.model, asked.max_tokens, asked.stream is True
