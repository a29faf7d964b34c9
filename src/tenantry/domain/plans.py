"""Plans: the commercial terms that tenants are on, as versions with dates. Days are the agency's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, Generic, TypeVar

from tenantry.domain.money import NANOS_PER_USD, BadAmount, read_usd

T = TypeVar("T")

# What happens to usage beyond what is included.
BILL, BLOCK, THROTTLE = "bill", "block", "throttle"
OVERAGES: Final = (BILL, BLOCK, THROTTLE)
# From when on a change counts that no day was given for, and whether a fee is split by days.
PRORATED, NEXT_MONTH = "prorated", "next_month"
CHANGES: Final = (PRORATED, NEXT_MONTH)
# What a discount is taken from.
ON_FEE, ON_ALL = "fee", "all"
DISCOUNTED: Final = (ON_FEE, ON_ALL)
# The classes of tokens that an own price table may price, as the ledger's columns are called.
PRICED_TOKENS: Final = (
    "input_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "cache_read_tokens",
    "output_tokens",
)
SEARCHES: Final = "web_search_requests"
# Of the names in a price table: dollars per million tokens, and per thousand searches.
PRICE_NAMES: Final = {
    "input": PRICED_TOKENS[0],
    "cache_write_5m": PRICED_TOKENS[1],
    "cache_write_1h": PRICED_TOKENS[2],
    "cache_read": PRICED_TOKENS[3],
    "output": PRICED_TOKENS[4],
    "web_search_per_1000": SEARCHES,
}
# Dollars per thousand searches at list price: what a table says that names none.
SEARCHES_USD: Final = "10"
_PER_TOKENS: Final = 1_000_000
_PER_SEARCHES: Final = 1000
_DATE_SUFFIX: Final = re.compile(r"-\d{8}$")
DISCOUNT_PERCENT_MAX: Final = 100
# Ten years: a trial is over at some time.
TRIAL_DAYS_MAX: Final = 3650


class BadTerms(ValueError):
    """Terms that contradict each other; the message says which."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a month costs. Money is nano-dollars, percents are decimals as text, days ISO.

    Usage within `included_nanos` at list price, or `included_tokens` of all classes, or all of it with `fair_use`, is
    in the fee; beyond it `overage` says whether it is billed. What is billed costs the list price and
    `markup_percent`, or what `prices` says of a model (by its id or a pattern that ends in `*`). `slots` None: no
    limit. `byok`: the tenant pays the upstream itself, and the agency `service_fee_percent` of the list price.
    `surcharges`: `prices` are multiplied as list prices are in fast mode, for inference in the US and for long prompts;
    None: it was not said, and is so.
    """

    fee_nanos: int = 0
    included_nanos: int = 0
    markup_percent: str = "0"
    slots: int | None = None
    extra_slot_nanos: int = 0
    setup_nanos: int = 0
    minimum_nanos: int = 0
    included_tokens: int = 0
    fair_use: bool = False
    overage: str = BILL
    throttle_tier: str | None = None
    prices: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    surcharges: bool | None = None
    bill_estimates: bool = True
    discount_percent: str = "0"
    discount_on: str = ON_FEE
    discount_until: str | None = None
    trial_days: int = 0
    byok: bool = False
    service_fee_percent: str = "0"
    changes: str = PRORATED

    def as_json(self) -> dict[str, Any]:
        """All of it: what a version of Tenantry takes for granted later changes nothing that is stored.

        But for surcharges where nothing was said of them: there are no own prices then that could bear any.
        """
        return {name: value for name, value in asdict(self).items() if name != "surcharges" or value is not None}

    def told(self) -> dict[str, Any]:
        """What is told of it: the plain terms, and others where they say something."""
        return {
            name: value
            for name, value in asdict(self).items()
            if (bool(self.prices) if name == "surcharges" else name in _ALWAYS_TOLD or value != getattr(_PLAIN, name))
        }

    @property
    def bears_surcharges(self) -> bool:
        return bool(self.prices) and self.surcharges is not False


_ALWAYS_TOLD: Final = ("fee_nanos", "included_nanos", "markup_percent", "slots")
_PLAIN: Final = Terms()


def read_terms(stored: Mapping[str, Any]) -> Terms:
    """Terms as the store keeps them; what a newer version added is passed over.

    Own prices that were stored before surcharges could be said bear none, for good.
    """
    if stored.get("prices") and "surcharges" not in stored:
        stored = {**stored, "surcharges": False}
    return Terms(**{name: stored[name] for name in Terms.__dataclass_fields__ if name in stored})


def check_terms(terms: Terms) -> None:
    """Raises: BadTerms: one part contradicts another."""
    kinds = (
        ("included_usd", terms.included_nanos),
        ("included_tokens", terms.included_tokens),
        ("fair_use", terms.fair_use),
    )
    said = [name for name, value in kinds if value]
    if len(said) > 1:
        raise BadTerms(f"{' and '.join(said)}: usage is included in one way only")
    if (terms.overage == THROTTLE) != (terms.throttle_tier is not None):
        raise BadTerms(
            "overage = 'throttle' and throttle_tier belong together: the tier that is left beyond the included"
        )
    if terms.overage != BILL and not said:
        raise BadTerms(f"overage = {terms.overage!r} needs included_usd, included_tokens or fair_use before it")
    if terms.byok and (said or terms.prices or Fraction(terms.markup_percent)):
        raise BadTerms("byok: the tenant pays for its usage itself, so none is included, marked up or priced")
    if Fraction(terms.service_fee_percent) and not terms.byok:
        raise BadTerms("service_fee_percent is for byok = true; markup_percent is for the others")
    if terms.extra_slot_nanos and terms.slots is None:
        raise BadTerms("extra_slot_usd needs slots: without a number none is extra")
    if Fraction(terms.discount_percent) > DISCOUNT_PERCENT_MAX:
        raise BadTerms(f"discount_percent is at most {DISCOUNT_PERCENT_MAX}")
    if terms.discount_until is not None and not Fraction(terms.discount_percent):
        raise BadTerms("discount_until needs discount_percent")


def read_price_table(raw: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Own prices by model, each a decimal of dollars; searches without one are at list price. Raises: BadTerms."""
    for model, prices in raw.items():
        if not model or not model.isprintable() or "*" in model[:-1]:
            raise BadTerms(f"prices: {model[:60]!r} is no model's id, nor the beginning of some and a *")
        for name, text in prices.items():
            if name not in PRICE_NAMES:
                raise BadTerms(f"prices.{model} has no price {name!r}; there are: {', '.join(PRICE_NAMES)}")
            try:
                read_usd(text)
            except BadAmount:
                raise BadTerms(f'prices.{model}.{name} must be dollars in quotes, such as "2.50"') from None
        missing = [name for name in PRICE_NAMES if name not in prices and name != "web_search_per_1000"]
        if missing:
            raise BadTerms(f"prices.{model} needs {', '.join(missing)}: what has no price would be free")
    return {model: {"web_search_per_1000": SEARCHES_USD, **prices} for model, prices in raw.items()}


def own_prices(terms: Terms, model: str) -> Mapping[str, Fraction] | None:
    """Nano-dollars for each token or search by the ledger's column; None where the list price counts.

    A model's own id goes first, then that without a date, then the longest pattern.
    """
    found = terms.prices.get(model) or terms.prices.get(_DATE_SUFFIX.sub("", model))
    if found is None:
        patterns = [one for one in terms.prices if one.endswith("*") and model.startswith(one[:-1])]
        if not patterns:
            return None
        found = terms.prices[max(patterns, key=len)]
    return {PRICE_NAMES[name]: _each(name, text) for name, text in found.items()}


def _each(name: str, text: str) -> Fraction:
    nanos = Fraction(Decimal(text)) * NANOS_PER_USD
    return nanos / (_PER_SEARCHES if PRICE_NAMES[name] == SEARCHES else _PER_TOKENS)


@dataclass(frozen=True, slots=True)
class Dated(Generic[T]):
    """Something that was set from a day on: a plan's terms, or the plan of a tenant. None: from the beginning."""

    from_day: date | None
    what: T

    @property
    def first_day(self) -> date:
        return self.from_day or date.min


def in_force(changes: Iterable[Dated[T]]) -> list[Dated[T]]:
    """What counts from which day on, in the order of days. `changes` are in the order in which they were made.

    What was set from a day on ends what was set before for that day or a later one.
    """
    found: list[Dated[T]] = []
    for one in changes:
        found = [other for other in found if other.first_day < one.first_day]
        found.append(one)
    return found


def on_day(changes: Iterable[Dated[T]], day: date) -> T | None:
    """What counts on a day, of `changes` in the order in which they were made; None before the first."""
    found: T | None = None
    for one in in_force(changes):
        if one.first_day <= day:
            found = one.what
    return found


def first_of_next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1)


def day_of_change(rule: str, today: date) -> date:
    """From when on a change counts that no day was given for."""
    return first_of_next_month(today) if rule == NEXT_MONTH and today.day > 1 else today


# Two to begin with, as a hosted flat-rate proxy sells them: usage at list price within the fee, nothing billed beyond.
EXAMPLE_PLANS: Final = {
    "pro": Terms(fee_nanos=79 * NANOS_PER_USD, slots=5, included_nanos=60 * NANOS_PER_USD, overage=BLOCK),
    "team": Terms(fee_nanos=179 * NANOS_PER_USD, slots=10, included_nanos=140 * NANOS_PER_USD, overage=BLOCK),
}
