"""The head of an answer: read in one pass where it is plain, by llhttp where it is not (RFC 9112)."""

from __future__ import annotations

from typing import Final

from tenantry.domain.numerals import small_number
from tenantry.gateway.headers import RESPONSE_DROPPED, RESPONSE_DROPPED_PREFIXES, is_for_client
from tenantry.wire.bytework import CHUNKED, head_reader
from tenantry.wire.http1 import STATUS_LINES, connection_options

# As nginx's and Node's heads; an answer of the Messages API has 2 KiB.
RESPONSE_HEAD_BYTES_MAX: Final = 64 * 1024
# Twice Apache's limit of a hundred; an answer of the Messages API has thirty.
RESPONSE_FIELDS_MAX: Final = 200

_read: Final = head_reader(RESPONSE_DROPPED, RESPONSE_DROPPED_PREFIXES, RESPONSE_FIELDS_MAX, RESPONSE_HEAD_BYTES_MAX)


class ResponseHead:
    """`length`: of the body; None: it is chunked, or not told. `has_limits`: it tells rate limits.

    `request_id` and `content_type` are the values of those fields, empty without one.
    """

    __slots__ = ("_fields", "_headers", "_kept", "_raw", "content_type", "has_limits", "length", "request_id", "status")

    def __init__(
        self,
        status: int,
        length: int | None,
        kept: bytes,
        request_id: bytes,
        content_type: bytes,
        has_limits: bool,
        raw: bytes,
        fields: dict[bytes, bytes] | None = None,
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        """`kept` are the lines that a tenant may see; `fields` are read from `raw` where they are not given,
        and `raw` is made of `headers` when it is first asked for.
        """
        self.status = status
        self.length = length
        self.request_id = request_id
        self.content_type = content_type
        self.has_limits = has_limits
        self._kept = kept
        self._raw = raw
        self._fields = fields
        self._headers = headers

    def _whole(self) -> bytes:
        """The head, without its blank line."""
        if self._headers is not None:
            lines = [b"%b: %b" % field for field in self._headers]
            self._raw, self._headers = b"\r\n".join([STATUS_LINES[self.status].removesuffix(b"\r\n"), *lines]), None
        return self._raw

    def passed_on(self, keeps_alive: bool, *, is_chunked: bool) -> bytes:
        """An answer of another gateway's, as it came: only how the connection goes on is this one's."""
        raw = self._whole()
        if keeps_alive and is_chunked is (self.length is None) and _KEPT_ALIVE in raw:
            return raw + b"\r\n\r\n"
        told: list[bytes] = []
        for line in raw.split(b"\r\n"):
            if line.startswith(b"connection:"):
                told.append(b"connection: keep-alive" if keeps_alive else b"connection: close")
            elif is_chunked or not line.startswith(b"transfer-encoding:"):
                told.append(line)
        return b"\r\n".join([*told, b"", b""])

    def has_line(self, line: bytes) -> bool:
        """Whether it has that very line, in these letters."""
        return b"\r\n" + line in self._whole()

    @property
    def fields(self) -> dict[bytes, bytes]:
        """The last value of each name, in lower case; read when it is first asked for."""
        fields = self._fields
        if fields is None:
            fields = self._fields = {}
            for line in self._raw.split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                fields[name.lower()] = value.strip(b" \t")
        return fields

    def lines_for_client(self, *, is_final: bool = False) -> bytes:
        """The lines that a tenant may see, each with its end. `is_final`: with the word not to try again."""
        if not is_final:
            return self._kept
        told = [line for line in self._kept.split(b"\r\n") if line and not line.lower().startswith(b"x-should-retry:")]
        return b"\r\n".join([*told, b"x-should-retry: false", b""])


_KEPT_ALIVE: Final = b"\r\nconnection: keep-alive"


def read_plain_head(raw: bytes) -> ResponseHead | None:
    """The head, without its blank line, of a final answer that has a body; None where it is not plain."""
    told = _read(raw)
    if told is None:
        return None
    status, length, kept, request_id, content_type, has_limits = told
    return ResponseHead(status, None if length == CHUNKED else length, kept, request_id, content_type, has_limits, raw)


def head_of(status: int, headers: list[tuple[bytes, bytes]]) -> ResponseHead:
    """A head that llhttp has read. Names come in lower case."""
    fields = {name: value.strip(b" \t") for name, value in headers}
    hop = connection_options(headers)  # fields for this hop alone
    return ResponseHead(
        status,
        small_number(fields.get(b"content-length", b"")),
        b"".join([b"%b: %b\r\n" % field for field in headers if is_for_client(field[0]) and field[0] not in hop]),
        fields.get(b"request-id", b""),
        fields.get(b"content-type", b""),
        b"anthropic-ratelimit-requests-limit" in fields,
        b"",
        fields,
        headers,
    )
