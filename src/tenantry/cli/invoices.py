"""invoices list | show | credit | verify | details."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantry.billing.credits import AMOUNT, Part
from tenantry.billing.render import BINARY
from tenantry.cli.billed import drawn_as
from tenantry.cli.context import FAILED, USAGE, confirm, fail, opened
from tenantry.cli.invoice import Form, check_form, file_of, form_for, show_document, write_file
from tenantry.cli.options import AsJson, Yes
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.remote.api import Api
from tenantry.control.invoice_views import amount_of, invoice_view
from tenantry.control.invoicing import (
    agency_details,
    credit,
    prepare_credit,
    set_billing,
    verify_invoices,
)
from tenantry.control.site import Site
from tenantry.domain.billing_details import BadDetails, Details, check_details
from tenantry.domain.pictures import LOGO_BYTES_MAX, as_data_url
from tenantry.regular_files import read_regular

app = typer.Typer(help="What was issued: list, show, take back and prove it; and who bills whom.", no_args_is_help=True)

Number = Annotated[str, typer.Argument(help="Its number, such as INV-2026-0001.")]


@app.command("list")
def list_invoices(
    tenant: Annotated[str | None, typer.Option(metavar="SLUG", help="Only this tenant's.")] = None,
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="Only of this month.")] = None,
    as_json: AsJson = False,
) -> None:
    """Invoices and credit notes in the order in which they were issued."""
    with opened() as at:
        if isinstance(at, Api):
            rows = at.items("invoices", tenant=tenant, month=month)
        else:
            rows = [invoice_view(one).as_json() for one in at.directory.list_invoices(tenant, month)]
    if as_json:
        print_json(rows)
        return
    columns = ["number", "kind", "tenant", "month", "issued_on", "total"]
    print_table(columns, [[row[name] for name in columns] for row in rows], right=("total",))


@app.command()
def show(
    number: Number,
    form: Form = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Into this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """One as it was issued, also as a page or file."""
    check_form(form)
    with opened() as at:
        if isinstance(at, Api):
            document = at.get("invoices", number)
            drawn = form or (form_for(out) if out is not None else None)
            data = at.bytes_of("invoices", number, format=drawn) if drawn is not None else b""
        else:
            document = at.directory.get_invoice(number).document
            drawn = form or (form_for(out) if out is not None else None)
            data = drawn_as(document, drawn) if drawn is not None else b""
    if out is None and drawn in BINARY:
        out = Path(file_of(document, drawn))
    if out is not None:
        write_file(data, out)
        say(f"Wrote {out}.", err=as_json)
    elif drawn is not None:
        say(data.decode(), nl=False)
    if as_json:
        print_json(document)
    elif out is None and drawn is None:
        show_document(document)


@app.command("credit")
def credit_invoice(
    number: Number,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="What stands on the credit note.")],
    amount: Annotated[
        str | None,
        typer.Option(metavar="N", help="Only so much, before taxes, such as 12.50; of --line, if one is named."),
    ] = None,
    line: Annotated[
        list[int] | None, typer.Option(metavar="N", min=1, help="Only this line, counted from 1; repeat it.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Credit an invoice: all of it, and its month can be billed anew; or a part, and it stands."""
    part = Part(_amount(amount), tuple(line or ())) if amount is not None or line else None
    body = {"reason": reason, "amount": amount, "lines": line or []}
    with opened() as at:
        if isinstance(at, Api):
            total = at.write("POST", "invoices", number, "credit-preview", body=body)["total"]
        else:
            new = prepare_credit(at, number, reason, part)
            total = amount_of(new.document, -new.total_minor)
        confirm(f"Issue a credit note of {total} over {f'a part of {number}' if part else f'all of {number}'}?", yes)
        if isinstance(at, Api):
            note = at.write("POST", "invoices", number, "credit", body=body)
        else:
            note = invoice_view(credit(at, number, reason, part)).as_json()
    if part is not None:
        say(f"{note['number']} gives back {total} of {number}, taxes included. {number} stands.")
        return
    anew = f"`tenantry invoice {note['tenant']} --month {note['month']} --issue` bills it anew."
    say(f"{note['number']} takes back {number}. {anew}")


def _amount(text: str | None) -> Decimal | None:
    if text is not None and not AMOUNT.fullmatch(text):
        raise fail(f"--amount is a number such as 12.50, not {text[:40]!r}", USAGE)
    return Decimal(text) if text is not None else None


@app.command()
def verify(as_json: AsJson = False) -> None:
    """Prove that nothing that was issued was changed or is missing, that numbers have no gap, and that lines add up."""
    with opened() as at:
        if isinstance(at, Api):
            found = at.get("invoice-verification")
            count, wrong = found["count"], found["problems"]
        else:
            count, wrong = verify_invoices(at)
    if as_json:
        print_json({"issued": count, "wrong": wrong})
    else:
        for text in wrong:
            say(text)
        say(f"{count} issued; {f'{len(wrong)} things are wrong' if wrong else 'all as they were issued'}.")
    if wrong:
        raise typer.Exit(FAILED)


@app.command()
def details(
    tenant: Annotated[str | None, typer.Argument(help="The tenant's slug; without one the agency itself.")] = None,
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="As it stands on the invoice.")] = None,
    address: Annotated[str | None, typer.Option(metavar="TEXT", help="Lines end in \\n.")] = None,
    street: Annotated[
        str | None, typer.Option(metavar="TEXT", help="In place of --address, with the next two.")
    ] = None,
    postcode: Annotated[str | None, typer.Option(metavar="TEXT", help="Of the town; XRechnung needs both.")] = None,
    city: Annotated[str | None, typer.Option(metavar="TEXT", help="The town.")] = None,
    contact: Annotated[str | None, typer.Option(metavar="TEXT", help="Whom to ask.")] = None,
    phone: Annotated[str | None, typer.Option(metavar="TEXT", help="For questions.")] = None,
    email: Annotated[str | None, typer.Option(metavar="TEXT", help="For questions.")] = None,
    country: Annotated[str | None, typer.Option(metavar="CODE", help="Such as DE; e-invoices need it.")] = None,
    tax_id: Annotated[str | None, typer.Option(metavar="TEXT", help="Such as a VAT number.")] = None,
    payment: Annotated[str | None, typer.Option(metavar="TEXT", help="How to pay: a bank account.")] = None,
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="A line below.")] = None,
    currency: Annotated[str | None, typer.Option(metavar="CODE", help="Such as EUR; default USD.")] = None,
    rate: Annotated[str | None, typer.Option(metavar="N", help="How much of it a dollar is, such as 0.92.")] = None,
    tax: Annotated[
        list[str] | None, typer.Option(metavar="TEXT=PERCENT", help="Such as VAT=19; repeat it; none: no tax.")
    ] = None,
    vat_category: Annotated[
        str | None,
        typer.Option(
            metavar="S|AE|G|E|Z", help="Why there is no tax: reverse charge, export, exempt, zero; S: the taxes."
        ),
    ] = None,
    locale: Annotated[str | None, typer.Option(metavar="NAME", help="Such as de_DE; default en_US.")] = None,
    due_days: Annotated[int | None, typer.Option(metavar="N", help="Days to pay; default 14.")] = None,
    purchase_order: Annotated[str | None, typer.Option(metavar="TEXT", help="The client's order number.")] = None,
    buyer_reference: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The client's own sign for it, such as a Leitweg-ID.")
    ] = None,
    series: Annotated[str | None, typer.Option(metavar="TEXT", help="What numbers begin with: INV-{year}-.")] = None,
    credit_series: Annotated[str | None, typer.Option(metavar="TEXT", help="Of credit notes: CN-{year}-.")] = None,
    logo: Annotated[Path | None, typer.Option(metavar="FILE", help="PNG, JPEG or SVG, 200 KB at most.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show who is billed, or bills: addresses, currency, taxes; or set what is said. A tenant has the agency's else."""
    given: dict[str, Any] = {
        "name": name,
        "address": _lines(address),
        "street": _lines(street),
        "postcode": postcode,
        "city": city,
        "contact": contact,
        "phone": phone,
        "email": email,
        "country": country.upper() if country is not None else None,
        "tax_id": tax_id,
        "payment": _lines(payment),
        "note": note,
        "currency": currency,
        "rate": rate,
        "taxes": _taxes(tax) if tax is not None else None,
        "vat_category": vat_category.upper() if vat_category is not None else None,
        "locale": locale,
        "due_days": due_days,
        "purchase_order": purchase_order,
        "buyer_reference": buyer_reference,
        "series": series,
        "credit_series": credit_series,
        "logo": _logo(logo) if logo is not None else None,
    }
    if tenant is not None and (series is not None or credit_series is not None):
        raise fail("--series is the agency's: numbers run over all tenants", USAGE)
    said = {key: value for key, value in given.items() if value is not None}
    try:
        check_details(Details(**said))
    except BadDetails as error:
        raise fail(str(error)) from None
    with opened() as at:
        if isinstance(at, Api):
            path = ("billing-details",) if tenant is None else ("tenants", tenant, "billing-details")
            found = at.write("PATCH", *path, body=said) if said else at.get(*path)
        else:
            found = _set_and_found(at, tenant, said)
    shown = {key: value for key, value in found.items() if value is not None and key != "logo"}
    shown |= {"logo": "a picture"} if found.get("logo") else {}
    if as_json:
        print_json(shown)
    else:
        print_table(["what", "value"], [[key, _shown(value)] for key, value in shown.items()])


def _set_and_found(site: Site, tenant: str | None, said: dict[str, Any]) -> dict[str, Any]:
    tenant_id = site.directory.get_tenant(tenant).tenant_id if tenant is not None else ""
    if said:
        set_billing(site, tenant, Details(**said).over(site.directory.billing_of(tenant_id)))
    return site.directory.billing_of(tenant_id).over(agency_details(site)).as_json()


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(f"{text} {percent}%" for text, percent in value)  # pyright: ignore[reportUnknownVariableType] -- taxes, the only ones
    return str(value).replace("\n", ", ")


def _lines(text: str | None) -> str | None:
    return text.replace("\\n", "\n") if text is not None else None


def _taxes(given: list[str]) -> tuple[tuple[str, str], ...]:
    if given == ["none"]:
        return ()
    found: list[tuple[str, str]] = []
    for one in given:
        text, equals, percent = one.rpartition("=")
        if not equals:
            raise fail(f"--tax is a text and a percent such as VAT=19, not {one[:40]!r}", USAGE)
        found.append((text.strip(), percent.strip().removesuffix("%")))
    return tuple(found)


def _logo(path: Path) -> str:
    try:
        return as_data_url(read_regular(path, LOGO_BYTES_MAX))
    except (OSError, ValueError) as error:
        raise fail(f"{path}: {getattr(error, 'strerror', None) or error}", USAGE) from None
