"""plan, apply, drift: the file of tenants against the gateway."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantry.cli.context import FAILED, USAGE, confirm, fail, if_interrupted, opened, opened_site
from tenantry.cli.options import AsJson, Yes
from tenantry.cli.output import print_json, say
from tenantry.cli.remote.api import Api, ServerFailed
from tenantry.cli.remote.declared import ask_apply, ask_drift, ask_plan
from tenantry.control.declared.applying import (
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
from tenantry.control.declared.words import CUTS
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
    """The site of this machine, with `mistakes_told`."""
    with opened_site() as site, mistakes_told():
        yield site


@contextmanager
def mistakes_told() -> Generator[None]:
    """What is wrong in a file becomes messages and exit 2, what `apply` refuses a message and exit 1."""
    try:
        yield
    except (BadDeclaration, ServerFailed) as error:
        if not error.problems:
            raise
        for line in str(error).splitlines():
            say(f"tenantry: {line}", err=True)
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
    with opened() as at, mistakes_told():
        if isinstance(at, Api):
            if out is not None:
                raise fail("--out is for `apply` on the machine itself: leave it out with --server", USAGE)
            asked = ask_plan(at, files or [])
            plan, money = asked["document"], asked["money"]
        else:
            made = _planned(at, files or [], References(os.environ), is_file=False)
            if out is not None:
                write_plan(made, out)
            plan, money = made.as_json(), list(made.money.words())
    if as_json:
        print_json(plan)
    else:
        _print_plan(plan, money)
    if plan["changes"]:
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
    with opened() as at, mistakes_told():
        apply = _apply_there if isinstance(at, Api) else _apply_here
        failed = apply(at, files or [], yes, keys_out, not no_probe)  # pyright: ignore[reportArgumentType] -- by what it is
    if failed:
        raise fail(f"applied, but the live check failed for {named(failed)}")


def _apply_here(site: Site, files: list[Path], yes: bool, keys_out: Path | None, probe: bool) -> list[str]:
    """The new tenants for whom the live check failed."""
    references = References(os.environ)
    require_no_left_keys(site)
    plan = _planned(site, files, references)
    if not _is_agreed(plan.as_json(), list(plan.money.words()), yes):
        return []
    done = apply_plan(site, plan, references, keys_out=keys_out, statements=STATEMENTS)
    keys = [(one.tenant, one.label, endpoint_of(site.settings, one.tenant), one.text) for one in done.keys]
    _print_applied(list(map(str, done.statements)), keys, keys_out)
    with if_interrupted(lambda: "all changes are applied; not every new tenant was called"):
        probes = probe_new(site, plan, done.keys, _print_probe) if probe else []
    return [one.tenant for one in probes if not one.ok]


def _apply_there(api: Api, files: list[Path], yes: bool, keys_out: Path | None, probe: bool) -> list[str]:
    """The same, of a control that is asked. Closing statements stay there."""
    plan = ask_plan(api, files)
    if not _is_agreed(plan["document"], plan["money"], yes):
        return []
    done = ask_apply(api, files, plan, keys_out, probe=probe)
    keys = [(one["tenant"], one["label"], one["endpoint"], one["key"]) for one in done["keys"]]
    _print_applied([f"{one} (on the machine of control)" for one in done["statements"]], keys, keys_out)
    probes = [Probe(**one) for one in done["probes"]]
    for one in probes:
        _print_probe(one)
    return [one.tenant for one in probes if not one.ok]


def _is_agreed(plan: dict[str, Any], money: list[str], yes: bool) -> bool:
    """Whether there is something to be done, and it was agreed to."""
    _print_plan(plan, money)
    if not plan["changes"]:
        return False
    cuts = sum(change["action"] in CUTS for change in plan["changes"])
    also = f", cutting clients off by {cuts} of them" if cuts else ""
    confirm(f"Apply {_counted(len(plan['changes']), 'change')}{also}?", yes)
    return True


def named(slugs: list[str]) -> str:
    """Some by name, and how many more."""
    more = f" and {len(slugs) - NAMED_MAX} more" if len(slugs) > NAMED_MAX else ""
    return ", ".join(slugs[:NAMED_MAX]) + more


def drift_command(files: Files = None, as_json: AsJson = False) -> None:
    """What was changed by hand since the last apply, by whom and when. Exit 0 nothing, 1 differences."""
    with opened() as at, mistakes_told():
        if isinstance(at, Api):
            asked = ask_drift(at, files or [])
            found = [Difference(**one) for one in (*asked["by_hand"], *asked["not_applied"])]
        else:
            plan = _planned(at, files or [], References(os.environ), is_file=False)
            found = list(find_drift(plan, at.directory))
    by_hand = [one for one in found if one.actor is not None]
    waiting = [one for one in found if one.actor is None]
    if as_json:
        print_json({"by_hand": [one.as_json() for one in by_hand], "not_applied": [one.as_json() for one in waiting]})
    else:
        _print_drift(by_hand, waiting)
    if found:
        raise typer.Exit(FAILED)


def _planned(site: Site, files: list[Path], references: References, *, is_file: bool = True) -> Plan:
    """`is_file`: what is named may be a plan's file."""
    if not is_file or len(files) != 1 or files[0].suffix != ".json":
        return make_plan(site, read_files(find_files(files, Path()), site.settings.zone), references)
    declared, made = read_plan(files[0], site)
    plan = make_plan(site, declared, references)
    require_same(plan, made, site.directory)
    return plan


def _print_plan(plan: dict[str, Any], money: list[str]) -> None:
    """What `Plan.as_json` has, and what is said of money."""
    if not plan["changes"]:
        say("Nothing to do: the gateway is what the file says.")
        return
    for change in plan["changes"]:
        mark = "-" if change["action"] in CUTS else "+" if change["before"] is None else "~"
        say(f"  {mark} {change['words']}")
    for line in (*money, *plan["sessions"]):
        say(line)
    if plan["missing_secrets"]:
        say(f"Apply will need {', '.join(plan['missing_secrets'])}, not set here.")
    say(f"{_counted(len(plan['changes']), 'change')}.")


def _print_applied(statements: list[str], keys: list[tuple[str, str, str, str]], keys_out: Path | None) -> None:
    """`keys`: tenant, label, endpoint and text of each."""
    say("Applied.")
    for path in statements:
        say(f"Closing statement  {path}")
    if keys_out is not None and keys:
        say(f"{_counted(len(keys), 'new key')} in {keys_out} (mode 0600).")
        return
    for tenant, label, endpoint, text in keys:
        say(f"{tenant}  {label}  {endpoint}\n  {text}")
    if keys:
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
