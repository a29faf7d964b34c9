"""What is read on an invoice, word for word: made once when it is issued and kept with it, so that it never changes.

Templates print it and add nothing but the number. A new layout is a new template beside the old one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from tenantry.billing.phrases import Days
from tenantry.billing.wording import Wording, wording_of
from tenantry.domain.billing_details import ADDRESS_PARTS, NO_VAT
from tenantry.storage.directory.invoices import INVOICE, PARTIAL_CREDIT

LAYOUT = 1
_APPENDIX = ("by_model", "by_slot", "by_key", "by_week", "by_outcome")
# Why a correction was booked (ledger/adjustments.py), where it was no other price.
_WAS_UNPRICED = "was_unpriced"
# Countries whose addresses have the postcode after the town (UPU, S42).
_TOWN_FIRST = ("AU", "CA", "GB", "IE", "IN", "NZ", "SG", "US")


def paper_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """All that is printed of a document but its number and the logo: text in the order of reading."""
    wording = wording_of(document["locale"])
    is_invoice = document["kind"] == INVOICE
    return {
        "layout": LAYOUT,
        "language": wording.language,
        "title": wording.word("title.invoice" if is_invoice else "title.credit_note"),
        "notice": None if "issued_on" in document else wording.word("preview"),
        "subject": _subject(document, wording),
        "amount": _amount(document, wording),
        "facts": list(_facts(document, wording)),
        "from": _party(wording.word("from"), document["agency"], document["client"], wording),
        "to": _party(wording.word("to"), document["client"], document["agency"], wording),
        "head": [wording.word("what"), wording.word("amount")],
        "lines": _lines(document, wording),
        "sums": list(_sums(document, wording)),
        "notes": list(_notes(document, wording)),
        "payment": _payment(document, wording) if is_invoice else None,
        "appendix": _appendix(document, wording) if document["appendix"] else None,
        "page": wording.word("page", page="{page}", pages="{pages}"),
    }


def find_due(document: Mapping[str, Any]) -> date | None:
    """The day by which an issued invoice is paid, where there is something to pay."""
    issued = document.get("issued_on")
    if issued is None or document["kind"] != INVOICE or document["total_minor"] <= 0:
        return None
    return date.fromisoformat(issued) + timedelta(days=document["due_days"] or 0)


def _money(document: Mapping[str, Any], wording: Wording, minor: int) -> str:
    return wording.money(minor, document["currency"], document["digits"])


def _subject(document: Mapping[str, Any], wording: Wording) -> list[str]:
    """Of a credit note: what it takes back, and why."""
    if document["kind"] == INVOICE:
        return []
    name = "credits_part" if document["kind"] == PARTIAL_CREDIT else "credits_whole"
    return [wording.word(name, number=document["credits"]), wording.word("reason", reason=document["reason"])]


def _amount(document: Mapping[str, Any], wording: Wording) -> dict[str, Any]:
    """What one sees first."""
    total, due = document["total_minor"], find_due(document)
    if document["kind"] != INVOICE:
        return {"label": wording.word("credited"), "value": _money(document, wording, -total), "by": None}
    value = _money(document, wording, total)
    if due is None:
        return {"label": wording.word("total"), "value": value, "by": None}
    return {"label": wording.word("due"), "value": value, "by": wording.word("due_by", day=wording.day(due))}


def _facts(document: Mapping[str, Any], wording: Wording) -> Iterator[list[str]]:
    if "issued_on" in document:
        yield [wording.word("issued"), wording.day(date.fromisoformat(document["issued_on"]))]
    first, last = map(date.fromisoformat, document["period"])
    yield [wording.word("period"), wording.days(Days(first, last))]
    for name in ("purchase_order", "buyer_reference"):
        if document.get(name):
            yield [wording.word(name), document[name]]


def _party(label: str, side: Mapping[str, Any], other: Mapping[str, Any], wording: Wording) -> dict[str, Any]:
    tax_id = wording.word("tax_id", id=side["tax_id"]) if side["tax_id"] else ""
    reached = (side.get("contact"), side.get("phone"), side["email"])
    lines = [*address_lines(side), _country(side, other, wording), tax_id, *reached]
    return {"label": label, "name": side["name"] or "", "lines": [one for one in lines if one and one.strip()]}


def address_lines(side: Mapping[str, Any]) -> list[str]:
    """As it was written; said in parts, the town as the country writes it."""
    if not any(side.get(name) for name in ADDRESS_PARTS):
        written: str = side["address"] or ""
        return written.split("\n")
    town: list[str] = [side.get("postcode") or "", side.get("city") or ""]
    if side.get("country") in _TOWN_FIRST:
        town.reverse()
    street: str = side.get("street") or ""
    return [*street.split("\n"), " ".join(one for one in town if one)]


def _country(side: Mapping[str, Any], other: Mapping[str, Any], wording: Wording) -> str | None:
    """Where an address in parts is abroad for who reads it; one in lines has what was written."""
    is_abroad = any(side.get(name) for name in ADDRESS_PARTS) and side.get("country") != other.get("country")
    return wording.country(side["country"]) if is_abroad and side.get("country") else None


def _lines(document: Mapping[str, Any], wording: Wording) -> list[dict[str, str | None]]:
    found: list[dict[str, str | None]] = []
    for line in document["lines"]:
        detail = None
        if line["rows"]:
            usd = wording.exact_usd(line["list_nanos"])
            detail = wording.word("line_rows", rows=line["rows"], usd=usd)
        amount = _money(document, wording, line["amount_minor"])
        found.append({"text": line["text"], "detail": detail, "amount": amount})
    nothing = {"text": wording.word("nothing"), "detail": None, "amount": _money(document, wording, 0)}
    return found or [nothing]


def _sums(document: Mapping[str, Any], wording: Wording) -> Iterator[list[str]]:
    """Net and taxes where there are any; the last is the total."""
    if document["taxes"]:
        yield [wording.word("net"), _money(document, wording, document["net_minor"])]
    for tax in document["taxes"]:
        text = wording.word("tax", text=tax["text"], percent=wording.percent(Decimal(tax["percent"])))
        yield [text, _money(document, wording, tax["amount_minor"])]
    yield [wording.word("total"), _money(document, wording, document["total_minor"])]


def _notes(document: Mapping[str, Any], wording: Wording) -> Iterator[str]:
    if document.get("vat_category") in NO_VAT:
        yield wording.word(f"vat.{document['vat_category']}")
    if document["currency"] != "USD" and document["kind"] != PARTIAL_CREDIT:
        rate = wording.number(Decimal(document["rate"]))
        yield wording.word("rate", rate=rate, currency=document["currency"])


def _payment(document: Mapping[str, Any], wording: Wording) -> dict[str, Any] | None:
    agency = document["agency"]
    texts = [one for one in (agency["payment"], agency["note"]) if one]
    return {"label": wording.word("payment"), "texts": texts} if texts else None


def _appendix(document: Mapping[str, Any], wording: Wording) -> dict[str, Any]:
    appendix = document["appendix"]
    first = date.fromisoformat(document["period"][0])
    return {
        "title": wording.word("appendix"),
        "head": [wording.word(name) for name in ("rows", "tokens", "list_price")],
        "tables": [
            *(_table(name, appendix[name], wording) for name in _APPENDIX if appendix.get(name)),
            *_corrections(appendix, wording),
        ],
        "check": wording.word("check"),
        "how": [
            wording.word("check_rows", zone=document["time_zone"], month=first),
            *_corrected(appendix, wording, first),
            *_prices(appendix["price_versions"], wording),
            document["rounding"],
        ],
    }


def _table(name: str, rows: Sequence[Mapping[str, Any]], wording: Wording) -> dict[str, Any]:
    costs = wording.exact_column([row["list_nanos"] for row in rows])
    cells = [
        [_named(name, row, wording), wording.whole(row["rows"]), wording.whole(row["tokens"]), cost]
        for row, cost in zip(rows, costs, strict=True)
    ]
    return {"title": wording.word(name), "rows": cells}


def _corrections(appendix: Mapping[str, Any], wording: Wording) -> Iterator[dict[str, Any]]:
    """What was booked in this month for earlier ones, by month, model and reason."""
    groups: list[dict[str, Any]] = appendix["corrections"]["groups"] if "corrections" in appendix else []
    costs = wording.exact_column([one["list_nanos"] for one in groups])
    cells: list[list[str]] = []
    for one, cost in zip(groups, costs, strict=True):
        why = wording.word("was_unpriced" if one["why"] == _WAS_UNPRICED else "repriced")
        of = {"month": one["month"], "model": one["model"], "why": why, "version": one["price_version"]}
        cells.append([wording.word("correction_of", **of), wording.whole(one["rows"]), "", cost])
    if cells:
        yield {"title": wording.word("corrections"), "rows": cells}


def _corrected(appendix: Mapping[str, Any], wording: Wording, first: date) -> Iterator[str]:
    """Which attempts that is: the first of them where they are many."""
    found = appendix.get("corrections")
    if found is None:
        return
    names = [
        wording.word(
            "corrected_one",
            attempt=one["attempt"],
            day=wording.day(date.fromisoformat(one["ended_on"])),
            usd=wording.exact_usd(one["list_nanos"]),
        )
        for one in found["references"]
    ]
    more = [wording.word("more", count=found["not_named"])] if found["not_named"] else []
    yield wording.word("corrected", names=", ".join([*names, *more]), month=first)


def _named(table: str, row: Mapping[str, Any], wording: Wording) -> str:
    if table == "by_outcome":
        return wording.word(f"outcome.{row['name']}")
    if table == "by_slot" and not row["name"]:
        return wording.word("no_slot")
    return f"{row['label']} ({row['name']})" if row.get("label") else row["name"]


def _prices(versions: Sequence[Mapping[str, Any]], wording: Wording) -> Iterator[str]:
    if versions:
        none = wording.word("price_none")
        names = [wording.word("price_version", name=one["name"] or none, count=one["rows"]) for one in versions]
        yield wording.word("prices", names=", ".join(names))
