"""Who bills and who is billed: addresses, currency, taxes, numbers. Rates and percents are decimals as text, exact."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Final

_DECIMAL: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_LOCALE: Final = re.compile(r"[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8}){0,3}")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_SERIES: Final = re.compile(r"[A-Za-z0-9/_{}.-]{0,32}")
TEXT_CHARS_MAX: Final = 1000
PERCENT_MAX: Final = 100
DUE_DAYS_MAX: Final = 365
TAXES_MAX: Final = 5
YEAR: Final = "{year}"
# Of list prices.
LIST_CURRENCY: Final = "USD"
# Categories of VAT as EN 16931 has them (UNCL 5305): the declared taxes; or why there are none: reverse charge,
# export, exempt, zero rate.
STANDARD_VAT: Final = "S"
NO_VAT: Final = ("AE", "G", "E", "Z")
ADDRESS_PARTS: Final = ("street", "postcode", "city")
_TEXTS: Final = (
    *("name", "address", *ADDRESS_PARTS, "contact", "phone", "email"),
    *("tax_id", "payment", "note", "purchase_order", "buyer_reference"),
)


class BadDetails(ValueError):
    """A billing detail that cannot be; the message says which."""


@dataclass(frozen=True, slots=True)
class Details:
    """What stands on an invoice of one side. None: not said; a tenant then has what the agency has.

    `address` is lines as they are written; `street`, `postcode` and `city` are the same in parts, and `street` may have
    several lines. `buyer_reference` is what the client wants to find its invoices by, such as a Leitweg-ID.
    `currency` is an ISO 4217 code, `rate` how much of it a dollar is, `country` an ISO 3166 code. `taxes` are a text
    and a percent each, on all lines, unless `vat_category` is one of `NO_VAT`. `series` is what numbers begin with,
    `{year}` that of issue.
    """

    name: str | None = None
    address: str | None = None
    street: str | None = None
    postcode: str | None = None
    city: str | None = None
    contact: str | None = None
    phone: str | None = None
    email: str | None = None
    country: str | None = None
    tax_id: str | None = None
    payment: str | None = None
    note: str | None = None
    currency: str | None = None
    rate: str | None = None
    taxes: tuple[tuple[str, str], ...] | None = None
    vat_category: str | None = None
    locale: str | None = None
    due_days: int | None = None
    purchase_order: str | None = None
    buyer_reference: str | None = None
    series: str | None = None
    credit_series: str | None = None
    logo: str | None = None  # a data: URL

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def over(self, others: Details) -> Details:
        """These, and the others' where nothing is said.

        A rate is of its currency, and of no other. An address is lines or parts, as it was said last.
        """
        found = others.as_json()
        if self.address is not None:
            found = {name: value for name, value in found.items() if name not in ADDRESS_PARTS}
        elif any(getattr(self, name) is not None for name in ADDRESS_PARTS):
            found.pop("address", None)
        if self.currency is not None and self.currency != others.currency:
            found.pop("rate", None)
        return Details(**{**found, **self.as_json()})


# What an agency has that has said nothing: dollars, as list prices are.
PLAIN: Final = Details(
    currency=LIST_CURRENCY,
    rate="1",
    taxes=(),
    locale="en_US",
    due_days=14,
    series="INV-{year}-",
    credit_series="CN-{year}-",
)


def read_details(stored: Mapping[str, Any]) -> Details:
    """As the store keeps them; what a newer version added is passed over."""
    known = {name: stored[name] for name in Details.__dataclass_fields__ if name in stored}
    if known.get("taxes") is not None:
        known["taxes"] = tuple((text, percent) for text, percent in known["taxes"])
    return Details(**known)


def check_details(details: Details) -> None:
    """Raises: BadDetails."""
    for name in _TEXTS:
        text = getattr(details, name)
        if text is not None and (len(text) > TEXT_CHARS_MAX or not text.replace("\n", "").isprintable()):
            raise BadDetails(f"{name} has at most {TEXT_CHARS_MAX} printable characters")
    if details.address and any(getattr(details, name) for name in ADDRESS_PARTS):
        raise BadDetails(f"an address is said as lines (address) or in parts ({', '.join(ADDRESS_PARTS)}), not as both")
    if details.country is not None and not _COUNTRY.fullmatch(details.country):
        raise BadDetails(f"country is a code such as DE, not {details.country[:20]!r}")
    categories = (STANDARD_VAT, *NO_VAT)
    if details.vat_category is not None and details.vat_category not in categories:
        raise BadDetails(f"vat_category is one of {', '.join(categories)}, not {details.vat_category[:20]!r}")
    if details.currency is not None and not _CURRENCY.fullmatch(details.currency):
        raise BadDetails(f"currency is a code such as EUR, not {details.currency[:20]!r}")
    if details.rate is not None and (not _DECIMAL.fullmatch(details.rate) or not Decimal(details.rate)):
        raise BadDetails(f"rate is how much of the currency a dollar is, such as 0.92, not {details.rate[:20]!r}")
    if details.locale is not None and not _LOCALE.fullmatch(details.locale):
        raise BadDetails(f"locale is a name such as de_DE, not {details.locale[:20]!r}")
    if details.due_days is not None and not 0 <= details.due_days <= DUE_DAYS_MAX:
        raise BadDetails(f"due_days is from 0 to {DUE_DAYS_MAX}")
    _check_taxes(details.taxes or ())
    for name in ("series", "credit_series"):
        series = getattr(details, name)
        if series is not None and (not _SERIES.fullmatch(series) or "{" in series.replace(YEAR, "")):
            raise BadDetails(f"{name} is letters, digits and / _ . -, and {YEAR}; not {series[:40]!r}")


def require_rate(details: Details) -> None:
    """That amounts can be told in the currency, of details that leave nothing to others. Raises: BadDetails."""
    if details.currency == LIST_CURRENCY:
        if Decimal(details.rate or 1) != 1:
            raise BadDetails(f"the rate {details.rate} is of no currency: say which, such as EUR")
    elif details.rate is None:
        raise BadDetails(f"{details.currency} has no rate: say how much of it a dollar is")


def _check_taxes(taxes: tuple[tuple[str, str], ...]) -> None:
    if len(taxes) > TAXES_MAX:
        raise BadDetails(f"there are at most {TAXES_MAX} taxes")
    for text, percent in taxes:
        if not text.strip() or len(text) > TEXT_CHARS_MAX or not text.isprintable():
            raise BadDetails("a tax has a text, such as VAT")
        if not _DECIMAL.fullmatch(percent) or Decimal(percent) > PERCENT_MAX:
            raise BadDetails(f"a tax has a percent from 0 to {PERCENT_MAX}, such as 19, not {percent[:20]!r}")
