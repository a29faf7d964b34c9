"""A year of invoices: `python -m bench.invoices [TENANTS] [ROWS]` (default 200 and 240,000: 2,400 invoices).

Every month of a year is issued for all tenants, as `invoice --all --issue` does it, and what was issued is proved. On a
machine that others use the CPU says more than the clock.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import UTC, date, datetime
from pathlib import Path

from bench.ledger import END_US, fill
from tenantry.billing.months import Month, month_before
from tenantry.cli.progress import told_share
from tenantry.control.init import init_site
from tenantry.control.invoicing import issue_all, verify_invoices
from tenantry.control.site import Site, open_site
from tenantry.domain.plans import Terms
from tenantry.settings import load_settings
from tenantry.storage.directory.plans import Agreed

TENANTS = 200
ROWS = 240_000
MONTHS = 12
# The year, and the month after it: only a month that is over is issued.
DAYS = 365 + 30
USD = 1_000_000_000
# The day after the last row.
TODAY = datetime.fromtimestamp(END_US // 1_000_000, UTC).date()
PLANS = {
    "flat": Terms(fee_nanos=179 * USD, included_nanos=USD // 2, markup_percent="20"),
    "metered": Terms(markup_percent="15", minimum_nanos=20 * USD),
    "fair": Terms(fee_nanos=79 * USD, fair_use=True),
}


def main() -> None:
    words = [int(word) for word in sys.argv[1:]]
    tenants, rows = (*words, *(TENANTS, ROWS)[len(words) :])
    with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as name:
        site = make_site(Path(name), tenants, rows)
        months = year()
        wall, cpu = time.perf_counter(), time.process_time()
        issued = 0
        with told_share(sys.stderr, "issued") as came:
            for month in months:
                for passed in issue_all(site, month):
                    issued += passed.issued is not None
                    came(issued / tenants / MONTHS)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        count, wrong = verify_invoices(site)
        site.engine.dispose()
    proved = f"{count:,} proved, {len(wrong)} wrong"
    print(f"{issued:,} invoices over {rows:,} rows: {wall:.1f} s, {cpu:.1f} s of CPU; {proved}")


def year() -> list[Month]:
    """Twelve months, the first one first; the last row is of the month after them."""
    found = [month_before(month_before(TODAY).first)]
    while len(found) < MONTHS:
        found.insert(0, month_before(found[0].first))
    return found


def make_site(folder: Path, tenants: int, rows: int) -> Site:
    """Tenants on three kinds of plans since before the year, and the year's ledger."""
    settings = load_settings(None, {"TENANTRY_DATA_DIR": str(folder)})
    init_site(settings)
    site = open_site(settings)
    with site.directory.transaction() as directory:
        for name, terms in PLANS.items():
            directory.set_plan(name, terms)
        for number in range(tenants):
            slug, plan = f"t{number:04d}", [*PLANS][number % len(PLANS)]
            directory.create_tenant(slug, slug, "standard", f"tnt_{number:020d}")
            directory.assign_plan(slug, Agreed(plan, date(TODAY.year - 1, 1, 1)))
    fill(site.engine, folder / "tenantry.db", rows, tenants, DAYS)
    return site


if __name__ == "__main__":
    main()
