"""What each tenant brings and costs in a month, as `margin` tells it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from tenantry.billing.margin import Margin, TenantMargin, totals
from tenantry.billing.months import Month
from tenantry.billing.usage import COUNTED, ReadUsage, Used, cut_days, read_usage, start_us
from tenantry.control.client_margins import margins_in
from tenantry.control.figures.beside import Beside
from tenantry.control.figures.days import DaySums
from tenantry.control.figures.time import days_between
from tenantry.control.invoicing import reading_books
from tenantry.control.site import Site
from tenantry.ledger.series import Sums, summed
from tenantry.storage.versions import directory_version

# A month of fifty busy tenants takes a tenth of a second to add up: pages that are opened at once share one answer.
REMEMBERED_SECONDS: Final = 10.0
WAITED_SECONDS: Final = 0.15
# Who has changed a plan looks for what came of it. Several times that, on a busy machine.
WAITED_BEHIND_A_CHANGE_SECONDS: Final = 1.0
log = logging.getLogger("tenantry.control")


@dataclass(frozen=True, slots=True)
class Margins:
    """`every` is that of all, also of those that left; `by_tenant` by slug, where a slug has been another's too of who
    has it now. `at` is when it was true; `version` that of the directory, or of an earlier one than was read.
    """

    month: Month
    every: Sequence[TenantMargin]
    by_tenant: Mapping[str, TenantMargin]
    at: datetime
    version: int

    @property
    def now(self) -> Margin:
        return totals(one.now for one in self.every)

    @property
    def projected(self) -> Margin:
        return totals(one.projected for one in self.every)


def month_margins(site: Site, month: Month | None = None, days: DaySums | None = None) -> Margins:
    """Of one month; None: of the running one. `days`: its days that are over are those that are remembered."""
    wanted = month or Month(site.directory.today().replace(day=1))
    plans, now = site.directory.list_plans(), datetime.now(UTC)
    version, read = _version_of(site), read_usage if days is None else remembered_usage(days)
    with reading_books(site, read) as books:
        found = margins_in(site, books, wanted, plans, now)
    there = {one.tenant_id for one in site.directory.list_tenants()}
    last = sorted(found, key=lambda one: one[0].tenant_id in there)
    return Margins(
        wanted, [margin for _, margin in found], {client.slug: margin for client, margin in last}, now, version
    )


def _version_of(site: Site) -> int:
    with site.engine.connect() as connection:
        return directory_version(connection)


class RememberedMargins:
    """The running month's margins, added up beside, by one at a time, and remembered for some seconds.

    A page never waits long for them: it shows those that were true a moment ago, and says when that was. Of what was
    before a change of the directory (a plan's terms, who is on it, a credit note) none is shown behind it.
    """

    def __init__(self, site: Site, days: DaySums) -> None:
        self._site = site
        self._days = days
        self._beside = Beside("margins")
        self._found: Margins | None = None
        self._until = 0.0

    def find(self) -> Margins | None:
        """None: they are being added up for the first time, or behind a change; ask again in a moment."""
        version = _version_of(self._site)
        begun = time.monotonic()
        while True:
            found = self._found
            is_of_now = found is not None and found.version == version
            if is_of_now and time.monotonic() < self._until:
                return found
            running = self._beside.begin(self._add_up)
            left = begun - time.monotonic() + (WAITED_SECONDS if is_of_now else WAITED_BEHIND_A_CHANGE_SECONDS)
            running.join(max(0.0, left))
            if left <= 0 or is_of_now:
                found = self._found
                return found if found is not None and found.version == version else None

    def _add_up(self) -> None:
        try:
            self._found = month_margins(self._site, days=self._days)
            self._until = time.monotonic() + REMEMBERED_SECONDS
        except (SQLAlchemyError, OSError) as error:
            log.warning("margins could not be added up: %s", error)
            # Who waits is told nothing new; the next one that asks tries again.
            self._until = 0.0


def remembered_usage(days: DaySums) -> ReadUsage:
    """The usage of a month from the sums of its days, once for all tenants: some hundred queries become one a day."""
    known: dict[Month, Mapping[str, Sequence[_OfDay]]] = {}

    def read(
        connection: Connection, tenant_id: str, month: Month, zone: ZoneInfo, cuts: Iterable[date] = ()
    ) -> list[Used]:
        if month not in known:
            known[month] = _by_tenant(days, connection, month, zone)
        own = known[month].get(tenant_id, ())
        return [used for first, end in pairwise(cut_days(month, cuts)) for used in _between(own, first, end)]

    return read


# A day, its key, model and outcome, and what they come to.
_OfDay = tuple[date, tuple[str, str, str], Sums]


def _by_tenant(days: DaySums, connection: Connection, month: Month, zone: ZoneInfo) -> Mapping[str, Sequence[_OfDay]]:
    found: dict[str, list[_OfDay]] = {}
    now_us = time.time_ns() // 1000
    whole = days_between(start_us(month.first, zone), start_us(month.end, zone), zone)
    for day, cells in zip(whole, days.of_days(connection, whole, now_us), strict=True):
        on = date.fromisoformat(day.label)
        for (tenant_id, *key), sums in cells.items():
            found.setdefault(tenant_id, []).append((on, (key[0], key[1], key[2]), sums))
    return found


def _between(own: Sequence[_OfDay], first: date, end: date) -> list[Used]:
    grouped: dict[tuple[str, str, str], list[Sums]] = {}
    for on, key, sums in own:
        if first <= on < end:
            grouped.setdefault(key, []).append(sums)
    found: list[Used] = []
    for key, some in sorted(grouped.items()):
        sums = summed(some)
        counts = {name: getattr(sums, name) for name in COUNTED}
        found.append(Used(first, *key, sums.attempts, sums.rows, sums.cost_nanos, counts))
    return found
