"""provision --from: many clients, with a bar on a terminal and a line for each in a pipe."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import typer

from tenantry.cli.context import FAILED, USAGE, fail, if_interrupted, opened_site
from tenantry.cli.output import print_json, say
from tenantry.control.bulk.clients import ClientsRefused, read_clients
from tenantry.control.bulk.keys_file import KeysFileUnusable, opened_keys_file
from tenantry.control.bulk.run import Outcome, Result, known_of, provision_clients
from tenantry.domain.printable import printable


def provision_from(source: Path, keys_out: Path, guides: Path, as_json: bool) -> typer.Exit:
    """Make the clients of a file; raise what this returns."""
    with opened_site() as site:
        try:
            clients = read_clients(source, known_of(site))
        except ClientsRefused as error:
            for problem in error.problems:
                say(f"tenantry: {problem}", err=True)
            raise fail(f"nothing was made: {len(error.problems)} to mend first", USAGE) from None
        try:
            outcomes: list[Outcome] = []
            again = f"clients are made, their keys in {keys_out}; the same command goes on"
            with (
                if_interrupted(lambda: f"{len(outcomes)} of {len(clients)} {again}"),
                opened_keys_file(keys_out) as keys,
            ):
                for one in _told(provision_clients(site, clients, keys, guides), len(clients)):
                    outcomes.append(one)
        except KeysFileUnusable as error:
            raise fail(str(error)) from None
    counts = Counter(one.result for one in outcomes)
    if as_json:
        made = [
            {"line": one.client.line, "tenant": one.client.slug, "result": one.result.value, "detail": one.detail}
            for one in outcomes
        ]
        print_json({"clients": made, "keys": str(keys_out)})
    else:
        say(", ".join(f"{count} {result.value}" for result in Result if (count := counts[result])))
        say(f"Keys    {keys_out} (readable by you alone; each is nowhere else)")
        say(f"Guides  {guides}")
    if counts[Result.FAILED]:
        say("tenantry: mend what failed and run the same command again; it goes on with what is missing", err=True)
    return typer.Exit(FAILED if counts[Result.FAILED] else 0)


def _told(outcomes: Iterable[Outcome], total: int) -> Iterator[Outcome]:
    """Each outcome as it comes, told on standard error."""
    if not sys.stderr.isatty():
        for one in outcomes:
            say(_line(one), err=True)
            yield one
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)
        for one in outcomes:
            if one.result is Result.FAILED:
                progress.console.print(_line(one), style="red", markup=False, highlight=False)
            progress.update(task, advance=1, description=one.client.slug)
            yield one


def _line(one: Outcome) -> str:
    return printable(
        f"  line {one.client.line}: {one.client.slug}: {one.result.value}: {one.detail}".replace("\n", " ")
    )
