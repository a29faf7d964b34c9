"""What one tenant or key does to another: nothing. And what each of them may: what its own limits say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tenantry.domain.budgets import Budget, Cap
from tenantry.domain.directory import KeyStatus, TenantStatus
from tenantry.domain.limits import Limits
from tests.unit.gateway.playbook import (
    OPEN,
    ClientSocket,
    World,
    message,
    start_event,
    text_event,
    whole_answer,
)

COUNT = "/v1/messages/count_tokens"
STREAM = {"content-type": "text/event-stream"}
# Nobody waits: what is not given at once is refused.
IMPATIENT = replace(OPEN, queue_depth_max=0, queue_wait_ms_max=0)


def sent(world: World, client: ClientSocket, key: str, path: str = "/v1/messages", **more: bool) -> None:
    """A request that goes upstream and is not answered yet, unless it is refused."""
    client.ask(message(**more), key, path)
    world.turn()
    for connecting in list(world.connecting):
        connecting.made()


def served(world: World, key: str, path: str = "/v1/messages", output_tokens: int = 5, **fields: str) -> str:
    """What a request came to; `fields` are the upstream's, by name."""
    client = world.client(key)
    sent(world, client, key, path)
    if not client.answers:
        connection, body = world.sent[-1], whole_answer(10, output_tokens)
        told = {name.replace("_", "-"): text for name, text in fields.items()}
        connection.head(200, {"content-type": "application/json", "content-length": str(len(body))} | told)
        connection.body(body)
        connection.end()
        world.turn()
    return client.answers[-1]


def two_keys(tmp_path: Path, **of_world: Any) -> World:
    """Tenants acme and globex; acme has a second key, `ci`."""
    world = World(tmp_path, slugs=("acme", "globex"), **({"limits": IMPATIENT} | of_world))
    world.set_key("ci", "acme")
    return world


# What is full after one request that is answered with as many tokens as it asked for.
ONE: dict[str, dict[str, int]] = {
    "requests": {"requests_per_minute": 1, "request_burst": 1},
    "input tokens": {"input_tokens_per_minute": 10},
    "output tokens": {"output_tokens_per_minute": 60},
}


@pytest.mark.parametrize("limit", ONE)
def test_each_limit_of_a_tenant_holds_over_its_keys_and_over_nobody_elses(tmp_path: Path, limit: str) -> None:
    world = two_keys(tmp_path)
    limits = replace(IMPATIENT, **ONE[limit])
    world.change("acme", limits=limits)
    world.change("globex", limits=limits)
    assert served(world, "acme", output_tokens=100) == "answer 200"
    assert [served(world, key) for key in ("acme", "ci")] == ["answer 429"] * 2
    assert served(world, "globex") == "answer 200"


@pytest.mark.parametrize("limit", ONE)
def test_each_limit_of_a_key_holds_for_that_key_only(tmp_path: Path, limit: str) -> None:
    world = two_keys(tmp_path)
    own: Limits = replace(IMPATIENT, **ONE[limit])
    for key, slug in (("acme", "acme"), ("ci", "acme"), ("globex", "globex")):
        world.set_key(key, slug, limits=own)
    assert served(world, "acme", output_tokens=100) == "answer 200"
    assert served(world, "acme") == "answer 429"
    assert [served(world, key) for key in ("ci", "globex")] == ["answer 200"] * 2


def test_sessions_of_a_tenant_hold_over_its_keys_and_over_nobody_elses(tmp_path: Path) -> None:
    world = two_keys(tmp_path, limits=replace(IMPATIENT, sessions_max=1))
    first = world.client("first")
    sent(world, first, "acme")
    assert [served(world, key) for key in ("acme", "ci", "globex")] == ["answer 429", "answer 429", "answer 200"]
    assert not first.answers


def test_sessions_of_a_key_hold_for_that_key_only(tmp_path: Path) -> None:
    world = two_keys(tmp_path)
    for key, slug in (("acme", "acme"), ("ci", "acme"), ("globex", "globex")):
        world.set_key(key, slug, limits=replace(IMPATIENT, sessions_max=1))
    sent(world, world.client("first"), "acme")
    assert [served(world, key) for key in ("acme", "ci", "globex")] == ["answer 429", "answer 200", "answer 200"]


@pytest.mark.parametrize(
    "limits", [{"requests_per_minute": 1, "request_burst": 1}, {"sessions_max": 1}], ids=["requests", "sessions"]
)
def test_free_routes_have_the_tenants_limits_in_a_lane_of_their_own(tmp_path: Path, limits: dict[str, int]) -> None:
    world = two_keys(tmp_path, limits=replace(IMPATIENT, **limits))
    sent(world, world.client("first"), "acme", COUNT)
    assert [served(world, key, COUNT) for key in ("acme", "ci", "globex")] == ["answer 429", "answer 429", "answer 200"]
    assert served(world, "acme") == "answer 200"


def test_a_capacity_that_is_declared_holds_over_all_who_draw_on_it(tmp_path: Path) -> None:
    world = two_keys(tmp_path, capacity=replace(OPEN, requests_per_minute=2, request_burst=2))
    assert [served(world, key) for key in ("acme", "globex", "acme", "globex")] == ["answer 200"] * 2 + [
        "answer 429"
    ] * 2


def test_what_an_upstream_tells_one_credential_says_nothing_of_anothers(tmp_path: Path) -> None:
    world = two_keys(tmp_path)
    spent = {"anthropic_ratelimit_requests_limit": "50", "anthropic_ratelimit_requests_remaining": "0"}
    assert served(world, "acme", **spent) == "answer 200"
    assert [served(world, key) for key in ("acme", "ci", "globex")] == ["answer 429", "answer 429", "answer 200"]


def test_what_an_upstream_says_of_its_customer_does_not_reach_the_tenant(tmp_path: Path) -> None:
    world = two_keys(tmp_path)
    names = ["organization_id", "workspace_id", "ratelimit_requests_limit", "ratelimit_tokens_remaining"]
    told = {f"anthropic_{name}": "987654321" for name in names}
    client = world.client("acme")
    sent(world, client, "acme")
    connection, body = world.sent[-1], whole_answer()
    headers = {name.replace("_", "-"): text for name, text in told.items()}
    connection.head(200, {"content-length": str(len(body)), "request-id": "req_987654321", "x-new": "kept"} | headers)
    connection.body(body)
    connection.end()
    world.turn()
    assert b"987654321" not in client.last
    assert b"x-new: kept\r\n" in client.last
    assert client.last.count(b"\r\nrequest-id: ") == 1


def test_a_failed_answer_too_is_told_without_what_the_upstream_says_of_its_customer(tmp_path: Path) -> None:
    world = two_keys(tmp_path)
    client = world.client("acme")
    sent(world, client, "acme")
    connection = world.sent[-1]
    connection.head(404, {"content-length": "2", "anthropic-organization-id": "987654321", "x-new": "kept"})
    connection.body(b"{}")
    connection.end()
    world.turn()
    assert client.answers == ["answer 404"]
    assert b"987654321" not in client.last
    assert b"x-new: kept\r\n" in client.last


# Money


def month(nanos: int) -> Budget:
    return Budget((Cap("month", nanos, ()),), "hard")


def spent_by(world: World) -> dict[str, int]:
    """What each key's account and its tenant's have spent."""
    snapshot = world.parts.latest.snapshot
    found: dict[str, int] = {}
    for key in snapshot.keys.values():
        tenant = snapshot.tenants[key.tenant_id]
        own, of_key = world.parts.till.accounts_of(tenant, key)
        found[tenant.tenant_id], found[key.key_id] = own.spent["month"], of_key.spent["month"]
    return found


@pytest.mark.parametrize("has_budget", [False, True])
def test_what_a_request_costs_is_counted_for_its_key_and_its_tenant_and_nobody_else(
    tmp_path: Path, has_budget: bool
) -> None:
    world = two_keys(tmp_path, budget_nanos=10**9 if has_budget else None)
    assert served(world, "acme") == "answer 200"
    (cost,) = {event.cost_nanos for kind, event in world.disk.events if kind == "end"}
    nobody = {"tnt_globex": 0, "key_globex": 0}
    assert spent_by(world) == {"tnt_acme": cost, "key_acme": cost, "key_ci": 0} | nobody
    assert served(world, "ci") == "answer 200"
    assert spent_by(world) == {"tnt_acme": 2 * cost, "key_acme": cost, "key_ci": cost} | nobody


def test_a_correction_is_counted_for_its_key_and_its_tenant_and_nobody_else(tmp_path: Path) -> None:
    world = two_keys(tmp_path)
    world.parts.till.adjust("tnt_acme", "key_acme", world.wall_us(), 70)
    seen = spent_by(world)
    world.parts.till.adjust("tnt_acme", "key_acme", world.wall_us(), 7)
    nobody = {"key_ci": 0, "tnt_globex": 0, "key_globex": 0}
    assert seen == {"tnt_acme": 70, "key_acme": 70} | nobody
    assert spent_by(world) == {"tnt_acme": 77, "key_acme": 77} | nobody


def use_up(world: World, key: str) -> None:
    """Ask until the budget is reached, with answers as long as was held for."""
    asked = 0
    while served(world, key, output_tokens=100) == "answer 200":
        asked += 1
        assert asked < 20
    assert asked > 0


def test_a_tenants_budget_holds_over_its_keys_and_over_nobody_elses(tmp_path: Path) -> None:
    world = two_keys(tmp_path, budget_nanos=400_000)
    use_up(world, "acme")
    assert [served(world, key) for key in ("acme", "ci", "globex")] == ["answer 402", "answer 402", "answer 200"]


def test_a_keys_budget_holds_for_that_key_only(tmp_path: Path) -> None:
    world = two_keys(tmp_path)
    for key, slug in (("acme", "acme"), ("ci", "acme"), ("globex", "globex")):
        world.set_key(key, slug, budget=month(400_000))
    use_up(world, "acme")
    assert [served(world, key) for key in ("acme", "ci", "globex")] == ["answer 402", "answer 200", "answer 200"]


@pytest.mark.parametrize("holder", ["tenant", "key"])
def test_what_is_held_for_a_request_counts_at_once(tmp_path: Path, holder: str) -> None:
    world = two_keys(tmp_path)
    if holder == "tenant":
        world.change("acme", budget=month(400_000))
    else:
        world.set_key("acme", budget=month(400_000))
    for number in range(10):
        sent(world, world.client(f"c{number}"), "acme")
    held = len(world.sent)
    assert 0 < held < 10
    assert served(world, "ci") == ("answer 429" if holder == "tenant" else "answer 200")


# Cutting off


def stream_of(world: World, key: str) -> ClientSocket:
    """A stream that flows."""
    client = world.client(f"{key}'s")
    sent(world, client, key, stream=True)
    world.sent[-1].head(200, STREAM)
    world.sent[-1].body(start_event() + text_event())
    return client


def test_a_revoked_keys_streams_end_and_nobody_elses(tmp_path: Path) -> None:
    world = two_keys(tmp_path)
    streams = {key: stream_of(world, key) for key in ("acme", "ci", "globex")}
    world.set_key("acme", status=KeyStatus.REVOKED)
    world.turn()
    assert {key: client.answers for key, client in streams.items()} == {
        "acme": ["answer 200 interrupted"],
        "ci": [],
        "globex": [],
    }
    assert len(world.sent) == 2  # its connection upstream is closed
    assert [event.error for kind, event in world.disk.events if kind == "end"] == ["key_not_active"]


def test_a_disabled_tenants_streams_end_whatever_their_key_and_nobody_elses(tmp_path: Path) -> None:
    world = two_keys(tmp_path)
    streams = {key: stream_of(world, key) for key in ("acme", "ci", "globex")}
    world.change("acme", status=TenantStatus.DISABLED)
    world.turn()
    assert {key: client.answers for key, client in streams.items()} == {
        "acme": ["answer 200 interrupted"],
        "ci": ["answer 200 interrupted"],
        "globex": [],
    }


def test_a_key_or_tenant_that_is_gone_from_the_directory_is_cut_off_too(tmp_path: Path) -> None:
    world = two_keys(tmp_path)
    streams = {key: stream_of(world, key) for key in ("acme", "ci", "globex")}
    world.forget_key("ci")
    world.turn()
    assert [client.answers for client in streams.values()] == [[], ["answer 200 interrupted"], []]
    assert served(world, "ci") == "answer 401"


def test_a_revoked_key_does_not_wait_either(tmp_path: Path) -> None:
    world = two_keys(tmp_path, limits=replace(OPEN, sessions_max=1))
    sent(world, world.client("first"), "acme")
    waiting = {key: world.client(f"{key}'s") for key in ("acme", "ci")}
    for key, client in waiting.items():
        sent(world, client, key)
    world.set_key("ci", status=KeyStatus.REVOKED)
    world.turn()
    assert [client.answers for client in waiting.values()] == [[], ["answer 403"]]


# What one body says of itself, where its credential serves several tenants.


def share(world: World, slug: str, field: str = "credential") -> None:
    """That credential of the tenant is declared shared."""
    tenant = world.parts.latest.snapshot.tenants[f"tnt_{slug}"]
    world.change(slug, **{field: replace(getattr(tenant, field), is_shared=True)})


FOREIGN: list[tuple[dict[str, Any], str]] = [
    ({"thread": {"type": "continue", "previous_message_id": "msg_globex"}}, '"thread_unsupported_request"'),
    ({"diagnostics": {"previous_message_id": "msg_globex"}}, "diagnostics.previous_message_id: ids of"),
    ({"container": "container_globex"}, "container: ids of"),
    ({"system": [{"type": "document", "source": {"type": "file", "file_id": "f"}}]}, "system[0].source.file_id: ids"),
    ({"workspace_id": "wrkspc_globex"}, "workspace_id: ids of"),
]


@pytest.mark.parametrize("path", ["/v1/messages", COUNT])
@pytest.mark.parametrize(("member", "told"), FOREIGN)
def test_a_shared_credential_serves_no_request_that_names_something_upstream(
    tmp_path: Path, member: dict[str, Any], told: str, path: str
) -> None:
    world = World(tmp_path)
    share(world, "acme")
    client = world.client("acme")
    client.ask(message() | member, "acme", path)
    world.turn()
    assert client.answers == ["answer 400"]
    assert told.encode() in client.last
    assert b"x-should-retry: false" in client.last
    assert not world.sent
    client.ask(message(), "acme", path)
    world.turn()
    world.connecting[-1].made()
    assert len(world.sent) == 1


@pytest.mark.parametrize("path", ["/v1/messages", COUNT])
@pytest.mark.parametrize(("member", "came_to"), [({}, ["bytes up crd_second"]), (FOREIGN[2][0], [])])
def test_what_a_credential_of_its_own_may_serve_goes_out_under_no_shared_one(
    tmp_path: Path, member: dict[str, Any], came_to: list[str], path: str
) -> None:
    world = World(tmp_path, fallback=True)
    share(world, "acme", "fallback")
    client = world.client("acme")
    client.ask(message() | member, "acme", path)
    for _ in range(100):
        world.turn()
        for connecting in list(world.connecting):
            if connecting.pool.name == "crd_second":
                connecting.made()
            else:
                connecting.failed()
        world.advance(1.0)
    assert [word for word in world.told if word.startswith("bytes up")] == came_to
    assert bool(client.answers) is not bool(came_to)
