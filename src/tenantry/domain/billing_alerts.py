"""What the agency is told of a month's invoices, in words. Each is told once: for its month, and what is left of it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from tenantry.domain.alerts import Alert, AlertKind

_REASON_CHARS_MAX = 300


def issued_alert(month: str, count: int, totals: Sequence[str], failed: int, folder: str) -> Alert:
    """The round of a month has been through all tenants. `totals`: a sum for each currency, as it is written."""
    rest = f"; {failed} could not be issued and are tried again" if failed else ""
    sums = f", {' and '.join(totals)} in all" if totals else ""
    return Alert(
        AlertKind.INVOICES,
        month,
        f"{count} invoices for {month} are issued{sums}, and their files are in {folder}{rest}",
        f"{AlertKind.INVOICES}:issue:{month}:{failed}",
        detail={"month": month, "step": "issue", "invoices": count, "totals": list(totals), "failed": failed},
    )


def previewed_alert(month: str, count: int, failed: int, folder: str) -> Alert:
    """Previews are there to be looked at."""
    rest = f"; {failed} could not be made and are tried again" if failed else ""
    return Alert(
        AlertKind.INVOICES,
        month,
        f"previews of {count} invoices for {month} are in {folder}{rest}. Nothing is issued yet: "
        f"`tenantry invoice --all --month {month} --issue` does it",
        f"{AlertKind.INVOICES}:preview:{month}:{failed}",
        detail={"month": month, "step": "preview", "invoices": count, "failed": failed},
    )


def failed_alert(month: str, slug: str, why: str) -> Alert:
    """A tenant has no invoice. For the agency alone: the tenant's own targets are not told."""
    why = why[:_REASON_CHARS_MAX]
    return Alert(
        AlertKind.INVOICES,
        f"{month} {slug}",
        f"the invoice of {slug} for {month} cannot be made: {why}. The others go on; it is tried again every minute",
        f"{AlertKind.INVOICES}:failed:{month}:{slug}:{sha256(why.encode()).hexdigest()[:16]}",
        detail={"month": month, "tenant": slug, "why": why},
    )


def waiting_alert(month: str, why: str) -> Alert:
    """The round of a month is held up for all tenants."""
    why = why[:_REASON_CHARS_MAX]
    return Alert(
        AlertKind.INVOICES,
        month,
        f"invoices for {month} wait: {why}",
        f"{AlertKind.INVOICES}:waiting:{month}",
        detail={"month": month, "why": why},
    )
