"""Byte work that `_bytes.c` does too: this is the reference, and what runs where nothing is compiled.

For any arguments both give the same values and refuse the same ones. `bytework` says which of them runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import itemgetter

from tenantry.wire.http1 import TOKEN, small_number

# What a plain head tells: its status; the length of its body, or CHUNKED; the lines that are kept, each with its end;
# the values of `request-id` and of `content-type`, empty without one; whether it tells rate limits.
HeadTold = tuple[int, int, bytes, bytes, bytes, bool]
CHUNKED = -1

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?")
# What a head may hold beside the CR LF at the end of each line (RFC 9110 5.5: VCHAR, obs-text, SP, HTAB).
_TEXT = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
_CRLF_BYTES = 2
# RFC 9110 8.6, 15: an answer without a body says so by its status, whatever its fields say.
_NO_BODY = frozenset({204, 304})
_OK_LINE = b"HTTP/1.1 200 OK"


def head_reader(
    dropped: frozenset[bytes], prefixes: tuple[bytes, ...], lines_max: int, bytes_max: int
) -> Callable[[bytes], HeadTold | None]:
    """What reads the head of a final answer that has a body, without its blank line; None where it is not plain.

    Plain (RFC 9112): one line of status, fields as RFC 9110 5 has them, exactly one `Content-Length` or
    `Transfer-Encoding: chunked`, a connection that is kept, no more than `lines_max` lines and `bytes_max` bytes.
    Fields whose names, in lower case, are `dropped` or begin with one of `prefixes` are not kept. Of a name that comes
    twice the last value counts.
    """
    return _HeadReader(dropped, prefixes, lines_max, bytes_max).read


class _Shape:
    """What heads whose fields have the same names in the same order have in common.

    An upstream's answers have the same fields in the same order, so what the names alone decide is decided once.
    `prefixes` are the beginnings of all lines. Places of fields are line numbers, 0 where there is none; of a name that
    comes twice it is the last, but for those of framing, which make a head that is not plain. `has_limits`: it tells
    rate limits. `kept` picks the lines that are kept.
    """

    __slots__ = (
        "connection_at",
        "has_limits",
        "id_at",
        "is_plain",
        "kept",
        "length_at",
        "prefixes",
        "transfer_at",
        "type_at",
    )

    def __init__(self, names: list[bytes], prefixes: list[bytes], kept: list[int]) -> None:
        """`names` in lower case; `prefixes` begins with that of the status line; `kept` are line numbers."""
        self.prefixes = prefixes
        places = {name: at for at, name in enumerate(names, 1)}
        self.length_at = places.get(b"content-length", 0)
        self.transfer_at = places.get(b"transfer-encoding", 0)
        self.connection_at = places.get(b"connection", 0)
        self.type_at = places.get(b"content-type", 0)
        self.id_at = places.get(b"request-id", 0)
        self.has_limits = b"anthropic-ratelimit-requests-limit" in places
        framing = [name for name in names if name in (b"content-length", b"transfer-encoding", b"connection")]
        self.is_plain = len(framing) == len(set(framing)) and bool(self.length_at) != bool(self.transfer_at)
        self.kept = (
            itemgetter(*kept) if len(kept) > 1 else None if not kept else itemgetter(slice(kept[0], kept[0] + 1))
        )

    def value_at(self, lines: list[bytes], place: int) -> bytes:
        """The value of the field in that line; empty for place 0."""
        return lines[place][len(self.prefixes[place]) :].strip(b" \t") if place else b""


class _HeadReader:
    __slots__ = ("_bytes_max", "_dropped", "_lines_max", "_prefixes", "_shapes")

    def __init__(self, dropped: frozenset[bytes], prefixes: tuple[bytes, ...], lines_max: int, bytes_max: int) -> None:
        self._dropped = dropped
        self._prefixes = prefixes
        self._lines_max = lines_max
        self._bytes_max = bytes_max
        # By the number of lines: what an upstream answers has few shapes. Bounded by `lines_max`.
        self._shapes: dict[int, _Shape] = {}

    def read(self, raw: bytes) -> HeadTold | None:
        if type(raw) is not bytes:
            raise TypeError("a head is bytes")
        lines = raw.split(b"\r\n")
        size = len(lines)
        # As many control bytes as there are line ends: no bare CR, no bare LF, no NUL, none of the others.
        if (
            size > self._lines_max
            or len(raw) > self._bytes_max
            or len(raw.translate(None, _TEXT)) != _CRLF_BYTES * (size - 1)
        ):
            return None
        if lines[0] == _OK_LINE:
            status = 200
        else:
            told = _STATUS_LINE.fullmatch(lines[0])
            if told is None or (status := int(told[1])) in _NO_BODY:
                return None
        shape = self._shapes.get(size)
        if shape is None or not all(map(bytes.startswith, lines, shape.prefixes)):
            shape = self._shape_of(lines)
            if shape is None:
                return None
            self._shapes[size] = shape
        length = _length(lines, shape)
        if length is None:
            return None
        kept = b"\r\n".join(shape.kept(lines)) + b"\r\n" if shape.kept is not None else b""
        return (
            status,
            length,
            kept,
            shape.value_at(lines, shape.id_at),
            shape.value_at(lines, shape.type_at),
            shape.has_limits,
        )

    def _shape_of(self, lines: list[bytes]) -> _Shape | None:
        """None where a line is no field (RFC 9112 5: no blank before the colon, none in front)."""
        prefixes = [b"HTTP/1.1 "]
        names: list[bytes] = []
        for line in lines[1:]:
            name, colon, _ = line.partition(b":")
            if not colon or TOKEN.fullmatch(name) is None:
                return None
            prefixes.append(name + b":")
            names.append(name.lower())
        kept = [at for at, name in enumerate(names, 1) if is_kept(name, self._dropped, self._prefixes)]
        return _Shape(names, prefixes, kept)


def is_kept(name: bytes, dropped: frozenset[bytes], prefixes: tuple[bytes, ...]) -> bool:
    """Whether a field of that name, in lower case, is kept."""
    return name not in dropped and not name.startswith(prefixes)


def _length(lines: list[bytes], shape: _Shape) -> int | None:
    """Of the body, or CHUNKED; None where that is not plain."""
    if not shape.is_plain:
        return None
    if shape.connection_at and shape.value_at(lines, shape.connection_at).lower() != b"keep-alive":
        return None
    if shape.length_at:
        return small_number(shape.value_at(lines, shape.length_at))
    return CHUNKED if shape.value_at(lines, shape.transfer_at).lower() == b"chunked" else None
