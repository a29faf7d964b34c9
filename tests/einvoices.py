"""E-invoices of every kind in a folder, for validators that are not Python: `python -m tests.einvoices FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from tenantry.billing.credits import Part, credit_note
from tenantry.billing.invoice import finished
from tenantry.billing.render import CII, FACTURX, XRECHNUNG, ending_of, render
from tenantry.domain.billing_details import NO_VAT, Details
from tests.unit.billing.papers import CLIENTS, ISSUED_ON, REACHED, credit_in, in_parts, invoice_in, row_of


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """In four languages and three currencies, with every category of VAT, with and without an account; credit notes."""
    for locale in CLIENTS:
        own = in_parts(locale)
        yield locale, invoice_in(locale, own, **REACHED)
        yield f"{locale}-part", credit_in(locale, Part(Decimal("12.50")), own, **REACHED)
        whole = credit_note(row_of(invoice_in(locale, own, **REACHED)), [], [], "CN-", 1, "all of it")
        yield f"{locale}-whole", {**finished(whole, ISSUED_ON).document, "number": "CN-2026-0002"}
    client = replace(in_parts("fr_FR"), tax_id="FR12345678901")
    for category in NO_VAT:
        yield f"vat-{category}", invoice_in("fr_FR", replace(client, vat_category=category), **REACHED)
    yield "yen", invoice_in("de_DE", Details(currency="JPY", rate="151.3").over(in_parts("de_DE")), **REACHED)
    yield "card", invoice_in("de_DE", in_parts("de_DE"), **{**REACHED, "payment": "by card,\nas agreed on"})
    yield "long", invoice_in("de_DE", replace(in_parts("de_DE"), name="Name " * 60, street="A\nB\nC\nD\nE"), **REACHED)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in documents():
        for form in (FACTURX, CII, XRECHNUNG):
            (folder / f"{name}.{ending_of(form)}").write_bytes(render(document, form))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
