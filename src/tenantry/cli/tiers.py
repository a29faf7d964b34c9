"""tiers list | show | set."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tenantry.cli.context import USAGE, fail, opened_site
from tenantry.cli.limit_options import limit_options, shown
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, print_table, say
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
    with opened_site() as site:
        views = tier_views(site.directory.list_tiers(), site.directory.list_tenants())
    if as_json:
        print_json([view.as_json() for view in views])
        return
    columns = ["tier", *(LIMITS[name].option for name in _LISTED), "tenants"]
    cells = [[view.name, *(shown(view.limits[name]) for name in _LISTED), view.tenants] for view in views]
    print_table(columns, cells, right=columns[1:])


@app.command()
def show(name: TierName, as_json: AsJson = False) -> None:
    """Every limit of a tier."""
    with opened_site() as site:
        tier = site.directory.get_tier(name)
        (view,) = tier_views([tier], site.directory.list_tenants())
    if as_json:
        print_json(view.as_json())
        return
    rows = [[limit.option, shown(getattr(tier.limits, key)), limit.help] for key, limit in LIMITS.items()]
    print_table(["limit", "value", "what it is"], rows)


@app.command("set")
@limit_options(LIMITS)
def set_tier(name: TierName, limits: dict[str, Any]) -> None:
    """Change limits of a tier, or make a new one from the defaults; gateways follow within a second."""
    with opened_site() as site:
        known = {tier.name for tier in site.directory.list_tiers()}
        if name in known and not limits:
            raise fail("say what to change, such as --sessions 20; `--help` has every limit", USAGE)
        site.directory.set_tier(name, limits)
    changed = ", ".join(f"{LIMITS[key].option} {shown(value)}" for key, value in limits.items()) or "the defaults"
    say(f"{name} {'has' if name in known else 'is a new tier with'} {changed}.")
