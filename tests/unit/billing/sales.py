"""Random terms, plans and usage for tests of bills."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from hypothesis import strategies as st

from tenantry.billing.months import Month, Sold
from tenantry.billing.usage import COUNTED, IN_MONTH, LATER, NOT_YET, Used
from tenantry.domain.plans import BadTerms, Terms, check_terms
from tenantry.storage.records import PlanVersion, TenantPlan

USD = 1_000_000_000
NOVEMBER = Month(date(2026, 11, 1))
MODELS = ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-new-1")
OUTCOMES = ("settled", "voided", "estimated", "orphaned", "unpriced", "adjusted")
OWN = {"input": "1.111", "cache_write_5m": "2", "cache_write_1h": "3", "cache_read": "0.1", "output": "9.999999999"}
percents = st.sampled_from(["0", "0.000000001", "12.5", "33.333333333", "100"])
money = st.integers(0, 10**13)


def is_good(terms: Terms) -> bool:
    try:
        check_terms(terms)
    except BadTerms:
        return False
    return True


@st.composite
def terms(draw: st.DrawFn, never_billed: bool = False) -> Terms:
    """`never_billed`: what is beyond the included is blocked or throttled."""
    byok = not never_billed and draw(st.booleans())
    slots = draw(st.none() | st.integers(1, 10))
    included = {"nanos": 0, "tokens": 0, "fair": False}
    if not byok:
        kind = draw(st.sampled_from([*included] if never_billed else ["none", *included]))
        included |= {kind: draw(st.integers(1, 10**12)) if kind in ("nanos", "tokens") else kind == "fair"}
    is_any = any(included[name] for name in ("nanos", "tokens", "fair"))
    overages = ["block", "throttle"] if never_billed else ["bill", "block", "throttle"]
    overage = draw(st.sampled_from(overages)) if is_any else "bill"
    discount = draw(percents)
    made = Terms(
        fee_nanos=draw(money),
        included_nanos=int(included["nanos"]),
        included_tokens=int(included["tokens"]),
        fair_use=bool(included["fair"]),
        overage=overage,
        throttle_tier="slow" if overage == "throttle" else None,
        markup_percent="0" if byok else draw(percents),
        prices={} if byok else draw(st.sampled_from([{}, {"claude-haiku-*": OWN}, {"*": OWN}])),
        slots=slots,
        extra_slot_nanos=draw(money) if slots else 0,
        setup_nanos=draw(money),
        minimum_nanos=draw(money),
        bill_estimates=draw(st.booleans()),
        discount_percent=discount,
        discount_on=draw(st.sampled_from(["fee", "all"])),
        discount_until=None if discount == "0" else draw(st.none() | days.map(date.isoformat)),
        trial_days=draw(st.sampled_from([0, 0, 3, 40])),
        byok=byok,
        service_fee_percent=draw(percents) if byok else "0",
        changes=draw(st.sampled_from(["prorated", "next_month"])),
    )
    assert is_good(made)
    return made


days = st.dates(date(2026, 10, 1), date(2026, 12, 31))


@st.composite
def sold(draw: st.DrawFn, never_billed: bool = False) -> Sold:
    terms_of = terms(never_billed)
    names = ("a", "b", "c")
    versions = [version(name, draw(terms_of)) for name in names]
    later = st.tuples(st.sampled_from(names), terms_of, days)
    versions += [version(*one) for one in draw(st.lists(later, max_size=2))]
    plans = st.tuples(st.sampled_from([*names, None]), days, st.none() | st.integers(1, 20))
    assigned = [on(*one) for one in draw(st.lists(plans, max_size=4))]
    return Sold(assigned, versions)


def version(plan: str, terms: Terms, from_day: date | None = None, number: int | None = None) -> PlanVersion:
    made = datetime(2026, 1, 1, tzinfo=UTC)
    return PlanVersion(number or hash((plan, from_day)), plan, from_day, terms, "test", made)


def on(plan: str | None, from_day: date, slots: int | None = None) -> TenantPlan:
    return TenantPlan("tnt_a", "acme", plan, from_day, slots, "test")


@st.composite
def usage(draw: st.DrawFn, month: Month = NOVEMBER) -> list[Used]:
    return [
        used(
            month.first + timedelta(days=draw(st.integers(0, month.days - 1))),
            draw(st.sampled_from(OUTCOMES)),
            draw(st.integers(0, 10**12)),
            model=draw(st.sampled_from(MODELS)),
            tokens=draw(st.integers(0, 10**9)),
            sign=draw(st.sampled_from([1, 1, 1, -1])),
            priced=draw(st.sampled_from([NOT_YET, IN_MONTH, LATER])),
        )
        for _ in range(draw(st.integers(0, 12)))
    ]


def used(
    first: date,
    outcome: str = "settled",
    nanos: int = 0,
    model: str = MODELS[0],
    tokens: int = 0,
    sign: int = 1,
    priced: str = NOT_YET,
) -> Used:
    is_adjusted = outcome == "adjusted"
    cost = 0 if outcome in ("voided", "unpriced") else nanos * sign if is_adjusted else nanos
    counts = dict.fromkeys(COUNTED, 0) | ({} if is_adjusted else {"input_tokens": tokens, "output_tokens": tokens // 7})
    when = priced if outcome == "unpriced" else NOT_YET
    return Used(first, "key_1", model, outcome, 0 if is_adjusted else 2, 2, cost, counts, priced=when)
