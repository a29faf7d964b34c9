"""The head of an answer: read by lines where it is plain, and known again by the names of its fields.

An upstream's answers have the same fields in the same order, so what the names alone decide is decided once for each
`Shape`. Reading is a handful of passes in C. What is not plain in every respect (RFC 9112) is not read here: llhttp
reads that, or refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import itemgetter

from tenantry.gateway.headers import is_for_client
from tenantry.wire.http1 import TOKEN, small_number

# Twice Apache's limit of a hundred; an answer of the Messages API has thirty.
RESPONSE_FIELDS_MAX = 200
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?")
# What a head may hold beside the CR LF at the end of each line (RFC 9110 5.5: VCHAR, obs-text, SP, HTAB).
_TEXT = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
_CRLF_BYTES = 2
# RFC 9110 8.6, 15: an answer without a body says so by its status, whatever its fields say.
_NO_BODY = frozenset({204, 304})
_OK_LINE = b"HTTP/1.1 200 OK"


class Shape:
    """What heads whose fields have the same names in the same order have in common.

    `prefixes` are the beginnings of all lines. Places of fields are line numbers, 0 where there is none; of a name that
    comes twice it is the last, but for those of framing, which make a head that is not plain. `has_limits`: it tells
    rate limits. `kept` picks the lines that a client may see.
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

    def __init__(self, names: list[bytes], prefixes: list[bytes]) -> None:
        """`names` in lower case; `prefixes` begins with that of the status line."""
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
        kept = [at for at, name in enumerate(names, 1) if is_for_client(name)]
        self.kept = (
            itemgetter(*kept) if len(kept) > 1 else None if not kept else itemgetter(slice(kept[0], kept[0] + 1))
        )


class ResponseHead:
    """`lines` are those of the head, `status` line first. `length`: of the body; None: it is chunked, or not told.

    `fields` holds the last value of each name, in lower case; it is made when it is first asked for.
    """

    __slots__ = ("_fields", "length", "lines", "shape", "status")

    def __init__(self, status: int, lines: list[bytes], shape: Shape, length: int | None) -> None:
        self.status = status
        self.lines = lines
        self.shape = shape
        self.length = length
        self._fields: dict[bytes, bytes] | None = None

    @property
    def fields(self) -> dict[bytes, bytes]:
        fields = self._fields
        if fields is None:
            fields = self._fields = {}
            for line in self.lines[1:]:
                name, _, value = line.partition(b":")
                fields[name.lower()] = value.strip(b" \t")
        return fields

    @property
    def has_limits(self) -> bool:
        return self.shape.has_limits

    @property
    def request_id(self) -> bytes:
        return self.value_at(self.shape.id_at)

    @property
    def content_type(self) -> bytes:
        return self.value_at(self.shape.type_at)

    def value_at(self, place: int) -> bytes:
        """The value of the field in that line; empty for place 0."""
        return self.lines[place][len(self.shape.prefixes[place]) :].strip(b" \t") if place else b""

    def lines_for_client(self, *, is_final: bool = False) -> bytes:
        """The lines that a tenant may see, each with its end. `is_final`: with the word not to try again."""
        kept = self.shape.kept
        told: Sequence[bytes] = kept(self.lines) if kept is not None else ()
        if is_final:
            told = [line for line in told if not line.lower().startswith(b"x-should-retry:")]
            told.append(b"x-should-retry: false")
        return b"\r\n".join(told) + b"\r\n" if told else b""


# By the number of lines: what an upstream answers has few shapes. Bounded by the number of fields.
_shapes: dict[int, Shape] = {}


def read_plain_head(raw: bytes) -> ResponseHead | None:
    """The head, without its blank line, of a final answer that has a body; None where it is not plain.

    Plain: one line of status, fields as RFC 9110 5 has them, exactly one `Content-Length` or `Transfer-Encoding:
    chunked`, and a connection that is kept.
    """
    lines = raw.split(b"\r\n")
    size = len(lines)
    # As many control bytes as there are line ends: no bare CR, no bare LF, no NUL, none of the others.
    if size > RESPONSE_FIELDS_MAX or len(raw.translate(None, _TEXT)) != _CRLF_BYTES * (size - 1):
        return None
    if lines[0] == _OK_LINE:
        status = 200
    else:
        told = _STATUS_LINE.fullmatch(lines[0])
        if told is None or (status := int(told[1])) in _NO_BODY:
            return None
    shape = _shapes.get(size)
    if shape is None or not all(map(bytes.startswith, lines, shape.prefixes)):
        shape = _shape_of(lines)
        if shape is None:
            return None
        _shapes[size] = shape
    if not shape.is_plain:
        return None
    head = ResponseHead(status, lines, shape, None)
    if shape.connection_at and head.value_at(shape.connection_at).lower() != b"keep-alive":
        return None
    if shape.length_at:
        head.length = small_number(head.value_at(shape.length_at))
        return None if head.length is None else head
    return head if head.value_at(shape.transfer_at).lower() == b"chunked" else None


def head_of(status: int, headers: list[tuple[bytes, bytes]]) -> ResponseHead:
    """A head that llhttp has read. Names come in lower case."""
    lines = [b"%b: %b" % field for field in headers]
    shape = Shape([name for name, _ in headers], [b"", *[name + b":" for name, _ in headers]])
    return ResponseHead(status, [b"", *lines], shape, small_number(dict(headers).get(b"content-length", b"")))


def _shape_of(lines: list[bytes]) -> Shape | None:
    """The shape of these lines; None where one is no field (RFC 9112 5: no blank before the colon, none in front)."""
    names: list[bytes] = []
    for line in lines[1:]:
        name, colon, _ = line.partition(b":")
        if not colon or TOKEN.fullmatch(name) is None:
            return None
        names.append(name)
    return Shape([name.lower() for name in names], [b"HTTP/1.1 ", *[name + b":" for name in names]])
