"""What other prices change of what was booked, as a task: looked at, or booked as adjustments."""

from __future__ import annotations

from typing import Any, Final

from tenantry.control.pricing import price_table
from tenantry.control.site import Site, slugs_of_tenants
from tenantry.control.tasks import Work
from tenantry.ledger.adjustments import BookedMeanwhile, Scope, book_adjustments, recompute
from tenantry.ledger.usage import month_bounds_us
from tenantry.storage.directory import DirectoryError

RECOMPUTATION: Final = "recomputation"
# What a person is told in words.
REFUSED: Final = (BookedMeanwhile, DirectoryError)


class OtherPrices(DirectoryError):
    """The prices were changed since this was looked at."""


def recomputing_work(site: Site, slug: str | None, month: str | None, version: str | None) -> Work:
    """What the task does for one tenant and month, or all: with `version` it books the differences at these prices.

    Raises:
        NotInDirectory: no such tenant; BadMonth: it is not YYYY-MM; DirectoryError: prices cannot be read.
        OtherPrices: the prices have another version by now.
    """
    table = price_table(site)
    if version is not None and version != table.version:
        raise OtherPrices(f"{(OtherPrices.__doc__ or '').strip()} Look again.")
    tenant_id = site.directory.get_tenant(slug).tenant_id if slug else None
    bounds = month_bounds_us(month, site.settings.zone) if month else (None, None)
    scope = Scope(tenant_id, *bounds)

    def work(_tell: object) -> dict[str, Any]:
        found, booked = recompute(site.engine, table, scope), 0
        if version is not None and found:
            booked = book_adjustments(site.engine, table, scope)
            # Gateways that run count it from now on.
            told = {"price_version": table.version, "rows": booked}
            site.directory.announce("ledger.adjusted", tenant_id or "all", told)
        slugs = slugs_of_tenants(site)
        changes = [
            {
                "tenant": slugs.get(one.tenant_id, one.tenant_id),
                "is_there": one.tenant_id in slugs,
                "model": one.model,
                "attempts": one.attempts,
                "before_nanos": one.before_nanos,
                "after_nanos": one.after_nanos,
                "difference_nanos": one.after_nanos - one.before_nanos,
                "unpriced": one.unpriced,
            }
            for one in found
        ]
        difference = sum(one.after_nanos - one.before_nanos for one in found)
        return {
            "version": table.version,
            "tenant": slug or "",
            "month": month or "",
            "changes": changes,
            "attempts": sum(one.attempts for one in found),
            "difference_nanos": difference,
            "is_booked": version is not None,
            "booked": booked,
        }

    return work
