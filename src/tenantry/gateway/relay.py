"""From the upstream's answer to the client's socket: bytes as they come, watched for usage, never changed.

A relay decides what may be written now and what was seen; it writes nothing itself.
"""

from __future__ import annotations

import json
from typing import Final

from tenantry.domain.settlement import USAGE_UNREADABLE, Observed
from tenantry.domain.usage import Usage
from tenantry.wire.answers import NOTHING_OBSERVED, read_message
from tenantry.wire.observe import StreamObserver

# Largest non-streaming answer kept to read its usage: an answer of 128k tokens is under 1 MB; big tool results are not.
ANSWER_BYTES_MAX = 64 * 1024 * 1024

# A server-sent event stream, a whole message, and an answer that has no usage: an error, a list, a count.
STREAM: Final = 0
MESSAGE: Final = 1
PLAIN_BYTES: Final = 2

_TOO_LARGE = Observed(None, None, Usage(), "", False, False, True, None, 0, flaws=(USAGE_UNREADABLE,))


class Relay:
    """What stands between the upstream's body and the client's socket.

    Of a stream only whole events are passed on, so that an interruption can be told apart. Of a message a copy is kept
    until its end, to read the usage from it.
    """

    __slots__ = ("_bytes", "_is_whole", "_kind", "_observer", "_parts", "_seen", "_wants_1h")

    def __init__(self, kind: int, wants_1h: bool = False) -> None:
        self._kind = kind
        self._wants_1h = wants_1h
        self._observer = StreamObserver(wants_1h=wants_1h) if kind == STREAM else None
        self._parts: list[bytes] = []
        self._bytes = 0
        self._is_whole = False
        self._seen: Observed | None = None

    def feed(self, data: bytes) -> bytes:
        """What to write now."""
        observer = self._observer
        if observer is not None:
            return observer.feed(data)
        if self._kind == MESSAGE:
            self._bytes += len(data)
            if self._bytes <= ANSWER_BYTES_MAX:
                self._parts.append(data)
            else:
                self._parts = []
        return data

    @property
    def told_output_tokens(self) -> int:
        """The output that a stream has told so far."""
        return self._observer.told_output_tokens if self._observer is not None else 0

    @property
    def has_started(self) -> bool:
        """Whether the answer has told its first usage."""
        return self._observer is not None and self._observer.started

    @property
    def chars(self) -> int:
        """How much a stream has shown so far, in characters."""
        return self._observer.delta_chars if self._observer is not None else 0

    def finish(self) -> bytes | None:
        """What is left at a clean end of the body; None when only closing the connection can say that it broke off."""
        self._is_whole = True
        observer = self._observer
        if observer is None:
            return b""
        rest = observer.finish()
        if observer.complete or observer.failed is not None:
            return rest
        # A stream that ends without message_stop looks like success to SDKs (reference 0, fact 3).
        return self.interrupted("api_error", "The upstream ended the stream before the message was complete.")

    def interrupted(self, error_type: str, message: str) -> bytes | None:
        """What tells the client that the answer broke off; None when only closing the connection can."""
        observer = self._observer
        if observer is None or observer.mid_event:
            return None
        if observer.complete or observer.failed is not None:
            return b""
        return error_event(error_type, message)

    def observed(self) -> Observed:
        """What was seen: of a stream so far, of a message at its end. A body that did not finish is not whole."""
        if self._observer is not None:
            return self._observer.result()
        if self._kind != MESSAGE:
            return NOTHING_OBSERVED
        if self._seen is None:
            parts, self._parts = self._parts, []
            if self._bytes > ANSWER_BYTES_MAX and self._is_whole:
                self._seen = _TOO_LARGE
            else:
                self._seen = read_message(b"".join(parts), wants_1h=self._wants_1h, is_whole=self._is_whole)
        return self._seen


PLAIN = Relay(PLAIN_BYTES)


def is_event_stream(fields: dict[bytes, bytes]) -> bool:
    """Whether the media type is that of server-sent events: in any letters, with any parameters (RFC 9110 8.3.1)."""
    told = fields.get(b"content-type", b"")
    return told.partition(b";")[0].strip().lower() == b"text/event-stream"


def is_json(fields: dict[bytes, bytes]) -> bool:
    """Whether the media type is that of a whole message."""
    return fields.get(b"content-type", b"").partition(b";")[0].strip().lower() == b"application/json"


def error_event(error_type: str, message: str) -> bytes:
    """An `error` event in the form of reference 3.4."""
    document = {"type": "error", "error": {"type": error_type, "message": message}}
    return b"event: error\ndata: %b\n\n" % json.dumps(document).encode()
