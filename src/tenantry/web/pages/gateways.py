"""Gateways, cells and control processes: which live, who grants for whom, and what of the dead is in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.controls import list_controls
from tenantry.control.live_everywhere import health_everywhere
from tenantry.control.site import Site
from tenantry.domain.roles import Permission, Principal
from tenantry.storage.directory import DirectoryError, NotInDirectory
from tenantry.storage.directory.gateways import LIVES, LOST, CellRecord, GatewayRecord
from tenantry.web.pages.showing import query, show
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.signin.sessions import acting
from tenantry.web.tokens import site_of

# A site may have thousands of cells: what is looked for is found by its name, its clients or its owner.
CELLS_SHOWN: Final = 200
# Of gateways that have ended and are booked, each restart leaves one.
ENDED_SHOWN: Final = 20


def show_gateways(request: Request, principal: Principal) -> Response:
    return _shown(request, principal, "gateways")


def show_parts(request: Request, principal: Principal) -> Response:
    """The part that changes, for htmx, while a cell moves."""
    return _shown(request, principal, "gateways_parts")


def _shown(request: Request, principal: Principal, template: str) -> Response:
    site, typed = site_of(request), query(request, "q")
    gateways, cells = site.directory.list_gateways(), site.directory.list_cells()
    found = [one for one in cells if _is_meant(one, typed["q"])]
    living = [one for one in gateways if one.state == LIVES]
    return show(
        request,
        principal,
        template,
        typed=typed,
        living=living,
        lone=_lone(site, gateways),
        doubtful=[one for one in gateways if is_in_doubt(one)],
        lost=[one for one in gateways if one.state == LOST],
        ended=_over(gateways)[:ENDED_SHOWN],
        ended_count=len(_over(gateways)),
        cells=found[:CELLS_SHOWN],
        found_count=len(found),
        cells_count=len(cells),
        is_moving=any(one.moves_to is not None and one.is_live for one in found[:CELLS_SHOWN]),
        may_move=principal.may(Permission.GATEWAYS_CHANGE) and len(living) > 1,
        controls=[
            (one, datetime.fromisoformat(one.since) if one.since else None)
            for one in list_controls(site.settings, site.engine)
        ],
        lease_seconds=site.settings.lease_seconds,
    )


def _lone(site: Site, gateways: Sequence[GatewayRecord]) -> list[str]:
    """Those that live and grant by themselves: the store knows nothing of them."""
    known = {one.gateway_id for one in gateways}
    return [one.run_id for one in health_everywhere(site.engine, site.settings.journal_dir) if one.run_id not in known]


def is_in_doubt(one: GatewayRecord) -> bool:
    """It has ended, and what it took of budgets is held until its journal is booked to its end."""
    return one.state not in (LIVES, LOST) and not one.is_booked


def _over(gateways: Sequence[GatewayRecord]) -> list[GatewayRecord]:
    return [one for one in gateways if one.state not in (LIVES, LOST) and one.is_booked]


def _is_meant(one: CellRecord, typed: str) -> bool:
    sought = typed.lower()
    return any(sought in name.lower() for name in (one.capacity, one.name, one.gateway_id, *one.tenants))


def ask_move(request: Request, principal: Principal) -> Response:
    return _move_form(request, principal, _cell_of(request), {})


def move(request: Request, principal: Principal) -> Response:
    cell, to = _cell_of(request), posted(request).get("to")
    try:
        acting(request, principal).move_cell(cell.name, to)
    except DirectoryError as error:
        return _move_form(request, principal, cell, {"form": str(error)})
    words = f"{cell.capacity} goes to {to} as soon as {cell.gateway_id} sees to it. Nobody is refused for it."
    return see_other(f"/gateways?q={quote(cell.capacity)}", words)


def _move_form(request: Request, principal: Principal, cell: CellRecord, problems: dict[str, str]) -> Response:
    gateways = site_of(request).directory.list_gateways()
    return show(
        request,
        principal,
        "cell_move",
        422 if problems else 200,
        cell=cell,
        heirs=[one for one in gateways if one.state == LIVES and one.gateway_id != cell.gateway_id],
        problems=problems,
    )


def _cell_of(request: Request) -> CellRecord:
    """The cell that the path names. Raises: HTTPException 404."""
    try:
        return site_of(request).directory.get_cell(str(request.path_params["name"]))
    except NotInDirectory as error:
        raise HTTPException(404, str(error)) from None
    except DirectoryError as error:
        raise HTTPException(409, str(error)) from None
