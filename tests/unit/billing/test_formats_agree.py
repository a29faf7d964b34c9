"""Over a year of every kind of plan, correction and credit: PDF, CII, HTML, CSV and JSON of a document say the same.

`TENANTRY_PAPERS=5` looks at five years, and at the PDF of every document of them; else at some PDFs
of one year, by chance.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tenantry.billing.credits import Part
from tenantry.billing.months import Month, read_month
from tenantry.billing.render import render
from tenantry.billing.usage import start_us
from tenantry.control.invoicing import credit, issue_all, set_billing, verify_invoices
from tenantry.control.site import Site
from tenantry.domain.attempts import Outcome
from tenantry.domain.billing_details import Details
from tenantry.domain.plans import Terms
from tenantry.ledger.adjustments import Scope, book_adjustments
from tenantry.storage.directory.changes import DirectoryError
from tenantry.storage.directory.invoices import INVOICE, Issued
from tenantry.storage.directory.plans import Agreed
from tests.unit.billing import readers
from tests.unit.billing.clock import Clock, set_clock
from tests.unit.billing.offices import USD, OnADay, make_site, on_day
from tests.unit.billing.papers import AGENCY, REACHED
from tests.unit.billing.rules import broken
from tests.unit.ledger.books import HOUR_US, MODEL, Attempt, book
from tests.unit.ledger.test_adjustments import RAW, settled, table

MONTHS = [read_month(f"{2026 + (8 + number) // 12}-{(8 + number) % 12 + 1:02d}") for number in range(12)]
PLANS = {
    "pro": Terms(fee_nanos=79 * USD, slots=5, extra_slot_nanos=15 * USD, setup_nanos=250 * USD, fair_use=True),
    "studio": Terms(fee_nanos=179 * USD, included_nanos=3_000_000, markup_percent="20", changes="prorate"),
    "tokens": Terms(fee_nanos=49 * USD, included_tokens=4000, markup_percent="7.5"),
    "blocked": Terms(fee_nanos=29 * USD, included_nanos=2_000_000, overage="block"),
    "slow": Terms(fee_nanos=29 * USD, included_nanos=2_000_000, overage="throttle", throttle_tier="standard"),
    "metered-plan": Terms(markup_percent="15", minimum_nanos=20 * USD),
    "own": Terms(prices={MODEL: {"input": "3333", "output": "9999"}}),
    "byok": Terms(byok=True, service_fee_percent="12.5", fee_nanos=5 * USD),
    "discount": Terms(fee_nanos=99 * USD, discount_percent="33.3", discount_on="all", discount_until="2027-03-17"),
    "trial": Terms(fee_nanos=59 * USD, trial_days=40, markup_percent="50"),
    "sure": Terms(markup_percent="1000", bill_estimates=False),
    "dear": Terms(markup_percent="999.5", fee_nanos=123_456_789_012_345),
}
# Languages, and how each is written in a second country.
LOCALES = ("en_US", "de_DE", "fr_FR", "es_ES", "en_GB", "de_AT", "fr_CH", "es_MX")
MONEY = (Details(), Details(currency="EUR", rate="0.92"), Details(currency="JPY", rate="151.3"))
VAT = (None, None, None, "AE", "G", "E", "Z")
YEARS = int(os.environ.get("TENANTRY_PAPERS", "0"))
PDFS = 10


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    OnADay.day = MONTHS[0].first
    made = make_site(tmp_path)
    for at, (name, terms) in enumerate(PLANS.items()):
        made.directory.set_plan(name, terms)
        slug = f"t{at}"
        made.directory.create_tenant(slug, f"{name} & Söhne", "standard", f"tnt_{slug}")
        made.directory.assign_plan(slug, Agreed(name, MONTHS[0].first, slots=7 if terms.slots else None))
    set_billing(made, None, Details(**{**AGENCY, **REACHED}, taxes=(("VAT", "19"),)))
    for at in range(len(PLANS)):
        own = Details(locale=LOCALES[at % 8], country="FR", tax_id="FR12345678901", vat_category=VAT[at % 7])
        set_billing(made, f"t{at}", MONEY[at % 3].over(own))
    yield made
    made.engine.dispose()


class Year:
    """What happens to a dozen tenants, by chance."""

    def __init__(self, site: Site, folder: Path, clock: Clock, seed: int) -> None:
        self.site, self.folder, self.clock, self.chance = site, folder, clock, random.Random(seed)
        self.attempts = 0

    def go(self, at: int) -> None:
        month = MONTHS[at]
        on_day(self.site, month.first)
        self.clock.day = month.first + timedelta(days=9)
        self.use(at)
        if at % 4 == 3:  # another price, and one for what had none
            prices = table(f"v{at}", self.chance.randrange(1, 4), **{"claude-new-1": MODEL})
            book_adjustments(self.site.engine, prices, Scope(None))
        for slug in self.chance.sample(range(len(PLANS)), 2):
            day = month.first + timedelta(days=self.chance.randrange(month.days))
            on_day(self.site, day)
            self.site.directory.assign_plan(f"t{slug}", Agreed(self.chance.choice([*PLANS]), day))
        on_day(self.site, month.end)
        assert [one.why for one in issue_all(self.site, month) if one.failed] == []
        self.give_back(month)

    def use(self, at: int) -> None:
        """Of a month, and some of one before: a gateway that was cut off is heard again."""
        found: list[Attempt] = []
        for number in range(len(PLANS)):
            for _ in range(self.chance.randrange(6)):
                self.attempts += 1
                month = MONTHS[at if self.chance.random() < 0.9 else max(0, at - 1)]
                hour = self.chance.randrange(month.days * 24)
                model = self.chance.choice([MODEL, "claude-sonnet-5-5", "claude-new-1"])
                raw = RAW[self.chance.choice(["plain", "us", "iterations"])]
                begun, end = settled(self.attempts, raw, model_served=model, complete=self.chance.random() < 0.8)
                times = self.chance.choice([1, 1, 997])
                cost = end.cost_nanos * times if end.outcome is Outcome.SETTLED else end.cost_nanos
                ended = start_us(month.first, self.site.settings.zone) + hour * HOUR_US
                found.append(
                    (replace(begun, tenant_id=f"tnt_t{number}"), replace(end, ended_at_us=ended, cost_nanos=cost))
                )
        book(self.site.engine, self.folder, found, f"gateway{at}")

    def give_back(self, month: Month) -> None:
        """Parts of some invoices, in each way; all of one, which is billed anew."""
        of_month = [one for one in self.site.directory.list_invoices(None, str(month)) if one.kind == INVOICE]
        for one in self.chance.sample([one for one in of_month if one.document["lines"]], 4):
            amount = Decimal(self.chance.randrange(1, 300)).scaleb(-one.document["digits"])
            line = self.chance.randint(1, len(one.document["lines"]))
            part = self.chance.choice([Part(amount), Part(lines=(1,)), Part(amount, (line,))])
            with suppress(DirectoryError):  # nothing is left of it, or not so much
                credit(self.site, one.number, "answers were slow", part)
        credit(self.site, self.chance.choice(of_month).number, "wrong address")
        assert [one.why for one in issue_all(self.site, month) if one.failed] == []


def differences(one: Issued) -> list[str]:
    """Between the files of a document, but for its PDF."""
    document = one.document
    told = readers.from_json(render(document, "json"))
    bare = replace(told, lines=[(text, amount) for text, amount in told.lines])
    shown = {
        "csv": readers.from_csv(render(document, "csv")),
        "cii": readers.from_cii(render(document, "cii")),
        "html": readers.from_html(render(document, "html"), told, document["locale"]),
    }
    found = [form for form, said in shown.items() if like(said, document) != bare]
    return [f"{one.number} {form}: {shown[form]} is not {bare}" for form in found]


def like(said: readers.Said, document: dict[str, Any]) -> readers.Said:
    """As JSON says it: no line where there is none, no tax where there is a reason for none or it is zero."""
    lines = said.lines if document["lines"] else []
    taxes = said.taxes if document["taxes"] else [one for one in said.taxes if one != (0, 0)]
    return replace(said, lines=lines, taxes=taxes)


def wrong_in_appendix(document: dict[str, Any], page: readers.Page) -> list[str]:
    """Tables whose cells are not the rows, tokens and list price that the document has."""
    names = ("by_model", "by_slot", "by_key", "by_week", "by_outcome")
    tables = [document["appendix"][name] for name in names if document["appendix"].get(name)]
    found: list[str] = []
    for table_of, shown in zip(tables, page.tables, strict=False):
        wanted = [[row["rows"], row["tokens"], Decimal(row["list_nanos"]).scaleb(-9)] for row in table_of]
        told = [[readers.number_in(cell, document["locale"]) for cell in row[1:]] for row in shown]
        if told != wanted:
            found.append(f"{told} is not {wanted}")
    return found


@pytest.mark.parametrize("seed", range(YEARS or 1))
def test_all_files_of_all_documents_of_a_year_say_the_same(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    year = Year(site, tmp_path, set_clock(monkeypatch), seed)
    for at in range(len(MONTHS)):
        year.go(at)
    issued = [one for one in site.directory.list_invoices() if one.slug.startswith("t")]
    kinds = {one.kind for one in issued}
    assert len(issued) > 12 * len(PLANS)
    assert len(kinds) == 3, kinds
    assert [difference for one in issued for difference in differences(one)] == []
    for one in issued if YEARS else year.chance.sample(issued, PDFS):
        page = readers.page_of(render(one.document, "html"))
        assert wrong_in_appendix(one.document, page) == []
        assert readers.lacking_in_pdf(render(one.document, "pdf"), page) == [], one.number
        assert broken(render(one.document, "cii")) == [], one.number
    assert verify_invoices(site)[1] == []
