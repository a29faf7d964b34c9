"""Sentences in the client's language, and numbers and days as its locale writes them.

A language has a catalogue in `words/`; a locale without one has English sentences with its own numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from typing import cast

from babel import Locale
from babel.dates import format_date, format_interval, format_skeleton
from babel.numbers import format_currency, format_decimal, format_percent

from tenantry.billing.phrases import Days, Percent, Phrase, Value, phrase

# Decimal places of a dollar: of what is paid, and of what the ledger counts.
CENT_DIGITS, NANO_DIGITS = 2, 9
# The language that has every sentence first.
FALLBACK = "en"


@dataclass(frozen=True, slots=True)
class Wording:
    """How one locale says it."""

    locale: str
    language: str

    def say(self, one: Phrase) -> str:
        values = {name: self._write(value) for name, value in one.values.items()}
        return _catalogue(self.language)[one.name].format(**values)

    def word(self, name: str, /, **values: Value) -> str:
        return self.say(phrase(name, **values))

    def _write(self, value: Value) -> str:
        match value:
            case Phrase():
                return self.say(value)
            case Percent():
                return self.percent(value.value)
            case Days():
                return self.days(value)
            case date():
                return format_skeleton("yMMMM", value, locale=self.locale)
            case int():
                return self.whole(value)
            case str():
                return value

    def day(self, value: date) -> str:
        return format_date(value, "long", locale=self.locale)

    def days(self, value: Days) -> str:
        return format_interval(value.first, value.last, "yMMMd", locale=self.locale)

    def country(self, code: str) -> str:
        """The name of a country by its ISO 3166 code; a code that CLDR does not know is itself."""
        names = cast("Mapping[str, str]", Locale.parse(self.locale).territories)
        return names.get(code, code)

    def whole(self, count: int) -> str:
        return format_decimal(count, locale=self.locale)

    def number(self, value: Decimal) -> str:
        return format_decimal(value, locale=self.locale, decimal_quantization=False)

    def percent(self, value: Decimal) -> str:
        return format_percent(value.scaleb(-2), locale=self.locale, decimal_quantization=False)

    def money(self, minor: int, currency: str, digits: int) -> str:
        """An amount in the smallest unit of a currency that has `digits` decimal places."""
        return format_currency(Decimal(minor).scaleb(-digits), currency, locale=self.locale)

    def exact_usd(self, nanos: int) -> str:
        """To the billionth of a dollar, without zeros beyond the cents."""
        return self.exact_column([nanos])[0]

    def exact_column(self, amounts: Sequence[int]) -> list[str]:
        """Amounts in nano-dollars below each other, all with as many decimal places as one of them needs."""
        places = max((_places(nanos) for nanos in amounts), default=CENT_DIGITS)
        pattern = Locale.parse(self.locale).currency_formats["standard"].pattern.replace(".00", f".{'0' * places}")
        return [
            format_currency(Decimal(nanos).scaleb(-NANO_DIGITS), "USD", pattern, self.locale, currency_digits=False)
            for nanos in amounts
        ]


def _places(nanos: int) -> int:
    return max(CENT_DIGITS, NANO_DIGITS - (len(str(nanos)) - len(str(nanos).rstrip("0"))) if nanos else 0)


def wording_of(locale: str) -> Wording:
    language = Locale.parse(locale).language
    return Wording(locale, language if language in languages() else FALLBACK)


@lru_cache(maxsize=1)
def languages() -> tuple[str, ...]:
    """That have a catalogue."""
    found = resources.files("tenantry.billing").joinpath("words").iterdir()
    return tuple(sorted(one.name.removesuffix(".json") for one in found if one.name.endswith(".json")))


@lru_cache(maxsize=8)
def _catalogue(language: str) -> dict[str, str]:
    return json.loads(resources.files("tenantry.billing").joinpath("words", f"{language}.json").read_text("utf-8"))
