"""The prices of models over time: what ships with a version, what an operator has set since, what a rule assumes.

Prices are decimal dollars per million tokens in documents and whole nano-dollars per token here: one dollar per million
is exactly 1,000 nano-dollars a token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any, Final

TOKEN_CLASSES: Final = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
# The dearest list price there has been is 75 dollars (reference 5.3); more than this is a slip of the hand.
USD_PER_MILLION_MAX: Final = 10_000
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@\-]{0,127}")
_FAMILY: Final = re.compile(r"claude-([a-z]+)-(\d+(?:-\d{1,2})?|preview)(?:-\d{8})?")
_NUMBER: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?", re.ASCII)

# Nano-dollars per token for each class of `TOKEN_CLASSES`.
Rates = tuple[int, int, int, int, int]


class BadPriceTable(Exception):
    """The prices cannot be used; the message names the row and what is wrong with it."""


@dataclass(slots=True)
class Terms:
    """What a model costs for a time. `long_prompt`: above so many tokens all of a request has other rates.

    `fast_multiplier` is that of fast mode, offered before `fast_until`; None: not offered.
    """

    rates: Rates
    long_prompt: tuple[int, Rates] | None
    fast_multiplier: Fraction | None
    fast_until: datetime | None
    us_inference: bool

    def rates_for(self, prompt_tokens: int) -> Rates:
        if self.long_prompt is not None and prompt_tokens > self.long_prompt[0]:
            return self.long_prompt[1]
        return self.rates

    def offers_fast(self, at: datetime) -> bool:
        return self.fast_multiplier is not None and (self.fast_until is None or at < self.fast_until)


@dataclass(slots=True)
class ModelPrices:
    """One model's prices. `periods` are (valid before, terms), earliest first; the last has no end."""

    periods: list[tuple[datetime | None, Terms]]

    def terms(self, at: datetime) -> Terms:
        for until, terms in self.periods:
            if until is None or at < until:
                return terms
        raise AssertionError("the last period has no end")

    @property
    def latest(self) -> Terms:
        return self.periods[-1][1]

    def changed_from(self, since: datetime, terms: Terms) -> ModelPrices:
        """These prices until `since`, and `terms` from then on."""
        kept: list[tuple[datetime | None, Terms]] = []
        for until, before in self.periods:
            if until is not None and until <= since:
                kept.append((until, before))
            else:
                kept.append((since, before))
                break
        return ModelPrices([*kept, (None, terms)])


@dataclass(frozen=True, slots=True)
class PriceChange:
    """An operator's price for a model from a day on, 0:00 UTC. `terms` is a document, as in the file that ships."""

    model: str
    from_day: date
    terms: Mapping[str, Any]


def changed(shipped: Mapping[str, ModelPrices], changes: Iterable[PriceChange]) -> dict[str, ModelPrices]:
    """The prices after these changes, of which a later one for the same day counts.

    A model that had no price has its first one from the beginning: what it was used for before is owed too.

    Raises:
        BadPriceTable: a change cannot be read.
    """
    of_model: dict[str, dict[date, PriceChange]] = {}
    for change in changes:
        of_model.setdefault(change.model, {})[change.from_day] = change
    found = dict(shipped)
    for model, by_day in of_model.items():
        prices = found.get(model)
        for day in sorted(by_day):
            terms = read_terms(model, by_day[day].terms)
            prices = prices.changed_from(start_of(day), terms) if prices is not None else ModelPrices([(None, terms)])
        if prices is not None:
            found[model] = prices
    return found


def start_of(day: date) -> datetime:
    """From when on a price of that day counts: 0:00 UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def relative_of(model: str, known: Iterable[str]) -> str | None:
    """The newest known model of the same family, whose prices a new one is assumed to have; None: there is none."""
    family = _FAMILY.fullmatch(model)
    if family is None:
        return None
    found: list[tuple[list[int], str]] = []
    for other in known:
        match = _FAMILY.fullmatch(other)
        if match is not None and match[1] == family[1] and match[2] != "preview":
            found.append(([int(part) for part in match[2].split("-")], other))
    return max(found)[1] if found else None


def read_model(model: str, row: Mapping[str, Any]) -> ModelPrices:
    """One model's row of a price file. Raises: BadPriceTable."""
    current = read_terms(model, row)
    periods: list[tuple[datetime | None, Terms]] = []
    for period in sorted(row.get("history", []), key=lambda one: one["until"]):
        merged = {name: period.get(name, row[name]) for name in TOKEN_CLASSES}
        periods.append((_day(model, period["until"]), replace(current, rates=_rates(model, merged))))
    return ModelPrices([*periods, (None, current)])


def read_terms(model: str, row: Mapping[str, Any]) -> Terms:
    """Prices as a document: the five classes, and what there is of `tiers`, `fast_multiplier`, `us_inference`.

    Raises:
        BadPriceTable: the model's name or a price is not one, or something is missing.
    """
    if _MODEL.fullmatch(model) is None:
        raise BadPriceTable(f"{model[:80]!r} is not the id of a model")
    try:
        tiers: Sequence[Mapping[str, Any]] = row.get("tiers", [])
        if len(tiers) > 1:
            raise BadPriceTable(f"{model}: at most one long-prompt tier is understood")
        multiplier = row.get("fast_multiplier")
        return Terms(
            rates=_rates(model, row),
            long_prompt=(int(tiers[0]["prompt_tokens_above"]), _rates(model, tiers[0])) if tiers else None,
            fast_multiplier=_decimal(model, "fast_multiplier", multiplier) if multiplier is not None else None,
            fast_until=_day(model, row["fast_until"]) if "fast_until" in row else None,
            us_inference=bool(row.get("us_inference", True)),
        )
    except KeyError as missing:
        raise BadPriceTable(f"{model}: {missing.args[0]} is missing") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise BadPriceTable(f"{model}: {error}") from None


def as_document(terms: Terms) -> dict[str, Any]:
    """What `read_terms` reads."""
    document: dict[str, Any] = dict(zip(TOKEN_CLASSES, map(usd_per_million, terms.rates), strict=True))
    if terms.long_prompt is not None:
        above, rates = terms.long_prompt
        tier = dict(zip(TOKEN_CLASSES, map(usd_per_million, rates), strict=True))
        document["tiers"] = [{"prompt_tokens_above": above} | tier]
    if terms.fast_multiplier is not None:
        document["fast_multiplier"] = _as_decimal(terms.fast_multiplier)
    if terms.fast_until is not None:
        document["fast_until"] = terms.fast_until.date().isoformat()
    if not terms.us_inference:
        document["us_inference"] = False
    return document


def usd_per_million(nanos: int) -> str:
    """`2500` -> `2.5`."""
    return _as_decimal(Fraction(nanos, 1000))


def _as_decimal(number: Fraction) -> str:
    text = f"{number.numerator / number.denominator:.9f}".rstrip("0").rstrip(".")
    return text or "0"


def _rates(model: str, row: Mapping[str, Any]) -> Rates:
    values = [_decimal(model, name, row[name]) * 1000 for name in TOKEN_CLASSES]
    if any(one.denominator != 1 for one in values):
        raise BadPriceTable(f"{model}: a price is finer than a nano-dollar a token, which is 0.001 dollars a million")
    first, second, third, fourth, fifth = (int(one) for one in values)
    return first, second, third, fourth, fifth


def _decimal(model: str, name: str, given: object) -> Fraction:
    if not isinstance(given, str) or _NUMBER.fullmatch(given) is None:
        raise BadPriceTable(
            f"{model}: {name} must be a decimal number of dollars such as 2.50, not {str(given)[:40]!r}"
        )
    number = Fraction(given)
    if number > USD_PER_MILLION_MAX:
        raise BadPriceTable(f"{model}: {name} is above {USD_PER_MILLION_MAX:,} dollars per million tokens")
    return number


def _day(model: str, text: object) -> datetime:
    try:
        return start_of(date.fromisoformat(str(text)))
    except ValueError:
        raise BadPriceTable(f"{model}: {str(text)[:40]!r} is not a date such as 2026-11-30") from None
