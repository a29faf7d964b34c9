"""E-invoices keep every rule of EN 16931, for whatever is billed; and a fault in one is told by its rule."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings

from tenantry.billing.credits import Part, credit_note, credit_part
from tenantry.billing.invoice import finished
from tenantry.billing.render import render
from tenantry.domain.billing_details import Details
from tests.unit.billing.papers import CLIENTS, ISSUED_ON, credit_in, invoice_in, row_of
from tests.unit.billing.rules import broken
from tests.unit.billing.test_papers import documents


@pytest.mark.parametrize("locale", CLIENTS)
def test_invoices_and_credit_notes_keep_the_rules(locale: str) -> None:
    for document in (invoice_in(locale), credit_in(locale, Part(Decimal("12.50")))):
        assert broken(render(document, "cii")) == []


@pytest.mark.parametrize("category", ["AE", "G", "E", "Z"])
def test_so_do_those_without_vat(category: str) -> None:
    own = Details(vat_category=category, tax_id="FR 12 345678901").over(CLIENTS["fr_FR"])
    assert broken(render(invoice_in("fr_FR", own), "cii")) == []


@pytest.mark.parametrize("taxes", [(("VAT", "0"),), (("VAT", "8.625"),)])
def test_so_do_those_of_any_percent_and_without_an_account(taxes: tuple[tuple[str, str], ...]) -> None:
    assert broken(render(invoice_in("de_DE", taxes=taxes, payment="by card"), "cii")) == []


@given(documents())
@settings(max_examples=15, deadline=None)
def test_so_does_whatever_is_billed_and_given_back(document: dict[str, Any]) -> None:
    assert broken(render(document, "cii")) == []
    whole = credit_note(row_of(document), [], [], "CN-", 1, "all of it")
    assert broken(render({**finished(whole, ISSUED_ON).document, "number": "CN-1"}, "cii")) == []
    if document["net_minor"] > 0:
        part = credit_part(row_of(document), [], Part(Decimal(1).scaleb(-document["digits"])), "CN-", 1, "a part")
        assert broken(render({**finished(part, ISSUED_ON).document, "number": "CN-2"}, "cii")) == []


def test_a_wrong_total_is_told() -> None:
    xml = render(invoice_in("de_DE"), "cii").replace(b"<ram:GrandTotalAmount>576.23", b"<ram:GrandTotalAmount>576.24")
    assert any("[BR-CO-15]" in one for one in broken(xml))
