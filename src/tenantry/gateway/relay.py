"""From the upstream's answer to the client's socket: bytes as they come, watched for usage, never changed.

A relay decides what may be written now and what was seen; it writes nothing itself.
"""

from __future__ import annotations

import json
from typing import Protocol

from tenantry.domain.settlement import Observed
from tenantry.wire.observe import StreamObserver, read_message

# Largest non-streaming answer kept to read its usage: an answer of 128k tokens is under 1 MB; big tool results are not.
ANSWER_BYTES_MAX = 64 * 1024 * 1024

NOTHING_OBSERVED = read_message(b"", wants_1h=False)


class Relay(Protocol):
    """What stands between the upstream's body and the client's socket.

    `feed` returns what to write now. `finish` returns what is left at a clean end of the body, `interrupted`
    what tells the client that the answer broke off; either is None when only closing the connection can say so.
    `has_started`: it has told its first usage. `chars`: how much has been generated so far, in characters.
    """

    @property
    def has_started(self) -> bool: ...
    @property
    def chars(self) -> int: ...

    def feed(self, data: bytes) -> bytes: ...
    def finish(self) -> bytes | None: ...
    def interrupted(self, error_type: str, message: str) -> bytes | None: ...
    def observed(self) -> Observed: ...


class StreamRelay:
    """A server-sent event stream. Only whole events are passed on, so that an interruption can be told apart."""

    __slots__ = ("_observer",)

    def __init__(self, wants_1h: bool) -> None:
        self._observer = StreamObserver(wants_1h=wants_1h)

    def feed(self, data: bytes) -> bytes:
        return self._observer.feed(data)

    @property
    def has_started(self) -> bool:
        return self._observer.started

    @property
    def chars(self) -> int:
        return self._observer.delta_chars

    def finish(self) -> bytes | None:
        observer = self._observer
        rest = observer.finish()
        if observer.complete or observer.failed is not None:
            return rest
        # A stream that ends without message_stop looks like success to SDKs (reference 0, fact 3).
        return self.interrupted("api_error", "The upstream ended the stream before the message was complete.")

    def interrupted(self, error_type: str, message: str) -> bytes | None:
        if self._observer.mid_event:
            return None
        if self._observer.complete or self._observer.failed is not None:
            return b""
        return error_event(error_type, message)

    def observed(self) -> Observed:
        return self._observer.result()


class _Unstreamed:
    """An answer that tells nothing before its end."""

    __slots__ = ()

    @property
    def has_started(self) -> bool:
        return False

    @property
    def chars(self) -> int:
        return 0

    def finish(self) -> bytes:
        return b""

    def interrupted(self, error_type: str, message: str) -> bytes | None:
        return None


class MessageRelay(_Unstreamed):
    """A whole message. A copy is kept until its end, to read the usage from it."""

    __slots__ = ("_bytes", "_parts", "_wants_1h")

    def __init__(self, wants_1h: bool) -> None:
        self._wants_1h = wants_1h
        self._parts: list[bytes] = []
        self._bytes = 0

    def feed(self, data: bytes) -> bytes:
        self._bytes += len(data)
        if self._bytes <= ANSWER_BYTES_MAX:
            self._parts.append(data)
        return data

    def observed(self) -> Observed:
        parts, self._parts = self._parts, []
        return read_message(b"".join(parts), wants_1h=self._wants_1h)


class PlainRelay(_Unstreamed):
    """An answer that has no usage: an error, a list, a count."""

    __slots__ = ()

    def feed(self, data: bytes) -> bytes:
        return data

    def observed(self) -> Observed:
        return NOTHING_OBSERVED


PLAIN = PlainRelay()


def error_event(error_type: str, message: str) -> bytes:
    """An `error` event in the form of reference 3.4."""
    document = {"type": "error", "error": {"type": error_type, "message": message}}
    return b"event: error\ndata: %b\n\n" % json.dumps(document).encode()


def is_event_stream(fields: dict[bytes, bytes]) -> bool:
    return b"event-stream" in fields.get(b"content-type", b"").lower()
