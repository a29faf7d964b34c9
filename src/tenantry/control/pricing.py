"""What models cost, for people: as a list, one by one with its days, and what a new price is made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any, Final

from tenantry.control.site import Site
from tenantry.control.views import View
from tenantry.domain.price_terms import (
    TOKEN_CLASSES,
    BadPriceTable,
    Terms,
    as_document,
    read_terms,
    relative_of,
    start_of,
    usd_per_million,
)
from tenantry.domain.prices import PriceTable
from tenantry.domain.printable import stamp
from tenantry.domain.values import value
from tenantry.ledger.usage import attempts_since, unpriced_models
from tenantry.storage.directory import DirectoryError, NotInDirectory
from tenantry.storage.prices import NO_RULE, SAME_FAMILY, list_price_changes, load_prices

# As every published row has it (reference 5.3); what is read from the cache varies, and 0.1 is the dearest.
_SHARES: Final = {"cache_write_5m": Fraction(5, 4), "cache_write_1h": Fraction(2), "cache_read": Fraction(1, 10)}
# Beyond this a typo, corrected in a second command, would leave prices that nobody has set.
_ROUNDING_SHARE_MAX: Final = Fraction(1, 100)


@value
class PriceView(View):
    """Dollars per million tokens, today. `origin`: ships, or set here."""

    model: str
    input: str
    cache_write_5m: str
    cache_write_1h: str
    cache_read: str
    output: str
    fast: str
    origin: str


@value
class WithoutPriceView(View):
    model: str
    attempts: int
    why: str


@value
class PriceListView(View):
    """`rule`: what a model without a price is taken at. `without_price`: models that were used."""

    version: str
    rule: str
    models: list[PriceView]
    without_price: list[WithoutPriceView]


@value
class ModelPricesView(View):
    """Every price of a model, each from a day until another; null: ever, or on and on."""

    model: str
    version: str
    periods: list[dict[str, Any]]


@value
class SetPriceView(View):
    """What a model costs from a day on. `is_new`: it cost something else before.

    `unpriced`: its attempts that were booked without a price; `booked`: those since the day, booked as prices were.
    """

    model: str
    version: str
    periods: list[dict[str, Any]]
    from_day: str
    terms: dict[str, Any]
    is_new: bool
    unpriced: int
    booked: int


@value
class PriceDifferenceView(View):
    """A price that a file has otherwise. `before` null: there is none."""

    model: str
    before: dict[str, Any] | None
    after: dict[str, Any]


@value
class PriceChangeView(View):
    """A price, or with `model` null the rule, that was set here."""

    version: str
    model: str | None
    from_day: str | None
    terms: dict[str, Any] | str
    source: str
    by: str
    at: str


def price_list(site: Site) -> PriceListView:
    table, now = price_table(site), datetime.now(UTC)
    set_here = {record.model for record in list_price_changes(site.engine)}
    models = [
        PriceView(model=model, **_shown(terms), origin="set here" if model in set_here else "ships")
        for model in table.models()
        if (terms := terms_at(table, model, now)) is not None
    ]
    return PriceListView(table.version, rule_of(table), models, _without_price(table, unpriced_models(site.engine)))


def rule_of(table: PriceTable) -> str:
    """What a model without a price is taken at: same-family or none."""
    return SAME_FAMILY if table.assumes_relatives else NO_RULE


def prices_of(site: Site, model: str) -> ModelPricesView:
    """Raises: NotInDirectory: it has none."""
    table = price_table(site)
    prices = table.of(model)
    if prices is None:
        raise NotInDirectory(f"{model} has no price. {why_unpriced(table, model)}")
    periods: list[dict[str, Any]] = []
    since: datetime | None = None
    for until, terms in prices.periods:
        first, last = (day.date().isoformat() if day is not None else None for day in (since, until))
        periods.append({"from": first, "until": last} | as_document(terms))
        since = until
    return ModelPricesView(model, table.version, periods)


def price_changes(site: Site, model: str | None = None) -> list[PriceChangeView]:
    """From old to new."""
    shipped = price_table(site).version.partition("+")[0]
    return [
        PriceChangeView(
            f"{shipped}+{record.change_id}",
            record.model or None,
            record.from_day or None,
            json.loads(record.terms) if record.model else record.terms,
            record.source,
            record.actor,
            stamp(record.created_at),
        )
        for record in list_price_changes(site.engine, model)
    ]


def price_table(site: Site) -> PriceTable:
    """Raises: DirectoryError."""
    try:
        return load_prices(site.engine)
    except BadPriceTable as error:
        raise DirectoryError(f"the prices in the database cannot be read: {error}") from None


def terms_at(table: PriceTable, model: str, at: datetime) -> Terms | None:
    prices = table.of(model)
    return prices.terms(at) if prices is not None else None


def rates_shown(terms: Terms) -> list[str]:
    """Dollars per million tokens, by class."""
    return [usd_per_million(rate) for rate in terms.rates]


def why_unpriced(table: PriceTable, model: str) -> str:
    """Why a model has no price, and what to do."""
    if table.assumes_relatives:
        relative = relative_of(model, table.models())
        if relative is not None:
            return f"It is taken at the price of {relative} for now (`prices rule`)."
    why = table.unpriced.get(model)
    told = f"{why[0].upper()}{why[1:]}. " if why else ""
    return f"{told}`tenantry prices set {model} --input USD --output USD` sets one."


def completed(
    model: str,
    given: Mapping[str, str | None],
    fast: str | None,
    before: Terms | None,
    named: Callable[[str], str] = str,
) -> Terms:
    """The price that is asked for: what is not said stays, or follows from the input's. `named`: of a member.

    Raises:
        BadPriceTable: something is missing, or cannot be.
    """
    document: dict[str, Any] = as_document(before) if before is not None else {}
    document |= {name: text for name, text in given.items() if text is not None}
    for name in ("input", "output"):
        if name not in document:
            raise BadPriceTable(f"{model} has no price yet: {named(name)} is needed")
    if given["input"] is not None:
        base = read_terms(model, dict.fromkeys(TOKEN_CLASSES, given["input"])).rates[0]
        for name, share in _shares(before).items():
            if given[name] is None:
                document[name] = usd_per_million(_rounded(named(name), base * share))
        if before is not None and before.long_prompt is not None:
            raise BadPriceTable(f"{model} has other prices for long prompts: set it with `prices import FILE`")
    if fast is not None:
        document.pop("fast_multiplier", None)
        if fast != "none":
            document["fast_multiplier"] = fast
    return read_terms(model, document)


def set_price(site: Site, model: str, day: date, terms: Terms, source: str) -> SetPriceView:
    """A model's price from a day on; nothing is done where it costs that already. Raises: DirectoryError."""
    before = terms_at(price_table(site), model, start_of(day))
    if before != terms:
        site.directory.set_price(model, day, terms, source, before)
    now = prices_of(site, model)
    unpriced = {one["model"]: one["attempts"] for one in unpriced_models(site.engine)}.get(model, 0)
    booked = attempts_since(site.engine, model, int(start_of(day).timestamp()) * 1_000_000)
    told = as_document(terms)
    return SetPriceView(model, now.version, now.periods, day.isoformat(), told, before != terms, unpriced, booked)


def price_differences(site: Site, wanted: Mapping[str, Terms], day: date) -> list[PriceDifferenceView]:
    """Which prices of a file are other ones than those that there are from a day on. Raises: DirectoryError."""
    table = price_table(site)
    return [
        PriceDifferenceView(model, as_document(before) if before is not None else None, as_document(terms))
        for model, terms in wanted.items()
        if (before := terms_at(table, model, start_of(day))) != terms
    ]


def set_prices(site: Site, wanted: Mapping[str, Terms], day: date, source: str) -> None:
    """All of a file that are other ones, or none. Raises: DirectoryError."""
    table = price_table(site)
    with site.directory.transaction() as directory:
        for model, terms in wanted.items():
            before = terms_at(table, model, start_of(day))
            if before != terms:
                directory.set_price(model, day, terms, source, before)


def read_price_file(document: Any) -> dict[str, Terms]:
    """The models of a price file in the form of the one that ships. Raises: BadPriceTable."""
    try:
        models: dict[str, Any] = document["models"]
        found = {model: read_terms(model, row) for model, row in models.items()}
    except BadPriceTable:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadPriceTable(
            f"this is not a price file: JSON with `models`, each with {', '.join(TOKEN_CLASSES)}"
        ) from None
    if not found:
        raise BadPriceTable("it has no prices")
    return found


def _shown(terms: Terms) -> dict[str, str]:
    fast = terms.fast_multiplier
    shown = dict(zip(TOKEN_CLASSES, rates_shown(terms), strict=True))
    return shown | {"fast": f"x{float(fast):g}" if fast is not None else ""}


def _without_price(table: PriceTable, used: list[dict[str, Any]]) -> list[WithoutPriceView]:
    counts: dict[str, int] = {one["model"]: one["attempts"] for one in used}
    names = [*counts, *(model for model in table.unpriced if model not in counts)]
    return [
        WithoutPriceView(model, counts.get(model, 0), why_unpriced(table, model))
        for model in names
        if table.of(model) is None
    ]


def _rounded(member: str, exact: Fraction) -> int:
    """Whole nano-dollars a token. What would be another price by rounding has to be said."""
    rate = round(exact)
    if abs(rate - exact) > exact * _ROUNDING_SHARE_MAX:
        raise BadPriceTable(f"{member} is needed: {float(exact):g} nano-dollars a token are no whole number")
    return rate


def _shares(before: Terms | None) -> dict[str, Fraction]:
    """What the other classes of input cost beside the input: as before, or as is usual."""
    if before is None or not before.rates[0]:
        return _SHARES
    of_class: dict[str, int] = dict(zip(TOKEN_CLASSES, before.rates, strict=True))
    return {name: Fraction(of_class[name], before.rates[0]) for name in _SHARES}
