"""What each client brings and costs in a month: whom a month's margins are of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tenantry.billing.books import Books
from tenantry.billing.invoice import Client
from tenantry.billing.margin import TenantMargin, tenant_margin
from tenantry.billing.months import Month
from tenantry.control.invoicing import list_clients, list_without_plan
from tenantry.control.site import Site
from tenantry.domain.plans import Terms


def margins_in(
    site: Site, books: Books, month: Month, plans: Mapping[str, Terms], now: datetime
) -> list[tuple[Client, TenantMargin]]:
    """Of every tenant that has or had a plan, then of those without. `plans` are those that might fit.

    Of tenants that were deleted, those of whom there is anything in the month.
    """
    there = {one.tenant_id for one in site.directory.list_tenants()}
    clients = [*list_clients(site), *list_without_plan(site)]
    each = [(client, tenant_margin(books, client, month, plans, now)) for client in clients]
    return [(client, margin) for client, margin in each if client.tenant_id in there or margin.is_of_something]
