"""verify isolation: tries to break isolation between tenants on the running gateway."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenantry.cli.context import FAILED, USAGE, fail, opened_site
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, say

if TYPE_CHECKING:
    from tenantry.control.isolation.findings import Group, Report

app = typer.Typer(help="Prove what the gateway promises, on the running one.", no_args_is_help=True)

# On a terminal, the first of each group; the report has them all.
SHOWN_MAX = 5


@app.callback()
def verify() -> None:
    """Prove what the gateway promises, on the running one."""


@app.command()
def isolation(
    tenants: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Try these tenants, with throw-away keys, instead of throw-away tenants."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the report to this HTML file.")] = None,
    logs: Annotated[
        list[Path] | None, typer.Option(help="A log file or folder to search too; may be repeated.")
    ] = None,
    as_json: AsJson = False,
    quick: Annotated[bool, typer.Option("--quick", help="Less load: some seconds.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --tenants: send one real message for each.")] = False,
) -> None:
    """Try to get from one tenant into another; exit 1 if anything came through, with the request that did it."""
    from tenantry.control.isolation.engine import Options, begin, clean_site, prove_probes
    from tenantry.control.isolation.probes import ProofRunning
    from tenantry.control.isolation.real_tenants import prove_real
    from tenantry.control.isolation.waiting import ProofImpossible

    named = tuple(slug.strip() for slug in (tenants or "").split(",") if slug.strip())
    if tenants is not None and len(set(named)) < 2:
        raise fail("isolation is between tenants: name at least two different ones, as in --tenants acme,globex", USAGE)
    if report is not None and not report.parent.is_dir():
        raise fail(f"there is no folder {report.parent} for the report", USAGE)
    missing = [path for path in logs or [] if not path.exists()]
    if missing:
        raise fail(f"there is no log {missing[0]}", USAGE)
    if named and not yes:
        say("Real tenants: only refusals and free routes are sent, no messages (--yes allows one each).", err=True)
    options = Options(named, quick, yes, tuple(logs or ()))
    try:
        with _ended_like_ctrl_c(), opened_site() as site, clean_site(site) as leftovers:
            if leftovers:
                say(f"Removed what a run before had left: {', '.join(leftovers)}", err=True)
            stage = begin(site, options, _tell)
            done = prove_real(stage) if named else prove_probes(stage)
    except (ProofImpossible, ProofRunning) as error:
        raise fail(str(error)) from None
    _deliver(done, report, as_json)


def _deliver(done: Report, path: Path | None, as_json: bool) -> None:
    from tenantry.control.isolation.report import write_report

    if path is not None:
        try:
            write_report(done, path)
        except OSError as error:
            raise fail(f"the report could not be written: {error}") from None
    if as_json:
        print_json(done.as_json())
    else:
        tried = sum(len(group.checks) for group in done.groups)
        failed = sum(len(group.failures) for group in done.groups)
        say(f"{done.verdict}: {tried} checks, {failed} failed, {done.seconds} s, on {done.gateway}")
        if path is not None:
            say(f"Report: {path}")
    if not done.ok:
        raise typer.Exit(FAILED)


def _tell(group: Group) -> None:
    """One line for each group as it ends, and what failed in it."""
    colour = {"PASS": typer.colors.GREEN, "FAIL": typer.colors.RED}.get(group.verdict)
    typer.secho(f"{group.verdict:8}", fg=colour, bold=True, nl=False, err=True)
    say(f"{group.proves} ({group.not_run or f'{len(group.checks)} checks'})", err=True)
    for check in group.failures[:SHOWN_MAX]:
        say(f"        {check.tried}\n          expected {check.expected}\n          seen {check.seen}", err=True)
        if check.repeat:
            say(f"          {check.repeat}", err=True)
    if len(group.failures) > SHOWN_MAX:
        say(f"        and {len(group.failures) - SHOWN_MAX} more; --report or --json has them", err=True)


@contextmanager
def _ended_like_ctrl_c() -> Generator[None]:
    """A terminal that closes and `kill` end the run as Ctrl-C does, so that the probes are removed."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
