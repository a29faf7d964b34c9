"""What other prices change of what was booked, as a task: looked at, or booked as adjustments."""

from __future__ import annotations

from typing import Any, Final

from tenantry.control.ledger_work import recomputed, scope_of
from tenantry.control.pricing import price_table
from tenantry.control.site import Site
from tenantry.control.tasks import Work
from tenantry.ledger.adjustments import BookedMeanwhile
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
    scope = scope_of(site, slug or None, month or None)

    def work(_tell: object) -> dict[str, Any]:
        found = recomputed(site, table, scope, book=version is not None)
        changes = [
            {
                "tenant": one.tenant,
                "is_there": one.tenant != one.tenant_id,
                "model": one.model,
                "attempts": one.attempts,
                "before_nanos": one.before_nanos,
                "after_nanos": one.after_nanos,
                "difference_nanos": one.difference_nanos,
                "unpriced": one.unpriced,
            }
            for one in found.changes
        ]
        return {
            "version": table.version,
            "tenant": slug or "",
            "month": month or "",
            "changes": changes,
            "attempts": sum(one.attempts for one in found.changes),
            "difference_nanos": found.difference_nanos,
            "is_booked": version is not None,
            "booked": found.booked,
        }

    return work
