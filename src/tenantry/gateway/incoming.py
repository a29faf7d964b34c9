"""A request's body that comes in pieces: how much of it may be there, how fast it has to come, and when it is whole."""

from __future__ import annotations

from typing import Final

from tenantry.domain.errors import ApiError, InvalidRequest, RequestTooLarge
from tenantry.wire.chunked import BadChunk, BodyTooLarge, ChunkedDecoder

# 1 KiB/s at the least, from any moment on: in each of these spans so many bytes of a body have to come. What came fast
# before buys no time.
BODY_SECONDS_MAX: Final = 60.0
BODY_SPAN_BYTES_MIN: Final = 60 * 1024
# What a small piece of a body takes beside its bytes: its object, its place in a list. For larger ones it is nothing.
PIECE_BYTES: Final = 64
SMALL_PIECE_BYTES: Final = 4096


class IncomingBody:
    """`length`: as the head tells it; None: it comes in chunks, of `size_max` bytes at the most. `rest`: what has come
    behind it, once it is whole."""

    __slots__ = ("_chunks", "_left", "_pieces", "_size_max", "_span_bytes", "rest")

    def __init__(self, length: int | None, size_max: int) -> None:
        self._chunks = ChunkedDecoder(size_max) if length is None else None
        self._left = length or 0
        self._size_max = size_max
        self._pieces: list[bytes] = []
        self._span_bytes = 0  # in this span
        self.rest = b""

    def ends_span(self, size: int) -> bool:
        """Whether with a piece of so many bytes enough has come for another span of time."""
        self._span_bytes += size
        if self._span_bytes < BODY_SPAN_BYTES_MIN:
            return False
        self._span_bytes = 0
        return True

    def uncounted(self, size: int) -> int:
        """How many bytes a piece takes that are not counted yet: its own are where the head told a length."""
        beside = PIECE_BYTES if 0 < size < SMALL_PIECE_BYTES else 0
        return beside if self._chunks is None else beside + size

    def feed(self, data: bytes) -> bytes | None:
        """A piece has come; the body, when it is whole. Raises: ApiError."""
        if self._chunks is not None:
            return self._feed_chunks(self._chunks, data)
        left = self._left
        if len(data) < left:
            self._left = left - len(data)
            self._pieces.append(data)
            return None
        self._pieces.append(data[:left])
        self.rest = data[left:]
        return self._whole()

    def _whole(self) -> bytes:
        whole = b"".join(self._pieces)
        self.drop()  # what follows is called within the call that fed it
        return whole

    def drop(self) -> None:
        """Let go of what has come: a refusal's traceback may know this object for long."""
        self._pieces.clear()

    def _feed_chunks(self, chunks: ChunkedDecoder, data: bytes) -> bytes | None:
        try:
            self._pieces.append(chunks.feed(data))
        except BadChunk as error:
            raise InvalidRequest(f"Malformed request body: {error}.") from None
        except BodyTooLarge:
            raise too_large(self._size_max) from None
        if not chunks.complete:
            return None
        self.rest = chunks.rest
        return self._whole()


def too_large(size_max: int) -> ApiError:
    """What is told of a body of more than `size_max` bytes."""
    if size_max == 0:
        return InvalidRequest("This endpoint takes no request body.")
    return RequestTooLarge()
