"""Every language says everything, with the same values; a locale without one has its own numbers."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from importlib import resources
from string import Formatter

import pytest

from tenantry.billing.phrases import Days, Percent, phrase
from tenantry.billing.usage import ADJUSTED
from tenantry.billing.wording import languages, wording_of
from tenantry.domain.attempts import Outcome


def catalogue(language: str) -> dict[str, str]:
    return json.loads(resources.files("tenantry.billing").joinpath("words", f"{language}.json").read_text("utf-8"))


def values_of(text: str) -> set[str | None]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", [one for one in languages() if one != "en"])
def test_a_language_has_every_sentence_with_the_values_of_the_english_one(language: str) -> None:
    english, own = catalogue("en"), catalogue(language)
    assert list(own) == list(english)
    assert {name: values_of(text) for name, text in own.items()} == {
        name: values_of(text) for name, text in english.items()
    }
    assert not [name for name, text in own.items() if not text.strip()]


def test_every_way_an_attempt_can_end_has_a_word() -> None:
    said = {name.removeprefix("outcome.") for name in catalogue("en") if name.startswith("outcome.")}
    assert said == {*(one.value for one in Outcome), ADJUSTED}


def test_there_are_four_languages() -> None:
    assert languages() == ("de", "en", "es", "fr")


@pytest.mark.parametrize(
    ("locale", "said"),
    [
        ("en_US", "Plan studio, Nov 1 – 30, 2026"),
        ("en_GB", "Plan studio, 1 – 30 Nov 2026"),
        ("de_AT", "Tarif studio, 1.–30. Nov. 2026"),
        ("fr_CA", "Forfait studio, 1–30 nov. 2026"),
        ("es_MX", "Plan studio, 1–30 de nov de 2026"),
        ("ja_JP", "Plan studio, 2026年11月1日～30日"),
    ],
)
def test_sentences_are_those_of_the_language_and_days_those_of_the_locale(locale: str, said: str) -> None:
    days = Days(date(2026, 11, 1), date(2026, 11, 30))
    found = wording_of(locale).say(phrase("fee", plan="studio", days=days))
    assert found.replace("\N{THIN SPACE}", " ") == said


def test_a_name_in_a_sentence_is_no_sentence_of_its_own() -> None:
    line = phrase("usage", model="{0.__class__} {model} %s")
    assert wording_of("en_US").say(phrase("estimated", line=line)).endswith("Usage of {0.__class__} {model} %s")


def test_amounts_below_each_other_have_as_many_decimal_places() -> None:
    found = wording_of("de_DE").exact_column([2_000_000, 1_234_500_000_000])
    assert [one.replace("\N{NO-BREAK SPACE}", " ") for one in found] == ["0,002 $", "1.234,500 $"]
    assert wording_of("en_US").exact_usd(1) == "$0.000000001"
    assert wording_of("en_US").say(phrase("discount", percent=Percent(Decimal("12.50")))) == "Discount of 12.5%"
