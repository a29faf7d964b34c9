"""What a stretch of usage costs the tenant, as lines: whole nano-dollars, each product rounded once, half up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from tenantry.billing.months import Stretch, rounded
from tenantry.billing.phrases import Days, Percent, Phrase, days_to, percent_of, phrase
from tenantry.billing.usage import ADJUSTED, ESTIMATES, IN_MONTH, LATER, UNPRICED, Used
from tenantry.domain.attempts import Outcome
from tenantry.domain.plans import BILL, ON_ALL, Terms, own_prices
from tenantry.domain.surcharges import AT_LIST_PRICE, SURCHARGES

# Kinds of lines. Those of usage carry ledger rows, each row on one of them.
FEE, SLOTS, SETUP, DISCOUNT, MINIMUM, TRIAL = "fee", "slots", "setup", "discount", "minimum", "trial"
USAGE, INCLUDED, BEYOND, SERVICE_FEE = "usage", "included", "beyond", "service_fee"
ESTIMATED, WITHOUT_PRICE, WITHOUT_PLAN, LATE = "estimated", "without_price", "without_plan", "late"
CORRECTION, SURCHARGE = "correction", "surcharge"


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `rows` and `list_nanos` are the ledger rows on it and their cost; `nanos` is what is billed."""

    kind: str
    text: Phrase
    nanos: int
    rows: int = 0
    list_nanos: int = 0
    tokens: int = 0


def stretch_lines(stretch: Stretch, used: Sequence[Used], left: Included) -> list[Line]:
    """All lines of a stretch but the minimum, which is of the month. `left`: of what its run includes."""
    terms = stretch.terms
    if terms is None:
        return [_sum_line(WITHOUT_PLAN, phrase("without_plan"), used)] if used else []
    if stretch.is_trial:
        line = Line(TRIAL, phrase("trial", plan=stretch.plan, days=_days(stretch)), 0)
        return [line, *([_sum_line(TRIAL, phrase("trial_usage"), used)] if used else [])]
    charged = [*_fees(stretch, terms), *_usage(terms, used, left)]
    discount = _discount(stretch, terms, charged)
    return [*_setup(stretch, terms), *charged, *discount]


def _setup(stretch: Stretch, terms: Terms) -> Iterator[Line]:
    if stretch.owes_setup and terms.setup_nanos > 0:
        yield Line(SETUP, phrase("setup", plan=stretch.plan), terms.setup_nanos)


def _fees(stretch: Stretch, terms: Terms) -> Iterator[Line]:
    if terms.fee_nanos:
        yield Line(FEE, phrase("fee", plan=stretch.plan, days=_days(stretch)), stretch.share(terms.fee_nanos))
    extra = (stretch.slots or 0) - (terms.slots or 0)
    if extra > 0 and terms.extra_slot_nanos:
        nanos = stretch.share(extra * terms.extra_slot_nanos)
        yield Line(SLOTS, phrase("slots", count=extra, days=_days(stretch)), nanos)


def _days(stretch: Stretch) -> Days:
    return days_to(stretch.first, stretch.end)


def _discount(stretch: Stretch, terms: Terms, charged: Iterable[Line]) -> list[Line]:
    if not stretch.is_discounted:
        return []
    of = [one.nanos for one in charged if terms.discount_on == ON_ALL or one.kind == FEE]
    nanos = rounded(-sum(of) * Fraction(terms.discount_percent) / 100)
    return [Line(DISCOUNT, phrase("discount", percent=_percent(terms.discount_percent)), nanos)] if nanos else []


def _usage(terms: Terms, used: Sequence[Used], left: Included) -> Iterator[Line]:
    """Voided rows owe nothing, and stand with the others; rows without a price and estimates stand apart."""
    priced = [one for one in used if not _is_apart(one) and not _waits_for_price(terms, one)]
    estimates = [one for one in used if _is_apart(one)]
    waiting = [one for one in used if _waits_for_price(terms, one) and one.priced != LATER]
    later = [one for one in used if _waits_for_price(terms, one) and one.priced == LATER]
    if priced:
        yield from _charged(terms, priced, left)
    if waiting:
        yield _sum_line(WITHOUT_PRICE, phrase("without_price"), waiting)
    if later:
        yield _sum_line(WITHOUT_PRICE, phrase("priced_later"), later)
    if estimates and terms.bill_estimates:
        for line in _charged(terms, estimates, left):
            yield replace(line, kind=ESTIMATED, text=phrase("estimated", line=line.text))
    elif estimates:
        yield _sum_line(ESTIMATED, phrase("estimated_not_billed"), estimates)


def _is_apart(used: Used) -> bool:
    return used.outcome in ESTIMATES


def _waits_for_price(terms: Terms, used: Used) -> bool:
    """What corrections of its month gave a price is usage: they have its cost, and it has the tokens."""
    return used.outcome == UNPRICED and used.priced != IN_MONTH and own_prices(terms, used.model) is None


class Included:
    """What is left of the usage that is within the fee: list price or tokens. What is used of it counts once.

    It is that of all days on which the same terms go on (`runs_of`), and its first days may use all of it.
    """

    def __init__(self, run: Sequence[Stretch]) -> None:
        terms = run[0].terms or Terms()
        self._by_tokens = bool(terms.included_tokens)
        self.is_all = terms.fair_use
        self.is_any = bool(terms.included_nanos or terms.included_tokens or terms.fair_use)
        whole = terms.included_tokens if self._by_tokens else terms.included_nanos
        self._left = sum(one.share(whole) for one in run)

    def beyond(self, used: Sequence[Used]) -> Fraction:
        """Which share of this usage is beyond it, from 0 to 1."""
        if not self.is_any:
            return Fraction(1)
        measure = sum(one.tokens if self._by_tokens else one.cost_nanos for one in used)
        if self.is_all or measure <= self._left:
            self._left -= max(0, measure)
            return Fraction(0)
        beyond, self._left = Fraction(measure - self._left, measure), 0
        return beyond


def _charged(terms: Terms, used: Sequence[Used], left: Included) -> Iterator[Line]:
    if terms.byok:
        yield from _service_fee(terms, used)
        return
    beyond = left.beyond(used)
    if not left.is_any:
        yield from _by_model(terms, used)
    elif not beyond:
        yield _sum_line(INCLUDED, phrase("included"), used)
    elif terms.overage == BILL:
        nanos = rounded(beyond * sum((_value(terms, one) for one in used), Fraction(0)))
        yield _sum_line(BEYOND, phrase("beyond", percent=percent_of(beyond)), used, nanos)
        for kind, whole in _surcharges(terms, used):
            yield Line(BEYOND, phrase(f"beyond_{kind}", percent=percent_of(beyond)), rounded(beyond * whole))
    else:
        yield _sum_line(BEYOND, phrase("beyond_not_billed", percent=percent_of(beyond)), used)


def _by_model(terms: Terms, used: Sequence[Used]) -> Iterator[Line]:
    for model in sorted({one.model for one in used}):
        own = [one for one in used if one.model == model]
        nanos = rounded(sum((_value(terms, one) for one in own), Fraction(0)))
        yield _sum_line(USAGE, phrase("usage", model=model), own, nanos)
        for kind, whole in _surcharges(terms, own):
            yield Line(SURCHARGE, phrase(f"surcharge_{kind}", model=model), rounded(whole))


def _service_fee(terms: Terms, used: Sequence[Used]) -> Iterator[Line]:
    yield _sum_line(USAGE, phrase("own_credential"), used)
    of = sum(one.cost_nanos for one in used)
    nanos = rounded(of * Fraction(terms.service_fee_percent) / 100)
    if nanos:
        yield Line(SERVICE_FEE, phrase("service_fee", percent=_percent(terms.service_fee_percent)), nanos)


def _value(terms: Terms, used: Used) -> Fraction:
    """At the plan's prices. A correction of the list price changes nothing where the plan has its own.

    So it is with what is owed by a bound and has no usage that prices could be multiplied with.
    """
    own = own_prices(terms, used.model)
    if own is None or used.outcome in ESTIMATES:
        return used.cost_nanos * (1 + Fraction(terms.markup_percent) / 100)
    if used.outcome in (ADJUSTED, Outcome.VOIDED.value):
        return Fraction(0)
    return sum((used.counts[name] * price for name, price in own.items()), Fraction(0))


def _surcharges(terms: Terms, used: Sequence[Used]) -> Iterator[tuple[str, Fraction]]:
    """What the plan's own prices bear as list prices do, by what it is for; those of list prices are within them."""
    sums = dict.fromkeys(SURCHARGES, Fraction(0))
    for one in used if terms.bears_surcharges else ():
        if not one.extra or own_prices(terms, one.model) is None:
            continue
        for (kind, model, column), amount in one.extra.items():
            own = own_prices(terms, model)
            if own is not None and column != AT_LIST_PRICE:
                sums[kind] += amount * own.get(column, 0)
            elif own is None and column == AT_LIST_PRICE:
                sums[kind] += amount * (1 + Fraction(terms.markup_percent) / 100)
    yield from ((kind, whole) for kind, whole in sums.items() if whole)


def _sum_line(kind: str, text: Phrase, used: Iterable[Used], nanos: int = 0) -> Line:
    some = list(used)
    rows, cost = sum(one.rows for one in some), sum(one.cost_nanos for one in some)
    return Line(kind, text, nanos, rows, cost, sum(one.tokens for one in some))


def _percent(text: str) -> Percent:
    return Percent(Decimal(text))
