"""The month's round: previews or invoices on the day that is set, once for each tenant, however often control starts.

What was done for whom stands in `invoice_rounds`, written after the number was taken and the files are there. Killed in
between, the number stands, the files that are missing are written, and then the row. Two control processes at once are
two issuers at once: one of them issues.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from tenantry.billing.invoice import Client
from tenantry.billing.months import Month, month_before, read_month
from tenantry.billing.render import NotRendered, require_extra
from tenantry.billing.usage import start_us
from tenantry.control.completeness import MonthIncomplete, require_complete
from tenantry.control.invoice_files import check_of, keep_files, keep_preview
from tenantry.control.invoice_views import totals_of
from tenantry.control.invoicing import Passed, issue_all, list_clients, preview_all
from tenantry.control.site import Site, host
from tenantry.domain.alerts import Alert
from tenantry.domain.billing_alerts import failed_alert, issued_alert, previewed_alert, waiting_alert
from tenantry.ledger.outbox import Outbox
from tenantry.setting_values import ISSUE
from tenantry.settings import Settings
from tenantry.storage.billing_tables import invoice_rounds
from tenantry.storage.columns import now_utc

log = logging.getLogger("tenantry.control")

ACTOR = "schedule"
# A row belongs to the month in which its attempt ended, and is booked within a second after that; an hour covers
# clocks that differ between machines. As for exports.
MARGIN = timedelta(hours=1)
# Who switches the schedule on in the middle of a month does not ask for the invoices of the month before.
FIRST_DAYS_MAX = 7
# How far a control process that was down catches up.
MONTHS_BACK_MAX = 12
# A month that is not complete so long after its time is told of; before, it is about to be.
WAITING_TOLD = timedelta(hours=1)
# What stands in the place of a number where a preview was made.
PREVIEWED = ""


def due_at(month: Month, settings: Settings) -> datetime:
    """When the round of a month begins: on the day and at the hour that are set, an hour after its end at the least."""
    begins_us = start_us(month.end.replace(day=settings.invoice_day), settings.zone)
    local = datetime.fromtimestamp(begins_us // 1_000_000, settings.zone).replace(hour=settings.invoice_hour)
    end = datetime.fromtimestamp(start_us(month.end, settings.zone) // 1_000_000, UTC)
    return max(local.astimezone(UTC), end + MARGIN)


class InvoiceRounds:
    """The chore of the control process."""

    def __init__(self, site: Site) -> None:
        self._site = replace(site, directory=site.directory.acting_as(ACTOR, host()))
        self._settings = site.settings
        self._step = site.settings.invoice_schedule
        self._outbox = Outbox(site.engine)
        self._told: set[str] = set()

    def step(self, now: datetime | None = None) -> int:
        """Do what is due; how many tenants were done."""
        at = now or datetime.now(UTC)
        return sum(self._round(month, at) for month in self._due(at))

    def _due(self, now: datetime) -> Iterator[Month]:
        """The months of which something may be left to do, oldest first."""
        last = month_before(now.astimezone(self._settings.zone).date())
        if due_at(last, self._settings) > now:
            last = month_before(last.first)
        begun = self._newest_begun()
        if begun is None:
            is_fresh = now - due_at(last, self._settings) <= timedelta(days=FIRST_DAYS_MAX)
            yield from [last] if is_fresh else []
            return
        found = [last]
        while found[0].first > begun.first and len(found) < MONTHS_BACK_MAX:
            found.insert(0, month_before(found[0].first))
        yield from (one for one in found if one.first >= begun.first)

    def _newest_begun(self) -> Month | None:
        query = select(func.max(invoice_rounds.c.month)).where(invoice_rounds.c.step == self._step)
        with self._site.engine.connect() as connection:
            newest = connection.execute(query).scalar()
        return read_month(newest) if newest is not None else None

    def _round(self, month: Month, now: datetime) -> int:
        clients, done = list_clients(self._site), self._done(month)
        left = [one for one in clients if one.tenant_id not in done]
        if not left:
            self._tell_of_all(month, 0)
            return 0
        try:
            require_complete(self._site, month)
            for form in self._settings.invoice_formats:
                require_extra(form)
            return self._pass(month, left)
        except (MonthIncomplete, NotRendered) as reason:
            self._wait(month, str(reason), now)
        except OSError as reason:
            self._wait(month, f"a file cannot be written: {reason.strerror or reason}", now)
        return 0

    def _pass(self, month: Month, left: Sequence[Client]) -> int:
        """All that are left, each by itself: one that fails is told, and holds up no other."""
        done = failed = 0
        for one in self._passed(month, left):
            try:
                why = one.why if one.failed else None
                done += why is None and self._keep(month, one)
            except NotRendered as fault:
                why = str(fault)
            if why is not None:
                failed += 1
                self._tell(failed_alert(str(month), one.slug, why))
                log.error("the invoice of %s for %s cannot be made: %s", one.slug, month, why)
        self._tell_of_all(month, failed)
        log.info("invoices of %s, %s: %d tenants done, %d failed", month, self._step, done, failed)
        return done

    def _passed(self, month: Month, left: Sequence[Client]) -> Iterator[Passed]:
        if self._step != ISSUE:
            return preview_all(self._site, month, left)
        return issue_all(self._site, month, left, check_of(self._settings.invoice_formats))

    def _keep(self, month: Month, passed: Passed) -> bool:
        """Files, then the row that says so. False: another process issues at this moment; it is looked at again."""
        settings = self._settings
        number: str | None = None
        if self._step == ISSUE:
            if passed.issued is None and passed.draft is not None:
                return False
            keep_files(self._site, passed, settings.invoice_formats, settings.invoice_folder)
            number = passed.issued.number if passed.issued is not None else passed.standing
        elif passed.draft is not None:
            keep_preview(passed, settings.invoice_formats, settings.invoice_folder, str(month))
            number = PREVIEWED
        row = {"month": str(month), "step": self._step, "tenant_id": passed.client.tenant_id, "number": number}
        with suppress(IntegrityError), self._site.engine.begin() as connection:  # another process was as quick
            connection.execute(insert(invoice_rounds).values(ended_at=now_utc(), **row))
        return True

    def _done(self, month: Month) -> dict[str, str | None]:
        """Whom the round of a month has done, with the number of the invoice."""
        here = (invoice_rounds.c.month == str(month), invoice_rounds.c.step == self._step)
        query = select(invoice_rounds.c.tenant_id, invoice_rounds.c.number).where(*here)
        with self._site.engine.connect() as connection:
            return {row.tenant_id: row.number for row in connection.execute(query)}

    def _tell_of_all(self, month: Month, failed: int) -> None:
        if f"{month} {failed}" in self._told:
            return
        numbers = {number for number in self._done(month).values() if number is not None}
        folder = str(self._settings.invoice_folder)
        if self._step == ISSUE and (numbers or failed):
            self._tell(issued_alert(str(month), len(numbers), self._totals(month, numbers), failed, folder))
        elif numbers or failed:
            count = sum(number is not None for number in self._done(month).values())
            self._tell(previewed_alert(str(month), count, failed, folder))
        self._told.add(f"{month} {failed}")

    def _totals(self, month: Month, numbers: Collection[str]) -> list[str]:
        """What they come to, a sum for each currency."""
        issued = self._site.directory.list_invoices(month=str(month))
        totals = totals_of(one for one in issued if one.number in numbers)
        return [totals[currency] for currency in sorted(totals)]

    def _wait(self, month: Month, why: str, now: datetime) -> None:
        if f"{month} {why}" not in self._told:
            log.warning("invoices for %s wait: %s", month, why)
            self._told.add(f"{month} {why}")
        if now - due_at(month, self._settings) >= WAITING_TOLD:
            self._tell(waiting_alert(str(month), why))

    def _tell(self, alert: Alert) -> None:
        self._outbox.raise_alert(alert, time.time_ns() // 1000)
