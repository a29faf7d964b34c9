"""A gateway that another one replaces: from then on it counts nothing, and ends what it is in the middle of."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from tenantry.domain.owners import Cells
from tenantry.gateway.bridging import bridge
from tenantry.gateway.estates import lanes_of, running_request, standings_of
from tenantry.gateway.exchange import Exchange
from tenantry.gateway.handover import (
    SPEAKS,
    AskListener,
    Estate,
    Grow,
    Grown,
    Listener,
    Message,
    Moved,
    Passed,
    Retired,
    RunningAttempt,
    RunningRequest,
    Settled,
    Shrunk,
    Succeed,
    Wire,
    WireBroken,
)
from tenantry.gateway.lending import TELL_SECONDS, Lender, LentMoney, LentTurn, tell_turns
from tenantry.gateway.parts import Parts
from tenantry.gateway.population import Connected

log = logging.getLogger("tenantry.gateway")

# The socket does not say when the kernel has taken the last byte of an answer.
WRITTEN_LOOK_SECONDS = 0.005


class Retirement(Lender):
    """`begun` is set when another gateway has taken over. `doorbell` is where it asks, `listener` what it wants."""

    def __init__(
        self,
        parts: Parts,
        run_id: str,
        doorbell: socket.socket,
        listener: socket.socket,
        close_server: Callable[[], None],
    ) -> None:
        self.begun = asyncio.Event()
        self._parts = parts
        self._run_id = run_id
        self._doorbell = doorbell
        self._listener: socket.socket | None = listener
        self._close_server = close_server
        self._loop = asyncio.get_running_loop()
        self._callers: set[Wire] = set()
        self._wire: Wire | None = None
        self._turns: dict[bytes, LentTurn] = {}
        self._waiting: list[tuple[Connected, asyncio.Transport, str, bytes]] = []  # for somebody to be passed to
        self._passing = 0  # whose last answer is not written yet
        self._bridges: set[asyncio.Task[None]] = set()
        self._loop.add_reader(doorbell, self._on_ring)

    # Being asked

    def _on_ring(self) -> None:
        try:
            raw, _ = self._doorbell.accept()
        except OSError:
            return
        wire = Wire(raw)
        self._callers.add(wire)
        self._loop.add_reader(wire, self._on_asked, wire)

    def _on_asked(self, wire: Wire) -> None:
        try:
            for message in wire.receive():
                self._answer(wire, message)
        except WireBroken:
            self._hang_up(wire)

    def _answer(self, wire: Wire, message: Message) -> None:
        if isinstance(message, AskListener):
            if self._listener is not None:
                wire.send(Listener(), self._listener.fileno())
            else:
                wire.send(Moved())
        elif isinstance(message, Succeed):
            self._give_way(wire)

    def _hang_up(self, wire: Wire) -> None:
        self._callers.discard(wire)
        self._loop.remove_reader(wire)
        wire.close()
        if wire is self._wire:
            self._wire = None
            log.warning("the gateway that has taken over does not answer any more; the next one is waited for")

    # Giving way

    def _give_way(self, wire: Wire) -> None:
        """From here on the other one counts. Raises: WireBroken; then the next one is waited for."""
        parts, before = self._parts, self._wire
        population = parts.population
        self._wire = None
        if before is not None:
            self._move(before)
        parts.recorder.flush()  # what has ended stands in the journal, where the other one looks for it
        self.close_listener()
        population.is_stopping = True
        population.heir = self
        if parts.cells is not None:
            parts.cells.is_succeeded = True
        unsent = [served for served in population.served if served.is_unsent]
        requests = [one for served in population.served - {*unsent} if (one := self._lend(served)) is not None]
        if parts.cells is not None:
            requests += self._lend_guests(parts.cells)
        self.begun.set()
        wire.send(Estate(self._run_id, requests, lanes_of(parts), standings_of(parts), SPEAKS))
        self._wire = wire
        for served in unsent:
            served.pass_on()
        for connection in list(population.connections):
            connection.pass_when_idle()
        waiting, self._waiting = self._waiting, []
        for entry in waiting:
            self.take(*entry)

    def close_listener(self) -> None:
        """Nobody new comes to this gateway. Where nobody else has the socket, who waits there is refused at once."""
        self._close_server()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _move(self, wire: Wire) -> None:
        with contextlib.suppress(WireBroken):  # it is gone already
            wire.send(Moved())
        self._callers.discard(wire)
        self._loop.remove_reader(wire)
        wire.close()

    def _lend(self, served: object) -> RunningRequest | None:
        """What the other one has to know of a request that goes on here."""
        if not isinstance(served, Exchange):
            return None
        cells = self._parts.cells
        if cells is not None and served.principal.tenant.tenant_id not in cells.tenure.tenants:
            return None  # its tenant has moved: another gateway counts for it, and this one tells it
        ask, attempt = served.in_hand
        running: RunningAttempt | None = None
        if attempt is not None and attempt.money is not None and attempt.money.is_open:
            money = attempt.money
            if not isinstance(money, LentMoney):
                money = attempt.money = LentMoney(money, attempt.attempt_id, self)
            running = RunningAttempt(attempt.attempt_id, money.held_nanos, money.is_held, money.held_tokens)
        if ask is None:
            return None
        self._turns[served.name] = LentTurn(served.name, ask)
        return running_request(served.name, ask, running)

    def _lend_guests(self, cells: Cells) -> list[RunningRequest]:
        """What other gateways still have of the tenants that are granted for here, and tell this one of."""
        self._turns.update({name: LentTurn(name, ask) for name, ask in cells.guests.items()})
        return [running_request(name, ask, None) for name, ask in cells.guests.items()]

    # Lender

    def may_grow(self, attempt_id: str, to_nanos: int, at_us: int) -> bool:
        """Waits for the word of the other one. While there is none, nobody knows what is left: then it may not."""
        wire = self._wire
        if wire is None:
            return False
        try:
            wire.send(Grow(attempt_id, to_nanos, at_us))
            answer = wire.wait()
        except WireBroken:
            self._hang_up(wire)
            return False
        return isinstance(answer, Grown) and answer.fits

    def shrank(self, attempt_id: str, to_nanos: int, at_us: int) -> None:
        self._tell(Shrunk(attempt_id, to_nanos, at_us))

    def owes(self, attempt_id: str, nanos: int, at_us: int) -> None:
        self._tell(Shrunk(attempt_id, nanos, at_us))

    def settled(self, attempt_id: str, cost_nanos: int | None, tokens: int, at_us: int) -> None:
        self._tell(Settled(attempt_id, cost_nanos, at_us, tokens))

    def _tell(self, message: Message, *descriptors: int) -> bool:
        """False: nobody is there. Who comes next finds what has ended in the journal, and asks for the rest."""
        wire = self._wire
        if wire is None:
            return False
        try:
            wire.send(message, *descriptors)
        except WireBroken:
            self._hang_up(wire)
            return False
        return True

    def _tell_turns(self) -> None:
        tell_turns(self._turns, self._tell)

    # Heir

    def take(self, connection: Connected, transport: asyncio.Transport, peer: str, unread: bytes) -> None:
        transport.pause_reading()
        self._passing += 1
        self._pass_when_written(connection, transport, peer, unread)

    def _pass_when_written(self, connection: Connected, transport: asyncio.Transport, peer: str, unread: bytes) -> None:
        if transport.is_closing():
            self._passing -= 1
        elif transport.get_write_buffer_size():
            self._loop.call_later(WRITTEN_LOOK_SECONDS, self._pass_when_written, connection, transport, peer, unread)
        else:
            self._passing -= 1
            if not self._pass(connection, transport, peer, unread):
                self._waiting.append((connection, transport, peer, unread))

    def _pass(self, connection: Connected, transport: asyncio.Transport, peer: str, unread: bytes) -> bool:
        if transport.get_extra_info("ssl_object") is not None:
            return self._pass_by_pipe(connection, transport, peer, unread)
        if not self._tell(Passed(peer, unread, False), transport.get_extra_info("socket").fileno()):
            return False
        transport.abort()  # our descriptor of it; the other one's keeps it open
        return True

    def _pass_by_pipe(self, connection: Connected, transport: asyncio.Transport, peer: str, unread: bytes) -> bool:
        ours, its = socket.socketpair()
        with its:
            if not self._tell(Passed(peer, unread, True), its.fileno()):
                ours.close()
                return False
        connection.forget()
        task = self._loop.create_task(bridge(transport, ours))
        self._bridges.add(task)
        task.add_done_callback(self._bridges.discard)
        return True

    # The end

    async def ended(self, stop: asyncio.Event, seconds: float) -> None:
        """Wait until nothing of it is left, or it is told to stop, or for so long."""
        until = self._parts.clock.now() + seconds
        while not stop.is_set() and self._parts.clock.now() < until and not self._is_done():
            self._tell_turns()
            await asyncio.sleep(TELL_SECONDS)
        self._tell_turns()

    def _is_done(self) -> bool:
        population, cells = self._parts.population, self._parts.cells
        if cells is not None and cells.guests:
            return False  # it is told of these, and tells the next one
        if self._parts.recorder.is_behind:
            return False  # the disk is full: what answers cost is known here alone
        return not (population.served or population.connections or self._bridges or self._passing or self._waiting)

    def close(self) -> None:
        """Say that all was told, and let go of everything."""
        self._tell_turns()
        self._tell(Retired())
        self._wire = None
        if self._doorbell.fileno() >= 0:
            self._loop.remove_reader(self._doorbell)
            self._doorbell.close()
        for wire in self._callers:
            self._loop.remove_reader(wire)
            wire.close()
        self._callers.clear()
