"""What has to hold where several gateways share their tenants, beside what holds for each of them (`promises.py`).

Again by counts of its own: money is summed over all gateways, living and dead; an organization's requests are counted
by one bucket, whoever grants them; who grants is asked of each gateway by its own clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tenantry.domain.admission import Grant, Lane, Scope
from tenantry.domain.holds import Account
from tenantry.domain.opening import PERIODS
from tenantry.domain.periods import period_of
from tenantry.simulation.fleet import Fleet
from tenantry.simulation.gateway import Client, Gateway
from tenantry.simulation.promises import PromiseBroken, Promises
from tenantry.simulation.upstream import Organization
from tenantry.simulation.world import ZONE

# By tenant, period kind and its start.
Sums = Counter[tuple[str, str, int]]
SESSIONS_ANY = 1_000_000


class FleetPromises(Promises):
    """Those of one storm."""

    def __init__(self, world: Fleet) -> None:
        super().__init__(world)
        self._fleet = world
        self._spent: dict[str, Sums] = {}  # by gateway, since all was booked for the last time
        self._before: Sums = Counter()
        self._watched: dict[Gateway, list[tuple[Account, str]]] = {}
        limits = world.upstreams["shared"].capacity
        self._reference = Lane(limits.with_changes({"sessions_max": SESSIONS_ANY}), 0.0, Scope.UPSTREAM, "shared")
        world.surroundings.on_turn = self.on_turn
        world.surroundings.on_booked = self.on_booked

    def check(self) -> None:
        super().check()
        fleet = self._fleet
        if fleet.twice:
            raise PromiseBroken(f"request {fleet.twice[0]} was answered twice")
        self._check_owners()

    def _check_owners(self) -> None:
        """Nobody grants for a tenant, or under a capacity, beside another one."""
        granting: dict[str, str] = {}
        for name, things in self._granted():
            other = granting.setdefault(things, name)
            if other != name:
                raise PromiseBroken(f"{other} and {name} grant for {things} at the same time")

    def _granted(self) -> Iterator[tuple[str, str]]:
        for gateway in self._fleet.gateways():
            cells = gateway.ownership.cells if gateway.ownership is not None else None
            if cells is not None and cells.tenure.tenants and cells.has_lease:
                for tenant_id in cells.tenure.tenants:
                    yield gateway.name, tenant_id
                for name in cells.tenure.cells:
                    yield gateway.name, name

    # Requests

    def on_turn(self, gateway: Gateway, client: Client) -> None:
        """A gateway has granted a request, which counts against what the organization gives a minute."""
        self._watched.pop(gateway, None)
        if client.organization == "shared" and not Grant(0).take((self._reference,), self._fleet.clock.now):
            raise PromiseBroken(f"{gateway.name} grants more requests of shared than it gives")

    def check_sent(self, organization: Organization, attempt_id: str) -> None:
        sender = next((one for one in self._fleet.gateways() if attempt_id.startswith(f"att_{one.name}_")), None)
        call = next(
            (
                one
                for one in (sender.calls if sender is not None else ())
                if one.attempt and one.attempt.name == attempt_id
            ),
            None,
        )
        if sender is None or call is None:
            return
        for other in self._fleet.gateways():
            ownership = other.ownership
            if other is not sender and ownership is not None and ownership.cells.has_lease:
                tenure, tenant_id = ownership.cells.tenure, call.client.tenant.tenant_id
                upstream_id = call.client.credential.upstream.upstream_id
                if tenant_id in tenure.tenants or (tenure.tenants and upstream_id in tenure.cells):
                    raise PromiseBroken(f"{sender.name} sends {attempt_id} though {other.name} grants for {tenant_id}")

    # Money

    def accounts_of(self, gateway: Gateway) -> list[tuple[Account, str]]:
        found = self._watched.get(gateway)
        if found is None:
            till = gateway.till
            found = self._watched[gateway] = [
                (account, client.tenant.tenant_id)
                for client in self._fleet.clients.values()
                for account in till.accounts_by_name(client.tenant.tenant_id).values()
            ]
        return found

    def on_booked(self, gateway: Gateway, tenant_id: str, nanos: int, at_us: int) -> None:
        """An attempt has been settled."""
        sums = self._spent.setdefault(gateway.name, Counter())
        for kind in PERIODS:
            sums[tenant_id, kind, period_of(kind, at_us, ZONE).start_us] += nanos

    def forget(self, gateway: Gateway) -> None:
        """It is dead: what counts of it is what its journal says."""
        super().forget(gateway)
        self._watched.pop(gateway, None)
        journal = gateway.journal
        if journal is None:
            return
        run, sums = journal.run, Counter[tuple[str, str, int]]()
        fold = run.read()
        for one in [*fold.ended, *run.orphans(fold, self._fleet.surroundings.prices, self._fleet.control_us())]:
            for kind in PERIODS:
                start_us = period_of(kind, one.end.ended_at_us, ZONE).start_us
                sums[one.begun.tenant_id, kind, start_us] += one.end.counted_nanos
        self._spent[gateway.name] = sums

    def check_grown(self, gateway: Gateway, account: Account, tenant_id: str) -> None:
        held = sum(
            money.held_nanos
            for one in self._fleet.gateways()
            for call in one.calls
            if call.client.tenant.tenant_id == tenant_id
            and call.attempt is not None
            and (money := call.attempt.money) is not None
            and money.is_open
            and money.is_held
        )
        for cap in account.budget.caps:
            key = tenant_id, cap.period, account.periods[cap.period].start_us
            total = held + self._before[key] + sum(sums[key] for sums in self._spent.values())
            if total > account.amount(cap):
                more = total - account.amount(cap)
                raise PromiseBroken(
                    f"{account.holder}: spent and held at all gateways are {more} nano-dollars beyond its budget of"
                    f" the {cap.period}, seen at {gateway.name}"
                )
        self._check_taken(gateway, account)

    def _check_taken(self, gateway: Gateway, account: Account) -> None:
        ceiling = account.ceiling
        if ceiling is None:
            return
        rows = self._fleet.store.ceilings.get(ceiling.tenant_id, {})
        row = rows.get((ceiling.key_id, ceiling.unit, gateway.name))
        taken = row.taken if row is not None else 0
        if account.used_nanos > taken:
            raise PromiseBroken(
                f"{account.holder}: {account.used_nanos} are used at {gateway.name}, and {taken} were taken"
            )

    # When all is quiet

    def in_doubt(self, gateway: Gateway) -> int:
        return sum(account.unknown_nanos for account, _ in self.accounts_of(gateway))

    def quieted(self) -> None:
        for sums in self._spent.values():
            self._before += sums
        self._spent.clear()
        fleet = self._fleet
        if fleet.open:
            raise PromiseBroken(f"request {next(iter(fleet.open)).number} was never answered")
        if fleet.hops:
            raise PromiseBroken("a request is passed on, and nobody waits for its answer")
