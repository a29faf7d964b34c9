"""Gateways of a site where several serve, and what they own: looked at, and declared lost (decision 0021)."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import func, select, update

from tenantry.domain.near import did_you_mean
from tenantry.domain.values import value
from tenantry.storage.cell_tables import ceilings, cell_tenants, cells, gateways
from tenantry.storage.cells import CellStore, wish
from tenantry.storage.directory.changes import Changes, DirectoryError, NotInDirectory
from tenantry.storage.journals import booked_to_end
from tenantry.storage.tables import credentials, tenants, upstreams

LIVES, ENDED, LOST = "lives", "ended", "lost"


@value
class GatewayRecord:
    """One life of a gateway process. `state`: it lives, has ended, or its machine was declared lost.

    `is_booked`: its journal is booked to its end, so that nothing of it is in doubt. `taken_nanos`: what it has taken
    of the budgets of tenants.
    """

    gateway_id: str
    address: str
    machine: str
    since: datetime
    state: str
    is_booked: bool
    cells: int
    tenants: int
    taken_nanos: int


@value
class CellRecord:
    """A capacity and whose it is. `capacity` is the credential's name, or the upstream's where that shares its own.

    `tenants`: the slugs of those that are pinned to it. `moves_to`: the gateway that it was asked to move to, until
    its owner has seen to that.
    """

    name: str
    capacity: str
    gateway_id: str
    is_live: bool
    epoch: int
    since: datetime
    tenants: tuple[str, ...]
    moves_to: str | None = None


class GatewayChanges(Changes):
    """Gateways and cells."""

    def list_gateways(self) -> list[GatewayRecord]:
        """The one that began last first."""
        live = {*self._cell_store().live()}
        owned = self.list_cells()
        counted = Counter(one.gateway_id for one in owned)
        granted = Counter(one.gateway_id for one in owned for _ in one.tenants)
        with self._engine.connect() as connection:
            booked = set(connection.execute(booked_to_end()).scalars())
            taken = (
                select(ceilings.c.gateway_id, func.sum(ceilings.c.taken))
                .where(ceilings.c.key_id == "", ceilings.c.unit == "nanos")
                .group_by(ceilings.c.gateway_id)
            )
            sums = {gateway_id: int(nanos) for gateway_id, nanos in connection.execute(taken)}
            rows = connection.execute(
                select(gateways).order_by(gateways.c.since_us.desc(), gateways.c.gateway_id)
            ).all()
        return [
            GatewayRecord(
                row.gateway_id,
                row.address.partition("#")[0],  # without what proves it
                row.machine,
                _time(row.since_us),
                LOST if row.forgotten_at_us is not None else LIVES if row.gateway_id in live else ENDED,
                row.gateway_id in booked,
                counted[row.gateway_id],
                granted[row.gateway_id],
                sums.get(row.gateway_id, 0),
            )
            for row in rows
        ]

    def list_cells(self) -> list[CellRecord]:
        """By the name of what they are of. One of a credential that is there no longer is none."""
        live = {*self._cell_store().live()}
        with self._engine.connect() as connection:
            names = {row.credential_id: row.name for row in connection.execute(select(credentials))}
            names |= {row.upstream_id: row.name for row in connection.execute(select(upstreams))}
            pinned: dict[str, list[str]] = {}
            query = select(cell_tenants.c.cell, tenants.c.slug).join(
                tenants, tenants.c.tenant_id == cell_tenants.c.tenant_id
            )
            for cell, slug in connection.execute(query.order_by(tenants.c.slug)):
                pinned.setdefault(cell, []).append(slug)
            rows = connection.execute(select(cells)).all()
        found = [
            CellRecord(
                row.name,
                names.get(row.name, row.name),
                row.gateway_id,
                row.gateway_id in live,
                int(row.epoch),
                _time(row.since_us),
                tuple(pinned.get(row.name, ())),
                row.wanted_by,
            )
            for row in rows
            if row.name in names or row.name in pinned
        ]
        return sorted(found, key=lambda one: (one.capacity, one.name))

    def move_cell(self, cell: str, to: str) -> CellRecord:
        """A cell is to be another gateway's, with all that tenants link with it; its owner sees to it in its time.

        `cell`: as `get_cell` finds it. Whose it was is returned.

        Raises:
            NotInDirectory: there is no such cell or gateway.
            DirectoryError: the gateway does not live, has the cell already, or nobody that lives could give it.
        """
        found = self.get_cell(cell)
        heir = self.get_gateway(to)
        if heir.state != LIVES:
            raise DirectoryError(f"{to} does not live; `tenantry gateways list` says which do")
        if found.is_live and found.gateway_id == to:
            raise DirectoryError(f"{found.capacity} is {to}'s already")
        if not found.is_live:
            raise DirectoryError(f"nobody that lives owns {found.capacity}: who gets the next request of it has it")
        with self._engine.begin() as connection:
            wish(connection, found.name, to)
            detail = {"capacity": found.capacity, "from": found.gateway_id, "to": to}
            self._audit(connection, "cell.move", found.name, detail)
        return replace(found, moves_to=to)

    def get_cell(self, name: str) -> CellRecord:
        """`name`: its own, or that of the credential or upstream whose capacity it is.

        Raises:
            NotInDirectory: there is no such cell.
            DirectoryError: several are called that.
        """
        cells = self.list_cells()
        found = [one for one in cells if name in (one.name, one.capacity)]
        if not found:
            known = [one.capacity for one in cells]
            meant = did_you_mean(name, known, "`tenantry cells list` names them")
            for one in cells:
                if name in one.tenants:
                    meant = f"the tenant {name} is of the cell {one.capacity}"
            raise NotInDirectory(f"there is no cell {name!r}; {meant}")
        if len(found) > 1:
            names = ", ".join(one.name for one in found)
            raise DirectoryError(f"{len(found)} cells are called {name!r}; name one of {names}")
        return found[0]

    def get_gateway(self, gateway_id: str) -> GatewayRecord:
        """Raises: NotInDirectory."""
        known = {one.gateway_id: one for one in self.list_gateways()}
        if gateway_id not in known:
            meant = did_you_mean(gateway_id, known, "`tenantry gateways list` names them")
            raise NotInDirectory(f"there is no gateway {gateway_id!r}; {meant}")
        return known[gateway_id]

    def forget_gateway(self, gateway_id: str) -> None:
        """Its machine is lost, with its journal: what it has taken of budgets counts as spent from now on.

        Raises:
            NotInDirectory: there is no such gateway.
            DirectoryError: it lives, or its journal is booked to its end, so that nothing is in doubt.
        """
        found = self.get_gateway(gateway_id)
        if found.state == LIVES:
            raise DirectoryError(
                f"{gateway_id} lives: stop it first. One that has died is known to have when its lease has run out"
            )
        if found.is_booked:
            raise DirectoryError(f"the journal of {gateway_id} is booked to its end: nothing of it is in doubt")
        if found.state == LOST:
            return
        with self._engine.begin() as connection:
            at_us = time.time_ns() // 1000
            connection.execute(
                update(gateways).where(gateways.c.gateway_id == gateway_id).values(forgotten_at_us=at_us)
            )
            detail = {"machine": found.machine, "taken_nanos": found.taken_nanos}
            self._audit(connection, "gateway.forget", gateway_id, detail)

    def _cell_store(self) -> CellStore:
        return CellStore(self._engine)


def _time(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC)
