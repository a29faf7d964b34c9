"""Whether each tenant's ledger rows are exactly its own requests: the recording upstream is the judge."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from tenantry.control.isolation.canaries import CanaryUpstream
from tenantry.control.isolation.findings import Group
from tenantry.control.isolation.probes import Probe
from tenantry.control.site import Site
from tenantry.ledger.booked import BookedRow, rows_of_tenant
from tenantry.ledger.spending import spent_nanos

# A row is there within a second of its request (DESIGN 3); after a burst the drain may need longer.
BOOKED_SECONDS_MAX = 6.0
POLL_SECONDS = 0.1


def compare_books(group: Group, site: Site, upstream: CanaryUpstream, probes: Mapping[str, Probe]) -> None:
    """Every message that an upstream saw under a tenant's credential is one row of that tenant, and nothing else is."""
    deadline = time.monotonic() + BOOKED_SECONDS_MAX
    for role, probe in probes.items():
        sent = [record for record in upstream.of(probe.secret) if record.path == "/v1/messages"]
        rows = rows_of_tenant(site.engine, probe.holder.tenant_id)
        while len(rows) < len(sent) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            rows = rows_of_tenant(site.engine, probe.holder.tenant_id)
        keys = {row.key_id for row in site.directory.list_keys(probe.holder.slug)}
        problems = _differences(probe, keys, [record.request_id for record in sent], rows)
        expected = f"{len(sent)} rows, each its own: request, credential, key, cost"
        cost = {row.cost_nanos for row in rows}
        told = f"{len(rows)} rows" + (f" at {cost.pop():,} nano-dollars each" if len(cost) == 1 else "")
        group.add(f"ledger of the {role} tenant", expected, "; ".join(problems) or told, not problems)
        _compare_spend(group, site, role, probe, rows)


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
