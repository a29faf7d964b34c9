"""import env-file | litellm: from another proxy's configuration to this gateway's files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from tenantry.cli.context import USAGE, fail
from tenantry.cli.output import print_json, print_table, say
from tenantry.control.importing.env_file import import_env_file
from tenantry.control.importing.files import next_steps, read_text, texts_of
from tenantry.control.importing.litellm import import_litellm
from tenantry.control.importing.report import Imported, ImportRefused, Report, read_grace
from tenantry.control.importing.writing import WouldOverwrite, write_files

app = typer.Typer(
    help="Move over from another proxy: say what each line becomes, and write tenantry.toml and tenants.toml.",
    no_args_is_help=True,
)

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for both files.")]
Grace = Annotated[str, typer.Option(help="How long the old proxy keys go on working: 30d, 4w; 0 for not at all.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")]
HERE = Path()


@app.command("env-file")
def env_file(
    path: Annotated[Path, typer.Argument(metavar="ENV_FILE", help="The file, such as .env.proxy.")],
    routes: Annotated[Path | None, typer.Option(metavar="FILE", help="tenant-routes.json.")] = None,
    out: Out = HERE,
    grace: Grace = "30d",
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Import the classic .env.proxy and tenant-routes.json."""
    today, until = _dates(grace)

    def read(report: Report) -> Imported:
        text = read_text(path, report)
        found = read_text(routes, report) if routes is not None else None
        if text is None:
            raise ImportRefused(report.problems)
        named = (str(routes), found) if routes is not None and found is not None else None
        return import_env_file((str(path), text), named, until, report)

    imported = _read(read)
    texts = texts_of(imported, "env-file", str(path), today)
    _finish(imported, texts, path, out, as_json, force)


@app.command("litellm")
def litellm(
    path: Annotated[Path, typer.Argument(metavar="CONFIG", help="LiteLLM's config.yaml.")],
    out: Out = HERE,
    grace: Grace = "30d",
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Import what has a meaning here of a LiteLLM proxy's config.yaml; list the rest."""
    today, until = _dates(grace)

    def read(report: Report) -> Imported:
        text = read_text(path, report)
        if text is None:
            raise ImportRefused(report.problems)
        return import_litellm(str(path), text, until, report)

    imported = _read(read)
    _finish(imported, texts_of(imported, "litellm", str(path), today), None, out, as_json, force)


def _dates(grace: str) -> tuple[date, date | None]:
    """Today, and the last day of the grace (None: there is none)."""
    today = datetime.now(UTC).date()
    try:
        span = read_grace(grace)
    except ValueError as error:
        raise fail(f"--grace {error}", USAGE) from None
    return today, today + span if span > timedelta() else None


def _read(read: Callable[[Report], Imported]) -> Imported:
    """The import, or exit 2 with every problem."""
    try:
        return read(Report())
    except ImportRefused as error:
        for problem in error.problems:
            say(f"tenantry: {problem}", err=True)
        raise fail(f"nothing was written: {len(error.problems)} to mend first", USAGE) from None


def _finish(
    imported: Imported, texts: dict[str, str], sourced: Path | None, out: Path, as_json: bool, force: bool
) -> None:
    try:
        paths = write_files(out, texts, force=force)
    except WouldOverwrite as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"the files could not be written: {error}") from None
    steps = next_steps(imported, sourced, out)
    if as_json:
        lines = [
            {"file": one.source, "line": one.line, "name": one.name, "fate": one.fate.value, "becomes": one.becomes}
            for one in imported.lines
        ]
        files = [str(path) for path in paths]
        print_json({"lines": lines, "warnings": imported.warnings, "files": files, "next": steps})
        return
    rows = [[one.place, one.name, one.fate.value, one.becomes] for one in imported.lines]
    print_table(["line", "name", "fate", "what it becomes, or why not"], rows)
    for warning in imported.warnings:
        say(f"Mind: {warning}", err=True)
    say(f"\nWrote {' and '.join(str(path) for path in paths)}. Read them, then:\n")
    for step in steps:
        say(f"  {step}")
