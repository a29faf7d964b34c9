"""Weekly summaries: made for a tenant or the agency, and sent once for each week and target, or kept as files."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tenantry.billing.margin import TenantMargin, tenant_margin
from tenantry.billing.margin import totals as margin_totals
from tenantry.billing.months import Month
from tenantry.billing.summary import (
    AGENCY,
    TENANT,
    advice_for_agency,
    advice_for_tenant,
    budgets_of,
    head_of,
    last_week,
    read_week,
    top,
    totals,
    usage_of,
    without_proof,
)
from tenantry.billing.summary_page import render_summary, title_of
from tenantry.control.completeness import MonthIncomplete, require_booked
from tenantry.control.invoicing import agency_details, list_clients, list_without_plan, reading_books
from tenantry.control.site import Site, slugs_of_tenants
from tenantry.domain.alerts import Alert, AlertKind
from tenantry.domain.periods import WEEK, BadPeriod, Period, previous_period, read_period
from tenantry.domain.proof import is_of_proof
from tenantry.ledger.exports import replacing
from tenantry.ledger.outbox import SECOND_US, Outbox
from tenantry.ledger.tallies import refused_between
from tenantry.setting_values import WEEKDAYS
from tenantry.storage.database import reading
from tenantry.storage.records import AlertTargetRecord, TenantRecord

log = logging.getLogger("tenantry.control")


class BadWeek(ValueError):
    """What was named is no week."""


# As for exports: what ended in the week is booked by then, and clocks of machines differ.
MARGIN = timedelta(hours=1)


LAST = "last"


def named_week(site: Site, label: str) -> Period:
    """A week as it is written, or the last whole one. Raises: BadWeek."""
    zone = site.settings.zone
    try:
        week = last_week(time.time_ns() // 1000, zone) if label == LAST else read_period(label, zone)
    except BadPeriod:
        week = None
    if week is None or week.kind != WEEK:
        raise BadWeek(f"a week is written YYYY-Www, such as 2026-W47, not {label[:20]!r}")
    return week


def tenant_summary(site: Site, slug: str, week: Period) -> dict[str, Any]:
    """A tenant's week, for itself. Raises: NotInDirectory."""
    tenant = site.directory.get_tenant(slug)
    labels = {one.key_id: one.label or one.key_id for one in site.directory.list_keys(slug)}
    details = site.directory.billing_of(tenant.tenant_id).over(agency_details(site))
    zone = site.settings.zone
    with reading(site.engine) as connection:
        now = read_week(connection, week, tenant.tenant_id)
        before = read_week(connection, previous_period(week, zone), tenant.tenant_id)
        refused = refused_between(connection, week.start_us, week.end_us).get(tenant.tenant_id, {})
        budgets = budgets_of(connection, tenant.tenant_id, week, zone)
    summary = {
        **head_of(TENANT, week, zone, details.locale or "en_US"),
        "tenant": slug,
        "name": tenant.name,
        **usage_of(now, before),
        "by_key": top(now, lambda one: labels.get(one.key_id, one.key_id)),
        "budgets": budgets,
        "refusals": [{"reason": reason, "count": count} for reason, count in refused.items()],
    }
    return summary | {"advice": advice_for_tenant(summary, site.settings.contact)}


def agency_summary(site: Site, week: Period) -> dict[str, Any]:
    """The week of all tenants, with the margin of the month in which it ended."""
    zone = site.settings.zone
    slugs = slugs_of_tenants(site)
    month = Month(datetime.fromtimestamp(week.end_us // SECOND_US - 1, zone).date().replace(day=1))
    with reading_books(site) as books:
        now, before = (read_week(books.connection, one) for one in (week, previous_period(week, zone)))
        refused = refused_between(books.connection, week.start_us, week.end_us)
        plans, at = site.directory.list_plans(), datetime.now(UTC)
        clients, without_plan = list_clients(site), list_without_plan(site)
        margins = [tenant_margin(books, one, month, plans, at) for one in (*clients, *without_plan)]
    now, proof = without_proof(now)
    before, _ = without_proof(before)
    used = {one.tenant_id for one in now}
    summary = {
        **head_of(AGENCY, week, zone, agency_details(site).locale or "en_US"),
        **usage_of(now, before),
        "tenants": top(now, lambda one: slugs.get(one.tenant_id, one.tenant_id)),
        "refused": [
            {"tenant": slugs.get(one, one), "reasons": reasons}
            for one, reasons in sorted(refused.items())
            if one in slugs and not is_of_proof(one)
        ],
        "unpriced": sorted({one.model for one in now if one.unpriced}),
        "without_plan": [one.slug for one in without_plan if one.tenant_id in used],
        "margin": _margin(month, margins),
        "proof": totals(proof),
    }
    return summary | {"advice": advice_for_agency(summary)}


def _margin(month: Month, margins: Sequence[TenantMargin]) -> dict[str, Any]:
    return {
        "month": str(month),
        "now": margin_totals(one.now for one in margins).as_json(),
        "projected": margin_totals(one.projected for one in margins).as_json(),
        "under_water": [
            {"tenant": one.slug, "margin_nanos": one.projected.margin_nanos, "fits": one.fits}
            for one in margins
            if one.is_under_water and one.plan
        ],
    }


class Summaries:
    """The chore of the control process: the last week, on the day and hour that are set, once."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._outbox = Outbox(site.engine)
        self._done: set[str] = set()

    def step(self, now: datetime | None = None) -> int:
        """Make what is due; how many summaries were sent or written."""
        at = now or datetime.now(UTC)
        week = last_week(int(at.timestamp()) * SECOND_US, self._site.settings.zone)
        if week.label in self._done or at < self._due_at(week):
            return 0
        try:
            require_booked(self._site, week.end_us, week.label)
        except MonthIncomplete as reason:
            log.warning("summaries of %s wait: %s", week.label, reason)
            return 0
        made = self._agency(week) + sum(self._tenant(one, week) for one in self._site.directory.list_tenants())
        self._done.add(week.label)
        return made

    def _due_at(self, week: Period) -> datetime:
        settings = self._site.settings
        end = datetime.fromtimestamp(week.end_us // SECOND_US, settings.zone)
        day = end + timedelta(days=WEEKDAYS.index(settings.summary_weekday))
        return max(day.replace(hour=settings.summary_hour).astimezone(UTC), end.astimezone(UTC) + MARGIN)

    def _agency(self, week: Period) -> bool:
        if not self._is_wanted(None):
            return False
        summary = agency_summary(self._site, week)
        return self._send(summary, None, None, week)

    def _tenant(self, tenant: TenantRecord, week: Period) -> bool:
        if not self._is_wanted(tenant.slug):
            return False
        return self._send(tenant_summary(self._site, tenant.slug, week), tenant.tenant_id, tenant.slug, week)

    def _is_wanted(self, slug: str | None) -> bool:
        """Whether anybody would get it: who has no target for it is not asked for."""
        targets = self._site.directory.list_alert_targets()
        return self._site.settings.summary_folder is not None or any(_wants(one, slug) for one in targets)

    def _send(self, summary: Mapping[str, Any], tenant_id: str | None, slug: str | None, week: Period) -> bool:
        folder = self._site.settings.summary_folder
        is_written = folder is not None and write_summary(summary, folder)
        targets = self._site.directory.list_alert_targets()
        if not any(_wants(one, slug) for one in targets):
            return is_written
        rendered = {form: render_summary(summary, form) for form in ("html", "text")}
        alert = Alert(
            AlertKind.SUMMARY,
            slug or "all",
            title_of(summary),
            f"{AlertKind.SUMMARY}:{week.label}:{tenant_id or ''}",
            tenant_id,
            slug,
            {"summary": dict(summary), **rendered},
        )
        return self._outbox.raise_alert(alert, time.time_ns() // 1000) or is_written


def _wants(target: AlertTargetRecord, slug: str | None) -> bool:
    return target.slug == slug and (not target.kinds or AlertKind.SUMMARY in target.kinds)


def write_summary(summary: Mapping[str, Any], folder: Path) -> bool:
    """As a page and as text, private, where they are not there yet; whether any was. Raises: OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    whose = f"-{summary['tenant']}" if summary["kind"] == TENANT else ""
    paths = {
        form: folder / f"summary-{summary['week']}{whose}.{end}" for form, end in (("html", "html"), ("text", "txt"))
    }
    missing = {form: path for form, path in paths.items() if not path.exists()}
    for form, path in missing.items():
        with replacing(path) as file:
            file.write(render_summary(summary, form).encode())
    return bool(missing)
