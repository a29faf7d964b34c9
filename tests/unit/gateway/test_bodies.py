"""Large bodies: fair turns between tenants, a bound for what waits, and refusals that need no body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tenantry.domain.admission import Lane
from tenantry.domain.directory import KeyStatus
from tenantry.gateway.bodies import Bodies
from tenantry.gateway.population import BODY_BYTES_MAX, TENANT_BODY_BYTES_MAX
from tests.unit.gateway.playbook import OPEN, ClientSocket, World, key_of, message

MB = 1 << 20
ONE_A_MINUTE = replace(OPEN, requests_per_minute=1, request_burst=3, queue_wait_ms_max=5_000)


class Reader:
    """Reads when told to; `read` names what was read, in order."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self._waiting: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
        self.bodies = Bodies(lambda read, then: self._waiting.append((read, then)))

    def add(self, tenant: str, size: int = MB, then: Callable[[Any], None] = lambda _: None) -> bool:
        return self.bodies.read(tenant, size, lambda: self.read.append(tenant), then)  # type: ignore[arg-type,return-value,func-returns-value]

    def go_on(self) -> None:
        while self._waiting:
            assert len(self._waiting) == 1  # one at a time
            read, then = self._waiting.pop()
            then(read())


def took(lane: Lane, input_tokens: int) -> None:
    """As if a request had been granted and had not ended."""
    lane.sessions += 1
    if lane.requests is not None:
        lane.requests.level -= 1
    if lane.input_tokens is not None:
        lane.input_tokens.level -= input_tokens


def test_turns_go_round_the_tenants() -> None:
    reader = Reader()
    for tenant in "aaaaabbc":
        assert reader.add(tenant)
    reader.go_on()
    assert "".join(reader.read) == "aabcabaa"  # the first had begun when it was alone
    assert reader.bodies.waiting_bytes == 0


def test_what_a_tenant_and_all_may_have_waiting_is_bounded() -> None:
    reader = Reader()
    per_tenant = TENANT_BODY_BYTES_MAX // (32 * MB)
    taken = {tenant: sum(reader.add(tenant, 32 * MB) for _ in range(20)) for tenant in "abcdef"}
    assert taken == dict.fromkeys("abcd", per_tenant) | dict.fromkeys("ef", 0)
    assert reader.bodies.waiting_bytes == BODY_BYTES_MAX
    reader.go_on()
    assert reader.bodies.waiting_bytes == 0
    assert reader.add("e", 32 * MB)


def test_a_fault_in_what_follows_one_body_does_not_hold_up_the_next() -> None:
    reader = Reader()

    def fail(_found: object) -> None:
        raise RuntimeError("a fault")

    reader.add("a", then=fail)
    reader.add("b")
    with pytest.raises(RuntimeError):
        reader.go_on()
    reader.go_on()
    assert reader.read == ["a", "b"]


def test_a_tenant_with_many_large_bodies_keeps_no_other_waiting(tmp_path: Path) -> None:
    world = World(tmp_path, slugs=("noisy", "quiet"))
    for number in range(10):
        world.client(f"n{number}").ask({"model": "x" * MB}, "noisy")
    quiet = world.client("quiet")
    quiet.ask({"model": "x" * MB}, "quiet")
    world.read_beside()
    assert [line.partition(":")[0] for line in world.told[:3]] == ["n0", "n1", "quiet"]
    assert len(world.told) == 11
    assert world.leftovers() == []


@pytest.mark.parametrize("leaves", [False, True])
def test_a_body_that_is_refused_when_it_was_read_counts_as_a_request(tmp_path: Path, leaves: bool) -> None:
    world = World(tmp_path, limits=ONE_A_MINUTE)
    for _ in range(3):
        client = world.client()
        client.ask({"model": "x" * MB})
        if leaves:
            [(_, then)] = world.beside
            world.beside.clear()
            found: Any = ValueError("it was read")
            client.leave()
            then(found)
        else:
            world.read_beside()
            assert client.answers == ["answer 400"]
    refused = world.client()
    refused.ask({"model": "x" * MB})
    assert (refused.answers, world.beside) == (["answer 429"], [])  # and is not read


def head_only(client: ClientSocket, framing: str) -> None:
    head = f"POST /v1/messages HTTP/1.1\r\nhost: a\r\nx-api-key: {key_of('acme')}\r\n{framing}\r\n\r\n"
    client.connection.data_received(head.encode())


@pytest.mark.parametrize("framing", ["content-length: 2000000", "transfer-encoding: chunked"])
@pytest.mark.parametrize("why", ["nothing", "budget", "rate", "tokens", "key"])
def test_a_large_body_that_could_change_nothing_is_refused_on_its_head(tmp_path: Path, why: str, framing: str) -> None:
    limits = replace(OPEN, input_tokens_per_minute=600_000) if why == "tokens" else ONE_A_MINUTE
    world = World(tmp_path, limits=limits, budget_nanos=1_000_000_000)
    parts = world.parts
    tenant = parts.latest.snapshot.tenants["tnt_acme"]
    [key] = parts.latest.snapshot.keys.values()
    if why == "budget":
        client = world.client("first")
        client.ask(message())
        world.turn()
        assert client.connection._exchange is not None
        [account, _] = client.connection._caller.accounts(parts, client.connection._exchange.principal)  # type: ignore[union-attr]
        account.spend(1_000_000_000, world.wall_us())
    elif why == "rate":
        for _ in range(3):
            parts.lanes.charge(tenant, key, True)
    elif why == "tokens":
        took(parts.lanes.lane_of(tenant), 600_000)
    elif why == "key":
        keys = {digest: replace(one, status=KeyStatus.REVOKED) for digest, one in parts.latest.snapshot.keys.items()}
        parts.latest.snapshot = replace(parts.latest.snapshot, keys=keys)
    client = world.client()
    head_only(client, framing)
    knows_size = framing.startswith("content-length")
    expected = {"nothing": [], "key": ["answer 403"], "tokens": ["answer 429"] if knows_size else []}
    assert client.answers == expected.get(why, ["answer 402" if why == "budget" else "answer 429"])
    if why in ("budget", "rate"):
        tally = parts.tallies.take()
        assert tally is not None
        assert [(one.tenant_id, one.count) for one in tally.refusals] == [("tnt_acme", 1)]


def test_what_is_in_the_way_for_a_moment_only_is_not_told_on_the_head(tmp_path: Path) -> None:
    world = World(tmp_path, limits=replace(OPEN, requests_per_minute=120, request_burst=1, queue_wait_ms_max=0))
    tenant = world.parts.latest.snapshot.tenants["tnt_acme"]
    took(world.parts.lanes.lane_of(tenant), 0)
    client = world.client()
    head_only(client, "content-length: 2000000")
    assert client.answers == []
