"""invoice: the invoice of a month, looked at or issued; for one tenant or for all."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantry.billing.books import SumsDiffer
from tenantry.billing.einvoice import require_complete
from tenantry.billing.invoice import NotBilled
from tenantry.billing.months import BadMonth, Month, month_before, read_month
from tenantry.billing.refusals import NotStructured
from tenantry.billing.render import (
    E_INVOICES,
    FORMATS,
    HTML,
    PREVIEW,
    NotRendered,
    ending_of,
    form_of,
    money,
    render,
    require_extra,
)
from tenantry.cli.context import FAILED, USAGE, confirm, fail, if_interrupted, opened_site
from tenantry.cli.options import AsJson, Yes
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.progress import told_share
from tenantry.control.invoicing import (
    Check,
    Passed,
    find_client,
    issue,
    issue_all,
    list_clients,
    preview,
    reading_books,
    require_over,
)
from tenantry.control.site import Site
from tenantry.domain.billing_details import PLAIN
from tenantry.domain.money import format_usd
from tenantry.ledger.exports import replacing

Form = Annotated[
    str | None,
    typer.Option("--format", metavar="NAME", help=f"{', '.join(FORMATS)}; default: what the name of --out ends in."),
]


def register(app: typer.Typer) -> None:
    app.command("invoice")(invoice)


def invoice(
    slug: Annotated[str | None, typer.Argument(help="The tenant's slug; or --all.")] = None,
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="Default: last month.")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every tenant that has or had a plan.")] = False,
    issues: Annotated[bool, typer.Option("--issue", help="Give it a number and keep it; default: a preview.")] = False,
    form: Form = None,
    out: Annotated[Path | None, typer.Option(metavar="PATH", help="A file; with --all a folder.")] = None,
    as_json: AsJson = False,
    yes: Yes = False,
) -> None:
    """The invoice of a month: looked at, or issued with a number; an interrupted `--all` goes on where it was."""
    check_form(form)
    if (slug is None) != everyone:
        raise fail("say which tenant, or --all", USAGE)
    if everyone and form is not None and out is None:
        raise fail("say where the files go: --out FOLDER", USAGE)
    with opened_site() as site:
        wanted = read_month_option(site, month)
        if issues:
            require_over(site, wanted)
            if slug is not None:
                find_client(site, slug)
            confirm(f"Issue {f'the invoice of {slug}' if slug else 'every invoice'} for {wanted}?", yes)
        if slug is None:
            _all(site, wanted, issues, form or HTML, out, as_json)
        else:
            _one(site, slug, wanted, issues, form, out, as_json)


def check_form(form: str | None) -> None:
    """Before anything is done: that there is such a format, and what makes it."""
    if form is None:
        return
    if form not in FORMATS:
        raise fail(f"--format is {', '.join(FORMATS)}, not {form[:20]!r}", USAGE)
    try:
        require_extra(form)
    except NotRendered as error:
        raise fail(str(error), USAGE) from None


def read_month_option(site: Site, text: str | None) -> Month:
    """The month that was named; the last that is over where none was."""
    try:
        return read_month(text) if text is not None else month_before(site.directory.today())
    except BadMonth as error:
        raise fail(str(error), USAGE) from None


def _one(site: Site, slug: str, month: Month, issues: bool, form: str | None, out: Path | None, as_json: bool) -> None:
    client, form = find_client(site, slug), form or (form_of(out) if out is not None else None)
    try:
        if issues:
            document: Mapping[str, Any] = issue(site, client, month, _check_of(form)).document
        else:
            with reading_books(site) as books:
                document = preview(site, books, client, month).document
    except (NotBilled, SumsDiffer, NotStructured) as error:
        raise fail(str(error)) from None
    if as_json:
        print_json(document)
    else:
        show_document(document)
    if form is not None:
        out = out or Path(file_name(document, form))
        write_document(document, form, out)
        say(f"Wrote {out}.", err=as_json)


def _check_of(form: str | None) -> Check:
    """What an e-invoice lacks is told before there is a number that cannot be given back."""
    return require_complete if form in E_INVOICES else lambda document: None


def file_name(document: Mapping[str, Any], form: str) -> str:
    """By its number, a preview by its month and client."""
    number = document.get("number", f"preview-{document['month']}-{document['client']['slug']}")
    return f"{number.replace('/', '-')}.{ending_of(form)}"


def show_document(document: Mapping[str, Any]) -> None:
    """For a person on a terminal."""
    number = document.get("number", PREVIEW)
    say(f"{document['client']['slug']}, {document['month']} ({document['time_zone']}): {number}")
    columns = ["what", "rows", "list price", "amount"]
    rows: list[list[object]] = [
        [
            line["text"],
            line["rows"] or "",
            format_usd(line["list_nanos"]) if line["rows"] else "",
            money(document, line["amount_minor"], PLAIN.locale),
        ]
        for line in document["lines"]
    ]
    for tax in document["taxes"]:
        rows.append([f"{tax['text']} {tax['percent']}%", "", "", money(document, tax["amount_minor"], PLAIN.locale)])
    rows.append(["total", "", "", money(document, document["total_minor"], PLAIN.locale)])
    print_table(columns, rows, right=columns[1:])


def write_document(document: Mapping[str, Any], form: str, path: Path) -> None:
    """A file for its owner only, whole or not at all."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(render(document, form))
    except NotRendered as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"{path} cannot be written: {error.strerror or error}") from None


def _all(site: Site, month: Month, issues: bool, form: str, folder: Path | None, as_json: bool) -> None:
    if issues:
        passed = _issue_all(site, month, form, folder)
    else:
        passed = _preview_all(site, month, form, folder)
    if as_json:
        print_json(passed)
    else:
        columns = ["tenant", "number", "total", "why not"]
        rows = [[one["tenant"], one["number"] or "", one["total"] or "", one["why_not"] or ""] for one in passed]
        print_table(columns, rows, right=("total",))
    if any(one["failed"] for one in passed):
        raise typer.Exit(FAILED)


def _issue_all(site: Site, month: Month, form: str, folder: Path | None) -> list[dict[str, Any]]:
    count = max(1, len(list_clients(site)))
    passed: list[dict[str, Any]] = []
    said = "what was issued is issued; the same command goes on with the others"
    with if_interrupted(lambda: said), told_share(sys.stderr, "issued") as came:
        for one in issue_all(site, month, _check_of(form)):
            document = one.issued.document if one.issued is not None else None
            if document is not None and folder is not None:
                write_document(document, form, folder / file_name(document, form))
            passed.append(_told(one, document))
            came(len(passed) / count)
    return passed


def _preview_all(site: Site, month: Month, form: str, folder: Path | None) -> list[dict[str, Any]]:
    passed: list[dict[str, Any]] = []
    with reading_books(site) as books:
        for client in list_clients(site):
            try:
                document = preview(site, books, client, month).document
            except NotBilled as reason:
                passed.append(_told(Passed(client.slug, None, str(reason)), None))
                continue
            except SumsDiffer as fault:
                passed.append(_told(Passed(client.slug, None, str(fault), failed=True), None))
                continue
            if folder is not None:
                write_document(document, form, folder / file_name(document, form))
            passed.append(_told(Passed(client.slug, None), document))
    return passed


def _told(passed: Passed, document: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "tenant": passed.slug,
        "number": document.get("number") if document else None,
        "total": money(document, document["total_minor"], PLAIN.locale) if document else None,
        "total_minor": document["total_minor"] if document else None,
        "currency": document["currency"] if document else None,
        "why_not": passed.why or None,
        "failed": passed.failed,
    }
