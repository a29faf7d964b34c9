"""What an attack once found, as scripts; see `playbook`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tenantry.domain.life import State
from tenantry.gateway.exchange import Exchange
from tests.unit.gateway.playbook import (
    OPEN,
    World,
    key_of,
    message,
    play,
    start_event,
    text_event,
    whole_answer,
)

STREAM_SENT = """
    >> stream
    << journal begin
    << connect
    >> connected
    << bytes up
"""


def ends(world: World) -> list[Any]:
    return [event for kind, event in world.disk.events if kind == "end"]


def test_a_fault_in_one_requests_turn_costs_the_others_of_that_turn_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, slugs=("acme", "evil"))
    Exchange.strict = False
    evil, clients = world.client("evil"), [world.client(f"c{number}") for number in range(5)]
    real = world.parts.pools.of

    def of(upstream: Any, credential_id: str, tenant_id: str) -> Any:
        if credential_id == "crd_evil":
            raise FileNotFoundError("its authorities are gone")
        return real(upstream, credential_id, tenant_id)

    monkeypatch.setattr(world.parts.pools, "of", of)
    evil.ask(message(), "evil")
    for client in clients:
        client.ask(message())
    world.turn()
    for connecting in list(world.connecting):
        connecting.made()
    for connection in list(world.sent):
        connection.head(200, {"content-length": str(len(whole_answer()))})
        connection.body(whole_answer())
        connection.end()
    world.turn()
    assert [client.answers for client in clients] == [["answer 200"]] * 5
    assert evil.answers == ["answer 503"]
    assert world.leftovers() == []


@pytest.mark.interpreted
def test_an_answer_that_cannot_be_told_closes_its_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    Exchange.strict = False
    client = world.client()
    client.ask(message())
    world.turn()
    world.connecting[0].made()
    connection = world.sent[0]
    connection.head(529, {})
    monkeypatch.setattr(Exchange, "_tell_last_answer", lambda self: 1 / 0)
    world.stop()
    connection.end()
    world.turn()
    assert not client.is_open
    assert world.leftovers() == []


def test_a_client_that_does_not_read_is_sent_nothing_more_and_asked_for_nothing_more(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client()
    client.ask(message(stream=True))
    world.turn()
    world.connecting[0].made()
    client.connection.pause_writing()
    connection = world.sent[0]
    connection.head(200, {"content-type": "text/event-stream"})
    assert connection.is_paused  # the client had not taken what came before
    client.connection.resume_writing()
    assert not connection.is_paused
    client.connection.pause_writing()
    connection.body(start_event())
    client.ask(message())
    client.ask(message())
    connection.end()
    world.turn()
    assert len(world.sent) == 0  # the next one waits until the client has read
    client.connection.resume_writing()
    world.turn()
    assert len(world.sent) == 1


def test_a_pipeline_is_not_read_further_than_its_bound_in_any_state(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client()
    paused: list[bool] = []
    client.pause_reading = lambda: paused.append(True)  # type: ignore[method-assign]
    client.connection.pause_writing()
    request = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"
    for _ in range(100):
        client.connection.data_received(request * 40)
    assert paused
    assert client.answers == []


def test_a_prompt_that_is_mostly_upstream_is_never_counted_down(tmp_path: Path) -> None:
    world = World(tmp_path, budget_nanos=1_000_000)
    client = world.client()
    client.ask(message() | {"thread": {"type": "continue", "previous_message_id": "msg_1"}})
    assert client.answers == ["answer 402"]
    assert world.told == ["answer 402"]


def test_a_wall_clock_that_jumps_bills_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, budget_nanos=50_000_000)
    play(world, STREAM_SENT + ">> head 200 stream\n>> started\n<< journal progress\n>> text 40")
    real, jump = world.wall_us, 3_600_000_000
    object.__setattr__(world.parts, "clock", replace(world.parts.clock, wall_us=lambda: real() + jump))
    world.advance(1)
    play(world, ">> reset\n<< answer 200 interrupted\n<< journal end estimated upstream_dropped")
    assert ends(world)[0].usage.output_tokens < 400


def test_a_stream_whose_client_left_before_its_head_is_held_and_booked_by_its_time(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(
        world,
        STREAM_SENT + ">> leave\n>> head 200 stream\n>> started\n<< journal progress\n>> wait 55\n<< journal progress*",
    )
    world.advance(10)
    assert ends(world)[0].usage.output_tokens > 50 * 150


def test_an_answer_whose_client_stalled_is_read_on_to_its_own_deadline(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client()
    client.ask(message())
    world.turn()
    world.connecting[0].made()
    connection, body = world.sent[0], whole_answer(10, 20)
    connection.head(200, {"content-length": str(len(body))})
    connection.body(body[:10])
    client.connection.pause_writing()
    world.advance(65)
    assert not client.is_open
    world.advance(100)
    connection.body(body[10:])
    connection.end()
    world.turn()
    assert (ends(world)[0].outcome.value, ends(world)[0].usage.output_tokens) == ("settled", 20)


def test_output_that_the_upstream_tells_midway_is_held(tmp_path: Path) -> None:
    world = World(tmp_path, budget_nanos=10**9)
    play(world, STREAM_SENT + ">> head 200 stream\n>> started\n<< journal progress")
    told = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 14_000}}
    world.sent[0].body(f"event: message_delta\ndata: {json.dumps(told)}\n\n".encode() + text_event("x" * 300))
    world.advance(0.5)
    assert world.parts.till.held_nanos() > 14_000 * 500


def test_bodies_that_do_not_come_to_their_end_are_bounded_and_let_go(tmp_path: Path) -> None:
    world = World(tmp_path)
    key = key_of("acme")
    head = f"POST /v1/messages HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\ncontent-length: 33000000\r\n\r\n".encode()
    clients = [world.client(f"c{number}") for number in range(6)]
    for client in clients:
        client.connection.data_received(head)
        client.connection.data_received(b" " * 30_000_000)
    assert [client.answers for client in clients] == [[], [], [], [], ["answer 429"], ["answer 429"]]
    world.advance(61)  # silence
    assert [client.answers for client in clients[:4]] == [["answer 408"]] * 4
    assert world.parts.population.body_bytes == 0


def test_who_closes_its_side_while_nothing_is_sent_for_it_has_left(tmp_path: Path) -> None:
    world = World(tmp_path, limits=replace(OPEN, sessions_max=1))
    first, second = world.client("a"), world.client("b")
    first.ask(message())
    second.ask(message())
    world.turn()
    assert first.connection.eof_received()
    assert not second.connection.eof_received()
    assert State.WAITING in {one.state for one in world.parts.population.served}  # type: ignore[attr-defined]


def test_a_message_that_is_labelled_a_stream_is_read_as_what_was_asked_for(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client()
    client.ask(message())
    world.turn()
    world.connecting[0].made()
    connection = world.sent[0]
    connection.head(200, {"content-type": "Text/Event-Stream"})
    connection.body(whole_answer(10, 20))
    connection.end()
    world.turn()
    assert (ends(world)[0].outcome.value, ends(world)[0].usage.output_tokens) == ("settled", 20)


@pytest.mark.parametrize("leaves", [False, True])
def test_an_answer_that_comes_a_byte_at_a_time_ends_after_an_hour(tmp_path: Path, leaves: bool) -> None:
    world = World(tmp_path, budget_nanos=10**9)
    client = world.client()
    client.ask(message())
    world.turn()
    world.connecting[0].made()
    connection, body = world.sent[0], whole_answer()
    connection.head(200, {"content-type": "application/json", "content-length": str(len(body))})
    for at in range(36):
        assert ends(world) == []
        connection.body(body[at : at + 1])
        world.advance(100)
        if leaves and at == 30:
            client.leave()  # nor is it read on for ever
            break
    world.advance(1)
    [end] = ends(world)
    assert (end.outcome.value, end.error) == ("estimated", "timed_out")
    assert end.cost_nanos
    assert client.answers == ([] if leaves else ["answer cut"])
    assert world.leftovers() == []


def test_a_stream_that_flows_slowly_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path)
    play(world, STREAM_SENT + ">> head 200 stream\n>> started\n<< journal progress")
    for _ in range(50):
        world.sent[0].body(b"event: ping\ndata: {}\n\n")
        world.advance(100)
    assert ends(world) == []


@pytest.mark.parametrize("fields", [{}, {"content-length": "5"}])
def test_no_byte_stands_behind_an_answer_that_has_no_body(tmp_path: Path, fields: dict[str, str]) -> None:
    world = World(tmp_path)
    client = world.client()
    client.ask(message(stream=True))
    world.turn()
    world.connecting[0].made()
    connection = world.sent[0]
    connection.head(204, {"content-type": "text/event-stream", **fields})
    connection.end()
    world.turn()
    head, _, body = client.received.partition(b"\r\n\r\n")  # the next answer on this connection would stand here
    assert head.startswith(b"HTTP/1.1 204 ")
    assert body == b""


def test_an_answer_that_has_no_body_promises_none(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client()
    client.ask(message())
    world.turn()
    world.connecting[0].made()
    world.sent[0].head(204, {"content-length": "5"})
    world.sent[0].end()
    assert client.received.startswith(b"HTTP/1.1 204 ")
    assert b"content-length" not in client.received
