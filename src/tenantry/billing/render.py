"""Invoices: one HTML page that needs nothing else, CSV, JSON. Numbers and dates are those of the client's locale."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import format_currency, format_decimal, get_currency_precision, list_currencies
from jinja2 import Environment, PackageLoader, StrictUndefined

from tenantry.billing.invoice import due_on
from tenantry.domain.billing_details import BadDetails
from tenantry.domain.money import format_usd
from tenantry.domain.spreadsheets import guarded

FORMATS = ("html", "csv", "json")
PREVIEW = "PREVIEW"
_COLUMNS = ("number", "line", "kind", "text", "rows", "tokens", "list_usd", "amount", "currency")
_environment = Environment(
    loader=PackageLoader("tenantry.billing"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def digits_of(currency: str) -> int:
    """Decimal places of a currency (CLDR): 2 for EUR, 0 for JPY."""
    return get_currency_precision(currency)


def require_known(currency: str, locale: str) -> None:
    """Raises: BadDetails: there is no such currency or locale."""
    if currency not in list_currencies():
        raise BadDetails(f"there is no currency {currency}")
    try:
        Locale.parse(locale)
    except (UnknownLocaleError, ValueError):
        raise BadDetails(f"there is no locale {locale}") from None


def render(document: Mapping[str, Any], form: str) -> str:
    """The document in one of `FORMATS`."""
    if form == "json":
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return _csv(document) if form == "csv" else _html(document)


def money(document: Mapping[str, Any], minor: int, locale: str | None = None) -> str:
    """An amount in the currency of the document, as its locale writes it."""
    amount = Decimal(minor).scaleb(-document["digits"])
    return format_currency(amount, document["currency"], locale=locale or document["locale"])


def _csv(document: Mapping[str, Any]) -> str:
    """A line a row, then taxes and the total; plain decimals, safe to open in a spreadsheet."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(_COLUMNS)
    number = document.get("number", PREVIEW)
    for at, line in enumerate(document["lines"], 1):
        listed = f"{Decimal(line['list_nanos']).scaleb(-9):f}"
        cells = (line["kind"], guarded(line["text"]), line["rows"], line["tokens"], listed)
        writer.writerow([number, at, *cells, _plain(document, line["amount_minor"]), document["currency"]])
    for tax in document["taxes"]:
        text = guarded(f"{tax['text']} {tax['percent']}%")
        writer.writerow(
            [number, "", "tax", text, "", "", "", _plain(document, tax["amount_minor"]), document["currency"]]
        )
    total = _plain(document, document["total_minor"])
    writer.writerow([number, "", "total", "", "", "", "", total, document["currency"]])
    return file.getvalue()


def _plain(document: Mapping[str, Any], minor: int) -> str:
    return f"{Decimal(minor).scaleb(-document['digits']):f}"


def _html(document: Mapping[str, Any]) -> str:
    locale = document["locale"]
    issued = date.fromisoformat(document["issued_on"]) if "issued_on" in document else None

    def day(value: date | str) -> str:
        found = date.fromisoformat(value) if isinstance(value, str) else value
        return format_date(found, "long", locale=locale)

    def in_currency(minor: int) -> str:
        return money(document, minor)

    def whole(count: int) -> str:
        return format_decimal(count, locale=locale)

    return _environment.get_template("invoice.html.j2").render(
        document=document,
        language=locale.partition("_")[0],
        number=document.get("number", PREVIEW),
        issued=day(issued) if issued else None,
        due=day(due_on(document, issued)) if issued else None,
        day=day,
        money=in_currency,
        whole=whole,
        usd=format_usd,
    )
