"""Whether each tenant's ledger rows are exactly its own requests: the recording upstream is the judge."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from tenantry.control.isolation.canaries import CanaryUpstream
from tenantry.control.isolation.client import Address, KeptConnection, NoAnswer
from tenantry.control.isolation.findings import Group
from tenantry.control.isolation.load import message
from tenantry.control.isolation.pace import Pace
from tenantry.control.isolation.probes import Probe
from tenantry.control.site import Site
from tenantry.ledger.booked import BookedRow, rows_of_tenant
from tenantry.ledger.spending import spent_nanos

# A row is there within a second of its request (DESIGN 3); after a burst it may take longer, as long as rows come.
BOOKED_SECONDS_MAX: Final = 6.0
POLL_SECONDS: Final = 0.1
# Of each tenant, so that there is something to compare whatever else is run.
MESSAGES: Final = 10


def compare_books(
    group: Group, site: Site, address: Address, upstream: CanaryUpstream, probes: Mapping[str, Probe], pace: Pace
) -> None:
    """Every message that an upstream saw under a tenant's credential is one row of that tenant, and nothing else is."""
    _send(address, [probe for role, probe in probes.items() if role in ("own", "other")])
    for role, probe in probes.items():
        sent = [record for record in upstream.of(probe.secret) if record.path == "/v1/messages"]
        rows = wait_for_rows(partial(rows_of_tenant, site.engine, probe.holder.tenant_id), len(sent), pace)
        keys = {row.key_id for row in site.directory.list_keys(probe.holder.slug)}
        problems = _differences(probe, keys, [record.request_id for record in sent], rows)
        expected = f"{len(sent)} rows, each its own: request, credential, key, cost"
        cost = {row.cost_nanos for row in rows}
        told = f"{len(rows)} rows" + (f" at {cost.pop():,} nano-dollars each" if len(cost) == 1 else "")
        group.add(f"ledger of the {role} tenant", expected, "; ".join(problems) or told, not problems)
        _compare_spend(group, site, role, probe, rows)


def _send(address: Address, probes: Sequence[Probe]) -> None:
    """Messages and streams, tenant by tenant in turn; what comes of them the rows say."""
    clients = [KeptConnection(address) for _ in probes]
    for number in range(MESSAGES):
        for probe, client in zip(probes, clients, strict=True):
            with contextlib.suppress(NoAnswer):
                client.ask(message(probe, f"{probe.holder.slug}-booked-{number}", stream=number % 2 == 0))
    for client in clients:
        client.close()


def wait_for_rows(read: Callable[[], Sequence[BookedRow]], count: int, pace: Pace) -> Sequence[BookedRow]:
    """The rows, when there are so many, or when for a while no more have come."""
    rows = read()
    seen, deadline = len(rows), pace.clock() + BOOKED_SECONDS_MAX
    while len(rows) < count and pace.clock() < deadline:
        time.sleep(POLL_SECONDS)
        rows = read()
        if len(rows) > seen:
            seen, deadline = len(rows), pace.clock() + BOOKED_SECONDS_MAX
    return rows


def _compare_spend(group: Group, site: Site, role: str, probe: Probe, rows: Sequence[BookedRow]) -> None:
    """What counts against a tenant's budget is what its own rows cost."""
    # A probe is as old as its run, so everything that was ever spent is its own.
    spent = spent_nanos(site.engine, probe.holder.tenant_id, 0, time.time_ns() // 1000)
    own = sum(row.cost_nanos or 0 for row in rows)
    group.add(
        f"spend of the {role} tenant, as budgets count it",
        f"{own:,} nano-dollars: its own rows",
        f"{spent:,} nano-dollars",
        spent == own,
    )


def _differences(probe: Probe, keys: set[str], sent: Sequence[str], rows: Sequence[BookedRow]) -> list[str]:
    booked = [row.upstream_request_id for row in rows]
    problems: list[str] = []
    missing, foreign = set(sent) - set(booked), set(booked) - set(sent)
    if missing:
        hint = "; does `tenantry control` run?" if not rows else ""
        problems.append(f"{len(missing)} of {len(sent)} requests have no row{hint}")
    if foreign:
        odd = {f"{row.outcome}, {row.error or 'no error'}" for row in rows if row.upstream_request_id in foreign}
        problems.append(f"{len(foreign)} rows are not of its requests ({'; '.join(sorted(odd))})")
    if len(booked) != len(set(booked)):
        problems.append("a request has two rows")
    if any(row.credential_id != probe.credential_id for row in rows):
        problems.append("a row names another credential")
    if any(row.key_id not in keys for row in rows):
        problems.append("a row names another tenant's key")
    if len({row.cost_nanos for row in rows if row.outcome == "settled"}) > 1:
        problems.append("equal requests have different costs")
    return problems
