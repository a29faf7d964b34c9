"""What a gateway of a simulated fleet reads when it takes over: rows, and the journals of its own machine.

As `ledger/takeover.py`: what others have taken of budgets, less what is known of it, is in doubt.
"""

from __future__ import annotations

from collections.abc import Sequence

from tenantry.domain.doubts import Doubt, Taken, weigh
from tenantry.domain.opening import Opening
from tenantry.simulation.disk import Ledger, Run
from tenantry.simulation.leftovers import Takeover
from tenantry.simulation.store import Store


class MachineBooks:
    """Of the gateways on one machine."""

    def __init__(self, ledger: Ledger, store: Store, machine: str) -> None:
        self._ledger = ledger
        self._store = store
        self._machine = machine

    def _run(self, name: str) -> Run | None:
        """A journal that can be read here."""
        return next(
            (one for one in self._ledger.runs if one.name == name and one.machine == self._machine and not one.is_away),
            None,
        )

    def is_dead(self, gateway_id: str, me: str) -> bool:
        """Whether its process is known to have ended: by the lock on its journal, or because that is booked."""
        run = self._run(gateway_id)
        return gateway_id in self._ledger.closed if run is None else run.died_us is not None

    def open_tenants(self, tenant_ids: Sequence[str], at_us: int, me: str) -> Takeover:
        found = self._ledger.opening(at_us, self._machine)
        opening = Opening(
            at_us, spent={holder: kinds for holder, kinds in found.spent.items() if holder[0] in tenant_ids}
        )
        taken = [row for tenant_id in tenant_ids for row in self._store.taken_of(tenant_id, me)]
        doubts = [one for one in self._doubts(taken, at_us) if not one.is_over or one.rest]
        running = {name: tenant for name, tenant in self._running(me).items() if tenant in tenant_ids}
        return Takeover(opening, doubts, running)

    def look_again(self, doubts: Sequence[Doubt], at_us: int, me: str) -> tuple[list[Doubt], set[str]]:
        return self._doubts([self._as_it_is(one.taken) for one in doubts], at_us), {*self._running(me)}

    def _as_it_is(self, taken: Taken) -> Taken:
        rows = self._store.ceilings.get(taken.tenant_id, {})
        return rows.get((taken.key_id, taken.unit, taken.gateway_id), taken)

    def _running(self, me: str) -> dict[str, str]:
        """What living gateways on this machine are in the middle of, by attempt: whose it is."""
        found: dict[str, str] = {}
        for run in self._ledger.runs:
            if run.machine == self._machine and run.died_us is None and run.name != me:
                found |= {name: one.begun.tenant_id for name, one in run.read().open.items()}
        return found

    def _doubts(self, taken: Sequence[Taken], at_us: int) -> list[Doubt]:
        ledger = self._ledger
        periods = ledger.periods(at_us)
        starts_us = {period.kind: period.start_us for period in periods}
        found: list[Doubt] = []
        for one in taken:
            run = self._run(one.gateway_id)
            whose = one.gateway_id, one.tenant_id, one.key_id
            total = ledger.by_run[(*whose, "", 0)]
            known = {kind: ledger.by_run[(*whose, kind, start_us)] for kind, start_us in starts_us.items()}
            for ended in ledger.unbooked(run, at_us) if run is not None else ():
                if ended.begun.tenant_id != one.tenant_id or one.key_id not in ("", ended.begun.key_id):
                    continue
                nanos = ended.end.counted_nanos
                total += nanos
                for period in periods:
                    if period.start_us <= ended.end.ended_at_us < period.end_us:
                        known[period.kind] += nanos
            is_whole = one.gateway_id in ledger.closed or (run is not None and run.died_us is not None)
            lost_at_us = self._store.forgotten_us.get(one.gateway_id)
            found.append(weigh(one, total, known, starts_us, is_known_whole=is_whole, lost_at_us=lost_at_us))
        return found
