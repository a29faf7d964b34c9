"""Invoices as files: one HTML page that needs nothing else, CSV, JSON; PDF and e-invoices with an extra."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import io
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from babel import Locale, UnknownLocaleError
from babel.numbers import get_currency_precision, list_currencies
from jinja2 import Environment, PackageLoader, StrictUndefined

from tenantry.billing.paper import find_due, paper_of
from tenantry.billing.refusals import NotDrawn, NotStructured
from tenantry.billing.wording import wording_of
from tenantry.domain.billing_details import BadDetails
from tenantry.domain.spreadsheets import guarded

HTML, CSV, JSON, PDF, FACTURX, CII, XRECHNUNG = "html", "csv", "json", "pdf", "facturx", "cii", "xrechnung"
FORMATS = (HTML, CSV, JSON, PDF, FACTURX, CII, XRECHNUNG)
# The structured invoice of EN 16931: within a PDF, by itself, and as Germany has it.
E_INVOICES = (FACTURX, CII, XRECHNUNG)
# Not for a terminal.
BINARY = (PDF, FACTURX)
_EXTRAS = {PDF: ("pdf",), FACTURX: ("pdf", "einvoice"), CII: ("einvoice",), XRECHNUNG: ("einvoice",)}
# Of a folder that has all, each file has a name of its own.
_ENDINGS = {FACTURX: "facturx.pdf", CII: "xml", XRECHNUNG: "xrechnung.xml"}
MEDIA_TYPES = {
    HTML: "text/html; charset=utf-8",
    CSV: "text/csv; charset=utf-8",
    JSON: "application/json",
    PDF: "application/pdf",
    FACTURX: "application/pdf",
    CII: "application/xml",
    XRECHNUNG: "application/xml",
}
PREVIEW = "PREVIEW"
# The same on each row.
_DAYS = ("issued_on", "first_day", "last_day", "due_on")
_COLUMNS = ("number", "line", "kind", "text", "rows", "tokens", "list_usd", "amount", "currency", *_DAYS)
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


def require_known(currency: str, locale: str) -> str:
    """The locale as CLDR writes it: de_DE for de-de. Raises: BadDetails: there is no such currency or locale."""
    if currency not in list_currencies():
        raise BadDetails(f"there is no currency {currency}")
    try:
        return str(Locale.parse(locale.replace("-", "_")))
    except (UnknownLocaleError, ValueError):
        raise BadDetails(f"there is no locale {locale}") from None


class NotRendered(Exception):
    """The file cannot be made; the message says why."""


def ending_of(form: str) -> str:
    """Of a file's name."""
    return _ENDINGS.get(form, form)


def find_form(path: Path) -> str | None:
    """What the ending of a file's name says: of `a.facturx.pdf` the longer one."""
    found = [form for form in FORMATS if path.name.lower().endswith(f".{ending_of(form)}")]
    return max(found, key=lambda form: len(ending_of(form)), default=None)


def require_extra(form: str) -> None:
    """Raises: NotRendered: what makes this format is not installed; the message says how to get it."""
    lacking = [name for name in _EXTRAS.get(form, ()) if not _is_there(name)]
    if lacking:
        raise NotRendered(f"{form} needs more: pip install 'tenantry[{','.join(lacking)}]', or take html, csv or json")


def _is_there(extra: str) -> bool:
    names = {"pdf": ("typst",), "einvoice": ("drafthorse", "pypdf")}
    return all(importlib.util.find_spec(name) is not None for name in names[extra])


def render(document: Mapping[str, Any], form: str) -> bytes:
    """The document in one of `FORMATS`.

    Raises: NotRendered: an extra is lacking, a PDF cannot be drawn, or an e-invoice lacks what the standard asks for.
    """
    require_extra(form)
    if form == JSON:
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    if form in (HTML, CSV):
        return (_csv(document) if form == CSV else _html(document)).encode()
    try:
        return _with_extra(document, form)
    except (NotDrawn, NotStructured) as error:
        raise NotRendered(str(error)) from None


def _with_extra(document: Mapping[str, Any], form: str) -> bytes:
    """What does it is loaded only here: an extra may be missing."""
    if form == PDF:
        return _module("pdf").draw(document, paper_on(document))
    structured: bytes = _module("einvoice").structured(document, form == XRECHNUNG)
    if form != FACTURX:
        return structured
    return _module("facturx").declared(_module("pdf").draw(document, paper_on(document), structured))


def _module(name: str) -> Any:
    return importlib.import_module(f"tenantry.billing.{name}")


def money(document: Mapping[str, Any], minor: int, locale: str | None = None) -> str:
    """An amount in the currency of the document, as its locale writes it."""
    return wording_of(locale or document["locale"]).money(minor, document["currency"], document["digits"])


def _csv(document: Mapping[str, Any]) -> str:
    """A line a row, then taxes and the total; plain decimals, safe to open in a spreadsheet."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(_COLUMNS)
    number, currency, due = document.get("number", PREVIEW), document["currency"], find_due(document)
    same = (currency, document.get("issued_on", ""), *document["period"], due.isoformat() if due is not None else "")
    for at, line in enumerate(document["lines"], 1):
        listed = f"{Decimal(line['list_nanos']).scaleb(-9):f}"
        cells = (line["kind"], guarded(line["text"]), line["rows"], line["tokens"], listed)
        writer.writerow([number, at, *cells, _plain(document, line["amount_minor"]), *same])
    for tax in document["taxes"]:
        text = guarded(f"{tax['text']} {tax['percent']}%")
        writer.writerow([number, "", "tax", text, "", "", "", _plain(document, tax["amount_minor"]), *same])
    writer.writerow([number, "", "total", "", "", "", "", _plain(document, document["total_minor"]), *same])
    return file.getvalue()


def _plain(document: Mapping[str, Any], minor: int) -> str:
    return f"{Decimal(minor).scaleb(-document['digits']):f}"


def _html(document: Mapping[str, Any]) -> str:
    paper = paper_on(document)
    return _environment.get_template(f"invoice-{paper['layout']}.html.j2").render(
        paper=paper, number=document.get("number", ""), logo=document["agency"]["logo"]
    )


def paper_on(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """As it was issued; a preview as it would be."""
    return document.get("paper") or paper_of(document)
