"""Invoices: looked at, issued, listed, shown, taken back; and who bills whom."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from tenantry.billing.credits import AMOUNT, LINES_MAX, REASON_CHARS_MAX, Part
from tenantry.billing.invoice import Client
from tenantry.billing.months import Month, month_before, read_month
from tenantry.billing.render import MEDIA_TYPES, ending_of, render
from tenantry.control.invoice_files import check_of
from tenantry.control.invoice_views import (
    BillingMonthView,
    InvoiceView,
    PassedView,
    amount_of,
    billing_month_view,
    invoice_view,
    passed_view,
)
from tenantry.control.invoicing import (
    agency_details,
    credit,
    find_client,
    issue,
    issue_all,
    list_clients,
    prepare_credit,
    preview,
    preview_all,
    reading_books,
    set_billing,
    verify_invoices,
)
from tenantry.control.views import View
from tenantry.domain.billing_details import Details
from tenantry.domain.pictures import LOGO_BYTES_MAX, BadPicture, read_data_url
from tenantry.domain.roles import Permission
from tenantry.domain.values import value
from tenantry.storage.directory import NotInDirectory
from tenantry.storage.directory.invoices import Issued
from tenantry.web.answers import Refused
from tenantry.web.api.audit import ProblemsView
from tenantry.web.api.changes import MonthText, Name, said
from tenantry.web.api.operations import Blob, Call, Struct, operation
from tenantry.web.api.paging import Page, Paged, page_of

FormatName = Literal["json", "html", "csv", "pdf", "facturx", "cii", "xrechnung"]
_MEDIA: Final = tuple(dict.fromkeys(one.partition(";")[0] for one in MEDIA_TYPES.values()))


class InvoicesQuery(Paged):
    tenant: Name | None = None
    month: MonthText | None = None


@operation("GET", "/invoices", Permission.INVOICES_READ)
def list_invoices(call: Call, query: InvoicesQuery) -> Page[InvoiceView]:
    """List invoices and credit notes in the order in which they were issued."""
    found = [one for one in call.site.directory.list_invoices(query.tenant, query.month) if _may(call, one)]
    page = page_of(call, query, found, lambda one: one.invoice_id)
    return Page([invoice_view(one) for one in page.data], page.next)


def _may(call: Call, one: Issued | Client) -> bool:
    """Who is confined to a tenant has its invoices, and not those of one before it that had its name."""
    if call.principal.tenants is None:
        return True
    own = call.site.directory.list_tenants()
    return any(row.tenant_id == one.tenant_id and row.slug in call.principal.tenants for row in own)


class FormatQuery(Struct):
    format: FormatName = "json"


@operation("GET", "/invoices/{number:path}", Permission.INVOICES_READ, media=_MEDIA)
def show_invoice(call: Call, number: str, query: FormatQuery) -> Blob:
    """Show one as it was issued: its document, or a page or table of it."""
    found = call.site.directory.get_invoice(number)
    if not _may(call, found):
        raise NotInDirectory(f"there is no invoice {number[:60]!r}")
    return _blob(found.document, query.format, number)


def _blob(document: dict[str, Any], form: str, name: str) -> Blob:
    return Blob(render(document, form), MEDIA_TYPES[form], f"{name.replace('/', '-')}.{ending_of(form)}")


class PreviewsQuery(Paged):
    month: MonthText | None = None


class PreviewQuery(Struct):
    month: MonthText | None = None
    format: FormatName = "json"


@operation("GET", "/tenants/{slug}/invoice-preview", Permission.INVOICES_READ, media=_MEDIA)
def preview_invoice(call: Call, slug: str, query: PreviewQuery) -> Blob:
    """Show the invoice of a month as it would be issued now; of the last month where none is said."""
    month = _month(call, query.month)
    with reading_books(call.site) as books:
        document = dict(preview(call.site, books, find_client(call.site, slug), month).document)
    return _blob(document, query.format, f"preview-{month}-{slug}")


@operation("GET", "/invoice-previews", Permission.INVOICES_READ)
def list_invoice_previews(call: Call, query: PreviewsQuery) -> Page[PassedView]:
    """List what would be issued of a month now, for each tenant that has or had a plan, or why not."""
    month, clients = _month(call, query.month), [one for one in list_clients(call.site) if _may(call, one)]
    page: Page[Client] = page_of(call, query, clients, lambda one: (one.slug, one.tenant_id))
    return Page([passed_view(one) for one in preview_all(call.site, month, page.data)], page.next)


@operation("GET", "/billing-months/{month}", Permission.INVOICES_READ)
def show_billing_month(call: Call, month: str) -> BillingMonthView:
    """Show whether a month, such as 2026-10, or the `last`, can be billed: it is over, and everything is booked."""
    found = billing_month_view(call.site, _month(call, None if month == "last" else month))
    if call.principal.tenants is None or found.why_not_issuable is None:
        return found
    # How much of all tenants' waits to be booked is the site's.
    return replace(found, why_not_issuable=found.why_not_issuable.partition(":")[0])


class IssueBody(Struct):
    """Without a month: the last one. `format`: of an e-invoice, what the standard asks for has to be there first."""

    month: MonthText | None = None
    format: FormatName = "html"


@operation("POST", "/tenants/{slug}/invoices", Permission.INVOICES_ISSUE, status=201, is_atomic=False)
def issue_invoice(call: Call, slug: str, body: IssueBody) -> InvoiceView:
    """Issue the invoice of a month: it gets a number and is kept."""
    client, month = find_client(call.site, slug), _month(call, body.month)
    return invoice_view(issue(call.site, client, month, check_of([body.format])))


@value
class PassedAll(View):
    month: str
    tenants: list[PassedView]


@operation("POST", "/invoices", Permission.INVOICES_ISSUE, is_atomic=False)
def issue_invoices(call: Call, body: IssueBody) -> PassedAll:
    """Issue every tenant's invoice of a month; those that have one are passed by, so it can be asked again."""
    month = _month(call, body.month)
    passed = issue_all(call.site, month, check=check_of([body.format]))
    return PassedAll(str(month), [passed_view(one) for one in passed])


LineNumber = Annotated[int, Meta(ge=1, le=100_000)]


class CreditBody(Struct):
    """Without an amount and lines: all that is left."""

    reason: Annotated[
        str, Meta(min_length=1, max_length=REASON_CHARS_MAX, description="What stands on the credit note.")
    ]
    amount: (
        Annotated[
            str,
            Meta(
                pattern=f"^{AMOUNT.pattern}$",
                description="Before taxes, in the invoice's currency, such as 12.50.",
            ),
        ]
        | None
    ) = None
    lines: Annotated[list[LineNumber], Meta(max_length=LINES_MAX, description="Only these, counted from 1.")] = []


@operation("POST", "/invoices/{number:path}/credit", Permission.INVOICES_ISSUE, status=201, is_atomic=False)
def credit_invoice(call: Call, number: str, body: CreditBody) -> InvoiceView:
    """Take an invoice back by a credit note. Over all of it: its month can be billed anew then."""
    return invoice_view(credit(call.site, number, body.reason, _part(body)))


def _part(body: CreditBody) -> Part | None:
    amount = Decimal(body.amount) if body.amount is not None else None
    return Part(amount, tuple(body.lines)) if body.amount is not None or body.lines else None


@value
class CreditPreview(View):
    """What would be given back, taxes included. `total` in words, `total_minor` in the currency's smallest unit."""

    credits: str
    total: str
    total_minor: int
    currency: str


@operation("POST", "/invoices/{number:path}/credit-preview", Permission.INVOICES_ISSUE)
def preview_credit(call: Call, number: str, body: CreditBody) -> CreditPreview:
    """Show what a credit note would give back, before it is issued; nothing is changed."""
    new = prepare_credit(call.site, number, body.reason, _part(body))
    return CreditPreview(number, amount_of(new.document, -new.total_minor), -new.total_minor, new.document["currency"])


@operation("GET", "/invoice-verification", Permission.INVOICES_ISSUE)
def verify_all_invoices(call: Call) -> ProblemsView:
    """Prove that nothing that was issued was changed or is missing, and that lines add up."""
    return ProblemsView(*verify_invoices(call.site))


@value
class BillingView(View):
    """Who is billed, or bills, in the order that commands tell it. `logo`: whether there is one."""

    name: str | None
    address: str | None
    street: str | None
    postcode: str | None
    city: str | None
    contact: str | None
    phone: str | None
    email: str | None
    country: str | None
    tax_id: str | None
    payment: str | None
    note: str | None
    currency: str
    rate: str
    taxes: list[list[str]]
    vat_category: str | None
    locale: str
    due_days: int
    purchase_order: str | None
    buyer_reference: str | None
    series: str
    credit_series: str
    logo: bool


@operation("GET", "/billing-details", Permission.INVOICES_ISSUE)
def show_agency_billing(call: Call) -> BillingView:
    """Show who bills: the agency."""
    return _details(agency_details(call.site))


@operation("GET", "/tenants/{slug}/billing-details", Permission.INVOICES_READ)
def show_billing(call: Call, slug: str) -> BillingView:
    """Show who is billed; what a tenant has not said is the agency's."""
    own = call.site.directory.billing_of(call.site.directory.get_tenant(slug).tenant_id)
    return _details(own.over(agency_details(call.site)))


def _details(found: Details) -> BillingView:
    told = found.as_json() | {"logo": found.logo is not None, "taxes": [list(one) for one in found.taxes or ()]}
    return BillingView(**{name: told.get(name) for name in BillingView.__dataclass_fields__})  # pyright: ignore[reportArgumentType] -- PLAIN has those that are never null


Text = Annotated[str, Meta(max_length=1000)]
# In base 64, four characters for three bytes; and what stands before them.
_LOGO_CHARS_MAX: Final = LOGO_BYTES_MAX * 4 // 3 + 100


class BillingPatch(Struct):
    """What is not said stays. `taxes`: a text and a percent each. `logo`: a data: URL of a PNG, JPEG or SVG.

    An address is lines or parts, as was said last. `country`: ISO 3166. `vat_category`: why there is no tax (AE reverse
    charge, G export, E exempt, Z zero); S: the taxes.
    """

    name: Text | UnsetType = UNSET
    address: Text | UnsetType = UNSET
    street: Text | UnsetType = UNSET
    postcode: Text | UnsetType = UNSET
    city: Text | UnsetType = UNSET
    country: Annotated[str, Meta(pattern="^[A-Z]{2}$")] | UnsetType = UNSET
    contact: Text | UnsetType = UNSET
    phone: Text | UnsetType = UNSET
    email: Text | UnsetType = UNSET
    tax_id: Text | UnsetType = UNSET
    vat_category: Literal["S", "AE", "G", "E", "Z"] | UnsetType = UNSET
    payment: Text | UnsetType = UNSET
    note: Text | UnsetType = UNSET
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] | UnsetType = UNSET
    rate: Annotated[str, Meta(max_length=30)] | UnsetType = UNSET
    taxes: Annotated[list[tuple[Text, Annotated[str, Meta(max_length=20)]]], Meta(max_length=5)] | UnsetType = UNSET
    locale: Annotated[str, Meta(max_length=40)] | UnsetType = UNSET
    due_days: Annotated[int, Meta(ge=0, le=365)] | UnsetType = UNSET
    purchase_order: Text | UnsetType = UNSET
    buyer_reference: Text | UnsetType = UNSET
    logo: Annotated[str, Meta(max_length=_LOGO_CHARS_MAX, pattern="^data:image/")] | UnsetType = UNSET


class AgencyPatch(BillingPatch):
    """`series`: what numbers begin with, `{year}` that of issue."""

    series: Annotated[str, Meta(max_length=32)] | UnsetType = UNSET
    credit_series: Annotated[str, Meta(max_length=32)] | UnsetType = UNSET


@operation("PATCH", "/billing-details", Permission.INVOICES_ISSUE, of_site=True, represents=show_agency_billing)
def set_agency_billing(call: Call, body: AgencyPatch) -> BillingView:
    """Say who bills: address, currency, taxes, numbers."""
    set_billing(call.site, None, _over(body, call.site.directory.billing_of("")))
    return show_agency_billing.act(call)


@operation("PATCH", "/tenants/{slug}/billing-details", Permission.INVOICES_ISSUE, represents=show_billing)
def set_tenant_billing(call: Call, slug: str, body: BillingPatch) -> BillingView:
    """Say who is billed."""
    before = call.site.directory.billing_of(call.site.directory.get_tenant(slug).tenant_id)
    set_billing(call.site, slug, _over(body, before))
    return show_billing.act(call, slug)


def _over(body: BillingPatch, before: Details) -> Details:
    given = said(body)
    if "logo" in given:
        given["logo"] = _logo(given["logo"])
    if "taxes" in given:
        given["taxes"] = tuple(tuple(one) for one in given["taxes"])
    return Details(**given).over(before)


def _logo(given: str) -> str:
    """Raises Refused: 422, with the member."""
    try:
        return read_data_url(given)
    except BadPicture as error:
        wrong = [{"in": "body", "member": "logo", "detail": str(error)}]
        raise Refused(422, f"logo: {error}", None, errors=wrong) from None


def _month(call: Call, text: str | None) -> Month:
    return read_month(text) if text is not None else month_before(call.site.directory.today())


OPERATIONS: Final = (
    list_invoices,
    issue_invoices,
    list_invoice_previews,
    show_billing_month,
    credit_invoice,
    preview_credit,
    show_invoice,
    preview_invoice,
    issue_invoice,
    verify_all_invoices,
    show_agency_billing,
    set_agency_billing,
    show_billing,
    set_tenant_billing,
)
