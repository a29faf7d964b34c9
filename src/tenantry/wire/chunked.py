"""The chunked transfer coding of request bodies, strictly (RFC 9112 section 7.1).

Trailers are refused: nothing here would check them, and a field that only one party sees is how requests are smuggled.
Chunk extensions are skipped within a small bound (RFC 9112 7.1.1 lets a recipient ignore them).
"""

from __future__ import annotations

import re
from typing import Final

# Bounds the bytes that can be spent without carrying data: 16 hex digits and a short extension.
CHUNK_LINE_BYTES_MAX: Final = 256

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t -~]*)?")


class BadChunk(Exception):
    """The peer's bytes are not a valid chunked body; the message says which rule they break."""


class BodyTooLarge(Exception):
    """The chunks that the peer has begun make a larger body than is allowed."""


class ChunkedDecoder:
    """Feed bytes; get the body's bytes back. After `complete`, `rest` holds what came behind the body."""

    __slots__ = ("_bytes_max", "_left", "_pending", "_told_bytes", "complete", "rest")

    def __init__(self, bytes_max: int) -> None:
        """`bytes_max`: of the body."""
        self._bytes_max = bytes_max
        self._told_bytes = 0  # of the chunks whose sizes have come
        self._pending: bytes = b""
        # None: a size line is next. n > 0: n data bytes are next. 0: the CRLF behind the data. -1: the last CRLF.
        self._left: int | None = None
        self.complete = False
        self.rest: bytes = b""

    def feed(self, data: bytes) -> bytes:
        """Decode `data`.

        Raises:
            BadChunk: the bytes break the coding.
            BodyTooLarge: a size has come, by which the body is larger than it may be.
        """
        buffer = self._pending + data
        at = 0
        parts: list[bytes] = []
        while not self.complete:
            if self._left is not None and self._left > 0:
                piece = buffer[at : at + self._left]
                if not piece:
                    break
                parts.append(piece)
                at += len(piece)
                self._left -= len(piece)
            else:
                moved = self._line(buffer, at)
                if moved is None:
                    break
                at = moved
        if self.complete:
            self.rest, self._pending = buffer[at:], b""
        else:
            self._pending = buffer[at:]
        return b"".join(parts)

    def _line(self, buffer: bytes, at: int) -> int | None:
        """Read one line at `at`; the position behind it, or None when it has not all come."""
        if self._left is not None:
            return self._line_end(buffer, at)
        end = buffer.find(b"\r\n", at, at + CHUNK_LINE_BYTES_MAX)
        if end < 0:
            if len(buffer) - at >= CHUNK_LINE_BYTES_MAX or buffer.find(b"\n", at) >= 0:
                raise BadChunk("a chunk's size line is malformed or too long")
            return None
        size = _SIZE_LINE.fullmatch(buffer, at, end)
        if size is None:
            raise BadChunk("a chunk's size is not a hexadecimal number")
        told = int(size.group(1), 16)
        self._told_bytes += told
        if self._told_bytes > self._bytes_max:
            raise BodyTooLarge
        self._left = told or -1
        return end + 2

    def _line_end(self, buffer: bytes, at: int) -> int | None:
        ending = buffer[at : at + 2]
        if ending != b"\r\n"[: len(ending)]:
            raise BadChunk("trailers are not accepted" if self._left == -1 else "a chunk does not end where it says")
        if len(ending) < 2:
            return None
        self.complete = self._left == -1
        self._left = None
        return at + 2
