"""What a client is shown of itself in its portal: nothing else reaches the page.

Money is at list price, as budgets, limits, summaries and exports count it: what the agency pays or earns is in none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select

from tenantry.control.figures.budgets import BudgetFigure
from tenantry.control.figures.days import DaySums
from tenantry.control.figures.tenant import LimitFigure, tenant_figures
from tenantry.control.site import Site, slot_endpoint_of
from tenantry.control.views import KeyView, key_view
from tenantry.domain.periods import Period
from tenantry.ledger.live import LiveUse
from tenantry.ledger.series import Sums
from tenantry.ledger.usage import UsageReport
from tenantry.storage.columns import now_utc
from tenantry.storage.directory.invoices import Issued
from tenantry.storage.records import TenantRecord
from tenantry.storage.tables import exports

# What a client runs into. Its share of an upstream and the like are the agency's affair.
_LIMITS: Final = (
    *("sessions_max", "requests_per_minute", "request_burst", "input_tokens_per_minute", "output_tokens_per_minute"),
    *("max_tokens_cap", "context_tokens_max", "models", "server_tools", "queue_depth_max"),
)
EXPORTS_SHOWN: Final = 24


@dataclass(frozen=True, slots=True)
class PortalFigures:
    """`use` None: no gateway tells. `hit_percent`: of the prompt, what came from the cache; None: there was none.

    `slots` are names and endpoints, as in the guide.
    """

    name: str
    slug: str
    is_active: bool
    endpoints: Sequence[str]
    month: Period
    usage: UsageReport
    by_key: Sequence[tuple[str, str, Sums]]
    days: Sequence[tuple[Period, Sums]]
    hit_percent: int | None
    use: LiveUse | None
    sessions_max: int
    limits: Sequence[LimitFigure]
    budgets: Sequence[BudgetFigure]
    keys: Sequence[KeyView]
    slots: Sequence[tuple[str, str]]


def portal_figures(site: Site, days: DaySums, tenant: TenantRecord, month: str | None) -> PortalFigures:
    """`month` None: the running one. Raises: BadMonth."""
    found, now = tenant_figures(site, days, tenant, month), now_utc()
    of_it = site.directory.list_slots(tenant.slug)
    return PortalFigures(
        tenant.name,
        tenant.slug,
        tenant.status == "active",
        found.endpoints,
        found.month,
        found.usage,
        found.by_key,
        found.days,
        found.caching.hit_percent,
        found.use,
        tenant.limits.sessions_max,
        [one for one in found.limits if one.name in _LIMITS],
        found.budgets,
        [key_view(one, now) for one in found.keys],
        [(one.name, slot_endpoint_of(site.settings, tenant.slug, one.name)) for one in of_it],
    )


def portal_exports(site: Site, tenant_id: str) -> list[Any]:
    """The tenant's own files that were written on schedule, the newest first."""
    query = select(exports).where(exports.c.tenant_id == tenant_id).order_by(exports.c.written_at.desc())
    with site.engine.connect() as connection:
        return list(connection.execute(query.limit(EXPORTS_SHOWN)))


def portal_invoices(site: Site, tenant_id: str) -> list[Issued]:
    """By internal id: a slug may have been another client's before."""
    return [one for one in site.directory.list_invoices() if one.tenant_id == tenant_id][::-1]
