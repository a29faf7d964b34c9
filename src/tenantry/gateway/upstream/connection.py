"""One socket to an upstream.

A connection carries one response at a time. It goes back to its pool only after a complete exchange that left nothing
behind in either direction; anything else closes it. Nothing that an upstream sends raises: it ends as `on_broken`.
"""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from typing import Final, cast

from tenantry.domain.subclassing import mypyc_attr
from tenantry.gateway.upstream import delivery
from tenantry.gateway.upstream.head import ResponseHead, read_plain_head
from tenantry.gateway.upstream.parsed import ChunkParser, HeadParser, InvalidAnswer
from tenantry.wire.bytework import plain_chunk

# The size of a chunk that is nothing but that (RFC 9112 7.1): extensions are left to the parser, and trailers.
_CHUNK_SIZE: Final = re.compile(rb"([1-9A-Fa-f][0-9A-Fa-f]{0,7})\r\n")
_SIZE_BEGUN: Final = re.compile(rb"[1-9A-Fa-f][0-9A-Fa-f]{0,7}\r?")
_CHUNK_SIZE_BYTES_MAX: Final = 10
_CRLF: Final = b"\r\n"
_CRLF_BYTES: Final = 2
# Without trailers, and with nothing behind it (RFC 9112 7.1).
_LAST_CHUNK: Final = b"0\r\n\r\n"
# A body up to this is joined to its head: copying it costs less than a second buffer in the system call.
JOINED_BYTES_MAX: Final = 16384

DROPPED: Final = "upstream_dropped"
INVALID: Final = "upstream_invalid_http"
# The upstream closed the idle connection as it was used again, and cannot have read a byte of the request.
STALE: Final = "stale"
# The same, but the upstream may have read the request: its reset says neither yes nor no.
DROPPED_REUSED: Final = "upstream_dropped_reused"


@mypyc_attr(allow_interpreted_subclasses=True)
class ResponseSink(ABC):
    """Who receives a response. Exactly one of `on_end` and `on_broken` comes last."""

    __slots__ = ()

    @abstractmethod
    def on_head(self, head: ResponseHead) -> None:
        """Interim responses (1xx) are not told."""

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        """All of a response that came in one; nothing else is told of it. The connection is not the sink's any more."""
        self.on_head(head)
        if body:
            self.on_body(body)
        self.on_end()

    def on_chunk(self, data: bytes) -> bool:
        """Bytes that came where a chunk of the body begins, before they are taken apart.

        True: they are one whole chunk, it has been taken as it is, and nothing else is told of it. False: nothing has
        happened.
        """
        return False

    @abstractmethod
    def on_body(self, data: bytes) -> None:
        """Never empty."""

    @abstractmethod
    def on_flush(self) -> None:
        """All that came with one read has been told, and more is to come."""

    @abstractmethod
    def on_end(self) -> None:
        """The response is complete."""

    @abstractmethod
    def on_broken(self, reason: str) -> None:
        """`upstream_dropped`, `upstream_dropped_reused`, `upstream_invalid_http`, or `stale`: nothing was processed."""


def _may_be_size(rest: bytes) -> bool:
    """Whether the plain size of a chunk may be at its beginning there."""
    return len(rest) < _CHUNK_SIZE_BYTES_MAX and _SIZE_BEGUN.fullmatch(rest) is not None


@mypyc_attr(allow_interpreted_subclasses=True)
class ConnectionOwner(ABC):
    """The pool, as its connections see it."""

    __slots__ = ()

    @abstractmethod
    def on_idle(self, connection: UpstreamConnection) -> None:
        """An exchange ended well: the connection can be used again."""

    @abstractmethod
    def on_lost(self, connection: UpstreamConnection) -> None:
        """The connection is closed."""


# What reads the answer: nothing has come of it; llhttp its head; a count of the bytes that are left; its chunks, where
# one begins; the same in the middle of one; llhttp its chunks; all is body until the connection ends.
_FRESH: Final = 0
_HEAD_PARSED: Final = 1
_COUNTED: Final = 2
_CHUNKED: Final = 3
_MID_CHUNK: Final = 4
_CHUNKS_PARSED: Final = 5
_UNTIL_CLOSE: Final = 6


@mypyc_attr(allow_interpreted_subclasses=True)
class UpstreamConnection:
    """An `asyncio.Protocol` by its methods, for no compiled class may inherit from one (decision 0008).

    A plain head is read by lines, a body of a told length is counted, plain chunks are taken as they come.

    llhttp reads other heads, and other chunks from the first one on.
    """

    __slots__ = (
        "_acked_before",
        "_chunk_parser",
        "_has_ended",
        "_head_parser",
        "_is_answering",
        "_is_reused",
        "_is_stale",
        "_is_tls",
        "_keep_alive",
        "_left",
        "_owner",
        "_reader",
        "_request_bytes",
        "_sink",
        "_size_begun",
        "_written",
        "idle_since",
        "transport",
        "was_closed_as_reused",
    )

    def __init__(self, owner: ConnectionOwner, is_tls: bool) -> None:
        self._owner = owner
        self._is_tls = is_tls
        self.transport: asyncio.Transport | None = None
        self.idle_since = 0.0
        self.was_closed_as_reused = False
        self._sink: ResponseSink | None = None
        # Made when they are needed, for llhttp takes 850 bytes.
        self._head_parser: HeadParser | None = None
        self._chunk_parser: ChunkParser | None = None
        self._is_reused = False
        self._is_stale = False
        self._written = 0  # before this request, in plain text
        self._request_bytes = 0
        self._acked_before: int | None = None
        self._reader = _FRESH
        self._left = 0  # bytes of a body that is counted, or of a chunk and the CR LF behind it
        self._size_begun: bytes = b""  # of a chunk, that stands at the end of what has come
        self._is_answering = False
        self._keep_alive = False  # by the head of the answer
        self._has_ended = False  # what is sent

    # The exchange's side

    def send(self, sink: ResponseSink, head: bytes, body: bytes) -> None:
        """Send one request; its response goes to `sink`."""
        transport = self.transport
        assert transport is not None  # noqa: S101 -- a pooled connection has been made
        self._sink = sink
        if self._is_reused:
            # How much TLS adds is not known here, so what is acknowledged before must be asked.
            self._acked_before = (
                delivery.bytes_acked(transport) if self._is_tls else delivery.acked_when_all_written(self._written)
            )
        if not body:
            transport.write(head)
        elif len(body) <= JOINED_BYTES_MAX:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        self._request_bytes = len(head) + len(body)

    def pause(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None:
            self.transport.resume_reading()

    def end_sending(self) -> bool:
        """Say that nothing follows the request: no other one goes out here. False: over TLS that cannot be said."""
        transport = self.transport
        if transport is None or not transport.can_write_eof():
            return False
        self._has_ended = True
        transport.write_eof()
        return True

    def abandon(self) -> None:
        """Close at once; the sink hears nothing more."""
        self._sink = None
        self.close()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    @property
    def is_usable(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    # asyncio.Protocol

    def pause_writing(self) -> None:
        """A request is sent whole, and its body is in memory already."""

    def resume_writing(self) -> None:
        pass

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # a stream transport by construction

    def data_received(self, data: bytes) -> None:
        sink, reader = self._sink, self._reader
        if sink is None:
            self.close()  # bytes that nobody asked for: the next response could not be trusted
        elif reader == _CHUNKED:
            if not sink.on_chunk(data):
                self._take_chunks(sink, data)
        elif reader == _COUNTED:
            self._take_counted(sink, data)
        elif reader == _FRESH:
            self._begin(sink, data)
        elif reader == _MID_CHUNK:
            self._cut_chunks(sink, data)
        elif reader == _HEAD_PARSED:
            self._parse_head(sink, data)
        elif reader == _CHUNKS_PARSED:
            self._parse_chunks(sink, data)
        else:
            self._take_until_close(sink, data)

    def _begin(self, sink: ResponseSink, data: bytes) -> None:
        """The first bytes of an answer: mostly a whole head, and often its whole body."""
        self._is_answering = True
        # `partition` and not `find`: CPython 3.11 formats an error, and drops it, whenever bytes are to be found.
        told, end, body = data.partition(b"\r\n\r\n")
        head = read_plain_head(told) if end else None
        if head is None:
            self._reader = _HEAD_PARSED
            self._parse_head(sink, data)
            return
        length, self._keep_alive = head.length, True
        if length is not None and length == len(body):
            self._let_go(is_alone=True)
            sink.on_whole(head, body)
        else:
            self._begin_body(sink, head, length, body)

    def _parse_head(self, sink: ResponseSink, data: bytes) -> None:
        """A head that is not plain."""
        parser = self._head_parser
        if parser is None:
            parser = self._head_parser = HeadParser()
        try:
            body = parser.feed(data)
        except InvalidAnswer:
            self._break(INVALID)
            return
        head = parser.head
        if body is None or head is None:
            sink.on_flush()
            return
        self._head_parser, self._keep_alive = None, parser.keep_alive
        self._begin_body(sink, head, parser.length, body, is_until_close=parser.is_until_close)

    def _begin_body(
        self, sink: ResponseSink, head: ResponseHead, length: int | None, body: bytes, *, is_until_close: bool = False
    ) -> None:
        """The head is complete; `body` is what came behind it. No `length`: chunks, or until the close."""
        if length is not None:
            self._reader, self._left = _COUNTED, length
        else:
            self._reader, self._left = _UNTIL_CLOSE if is_until_close else _CHUNKED, 0
        sink.on_head(head)
        if self._sink is None:
            return  # it does not want any more
        if length is not None:
            self._take_counted(sink, body)
        elif not body:
            sink.on_flush()
        elif is_until_close:
            self._take_until_close(sink, body)
        else:
            self._take_chunks(sink, body)

    def _take_chunks(self, sink: ResponseSink, data: bytes) -> None:
        """What begins where a chunk does, mostly one whole chunk."""
        start = plain_chunk(data)
        if start:
            sink.on_body(data[start:-_CRLF_BYTES])
            self._flush()
        else:
            self._cut_chunks(sink, data)

    def _cut_chunks(self, sink: ResponseSink, data: bytes) -> None:
        """Chunks in any cuts. What is not plain goes to the parser, which stands where a chunk begins."""
        data, self._size_begun = self._size_begun + data, b""
        at, size, left = 0, len(data), self._left
        bodies: list[bytes] = []
        rest = b""
        while at < size:
            if left == 0:
                found = _CHUNK_SIZE.match(data, at)
                if found is None:
                    rest = data[at:]
                    break
                at, left = found.end(), int(found[1], 16) + _CRLF_BYTES
            elif left > _CRLF_BYTES:
                body = data[at : at + left - _CRLF_BYTES]
                bodies.append(body)
                at, left = at + len(body), left - len(body)
            elif data[at] != _CRLF[-left]:
                rest = b"\r"  # no size begins so: the parser refuses it
                break
            else:
                at, left = at + 1, left - 1
        self._left = left
        self._reader = _MID_CHUNK if left else _CHUNKED
        if bodies:
            sink.on_body(bodies[0] if len(bodies) == 1 else b"".join(bodies))
        if rest == _LAST_CHUNK and self._sink is not None:
            self._finish(is_alone=True)
            return
        if rest and self._sink is not None and _may_be_size(rest):
            self._size_begun, self._reader = rest, _MID_CHUNK
        elif rest and self._sink is not None:
            self._reader, self._chunk_parser = _CHUNKS_PARSED, ChunkParser()
            self._parse_chunks(sink, rest)
            return
        self._flush()

    def _take_counted(self, sink: ResponseSink, data: bytes) -> None:
        """Bytes of a body whose length is known."""
        left = self._left
        is_alone = len(data) <= left
        if not is_alone:
            data = data[:left]
        self._left = left = left - len(data)
        if data:
            sink.on_body(data)
        if left == 0:
            self._finish(is_alone=is_alone)
        else:
            self._flush()

    def _take_until_close(self, sink: ResponseSink, data: bytes) -> None:
        sink.on_body(data)
        self._flush()

    def _parse_chunks(self, sink: ResponseSink, data: bytes) -> None:
        """Chunks that are not plain."""
        parser = self._chunk_parser
        if parser is None:
            return
        body = parser.feed(data)
        if body:
            sink.on_body(body)
        if parser.is_complete:
            self._finish(is_alone=parser.is_alone)
        elif parser.is_invalid:
            self._break(INVALID)
        else:
            self._flush()

    def _flush(self) -> None:
        if self._sink is not None:  # what was delivered may have made the exchange abandon this connection
            self._sink.on_flush()

    def _finish(self, *, is_alone: bool) -> None:
        sink = self._sink
        self._let_go(is_alone=is_alone)
        if sink is not None:
            sink.on_end()

    def _let_go(self, *, is_alone: bool) -> None:
        """The response is complete: the connection is idle again, or closed."""
        sink, self._sink = self._sink, None
        transport = self.transport
        if (
            is_alone
            and sink is not None
            and self._keep_alive
            and not self._has_ended
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
        ):
            self._written += self._request_bytes
            self._is_reused = True
            self._reader, self._chunk_parser = _FRESH, None
            self._is_answering = False
            self._owner.on_idle(self)
        else:
            self.close()

    def _break(self, reason: str) -> None:
        sink, self._sink = self._sink, None
        self.close()
        if sink is not None:
            sink.on_broken(reason)

    def eof_received(self) -> bool:
        """Over TLS, only a close_notify is told here, and this is the last moment at which the socket can be asked."""
        before, transport = self._acked_before, self.transport
        if self._sink is not None and self._is_reused and not self._is_answering and before is not None:
            acked = delivery.bytes_acked(transport) if transport is not None else None
            self._is_stale = acked is not None and acked <= before
        return False  # close our side too; connection_lost follows

    def connection_lost(self, exc: Exception | None) -> None:
        transport, self.transport = self.transport, None
        self._drop_parsers()
        sink, self._sink = self._sink, None
        self.was_closed_as_reused = sink is not None and self._is_reused and not self._is_answering
        self._owner.on_lost(self)
        if sink is None:
            return
        if self._reader == _UNTIL_CLOSE and exc is None:
            sink.on_end()
        elif self.was_closed_as_reused:
            sink.on_broken(STALE if self._was_unread(transport, exc) else DROPPED_REUSED)
        else:
            sink.on_broken(DROPPED)

    def _was_unread(self, transport: asyncio.Transport | None, error: Exception | None) -> bool:
        """Under TLS the descriptor is closed by now and perhaps another's: only the end of file has told."""
        if self._is_stale:
            return True
        if self._is_tls or transport is None:
            return False
        return delivery.is_unsent_or_refused(transport, self._written, error)

    def _drop_parsers(self) -> None:
        """They hold llhttp, which holds them."""
        if self._head_parser is not None:
            self._head_parser.close()
        if self._chunk_parser is not None:
            self._chunk_parser.close()
        self._head_parser = self._chunk_parser = None
