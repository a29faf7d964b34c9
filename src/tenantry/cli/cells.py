"""cells list | move."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantry.cli.context import confirm, fail, if_interrupted, opened
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.remote.api import Api
from tenantry.control.gateway_views import cell_view

if TYPE_CHECKING:
    from tenantry.control.site import Site

app = typer.Typer(help="Cells: what counts together, and which gateway owns it.", no_args_is_help=True)
# Of the tenants of a cell, so many are named.
_NAMED_MAX = 3
# An owner hears of it when it renews its lease, ten times within one, which is five minutes at most.
_MOVE_SECONDS_MAX = 60.0
_LOOK_SECONDS = 0.1
_LOOK_THERE_SECONDS = 0.5


@app.command("list")
def list_cells(as_json: AsJson = False) -> None:
    """Every capacity that was claimed, its tenants, and the gateway that grants for them."""
    with opened() as at:
        if isinstance(at, Api):
            found = at.items("cells")
        else:
            found = [cell_view(one).as_json() for one in at.directory.list_cells()]
    if as_json:
        print_json(found)
        return
    if not found:
        say("No cell was claimed: they are where a tenant's first request comes in a cluster (docs/scaling.md).")
        return
    rows = [
        [
            one["capacity"],
            one["name"],
            _owner(one),
            one["since"],
            one["epoch"],
            len(one["tenants"]),
            ", ".join(one["tenants"][:_NAMED_MAX]) + (", ..." if len(one["tenants"]) > _NAMED_MAX else ""),
        ]
        for one in found
    ]
    columns = ["cell", "in the log", "owner", "since", "epoch", "tenants", "of whom"]
    print_table(columns, rows, right=["epoch", "tenants"])


def _owner(one: dict[str, Any]) -> str:
    if not one["is_live"]:
        return f"nobody ({one['gateway_id']} has ended)"
    return f"{one['gateway_id']} (goes to {one['moves_to']})" if one["moves_to"] else str(one["gateway_id"])


@app.command()
def move(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="As `cells list` names it.")],
    to: Annotated[str, typer.Option("--to", metavar="GATEWAY", help="As `gateways list` names it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let another gateway grant for the tenants of a cell, with all cells that tenants link with it.

    Nobody is refused for it: new requests go to the new owner, and the old one finishes what it is in the middle of.
    """
    with opened() as at:
        confirm(f"Move {cell} to {to}?", yes)
        if isinstance(at, Api):
            before = at.write("POST", "cells", cell, "move", body={"to": to})
        else:
            before = cell_view(at.directory.move_cell(cell, to)).as_json()
        capacity, owner = before["capacity"], before["gateway_id"]
        with if_interrupted(lambda: f"{capacity} goes to {to} as soon as {owner} sees to it"):
            after = _moved(at, before)
    if as_json:
        print_json(after)
    elif after["gateway_id"] == to:
        say(f"{capacity} is {to}'s now; what {owner} is in the middle of, it finishes.")
    if after["gateway_id"] != to and not after["is_live"]:
        raise fail(f"{after['gateway_id']}, whose {capacity} was, has ended; who gets the next request of it has it")
    if after["gateway_id"] != to and after["moves_to"] is not None:
        still = f"{capacity} is still {after['gateway_id']}'s, which has not seen to it in {_MOVE_SECONDS_MAX:.0f} s"
        raise fail(f"{still}; it goes to {to} as soon as it does")
    if after["gateway_id"] != to:
        raise fail(f"{capacity} is still {after['gateway_id']}'s; the log of that gateway says why")


def _moved(at: Site | Api, before: dict[str, Any]) -> dict[str, Any]:
    """The cell, once its owner has seen to it or has ended."""
    until = time.monotonic() + _MOVE_SECONDS_MAX
    while True:
        if isinstance(at, Api):
            found = at.get("cells", before["name"])
        else:
            found = cell_view(at.directory.get_cell(before["name"])).as_json()
        if found["moves_to"] is None or not found["is_live"] or time.monotonic() >= until:
            return found
        time.sleep(_LOOK_THERE_SECONDS if isinstance(at, Api) else _LOOK_SECONDS)
