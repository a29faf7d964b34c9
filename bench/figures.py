"""How fast pages have their figures: `python -m bench.figures [ROWS]` (default 2,000,000; 1.1 GB of disk a million)."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

from bench.ledger import END_US, TENANTS, fill, median_ms
from tenantry.billing.months import Month
from tenantry.control.figures.days import DaySums
from tenantry.control.figures.margins import month_margins
from tenantry.control.figures.requests import find_requests
from tenantry.control.figures.scope import Scope, scope_of
from tenantry.control.figures.story import story_of
from tenantry.control.figures.tenant import tenant_figures
from tenantry.control.figures.tenants import tenant_table
from tenantry.control.figures.today import today_figures
from tenantry.control.init import init_site
from tenantry.control.site import Site, open_site
from tenantry.ledger.explorer import Place, Wanted
from tenantry.settings import load_settings
from tenantry.storage.directory.tenants import NewTenant, TenantChange

# The afternoon of a month's last day: a whole month of rows lies behind it.
NOW_US = END_US - 8 * 3_600_000_000
NOVEMBER = Month(date(2026, 11, 1))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as name:
        settings = load_settings(None, {"TENANTRY_DATA_DIR": name, "TENANTRY_TIME_ZONE": "Europe/Berlin"})
        init_site(settings)
        site = open_site(settings)
        path = Path(settings.store_url.removeprefix("sqlite:///"))
        started = time.perf_counter()
        fill(site.engine, path, count)
        make_tenants(site)
        print(f"{count:,} rows, {path.stat().st_size / 1e9:.2f} GB, made in {time.perf_counter() - started:.0f} s\n")
        print("| | ms (median of 7) |\n|---|---|")
        for what, call in figures(site).items():
            print(f"| {what} | {median_ms(call):.0f} |", flush=True)
        site.engine.dispose()


def make_tenants(site: Site) -> None:
    change = TenantChange(budgets={"month": 10_000 * 10**9}, plan=None)
    new = [
        NewTenant(f"tenant-{number}", "Tenant", "standard", change, f"tnt_{number:020d}") for number in range(TENANTS)
    ]
    site.directory.create_tenants(new)


def figures(site: Site) -> dict[str, Callable[[], object]]:
    whole, days = scope_of(site, None), DaySums(site.settings.zone)
    days.warm(site.engine, NOW_US)
    tenant = whole.tenants["tenant-7"]
    own = Scope({"tenant-7": tenant}, False)
    every, one = Wanted(), Wanted([tenant.tenant_id])
    day_us = 86_400_000_000
    month = replace(every, start_us=END_US - 30 * day_us, end_us=END_US)
    rare = replace(every, outcome="orphaned")
    deep = Place(END_US - 45 * day_us, 1 << 60)
    return {
        "Today": lambda: today_figures(site, days, whole, with_site=True, now_us=NOW_US),
        "Today of one tenant": lambda: today_figures(site, days, own, with_site=False, now_us=NOW_US),
        "the table of tenants": lambda: tenant_table(site, days, whole, None, NOW_US),
        "a tenant": lambda: tenant_figures(site, days, tenant, "2026-11"),
        "the month's margins": lambda: month_margins(site, NOVEMBER, days),
        "the same, as commands read them": lambda: month_margins(site, NOVEMBER),
        "requests, newest": lambda: find_requests(site, days, every, None, NOW_US),
        "requests of a month, with their sum": lambda: find_requests(site, days, month, None, NOW_US),
        "requests of a tenant": lambda: find_requests(site, days, one, None, NOW_US),
        "requests of an outcome that none has": lambda: find_requests(site, days, rare, None, NOW_US),
        "the same of a tenant": lambda: find_requests(
            site, days, replace(rare, tenant_ids=one.tenant_ids), None, NOW_US
        ),
        "requests, six weeks back": lambda: find_requests(site, days, every, deep, NOW_US),
        "requests by status and cost": lambda: find_requests(
            site, days, replace(every, status=529, cost_nanos_min=1), None, NOW_US
        ),
        "a story": lambda: story_of(site, f"req_011C{1000:020d}"),
    }


if __name__ == "__main__":
    main()
