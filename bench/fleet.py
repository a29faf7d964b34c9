"""What many gateways ask of PostgreSQL, and where the first limit lies: `python -m bench.fleet [GATEWAYS [TENANTS]]`.

Default: 1,000 gateways and 100,000 tenants, each of which asks once a minute and has a budget; a hundred draw on one
organization. How often the store is asked, and for what, is counted in the simulation (`tenantry simulate`), with a
balancer that sends a tenant to one gateway, and with one that sends it to any. What each statement costs is measured
here: on Debian's PostgreSQL with so many rows, with the gateway's own code, in CPU time of all the server's processes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, insert
from tests.postgresql import KEEPING, Server, start

from bench.drain import book
from tenantry.domain.budgets import Budget, Cap
from tenantry.domain.cells import Component
from tenantry.domain.directory import Credential, GatewayKey, KeyStatus, Tenant, TenantStatus, Upstream
from tenantry.domain.doubts import Doubt, Taken
from tenantry.domain.limits import Limits
from tenantry.domain.prices import load_default_prices
from tenantry.ledger.takeover import look_again, open_tenants
from tenantry.simulation.arrivals import Arrivals
from tenantry.simulation.calls import Call
from tenantry.simulation.chance import chance
from tenantry.simulation.clock import Clock
from tenantry.simulation.gateway import Client, Surroundings, Wants
from tenantry.simulation.planned_fleet import POLLS_PER_SECOND, PlannedFleet
from tenantry.simulation.scenario import BALANCERS, Fleet, Traffic
from tenantry.simulation.upstream import Manner, Organization
from tenantry.storage.cell_tables import ceilings, cell_tenants, cells, gateways
from tenantry.storage.cells import CellStore
from tenantry.storage.database import open_store
from tenantry.storage.leases import Lease
from tenantry.storage.migrating import migrate
from tenantry.storage.versions import directory_version

GATEWAYS, TENANTS = 1_000, 100_000
TENANTS_PER_ORGANIZATION = 100
# Until nearly all tenants have been claimed, and for so long after it.
WARM_SECONDS, COUNTED_SECONDS = 120.0, 30.0
TRAFFIC = Traffic(requests_per_hour=60.0, prompt_tokens=2_000, answer_tokens=300)
BUDGET = Budget((Cap("day", 20 * 10**9, ()),), "hard")
START_US = 1_796_599_800_000_000
ROUNDS = 400
ROWS = 20_000
LEASE_US = 10**12
ZONE = ZoneInfo("UTC")
PRICES = load_default_prices()
# As PostgreSQL comes; each gateway has one connection that listens and one for what it asks, at least.
CONNECTIONS_MAX, CONNECTIONS_EACH = 100, 2


def main() -> None:
    words = [int(word) for word in sys.argv[1:]]
    count = words[0] if words else GATEWAYS
    tenants = words[1] if len(words) > 1 else TENANTS
    server = start(KEEPING)
    try:
        costs = measure(server, count, tenants)
    finally:
        server.stop()
    print("| of the server | CPU us each |\n|---|---|")
    for kind, micros in costs.items():
        print(f"| {kind} | {micros:,.0f} |")
    for balancer in BALANCERS:
        tell(count, tenants, balancer, play(count, tenants, balancer), costs)
    most = CONNECTIONS_MAX // CONNECTIONS_EACH
    print(f"\nconnections: {count * CONNECTIONS_EACH:,} at least; {CONNECTIONS_MAX} as it comes are {most} gateways")


def tell(count: int, tenants: int, balancer: str, rates: dict[str, float], costs: dict[str, float]) -> None:
    """One balancer's load, by kinds, the dearest first."""
    print(f"\n{count:,} gateways, {tenants:,} tenants, a balancer by {balancer}\n")
    print("| | a second | CPU ms a second |\n|---|---|---|")
    shares = {kind: rate * costs.get(kind, 0.0) / 1000 for kind, rate in rates.items()}
    for kind in sorted(shares, key=lambda one: -shares[one]):
        print(f"| {kind} | {rates[kind]:,.1f} | {shares[kind]:,.1f} |")
    turns = 1_000_000 / costs["claim"]
    print(f"| in all | {sum(rates.values()):,.1f} | {sum(shares.values()):,.1f} |")
    print(f"\nclaims take turns: {rates['claim']:,.1f} a second of {turns:,.0f} that one core can decide")


# What is asked for


def play(count: int, tenants: int, balancer: str) -> dict[str, float]:
    """Statements a second, by kind, when nearly all tenants have been claimed."""
    clock, counted = Clock(), [0]
    site = Surroundings(clock, chance("fleet"), PRICES, ZONE, START_US)
    clients = _clients(site, tenants)
    fleet = PlannedFleet(site, clients, Fleet(count, balancer), 1, START_US)
    began = datetime.fromtimestamp(START_US / 1e6, UTC)

    def ended(_call: Call, _reason: str) -> None:
        counted[0] += 1

    for slug in clients:

        def ask(wants: Wants, slug: str = slug) -> None:
            fleet.ask(slug, wants, ended)

        Arrivals(TRAFFIC, chance("fleet", slug), clock, began, ask).begin()
    fleet.begin()
    clock.run(WARM_SECONDS)
    before, rows = fleet.store.statements.copy(), counted[0]
    clock.run(WARM_SECONDS + COUNTED_SECONDS)
    asked = fleet.store.statements - before
    rates = {kind: asked[kind] / COUNTED_SECONDS for kind in ("renew", "look", "claim", "open", "take", "review")}
    rates["poll"] = count * POLLS_PER_SECOND
    rates["row booked"] = (counted[0] - rows) / COUNTED_SECONDS
    return rates


def _clients(site: Surroundings, tenants: int) -> dict[str, Client]:
    found: dict[str, Client] = {}
    limits = Limits(sessions_max=50, requests_per_minute=None)
    for number in range(tenants):
        upstream = _upstream(site, f"o{number // TENANTS_PER_ORGANIZATION}")
        slug, tenant_id = f"t{number}", f"tnt_{number}"
        credential = Credential(f"crd_{number}", slug, upstream, "")
        tenant = Tenant(tenant_id, slug, slug, TenantStatus.ACTIVE, "standard", limits, credential, budget=BUDGET)
        key = GatewayKey(f"key_{number}", tenant_id, slug.encode(), KeyStatus.ACTIVE)
        found[slug] = Client(tenant, key, upstream.name)
    return found


def _upstream(site: Surroundings, name: str) -> Upstream:
    """That of an organization which is never in the way."""
    if name not in site.organizations:
        limits = Limits(sessions_max=10_000, requests_per_minute=None)
        site.organizations[name] = Organization(name, limits, Manner(), site.clock, chance(name))
    return Upstream(f"ups_{name}", name, "https://simulated.invalid", shares_capacity=True)


# What it costs


def measure(server: Server, count: int, tenants: int) -> dict[str, float]:
    """CPU microseconds of the server for each, with the rows of so many gateways and tenants."""
    engine = open_store(server.url)
    migrate(engine)
    _fill(engine, count, tenants)
    store, costs = CellStore(engine), dict[str, float]()
    news: list[tuple[str, str, Component]] = []

    def each(kind: str, ask: Callable[[int], object], rounds: int = ROUNDS) -> None:
        ask(0)  # what is prepared once
        with _cpu(server) as spent:
            for number in range(1, rounds + 1):
                ask(number)
        costs[kind] = spent[0] / rounds * 1e6

    each("renew", lambda n: store.renew(Lease(f"gw-{n % count}", LEASE_US)))
    each("look", lambda n: store.owner_of(f"t{n}"))
    for n in range(ROUNDS + 1):
        component = Component({f"new{n}": f"new-{n}"}, (f"new-{n}",))
        news.append((f"gw-{n % count}", f"new{n}", component))
    each("claim", lambda n: store.claim(*news[n], START_US))
    each("take", lambda n: store.take([Taken(f"t{n}", "", "nanos", _owner(n, count), n, START_US)]))
    with tempfile.TemporaryDirectory() as name, engine.connect() as connection:
        folder = Path(name)
        each("open", lambda n: open_tenants(engine, folder, PRICES, ZONE, START_US, [f"t{n}"], ("gw-x",)), ROUNDS // 4)
        doubt = Doubt(Taken("t0", "", "nanos", "gw-0", 1, START_US), 1, {}, {})
        each("review", lambda _: look_again(engine, folder, PRICES, ZONE, START_US, [doubt], {}), ROUNDS // 4)
        each("poll", lambda _: directory_version(connection))
    with tempfile.TemporaryDirectory() as name, _cpu(server) as spent:
        book(engine, Path(name), ROWS)
    costs["row booked"] = spent[0] / ROWS * 1e6
    engine.dispose()
    return costs


def _owner(tenant: int, count: int) -> str:
    return f"gw-{tenant // TENANTS_PER_ORGANIZATION % count}"


def _fill(engine: Engine, count: int, tenants: int) -> None:
    store = CellStore(engine)
    for number in range(count):
        store.join(Lease(f"gw-{number}", LEASE_US), "", "here", START_US)
    organizations = -(-tenants // TENANTS_PER_ORGANIZATION)
    with engine.begin() as connection:
        connection.execute(
            insert(cells),
            [
                {"name": f"org-{n}", "gateway_id": f"gw-{n % count}", "epoch": 1, "since_us": START_US}
                for n in range(organizations)
            ],
        )
        connection.execute(
            insert(cell_tenants),
            [{"tenant_id": f"t{n}", "cell": f"org-{n // TENANTS_PER_ORGANIZATION}"} for n in range(tenants)],
        )
        names = ("tenant_id", "key_id", "unit", "gateway_id", "taken", "since_us")
        rows = ((f"t{n}", "", "nanos", _owner(n, count), 1, START_US) for n in range(tenants))
        connection.execute(insert(ceilings), [dict(zip(names, row, strict=True)) for row in rows])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in (gateways, cells, cell_tenants, ceilings):
            connection.exec_driver_sql(f"ANALYZE {table.name}")


@contextmanager
def _cpu(server: Server) -> Generator[list[float]]:
    """CPU seconds that all processes of the server take meanwhile."""
    before, found = _taken(server.process.pid), [0.0]
    yield found
    found[0] = _taken(server.process.pid) - before


def _taken(postmaster: int) -> float:
    """User and system time of the server and its children, with those that have ended (proc_pid_stat(5))."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        is_first = int(path.parent.name) == postmaster
        if is_first or int(fields[1]) == postmaster:
            own, ended = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
            ticks += own + (ended if is_first else 0)
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
