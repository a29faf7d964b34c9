"""What a line says, before it is in a language: the name of a sentence and its values. The sentences: words/*.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TypeAlias

from tenantry.billing.months import rounded


@dataclass(frozen=True, slots=True)
class Days:
    """From a day to another, both of them within."""

    first: date
    last: date


@dataclass(frozen=True, slots=True)
class Percent:
    """A number of percent, exact."""

    value: Decimal


@dataclass(frozen=True, slots=True)
class Phrase:
    """A sentence of the catalogue. Text among its values is written as it is, the rest as the locale writes it."""

    name: str
    values: Mapping[str, Value]


Value: TypeAlias = str | int | date | Days | Percent | Phrase


def phrase(name: str, /, **values: Value) -> Phrase:
    return Phrase(name, values)


def days_to(first: date, end: date) -> Days:
    """From `first` to before `end`."""
    return Days(first, end - timedelta(days=1))


def percent_of(share: Fraction) -> Percent:
    """A share of 1 as a percentage with one decimal place."""
    return Percent(Decimal(rounded(share * 1000)).scaleb(-1))
