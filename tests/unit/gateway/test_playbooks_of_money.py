"""Money that went wrong in rare ways, as scripts; see `playbook`."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tenantry.domain.lanes import Lanes
from tenantry.domain.opening import Opening
from tenantry.gateway.authentication import Principal
from tests.unit.gateway.playbook import (
    Connection,
    World,
    end_events,
    message,
    start_event,
    text_event,
    whole_answer,
)

STREAM = start_event(1000) + text_event() + end_events(20)


def ends(world: World) -> list[Any]:
    return [event for kind, event in world.disk.events if kind == "end"]


def sent(world: World, body: dict[str, Any]) -> Connection:
    """A request that has gone out, by the client `c`."""
    world.client().ask(body)
    world.turn()
    world.connecting[0].made()
    return world.sent[0]


def cut_after(data: bytes, *places: int) -> list[bytes]:
    edges = [0, *places, len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@pytest.mark.parametrize("label", ["application/json", "text/plain", None])
@pytest.mark.parametrize("parts", [cut_after(STREAM), cut_after(b"\r\n" + STREAM, 1, 4, 9, 700), cut_after(STREAM, 8)])
def test_a_stream_that_was_asked_for_is_read_whatever_its_label(
    tmp_path: Path, label: str | None, parts: list[bytes]
) -> None:
    world = World(tmp_path)
    connection = sent(world, message(stream=True))
    connection.head(200, {"content-type": label} if label is not None else {})
    for part in parts:
        connection.body(part)
    connection.end()
    world.turn()
    (end,) = ends(world)
    assert (end.outcome.value, end.usage.input_tokens, end.usage.output_tokens) == ("settled", 1000, 20)
    assert "answer 200" in world.told
    assert world.leftovers() == []


def test_a_stream_under_another_label_that_breaks_off_is_booked_at_what_it_told_and_its_client_is_cut(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    connection = sent(world, message(stream=True))
    connection.head(200, {"content-type": "application/json", "content-length": str(len(STREAM))})
    connection.body(start_event(1000) + text_event("x" * 100))
    connection.broken()
    world.turn()
    (end,) = ends(world)
    assert (end.outcome.value, end.usage.input_tokens, end.usage.output_tokens) == ("estimated", 1000, 50)
    assert "answer cut" in world.told  # its length was promised: no event can be added
    assert world.leftovers() == []


@pytest.mark.parametrize("label", ["application/json", "text/plain", "text/event-stream", None])
def test_a_message_that_comes_for_a_stream_is_read(tmp_path: Path, label: str | None) -> None:
    world = World(tmp_path)
    connection = sent(world, message(stream=True))
    connection.head(200, {"content-type": label} if label is not None else {})
    for part in cut_after(b" " + whole_answer(10, 20), 1, 4):
        connection.body(part)
    connection.end()
    world.turn()
    (end,) = ends(world)
    assert (end.outcome.value, end.usage.output_tokens) == ("settled", 20)
    assert "answer 200" in world.told
    assert world.leftovers() == []


@pytest.mark.parametrize("label", ["text/event-stream", "application/json"])
def test_a_stream_that_nobody_asked_for_is_read(tmp_path: Path, label: str) -> None:
    world = World(tmp_path)
    connection = sent(world, message())
    connection.head(200, {"content-type": label})
    for part in cut_after(STREAM, 3, 100):
        connection.body(part)
    connection.end()
    world.turn()
    (end,) = ends(world)
    assert (end.outcome.value, end.usage.input_tokens, end.usage.output_tokens) == ("settled", 1000, 20)


@pytest.mark.parametrize("status", [201, 202, 203, 206, 299])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_with_another_success_is_settled(tmp_path: Path, status: int, stream: bool) -> None:
    world = World(tmp_path)
    connection = sent(world, message(stream=stream))
    connection.head(status, {"content-type": "text/event-stream" if stream else "application/json"})
    connection.body(STREAM if stream else whole_answer(1000, 20))
    connection.end()
    world.turn()
    (end,) = ends(world)
    assert (end.outcome.value, end.usage.input_tokens, end.usage.output_tokens) == ("settled", 1000, 20)


def test_a_success_that_asks_to_be_tried_again_is_an_answer(tmp_path: Path) -> None:
    world = World(tmp_path)
    connection = sent(world, message())
    connection.head(201, {"x-should-retry": "true"})
    connection.body(whole_answer(1000, 20))
    connection.end()
    world.turn()
    assert [end.outcome.value for end in ends(world)] == ["settled"]


def test_a_success_without_content_costs_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    connection = sent(world, message())
    connection.head(204, {})
    connection.end()
    world.turn()
    assert [end.outcome.value for end in ends(world)] == ["voided"]


@pytest.mark.interpreted
@pytest.mark.parametrize(("status", "learns"), [(200, True), (429, True), (404, False), (400, False), (500, False)])
def test_limits_are_learned_from_answers_and_from_refusals_for_being_too_much_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, learns: bool
) -> None:
    learned: list[Any] = []
    monkeypatch.setattr(Lanes, "learn", lambda self, *told: learned.append(told))
    world = World(tmp_path)
    connection = sent(world, message())
    connection.head(status, {"anthropic-ratelimit-requests-limit": "1", "anthropic-ratelimit-requests-remaining": "0"})
    connection.body(json.dumps({"type": "error"}).encode())
    assert bool(learned) is learns


def events(world: World, kind: str) -> list[Any]:
    return [event for name, event in world.disk.events if name == kind]


def test_an_absurd_prompt_neither_swells_what_is_held_nor_what_a_crash_would_leave(tmp_path: Path) -> None:
    world = World(tmp_path, budget_nanos=1_000_000_000)
    connection = sent(world, message(stream=True))
    connection.head(200, {"content-type": "text/event-stream"})
    connection.body(start_event(10**11) + text_event())
    world.turn()
    (progress,) = events(world, "progress")
    assert progress.usage.input_tokens == 1_000_000
    assert progress.held_nanos < 1_000_000_000
    connection.body(end_events(5))
    connection.end()
    world.turn()
    (end,) = ends(world)
    assert (end.outcome.value, end.flaws, end.usage.input_tokens) == ("estimated", ("prompt_above_context",), 1_000_000)
    assert world.leftovers() == []


@pytest.mark.parametrize("stream", [False, True])
def test_output_above_max_tokens_is_booked_at_max_tokens_and_flagged(tmp_path: Path, stream: bool) -> None:
    world = World(tmp_path)
    connection = sent(world, message(stream=stream, max_tokens=100))
    connection.head(200, {"content-type": "text/event-stream" if stream else "application/json"})
    connection.body(start_event(1000) + end_events(10**7) if stream else whole_answer(1000, 10**7))
    connection.end()
    world.turn()
    (end,) = ends(world)
    assert (end.outcome.value, end.basis, end.flaws) == ("estimated", "bound", ("output_above_max_tokens",))
    assert end.usage.output_tokens == 100
    assert 1000 * 100 + 100 * 500 <= end.cost_nanos <= events(world, "begin")[0].bound_nanos + 1000 * 100
    assert "10000000" in end.usage_raw


def dropped(tmp_path: Path, after_s: float, *, stream: bool = False, head: bool = False) -> tuple[int, int, int]:
    """What is booked for an attempt that is dropped without a word so long after it was sent, its bound, its prompt."""
    world = World(tmp_path)
    client = world.client()
    client.ask(message("x" * 1000, 64_000, stream=stream))
    world.turn()
    world.connecting[0].made()
    connection = world.sent[0]
    if head:
        connection.head(200, {"content-type": "text/event-stream" if stream else "application/json"})
    world.advance(after_s)
    client.leave()
    connection.broken()
    world.turn()
    begun, end = events(world, "begin")[0], ends(world)[0]
    assert (end.outcome.value, end.basis) == ("estimated", "bound")
    return end.cost_nanos, begun.bound_nanos, begun.bound_nanos - begun.output_nanos * begun.output_tokens


@pytest.mark.parametrize("head", [False, True])
def test_a_drop_is_booked_at_its_prompt_and_what_its_time_was_enough_for(tmp_path: Path, head: bool) -> None:
    soon, bound, prompt = dropped(tmp_path / "soon", 0.1, head=head)
    later, _, _ = dropped(tmp_path / "later", 100, head=head)
    assert bound == prompt + 64_000 * 550
    assert prompt + 1024 * 550 <= soon < prompt + 1100 * 550
    assert prompt + (100 * 150 + 1024) * 550 <= later < prompt + (101 * 150 + 1024) * 550


def test_a_stream_that_is_dropped_before_its_first_word_is_booked_at_no_more_than_was_held(tmp_path: Path) -> None:
    soon, bound, prompt = dropped(tmp_path / "soon", 0.1, stream=True, head=True)
    later, _, _ = dropped(tmp_path / "later", 100, stream=True, head=True)
    assert prompt < soon < later == bound


def test_a_whole_answer_that_cannot_be_read_is_booked_at_its_hold_however_soon_it_came(tmp_path: Path) -> None:
    world = World(tmp_path)
    connection = sent(world, message("x", 64_000))
    connection.head(200, {"content-type": "application/json"})
    connection.body(b"{}")
    connection.end()
    world.turn()
    (end,) = ends(world)
    assert (end.cost_nanos, end.flaws) == (events(world, "begin")[0].bound_nanos, ("usage_unreadable",))


def test_a_new_time_is_gone_to_with_what_was_spent_in_it(tmp_path: Path) -> None:
    """A gateway that started under a clock that was a month late."""
    world = World(tmp_path)
    till, late_us = world.parts.till, world.wall_us() + 31 * 86_400_000_000
    whose = principal_of(world)
    own, of_key = till.accounts_of(whose.tenant, whose.key)
    own.spend(5, world.wall_us())
    opening = Opening(late_us)
    opening.add("tnt_acme", "key_acme", "month", 70)
    opening.add("tnt_acme", "key_other", "month", 3)
    till.reopen(opening)
    assert own.spent["month"] == 5
    for account, spent in ((own, 73), (of_key, 70)):
        account.advance(late_us)
        assert account.spent["month"] == spent
    own.advance(world.wall_us())
    assert own.spent["month"] == 5


def principal_of(world: World) -> Principal:
    snapshot = world.parts.latest.snapshot
    (key,) = snapshot.keys.values()
    return Principal(snapshot.tenants[key.tenant_id], key)


def test_a_whole_answer_to_a_client_that_left_is_booked_as_such(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client()
    client.ask(message())
    world.turn()
    world.connecting[0].made()
    client.leave()
    world.sent[0].whole(200, whole_answer())
    world.turn()
    assert [(end.outcome.value, end.error) for end in ends(world)] == [("settled", "client_gone")]
    assert world.leftovers() == []


@pytest.mark.parametrize(
    ("asked", "told"), [({"inference_geo": "us"}, ("standard", "us")), ({"speed": "fast"}, ("fast", "global"))]
)
def test_where_and_how_fast_stands_in_the_journal_before_it_is_sent(
    tmp_path: Path, asked: dict[str, str], told: tuple[str, str]
) -> None:
    world = World(tmp_path)
    sent(world, message() | asked)
    (begun,) = [event for kind, event in world.disk.events if kind == "begin"]
    assert (begun.speed, begun.inference_geo) == told
