"""What the clients asked, what the upstream saw, and the ledger of the whole site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tests.cluster.site import Cluster
from tests.storm.upstream import Asked


@dataclass(slots=True)
class Balance:
    """All but the first three have to be 0.

    `unsent`: rows of attempts that stood in a journal and never reached the upstream. `missing`: what reached it and
    has no row. `doubled`: attempts or answers with two rows. `strange`: rows of answers that the upstream never gave.
    `sent_twice`: requests of clients that reached the upstream twice. `underbilled`: rows below what was billed.
    `overshoot_nanos`: spent beyond budgets, by the ledger or by the upstream, whichever is more.
    """

    asked: int = 0
    rows: int = 0
    unsent: int = 0
    missing: int = 0
    doubled: int = 0
    strange: int = 0
    sent_twice: int = 0
    underbilled: int = 0
    overshoot_nanos: int = 0

    @property
    def faults(self) -> dict[str, int]:
        return {one.name: getattr(self, one.name) for one in fields(self)[3:] if getattr(self, one.name)}


def balance(cluster: Cluster, budgets: Mapping[str, int]) -> Balance:
    """Once everything that was begun is booked. `budgets`: nanos by slug."""
    slugs = {one.tenant_id: one.slug for one in cluster.site.directory.list_tenants()}
    for slug in slugs.values():
        for machine in cluster.machines.values():
            machine.final_rows(slug, 0)
    rows = cluster.machines["a"].rows()
    found = Balance(rows=len(rows), asked=len(cluster.upstream.asked))
    by_attempt = Counter(row["attempt_id"] for row in rows)
    by_answer = Counter(row["upstream_request_id"] for row in rows if row["upstream_request_id"])
    found.doubled = _surplus(by_attempt) + _surplus(by_answer)
    tags = Counter(one.tag for one in cluster.upstream.asked if one.tag)
    found.sent_twice = _surplus(tags)
    for tenant_id, slug in slugs.items():
        asked = [one for one in cluster.upstream.asked if one.secret == f"secret-of-{slug}"]
        _add(found, [row for row in rows if row["tenant_id"] == tenant_id], asked, budgets.get(slug))
    return found


def _add(found: Balance, rows: list[dict[str, Any]], asked: list[Asked], budget_nanos: int | None) -> None:
    """One tenant's."""
    named = {row["upstream_request_id"]: row for row in rows if row["upstream_request_id"]}
    known = {one.request_id for one in asked}
    nameless = [row for row in rows if not row["upstream_request_id"]]
    unnamed = sum(one.request_id not in named for one in asked)
    found.missing += max(0, unnamed - len(nameless))
    found.unsent += max(0, len(nameless) - unnamed)
    found.strange += len(named.keys() - known)
    bills = [(one, named[one.request_id]) for one in asked if one.request_id in named]
    found.underbilled += sum((row["cost_nanos"] or row["held_nanos"] or 0) < one.nanos for one, row in bills)
    if budget_nanos is not None:
        spent = sum(row["cost_nanos"] or row["held_nanos"] or 0 for row in rows)
        billed = sum(one.nanos for one in asked)
        found.overshoot_nanos += max(0, max(spent, billed) - budget_nanos)


def _surplus(counted: Counter[str]) -> int:
    return sum(count - 1 for count in counted.values())
