"""What an e-invoice needs beyond paper: each thing is told with the command that says it.

Clauses BR-n are those of EN 16931-1, BR-DE-n those of XRechnung 3.0, PEPPOL-n those that it took over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tenantry.billing.refusals import NotStructured
from tenantry.domain.billing_details import NO_VAT
from tenantry.storage.directory.invoices import INVOICE

# EN 16931 has amounts of at most two decimal places (BR-DEC).
DIGITS_MAX: Final = 2
_VAT_ID: Final = re.compile(r"[A-Z]{2}[A-Z0-9+*.]{2,13}")
_IBAN: Final = re.compile(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{1,4}){3,8}")
# BR-DE-27, BR-DE-28.
_PHONE_DIGITS_MIN: Final = 3
_EMAIL: Final = re.compile(r"[^@\s]+@([^@.\s]+\.)+[^@.\s]+")
_DETAILS: Final = "`tenantry invoices details"


def lacking(document: Mapping[str, Any]) -> Iterator[str]:
    """What EN 16931 asks for and this document has not."""
    agency, client, slug = document["agency"], document["client"], document["client"]["slug"]
    if not agency["name"]:
        yield f"the agency's name: {_DETAILS} --name TEXT`"
    if not agency.get("country"):
        yield f"the agency's country: {_DETAILS} --country CODE`"
    if not agency["tax_id"]:
        yield f"the agency's VAT id: {_DETAILS} --tax-id ID`"
    if not client.get("country"):
        yield f"the client's country: {_DETAILS} {slug} --country CODE`"
    if document.get("vat_category") == "AE" and not vat_id(client):
        yield f"the client's VAT id, for reverse charge: {_DETAILS} {slug} --tax-id ID`"
    if not document["taxes"] and document.get("vat_category") not in NO_VAT:
        why = f"{_DETAILS} {slug} --vat-category {'|'.join(NO_VAT)}`"
        yield f"a VAT: {_DETAILS} --tax VAT=PERCENT`; or why there is none: {why}"
    if len(document["taxes"]) > 1:
        yield "one VAT for each line: more than one tax is declared"
    if document["digits"] > DIGITS_MAX:
        yield f"a currency of at most {DIGITS_MAX} decimal places"


def lacking_for_xrechnung(document: Mapping[str, Any]) -> Iterator[str]:
    """What XRechnung asks for beyond that."""
    agency, client, slug = document["agency"], document["client"], document["client"]["slug"]
    if not document.get("buyer_reference"):  # BR-DE-15
        yield f"the client's reference, such as its Leitweg-ID: {_DETAILS} {slug} --buyer-reference TEXT`"
    if not agency.get("contact"):  # BR-DE-5
        yield f"whom to ask at the agency: {_DETAILS} --contact TEXT`"
    if len(re.findall(r"\d", agency.get("phone") or "")) < _PHONE_DIGITS_MIN:  # BR-DE-6
        yield f"the agency's telephone number: {_DETAILS} --phone TEXT`"
    if not _EMAIL.fullmatch(agency["email"] or ""):  # BR-DE-7, PEPPOL-EN16931-R020
        yield f"the agency's e-mail address: {_DETAILS} --email ADDRESS`"
    if not _EMAIL.fullmatch(client["email"] or ""):  # PEPPOL-EN16931-R010
        yield f"the client's e-mail address: {_DETAILS} {slug} --email ADDRESS`"
    parts = "--street TEXT --postcode TEXT --city TEXT`"
    if not (agency.get("postcode") and agency.get("city")):  # BR-DE-3, BR-DE-4
        yield f"the agency's address in parts: {_DETAILS} {parts}"
    if not (client.get("postcode") and client.get("city")):  # BR-DE-8, BR-DE-9
        yield f"the client's address in parts: {_DETAILS} {slug} {parts}"
    if not agency["payment"]:  # BR-DE-1
        yield f'how to pay: {_DETAILS} --payment "IBAN ..."`'


def require_complete(document: Mapping[str, Any], is_xrechnung: bool = False) -> None:
    """Raises: NotStructured: naming all that is lacking."""
    found = [*lacking(document), *(lacking_for_xrechnung(document) if is_xrechnung else ())]
    if found:
        what = "an XRechnung" if is_xrechnung else "an e-invoice"
        raise NotStructured(f"{what} needs {'; '.join(found)}{_of_issued(document)}")


def _of_issued(document: Mapping[str, Any]) -> str:
    """What was issued never changes: details that are said now are of the next one."""
    number = document.get("number")
    if number is None:
        return ""
    again = f": then `tenantry invoices credit {number} --reason TEXT`, and issue the month anew"
    return f"; {number} stays as it was issued{again if document['kind'] == INVOICE else ''}"


def vat_id(side: Mapping[str, Any]) -> str | None:
    """A tax id that is one of VAT, as the standard writes it."""
    told = re.sub(r"[\s-]", "", side["tax_id"] or "")
    return told if _VAT_ID.fullmatch(told) else None


def iban_in(text: str) -> str | None:
    """The first account in a text whose check digits are right (ISO 13616: modulo 97 it is 1)."""
    for found in _IBAN.finditer(text):
        iban = found[0].replace(" ", "")
        if int("".join(str(int(one, 36)) for one in iban[4:] + iban[:4])) % 97 == 1:
            return iban
    return None
