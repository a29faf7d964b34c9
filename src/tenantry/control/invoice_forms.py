"""In which formats an invoice can be had here, and why not in the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tenantry.billing.einvoice_needs import lacking, lacking_for_xrechnung
from tenantry.billing.render import (
    CII,
    CSV,
    E_INVOICES,
    FACTURX,
    HTML,
    JSON,
    PDF,
    XRECHNUNG,
    NotRendered,
    require_extra,
)
from tenantry.domain.values import value

NAMES: Final = {
    PDF: "PDF",
    HTML: "HTML",
    CSV: "CSV",
    JSON: "JSON",
    FACTURX: "Factur-X (PDF with the e-invoice in it)",
    CII: "CII (XML)",
    XRECHNUNG: "XRechnung (XML)",
}


@value
class Offer:
    """A format. `why` says why it cannot be had; "": it can."""

    form: str
    name: str
    why: str = ""


def offers_of(document: Mapping[str, Any]) -> list[Offer]:
    """Every format of a document that was issued, or (without a number) of one that may be."""
    return [Offer(form, name, why_not(document, form)) for form, name in NAMES.items()]


def why_not(document: Mapping[str, Any], form: str) -> str:
    """Why a document cannot be had in a format; "": it can."""
    try:
        require_extra(form)
    except NotRendered as error:
        return str(error)
    if form not in E_INVOICES:
        return ""
    missing = missing_of(document, form)
    if missing:
        return f"it lacks {', '.join(missing)}"
    return "" if "number" in document else "it gets one when it has its number"


def missing_of(document: Mapping[str, Any], form: str = CII) -> list[str]:
    """What an e-invoice needs and the document has not, without the command that says it."""
    found = [*lacking(document), *(lacking_for_xrechnung(document) if form == XRECHNUNG else ())]
    return [one.partition(": `")[0] for one in found]
