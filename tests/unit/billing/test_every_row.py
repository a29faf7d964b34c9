"""Whatever happens over a year, in whatever order, every row of the ledger is on one invoice, and money is its sum."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from tenantry.billing.months import Month, read_month
from tenantry.billing.usage import start_us
from tenantry.control.invoicing import credit, issue_all, list_clients, reading_books, verify_invoices
from tenantry.control.site import Site
from tenantry.domain.plans import Terms
from tenantry.ledger.adjustments import Scope, book_adjustments
from tenantry.ledger.verification import verify
from tenantry.storage.billing_tables import invoice_months
from tenantry.storage.directory.invoices import INVOICE, standing_months
from tenantry.storage.directory.plans import Agreed
from tenantry.storage.tables import ledger
from tests.unit.billing.clock import Clock, set_clock
from tests.unit.billing.offices import USD, OnADay, make_site, on_day
from tests.unit.ledger.books import HOUR_US, MODEL, Attempt, book
from tests.unit.ledger.test_adjustments import RAW, settled, table

MONTHS = [read_month(f"2026-{number:02d}") for number in (10, 11, 12)] + [read_month("2027-01"), read_month("2027-02")]
PLANS = {
    "fee": Terms(fee_nanos=10 * USD, included_nanos=3_000_000, markup_percent="20"),
    "least": Terms(markup_percent="12.5", minimum_nanos=4_000_000),
    "own": Terms(prices={MODEL: {"input": "3", "output": "9"}}, included_tokens=4000),
    "cut": Terms(included_nanos=2_000_000, overage="block", discount_percent="10", discount_on="all"),
}
SEEDS = int(os.environ.get("TENANTRY_YEARS", "5"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    OnADay.day = date(2026, 10, 1)
    made = make_site(tmp_path)
    for name, terms in PLANS.items():
        made.directory.set_plan(name, terms)
    yield made
    made.engine.dispose()
    OnADay.day = date(2026, 11, 1)


class Year:
    """What happens to three tenants, by chance."""

    def __init__(self, site: Site, folder: Path, clock: Clock, seed: int) -> None:
        self.site, self.folder, self.clock, self.chance = site, folder, clock, random.Random(seed)
        self.attempts = self.runs = self.versions = 0

    def go(self, month: Month, before: Sequence[Month]) -> None:
        """A month, and what is done in it about those before."""
        self.use(month, 15)
        for action in self.chance.sample([self.correct, self.move, self.leave, self.take_back, self.take_back], 5):
            day = month.first + timedelta(days=self.chance.randrange(month.days))
            on_day(self.site, day)
            self.clock.day = day
            if self.chance.random() < 0.7:
                action(day)
            if before and self.chance.random() < 0.5:
                self.use(self.chance.choice(before), 5)  # a gateway that was cut off is heard again

    def use(self, month: Month, most: int) -> None:
        found: list[Attempt] = []
        for _ in range(self.chance.randrange(most + 1)):
            self.attempts += 1
            at_us = start_us(month.first, self.site.settings.zone) + self.chance.randrange(month.days * 24) * HOUR_US
            raw = self.chance.choice(["plain", "us", "iterations"])
            model = self.chance.choice([MODEL, MODEL, "claude-new-1"])
            begun, end = settled(self.attempts, RAW[raw], model_served=model, complete=self.chance.random() < 0.8)
            whose = self.chance.choice(["tnt_a", "tnt_b", "tnt_c"])
            found.append((replace(begun, tenant_id=whose), replace(end, ended_at_us=at_us)))
        self.runs += 1
        book(self.site.engine, self.folder, found, f"gateway{self.runs}")

    def correct(self, day: date) -> None:
        self.versions += 1
        names = {"claude-new-1": MODEL} if self.chance.random() < 0.6 else {}
        prices = table(f"v{self.versions}", self.chance.randrange(1, 4), **names)
        whose = self.chance.choice([None, "tnt_a", "tnt_b"])
        book_adjustments(self.site.engine, prices, Scope(whose))

    def move(self, day: date) -> None:
        slug = self.chance.choice([one.slug for one in self.site.directory.list_tenants()])
        self.site.directory.assign_plan(slug, Agreed(self.chance.choice([*PLANS, None])))

    def leave(self, day: date) -> None:
        if day.month == 12 and any(one.slug == "b" for one in self.site.directory.list_tenants()):
            self.site.directory.offboard_tenant("b", True)

    def take_back(self, day: date) -> None:
        with self.site.engine.connect() as connection:
            standing = [number for one in "abc" for number in standing_months(connection, f"tnt_{one}").values()]
        if standing:
            credit(self.site, self.chance.choice(standing), "by chance")

    def issue(self, month: Month) -> None:
        on_day(self.site, month.end)
        assert [one.why for one in issue_all(self.site, month) if one.failed] == []
        there = booked(self.site)
        assert all(rows <= there[key][0] for key, (rows, _) in covered(self.site).items()), "a row is on two invoices"


def covered(site: Site) -> dict[tuple[str, str], tuple[int, int]]:
    """Rows and cost that are on invoices, by tenant and month."""
    columns = invoice_months.c
    key = (columns.tenant_id, columns.month)
    query = select(*key, func.sum(columns.row_count), func.sum(columns.cost_nanos)).group_by(*key)
    with site.engine.connect() as connection:
        return {(one, month): (int(rows), int(cost)) for one, month, rows, cost in connection.execute(query) if rows}


def booked(site: Site) -> dict[tuple[str, str], tuple[int, int]]:
    found: dict[tuple[str, str], tuple[int, int]] = {}
    with site.engine.connect() as connection:
        for month in MONTHS:
            first, end = (start_us(day, site.settings.zone) for day in (month.first, month.end))
            query = select(ledger.c.tenant_id, func.count(), func.sum(ledger.c.cost_nanos)).group_by(ledger.c.tenant_id)
            for one, rows, cost in connection.execute(
                query.where(ledger.c.ended_at_us >= first, ledger.c.ended_at_us < end)
            ):
                found[one, str(month)] = (int(rows), int(cost or 0))
    return found


def net_of_documents(site: Site, tenant_id: str) -> int:
    return sum(one.document["net_nanos"] for one in site.directory.list_invoices() if one.tenant_id == tenant_id)


def net_of_bills(site: Site, tenant_id: str) -> int:
    with reading_books(site) as books:
        return sum(books.bill(tenant_id, month).net_nanos for month in MONTHS)


@pytest.mark.sqlite
@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_row_is_on_one_invoice_and_what_was_billed_is_what_the_bills_are_now(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    year = Year(site, tmp_path, set_clock(monkeypatch), seed)
    for slug, plan in (("a", "fee"), ("b", "least"), ("c", "own")):
        site.directory.assign_plan(slug, Agreed(plan, date(2026, 10, 1)))
    for at, month in enumerate(MONTHS[:-1]):
        year.go(month, MONTHS[:at])
        for earlier in MONTHS[: at + 1]:  # what was credited is billed anew, sooner or later
            if earlier == month or year.chance.random() < 0.5:
                year.issue(earlier)
    for month in MONTHS:  # nothing happens in the last one: what is left of the others is on its invoices
        year.issue(month)
    assert verify(site.engine).fault_count == 0
    clients = list_clients(site)
    assert {one.tenant_id for one in clients} == {"tnt_a", "tnt_b", "tnt_c"}
    assert covered(site) == booked(site)
    for client in clients:
        assert net_of_documents(site, client.tenant_id) == net_of_bills(site, client.tenant_id), client.slug
    for one in site.directory.list_invoices():
        document = one.document
        assert (
            sum(line["amount_minor"] for line in document["lines"]) == document["net_minor"] == document["total_minor"]
        )
        assert sum(line["nanos"] for line in document["lines"]) == document["net_nanos"]
        if one.kind == INVOICE:
            for name in ("by_model", "by_key", "by_week", "by_outcome", "price_versions"):
                table_of = document["appendix"][name]
                own = [line for line in document["lines"] if line["kind"] not in ("late",)]
                assert sum(row["rows"] for row in table_of) == sum(line["rows"] for line in own)
    assert verify_invoices(site)[1] == []
