"""From the upstream's answer to the client's socket: bytes as they come, watched for usage, never changed.

A relay decides what may be written now and what was seen; it writes nothing itself.
"""

from __future__ import annotations

import json
from typing import Final

from tenantry.domain.settlement import Observed
from tenantry.wire.answers import NOTHING_OBSERVED, begins_as_events, read_message
from tenantry.wire.observe import StreamObserver
from tenantry.wire.routes import BODY_BYTES_MAX

# The largest answer that is no stream: a larger one would not fit into the next request's messages. One of 128k tokens
# is under 1 MB; big results of server tools are not.
ANSWER_BYTES_MAX: Final = BODY_BYTES_MAX

# A server-sent event stream, a whole message, and an answer that has no usage: an error, a list, a count. A stream that
# was asked for and whose label says something else is UNSURE: its first bytes tell what it is.
STREAM: Final = 0
MESSAGE: Final = 1
PLAIN_BYTES: Final = 2
UNSURE: Final = 3
# So many bytes tell an event stream from a document; white space before them is held back up to here.
FIRST_BYTES: Final = 16
BLANK_BYTES_MAX: Final = 4096


class Relay:
    """What stands between the upstream's body and the client's socket.

    Of a stream only whole events are passed on, so that an interruption can be told apart. Of a message a copy is kept
    until its end, to read the usage from it. `is_stream`: it was asked for as one, whatever it turns out to be; then
    `is_start_due` until its first usage has been told, and `told_chars` is after how many characters more is told.
    """

    __slots__ = (
        "_is_whole",
        "_kind",
        "_parts",
        "_seen",
        "_wants_1h",
        "is_start_due",
        "is_stream",
        "observer",
        "told_chars",
    )

    def __init__(self, kind: int, wants_1h: bool = False, is_stream: bool = False) -> None:
        self._kind = kind
        self._wants_1h = wants_1h
        self.is_stream = self.is_start_due = is_stream
        self.told_chars = 0
        self.observer = StreamObserver(wants_1h=wants_1h) if kind == STREAM else None
        self._parts: list[bytes] = []
        self._is_whole = False
        self._seen: Observed | None = None

    def feed(self, data: bytes) -> bytes:
        """What to write now."""
        observer = self.observer
        if observer is not None:
            return observer.feed(data)
        if self._kind == MESSAGE:
            self._parts.append(data)
        elif self._kind == UNSURE:
            return self._feed_unsure(data)
        return data

    def _feed_unsure(self, data: bytes) -> bytes:
        """Hold back until it is known what comes."""
        first = b"".join((*self._parts, data))
        begun = first.lstrip()
        if len(begun) < FIRST_BYTES and not begun.startswith(b"{") and len(first) < BLANK_BYTES_MAX:
            self._parts = [first]
            return b""
        self._parts = []
        if begins_as_events(first):
            self.observer = StreamObserver(wants_1h=self._wants_1h)
        else:
            self._kind = MESSAGE
        return self.feed(first)

    @property
    def told_output_tokens(self) -> int:
        """The output that a stream has told so far."""
        return self.observer.told_output_tokens if self.observer is not None else 0

    @property
    def has_started(self) -> bool:
        """Whether the answer has told its first usage."""
        return self.observer is not None and self.observer.started

    @property
    def chars(self) -> int:
        """How much a stream has shown so far, in characters."""
        return self.observer.delta_chars if self.observer is not None else 0

    def finish(self) -> bytes | None:
        """What is left at a clean end of the body; None when only closing the connection can say that it broke off."""
        self._is_whole = True
        observer = self.observer
        if observer is None:
            return self._take_document(b"".join(self._parts)) if self._kind == UNSURE else b""
        document = b"" if observer.started else observer.document()
        if document:
            return self._take_document(document)
        rest = observer.finish()
        if observer.complete or observer.failed is not None:
            return rest
        # A stream that ends without message_stop looks like success to SDKs (reference 0, fact 3).
        return self.interrupted("api_error", "The upstream ended the stream before the message was complete.")

    def _take_document(self, body: bytes) -> bytes:
        """What was held back turns out to be a whole document."""
        self._kind, self.observer = MESSAGE, None
        self._parts = [body]
        return body

    def interrupted(self, error_type: str, message: str) -> bytes | None:
        """What tells the client that the answer broke off; None when only closing the connection can."""
        observer = self.observer
        if observer is None or observer.mid_event:
            return None
        if observer.complete or observer.failed is not None:
            return b""
        # Whom its label tells of a document, with a length perhaps, cannot be told by an event.
        return error_event(error_type, message) if self._kind == STREAM else None

    def observed(self) -> Observed:
        """What was seen: of a stream so far, of a message at its end. A body that did not finish is not whole."""
        if self.observer is not None:
            return self.observer.result()
        if self._kind != MESSAGE:
            return NOTHING_OBSERVED
        if self._seen is None:
            parts, self._parts = self._parts, []
            self._seen = self._read(b"".join(parts))
        return self._seen

    def _read(self, body: bytes) -> Observed:
        """What came for a request that asked for no stream; some upstreams answer with one all the same."""
        if body[:1] != b"{" and begins_as_events(body):
            observer = StreamObserver(wants_1h=self._wants_1h)
            observer.feed(body)
            if observer.started or observer.failed is not None:
                return observer.result()
        return read_message(body, wants_1h=self._wants_1h, is_whole=self._is_whole)


PLAIN: Final = Relay(PLAIN_BYTES)


def is_event_stream(content_type: bytes) -> bool:
    """Whether the media type is that of server-sent events: in any letters, with any parameters (RFC 9110 8.3.1)."""
    return content_type.partition(b";")[0].strip().lower() == b"text/event-stream"


def error_event(error_type: str, message: str) -> bytes:
    """An `error` event in the form of reference 3.4."""
    document = {"type": "error", "error": {"type": error_type, "message": message}}
    return b"event: error\ndata: %b\n\n" % json.dumps(document).encode()
