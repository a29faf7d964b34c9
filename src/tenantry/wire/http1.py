"""HTTP/1.1 heads as bytes <-> values, stricter than the parser underneath.

llhttp (through httptools) reads every head first; then the grammar of RFC 9110/9112 is applied again here to the raw
bytes. A head passes only if both agree, so one client message can never become two upstream messages: no obs-fold, no
bare LF, no control bytes, one `Host`, `Content-Length` xor `Transfer-Encoding: chunked`, origin-form target.
Invariant: any bytes either parse or raise `BadHead`, never another error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import httptools

from tenantry.wire.bytework import known_head

# nginx allows 32 KiB, Node 16 KiB, hyper 400 KiB; Claude Code sends under 3 KiB.
HEAD_BYTES_MAX: Final = 64 * 1024
# nginx's default is 1,000 fields in later releases, Go has none; captured clients send under 30.
HEADER_FIELDS_MAX: Final = 200
# What clients send has 30; longer ones are not kept for others.
SHARED_NAME_BYTES_MAX: Final = 40
# RFC 9112 section 3: at least 8,000 octets should be supported for a request line.
TARGET_BYTES_MAX: Final = 8192

_REQUEST_LINE: Final = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[!-~]*) HTTP/1\.([01])\r\n")
# RFC 9110 5.1, 5.5: token ":" OWS field-value OWS. The look-behind pins each match to the start of a line.
_FIELD: Final = re.compile(
    rb"(?<=\n)([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*"
    rb"((?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?)[ \t]*\r\n"
)
# RFC 9110 7.2: uri-host [":" port], as a name, an IPv4 or a bracketed IPv6 address.
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_LENGTH_LINE: Final = re.compile(rb"\ncontent-length: ?([0-9]{1,18})\r\n", re.IGNORECASE)

# A second copy of any of these could be read differently by two parties (RFC 9112 section 11.2).
_SINGLETONS: Final = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"content-type",
        b"content-encoding",
        b"expect",
        b"authorization",
        b"x-api-key",
        b"x-tenant-id",
    }
)


@lru_cache(maxsize=1024)
def _shared(name: bytes) -> bytes:
    """The name in lower case, as one object for all connections that use it."""
    return name.lower()


class BadHead(Exception):
    """The peer's bytes are not an acceptable HTTP/1.1 head; the message says which rule they break."""


@dataclass(init=False, slots=True)
class RequestHead:
    """A request's head. Names are lower case; `fields` holds the first value of each name, the last to come first.

    `content_length` is None when the body is chunked; 0 when there is none.
    """

    method: Final[bytes]
    target: Final[bytes]
    fields: Final[dict[bytes, bytes]]
    keep_alive: Final[bool]
    http_1_0: Final[bool]
    chunked: Final[bool]
    content_length: Final[int | None]
    _all: Final[tuple[tuple[bytes, bytes], ...]]

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        fields: dict[bytes, bytes],
        keep_alive: bool,
        http_1_0: bool,
        chunked: bool,
        content_length: int | None,
    ) -> None:
        self.method = method
        self.target = target
        self.fields = fields
        # A connection keeps its head, and most say what `fields` say: a pair takes 56 bytes.
        self._all = tuple(headers) if len(fields) != len(headers) else ()
        self.keep_alive = keep_alive
        self.http_1_0 = http_1_0
        self.chunked = chunked
        self.content_length = content_length

    @property
    def headers(self) -> Iterable[tuple[bytes, bytes]]:
        """Every field, in the order in which they came."""
        return self._all or reversed(self.fields.items())


class KnownHead:
    """A head that has passed, to know it again by: a client sends the same one over and over on a connection.

    `length` is that of the latest one's body. Only the digits of `Content-Length` may differ. They stand in a line of
    their own in a head that passed with exactly one such line, so other digits in their place make a head that would
    pass too. Compared in constant time, for a head holds a key and a front proxy may carry several clients on one
    connection.
    """

    __slots__ = ("_after", "_before", "length")

    def __init__(self, raw: bytes, head: RequestHead) -> None:
        self.length = head.content_length
        self._before, self._after = raw, b""
        if b"content-length" in head.fields:
            line = _LENGTH_LINE.search(raw)
            if line is not None:
                self._before, self._after = raw[: line.start(1)], raw[line.end(1) :]

    def written(self, length: int) -> bytes:
        """This head as it came, for a body of that length."""
        return self._before + b"%d" % length + self._after if self._after else self._before

    def again(self, buffer: bytes) -> int:
        """The byte behind this head when `buffer` begins with it again, and then `length` is that of its body; else 0.

        `length` is None when the body is chunked.
        """
        known = known_head(buffer, self._before, self._after)
        if known is None:
            return 0
        length, end = known
        if length >= 0:
            self.length = length
        return end


class _NoCallbacks:
    """llhttp is asked for its verdict only."""

    __slots__ = ()


_NO_CALLBACKS: Final = _NoCallbacks()


def parse_request_head(raw: bytes) -> RequestHead:
    """Parse `raw`, which ends with the first blank line (CRLF CRLF).

    Raises:
        BadHead: the bytes break RFC 9112 or the stricter rules named in this module.
    """
    try:
        parser = httptools.HttpRequestParser(_NO_CALLBACKS)
        parser.feed_data(raw)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise BadHead(f"not HTTP/1.1: {error or 'upgrade'}") from None
    line = _REQUEST_LINE.match(raw)
    if line is None:
        raise BadHead("the request line is not `METHOD /path HTTP/1.1`")
    method, target, minor = line.groups()
    if len(target) > TARGET_BYTES_MAX:
        raise BadHead(f"the request target exceeds {TARGET_BYTES_MAX} bytes")
    pairs = _FIELD.findall(raw, line.end() - 1)
    # Every LF belongs to the request line, to one field, or to the blank line; else a line did not match.
    if len(pairs) != raw.count(b"\n") - 2:
        raise BadHead("a header line breaks the grammar of RFC 9110")
    if len(pairs) > HEADER_FIELDS_MAX:
        raise BadHead(f"more than {HEADER_FIELDS_MAX} header fields")
    headers = [(_shared(name) if len(name) <= SHARED_NAME_BYTES_MAX else name.lower(), value) for name, value in pairs]
    fields = dict(reversed(headers))
    if len(fields) != len(headers):
        _refuse_repeated(headers)
    http_1_0 = minor == b"0"
    chunked, content_length = _framing(fields, http_1_0)
    host = fields.get(b"host")
    if host is None or _HOST.fullmatch(host) is None:
        raise BadHead("exactly one valid Host is required")
    return RequestHead(
        method, target, headers, fields, _keeps_alive(headers, fields, http_1_0), http_1_0, chunked, content_length
    )


def _refuse_repeated(headers: list[tuple[bytes, bytes]]) -> None:
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and name in _SINGLETONS:
            raise BadHead(f"more than one {name.decode()} header")
        seen.add(name)


def _framing(fields: dict[bytes, bytes], http_1_0: bool) -> tuple[bool, int | None]:
    """RFC 9112 section 6: whether the body is chunked, and its length when it is not."""
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise BadHead("both Content-Length and Transfer-Encoding")
        if coding.lower() != b"chunked" or http_1_0:
            raise BadHead("the only Transfer-Encoding is chunked, on HTTP/1.1")
        return True, None
    if length is None:
        return False, 0
    if _LENGTH.fullmatch(length) is None:
        raise BadHead("Content-Length is not a number")
    return False, int(length)


def _keeps_alive(headers: list[tuple[bytes, bytes]], fields: dict[bytes, bytes], http_1_0: bool) -> bool:
    if b"connection" not in fields:
        return not http_1_0
    options = b",".join([value for name, value in headers if name == b"connection"]).lower()
    if b"close" in options:
        return False
    return not http_1_0 or b"keep-alive" in options


def connection_options(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """The header names that `Connection`, in one field or several, declares to be for this hop only (RFC 9110 7.6.1).

    Names come in lower case, and are told so.
    """
    values = [value for name, value in headers if name == b"connection"]
    return frozenset(option.strip(b" \t").lower() for value in values for option in value.split(b","))


_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
STATUS_LINES: Final = {
    code: b"HTTP/1.1 %d %b\r\n" % (code, _REASONS.get(code, b"Overloaded" if code == 529 else b"Unknown"))
    for code in range(200, 600)
}


def response_head(status: int, headers: list[tuple[bytes, bytes]], more: bytes = b"") -> bytes:
    """A response head, blank line included; `more` is whole header lines.

    Values come from a parser or from here, so they hold no CR or LF.
    """
    lines = [b"%b: %b\r\n" % field for field in headers]
    return b"%b%b%b\r\n" % (STATUS_LINES[status], b"".join(lines), more)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112 7.1). `data` must not be empty: that would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK: Final = b"0\r\n\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
