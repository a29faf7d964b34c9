"""What the JSON of an answer says: a whole message, or the data of one event.

Read without validating the rest: an answer that was given must be billed, whatever else stands in it.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from tenantry.domain.settlement import USAGE_UNREADABLE, Observed
from tenantry.domain.usage import USAGE_MALFORMED, Usage, as_word, read_usage, usage_document
from tenantry.wire.loose import decode_loosely, find_members
from tenantry.wire.plain_usage import read_plain_usage
from tenantry.wire.shapes import Answer, Event

# The text of a usage object that the ledger keeps as it came: a thousand times what one has today. Of a longer one it
# keeps what was read of it.
USAGE_RAW_BYTES_MAX: Final = 256 * 1024


_EVENT_DECODER: Final = msgspec.json.Decoder(Event)
_MESSAGE_DECODER: Final = msgspec.json.Decoder(Answer)
_EVENT_NAMES: Final = frozenset({b"type", b"message", b"delta", b"usage", b"error"})
_MESSAGE_NAMES: Final = frozenset({b"model", b"stop_reason", b"usage", b"content"})


def read_event(data: bytes) -> Event:
    """An event's data, whatever else it holds; nothing where it is no object."""
    try:
        return _EVENT_DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = find_members(data, _EVENT_NAMES) or {}
    return Event(
        type=decode_loosely(found.get(b"type", b"")),
        message=msgspec.Raw(found.get(b"message", b"")),
        delta=decode_loosely(found.get(b"delta", b"")),
        usage=msgspec.Raw(found.get(b"usage", b"")),
        error=decode_loosely(found.get(b"error", b"")),
    )


def read_whole(body: bytes) -> Answer | None:
    """A message, whatever its content holds; None where it is no whole object."""
    try:
        return _MESSAGE_DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = find_members(body, _MESSAGE_NAMES)
    if found is None:
        return None
    return Answer(
        model=decode_loosely(found.get(b"model", b"")),
        stop_reason=decode_loosely(found.get(b"stop_reason", b"")),
        usage=msgspec.Raw(found.get(b"usage", b"")),
        content=msgspec.Raw(found.get(b"content", b"")),
    )


_UNREADABLE: Final = Observed(None, None, Usage(), "", False, False, True, None, 0, flaws=(USAGE_UNREADABLE,))
_BROKEN: Final = Observed(None, None, Usage(), "", False, False, False, None, 0)
NOTHING_OBSERVED: Final = Observed(None, None, Usage(), "", True, False, False, None, 0)


_BEGINS_AS_EVENTS: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*+(?::|(?:event|data|id|retry)[ \t]*+:)")


def begins_as_events(body: bytes) -> bool:
    """Whether the first bytes of a body are those of an event stream: a comment or a field (WHATWG HTML 9.2.5)."""
    return _BEGINS_AS_EVENTS.match(body) is not None


def read_message(body: bytes, *, wants_1h: bool = False, is_whole: bool = True) -> Observed:
    """What a non-streaming answer says.

    `is_whole`: its body came to its end. A whole body without usage is an answer all the same, and flawed. Of a body
    that broke off nothing is known, unless the document in it is whole.
    """
    message = read_whole(body)
    if message is not None and message.usage:
        usage = read_plain_usage(message.usage, wants_1h)
        plain = _plain_message(message, usage, is_whole) if usage is not None else None
        if plain is not None:
            return plain
    told = decode_loosely(bytes(message.usage)) if message is not None and message.usage else None
    if message is None or not isinstance(told, dict):
        return _UNREADABLE if is_whole else _BROKEN
    raw: dict[str, Any] = told  # pyright: ignore[reportUnknownVariableType] -- JSON objects have string keys
    flaws: list[str] = []
    usage = read_usage(raw, wants_1h=wants_1h, flaws=flaws)
    model = as_word(message.model)
    if model is None and message.model is not None and not flaws:
        flaws.append(USAGE_MALFORMED)
    if not usage.iterations and (raw.get("output_tokens") is None or not _tells_prompt(raw)):
        flaws.append(USAGE_UNREADABLE)
    return Observed(
        model,
        as_word(message.stop_reason),
        usage,
        _usage_text(bytes(message.usage), raw, usage),
        is_empty(message.content),
        started=True,
        complete=is_whole,
        failed=None,
        estimated_output_tokens=0,
        is_final=True,
        flaws=tuple(flaws),
    )


def _plain_message(message: Answer, usage: Usage, is_whole: bool) -> Observed | None:
    """What a message without any flaw says; None where it has one after all."""
    raw, reason, model = bytes(message.usage), message.stop_reason, as_word(message.model)
    if model is None or not raw.isascii() or len(raw) > USAGE_RAW_BYTES_MAX:
        return None
    text = raw.decode()
    if not text.isprintable():
        return None
    return Observed(
        model,
        as_word(reason) if reason is not None else None,
        usage,
        text,
        is_empty(message.content),
        True,
        is_whole,
        None,
        0,
        True,
    )


def _tells_prompt(raw: dict[str, Any]) -> bool:
    """Servers that only speak the API's form may leave out what is nothing (reference 5.1), not all of it."""
    return raw.get("input_tokens") is not None or raw.get("cache_read_input_tokens") is not None


def _usage_text(raw: bytes, told: dict[str, Any], usage: Usage) -> str:
    """The usage as it came; written anew where it is not clean text, or a novel: other prices are made from it."""
    if len(raw) > USAGE_RAW_BYTES_MAX:
        return msgspec.json.encode(usage_document(usage)).decode()
    text = raw.decode() if raw.isascii() else ""
    return text if text.isprintable() and text else msgspec.json.encode(told).decode()


_NO_CONTENT: Final = (b"", b"[]", b"null", b'""')


def is_empty(content: msgspec.Raw) -> bool:
    return len(content) < 16 and bytes(content).translate(None, b" \t\r\n") in _NO_CONTENT
