"""What a kept connection may keep of its caller, and for how long."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tenantry.domain.budgets import Budget, Cap
from tenantry.domain.directory import Change, Credential, KeyStatus, TenantStatus, Upstream
from tenantry.gateway.client import ClientConnection
from tests.unit.gateway.playbook import (
    OPEN,
    START_US,
    ClientSocket,
    World,
    at_host,
    message,
    request_bytes,
    whole_answer,
)

START = datetime.fromtimestamp(START_US / 1_000_000, UTC)


def serve(world: World) -> None:
    """Connect what is to be connected, and answer whatever has been sent."""
    world.turn()
    for connecting in list(world.connecting):
        connecting.made()
    for connection in list(world.sent):
        body = whole_answer()
        connection.head(200, {"content-type": "application/json", "content-length": str(len(body))})
        connection.body(body)
        connection.end()
    world.turn()


def served(world: World, client: ClientSocket, *, key: str = "acme", **more: str) -> str:
    """What one request on this connection came to."""
    client.ask(message(), key, **more)
    serve(world)
    return client.answers[-1]


def lines_up(world: World) -> list[bytes]:
    """The head of the latest request that went upstream."""
    return world.heads[-1].split(b"\r\n")


def test_a_key_whose_time_ends_is_refused_on_the_connection_that_it_was_good_on(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.set_key("acme", expires_at=START + timedelta(seconds=60))
    client = world.client()
    assert served(world, client) == "answer 200"
    world.advance(59)
    assert served(world, client) == "answer 200"
    world.advance(1)
    assert served(world, client) == "answer 403"
    assert len(world.heads) == 2
    assert world.leftovers() == []


def test_a_key_that_is_revoked_is_refused_on_the_connection_that_it_was_good_on(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client()
    assert served(world, client) == "answer 200"
    world.set_key("acme", status=KeyStatus.REVOKED)
    assert served(world, client) == "answer 403"
    world.set_key("acme", status=KeyStatus.ACTIVE)
    world.change("acme", status=TenantStatus.DISABLED)
    assert served(world, client) == "answer 403"
    assert len(world.heads) == 1


def test_a_key_that_is_revoked_while_its_body_comes_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client()
    data = request_bytes(message())
    client.connection.data_received(data[:-10])
    world.set_key("acme", status=KeyStatus.REVOKED)
    client.connection.data_received(data[-10:])
    world.turn()
    assert client.answers == ["answer 403"]
    assert not world.heads
    assert not world.connecting


def test_a_rotated_credential_is_taken_up_on_a_kept_connection(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client()
    assert served(world, client) == "answer 200"
    assert b"x-api-key: sandbox-acme" in lines_up(world)
    credential = world.parts.latest.snapshot.tenants["tnt_acme"].credential
    assert credential is not None
    world.change("acme", credential=replace(credential, secret="sandbox-rotated"))
    assert served(world, client) == "answer 200"
    assert b"x-api-key: sandbox-rotated" in lines_up(world)


def test_another_credential_is_reached_over_connections_of_its_own(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client()
    assert served(world, client) == "answer 200"
    moved = Credential("crd_new", "new", Upstream("ups_new", "new", "http://new"), "sandbox-new", "wrkspc_new")
    world.change("acme", credential=moved)
    assert served(world, client) == "answer 200"
    assert world.told[-3:] == ["bytes up crd_new", "answer 200", "journal end settled"]
    assert {b"x-api-key: sandbox-new", b"anthropic-workspace-id: wrkspc_new"} <= set(lines_up(world))


def test_a_changed_profile_is_taken_up_on_a_kept_connection(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client()
    for profile in ("uprof_1", "uprof_2", None):
        world.change("acme", user_profile_id=profile)
        assert served(world, client) == "answer 200"
        named = [line for line in lines_up(world) if line.startswith(b"anthropic-user-profile-id")]
        assert named == ([] if profile is None else [b"anthropic-user-profile-id: " + profile.encode()])


def test_changed_limits_and_budgets_are_taken_up_on_a_kept_connection(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client()
    assert served(world, client) == "answer 200"
    world.change("acme", limits=replace(OPEN, models=("claude-opus-*",)))
    assert served(world, client) == "answer 400"
    world.change("acme", limits=OPEN)
    assert served(world, client) == "answer 200"
    world.set_key("acme", limits=replace(OPEN, models=("claude-opus-*",)))
    assert served(world, client) == "answer 400"


def test_clients_in_turn_on_one_connection_are_each_their_own(tmp_path: Path) -> None:
    # As behind a front proxy, which carries several clients on one connection.
    world = World(tmp_path, slugs=("acme", "globex"))
    client = world.client()
    for slug in ("acme", "globex", "globex", "acme"):
        assert served(world, client, key=slug) == "answer 200"
        assert f"x-api-key: sandbox-{slug}".encode() in lines_up(world)
    begun = [event.tenant_id for kind, event in world.disk.events if kind == "begin"]
    assert begun == ["tnt_acme", "tnt_globex", "tnt_globex", "tnt_acme"]
    assert served(world, client, key="acme", path="/t/globex/v1/messages") == "answer 403"
    assert served(world, client, key="acme", x_tenant_id="globex") == "answer 403"
    assert served(world, client, key="acme", path="/t/acme/v1/messages") == "answer 200"
    assert len(world.heads) == 5


def test_what_goes_upstream_has_the_query_and_not_the_tenants_prefix(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client()
    assert served(world, client, path="/t/acme/v1/messages?beta=true") == "answer 200"
    assert lines_up(world)[0] == b"POST /v1/messages?beta=true HTTP/1.1"


def test_an_upstreams_own_path_is_before_all_that_goes_there(tmp_path: Path) -> None:
    world = World(tmp_path, budget_nanos=65_000)  # so little that the prompt is counted first
    client = world.client()
    client.ask(message(), path="/t/acme/v1/messages?beta=true")
    world.turn()
    pool = next(iter(world.pools.pools.values()))
    pool.path_prefix = b"/own"
    world.set_key("acme")  # the head is made anew
    world.connecting[0].made()
    counting = world.sent[0]
    counting.head(200, {"content-type": "application/json"})
    counting.body(b'{"input_tokens":10}')
    counting.end()
    serve(world)
    client.ask(message(), path="/t/acme/v1/messages?beta=true")
    world.turn()
    assert [head.split(b" ")[1] for head in world.heads] == [
        b"/v1/messages/count_tokens?beta=true",
        b"/own/v1/messages?beta=true",
        b"/own/v1/messages/count_tokens?beta=true",
    ]


def test_a_tenant_has_to_be_named_where_the_site_asks_for_that(tmp_path: Path) -> None:
    world = World(tmp_path)
    object.__setattr__(world.parts, "settings", replace(world.parts.settings, require_tenant_id=True))
    client = world.client()
    assert served(world, client) == "answer 400"
    assert served(world, client, x_tenant_id="acme") == "answer 200"
    assert served(world, client, path="/t/acme/v1/messages") == "answer 200"


def test_tenants_that_share_a_credential_share_no_connection(tmp_path: Path) -> None:
    world = World(tmp_path, slugs=("acme", "globex"), budget_nanos=65_000)  # so little that prompts are counted first
    shared = Credential("crd_shared", "shared", Upstream("ups_1", "first", "http://first"), "sandbox-shared")
    for slug in ("acme", "globex"):
        world.change(slug, credential=shared)
    for slug in ("acme", "globex"):
        client = world.client(slug)
        client.ask(message(), slug)
        world.turn()
        assert [line for line in world.told if "connect" in line][-1:] == ["connect"]
        world.connecting[0].made()  # nobody left a connection that this one may use
        counting = world.sent[0]
        counting.head(200, {"content-type": "application/json"})
        counting.body(b'{"input_tokens":10}')
        counting.end()
        serve(world)
        assert client.answers == ["answer 200"]
    assert world.told.count("connect") == 2
    assert world.leftovers() == []


def test_what_is_open_to_all_stays_so_for_the_whole_connection(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client()
    for ask in (b"GET /healthz", b"HEAD /api/hello"):
        for more in (b"", b"content-length: 0\r\n"):
            for _ in range(3):
                client.connection.data_received(ask + b" HTTP/1.1\r\nhost: a\r\n" + more + b"\r\n")
    assert client.answers == ["answer 200"] * 12


def test_what_is_known_of_a_caller_outlives_a_change_that_is_not_its_own(tmp_path: Path) -> None:
    world = World(tmp_path, slugs=("acme", "globex"))
    client = world.client()
    assert served(world, client) == "answer 200"
    caller = client.connection._caller
    assert caller is not None
    known = caller.principal(world.parts)
    world.change("globex", user_profile_id="someone")
    assert caller.principal(world.parts) is known
    world.change("acme", user_profile_id="someone")
    assert caller.principal(world.parts) is not known
    assert served(world, client) == "answer 200"
    assert b"anthropic-user-profile-id: someone" in lines_up(world)


def test_each_request_on_a_connection_is_journalled_as_what_it_asks_for(tmp_path: Path) -> None:
    world = World(tmp_path, fallback=True)
    client = world.client()
    asked = [("claude-a", False), ("claude-b", False), ("claude-b", True), ("claude-a", True), ("claude-a", False)]
    for model, is_stream in asked:
        client.ask(message(stream=is_stream) | {"model": model})
        serve(world)
    client.ask(message() | {"model": "claude-a"})
    world.turn()
    world.sent[-1].whole(401, b"{}", {"content-type": "application/json"})  # so the other credential is asked
    serve(world)
    begun = [event for kind, event in world.disk.events if kind == "begin"]
    told = [(event.model_requested, event.streaming) for event in begun]
    assert told == [*asked, ("claude-a", False), ("claude-a", False)]
    assert [event.credential_id for event in begun] == ["crd_acme"] * 6 + ["crd_second"]


def test_a_budget_of_a_key_alone_is_told_held_and_refuses(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client()
    world.set_key("acme", budget=Budget((Cap("month", 10**12, ()),), "hard"))
    assert served(world, client) == "answer 200"
    assert b"-utilization: " in client.last
    client.ask(message())
    world.turn()
    own, of_key = world.parts.till._accounts.values()
    assert own.held_nanos == of_key.held_nanos > 0
    serve(world)
    assert own.held_nanos == of_key.held_nanos == 0
    world.set_key("acme", budget=Budget((Cap("month", 1, ()),), "hard"))
    assert served(world, client) == "answer 402"
    assert len(world.heads) == 2


DOMAIN = "claude.agency.example"


def at(world: World, client: ClientSocket, host: str, key: str = "acme", path: str = "/v1/messages") -> str:
    """What one request for that host came to."""
    client.asked += 1
    client.connection.data_received(at_host(host, request_bytes(message(), key, path)))
    serve(world)
    return client.answers[-1]


def name_hosts(world: World, **hosts: str) -> None:
    """`hosts` by slug; the tenants themselves are left as they are."""
    named = {host.encode(): slug.encode() for slug, host in hosts.items()}
    snapshot = replace(world.parts.latest.snapshot, hosts=named)
    world.process.apply(Change(snapshot, frozenset(), frozenset()))


def test_nearly_equal_hosts_on_one_connection_are_never_taken_for_each_other(tmp_path: Path) -> None:
    world = World(tmp_path, slugs=("acme", "acmf"), domain=DOMAIN)
    client = world.client()
    for _ in range(3):
        assert at(world, client, f"acme.{DOMAIN}") == "answer 200"
        assert at(world, client, f"acmf.{DOMAIN}") == "answer 403"
        assert at(world, client, f"ACME.{DOMAIN}:443") == "answer 200"
        assert at(world, client, f"acmf.{DOMAIN}.") == "answer 403"
        assert at(world, client, f"acmf.{DOMAIN}", "acmf") == "answer 200"
        assert at(world, client, f"acme.{DOMAIN}", "acmf") == "answer 403"
        assert at(world, client, f"acme.{DOMAIN}", path="/t/acmf/v1/messages") == "answer 403"
        assert at(world, client, f"acme.{DOMAIN}", path="/t/acme/v1/messages") == "answer 200"
        assert at(world, client, DOMAIN) == "answer 200"
        assert at(world, client, "another.example") == "answer 200"
    assert world.leftovers() == []


def test_a_host_that_becomes_another_tenants_is_refused_on_the_connection_that_it_was_good_on(tmp_path: Path) -> None:
    world = World(tmp_path, slugs=("acme", "globex"))
    client = world.client()
    assert at(world, client, "ai.client.example") == "answer 200"  # it decides nothing
    name_hosts(world, globex="ai.client.example")
    assert at(world, client, "ai.client.example") == "answer 403"
    name_hosts(world, acme="ai.client.example")
    assert at(world, client, "ai.client.example") == "answer 200"
    name_hosts(world)
    assert at(world, client, "ai.client.example", "globex") == "answer 200"
    assert world.leftovers() == []


def test_two_hosts_or_one_that_is_none_are_answered_400(tmp_path: Path) -> None:
    world = World(tmp_path, domain=DOMAIN)
    for host in (
        f"acme.{DOMAIN}\r\nhost: acme.{DOMAIN}",
        f"acme.{DOMAIN}, x",
        f"acme.{DOMAIN}/x",
        "",
        f"a@acme.{DOMAIN}",
    ):
        assert at(world, world.client(), host) == "answer 400"
    assert not world.heads


def test_a_connection_in_its_handshake_is_counted_once_and_goes_on_when_that_is_over(tmp_path: Path) -> None:
    world = World(tmp_path)
    population = world.parts.population
    connection = ClientConnection(world.parts, "203.0.113.1")
    assert [population.arrive(connection, "203.0.113.1") for _ in range(2)] == [1, 1]
    # A gateway that gives way, or stops, has nothing to pass on or to close yet.
    connection.pass_when_idle()
    connection.stop_when_idle()
    connection.abort()
    assert not connection.has_unsent
    assert connection in population.connections
    for _ in range(2):
        population.depart(connection, "203.0.113.1")
    assert population.arrive(connection, "203.0.113.1") == 1
    population.depart(connection, "203.0.113.1")
    assert world.leftovers() == []
