"""What is kept of a client's words about itself is bounded, and safe to show."""

from tenantry.gateway.caller import Caller
from tenantry.gateway.tallies import AGENT_BYTES_MAX, AGENT_CHARS_MAX, Tallies
from tenantry.wire.http1 import parse_request_head


def test_a_user_agent_is_bounded_and_keeps_no_control_characters() -> None:
    agent = "\u009b2J\u202e" + "é" * 30_000
    raw = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nuser-agent: {agent}\r\ncontent-length: 2\r\n\r\n".encode()
    caller = Caller(raw, parse_request_head(raw))
    assert len(caller.agent) == AGENT_BYTES_MAX
    tallies = Tallies()
    tallies.used("key_1", "192.0.2.1", caller.agent)
    tally = tallies.take()
    assert tally is not None
    [use] = tally.keys
    assert len(use.agent) == AGENT_CHARS_MAX
    assert use.agent == "\ufffd2J\ufffd" + "é" * (AGENT_CHARS_MAX - 4)
