"""plan, apply, drift: the file of tenants against the gateway."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tenantry.cli.context import FAILED, USAGE, confirm, fail, if_interrupted, opened_site
from tenantry.cli.options import AsJson, Yes
from tenantry.cli.output import print_json, say
from tenantry.control.declared.applying import (
    Applied,
    ApplyRefused,
    Probe,
    apply_plan,
    probe_new,
    require_no_left_keys,
    require_same,
)
from tenantry.control.declared.drifting import Difference, find_drift
from tenantry.control.declared.model import BadDeclaration
from tenantry.control.declared.planning import Plan, make_plan, read_plan, write_plan
from tenantry.control.declared.reader import find_files, read_files
from tenantry.control.declared.references import References
from tenantry.control.declared.words import CUTS, in_words
from tenantry.control.site import Site, endpoint_of

STATEMENTS = Path("statements")
# A last line is read whole; each check that failed has a line of its own above it.
NAMED_MAX = 10

Files = Annotated[
    list[Path] | None,
    typer.Argument(help="Files of tenants, or folders of them; default: tenants.toml and tenants.d/*.toml."),
]


def register(app: typer.Typer) -> None:
    app.command("plan")(plan_command)
    app.command("apply")(apply_command)
    app.command("drift")(drift_command)


@contextmanager
def declared_site() -> Generator[Site]:
    """The site; what is wrong in a file becomes messages and exit 2, what `apply` refuses a message and exit 1."""
    with opened_site() as site:
        try:
            yield site
        except BadDeclaration as error:
            for problem in error.problems:
                say(f"tenantry: {problem}", err=True)
            raise typer.Exit(USAGE) from None
        except ApplyRefused as error:
            raise fail(str(error)) from None
        except OSError as error:
            raise fail(f"{error.filename}: {error.strerror or error}") from None


def plan_command(
    files: Files = None,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(help="Write the plan here, for `apply`.")] = None,
) -> None:
    """What would change, and what that does to money and running requests. Exit 0 nothing, 1 changes, 2 bad file."""
    with declared_site() as site:
        plan = make_plan(site, read_files(find_files(files or [], Path()), site.settings.zone), References(os.environ))
        if out is not None:
            write_plan(plan, out)
    if as_json:
        print_json(plan.as_json())
    else:
        _print_plan(plan)
    if plan.changes:
        raise typer.Exit(FAILED)


def apply_command(
    files: Annotated[list[Path] | None, typer.Argument(help="As for `plan`, or a plan.json that it wrote.")] = None,
    yes: Yes = False,
    keys_out: Annotated[
        Path | None, typer.Option(help="Write new keys here (mode 0600), one JSON object a line; show none.")
    ] = None,
    no_probe: Annotated[bool, typer.Option("--no-probe", help="Make no live call for new tenants.")] = False,
) -> None:
    """Make it so: the whole plan in one transaction, or nothing. New keys are shown once."""
    references = References(os.environ)
    with declared_site() as site:
        require_no_left_keys(site)
        plan = _planned(site, files or [], references)
        _print_plan(plan)
        if not plan.changes:
            return
        cuts = sum(change.action in CUTS for change in plan.changes)
        also = f", cutting clients off by {cuts} of them" if cuts else ""
        confirm(f"Apply {_counted(len(plan.changes), 'change')}{also}?", yes)
        done = apply_plan(site, plan, references, keys_out=keys_out, statements=STATEMENTS)
        _print_applied(site, done, keys_out)
        with if_interrupted(lambda: "all changes are applied; not every new tenant was called"):
            probes = [] if no_probe else probe_new(site, plan, done.keys, _print_probe)
    failed = [probe.tenant for probe in probes if not probe.ok]
    if failed:
        raise fail(f"applied, but the live check failed for {named(failed)}")


def named(slugs: list[str]) -> str:
    """Some by name, and how many more."""
    more = f" and {len(slugs) - NAMED_MAX} more" if len(slugs) > NAMED_MAX else ""
    return ", ".join(slugs[:NAMED_MAX]) + more


def drift_command(files: Files = None, as_json: AsJson = False) -> None:
    """What was changed by hand since the last apply, by whom and when. Exit 0 nothing, 1 differences."""
    with declared_site() as site:
        plan = make_plan(site, read_files(find_files(files or [], Path()), site.settings.zone), References(os.environ))
        found = list(find_drift(plan, site.directory))
    by_hand = [one for one in found if one.actor is not None]
    waiting = [one for one in found if one.actor is None]
    if as_json:
        print_json({"by_hand": [one.as_json() for one in by_hand], "not_applied": [one.as_json() for one in waiting]})
    else:
        _print_drift(by_hand, waiting)
    if found:
        raise typer.Exit(FAILED)


def _planned(site: Site, files: list[Path], references: References) -> Plan:
    if len(files) != 1 or files[0].suffix != ".json":
        return make_plan(site, read_files(find_files(files, Path()), site.settings.zone), references)
    declared, made = read_plan(files[0], site)
    plan = make_plan(site, declared, references)
    require_same(plan, made, site.directory)
    return plan


def _print_plan(plan: Plan) -> None:
    if not plan.changes:
        say("Nothing to do: the gateway is what the file says.")
        return
    for change in plan.changes:
        say(f"  {'-' if change.action in CUTS else '+' if change.before is None else '~'} {in_words(change)}")
    for line in plan.money.words():
        say(line)
    for line in plan.sessions:
        say(line)
    if plan.missing:
        say(f"Apply will need {', '.join(plan.missing)}, not set here.")
    say(f"{_counted(len(plan.changes), 'change')}.")


def _print_applied(site: Site, done: Applied, keys_out: Path | None) -> None:
    say("Applied.")
    for path in done.statements:
        say(f"Closing statement  {path}")
    if keys_out is not None and done.keys:
        say(f"{_counted(len(done.keys), 'new key')} in {keys_out} (mode 0600).")
        return
    for key in done.keys:
        say(f"{key.tenant}  {key.label}  {endpoint_of(site.settings, key.tenant)}\n  {key.text}")
    if done.keys:
        say("(keys are shown only now)")


def _print_probe(probe: Probe) -> None:
    say(f"{'ok  ' if probe.ok else 'FAIL'} live check of {probe.tenant}: {probe.text}")


def _print_drift(by_hand: list[Difference], waiting: list[Difference]) -> None:
    if not by_hand and not waiting:
        say("No drift: the gateway is what the file says.")
    for one in by_hand:
        say(f"  {one.text}\n      {one.action} by {one.actor} at {one.at}; apply would do: {one.undo}")
    if waiting:
        say("Not by hand since the last apply; the file was not applied yet:")
    for one in waiting:
        say(f"  {one.text}; apply would do: {one.undo}")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
