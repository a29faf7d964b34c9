"""Who bills and who is billed: what stands on invoices, of the agency and of each client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from tenantry.billing.render import require_known
from tenantry.billing.wording import FALLBACK
from tenantry.control.invoicing import agency_details, set_billing
from tenantry.domain.billing_details import (
    ADDRESS_PARTS,
    LIST_CURRENCY,
    PLAIN,
    STANDARD_VAT,
    BadDetails,
    Details,
    check_details,
    require_rate,
)
from tenantry.domain.pictures import LOGO_BYTES_MAX, BadPicture, as_data_url
from tenantry.domain.roles import Permission, Principal
from tenantry.storage.directory import DirectoryError
from tenantry.web.pages.showing import require_whole_site, show, tenant_of
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.pages_base.words import sentence
from tenantry.web.signin.sessions import acting
from tenantry.web.tokens import site_of

_OF_BOTH: Final = ("name", "address", *ADDRESS_PARTS, "country", "contact", "phone", "email", "tax_id")
_MONEY: Final = ("currency", "rate", "taxes", "vat_category", "locale", "due_days")
OF_AGENCY: Final = (*_OF_BOTH, "payment", "note", *_MONEY, "series", "credit_series")
OF_TENANT: Final = (*_OF_BOTH, "purchase_order", "buyer_reference", *_MONEY)
_BY_TAXES: Final = "the taxes above"
_NO_VAT: Final = {
    "AE": "none: reverse charge",
    "G": "none: export",
    "E": "none: exempt",
    "Z": "zero rate",
}
_NO_TAXES: Final = "none"
_BOTH_WAYS: Final = "An address is said in lines or in parts, not in both: empty this, or street, postcode and city."
_SAID_OTHERWISE: Final = {
    "due_days": "days to pay",
    "vat_category": "VAT",
    "credit_series": "series",
    "purchase_order": "order number",
    "buyer_reference": "reference",
    "tax_id": "tax id",
}
_TAX: Final = re.compile(r"(.+?)(?:\s*=\s*|\s+)([0-9.]+)\s*%?")


def show_agency(request: Request, principal: Principal) -> Response:
    return _agency(request, principal, None, {})


def _agency(
    request: Request, principal: Principal, typed: Mapping[str, str] | None, problems: Mapping[str, str]
) -> Response:
    own = site_of(request).directory.billing_of("")
    return show(
        request,
        principal,
        "billing_agency",
        422 if problems else 200,
        typed=typed or {name: as_typed(own, name) for name in OF_AGENCY},
        else_={name: as_typed(PLAIN, name) for name in OF_AGENCY},
        vat={"": _BY_TAXES, **_NO_VAT, **({STANDARD_VAT: _BY_TAXES} if own.vat_category == STANDARD_VAT else {})},
        logo=own.logo,
        logo_kb_max=LOGO_BYTES_MAX // 1000,
        problems=problems,
    )


def set_agency(request: Request, principal: Principal) -> Response:
    require_whole_site(principal)
    form, site = posted(request), site_of(request)
    typed = {name: form.get(name) for name in OF_AGENCY}
    details, problems = read_details(typed, site.directory.billing_of(""), PLAIN)
    if not problems:
        try:
            set_billing(replace(site, directory=acting(request, principal)), None, details)
        except DirectoryError as error:
            problems["form"] = str(error)
    if problems:
        return _agency(request, principal, typed, problems)
    return see_other("/billing", "This stands on every invoice that is issued from now on.")


def set_logo(request: Request, principal: Principal) -> Response:
    """A picture, or with `remove` none."""
    require_whole_site(principal)
    form, site = posted(request), site_of(request)
    logo: str | None = None
    if "remove" not in form:
        try:
            logo = as_data_url(form.file("logo"))
        except BadPicture as error:
            words = "Choose a file." if not form.file("logo") else _sentence(error)
            return _agency(request, principal, None, {"logo": words})
    own = replace(site.directory.billing_of(""), logo=logo)
    try:
        set_billing(replace(site, directory=acting(request, principal)), None, own)
    except DirectoryError as error:
        return _agency(request, principal, None, {"logo": str(error)})
    return see_other("/billing#logo", "The logo is on invoices and the portal now." if logo else "The logo is removed.")


def show_tenant(request: Request, principal: Principal) -> Response:
    return _tenant(request, principal, None, {})


def _tenant(
    request: Request, principal: Principal, typed: Mapping[str, str] | None, problems: Mapping[str, str]
) -> Response:
    tenant, site = tenant_of(request), site_of(request)
    own, agency = site.directory.billing_of(tenant.tenant_id), agency_details(site)
    of_agency = {name: as_typed(agency, name) or (_NO_TAXES if name == "taxes" else "") for name in _MONEY}
    return show(
        request,
        principal,
        "billing_tenant",
        422 if problems else 200,
        tenant=tenant,
        typed=typed or {name: as_typed(own, name) for name in OF_TENANT},
        else_={"name": tenant.name, **of_agency},
        vat={"": "as yours", STANDARD_VAT: _BY_TAXES, **_NO_VAT},
        problems=problems,
        may_change=principal.may(Permission.INVOICES_ISSUE, tenant.slug),
    )


def set_tenant(request: Request, principal: Principal) -> Response:
    tenant, form, site = tenant_of(request), posted(request), site_of(request)
    typed = {name: form.get(name) for name in OF_TENANT}
    details, problems = read_details(typed, site.directory.billing_of(tenant.tenant_id), agency_details(site))
    if not problems:
        try:
            set_billing(replace(site, directory=acting(request, principal)), tenant.slug, details)
        except DirectoryError as error:
            problems["form"] = str(error)
    if problems:
        return _tenant(request, principal, typed, problems)
    words = f"This stands on every invoice of {tenant.slug} that is issued from now on."
    return see_other(f"/tenants/{tenant.slug}/billing", words)


def as_typed(details: Details, name: str) -> str:
    """A detail as one would type it; "": it is not said."""
    value = getattr(details, name)
    if name == "taxes" and value is not None:
        return "\n".join(f"{text} {percent}" for text, percent in value) or _NO_TAXES
    return "" if value is None else str(value)


def read_details(typed: Mapping[str, str], before: Details, others: Details) -> tuple[Details, dict[str, str]]:
    """What was typed over what a form does not ask for, and what is wrong with it, by field."""
    problems: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name, text in typed.items():
        try:
            values[name] = _read(name, text.replace("\r\n", "\n"))
            _check(name, values[name])
        except BadDetails as error:
            problems[name] = _sentence(error)
            values[name] = None
    details = replace(before, **values)
    if details.address and any(getattr(details, name) for name in ADDRESS_PARTS):
        problems.setdefault("address", _BOTH_WAYS)
    if not problems:
        try:
            require_rate(details.over(others))
        except BadDetails as error:
            problems["rate"] = _sentence(error)
    return details, problems


def _read(name: str, text: str) -> Any:
    """Raises: BadDetails."""
    if not text:
        return None
    if name == "due_days":
        if not (text.isascii() and text.isdigit() and len(text) < 5):
            raise BadDetails("a number of days, such as 14")
        return int(text)
    if name == "taxes":
        return _taxes(text)
    return text.upper() if name in ("country", "currency", "vat_category") else text


def _taxes(text: str) -> tuple[tuple[str, str], ...]:
    """Raises: BadDetails."""
    if text.lower() == _NO_TAXES:
        return ()
    found: list[tuple[str, str]] = []
    for line in filter(None, map(str.strip, text.split("\n"))):
        read = _TAX.fullmatch(line)
        if read is None:
            raise BadDetails(f"a text and a percent on each line, such as VAT 19, not {line[:40]!r}")
        found.append((read[1].strip(), read[2]))
    return tuple(found)


def _check(name: str, value: Any) -> None:
    """Of one detail by itself. Raises: BadDetails."""
    check_details(Details(**{name: value}))
    if name == "currency" and value is not None:
        require_known(value, FALLBACK)
    if name == "locale" and value is not None:
        require_known(LIST_CURRENCY, value)


def _sentence(error: Exception) -> str:
    """Fields by the names that they have on the page."""
    text = str(error)
    for name in _SAID_OTHERWISE:
        text = text.replace(name, _SAID_OTHERWISE[name])
    return sentence(text)
