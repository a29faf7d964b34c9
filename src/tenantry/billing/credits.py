"""Credit notes: over the whole of an invoice, so that its month can be billed anew, or over a part, which is goodwill.

Goodwill is no usage: it has no ledger rows, and those of the invoice stay on it. So what an invoice covers is what the
ledger says, whatever was given back, and what is booked later is billed as if nothing had been.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from tenantry.billing.months import rounded
from tenantry.billing.wording import Wording, wording_of
from tenantry.domain.money import NANOS_PER_USD
from tenantry.storage.directory.invoices import CREDIT_NOTE, PARTIAL_CREDIT, Covered, Issued, NewInvoice

# Kinds of lines.
CREDIT, CREDITED = "credit", "credited"
# An amount as it is typed.
AMOUNT: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,4})?", re.ASCII)
# It stands on one line of the note.
REASON_CHARS_MAX: Final = 200
LINES_MAX: Final = 1000


class NotCredited(Exception):
    """It cannot be credited; the message says why."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is given back, before taxes: an amount of the invoice's currency, whole lines by their numbers from 1, or an
    amount of one line."""

    amount: Decimal | None = None
    lines: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of an invoice to be credited, in the smallest unit of its currency."""

    net_minor: int
    taxes_minor: Sequence[int]
    lines_minor: Sequence[int]


def left_of(issued: Issued, parts: Sequence[Issued]) -> Left:
    """Of an invoice after the credit notes over parts of it."""
    document = issued.document
    lines = [line["amount_minor"] for line in document["lines"]]
    taxes = [tax["amount_minor"] for tax in document["taxes"]]
    net = document["net_minor"]
    for part in (one.document for one in parts):
        net += part["net_minor"]
        taxes = [left + tax["amount_minor"] for left, tax in zip(taxes, part["taxes"], strict=True)]
        for line in part["lines"]:
            if line["credits_line"] is not None:
                lines[line["credits_line"] - 1] += line["amount_minor"]
    return Left(net, taxes, lines)


def credit_part(
    issued: Issued, parts: Sequence[Issued], part: Part, series: str, after: int, reason: str
) -> NewInvoice:
    """What gives a part back; the invoice stands. `parts` are the notes over parts that there are.

    Raises: NotCredited: there is no such line, or more than what is left.
    """
    document, left = issued.document, left_of(issued, parts)
    wording = wording_of(document["locale"])
    lines = _part_lines(document, left, part, wording)
    net = sum(line["amount_minor"] for line in lines)
    if -net > left.net_minor:
        raise _too_much(document, -net, left.net_minor, issued.number)
    taxes = [
        {**tax, "amount_minor": -_tax_back(-net, tax, left.net_minor, of)}
        for tax, of in zip(document["taxes"], left.taxes_minor, strict=True)
    ]
    document |= {"lines": lines, "taxes": taxes, "net_nanos": sum(line["nanos"] for line in lines), "net_minor": net}
    document |= {"total_minor": net + sum(tax["amount_minor"] for tax in taxes), "appendix": {}, "terms": []}
    return _note(PARTIAL_CREDIT, issued, document, [], series, after, reason)


def credit_note(
    issued: Issued, covered: Sequence[Covered], parts: Sequence[Issued], series: str, after: int, reason: str
) -> NewInvoice:
    """What takes a whole invoice back: its lines below zero, and what was given back of it before above."""
    document = issued.document
    wording = wording_of(document["locale"])
    lines = [{**line, "amount_minor": -line["amount_minor"], "nanos": -line["nanos"]} for line in document["lines"]]
    for one in parts:
        given = one.document
        text = wording.word("credited_already", number=one.number)
        lines.append(_line(CREDITED, text, -given["net_minor"], -given["net_nanos"]))
    left = left_of(issued, parts)
    taxes = [{**tax, "amount_minor": -of} for tax, of in zip(document["taxes"], left.taxes_minor, strict=True)]
    document |= {"lines": lines, "taxes": taxes, "net_nanos": sum(line["nanos"] for line in lines)}
    document |= {"net_minor": -left.net_minor, "total_minor": -left.net_minor - sum(left.taxes_minor)}
    return _note(CREDIT_NOTE, issued, document, [one.given_back for one in covered], series, after, reason)


def _note(
    kind: str,
    issued: Issued,
    document: Mapping[str, Any],
    covered: Sequence[Covered],
    series: str,
    after: int,
    reason: str,
) -> NewInvoice:
    kept = {name: value for name, value in document.items() if name not in ("number", "issued_on", "paper")}
    kept |= {"kind": kind, "credits": issued.number, "credits_issued_on": document["issued_on"], "reason": reason}
    who = (issued.tenant_id, issued.slug, issued.month, issued.currency)
    return NewInvoice(kind, series, *who, kept["total_minor"], kept, covered, after, issued.number)


def _part_lines(document: Mapping[str, Any], left: Left, part: Part, wording: Wording) -> list[dict[str, Any]]:
    amount = _minor(document, part.amount) if part.amount is not None else None
    if not part.lines:
        if amount is None:
            raise NotCredited("a part is an amount, lines, or an amount of one line")
        return [_credit(document, wording.word("credit"), amount, None)]
    if amount is not None and len(part.lines) != 1:
        raise NotCredited("an amount is of one line, or of the whole invoice")
    return [_line_back(document, left, number, amount, wording) for number in dict.fromkeys(part.lines)]


def _line_back(
    document: Mapping[str, Any], left: Left, number: int, amount: int | None, wording: Wording
) -> dict[str, Any]:
    count = len(left.lines_minor)
    if not 1 <= number <= count:
        raise NotCredited(f"there is no line {number}: the invoice has {count}")
    of = left.lines_minor[number - 1]
    if of <= 0:
        raise NotCredited(f"nothing is left of line {number}")
    if amount is not None and amount > of:
        raise _too_much(document, amount, of, f"line {number}")
    text = wording.word("credit_line", line=document["lines"][number - 1]["text"])
    return _credit(document, text, of if amount is None else amount, number)


def _credit(document: Mapping[str, Any], text: str, minor: int, number: int | None) -> dict[str, Any]:
    """In dollars it is what the amount is at the invoice's rate."""
    dollars = Fraction(minor, 10 ** document["digits"]) / Fraction(document["rate"] or "1")
    return {**_line(CREDIT, text, -minor, -rounded(dollars * NANOS_PER_USD)), "credits_line": number}


def _line(kind: str, text: str, minor: int, nanos: int) -> dict[str, Any]:
    return {"kind": kind, "text": text, "amount_minor": minor, "nanos": nanos, "rows": 0, "list_nanos": 0, "tokens": 0}


def _minor(document: Mapping[str, Any], amount: Decimal) -> int:
    minor = amount.scaleb(document["digits"])
    if minor <= 0 or minor != minor.to_integral_value():
        places = f"{document['digits']} decimal places at most"
        raise NotCredited(f"an amount of {document['currency']} is above zero and has {places}, not {amount}")
    return int(minor)


def _tax_back(net: int, tax: Mapping[str, Any], left_net: int, left_tax: int) -> int:
    """The tax of what is given back: with the rest of the net comes the rest of the tax, so that nothing remains."""
    return left_tax if net == left_net else min(left_tax, rounded(net * Fraction(tax["percent"]) / 100))


def _too_much(document: Mapping[str, Any], wanted: int, left: int, of: str) -> NotCredited:
    return NotCredited(f"{_told(document, wanted)} is more than what is left of {of}: {_told(document, left)}")


def _told(document: Mapping[str, Any], minor: int) -> str:
    return f"{Decimal(minor).scaleb(-document['digits']):f} {document['currency']}"
