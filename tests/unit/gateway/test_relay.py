"""What a relay makes of bodies that end, break off, or are no answers."""

import pytest

from tenantry.domain.settlement import USAGE_UNREADABLE
from tenantry.gateway.relay import MESSAGE, PLAIN, STREAM, Relay, is_event_stream

BODY = b'{"model":"m","content":["x"],"usage":{"input_tokens":1,"output_tokens":2}}'


@pytest.mark.parametrize(
    ("told", "is_stream"),
    [
        (b"text/event-stream", True),
        (b"Text/Event-Stream ; charset=UTF-8", True),
        (b"text/event-stream;x=1", True),
        (b"application/json; x=text/event-stream", False),
        (b"", False),
    ],
)
def test_a_stream_is_known_by_its_media_type(told: bytes, is_stream: bool) -> None:
    assert is_event_stream(told) is is_stream


def test_a_message_is_whole_once_its_body_has_ended() -> None:
    relay = Relay(MESSAGE)
    assert relay.feed(BODY[:20]) + relay.feed(BODY[20:]) == BODY
    assert relay.finish() == b""
    seen = relay.observed()
    assert (seen.complete, seen.usage.output_tokens, relay.observed()) == (True, 2, seen)


def test_a_message_that_broke_off_is_not_whole() -> None:
    relay = Relay(MESSAGE)
    relay.feed(BODY[:40])
    assert relay.interrupted("api_error", "x") is None
    seen = relay.observed()
    assert (seen.started, seen.complete, seen.is_final, seen.flaws) == (False, False, False, ())


def test_a_whole_body_that_is_no_message_is_flawed() -> None:
    relay = Relay(MESSAGE)
    relay.finish()
    assert relay.observed().flaws == (USAGE_UNREADABLE,)


def test_a_stream_without_its_end_gets_an_error_event() -> None:
    relay = Relay(STREAM)
    relay.feed(b"event: ping\ndata: {}\n\n")
    assert (relay.finish() or b"").startswith(b"event: error\n")
    assert PLAIN.feed(b"x") == b"x"
    assert not PLAIN.has_started
