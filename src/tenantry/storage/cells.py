"""Who owns which cells, in the store: claims, moves, and what owners take of budgets (decision 0021).

What is read here to decide does not change before it is written: SQLite has one writer, from its first statement on;
on PostgreSQL claims queue behind one lock, and lock the rows of leases and cells, so that a renewal or a ceiling that
is under way comes before them or sees what they have written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, and_, delete, func, select, update

from tenantry.domain.cells import FIRST_EPOCH, CellRow, Component, judge, names_to_read
from tenantry.domain.doubts import Taken
from tenantry.domain.values import value
from tenantry.storage.ceilings import raise_taken, settle_taken, taken_of, write_taken
from tenantry.storage.cell_tables import ceilings, cell_tenants, cells, gateways
from tenantry.storage.journals import booked_to_end
from tenantry.storage.leases import Lease, LeaseStore
from tenantry.storage.many import insert_of, rows_where
from tenantry.storage.tables import credentials, tenants, upstreams


@value
class Claimed:
    """What a claim came to: the owner of the tenant with its address, and what of the component is the claimant's.

    `cells` are the claimant's, each with its epoch; `pins` are those of the component's tenants. `is_whole`: the owner
    has all that the tenant draws on. `rested_us`: of the cells that were another's until now, for how long nobody has
    granted for them at least.
    """

    owner: str
    address: str
    cells: Mapping[str, int]
    pins: Mapping[str, str]
    is_whole: bool
    rested_us: Mapping[str, int]


@value
class Wish:
    """A cell is to be another gateway's. `address` is "" where that one does not live."""

    cell: str
    to: str
    address: str


@value
class Side:
    """What one living gateway owns of some cells: which, and how many tenants are pinned to them."""

    gateway_id: str
    address: str
    cells: tuple[str, ...]
    tenants: int


class CellStore(LeaseStore):
    """Cells, leases, and what was taken of budgets."""

    # Living again

    def rejoin(self, lease: Lease) -> tuple[dict[str, int], dict[str, str]]:
        """Live again: the cells that nobody has taken meanwhile, with their epochs, and the pins of their tenants."""
        with self.deciding(claims=True) as connection:
            connection.execute(
                update(gateways)
                .where(gateways.c.gateway_id == lease.gateway_id)
                .values(lease_until_us=self.now() + lease.lease_us, boot=self.boot, forgotten_at_us=None)
            )
            rows = connection.execute(select(cells.c.name, cells.c.epoch).where(cells.c.gateway_id == lease.gateway_id))
            mine = {row.name: int(row.epoch) for row in rows}
            return mine, _pins_of_cells(connection, [*mine])

    # Claims

    def claim(self, gateway_id: str, tenant_id: str, component: Component, at_us: int) -> Claimed | None:
        """Take what counts together with a tenant, where nobody alive owns it (`domain.cells.judge`).

        None: the claimant's own lease has run out.
        """
        with self.deciding(claims=True) as connection:
            pins = _pins_of(connection, [*component.homes])
            names = names_to_read(component, pins)
            rows, addresses = self._read_cells(connection, names, gateway_id)
            if gateway_id not in addresses:
                return None
            found = judge(gateway_id, tenant_id, component, rows, pins)
            epochs = {name: row.epoch for name, row in rows.items() if row.gateway_id == gateway_id and row.is_live}
            for name in found.take:
                epochs[name] = rows[name].epoch + 1 if name in rows else FIRST_EPOCH
            self._write_cells(connection, gateway_id, {name: epochs[name] for name in found.take}, at_us)
            self._write_pins(connection, found.pins)
            rested = self._rested(connection, {name: rows[name].gateway_id for name in found.take if name in rows})
            return Claimed(
                found.owner,
                addresses.get(found.owner, ""),
                epochs,
                pins | dict(found.pins),
                found.is_whole,
                rested,
            )

    def _rested(self, connection: Connection, owners: Mapping[str, str]) -> dict[str, int]:
        """For how long the leases of these cells' owners have run out; of those of another boot nothing is known."""
        if not owners:
            return {}
        query = select(gateways.c.gateway_id, self.now() - gateways.c.lease_until_us).where(
            gateways.c.gateway_id.in_({*owners.values()}), gateways.c.boot == self.boot
        )
        rested = {gateway_id: int(since) for gateway_id, since in connection.execute(query)}
        return {name: max(0, rested[owner]) for name, owner in owners.items() if owner in rested}

    def _read_cells(
        self, connection: Connection, names: Sequence[str], gateway_id: str
    ) -> tuple[dict[str, CellRow], dict[str, str]]:
        """The cells, and the addresses of those of their owners that live; the rows of both are locked."""
        query = select(cells.c.name, cells.c.gateway_id, cells.c.epoch).where(cells.c.name.in_(names))
        found = connection.execute(query.order_by(cells.c.name).with_for_update()).all()
        owners = {gateway_id, *(row.gateway_id for row in found)}
        # Locked, and only then asked whether it has run out: a renewal that is under way has its end first.
        connection.execute(
            select(gateways.c.number)
            .where(gateways.c.gateway_id.in_(owners))
            .order_by(gateways.c.number)
            .with_for_update()
        ).all()
        live = select(gateways.c.gateway_id, gateways.c.address).where(
            gateways.c.gateway_id.in_(owners), self.is_live()
        )
        addresses = {row.gateway_id: str(row.address) for row in connection.execute(live)}
        rows = {
            row.name: CellRow(row.name, row.gateway_id, int(row.epoch), row.gateway_id in addresses) for row in found
        }
        return rows, addresses

    def _write_cells(self, connection: Connection, gateway_id: str, epochs: Mapping[str, int], at_us: int) -> None:
        if not epochs:
            return
        statement = insert_of(connection.dialect, cells)
        new = statement.excluded
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[cells.c.name],
                set_={"gateway_id": new.gateway_id, "epoch": new.epoch, "since_us": new.since_us, "wanted_by": None},
            ),
            [
                {"name": name, "gateway_id": gateway_id, "epoch": epoch, "since_us": at_us}
                for name, epoch in epochs.items()
            ],
        )

    def _write_pins(self, connection: Connection, pins: Mapping[str, str]) -> None:
        if not pins:
            return
        statement = insert_of(connection.dialect, cell_tenants)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[cell_tenants.c.tenant_id], set_={"cell": statement.excluded.cell}
            ),
            [{"tenant_id": tenant_id, "cell": cell} for tenant_id, cell in pins.items()],
        )

    def repin(self, gateway_id: str, tenant_id: str, cell: str, to: str) -> bool:
        """The owner of the cell that a tenant is pinned to gives it to another cell. False: it is the owner no more."""
        with self.deciding(claims=True) as connection:
            if not self._owns(connection, gateway_id, tenant_id):
                return False
            changed = connection.execute(
                update(cell_tenants)
                .where(cell_tenants.c.tenant_id == tenant_id, cell_tenants.c.cell == cell)
                .values(cell=to)
            )
            return changed.rowcount == 1

    def give(
        self, gateway_id: str, epochs: Mapping[str, int], to: str, at_us: int, lowered: Sequence[Taken] = ()
    ) -> bool:
        """The owner of these cells, which grants nothing of them any more, makes them another's, all or none.

        `lowered`: what it has used of budgets and may still use. What is beyond that is the other one's to take, which
        counts the rest as it counts what a dead owner had taken. False: it is the owner no more, or the other one does
        not live.
        """
        with self.deciding(claims=True) as connection:
            rows, addresses = self._read_cells(connection, [*epochs], to)
            if to not in addresses or gateway_id not in addresses:
                return False
            if any(
                name not in rows or (rows[name].gateway_id, rows[name].epoch) != (gateway_id, epoch)
                for name, epoch in epochs.items()
            ):
                return False
            connection.execute(
                update(cells)
                .where(cells.c.name.in_([*epochs]))
                .values(gateway_id=to, epoch=cells.c.epoch + 1, since_us=at_us, wanted_by=None)
            )
            settle_taken(connection, lowered)
            return True

    def wish(self, name: str, to: str | None) -> None:
        """A cell is to be another gateway's; its owner sees to it. None: it stays where it is."""
        with self.engine.begin() as connection:
            wish(connection, name, to)

    def wishes(self, gateway_id: str) -> list[Wish]:
        """What of this gateway's is to be another's."""
        query = (
            select(cells.c.name, cells.c.wanted_by, gateways.c.address)
            .join(gateways, and_(gateways.c.gateway_id == cells.c.wanted_by, self.is_live()), isouter=True)
            .where(cells.c.gateway_id == gateway_id, cells.c.wanted_by.is_not(None))
            .order_by(cells.c.name)
        )
        with self.engine.connect() as connection:
            return [Wish(row.name, row.wanted_by, row.address or "") for row in connection.execute(query)]

    def sides(self, names: Sequence[str]) -> list[Side]:
        """Who that lives owns these cells."""
        pinned = select(cell_tenants.c.cell, func.count().label("pins")).group_by(cell_tenants.c.cell).subquery()
        query = (
            select(cells.c.name, gateways.c.gateway_id, gateways.c.address, pinned.c.pins)
            .join(gateways, gateways.c.gateway_id == cells.c.gateway_id)
            .join(pinned, pinned.c.cell == cells.c.name, isouter=True)
            .where(cells.c.name.in_(names), self.is_live())
            .order_by(cells.c.name)
        )
        found: dict[str, Side] = {}
        with self.engine.connect() as connection:
            for row in connection.execute(query):
                before = found.get(row.gateway_id, Side(row.gateway_id, row.address, (), 0))
                tenants = before.tenants + int(row.pins or 0)
                found[row.gateway_id] = Side(row.gateway_id, row.address, (*before.cells, row.name), tenants)
        return [*found.values()]

    def inherit(self, heir: str, gateway_ids: Collection[str], at_us: int) -> None:
        """All cells of these are the heir's, which has taken their place: they grant nothing any more."""
        if not gateway_ids:
            return
        with self.deciding(claims=True) as connection:
            connection.execute(
                update(cells)
                .where(cells.c.gateway_id.in_(gateway_ids))
                .values(gateway_id=heir, epoch=cells.c.epoch + 1, since_us=at_us)
            )
            connection.execute(
                update(gateways)
                .where(gateways.c.gateway_id.in_(gateway_ids), self.is_live())
                .values(lease_until_us=self.now())
            )

    def owner_of(self, tenant_id: str) -> tuple[str, str] | None:
        """Who grants for a tenant, and its address; None: nobody that lives."""
        query = (
            select(gateways.c.gateway_id, gateways.c.address)
            .join(cells, cells.c.gateway_id == gateways.c.gateway_id)
            .join(cell_tenants, cell_tenants.c.cell == cells.c.name)
            .where(cell_tenants.c.tenant_id == tenant_id, self.is_live())
        )
        with self.engine.connect() as connection:
            row = connection.execute(query).first()
        return (row.gateway_id, row.address) if row is not None else None

    def _owns(self, connection: Connection, gateway_id: str, tenant_id: str) -> bool:
        """Whether it lives, and owns the cell that the tenant is pinned to; both rows are kept as they are."""
        query = (
            select(gateways.c.number)
            .join(cells, cells.c.gateway_id == gateways.c.gateway_id)
            .join(cell_tenants, cell_tenants.c.cell == cells.c.name)
            .where(gateways.c.gateway_id == gateway_id, cell_tenants.c.tenant_id == tenant_id)
            .with_for_update(read=True)
        )
        if connection.execute(query).first() is None:
            return False
        live = select(gateways.c.number).where(gateways.c.gateway_id == gateway_id, self.is_live())
        return connection.execute(live).first() is not None

    # Ceilings

    def take(self, rows: Sequence[Taken]) -> list[Taken]:
        """Write what is taken, where the taker still owns the tenant; those that were written."""
        written: list[Taken] = []
        with self.deciding() as connection:
            for row in sorted(rows, key=lambda one: (one.tenant_id, one.key_id, one.unit)):
                if self._owns(connection, row.gateway_id, row.tenant_id):
                    write_taken(connection, row)
                    written.append(row)
        return written

    def lower(self, rows: Sequence[Taken]) -> None:
        """Of tenants that are granted for here no longer: what was used in all, and what stays here may use."""
        with self.engine.begin() as connection:
            settle_taken(connection, rows)

    def lend(self, owner: str, row: Taken) -> bool:
        """The owner of a tenant lets another gateway, which still has answers of it, take more. False: it is none."""
        with self.deciding() as connection:
            if not self._owns(connection, owner, row.tenant_id):
                return False
            return raise_taken(connection, row)

    def taken_by(self, gateway_id: str, tenant_id: str) -> list[Taken]:
        """What a gateway has taken of a tenant's accounts."""
        with self.engine.connect() as connection:
            return [one for one in taken_of(connection, [tenant_id], but=()) if one.gateway_id == gateway_id]

    def taken_by_others(self, tenant_ids: Sequence[str], us: Collection[str]) -> set[str]:
        """Those of these tenants of whose budgets others have taken something."""
        with self.engine.connect() as connection:
            return {one.tenant_id for one in taken_of(connection, tenant_ids, but=us)}

    def tidy(self) -> None:
        """What gateways had taken whose journals are booked to their end; and those of them that own nothing.

        What they owned is over where its credential and its tenants are gone: each proof of isolation leaves some.
        """
        booked, owners = booked_to_end(), select(cells.c.gateway_id)
        with self.engine.begin() as connection:
            over = select(gateways.c.gateway_id).where(gateways.c.gateway_id.in_(booked), ~self.is_live())
            pinned = select(cell_tenants.c.cell).join(tenants, tenants.c.tenant_id == cell_tenants.c.tenant_id)
            connection.execute(
                delete(cells).where(
                    cells.c.gateway_id.in_(over),
                    cells.c.name.not_in(select(credentials.c.credential_id)),
                    cells.c.name.not_in(select(upstreams.c.upstream_id)),
                    cells.c.name.not_in(pinned),
                )
            )
            connection.execute(delete(ceilings).where(ceilings.c.gateway_id.in_(booked)))
            connection.execute(
                delete(gateways).where(
                    gateways.c.gateway_id.in_(booked), gateways.c.gateway_id.not_in(owners), ~self.is_live()
                )
            )


def wish(connection: Connection, name: str, to: str | None) -> None:
    """As `CellStore.wish`, with what else is written of it."""
    connection.execute(update(cells).where(cells.c.name == name).values(wanted_by=to))


def _pins_of(connection: Connection, tenant_ids: Sequence[str]) -> dict[str, str]:
    rows = rows_where(connection, [*cell_tenants.c], cell_tenants.c.tenant_id, tenant_ids)
    return {row.tenant_id: row.cell for row in rows}


def _pins_of_cells(connection: Connection, names: Sequence[str]) -> dict[str, str]:
    rows = rows_where(connection, [*cell_tenants.c], cell_tenants.c.cell, names)
    return {row.tenant_id: row.cell for row in rows}
