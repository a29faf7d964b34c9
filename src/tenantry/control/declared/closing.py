"""The closing statement of a tenant that leaves: what it used, month by month, from the ledger."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import func, select

from tenantry.control.declared.planning import Plan
from tenantry.control.declared.state import StandingTenant
from tenantry.control.site import Site
from tenantry.domain.money import format_usd
from tenantry.ledger.usage import UsageReport, month_usage
from tenantry.storage.tables import ledger


def write_statements(site: Site, plan: Plan, folder: Path) -> list[Path]:
    """A statement for each tenant that leaves. Written before it does: afterwards its name may be gone."""
    written: list[Path] = []
    for change in plan.changes:
        if change.action == "tenant.remove":
            tenant = plan.standing.tenants[change.subject]
            text = closing_statement(site, change.subject, tenant, plan.made_at, change.after)
            written.append(
                _write(folder / f"{change.subject}-{plan.made_at.astimezone(site.settings.zone):%Y-%m-%d}.md", text)
            )
    return written


def closing_statement(site: Site, slug: str, tenant: StandingTenant, now: datetime, data: str) -> str:
    """The statement as Markdown."""
    zone = site.settings.zone
    reports = [month_usage(site.engine, tenant.tenant_id, month, zone) for month in _months(site, tenant, now)]
    total = sum(report.cost_nanos for report in reports)
    unpriced = sum(model.unpriced_requests for report in reports for model in report.models)
    lines = [
        f"# Closing statement: {tenant.block.name}",
        "",
        f"Tenant `{slug}` (`{tenant.tenant_id}`), as of {now.astimezone(zone):%Y-%m-%d %H:%M} {zone.key}.",
        "Requests that were still in flight then are booked afterwards and are not in these figures.",
        "",
        f"Tier {tenant.block.tier}" + (f", plan {tenant.block.plan}" if tenant.block.plan else "") + ".",
        f"Gateway keys revoked: {len(tenant.keys)}. "
        + (
            "Its data is deleted; the ledger keeps its rows."
            if data == "delete"
            else "Its data is kept; it is disabled."
        ),
        "",
        *_open_month(reports, now, zone),
        "## All months",
        "",
        "| month | requests | input | output | cost |",
        "|---|--:|--:|--:|--:|",
        *(_month_line(report) for report in reports),
        f"| **total** | {sum(report.requests for report in reports)} | | | {format_usd(total)} |",
    ]
    if unpriced:
        lines += ["", f"{unpriced} requests have no price yet and are not in the cost."]
    return "\n".join(lines) + "\n"


def _months(site: Site, tenant: StandingTenant, now: datetime) -> Iterator[str]:
    """Every month from the first with usage to the open one."""
    zone = site.settings.zone
    with site.engine.connect() as connection:
        first_us = connection.execute(
            select(func.min(ledger.c.ended_at_us)).where(ledger.c.tenant_id == tenant.tenant_id)
        ).scalar()
    first = datetime.fromtimestamp(first_us // 1_000_000, UTC).astimezone(zone) if first_us is not None else now
    last = now.astimezone(zone)
    year, month = first.astimezone(zone).year, first.astimezone(zone).month
    while (year, month) <= (last.year, last.month):
        yield f"{year}-{month:02d}"
        year, month = year + month // 12, month % 12 + 1


def _open_month(reports: list[UsageReport], now: datetime, zone: ZoneInfo) -> Iterator[str]:
    month = now.astimezone(zone).strftime("%Y-%m")
    report = next((one for one in reports if one.month == month), None)
    yield f"## The open month, {month}"
    yield ""
    if report is None or not report.models:
        yield "No usage."
        yield ""
        return
    yield "| model | requests | input | cache writes | cache reads | output | cost |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for one in report.models:
        writes = one.cache_write_5m_tokens + one.cache_write_1h_tokens
        yield (
            f"| {one.model} | {one.requests} | {one.input_tokens} | {writes} | {one.cache_read_tokens} "
            f"| {one.output_tokens} | {format_usd(one.cost_nanos)} |"
        )
    yield ""


def _month_line(report: UsageReport) -> str:
    tokens_in = sum(model.input_tokens for model in report.models)
    tokens_out = sum(model.output_tokens for model in report.models)
    return f"| {report.month} | {report.requests} | {tokens_in} | {tokens_out} | {format_usd(report.cost_nanos)} |"


def _write(path: Path, text: str) -> Path:
    """A new file, beside one of that name with a number: a slug may leave, come and leave again on one day."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    stem, number = path.stem, 1
    while True:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            break
        except FileExistsError:
            number += 1
            path = path.with_name(f"{stem}-{number}{path.suffix}")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return path
