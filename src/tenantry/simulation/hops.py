"""A request that another simulated gateway grants for: passed to that one, and its answer passed back.

As `gateway/hop.py`: nothing is decided here; what was not sent, or is refused because its owner is none, goes to who
the store says is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tenantry.domain.owners import ASK_SECONDS, MINE, WAIT_SECONDS_MAX, At, Cells
from tenantry.simulation.calls import NOT_THE_OWNER, Call
from tenantry.simulation.clock import Timer
from tenantry.simulation.gateway import Gateway

# From one gateway to another in the same network.
TRIP_SECONDS = 0.0005
UNREACHABLE_SECONDS = 1.0
LOST = "owner_lost"


class Network(Protocol):
    """Between gateways."""

    def reach(self, gateway: Gateway, gateway_id: str) -> Gateway | None:
        """Another gateway, if it lives and the way to it is whole."""
        ...


class Hop:
    """One request at the gateway where it came. `ended` hears once what became of it, as `Call.reason` says it."""

    def __init__(
        self, network: Network, call: Call, ended: Callable[[Call | None, str], None], back: Callable[[], None]
    ) -> None:
        """`back`: it is for this gateway, after all."""
        self.gateway = call.gateway
        self.owner: Gateway | None = None
        self._network = network
        self._first = call
        self._ended = ended
        self._back = back
        self._call: Call | None = None
        self._is_over = False
        self._asks_until: float | None = None
        self._stop_waiting: Callable[[], None] | None = None
        self._overdue: Timer | None = None

    @property
    def _cells(self) -> Cells:
        ownership = self.gateway.ownership
        assert ownership is not None  # noqa: S101 -- one that is alone passes nothing on
        return ownership.cells

    @property
    def _tenant_id(self) -> str:
        return self._first.client.tenant.tenant_id

    def go(self, owner: At) -> None:
        """Pass it to who is known to grant."""
        self.gateway.surroundings.clock.call_later(TRIP_SECONDS, lambda: self._arrive(owner.gateway_id))

    def _arrive(self, gateway_id: str) -> None:
        if self._is_over:
            return
        found = self._network.reach(self.gateway, gateway_id)
        if found is None:
            self.gateway.call_later(UNREACHABLE_SECONDS, self._ask_again)
            return
        self.owner = found
        found.do(lambda: self._start(found))

    def _start(self, owner: Gateway) -> None:
        if self._is_over:
            return
        first = self._first
        client = owner.clients.get(first.client.tenant.slug, first.client)
        self._call = Call(owner, client, first.wants, self._answered)
        self._call.start()

    def _answered(self, call: Call) -> None:
        self.gateway.surroundings.clock.call_later(TRIP_SECONDS, lambda: self.gateway.do(lambda: self._hear(call)))

    def _hear(self, call: Call) -> None:
        if self._is_over:
            return
        self._call = self.owner = None
        if call.reason == NOT_THE_OWNER:
            self._ask_again()
        elif call.reason == "gateway_died":
            self.end(LOST)
        else:
            if call.reason != "store_away":  # else it has just said so itself
                self._cells.is_at(self._tenant_id, call.gateway.name, call.gateway.name)
            self._finish(call, call.reason)

    def _ask_again(self) -> None:
        """Nothing of it is with anybody: whose it is, the store says."""
        if self._is_over:
            return
        now = self.gateway.surroundings.clock.now
        self.owner = None
        self._cells.is_doubtful(self._tenant_id)
        if self._asks_until is None:
            self._asks_until = now + WAIT_SECONDS_MAX
            self._overdue = self.gateway.call_later(WAIT_SECONDS_MAX, self._on_overdue)
        elif now >= self._asks_until:
            self.end(NOT_THE_OWNER)
            return
        self.gateway.call_later(ASK_SECONDS, self._ask)

    def _on_overdue(self) -> None:
        if self._call is None and self.owner is None:
            self.end(NOT_THE_OWNER if self._cells.has_lease else "store_away")

    def _ask(self) -> None:
        if not self._is_over:
            self._stop_waiting = self._cells.wait_for(self._tenant_id, self._on_told)

    def _on_told(self) -> None:
        self._stop_waiting = None
        owner = self._cells.owner_of(self._tenant_id)
        if isinstance(owner, At):
            self.go(owner)
        elif owner is MINE:
            self._finish(None, None)
        elif self._cells.has_lease:
            self._ask_again()
        else:
            self.end("store_away")

    def leave(self) -> None:
        """The client has gone; the owner finds its connection closed."""
        self.end("client_gone")

    def lose_owner(self) -> None:
        """The way to the owner is cut."""
        self.end(LOST)

    def end(self, reason: str) -> None:
        call, owner = self._call, self.owner
        if call is not None and owner is not None:
            owner.do(call.leave)
        self._finish(None, reason)

    def _finish(self, call: Call | None, reason: str | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._overdue is not None:
            self._overdue.cancel()
        if self._stop_waiting is not None:
            self._stop_waiting()
        if reason is None:
            self._back()
        else:
            self._ended(call, reason)
