"""The framing of server-sent events: lines, blank lines, fields (WHATWG HTML 9.2.6)."""

from __future__ import annotations

import re
from typing import Final

# Two line ends in a row, of any of the three kinds (WHATWG HTML 9.2.6).
BLANK_LINE: Final = re.compile(rb"\n\n|[\n\r]\r\n?")
_FIELD: Final = re.compile(rb"(?:\A(?:\xef\xbb\xbf)?|[\r\n])(event|data)(?::[ ]?([^\r\n]*))?(?=[\r\n]|\Z)")


def last_blank_line(data: bytes | bytearray, start: int, stop: int | None = None) -> int:
    """The end of the last blank line between `start` and `stop`, or -1."""
    stop = len(data) if stop is None else stop
    plain = data.rfind(b"\n\n", start, stop)
    other = data.rfind(b"\r", start + 1, stop)
    while other > start and data[other - 1] not in b"\r\n":
        other = data.rfind(b"\r", start + 1, other)
    if other > start:
        other_end = other + (2 if data[other + 1 : other + 2] == b"\n" and other + 1 < stop else 1)
        return max(other_end, plain + 2 if plain >= 0 else -1)
    return plain + 2 if plain >= 0 else -1


def event_end(events: bytes, start: int, has_cr: bool) -> int:
    if not has_cr:
        end = events.find(b"\n\n", start)
        return end + 2 if end >= 0 else len(events)
    found = BLANK_LINE.search(events, start)
    return found.end() if found is not None else len(events)


def fields(event: bytes) -> tuple[str, bytes]:
    """The event name and the data lines, joined, of one event (WHATWG HTML 9.2.6)."""
    name = ""
    data: list[bytes] = []
    for field, told in _FIELD.findall(event):
        if field == b"event":
            name = told.decode("utf-8", "replace")
        else:
            data.append(told)
    return name, data[0] if len(data) == 1 else b"\n".join(data)
