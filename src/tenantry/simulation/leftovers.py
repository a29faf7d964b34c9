"""What others have left of tenants that a simulated gateway took over, as `gateway/leftovers.py` looks at it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from tenantry.domain.asks import Ask
from tenantry.domain.doubts import Doubt
from tenantry.domain.opening import Opening
from tenantry.simulation.asking import Asker
from tenantry.simulation.gateway import Gateway
from tenantry.simulation.store import Store


@dataclass(slots=True)
class Takeover:
    """As `ledger/takeover.py` has it. `running`: attempts of living gateways, with the ids of their tenants."""

    opening: Opening
    doubts: list[Doubt]
    running: dict[str, str]


class Books(Protocol):
    """What is booked, and what stands in journals that can be read on the gateway's machine."""

    def open_tenants(self, tenant_ids: Sequence[str], at_us: int, me: str) -> Takeover: ...
    def look_again(self, doubts: Sequence[Doubt], at_us: int, me: str) -> tuple[list[Doubt], set[str]]: ...
    def is_dead(self, gateway_id: str, me: str) -> bool: ...


class Leftovers:
    """Of one life of a gateway. `elsewhere`: sessions of attempts of other gateways, by attempt."""

    def __init__(self, gateway: Gateway, store: Store, books: Books, asker: Asker) -> None:
        self.elsewhere: dict[str, Ask] = {}
        self._gateway = gateway
        self._store = store
        self._books = books
        self._asker = asker
        self._is_reviewing = False

    def enter(self, found: Takeover, entered: Collection[str]) -> None:
        """These tenants are granted for here from now on."""
        if not self._gateway.faults.has("doubt-not-held"):
            self._gateway.suspense.enter(found.doubts, entered, found.opening.at_us)
        for attempt_id, tenant_id in found.running.items():
            if tenant_id in entered and attempt_id not in self.elsewhere:
                self._adopt(attempt_id, tenant_id)

    def _adopt(self, attempt_id: str, tenant_id: str) -> None:
        """Another gateway, which lives and has lost the tenant, is in the middle of an attempt: its session counts."""
        gateway = self._gateway
        client = next((one for one in gateway.clients.values() if one.tenant.tenant_id == tenant_id), None)
        if client is not None:
            ask = self.elsewhere[attempt_id] = Ask(client.tenant, client.key, client.credential, "", 0, _untold)
            gateway.lanes.adopt(ask, gateway.surroundings.clock.now)

    def review(self) -> None:
        """Look at what is in doubt again, where something is."""
        doubts, at_us, elsewhere = self._gateway.suspense.all(), self._gateway.wall.now_us(), [*self.elsewhere]
        if self._is_reviewing or not (doubts or elsewhere):
            return
        self._is_reviewing = True

        def read() -> tuple[list[Doubt], set[str]]:
            self._store.statements["review"] += 1
            return self._books.look_again(doubts, at_us, self._gateway.name)

        def looked(found: tuple[list[Doubt], set[str]]) -> None:
            now, running = found
            for before, after in zip(doubts, now, strict=True):
                self._gateway.suspense.look(before, after, at_us)
            for attempt_id in elsewhere:
                if attempt_id not in running and attempt_id in self.elsewhere:
                    self._gateway.lanes.release(self.elsewhere.pop(attempt_id))
            self._is_reviewing = False

        self._asker.ask(read, looked, self._not_reviewed)

    def _not_reviewed(self) -> None:
        self._is_reviewing = False


def _untold(_grant: object) -> None:
    """It never waits here."""
