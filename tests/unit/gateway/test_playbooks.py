"""Requests as scripts: `>>` is what happens to the gateway, `<<` what it does. See `playbook`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tenantry.domain.directory import Disconnect, TenantStatus
from tenantry.gateway.authentication import Principal
from tests.unit.gateway.playbook import OPEN, World, message, play, whole_answer

SENT = """
    >> ask
    << journal begin
    << connect
    >> connected
    << bytes up
"""
STREAM_SENT = SENT.replace("ask", "stream")
RELAYING = (
    STREAM_SENT
    + """
    >> head 200 stream
    >> started
    << journal progress
    """
)


def test_a_request_is_journalled_sent_answered_and_settled_and_its_connection_used_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(
        world,
        SENT
        + """
        >> whole 200
        << answer 200
        << journal end settled
        >> ask
        << journal begin
        << bytes up
        >> whole 200
        << answer 200
        << journal end settled
        """,
    )
    assert world.leftovers() == []


def test_a_stream_is_journalled_as_it_goes_without_a_budget_too(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(
        world,
        RELAYING
        + """
        >> text 20000
        << journal progress
        >> finished
        << answer 200
        << journal end settled
        """,
    )
    assert world.leftovers() == []


def test_a_large_body_is_read_beside_the_loop(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(
        world,
        """
        >> big
        >> read
        << journal begin
        << connect
        >> connected
        << bytes up
        >> whole 200
        << answer 200
        << journal end settled
        >> unreadable
        >> read
        << answer 400
        """,
    )
    assert world.leftovers() == []


def test_who_leaves_while_a_body_is_read_is_forgotten(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(world, ">> big\n>> leave\n>> read")
    assert world.leftovers() == []


def test_a_full_disk_refuses_and_nothing_is_sent(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(
        world,
        """
        >> disk_full
        >> ask
        << journal full
        << answer 503
        """,
    )
    assert world.leftovers() == []


def test_a_connection_that_fails_is_tried_again_and_the_last_answer_is_the_gateways_own(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(
        world,
        """
        >> ask
        << journal begin
        << connect
        >> connect_failed
        << journal end voided connect_failed
        >> wait 1
        << journal begin
        << connect
        >> connect_failed
        << journal end voided connect_failed
        >> wait 2
        << journal begin
        << connect
        >> connect_failed
        << answer 529
        << journal end voided connect_failed
        """,
    )
    assert world.leftovers() == []


def test_a_failed_answer_is_held_back_and_the_next_one_given(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(
        world,
        SENT
        + """
        >> whole 529
        << journal end voided
        >> wait 1
        << journal begin
        << bytes up
        >> whole 200
        << answer 200
        << journal end settled
        """,
    )
    assert world.leftovers() == []


def test_a_failed_answer_that_is_too_large_to_hold_is_the_clients(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(
        world,
        SENT
        + """
        >> head 529
        >> flood
        >> end
        << answer 529
        << journal end voided
        """,
    )
    assert world.leftovers() == []


def test_a_request_on_a_connection_that_had_been_closed_goes_out_again_on_a_fresh_one(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(
        world,
        SENT
        + """
        >> whole 200
        << answer 200
        << journal end settled
        >> ask
        << journal begin
        << bytes up
        >> stale
        << connect
        >> connected
        << bytes up
        >> whole 200
        << answer 200
        << journal end settled
        """,
    )
    assert world.leftovers() == []


def test_a_request_falls_back_without_drawing_on_the_first_ones_retries(tmp_path: Path) -> None:
    world = World(tmp_path, fallback=True)
    for _ in range(10):
        standing = world.parts.health.of(world.parts.latest.snapshot.tenants["tnt_acme"].credential)
        standing.retries.take() if standing.retries.may_retry else None
    play(
        world,
        SENT
        + """
        >> whole 500
        << journal end voided
        << journal begin
        << connect
        >> connected
        << bytes up crd_second
        >> whole 200
        << answer 200
        << journal end settled
        """,
    )
    assert world.leftovers() == []


def test_a_client_that_leaves_an_unstreamed_answer_has_it_read_to_its_own_deadline_and_booked_at_its_hold(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, budget_nanos=10**9)
    play(
        world,
        SENT
        + """
        >> leave
        >> wait 500
        >> wait 101
        << abandon
        << journal end estimated timed_out
        """,
    )
    (end,) = [event for kind, event in world.disk.events if kind == "end"]
    assert end.cost_nanos > 0
    assert world.leftovers() == []


def test_a_client_that_leaves_is_read_on_for_the_bill(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(world, RELAYING + ">> leave\n>> finished\n<< journal end settled client_gone")
    assert world.leftovers() == []


def test_a_client_that_leaves_is_broken_off_where_that_is_wished(tmp_path: Path) -> None:
    world = World(tmp_path, disconnect=Disconnect.CANCEL)
    play(world, RELAYING + ">> leave\n<< abandon\n<< journal end estimated client_gone_cancelled")
    assert world.leftovers() == []


def test_a_stream_whose_client_left_is_read_for_a_minute_and_no_longer(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(world, RELAYING + ">> leave\n>> wait 61\n<< journal progress*\n<< abandon\n<< journal end estimated timed_out")
    assert world.leftovers() == []


def test_a_client_that_takes_no_bytes_for_a_minute_counts_as_gone(tmp_path: Path) -> None:
    world = World(tmp_path)
    script = (
        ">> pause\n>> wait 61\n<< journal progress*\n<< answer cut\n>> finished\n<< journal end settled client_gone"
    )
    play(world, RELAYING + ">> text 9\n" + script)
    assert world.leftovers() == []


@pytest.mark.parametrize("sent", [SENT, STREAM_SENT])
def test_an_upstream_that_is_reset_before_its_answer_is_tried_again(tmp_path: Path, sent: str) -> None:
    world = World(tmp_path)
    play(
        world,
        sent
        + """
        >> reset
        << journal end estimated upstream_dropped
        >> wait 1
        << journal begin
        << connect
        >> connected
        << bytes up
        """,
    )


def test_a_stream_that_breaks_off_ends_with_an_error_event(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(
        world,
        RELAYING
        + """
        >> text 9
        >> reset
        << answer 200 interrupted
        << journal end estimated upstream_dropped
        """,
    )
    assert world.leftovers() == []


def test_a_whole_answer_that_breaks_off_is_cut_and_booked_at_its_hold(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(
        world,
        SENT
        + """
        >> head 200 json content-length=200
        >> half
        >> reset
        << answer cut
        << journal end estimated upstream_dropped
        """,
    )
    (end,) = [event for kind, event in world.disk.events if kind == "end"]
    assert end.cost_nanos > 0
    assert world.leftovers() == []


def test_a_silent_upstream_is_given_up_at_its_deadline(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(
        world,
        SENT
        + """
        >> wait 601
        << abandon
        << answer 504
        << journal end estimated timed_out
        """,
    )
    assert world.leftovers() == []


def test_a_stream_that_passes_its_budget_ends_with_an_error_event_and_is_booked_at_its_time(tmp_path: Path) -> None:
    # Thinking that is not shown: nothing comes for a long time, and is billed all the same.
    world = World(tmp_path, budget_nanos=10_000_000)
    play(world, RELAYING)
    world.advance(600)
    assert world.told[-3:] == ["abandon", "answer 200 interrupted", "journal end estimated budget_reached"]
    (end,) = [event for kind, event in world.disk.events if kind == "end"]
    whose = next(iter(_principals(world)))
    account = world.parts.till.accounts_of(whose.tenant, whose.key)[0]
    assert account.spent["month"] == end.cost_nanos
    assert 7_000_000 < end.cost_nanos <= 10_000_000
    assert world.leftovers() == []


def _principals(world: World) -> list[Principal]:
    snapshot = world.parts.latest.snapshot
    return [Principal(snapshot.tenants[key.tenant_id], key) for key in snapshot.keys.values()]


def test_twelve_requests_at_five_sessions_are_all_answered_when_the_first_five_use_up_the_budget(
    tmp_path: Path,
) -> None:
    # Five holds fit; each answer costs more than all of the budget.
    limits = replace(OPEN, sessions_max=5, requests_per_minute=None)
    world = World(tmp_path, limits=limits, budget_nanos=400_000)
    clients = [world.client(f"c{number}") for number in range(12)]
    for client in clients:
        client.ask(message())
    world.turn()
    for connecting in list(world.connecting):
        connecting.made()
    assert len(world.sent) == 5
    for connection in list(world.sent):
        body = whole_answer(10, 1500)  # an answer that costs more than it may
        connection.head(200, {"content-type": "application/json", "content-length": str(len(body))})
        connection.body(body)
        connection.end()
        world.turn()
    assert [len(client.answers) for client in clients] == [1] * 12
    assert sorted(client.answers[0] for client in clients) == ["answer 200"] * 5 + ["answer 429"] * 7
    assert world.leftovers() == []


def test_twelve_requests_at_five_sessions_are_all_answered_when_the_first_five_are_reset(tmp_path: Path) -> None:
    limits = replace(OPEN, sessions_max=5, requests_per_minute=None)
    world = World(tmp_path, limits=limits)
    clients = [world.client(f"c{number}") for number in range(12)]
    for client in clients:
        client.ask(message())
    for _ in range(200):
        world.turn()
        for connecting in list(world.connecting):
            connecting.made()
        for connection in list(world.sent):
            connection.broken()
        world.advance(1)
    assert [len(client.answers) for client in clients] == [1] * 12
    assert world.leftovers() == []


def test_a_tenant_that_is_disabled_ends_what_runs_and_what_waits(tmp_path: Path) -> None:
    world = World(tmp_path, limits=replace(OPEN, sessions_max=1))
    play(
        world,
        RELAYING
        + """
        >> text
        >> ask d
        >> disable
        << d: answer 403
        << abandon
        << answer 200 interrupted
        << journal end estimated tenant_disabled
        """,
    )
    assert world.leftovers() == []


def test_who_waits_is_sent_away_when_the_gateway_stops_and_who_is_served_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path, limits=replace(OPEN, sessions_max=1))
    play(
        world,
        RELAYING
        + """
        >> ask d
        >> stop
        << d: answer 503
        >> finished
        << answer 200
        << journal end settled
        """,
    )
    assert world.leftovers() == []


def test_who_waits_longer_than_the_tier_allows_is_told_when_to_come_again(tmp_path: Path) -> None:
    world = World(tmp_path, limits=replace(OPEN, sessions_max=1))
    play(world, RELAYING + ">> ask d\n>> wait 5.3\n<< d: answer 429")


def test_a_prompt_that_may_fit_is_counted_by_the_upstream_first(tmp_path: Path) -> None:
    # The bytes of the body would cost more than is left; the tokens do not.
    world = World(tmp_path, budget_nanos=65_000)
    play(
        world,
        """
        >> ask
        << connect
        >> connected
        << bytes up
        >> count 10
        << journal begin
        << bytes up
        >> whole 200
        << answer 200
        << journal end settled
        """,
    )
    assert world.leftovers() == []


def test_who_leaves_before_its_beginning_stands_in_the_journal_is_never_sent_and_the_beginning_gets_its_end(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, budget_nanos=10**9)
    client = world.client()
    client.ask(message())
    client.leave()
    world.turn()
    assert world.told == ["journal begin", "journal end voided not_sent"]
    assert world.leftovers() == []


def test_who_is_cut_off_before_its_beginning_stands_in_the_journal_is_told_so(tmp_path: Path) -> None:
    world = World(tmp_path, budget_nanos=10**9)
    client = world.client()
    client.ask(message())
    world.change("acme", status=TenantStatus.DISABLED)
    world.turn()
    assert world.told == ["answer 403", "journal begin", "journal end voided not_sent"]
    assert world.leftovers() == []


def test_a_disk_that_fails_after_the_client_has_left_leaves_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, budget_nanos=10**9, disconnect=Disconnect.CANCEL)
    client = world.client()
    client.ask(message())
    client.leave()
    world.disk.works = False
    world.turn()
    assert world.told == ["journal full"]
    assert world.leftovers() == []


def test_a_journal_that_never_answers_is_given_up(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client()
    client.ask(message())
    world.time.forget_soon()
    world.advance(16)
    assert client.answers == ["answer 503"]


def test_a_gateway_that_stops_goes_on_with_who_is_about_to_be_sent(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client()
    client.ask(message())
    world.stop()
    world.turn()
    assert world.told == ["journal begin", "connect"]


def test_a_timer_that_never_comes_does_not_hold_a_request_for_ever(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(world, SENT + ">> whole 529\n<< journal end voided")
    world.time.forget_timers()
    world.advance(25)
    assert world.told[-2:] == ["journal begin", "bytes up"]


COUNTING = """
    >> ask
    << connect
    >> connected
    << bytes up
"""
COUNTED_BUDGET = 65_000  # the bytes of the body would cost more, its tokens do not


@pytest.mark.parametrize("disconnect", list(Disconnect))
def test_who_leaves_while_its_prompt_is_counted_costs_nothing(tmp_path: Path, disconnect: Disconnect) -> None:
    world = World(tmp_path, budget_nanos=COUNTED_BUDGET, disconnect=disconnect)
    play(world, COUNTING + ">> leave\n<< abandon")
    assert world.leftovers() == []


def test_who_is_cut_off_while_its_prompt_is_counted_is_told_so(tmp_path: Path) -> None:
    world = World(tmp_path, budget_nanos=COUNTED_BUDGET)
    play(world, COUNTING + ">> disable\n<< answer 403\n<< abandon")
    assert world.leftovers() == []


def test_a_gateway_that_stops_waits_for_a_count(tmp_path: Path) -> None:
    world = World(tmp_path, budget_nanos=COUNTED_BUDGET)
    play(world, COUNTING + ">> stop\n>> count 10\n<< journal begin\n<< bytes up")


def test_a_count_that_does_not_come_leaves_the_bytes_to_decide(tmp_path: Path) -> None:
    world = World(tmp_path, budget_nanos=COUNTED_BUDGET)
    play(world, COUNTING + ">> wait 11\n<< abandon\n<< answer 402")
    assert world.leftovers() == []


@pytest.mark.parametrize("act", ["stop", "disable"])
def test_who_is_not_read_yet_is_sent_away(tmp_path: Path, act: str) -> None:
    world = World(tmp_path)
    play(world, f">> big\n>> {act}\n<< answer {503 if act == 'stop' else 403}\n>> read")
    assert world.leftovers() == []


def test_a_held_answer_is_not_waited_for_when_its_tenant_is_disabled(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(world, SENT + ">> head 529\n>> disable\n<< abandon\n<< answer 403\n<< journal end voided tenant_disabled")
    assert world.leftovers() == []


def test_a_held_answer_is_the_clients_when_the_gateway_stops(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(world, SENT + ">> head 529\n>> stop\n>> end\n<< answer 529\n<< journal end voided")
    assert world.leftovers() == []


def test_an_answer_that_is_read_on_for_the_bill_goes_on_when_the_gateway_stops_and_ends_when_its_tenant_is_disabled(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    play(world, RELAYING + ">> leave\n>> stop\n>> disable\n<< abandon\n<< journal end estimated tenant_disabled")
    assert world.leftovers() == []


def test_who_left_before_a_connection_turned_out_to_be_closed_owes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(
        world,
        SENT
        + """
        >> whole 200
        << answer 200
        << journal end settled
        >> ask
        << journal begin
        << bytes up
        >> leave
        >> stale
        << journal end voided client_gone
        """,
    )
    assert world.leftovers() == []


def test_a_stream_that_nobody_reads_ends_where_its_budget_does(tmp_path: Path) -> None:
    world = World(tmp_path, budget_nanos=2_500_000)
    play(
        world,
        RELAYING + ">> leave\n>> wait 59\n<< abandon\n<< journal end estimated budget_reached",
    )
    assert world.leftovers() == []


def test_who_waits_for_another_attempt_gets_the_last_answer_when_the_gateway_stops(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(world, SENT + ">> whole 529\n<< journal end voided\n>> stop\n<< answer 529")
    assert world.leftovers() == []


def test_a_gateway_that_stops_goes_on_with_who_is_being_connected_or_has_been_sent(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(
        world,
        """
        >> ask
        << journal begin
        << connect
        >> stop
        >> connected
        << bytes up
        >> stop
        >> whole 200
        << answer 200
        << journal end settled
        """,
    )
    assert world.leftovers() == []


@pytest.mark.parametrize(
    ("before", "then"),
    [
        (">> ask\n<< journal begin\n<< connect", "<< connect cancelled\n<< answer 403\n<< journal end voided"),
        (SENT, "<< abandon\n<< answer 403\n<< journal end estimated"),
        (SENT + ">> whole 529\n<< journal end voided", "<< answer 403"),
    ],
)
def test_who_is_cut_off_before_its_answer_begins_is_told_why(tmp_path: Path, before: str, then: str) -> None:
    world = World(tmp_path)
    play(world, before + "\n>> disable\n" + then + (" tenant_disabled" if "journal" in then else ""))
    assert world.leftovers() == []
