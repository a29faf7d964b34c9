"""What each file of an invoice says, read by whoever gets it: from the bytes alone, with nothing of what made them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from babel.dates import format_date
from babel.numbers import get_decimal_symbol, get_group_symbol, get_minus_sign_symbol
from lxml import etree, html
from pypdf import PdfReader

_CII = {
    "rsm": "urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100",
    "ram": "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100",
    "udt": "urn:un:unece:uncefact:data:standard:UnqualifiedDataType:100",
}


@dataclass(frozen=True)
class Said:
    """Amounts are before taxes for lines and net; a percent for each tax. `due` is None on what is paid by nobody."""

    number: str
    is_credit: bool
    currency: str
    issued: date
    period: tuple[date, date]
    due: date | None
    lines: Sequence[tuple[str, Decimal]]
    net: Decimal
    taxes: Sequence[tuple[Decimal, Decimal]]
    total: Decimal


@dataclass(frozen=True)
class Page:
    """A page as text: lines are what, detail and amount; sums and facts a label and a value each."""

    head: Sequence[str]
    facts: Sequence[Sequence[str]]
    lines: Sequence[Sequence[str]]
    sums: Sequence[tuple[str, str]]
    tables: Sequence[Sequence[Sequence[str]]] = field(default_factory=tuple)


def from_json(file: bytes) -> Said:
    document = json.loads(file)
    digits, issued = document["digits"], date.fromisoformat(document["issued_on"])
    is_credit = document["kind"] != "invoice"

    def amount(minor: int) -> Decimal:
        return Decimal(minor).scaleb(-digits)

    return Said(
        document["number"],
        is_credit,
        document["currency"],
        issued,
        _period(*document["period"]),
        None if is_credit or document["total_minor"] <= 0 else issued + timedelta(document["due_days"]),
        [(line["text"], amount(line["amount_minor"])) for line in document["lines"]],
        amount(document["net_minor"]),
        [(Decimal(tax["percent"]), amount(tax["amount_minor"])) for tax in document["taxes"]],
        amount(document["total_minor"]),
    )


def from_csv(file: bytes) -> Said:
    rows = list(csv.DictReader(io.StringIO(file.decode())))
    (total,) = [row for row in rows if row["kind"] == "total"]
    taxes = [row for row in rows if row["kind"] == "tax"]
    lines = [row for row in rows if row["line"]]
    assert {one: row[one] for row in rows for one in ("number", "issued_on", "currency")}.items() <= total.items()
    assert [row["line"] for row in lines] == [str(at) for at, _ in enumerate(lines, 1)]
    return Said(
        total["number"],
        total["number"].startswith("CN-"),
        total["currency"],
        date.fromisoformat(total["issued_on"]),
        _period(total["first_day"], total["last_day"]),
        date.fromisoformat(total["due_on"]) if total["due_on"] else None,
        [(row["text"], Decimal(row["amount"])) for row in lines],
        sum((Decimal(row["amount"]) for row in lines), Decimal(0)),
        [(Decimal(row["text"].rpartition(" ")[2].rstrip("%")), Decimal(row["amount"])) for row in taxes],
        Decimal(total["amount"]),
    )


def from_cii(file: bytes) -> Said:
    root = etree.fromstring(file)

    def texts(path: str) -> list[str]:
        return [str(one) for one in root.xpath(f"{path}/text()", namespaces=_CII)]

    def days(name: str) -> list[date]:
        return [date.fromisoformat(one) for one in texts(f"//{name}//udt:DateTimeString")]

    is_credit = texts("//rsm:ExchangedDocument/ram:TypeCode") == ["381"]
    sign = -1 if is_credit else 1
    sums = "//ram:SpecifiedTradeSettlementHeaderMonetarySummation/ram:"

    def amounts(path: str) -> list[Decimal]:
        return [sign * Decimal(one) for one in texts(path)]

    line = "//ram:IncludedSupplyChainTradeLineItem//ram:"
    names, nets = texts(f"{line}SpecifiedTradeProduct/ram:Name"), amounts(f"{line}LineTotalAmount")
    tax = "//ram:ApplicableHeaderTradeSettlement/ram:ApplicableTradeTax/ram:"
    (net,), (total,) = amounts(f"{sums}TaxBasisTotalAmount"), amounts(f"{sums}GrandTotalAmount")
    percents = [Decimal(one) for one in texts(f"{tax}RateApplicablePercent")]
    assert amounts(f"{tax}BasisAmount") == amounts(f"{sums}LineTotalAmount") == [net]
    assert amounts(f"{sums}DuePayableAmount") == [total]
    assert amounts(f"{sums}TaxTotalAmount") == amounts(f"{tax}CalculatedAmount")
    (issued,), due = days("rsm:ExchangedDocument/ram:IssueDateTime"), days("ram:DueDateDateTime")
    (first,), (last,) = days("ram:BillingSpecifiedPeriod/ram:StartDateTime"), days("ram:EndDateTime")
    return Said(
        texts("//rsm:ExchangedDocument/ram:ID")[0],
        is_credit,
        texts("//ram:InvoiceCurrencyCode")[0],
        issued,
        (first, last),
        due[0] if due else None,
        list(zip(names, nets, strict=True)),
        net,
        list(zip(percents, amounts(f"{tax}CalculatedAmount"), strict=True)),
        total,
    )


def page_of(file: bytes) -> Page:
    root = html.document_fromstring(file.decode())

    def texts(path: str, within: Any = root) -> list[str]:
        return ["".join(one.itertext()) for one in within.xpath(path)]

    table, *appendix = root.xpath("//table")
    return Page(
        [*texts("//h1/span"), *texts("//address/strong")],
        [texts("./div", one) for one in root.xpath("//section[@class='facts']/div")],
        [
            [*texts("./td[1]/span", row), *texts("./td[1]/small", row), *texts("./td[2]", row)]
            for row in table.xpath("./tbody/tr")
        ],
        [(texts("./td[1]", row)[0], texts("./td[2]", row)[0]) for row in table.xpath("./tfoot/tr")],
        [[texts("./td", row) for row in one.xpath("./tbody/tr")] for one in appendix],
    )


def from_html(file: bytes, like: Said, locale: str) -> Said:
    """`like` says what words cannot be read back from: currency, and days as the locale writes them are looked for."""
    page = page_of(file)
    shown = {part for fact in page.facts for part in fact[1:]}
    assert format_date(like.issued, "long", locale=locale) in shown
    assert like.due is None or any(format_date(like.due, "long", locale=locale) in one for one in shown)
    assert any(f"{like.period[1].year}" in one and f"{like.period[1].day}" in one for one in shown)
    *taxes, (_, total) = page.sums
    return Said(
        page.head[0],
        like.is_credit,
        like.currency,
        like.issued,
        like.period,
        like.due,
        [(one[0], number_in(one[-1], locale)) for one in page.lines],
        number_in(taxes[0][1], locale) if taxes else number_in(total, locale),
        [(number_in(label, locale), number_in(value, locale)) for label, value in taxes[1:]],
        number_in(total, locale),
    )


def number_in(text: str, locale: str) -> Decimal:
    """The number in a text, as the locale writes it: sign, groups and decimals."""
    plain = re.sub(r"\s", "", text.replace(get_group_symbol(locale), ""))
    minus, point = get_minus_sign_symbol(locale), get_decimal_symbol(locale)
    (found,) = re.findall(rf"\d+(?:{re.escape(point)}\d+)?", plain)
    return Decimal(found.replace(point, ".")) * (-1 if minus in plain or "-" in plain else 1)


def dense(text: str) -> str:
    return re.sub(r"[\s\u200b]", "", text)


def pdf_text(file: bytes) -> str:
    return dense("".join(one.extract_text() for one in PdfReader(io.BytesIO(file)).pages))


def lacking_in_pdf(file: bytes, page: Page) -> list[str]:
    """What the page says and the PDF does not, in the same order: each row in one piece."""
    left, lacking = pdf_text(file), list[str]()
    rows = [page.head[:1], page.head[1:2], page.head[2:], *page.facts, *page.lines, *page.sums]
    for row in [*rows, *(row for table in page.tables for row in table)]:
        wanted = dense("".join(row))
        _, found, after = left.partition(wanted)
        if found:
            left = after
        else:
            lacking.append(wanted)
    return lacking


def _period(first: str, last: str) -> tuple[date, date]:
    return date.fromisoformat(first), date.fromisoformat(last)
