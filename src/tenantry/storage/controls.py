"""Control processes that share a store on PostgreSQL: who lives, and who leads (decision 0024). Time is its server's.

That two lead for a moment is possible, and does no harm: what is done is done once by what stands in the store. A lease
keeps them from doing it side by side, and says who goes on when one is gone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    delete,
    func,
    insert,
    select,
    update,
)

from tenantry.domain.values import value
from tenantry.storage.cell_tables import gateways
from tenantry.storage.control_tables import controls, leaders, live_records
from tenantry.storage.journals import booked_to_end
from tenantry.storage.leases import joined_of
from tenantry.storage.many import insert_of
from tenantry.storage.server import server_us

# The periodic work of the whole site: alerts, exports, invoices, summaries.
SITE: Final = "site"
# Renewed five times within itself: another control takes over within six seconds.
LEASE_US: Final = 5_000_000
# So long it is told that a control has ended.
_KEPT_US: Final = 24 * 3600 * 1_000_000


@value
class ControlRecord:
    """A control process. `is_booking`: the journals of its machine; `is_leading`: it does the work of the site."""

    control_id: str
    machine: str
    pid: int
    address: str
    since_us: int
    is_live: bool
    is_booking: bool
    is_leading: bool


@value
class Renewal:
    """Where a control stands after a renewal. `live`: how many there are, itself among them."""

    is_leading: bool
    live: int


@value
class _Newest:
    """The newest gateway of a machine. `has_joined`: it is one of several, or was."""

    machine: str
    run_id: str
    has_joined: bool


class ControlStore:
    """The rows of controls and leaders."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def join(self, one: ControlRecord) -> None:
        """Raises: SQLAlchemyError."""
        with self._engine.begin() as connection:
            connection.execute(delete(controls).where(controls.c.lease_until_us < server_us() - _KEPT_US))
            living = select(controls.c.control_id).where(_is_live())
            connection.execute(delete(live_records).where(live_records.c.control_id.not_in(living)))
            connection.execute(
                insert(controls).values(
                    control_id=one.control_id,
                    machine=one.machine,
                    pid=one.pid,
                    address=one.address,
                    since_us=one.since_us,
                    lease_until_us=server_us() + LEASE_US,
                    is_booking=one.is_booking,
                    runs="",
                )
            )

    def renew(self, control_id: str, runs: Collection[str], *, is_booking: bool, at_us: int) -> Renewal | None:
        """Go on living, and lead where nobody alive does. None: its row is gone. `at_us` is unix time.

        `runs`: of journals, that it finds on its machine. Who books none does not lead: what it would tell rests on
        what is booked.
        """
        with self._engine.begin() as connection:
            mine = update(controls).where(controls.c.control_id == control_id)
            told = {"is_booking": is_booking, "runs": "\n".join(runs)}
            if not connection.execute(mine.values(lease_until_us=server_us() + LEASE_US, **told)).rowcount:
                return None
            leader, live = connection.execute(select(_leader(), _count_live())).one()
            if is_booking and leader is None:
                leader = self._take(connection, control_id, at_us)
            elif leader == control_id and not is_booking:
                connection.execute(delete(leaders).where(leaders.c.control_id == control_id))
                leader = None
        return Renewal(leader == control_id, int(live))

    def _take(self, connection: Connection, control_id: str, at_us: int) -> str | None:
        new = insert_of(connection.dialect, leaders).values(name=SITE, control_id=control_id, since_us=at_us)
        taken = new.on_conflict_do_update(
            index_elements=[leaders.c.name],
            set_={"control_id": new.excluded.control_id, "since_us": new.excluded.since_us},
            where=~_is_led_by_living(),
        )
        return connection.execute(taken.returning(leaders.c.control_id)).scalar()

    def leave(self, control_id: str) -> None:
        """It lives no longer, and leads no longer."""
        with self._engine.begin() as connection:
            connection.execute(delete(leaders).where(leaders.c.control_id == control_id))
            ended = update(controls).where(controls.c.control_id == control_id)
            connection.execute(ended.values(lease_until_us=server_us(), is_booking=False))

    def tell_live(self, control_id: str, told: bytes) -> None:
        """What the gateways of its machine do now, for controls of other machines."""
        with self._engine.begin() as connection:
            new = insert_of(connection.dialect, live_records).values(control_id=control_id, told=told)
            connection.execute(
                new.on_conflict_do_update(index_elements=[live_records.c.control_id], set_={"told": new.excluded.told})
            )

    def list_live(self) -> list[bytes]:
        """What was told of each machine, by the control that lives and books there."""
        query = select(live_records.c.told).join(controls, controls.c.control_id == live_records.c.control_id)
        with self._engine.connect() as connection:
            return list(connection.execute(query.where(_is_live(), controls.c.is_booking)).scalars())

    def list_controls(self) -> list[ControlRecord]:
        """The one that began last first; of those that have ended, those of a day."""
        query = select(controls, _is_live().label("is_live"), leaders.c.control_id.label("leader"))
        query = query.outerjoin(leaders, leaders.c.control_id == controls.c.control_id)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(controls.c.since_us.desc())).all()
        return [
            ControlRecord(
                row.control_id,
                row.machine,
                row.pid,
                row.address,
                int(row.since_us),
                row.is_live,
                row.is_live and row.is_booking,
                row.is_live and row.leader is not None,
            )
            for row in rows
        ]

    def list_unbooked_machines(self, here: Collection[str]) -> list[str]:
        """Machines with a gateway whose journal is not booked to its end, and which no living control finds.

        Those of the runs `here` are left out. A control and a gateway of one machine may know it by different names.
        """
        query = select(gateways.c.gateway_id, gateways.c.machine).where(
            gateways.c.forgotten_at_us.is_(None), gateways.c.gateway_id.not_in(booked_to_end())
        )
        with self._engine.connect() as connection:
            told = connection.execute(select(controls.c.runs).where(_is_live(), controls.c.is_booking)).scalars()
            found = {*here, *(run for runs in told for run in runs.split("\n"))}
            return sorted({row.machine for row in connection.execute(query) if row.gateway_id not in found})

    def list_lone_gateways(self) -> list[tuple[str, str]]:
        """Machines, with their newest gateway, that grant by themselves beside gateways of other machines.

        As the living controls find their journals: who serves by itself tells the store nothing.
        """
        newest = self._list_newest()
        return [(one.machine, one.run_id) for one in newest if not one.has_joined] if len(newest) > 1 else []

    def list_lone_machines(self) -> list[tuple[str, str]]:
        """The same, also where there is no other."""
        return [(one.machine, one.run_id) for one in self._list_newest() if not one.has_joined]

    def _list_newest(self) -> list[_Newest]:
        """By their machines, as living controls name them."""
        query = select(controls.c.machine, controls.c.runs).where(_is_live(), controls.c.is_booking)
        with self._engine.connect() as connection:
            newest = sorted((row.machine, max(row.runs.split("\n"))) for row in connection.execute(query) if row.runs)
            joined = joined_of(connection, [run_id for _, run_id in newest])
        return [_Newest(machine, run_id, run_id in joined) for machine, run_id in newest]


def _is_live() -> ColumnElement[bool]:
    return controls.c.lease_until_us > server_us()


def _is_led_by_living() -> ColumnElement[bool]:
    return leaders.c.control_id.in_(select(controls.c.control_id).where(_is_live()))


def _leader() -> ColumnElement[str | None]:
    return (
        select(leaders.c.control_id)
        .join(controls, controls.c.control_id == leaders.c.control_id)
        .where(leaders.c.name == SITE, _is_live())
        .scalar_subquery()
    )


def _count_live() -> ColumnElement[int]:
    return select(func.count()).select_from(controls).where(_is_live()).scalar_subquery()
