"""What has to hold in a storm, looked at after every event, and when all is quiet again.

Each promise is held against a count of its own: open requests are counted one by one, the organization keeps its own
log, the ledger is summed anew. What the gateway's counters say of themselves proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from tenantry.domain.admission import Lane
from tenantry.domain.asks import Ask, Shared
from tenantry.domain.fair_queue import QUANTUM
from tenantry.domain.flows import Flow
from tenantry.domain.holds import Account
from tenantry.domain.usage import Usage
from tenantry.simulation.disk import Run
from tenantry.simulation.gateway import Gateway
from tenantry.simulation.upstream import Organization
from tenantry.simulation.world import World

# No request of a storm counts for more (tokens): how far one turn can put a tenant behind others.
COST_MAX = 8_000
# A beginning was written a moment before its request leaves: it stands in the last so many bytes.
TAIL_BYTES = 65_536


class PromiseBroken(Exception):
    """A promise does not hold; the message says which, whose, and by how much."""


class Promises:
    """Those of one storm."""

    def __init__(self, world: World) -> None:
        self._world = world
        # Of each gateway alone: with it goes what is known of it. Money: bounds, held, spent and held in all.
        self._money: dict[Gateway, dict[Account, tuple[int, int, int]]] = {}
        self._accounts: dict[Gateway, list[tuple[Account, str]]] = {}  # with the internal ids of their tenants
        self._sessions: dict[Gateway, dict[Lane, int]] = {}
        self._forwarded: dict[str, int] = {}
        self._passed_over: dict[tuple[Shared, str], int] = {}

    def forget(self, gateway: Gateway) -> None:
        """That gateway is dead."""
        self._accounts.pop(gateway, None)
        self._money.pop(gateway, None)
        self._sessions.pop(gateway, None)
        for key in [key for key in self._passed_over if key[0] in gateway.lanes.register.shared.values()]:
            del self._passed_over[key]

    def check(self) -> None:
        """After every event. Raises: PromiseBroken."""
        world = self._world
        for host in world.hosts.values():
            gateway = host.gateway
            if gateway is not None:
                self._check_money(gateway)
                self._check_lanes(gateway)
        for organization in world.surroundings.organizations.values():
            self._check_forwarded(organization)
        if world.ledger.twice:
            raise PromiseBroken(f"booked twice: {world.ledger.twice[0]}")

    # Money

    def accounts_of(self, gateway: Gateway) -> list[tuple[Account, str]]:
        """Those that a gateway counts, with the ids of their tenants."""
        accounts = self._accounts.get(gateway)
        if accounts is None:
            accounts = self._accounts[gateway] = [
                (account, client.tenant.tenant_id)
                for client in self._world.clients_at(gateway.name)
                for account in gateway.till.accounts_of(client.tenant, client.key)
            ]
        return accounts

    def _check_money(self, gateway: Gateway) -> None:
        of_gateway = self._money.setdefault(gateway, {})
        for account, tenant_id in self.accounts_of(gateway):
            held, total = account.held_nanos, account.since_nanos + account.held_nanos
            known = of_gateway.get(account)
            if known is not None and known[0] == account.bounds and known[1] == held and known[2] == total:
                continue
            of_gateway[account] = account.bounds, held, total
            self._check_held(gateway, account, tenant_id)
            # Above a budget that was lowered, or at a start, or in another period, nobody has spent anything.
            grew = known is not None and known[0] == account.bounds and total > known[2]
            if grew and account.is_hard:
                self.check_grown(gateway, account, tenant_id)

    def check_grown(self, _gateway: Gateway, account: Account, _tenant_id: str) -> None:
        """More is spent and held of an account. Raises: PromiseBroken."""
        total, held = account.since_nanos + account.held_nanos, account.held_nanos
        if total > account.most_nanos:
            raise PromiseBroken(
                f"{account.holder}: spent and held are {total - account.most_nanos} nano-dollars beyond"
                f" its budget; {held} are held"
            )

    def _check_held(self, gateway: Gateway, account: Account, tenant_id: str) -> None:
        held = 0
        for call in gateway.calls:
            attempt = call.attempt
            if call.client.tenant.tenant_id == tenant_id and attempt is not None and attempt.is_open:
                money = attempt.money
                if money is not None and money.is_open and account.budget.caps and not money.is_held:
                    raise PromiseBroken(f"{attempt.name} goes upstream and nothing is held for it")
                if money is not None and money.is_open and money.is_held:
                    held += money.held_nanos
        own = account.held_nanos - account.unknown_nanos
        if held != own:
            raise PromiseBroken(f"{account.holder}: {own} are held, and open requests hold {held}")

    # Sessions and turns

    def _check_lanes(self, gateway: Gateway) -> None:
        register = gateway.lanes.register
        for shared in register.shared.values():
            capacity = shared.capacity
            if capacity is not None:
                self._check_sessions(gateway, capacity)
            if shared.is_contended or self._passed_over:
                self.check_turns(gateway.turns, shared)
        for _, lane in register.own():
            self._check_sessions(gateway, lane)

    def _check_sessions(self, gateway: Gateway, lane: Lane) -> None:
        of_gateway = self._sessions.setdefault(gateway, {})
        known = of_gateway.get(lane, 0)
        if lane.sessions == known:
            return
        of_gateway[lane] = lane.sessions
        if lane.sessions > known and lane.sessions > lane.sessions_max:
            raise PromiseBroken(f"{lane.name}: {lane.sessions} sessions, and {lane.sessions_max} are allowed")
        asks = [call.ask for call in gateway.calls]
        if gateway.ownership is not None:
            asks += gateway.ownership.elsewhere.values()
        count = sum(1 for ask in asks if ask is not None and ask.is_open and lane in ask.lanes)
        if count != lane.sessions:
            raise PromiseBroken(f"{lane.name}: {lane.sessions} sessions are counted, and {count} requests are open")

    def check_turns(self, turns: Mapping[str, int], shared: Shared) -> None:
        """`turns`: how many each tenant has had, and each upstream in all. Raises: PromiseBroken."""
        all_turns = turns.get(shared.name, 0)
        for name, flow in shared.flows.items():
            key = shared, name
            if not flow.waiting or flow.held or flow.line is not None or not flow.ready:
                self._passed_over.pop(key, None)
                continue
            others = all_turns - turns.get(name, 0)
            passed = others - self._passed_over.setdefault(key, others)
            if passed > turns_max(flow, shared.flows):
                raise PromiseBroken(f"{name} waits with nothing in flight, and {passed} turns went to others meanwhile")

    # The journal

    def _check_forwarded(self, organization: Organization) -> None:
        log = organization.log.attempts
        known = self._forwarded.get(organization.name, 0)
        if len(log) == known:
            return
        self._forwarded[organization.name] = len(log)
        for attempt_id in list(log)[known:]:
            self.check_sent(organization, attempt_id)
            if not any(_is_written(run, attempt_id) for run in self._world.ledger.runs):
                raise PromiseBroken(f"{attempt_id} was forwarded, and its beginning does not stand in the journal")

    def check_sent(self, organization: Organization, attempt_id: str) -> None:
        """An attempt has come to an organization. Raises: PromiseBroken."""

    # When all is quiet

    def check_quiet(self) -> None:
        """Nothing is under way, and everything is booked. Raises: PromiseBroken."""
        world = self._world
        for host in world.hosts.values():
            gateway = host.gateway
            if gateway is None:
                continue
            if gateway.calls:
                raise PromiseBroken(f"{next(iter(gateway.calls)).name} was never answered")
            if gateway.lanes.in_flight() or gateway.lanes.waiting():
                raise PromiseBroken(f"{gateway.name}: sessions are taken, and no request is open")
            if gateway.till.held_nanos() != self.in_doubt(gateway):
                raise PromiseBroken(f"{gateway.name}: money is held, and no request is open")
        self._check_books(world)
        self.quieted()
        for organization in world.surroundings.organizations.values():
            organization.log.attempts.clear()
            organization.log.billed.clear()
        self._forwarded.clear()

    def in_doubt(self, _gateway: Gateway) -> int:
        """What is held for others, and not for requests."""
        return 0

    def quieted(self) -> None:
        """All is booked."""

    def _check_books(self, world: World) -> None:
        rows, prices = world.ledger.rows, world.surroundings.prices
        for run in world.ledger.runs:
            for name in run.begun():
                if name not in rows:
                    raise PromiseBroken(f"{name} stands in the journal, and not in the ledger")
        for organization in world.surroundings.organizations.values():
            for attempt_id, times in organization.log.attempts.items():
                if attempt_id not in rows:
                    raise PromiseBroken(f"{attempt_id} was forwarded, and no row tells of it")
                if times > 1:
                    raise PromiseBroken(f"{attempt_id} was sent {times} times")
            for attempt_id, billed in organization.log.billed.items():
                row = rows[attempt_id]
                usage = Usage(input_tokens=billed.input_tokens, output_tokens=billed.output_tokens)
                cost = prices.plain_cost(usage, row.begun.model_requested, row.begun.begun_at_us) or 0
                if row.end.counted_nanos < cost:
                    raise PromiseBroken(
                        f"{attempt_id}: {cost} nano-dollars were billed, and {row.end.counted_nanos} are booked"
                        f" ({row.end.outcome})"
                    )


def turns_max(flow: Flow[Ask], flows: Mapping[str, Flow[Ask]]) -> int:
    """How many turns others may have while it waits with nothing in flight (start-time fair queueing's bound)."""
    behind = COST_MAX / flow.weight / QUANTUM
    return 1 + sum(1 + int(behind * other.weight) for other in flows.values() if other is not flow)


def _is_written(run: Run, attempt_id: str) -> bool:
    wanted = b'"' + attempt_id.encode() + b'"'
    return run.data.find(wanted, max(0, len(run.data) - TAIL_BYTES)) >= 0 or wanted in run.data
