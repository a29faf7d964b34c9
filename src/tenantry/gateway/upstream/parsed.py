"""What llhttp reads of an answer: a head that is not plain, and chunks that are not (RFC 9112).

It is given a head and nothing behind it, for it does not tell where it stands. What is too much, or can be no answer,
is refused here.
"""

from __future__ import annotations

from typing import Final

import httptools

from tenantry.domain.numerals import small_number
from tenantry.domain.subclassing import mypyc_attr
from tenantry.gateway.upstream.head import RESPONSE_FIELDS_MAX, RESPONSE_HEAD_BYTES_MAX, ResponseHead, head_of

# RFC 9110 15: statuses have three digits, and the first is one to five.
STATUS_MIN: Final = 100
STATUS_MAX: Final = 599
# Without a body by their status, whatever their fields say (RFC 9112 6.3).
BODILESS: Final = frozenset({204, 304})
HTTP_VERSIONS: Final = ("1.0", "1.1")
# Go's client takes five; the Messages API sends none.
INTERIM_RESPONSES_MAX: Final = 8

_HEAD_END: Final = b"\r\n\r\n"
_HEAD_END_BYTES: Final = 4
# Makes the parser ready for the chunks of a body.
_CHUNKED_HEAD: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class InvalidAnswer(Exception):
    """The upstream's bytes are no answer of HTTP/1.1, or more of a head than is read."""


@mypyc_attr(allow_interpreted_subclasses=True)
class HeadParser:
    """The head of a final answer, with the interim ones before it.

    Once it is complete: `head`; `keep_alive`, whether the connection may be kept; `length` of its body, None where that
    is chunked or, `is_until_close`, ends with the connection.
    """

    __slots__ = (
        "_bytes",
        "_headers",
        "_interim_responses",
        "_is_refused",
        "_parser",
        "_tail",
        "head",
        "is_until_close",
        "keep_alive",
        "length",
    )

    def __init__(self) -> None:
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._bytes = 0  # interim responses and empty lines count too
        self._headers: list[tuple[bytes, bytes]] = []
        self._interim_responses = 0
        self._is_refused = False
        self._tail: bytes = b""  # of what has come of a head
        self.head: ResponseHead | None = None
        self.is_until_close = False
        self.keep_alive = False
        self.length: int | None = None

    def feed(self, data: bytes) -> bytes | None:
        """What stands behind the head; None while it is not complete.

        Raises:
            InvalidAnswer: it is none that is read.
        """
        buffer = self._tail + data
        at, searched = len(self._tail), 0
        while at < len(buffer):
            found = buffer.find(_HEAD_END, searched)
            end = found + _HEAD_END_BYTES if found >= 0 else len(buffer)
            self._feed(buffer[at:end])
            at = searched = end
            if self.head is not None:
                self.close()
                return buffer[end:]
            self._tail = buffer[-_HEAD_END_BYTES + 1 :] if found < 0 else b""
        return None

    def close(self) -> None:
        """Let the parser go, which holds this."""
        self._parser = None

    def _feed(self, piece: bytes) -> None:
        parser = self._parser
        self._bytes += len(piece)
        try:
            if parser is not None:
                parser.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._is_refused = True
        if self._is_refused or self._bytes > RESPONSE_HEAD_BYTES_MAX or len(self._headers) > RESPONSE_FIELDS_MAX:
            self.close()
            raise InvalidAnswer

    # httptools callbacks

    def on_status(self, reason: bytes) -> None:
        """Before the fields have come, so that what is no answer is not waited for."""
        parser = self._parser
        if parser is not None:
            self._is_refused |= not STATUS_MIN <= parser.get_status_code() <= STATUS_MAX

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._headers) <= RESPONSE_FIELDS_MAX:
            self._headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        parser, headers = self._parser, self._headers
        if parser is None:
            return
        status, version = parser.get_status_code(), parser.get_http_version()
        if not STATUS_MIN <= status <= STATUS_MAX or version not in HTTP_VERSIONS:
            self._is_refused = True
        elif status < 200:  # an interim response (RFC 9110 15.2); the real one follows
            self._interim_responses += 1
            self._is_refused |= self._interim_responses > INTERIM_RESPONSES_MAX
            self._headers = []
        else:
            self._read_framing(status, version, headers)
            # What stands behind a status without a body is the easiest to be taken for the next request's answer.
            self.keep_alive = parser.should_keep_alive() and status not in BODILESS
            self.head = head_of(status, headers)

    def _read_framing(self, status: int, version: str, headers: list[tuple[bytes, bytes]]) -> None:
        """How the body ends (RFC 9112 6.3)."""
        codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
        lengths = [value for name, value in headers if name == b"content-length"]
        if codings:
            # Another coding would reach the client without its name.
            self._is_refused |= codings != [b"chunked"] or bool(lengths) or version != "1.1"
        elif lengths:
            self.length = small_number(lengths[0])
            self._is_refused |= self.length is None or len(lengths) > 1
        else:
            self.is_until_close = True
        if status in BODILESS:
            self.length, self.is_until_close = 0, False


@mypyc_attr(allow_interpreted_subclasses=True)
class ChunkParser:
    """Chunks with extensions, trailers, or faults, from where a chunk begins.

    `is_complete`: the last has come. `is_invalid`: they break the coding, or are too much without any body.
    """

    __slots__ = ("_body", "_idle_bytes", "_is_followed", "_parser", "_tail", "is_complete", "is_invalid")

    def __init__(self) -> None:
        self._body: list[bytes] = []
        self._idle_bytes = 0  # since the last byte of body
        self._is_followed = False
        self._tail: bytes = b""
        self.is_complete = False
        self.is_invalid = False
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._parser.feed_data(_CHUNKED_HEAD)

    def feed(self, data: bytes) -> bytes:
        """What of the body is in `data`."""
        parser = self._parser
        try:
            if parser is not None:
                parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.is_invalid = True
        self._tail = (self._tail + data)[-_HEAD_END_BYTES - 1 :]
        body, self._body = self._body, []
        # Trailers, chunk extensions (RFC 9112 7.1): the parser keeps what is not complete.
        self._idle_bytes = 0 if body else self._idle_bytes + len(data)
        if self._idle_bytes > RESPONSE_HEAD_BYTES_MAX and not self.is_complete:
            self.is_invalid = True
        if self.is_complete or self.is_invalid:
            self.close()
        return body[0] if len(body) == 1 else b"".join(body)

    def close(self) -> None:
        """Let the parser go, which holds this."""
        self._parser = None

    @property
    def is_alone(self) -> bool:
        """Whether nothing came behind the last chunk: an empty line the parser would pass over in silence."""
        tail = self._tail
        return (
            self.is_complete
            and not self.is_invalid
            and not self._is_followed
            and tail.endswith(_HEAD_END)
            and tail != b"\n" + _HEAD_END
        )

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._is_followed |= self.is_complete

    def on_body(self, data: bytes) -> None:
        if not self.is_complete:
            self._body.append(data)

    def on_message_complete(self) -> None:
        self.is_complete = True
