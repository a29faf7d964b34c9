"""What each tenant brings and costs in a month, as `margin` tells it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from tenantry.billing.margin import Margin, TenantMargin, tenant_margin, totals
from tenantry.billing.months import Month
from tenantry.control.invoicing import list_clients, list_without_plan, reading_books
from tenantry.control.site import Site

# A month of fifty busy tenants takes some tenths of a second to add up: pages that are opened at once share one answer.
REMEMBERED_SECONDS: Final = 10.0
WAITED_SECONDS: Final = 0.15
log = logging.getLogger("tenantry.control")


@dataclass(frozen=True, slots=True)
class Margins:
    """`every` is that of all, also of those that left; `by_tenant` by slug, where a slug has been another's too of who
    has it now. `at` is when it was true.
    """

    month: Month
    every: Sequence[TenantMargin]
    by_tenant: Mapping[str, TenantMargin]
    at: datetime

    @property
    def now(self) -> Margin:
        return totals(one.now for one in self.every)

    @property
    def projected(self) -> Margin:
        return totals(one.projected for one in self.every)


def month_margins(site: Site, month: Month | None = None) -> Margins:
    """Of one month; None: of the running one."""
    wanted = month or Month(site.directory.today().replace(day=1))
    plans, now = site.directory.list_plans(), datetime.now(UTC)
    with reading_books(site) as books:
        clients = [*list_clients(site), *list_without_plan(site)]
        found = [tenant_margin(books, client, wanted, plans, now) for client in clients]
    there = {one.tenant_id for one in site.directory.list_tenants()}
    last = sorted(zip(clients, found, strict=True), key=lambda one: one[0].tenant_id in there)
    return Margins(wanted, found, {client.slug: margin for client, margin in last}, now)


class RememberedMargins:
    """The running month's margins, added up beside, by one at a time, and remembered for some seconds.

    A page never waits long for them: it shows those that were true a moment ago, and says when that was.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._found: Margins | None = None
        self._until = 0.0
        self._running: threading.Thread | None = None

    def find(self, wait_seconds: float = WAITED_SECONDS) -> Margins | None:
        """None: they are being added up for the first time; ask again in a moment."""
        with self._lock:
            if time.monotonic() < self._until:
                return self._found
            if self._running is None or not self._running.is_alive():
                self._running = threading.Thread(target=self._add_up, name="margins", daemon=True)
                self._running.start()
            running = self._running
        running.join(wait_seconds)
        return self._found

    def _add_up(self) -> None:
        try:
            self._found = month_margins(self._site)
            self._until = time.monotonic() + REMEMBERED_SECONDS
        except (SQLAlchemyError, OSError) as error:
            log.warning("margins could not be added up: %s", error)
