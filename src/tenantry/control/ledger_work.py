"""The ledger proved and corrected, for commands and the API alike: what was found, as values to be told."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tenantry.control.site import Site, slugs_of_tenants
from tenantry.control.views import View
from tenantry.domain.prices import PriceTable
from tenantry.domain.printable import stamp
from tenantry.domain.values import value
from tenantry.ledger.adjustments import Scope, book_adjustments, recompute
from tenantry.ledger.quarantine import list_quarantined
from tenantry.ledger.usage import month_bounds_us
from tenantry.ledger.verification import Verification


@value
class QuarantinedView(View):
    """A line of a journal that could not be booked, and what a budget counts for it. `tenant`: by name, if there is."""

    line_id: int
    found_at: str
    run_id: str
    reason: str
    attempt_id: str | None
    tenant_id: str | None
    nanos: int
    line: str
    tenant: str | None


@value
class RecomputedView(View):
    """`tenant` is its id once it has left. `unpriced`: attempts that have no price in this version either."""

    tenant_id: str
    model: str
    attempts: int
    before_nanos: int
    after_nanos: int
    unpriced: int
    tenant: str
    difference_nanos: int


@value
class RecomputedAll(View):
    """`booked`: adjustments that were booked."""

    price_version: str
    changes: list[RecomputedView]
    difference_nanos: int
    booked: int


def verification_view(found: Verification) -> dict[str, Any]:
    """As JSON values, `ok` where nothing differs."""
    return asdict(found) | {"ok": not found.fault_count}


def quarantined_views(site: Site) -> list[QuarantinedView]:
    """By their number."""
    slugs = slugs_of_tenants(site)
    found = [
        QuarantinedView(
            one.line_id,
            stamp(one.found_at),
            one.run_id,
            one.reason,
            one.attempt_id,
            one.tenant_id,
            one.nanos,
            one.line,
            slugs.get(one.tenant_id or "", one.tenant_id),
        )
        for one in list_quarantined(site.engine)
    ]
    return sorted(found, key=lambda one: one.line_id)


def scope_of(site: Site, slug: str | None, month: str | None) -> Scope:
    """Raises: NotInDirectory; BadMonth."""
    tenant_id = site.directory.get_tenant(slug).tenant_id if slug is not None else None
    return Scope(tenant_id) if month is None else Scope(tenant_id, *month_bounds_us(month, site.settings.zone))


def recomputed(site: Site, table: PriceTable, scope: Scope, *, book: bool) -> RecomputedAll:
    """What these prices would change of what was booked; with `book`, they do. Raises: BookedMeanwhile."""
    found = recompute(site.engine, table, scope)
    booked = 0
    if book and any(one.attempts for one in found):
        booked = book_adjustments(site.engine, table, scope)
        # Gateways that run count it from now on.
        told = {"price_version": table.version, "rows": booked}
        site.directory.announce("ledger.adjusted", scope.tenant_id or "all", told)
    slugs = slugs_of_tenants(site)
    changes = [
        RecomputedView(
            **asdict(one),
            tenant=slugs.get(one.tenant_id, one.tenant_id),
            difference_nanos=one.after_nanos - one.before_nanos,
        )
        for one in found
    ]
    changes.sort(key=lambda one: (one.tenant, one.model))
    return RecomputedAll(table.version, changes, sum(one.difference_nanos for one in changes), booked)
