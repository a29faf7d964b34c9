"""invoice: the invoice of a month, looked at or issued; for one tenant or for all."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantry.billing.books import SumsDiffer
from tenantry.billing.invoice import NotBilled
from tenantry.billing.months import Month, month_before
from tenantry.billing.refusals import NotStructured
from tenantry.billing.render import (
    FORMATS,
    HTML,
    PREVIEW,
    NotRendered,
    find_form,
    money,
    require_extra,
)
from tenantry.cli.context import FAILED, USAGE, confirm, fail, if_interrupted, opened_site
from tenantry.cli.months import month_option
from tenantry.cli.options import AsJson, Yes
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.progress import told_share
from tenantry.control import invoice_files
from tenantry.control.completeness import MonthIncomplete, require_complete
from tenantry.control.invoice_files import check_of, file_name, keep_files, keep_preview, preview_name
from tenantry.control.invoicing import (
    Passed,
    find_client,
    issue,
    issue_all,
    list_clients,
    preview,
    preview_all,
    reading_books,
    require_issuable,
)
from tenantry.control.site import Site
from tenantry.domain.billing_details import PLAIN
from tenantry.domain.money import format_usd

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
    issues: Annotated[
        bool, typer.Option("--issue/--preview", help="Give it a number and keep it; or look at it, the default.")
    ] = False,
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
        wanted = month_option(month, month_before(site.directory.today()))
        if issues:
            require_issuable(site, wanted)
            if slug is not None:
                find_client(site, slug)
            confirm(f"Issue {f'the invoice of {slug}' if slug else 'every invoice'} for {wanted}?", yes)
        elif wanted.end <= site.directory.today():
            _tell_incomplete(site, wanted)
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


def form_for(out: Path) -> str:
    """What a file's name says; an ending that says nothing of ours is a mistake."""
    form = find_form(out)
    if form is None and out.suffix:
        raise fail(f"{out.name} ends in no format: name one by --format ({', '.join(FORMATS)})", USAGE)
    return form or HTML


def _tell_incomplete(site: Site, month: Month) -> None:
    """A preview of what may change still."""
    try:
        require_complete(site, month)
    except MonthIncomplete as reason:
        say(f"preliminary: {reason}", err=True)


def _one(site: Site, slug: str, month: Month, issues: bool, form: str | None, out: Path | None, as_json: bool) -> None:
    client, form = find_client(site, slug), form or (form_for(out) if out is not None else None)
    try:
        if issues:
            document: Mapping[str, Any] = issue(site, client, month, check_of([form or HTML])).document
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
        out = out or Path(file_of(document, form))
        write_document(document, form, out)
        say(f"Wrote {out}.", err=as_json)


def file_of(document: Mapping[str, Any], form: str) -> str:
    """By its number, a preview by its month and client."""
    number = document.get("number")
    return file_name(number, form) if number else preview_name(document["month"], document["client"]["slug"], form)


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
    with written(path):
        invoice_files.write_document(document, form, path)


@contextmanager
def written(path: Path) -> Generator[None]:
    """Says in words that a file, or a folder's files, cannot be written."""
    try:
        yield
    except NotRendered as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"{path} cannot be written: {error.strerror or error}") from None


def _all(site: Site, month: Month, issues: bool, form: str, folder: Path | None, as_json: bool) -> None:
    told = list(_issue_all(site, month, form, folder) if issues else _preview_all(site, month, form, folder))
    if as_json:
        print_json(told)
    else:
        columns = ["tenant", "number", "total", "why not"]
        rows = [[one["tenant"], one["number"] or "", one["total"] or "", one["why_not"] or ""] for one in told]
        print_table(columns, rows, right=("total",))
    if any(one["failed"] for one in told):
        raise typer.Exit(FAILED)


def _issue_all(site: Site, month: Month, form: str, folder: Path | None) -> Iterator[dict[str, Any]]:
    count, before = max(1, len(list_clients(site))), len(site.directory.list_invoices(month=str(month)))
    with if_interrupted(lambda: _issued_since(site, month, before)), told_share(sys.stderr, "issued") as came:
        for done, one in enumerate(issue_all(site, month, check=check_of([form])), 1):
            if folder is not None:
                with written(folder):
                    keep_files(site, one, [form], folder)
            yield _told(one, one.issued.document if one.issued is not None else None)
            came(done / count)


def _issued_since(site: Site, month: Month, before: int) -> str:
    """For who interrupts: what is kept, as the store has it."""
    numbers = [one.number for one in site.directory.list_invoices(month=str(month))[before:]]
    goes_on = "the same command goes on with the others"
    if not numbers:
        return f"nothing was issued; {goes_on}"
    which = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else numbers[0]
    return f"{len(numbers)} {'are' if len(numbers) > 1 else 'is'} issued ({which}); {goes_on}"


def _preview_all(site: Site, month: Month, form: str, folder: Path | None) -> Iterator[dict[str, Any]]:
    for one in preview_all(site, month):
        document = one.draft.document if one.draft is not None else None
        if folder is not None:
            with written(folder):
                keep_preview(one, [form], folder, str(month))
        yield _told(one, document)


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
