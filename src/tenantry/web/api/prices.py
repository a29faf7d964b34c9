"""What models cost."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from tenantry.control.pricing import (
    ModelPricesView,
    PriceChangeView,
    PriceDifferenceView,
    PriceListView,
    SetPriceView,
    completed,
    price_changes,
    price_differences,
    price_list,
    price_table,
    prices_of,
    read_price_file,
    rule_of,
    set_price,
    set_prices,
    terms_at,
)
from tenantry.control.views import View
from tenantry.domain.price_terms import TOKEN_CLASSES, start_of
from tenantry.domain.roles import Permission
from tenantry.domain.values import value
from tenantry.web.answers import Refused
from tenantry.web.api.changes import Day, Name
from tenantry.web.api.operations import Call, Struct, operation
from tenantry.web.api.paging import Page, Paged, page_of


@operation("GET", "/prices", Permission.PLANS_READ)
def list_prices(call: Call) -> PriceListView:
    """List what each model costs today, and the models without a price that were used."""
    return price_list(call.site)


@operation("GET", "/prices/{model:path}", Permission.PLANS_READ)
def show_price(call: Call, model: str) -> ModelPricesView:
    """Show every price of a model, with the days for which it counts."""
    return prices_of(call.site, model)


Rate = Annotated[str, Meta(min_length=1, max_length=30, description="Dollars per million tokens, such as 2.50.")]


class PriceBody(Struct):
    """What is not said stays, or follows from the input's. `fast`: the factor of fast mode; none: not offered."""

    input: Rate | None = None
    output: Rate | None = None
    cache_write_5m: Rate | None = None
    cache_write_1h: Rate | None = None
    cache_read: Rate | None = None
    fast: Annotated[str, Meta(max_length=20)] | None = None
    from_day: Day | None = None
    source: Annotated[str, Meta(max_length=200)] = ""


@operation("PATCH", "/prices/{model:path}", Permission.PRICES_CHANGE, represents=show_price, is_atomic=False)
def change_price(call: Call, model: str, body: PriceBody) -> SetPriceView:
    """Set a model's price from a day on (0:00 UTC), today where none is said. What was booked stays as it is."""
    given = {name: getattr(body, name) for name in TOKEN_CLASSES}
    if body.fast is None and not any(given.values()):
        raise Refused(422, "say what to set, such as input and output")
    day = _day(body.from_day)
    before = terms_at(price_table(call.site), model, start_of(day))
    return set_price(call.site, model, day, completed(model, given, body.fast, before), body.source)


class PriceFile(Struct):
    """A price file in the form of the one that ships: all of it is set, or nothing.

    `preview`: say what would change, and change nothing. `source`: where the prices are from, for the record.
    """

    models: Annotated[dict[str, dict[str, Any]], Meta(min_length=1, max_length=1000)]
    from_day: Day | None = None
    source: Annotated[str, Meta(max_length=200)] = "import"
    preview: bool = False


@value
class ImportedView(View):
    """`version`: of the prices as they are now."""

    version: str
    changed: list[str]
    changes: list[PriceDifferenceView]


@operation("POST", "/prices", Permission.PRICES_CHANGE, is_atomic=False)
def import_prices(call: Call, body: PriceFile) -> ImportedView:
    """Set every price of a file that is another one now."""
    day, wanted = _day(body.from_day), read_price_file({"models": body.models})
    changes = price_differences(call.site, wanted, day)
    if changes and not body.preview:
        set_prices(call.site, wanted, day, body.source)
    return ImportedView(price_table(call.site).version, [one.model for one in changes], changes)


class ChangesQuery(Paged):
    model: Name | None = None


@operation("GET", "/price-changes", Permission.PLANS_READ)
def list_price_changes(call: Call, query: ChangesQuery) -> Page[PriceChangeView]:
    """List what was set here, by whom and when, from old to new."""
    found = price_changes(call.site, query.model)
    return page_of(call, query, found, lambda one: int(one.version.partition("+")[2]))


class RuleBody(Struct):
    rule: Literal["same-family", "none"]


@operation("PUT", "/price-rule", Permission.PRICES_CHANGE, is_atomic=False)
def set_price_rule(call: Call, body: RuleBody) -> PriceListView:
    """Take models without a price at that of the newest of their family, told as provisional; or do not."""
    before = rule_of(price_table(call.site))
    if body.rule != before:
        call.site.directory.set_price_rule(body.rule, before)
    return price_list(call.site)


def _day(text: str | None) -> date:
    return read_day(text) or datetime.now(UTC).date()


def read_day(text: str | None) -> date | None:
    """Raises Refused: 422."""
    try:
        return date.fromisoformat(text) if text is not None else None
    except ValueError:
        raise Refused(422, f"{text!r} is not a day, such as 2026-12-01") from None


OPERATIONS: Final = (list_prices, import_prices, show_price, change_price, list_price_changes, set_price_rule)
