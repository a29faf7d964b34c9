"""What is kept of a client's words about itself is bounded, and safe to show."""

from tenantry.gateway.caller import Caller
from tenantry.gateway.tallies import AGENT_BYTES_MAX, AGENT_CHARS_MAX, TAKEN_AT_ONCE, Tallies
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


def test_what_changed_is_handed_over_once_and_some_at_a_time() -> None:
    tallies = Tallies()
    for number in range(3 * TAKEN_AT_ONCE):
        tallies.used(f"key_{number}", "192.0.2.1", b"agent")
        tallies.refused(f"tnt_{number % 70}", "sessions_max")
    assert tallies.steps == 3
    taken = [tally for _ in range(tallies.steps) if (tally := tallies.take()) is not None]
    assert [len(tally.keys) for tally in taken] == [TAKEN_AT_ONCE] * 3
    assert {use.key_id for tally in taken for use in tally.keys} == {f"key_{n}" for n in range(3 * TAKEN_AT_ONCE)}
    counts = [(one.tenant_id, one.count) for tally in taken for one in tally.refusals]
    assert len(counts) == len(dict(counts)) == 70
    assert sum(count for _, count in counts) == 3 * TAKEN_AT_ONCE
    assert tallies.take() is None
    assert tallies.steps == 0
