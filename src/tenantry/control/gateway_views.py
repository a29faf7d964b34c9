"""Gateways of a cluster and what they own, as a person sees them: for commands, API and pages."""

from __future__ import annotations

from tenantry.control.views import View
from tenantry.domain.money import format_usd
from tenantry.domain.printable import stamp
from tenantry.domain.values import value
from tenantry.storage.directory.gateways import CellRecord, GatewayRecord


@value
class GatewayView(View):
    """A life of a gateway process. `state`: lives, ended, or lost: its machine was declared lost.

    `is_booked`: nothing of it is in doubt. `taken_nanos`: what it has taken of the budgets of tenants.
    """

    gateway_id: str
    address: str
    machine: str
    since: str
    state: str
    is_booked: bool
    cells: int
    tenants: int
    taken_nanos: int
    taken_usd: str


@value
class CellView(View):
    """What counts together, and whose it is. `capacity`: the credential, or the upstream, whose capacity it is.

    `is_live`: its owner lives. `moves_to`: the gateway that it was asked to move to; null: it stays.
    """

    name: str
    capacity: str
    gateway_id: str
    is_live: bool
    epoch: int
    since: str
    tenants: list[str]
    moves_to: str | None


def gateway_view(one: GatewayRecord) -> GatewayView:
    return GatewayView(
        one.gateway_id,
        one.address,
        one.machine,
        stamp(one.since),
        one.state,
        one.is_booked,
        one.cells,
        one.tenants,
        one.taken_nanos,
        format_usd(one.taken_nanos),
    )


def cell_view(one: CellRecord) -> CellView:
    return CellView(
        one.name,
        one.capacity,
        one.gateway_id,
        one.is_live,
        one.epoch,
        stamp(one.since),
        list(one.tenants),
        one.moves_to,
    )
