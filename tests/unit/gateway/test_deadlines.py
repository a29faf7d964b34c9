"""Deadlines on a clock that the test moves: those of a client's connection, and the wheel that keeps them all."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tenantry.gateway.deadlines import HORIZON_SECONDS, TICK_SECONDS, Deadlines, Timed
from tests.unit.gateway.playbook import ClientSocket, World, key_of

HEAD = (
    f"POST /v1/messages HTTP/1.1\r\nhost: a\r\nx-api-key: {key_of('acme')}\r\ncontent-length: 1000000\r\n\r\n".encode()
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_body_slower_than_1_kib_a_second_is_408_and_a_faster_one_may_take_its_time(world: World) -> None:
    slow, steady = world.client("slow"), world.client("steady")
    slow.connection.data_received(HEAD)
    steady.connection.data_received(HEAD)
    for _ in range(90):
        if slow.is_open:
            slow.connection.data_received(b" " * 100)
        steady.connection.data_received(b" " * 2000)
        world.advance(1)
    assert slow.answers == ["answer 408"]
    assert steady.answers == []


def test_what_of_a_body_came_fast_buys_no_time_for_the_rest(world: World) -> None:
    silent, dripping = world.client("silent"), world.client("dripping")
    for client in (silent, dripping):
        client.connection.data_received(HEAD)
        client.connection.data_received(b" " * 900_000)
    for _ in range(13):
        world.advance(5)
        if dripping.is_open:
            dripping.connection.data_received(b" ")
    assert (silent.answers, dripping.answers) == (["answer 408"], ["answer 408"])
    assert world.parts.population.body_bytes == 0


def test_an_idle_connection_closes_after_75_seconds_and_an_unused_one_after_10(world: World) -> None:
    used, unused = world.client("used"), world.client("unused")
    used.connection.data_received(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
    world.advance(11)
    assert (used.is_open, unused.is_open) == (True, False)
    world.advance(65)
    assert not used.is_open


def test_a_head_that_does_not_come_to_its_end_is_408_after_10_seconds_however_it_trickles(world: World) -> None:
    client: ClientSocket = world.client()
    for byte in HEAD[:9]:
        client.connection.data_received(bytes([byte]))
        world.advance(1)
    world.advance(2)
    assert client.answers == ["answer 408"]


def test_a_tenant_without_a_credential_is_503_and_holds_no_session(world: World) -> None:
    world.change("acme", credential=None)
    client = world.client()
    client.ask({"model": "m", "max_tokens": 1})
    assert client.answers == ["answer 503"]
    assert world.leftovers() == []


@pytest.mark.interpreted
def test_an_answer_that_is_owed_and_has_no_time_left_closes_its_connection(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Should a request ever be lost inside, its client does not wait for it.
    from tenantry.gateway.exchange import Exchange

    monkeypatch.setattr(Exchange, "start", lambda self, now: None)
    client = world.client()
    client.ask({"model": "m", "max_tokens": 1})
    world.advance(29)
    assert client.is_open
    monkeypatch.setattr(Exchange, "overdue", lambda self: None)
    world.advance(2)
    assert not client.is_open


class Thing(Timed):
    def __init__(self) -> None:
        super().__init__()
        self.called: list[float] = []

    def overdue(self) -> None:
        self.called.append(self.deadline)
        self.deadline = float("inf")


def test_a_deadline_is_met_within_a_tick_wherever_it_moved_before() -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance, now = random.Random(seed), [100.0]
    wheel = Deadlines(lambda: now[0])
    things = [Thing() for _ in range(50)]
    due: dict[int, float] = {}
    for _ in range(4000):
        if chance.random() < 0.5:
            number = chance.randrange(len(things))
            due[number] = now[0] + chance.choice((0.1, 1.0, 9.0, 11.0, 75.0))
            wheel.set(things[number], due[number])
        now[0] += chance.choice((0.0, 0.25, 0.25, 3.0))
        wheel.sweep()
        for number, thing in enumerate(things):
            if thing.called:
                assert thing.called == [due.pop(number)]
                thing.called.clear()
            assert due.get(number, now[0]) > now[0] - 2 * TICK_SECONDS
    assert wheel.watched < 400


def test_what_has_ended_leaves_the_wheel(tmp_path: Path) -> None:
    now = [100.0]
    wheel = Deadlines(lambda: now[0])
    thing = Thing()
    wheel.set(thing, 175.0)
    wheel.forget(thing)
    now[0] += HORIZON_SECONDS + 2 * TICK_SECONDS
    wheel.sweep()
    assert (wheel.watched, thing.called) == (0, [])


def test_a_clock_that_jumps_ahead_ends_what_is_overdue_and_nothing_twice() -> None:
    now = [100.0]
    wheel = Deadlines(lambda: now[0])
    thing = Thing()
    wheel.set(thing, 175.0)
    now[0] += 86_400
    for _ in range(3):
        wheel.sweep()
    assert thing.called == [175.0]


def test_what_takes_a_moment_to_end_is_told_once_after_a_process_that_was_frozen() -> None:
    """A connection that is closed is gone in the loop's next turn: until then it is overdue still."""
    now = 1000.0
    wheel = Deadlines(lambda: now)

    class Closing(Timed):
        told = 0

        def overdue(self) -> None:
            self.told += 1

    closing = Closing()
    closing.deadline = closing.watched_at = float("inf")
    wheel.set(closing, now + 10)
    now += 3600
    wheel.sweep()
    assert closing.told == 1
    now += TICK_SECONDS
    wheel.sweep()
    assert closing.told == 2
