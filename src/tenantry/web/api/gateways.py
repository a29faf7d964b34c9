"""Several gateways and control processes: which live, and who grants for whom."""

from __future__ import annotations

from typing import Final

from tenantry.control.controls import ControlView, list_controls, place_of
from tenantry.control.gateway_views import CellView, GatewayView, cell_view, gateway_view
from tenantry.domain.roles import Permission
from tenantry.web.api.changes import Name
from tenantry.web.api.operations import Call, Struct, operation
from tenantry.web.api.paging import Page, Paged, page_of


@operation("GET", "/gateways", Permission.SITE_READ)
def list_gateways(call: Call, query: Paged) -> Page[GatewayView]:
    """List every gateway that shares this store, and what it owns; the newest first."""
    known = call.site.directory.list_gateways()
    found = page_of(call, query, known, lambda one: (-one.since.timestamp(), one.gateway_id))
    return Page([gateway_view(one) for one in found.data], found.next)


@operation("POST", "/gateways/{gateway_id}/forget", Permission.GATEWAYS_CHANGE)
def forget_gateway(call: Call, gateway_id: str) -> GatewayView:
    """Declare the machine of a gateway lost, with its journal: what it had taken of budgets counts as spent."""
    call.site.directory.forget_gateway(gateway_id)
    return gateway_view(call.site.directory.get_gateway(gateway_id))


@operation("GET", "/cells", Permission.SITE_READ)
def list_cells(call: Call, query: Paged) -> Page[CellView]:
    """List every capacity that was claimed, its tenants, and the gateway that grants for them."""
    found = [cell_view(one) for one in call.site.directory.list_cells()]
    return page_of(call, query, found, lambda one: (one.capacity, one.name))


@operation("GET", "/cells/{cell}", Permission.SITE_READ)
def show_cell(call: Call, cell: str) -> CellView:
    """Show one, by its name or that of the credential or upstream whose capacity it is."""
    return cell_view(call.site.directory.get_cell(cell))


class Move(Struct):
    """`to`: a gateway that lives."""

    to: Name


@operation("POST", "/cells/{cell}/move", Permission.GATEWAYS_CHANGE, represents=show_cell, status=202)
def move_cell(call: Call, cell: str, body: Move) -> CellView:
    """Ask that another gateway grants for the tenants of a cell, with all cells that tenants link with it.

    Its owner sees to it, and `moves_to` is null when it has. No request is refused for it.
    """
    return cell_view(call.site.directory.move_cell(cell, body.to))


@operation("GET", "/controls", Permission.SITE_READ)
def list_control_processes(call: Call, query: Paged) -> Page[ControlView]:
    """List every control process that shares this store: who books its machine's journals, and who leads the site."""
    found = list_controls(call.site.settings, call.site.engine)
    return page_of(call, query, found, place_of)


OPERATIONS: Final = (
    list_gateways,
    forget_gateway,
    list_cells,
    show_cell,
    move_cell,
    list_control_processes,
)
