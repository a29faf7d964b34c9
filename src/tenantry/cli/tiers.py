"""tiers list | show | set."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tenantry.cli.context import USAGE, fail, opened
from tenantry.cli.limit_options import limit_options, shown
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.remote.api import Api
from tenantry.control.views import tier_views
from tenantry.domain.limits import LIMITS

app = typer.Typer(help="List, show, change and make tiers: named sets of limits.", no_args_is_help=True)

TierName = Annotated[str, typer.Argument(help="The tier's name.")]
# What tells tiers apart at a glance; `show` has the rest.
_LISTED = (
    "sessions_max",
    "requests_per_minute",
    "request_burst",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
    "models",
    "weight",
)


@app.command("list")
def list_tiers(as_json: AsJson = False) -> None:
    """All tiers, with the limits that differ most."""
    with opened() as at:
        if isinstance(at, Api):
            rows = at.items("tiers")
        else:
            rows = [one.as_json() for one in tier_views(at.directory.list_tiers(), at.directory.list_tenants())]
    if as_json:
        print_json(rows)
        return
    columns = ["tier", *(LIMITS[name].option for name in _LISTED), "tenants"]
    cells = [[row["name"], *(shown(row["limits"][name]) for name in _LISTED), row["tenants"]] for row in rows]
    print_table(columns, cells, right=columns[1:])


@app.command()
def show(name: TierName, as_json: AsJson = False) -> None:
    """Every limit of a tier."""
    with opened() as at:
        if isinstance(at, Api):
            found = at.get("tiers", name)
        else:
            (view,) = tier_views([at.directory.get_tier(name)], at.directory.list_tenants())
            found = view.as_json()
    if as_json:
        print_json(found)
        return
    rows = [[limit.option, shown(found["limits"][key]), limit.help] for key, limit in LIMITS.items()]
    print_table(["limit", "value", "what it is"], rows)


@app.command("set")
@limit_options(LIMITS)
def set_tier(name: TierName, limits: dict[str, Any]) -> None:
    """Change limits of a tier, or make a new one from the defaults; gateways follow within a second."""
    with opened() as at:
        is_remote = isinstance(at, Api)
        known = (
            {one["name"] for one in at.items("tiers")} if is_remote else {one.name for one in at.directory.list_tiers()}
        )
        if name in known and not limits:
            raise fail("say what to change, such as --sessions 20; `--help` has every limit", USAGE)
        if not is_remote:
            at.directory.set_tier(name, limits)
        elif name in known:
            at.write("PATCH", "tiers", name, body=limits)
        else:
            at.write("POST", "tiers", body={"name": name, "limits": limits})
    changed = ", ".join(f"{LIMITS[key].option} {shown(value)}" for key, value in limits.items()) or "the defaults"
    say(f"{name} {'has' if name in known else 'is a new tier with'} {changed}.")
