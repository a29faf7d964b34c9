"""invoice: the invoice of a month, looked at or issued; for one tenant or for all."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantry.billing.months import month_before
from tenantry.billing.render import (
    E_INVOICES,
    FORMATS,
    HTML,
    PREVIEW,
    NotRendered,
    find_form,
    require_extra,
)
from tenantry.cli.billed import Billed, Elsewhere, Here
from tenantry.cli.context import FAILED, USAGE, confirm, fail, if_interrupted, opened
from tenantry.cli.months import month_option
from tenantry.cli.options import AsJson, Yes
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.progress import told_share
from tenantry.cli.remote.api import Api
from tenantry.cli.remote.server import NAMED
from tenantry.control.invoice_files import file_name, preview_name
from tenantry.control.invoice_views import amount_of, billing_month_view
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
    wanted = month_option(month)
    if slug is not None and form is None and out is not None:
        form = form_for(out)
    with opened() as at:
        if isinstance(at, Api):
            billed = at.get("billing-months", str(wanted or "last"))
            books: Billed = Elsewhere(at, billed["month"])
        else:
            wanted = wanted or month_before(at.directory.today())
            billed = billing_month_view(at, wanted).as_json()
            books = Here(at, wanted)
        if issues and billed["why_not_issuable"] is not None:
            raise fail(billed["why_not_issuable"])
        if slug is not None:
            books.require_client(slug)
        if issues:
            confirm(f"Issue {f'the invoice of {slug}' if slug else 'every invoice'} for {billed['month']}?", yes)
        elif billed["is_over"] and billed["why_not_issuable"] is not None:
            say(f"preliminary: {billed['why_not_issuable']}", err=True)
        if slug is None:
            _all(books, billed["month"], issues, form or HTML, out, as_json)
        else:
            _one(books, slug, issues, form, out, as_json)


def check_form(form: str | None) -> None:
    """Before anything is done: that there is such a format, and what makes it."""
    if form is None:
        return
    if form not in FORMATS:
        raise fail(f"--format is {', '.join(FORMATS)}, not {form[:20]!r}", USAGE)
    if NAMED.get() is not None:
        return  # what draws it is at the machine of control
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


def _one(books: Billed, slug: str, issues: bool, form: str | None, out: Path | None, as_json: bool) -> None:
    document, draw = books.issue(slug, form or HTML) if issues else books.preview(slug)
    if as_json:
        print_json(document)
    else:
        show_document(document)
    if form is not None:
        out = out or Path(file_of(document, form))
        write_file(draw(form), out)
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
            amount_of(document, line["amount_minor"]),
        ]
        for line in document["lines"]
    ]
    for tax in document["taxes"]:
        rows.append([f"{tax['text']} {tax['percent']}%", "", "", amount_of(document, tax["amount_minor"])])
    rows.append(["total", "", "", amount_of(document, document["total_minor"])])
    print_table(columns, rows, right=columns[1:])


def write_file(data: bytes, path: Path, place: Path | None = None) -> None:
    """A file for its owner only, whole or not at all. `place`: what is told where it cannot be written."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(data)
    except OSError as error:
        raise fail(f"{place or path} cannot be written: {error.strerror or error}") from None


def _all(books: Billed, month: str, issues: bool, form: str, folder: Path | None, as_json: bool) -> None:
    told: list[dict[str, Any]] = []
    what, words = ("issued", books.words_if_interrupted) if issues else ("looked at", lambda: "nothing was issued")
    with if_interrupted(words), told_share(sys.stderr, what) as came:
        for one in books.issue_all(form) if issues else books.preview_all():
            if folder is not None:
                path = _place(one.passed, issues, form, month)
                if path is not None and not (issues and (folder / path).exists()):
                    write_file(one.draw(form), folder / path, folder)
            told.append(one.passed)
            came(one.share)
    if as_json:
        print_json(told)
    else:
        columns = ["tenant", "number", "total", "why not"]
        rows = [[one["tenant"], one["number"] or "", one["total"] or "", one["why_not"] or ""] for one in told]
        print_table(columns, rows, right=("total",))
    if any(one["failed"] for one in told):
        raise typer.Exit(FAILED)


def _place(passed: dict[str, Any], issues: bool, form: str, month: str) -> str | None:
    """The name of its file: of what was issued, now or before; of what was looked at.

    Whoever is killed between a number and its file finds the file the next time. An e-invoice has a number.
    """
    if issues:
        number = passed["number"] or passed["standing"]
        return file_name(number, form) if number is not None else None
    return preview_name(month, passed["tenant"], form) if passed["total"] and form not in E_INVOICES else None
