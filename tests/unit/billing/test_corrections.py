"""Another price, or the first one, for what was used: on the next invoice, by the terms of its month, with its rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tenantry.billing.months import Month, read_month
from tenantry.billing.render import render
from tenantry.control.invoicing import find_client, issue, preview, reading_books
from tenantry.control.plan_views import tenant_margins
from tenantry.control.site import Site
from tenantry.domain.plans import Terms
from tenantry.ledger.adjustments import Scope, book_adjustments
from tenantry.ledger.own_run import OwnRun
from tenantry.storage.directory import DirectoryError
from tenantry.storage.directory.plans import Agreed
from tests.unit.billing.clock import Clock, set_clock
from tests.unit.billing.offices import USD, OnADay, make_site, on_day
from tests.unit.ledger.books import HOUR_US, MODEL, START_US, book, rows
from tests.unit.ledger.test_adjustments import RAW, settled, table

NOVEMBER, DECEMBER, JANUARY = (read_month(one) for one in ("2026-11", "2026-12", "2027-01"))
ALL = Scope()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    OnADay.day = date(2026, 11, 1)
    made = make_site(tmp_path)
    yield made
    made.engine.dispose()
    OnADay.day = date(2026, 11, 1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return set_clock(monkeypatch)


def issued(site: Site, month: Month, slug: str = "a") -> dict[str, Any]:
    return issue(site, find_client(site, slug), month).document


def corrections(document: dict[str, Any]) -> list[tuple[str, int, int, int]]:
    return [
        (line["text"], line["rows"], line["list_nanos"], line["nanos"])
        for line in document["lines"]
        if line["kind"] == "correction"
    ]


def used(site: Site, folder: Path, count: int, first: int = 0, **changes: Any) -> int:
    """So many attempts in November; their cost."""
    book(site.engine, folder, [settled(number, RAW["plain"], **changes) for number in range(first, first + count)])
    return sum(row["cost_nanos"] or 0 for row in rows(site.engine))


def test_a_price_that_was_corrected_is_on_the_next_invoice_as_a_correction_of_its_month(
    site: Site, tmp_path: Path, clock: Clock
) -> None:
    cost = used(site, tmp_path, 3)
    on_day(site, date(2026, 12, 1))
    first = issued(site, NOVEMBER)
    clock.day = date(2026, 12, 10)
    assert book_adjustments(site.engine, table("v2", 2), ALL) == 3
    assert book_adjustments(site.engine, table("v2", 2), ALL) == 0
    on_day(site, date(2027, 2, 1))
    document = issued(site, DECEMBER)
    assert corrections(document) == [("Corrections of November 2026: 3 attempts priced anew", 3, cost, cost * 12 // 10)]
    [group] = document["appendix"]["corrections"]["groups"]
    assert (group["month"], group["model"], group["why"], group["price_version"]) == (
        "2026-11",
        MODEL,
        "repriced",
        "v2",
    )
    names = [one["attempt"] for one in document["appendix"]["corrections"]["references"]]
    assert names == ["att_0", "att_1", "att_2"]
    assert document["appendix"]["corrections"]["not_named"] == 0
    assert {one["ended_on"] for one in document["appendix"]["corrections"]["references"]} == {"2026-11-02"}
    assert b"att_1 (November 2, 2026" in render(document, "html")
    assert issued(site, JANUARY)["lines"] == []
    assert site.directory.get_invoice(first["number"]).document == first


def margins(site: Site) -> list[tuple[int, int, int, int]]:
    """Of November and December: revenue by usage and by corrections, cost, and what of that is for corrections."""
    found = [
        next(one for one in tenant_margins(site, month)[0] if one.slug == "a").now for month in (NOVEMBER, DECEMBER)
    ]
    return [(one.metered_nanos, one.corrections_nanos, one.cost_nanos, one.corrections_cost_nanos) for one in found]


def test_a_correction_leaves_the_margin_of_a_month_that_was_closed_and_stands_apart_in_that_of_its_booking(
    site: Site, tmp_path: Path, clock: Clock
) -> None:
    cost = used(site, tmp_path, 3)
    on_day(site, date(2026, 12, 1))
    issued(site, NOVEMBER)
    [november, december] = margins(site)
    assert (november, december) == ((cost * 12 // 10, 0, cost, 0), (0, 0, 0, 0))
    clock.day = date(2026, 12, 10)
    assert book_adjustments(site.engine, table("v2", 2), ALL) == 3
    assert margins(site) == [november, (0, cost * 12 // 10, cost, cost)]


def test_a_correction_of_days_on_which_a_tenant_paid_itself_costs_the_agency_nothing(
    site: Site, tmp_path: Path, clock: Clock
) -> None:
    used(site, tmp_path, 3)
    site.directory.set_plan("byok", Terms(byok=True, service_fee_percent="10"))
    site.directory.assign_plan("a", Agreed("byok", date(2026, 11, 1)))
    on_day(site, date(2026, 12, 1))
    site.directory.assign_plan("a", Agreed("metered", date(2026, 12, 1)))
    clock.day = date(2026, 12, 10)
    book_adjustments(site.engine, table("v2", 2), ALL)
    [_, december] = margins(site)
    assert december[1] > 0
    assert december[2:] == (0, 0)


@pytest.mark.parametrize("day", [date(2026, 12, 1), date(2026, 12, 31)])
def test_what_is_corrected_beyond_the_included_is_billed_once_on_whatever_day_that_is_booked(
    site: Site, tmp_path: Path, clock: Clock, day: date
) -> None:
    cost = used(site, tmp_path, 3)
    site.directory.set_plan("cap", Terms(included_nanos=2 * cost))
    site.directory.assign_plan("a", Agreed("cap", date(2026, 11, 1)))
    on_day(site, date(2026, 12, 1))
    assert issued(site, NOVEMBER)["net_nanos"] == 0
    clock.day = day
    book_adjustments(site.engine, table("v2", 3), ALL)
    on_day(site, date(2027, 1, 1))
    assert issued(site, DECEMBER)["net_nanos"] == cost


@pytest.mark.parametrize("days_before", [0, 1])
def test_a_correction_within_its_month_is_part_of_the_usage_of_its_model(
    site: Site, tmp_path: Path, clock: Clock, days_before: int
) -> None:
    cost = used(site, tmp_path, 3, ended_at_us=START_US - days_before * 24 * HOUR_US)
    clock.day = date(2026, 11, 20)
    book_adjustments(site.engine, table("v2", 2), ALL)
    on_day(site, date(2026, 12, 1))
    [line] = issued(site, NOVEMBER)["lines"]
    assert (line["kind"], line["rows"], line["list_nanos"]) == ("usage", 6, 2 * cost)


def test_a_model_that_gets_its_first_price_is_billed_then(site: Site, tmp_path: Path, clock: Clock) -> None:
    used(site, tmp_path, 2, model_served="claude-new-1")
    on_day(site, date(2026, 12, 1))
    [line] = issued(site, NOVEMBER)["lines"]
    assert (line["kind"], line["nanos"]) == ("without_price", 0)
    clock.day = date(2026, 12, 10)
    assert book_adjustments(site.engine, table("v2", **{"claude-new-1": MODEL}), ALL) == 2
    on_day(site, date(2027, 1, 1))
    document = issued(site, DECEMBER)
    [(_, count, listed, nanos)] = corrections(document)
    assert (count, nanos) == (2, listed * 12 // 10)
    assert [one["why"] for one in document["appendix"]["corrections"]["groups"]] == ["was_unpriced"]


def test_the_terms_of_the_month_of_the_usage_decide_what_its_correction_costs(
    site: Site, tmp_path: Path, clock: Clock
) -> None:
    cost = used(site, tmp_path, 10)
    site.directory.set_plan("half", Terms(fee_nanos=USD, included_nanos=cost + cost // 2, markup_percent="10"))
    site.directory.assign_plan("a", Agreed("half", date(2026, 11, 1)))
    site.directory.assign_plan("a", Agreed("metered", date(2026, 12, 1)))
    on_day(site, date(2026, 12, 1))
    assert [line["kind"] for line in issued(site, NOVEMBER)["lines"]] == ["fee", "included"]
    clock.day = date(2026, 12, 10)
    book_adjustments(site.engine, table("v2", 2), ALL)
    on_day(site, date(2027, 1, 1))
    # Half of what was added was within November's plan still; the rest is at November's markup, not at December's.
    assert [nanos for *_, nanos in corrections(issued(site, DECEMBER))] == [cost // 2 * 11 // 10]


def test_a_second_correction_goes_on_where_the_first_one_ended(site: Site, tmp_path: Path, clock: Clock) -> None:
    cost = used(site, tmp_path, 10)
    site.directory.set_plan("half", Terms(included_nanos=2 * cost))
    site.directory.assign_plan("a", Agreed("half", date(2026, 11, 1)))
    on_day(site, date(2027, 3, 1))
    issued(site, NOVEMBER)
    clock.day = date(2026, 12, 10)
    book_adjustments(site.engine, table("v2", 2), ALL)
    assert [nanos for *_, nanos in corrections(issued(site, DECEMBER))] == [0]
    clock.day = date(2027, 1, 10)
    book_adjustments(site.engine, table("v3", 3), ALL)
    assert [nanos for *_, nanos in corrections(issued(site, JANUARY))] == [cost]


def test_usage_that_comes_after_a_correction_is_billed_as_if_it_had_come_before(
    site: Site, tmp_path: Path, clock: Clock
) -> None:
    cost = used(site, tmp_path, 10)
    site.directory.set_plan("half", Terms(included_nanos=2 * cost))
    site.directory.assign_plan("a", Agreed("half", date(2026, 11, 1)))
    on_day(site, date(2027, 3, 1))
    issued(site, NOVEMBER)
    clock.day = date(2026, 12, 10)
    book_adjustments(site.engine, table("v2", 2), ALL)
    issued(site, DECEMBER)
    book(site.engine, tmp_path, [settled(number, RAW["plain"]) for number in range(10, 15)], "late")
    # Within what November's plan includes by itself, and beyond it with the correction.
    assert issued(site, JANUARY)["net_nanos"] == cost // 2


def test_a_tenant_on_own_prices_owes_nothing_for_another_list_price(site: Site, tmp_path: Path, clock: Clock) -> None:
    used(site, tmp_path, 3)
    site.directory.set_plan("own", Terms(prices={MODEL: {"input": "2", "output": "9"}}))
    site.directory.assign_plan("a", Agreed("own", date(2026, 11, 1)))
    on_day(site, date(2026, 12, 1))
    assert issued(site, NOVEMBER)["net_nanos"] == 3 * (1000 * 2000 + 10 * 9000)
    clock.day = date(2026, 12, 10)
    book_adjustments(site.engine, table("v2", 2), ALL)
    on_day(site, date(2027, 1, 1))
    assert [nanos for *_, nanos in corrections(issued(site, DECEMBER))] == [0]


def test_another_own_price_for_a_month_that_is_billed_is_refused_and_after_its_credit_note_taken(
    site: Site, tmp_path: Path
) -> None:
    used(site, tmp_path, 3)
    site.directory.set_plan("own", Terms(prices={MODEL: {"input": "2", "output": "9"}}))
    site.directory.assign_plan("a", Agreed("own", date(2026, 11, 1)))
    on_day(site, date(2026, 12, 1))
    issued(site, NOVEMBER)
    other = Terms(prices={MODEL: {"input": "3", "output": "9"}})
    with pytest.raises(DirectoryError, match="2026-11 is billed already: the day must be 2026-12-01 or later"):
        site.directory.set_plan("own", other, date(2026, 11, 1))
    with reading_books(site) as books:
        assert preview(site, books, find_client(site, "a"), DECEMBER).document["lines"] == []


def test_killed_between_two_transactions_a_recomputation_is_finished_by_the_next_and_nothing_is_booked_twice(
    site: Site, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = used(site, tmp_path, 20)
    monkeypatch.setattr("tenantry.ledger.adjustments.ROWS_PER_TRANSACTION_MAX", 6)
    real, calls = OwnRun.book, list[int]()

    def killed(self: OwnRun, *given: Any, **more: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(self, *given, **more)

    with monkeypatch.context() as changed:
        changed.setattr(OwnRun, "book", killed)
        with pytest.raises(KeyboardInterrupt):
            book_adjustments(site.engine, table("v2", 2), ALL)
    assert len(rows(site.engine)) == 32
    assert book_adjustments(site.engine, table("v2", 2), ALL) == 8
    assert book_adjustments(site.engine, table("v2", 2), ALL) == 0
    assert sum(row["cost_nanos"] for row in rows(site.engine)) == 2 * cost
    assert len({row["adjusts"] for row in rows(site.engine) if row["adjusts"]}) == 20
    assert rows(site.engine)[0]["ended_at_us"] == START_US


NEW = "claude-new-1"


def first_price(site: Site, folder: Path, clock: Clock, booked: date, terms: Terms | None = None) -> int:
    """Two attempts of November that had no price, and what they cost at the one that they got on a day."""
    used(site, folder, 2, model_served=NEW)
    if terms is not None:
        site.directory.set_plan("other", terms)
        site.directory.assign_plan("a", Agreed("other", date(2026, 11, 1)))
    on_day(site, booked)
    clock.day = booked
    assert book_adjustments(site.engine, table("v2", **{NEW: MODEL}), ALL) == 2
    return sum(row["cost_nanos"] or 0 for row in rows(site.engine) if row["adjusts"])


def previewed(site: Site, month: Month) -> dict[str, Any]:
    with reading_books(site) as books:
        return preview(site, books, find_client(site, "a"), month).document


def told(document: dict[str, Any]) -> list[tuple[str, str, int, int]]:
    return [(line["kind"], line["text"], line["rows"], line["nanos"]) for line in document["lines"]]


def test_what_got_its_price_within_its_month_is_usage_of_its_model_and_waits_for_none(
    site: Site, tmp_path: Path, clock: Clock
) -> None:
    cost = first_price(site, tmp_path, clock, date(2026, 11, 20))
    document = previewed(site, NOVEMBER)
    assert told(document) == [("usage", f"Usage of {NEW}", 4, cost * 12 // 10)]
    for form in ("html", "csv", "json"):
        assert b"yet" not in render(document, form)
    on_day(site, date(2026, 12, 1))
    assert told(issued(site, NOVEMBER)) == told(document)


def test_of_a_model_whose_attempts_got_a_price_in_part_only_the_rest_waits(
    site: Site, tmp_path: Path, clock: Clock
) -> None:
    book(site.engine, tmp_path, [settled(9, RAW["plain"] | {"speed": "fast"}, model_served=NEW)], "fast")
    cost = first_price(site, tmp_path, clock, date(2026, 11, 20))
    lines = [(kind, rows, nanos) for kind, _, rows, nanos in told(previewed(site, NOVEMBER))]
    assert lines == [("usage", 4, cost * 12 // 10), ("without_price", 1, 0)]


def test_an_invoice_that_is_made_after_the_price_was_booked_says_where_the_usage_is_billed(
    site: Site, tmp_path: Path, clock: Clock
) -> None:
    cost = first_price(site, tmp_path, clock, date(2026, 12, 10))
    text = "Usage priced after its month; billed as a correction in the month of the price"
    assert told(issued(site, NOVEMBER)) == [("without_price", text, 2, 0)]
    on_day(site, date(2027, 1, 1))
    assert [(rows, nanos) for _, rows, _, nanos in corrections(issued(site, DECEMBER))] == [(2, cost * 12 // 10)]


@pytest.mark.parametrize("booked", [date(2026, 11, 20), date(2026, 12, 10)])
def test_tokens_of_what_got_its_price_count_for_what_a_plan_includes_whenever_that_is_booked(
    site: Site, tmp_path: Path, clock: Clock, booked: date
) -> None:
    # Half of the 2,020 tokens are beyond; the gateway counts them as they are used.
    cost = first_price(site, tmp_path, clock, booked, Terms(included_tokens=1010))
    on_day(site, date(2027, 1, 1))
    billed = [issued(site, month)["net_nanos"] for month in (NOVEMBER, DECEMBER)]
    assert (sum(billed), billed[0 if booked < NOVEMBER.end else 1]) == (cost // 2, cost // 2)
