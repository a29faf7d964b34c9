"""What is kept of a client's words about itself is bounded, and safe to show."""

from tenantry.gateway.caller import Caller
from tenantry.gateway.tallies import (
    AGENT_BYTES_MAX,
    AGENT_CHARS_MAX,
    RECENT_MAX,
    RECENT_OF_TENANT_MAX,
    TAKEN_AT_ONCE,
    Tallies,
)
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


def test_of_refused_requests_a_bounded_number_is_handed_over_and_one_tenant_leaves_places_for_others() -> None:
    tallies = Tallies()

    def refuse(tenant: str, count: int) -> None:
        for number in range(count):
            tallies.turned_away(tenant, "key_1", f"req_{tenant}_{number}", 429, "rate_limit_error", "rate", "m\x1b[2J")

    for _ in range(2):
        refuse("tnt_loud", 10 * RECENT_MAX)
        refuse("tnt_quiet", 2)
        taken = [tally for _ in range(tallies.steps) if (tally := tallies.take()) is not None]
        told = [one for tally in taken for one in tally.recent]
        assert [one.tenant_id for one in told] == ["tnt_loud"] * RECENT_OF_TENANT_MAX + ["tnt_quiet"] * 2
        assert {one.model for one in told} == {"m\ufffd[2J"}
        assert tallies.take() is None
    for number in range(RECENT_MAX):
        refuse(f"tnt_{number}", 2)
    assert tallies.steps == RECENT_MAX // TAKEN_AT_ONCE
