"""A gateway that takes another one's place: what that one is in the middle of is counted here (decision 0011)."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, cast

from tenantry.domain.admission import Grant
from tenantry.domain.asks import Ask
from tenantry.domain.directory import Credential
from tenantry.domain.holds import Hold
from tenantry.domain.till import Accounts
from tenantry.gateway.client import ClientConnection
from tenantry.gateway.estates import credentials_of, take_lanes, take_standings
from tenantry.gateway.handover import (
    SPEAKS,
    DescriptorLost,
    Estate,
    Grow,
    Grown,
    Message,
    Moved,
    Passed,
    Retired,
    RunningAttempt,
    RunningRequest,
    Settled,
    Shrunk,
    Succeed,
    Used,
    Wire,
    WireBroken,
)
from tenantry.gateway.parts import Parts

log = logging.getLogger("tenantry.gateway")

# Finds what attempts of a gateway that died have cost: by id, nano-dollars, tokens and unix microseconds.
FindCosts = Callable[[Sequence[str]], Mapping[str, tuple[int, int, int]]]
# A dead gateway's journal can be read at once; the store may be busy, or the lock not yet free.
FIND_COSTS_SECONDS = 1.0
FIND_COSTS_TIMES = 60


class _Lent:
    """The money of another gateway's attempt, and its tokens where a plan counts them."""

    def __init__(self, accounts: Accounts, running: RunningAttempt) -> None:
        self.accounts = accounts
        self.is_held = running.is_held
        held_nanos = running.held_nanos if running.is_held else 0
        for account in accounts:
            account.held_nanos += held_nanos  # it is held already, whatever the budget says by now
            if self.is_held and account.ceiling is not None:
                account.ceiling.ask(0)  # its next step is asked for without a word before
        self.hold = Hold(accounts, held_nanos, False)
        self.tokens: Hold | None = None
        counts = accounts[0].tokens
        if counts is not None:
            counts.held_nanos += running.held_tokens
            self.tokens = Hold((counts,), running.held_tokens, False)

    def end(self, cost_nanos: int | None, tokens: int, at_us: int) -> None:
        if self.tokens is not None:
            if cost_nanos is None:
                self.tokens.void()
            else:
                self.tokens.settle(tokens, at_us)
        if cost_nanos is None:
            self.hold.void()
        elif self.is_held:
            self.hold.settle(cost_nanos, at_us)
        else:
            for account in self.accounts:
                account.spend(cost_nanos, at_us)


class Inheritance:
    """What one gateway before this one has left."""

    def __init__(self, wire: Wire, estate: Estate) -> None:
        self._wire = wire
        self._estate = estate
        self._lent: dict[str, _Lent] = {}
        self._turns: dict[bytes, Ask] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._parts: Parts | None = None
        self._find_costs: FindCosts | None = None

    @property
    def run_id(self) -> str:
        """The journal of the gateway before this one, by which that one is known."""
        return self._estate.run_id

    @property
    def attempt_ids(self) -> list[str]:
        """The attempts that are still running there."""
        return [one.attempt.attempt_id for one in self._estate.requests if one.attempt is not None]

    # Taking

    def enter(self, parts: Parts, ended: set[str], find_costs: FindCosts) -> None:
        """Count what it holds, but for the attempts that have ended and are counted already; then listen to it."""
        self._parts, self._find_costs = parts, find_costs
        take_lanes(parts, self._estate.lanes)
        take_standings(parts, self._estate.standings)
        credentials = {one.credential_id: one for one in credentials_of(parts.latest.snapshot)}
        for request in self._estate.requests:
            self._take(parts, request, credentials, ended)
        asyncio.get_running_loop().add_reader(self._wire, self._on_readable)

    def _take(
        self, parts: Parts, request: RunningRequest, credentials: Mapping[str, Credential], ended: set[str]
    ) -> None:
        snapshot = parts.latest.snapshot
        tenant, key = snapshot.tenants.get(request.tenant_id), snapshot.keys.get(request.key)
        if tenant is None or key is None:
            return  # nobody has a limit or a budget that this could count for
        attempt = request.attempt
        if attempt is not None and attempt.attempt_id not in ended:
            self._lent[attempt.attempt_id] = _Lent(parts.till.accounts_of(tenant, key), attempt)
            if attempt.is_held:
                self._seek(tenant.tenant_id)
        credential = credentials.get(request.credential_id) if request.credential_id is not None else None
        if not request.has_session or (credential is None and request.credential_id is not None):
            return
        ask = self._turns[request.name] = Ask(tenant, key, credential, request.model, request.input_tokens, untold)
        ask.output_tokens = request.output_tokens
        adopt(parts, ask, request.begun_at)

    def _seek(self, tenant_id: str) -> None:
        """Have it granted for here before anybody asks: else nothing can be taken for the next step of its stream."""
        cells = self._parts.cells if self._parts is not None else None
        if cells is not None and tenant_id not in cells.tenure.tenants:
            cells.sought[tenant_id] = None
            cells.ring()

    # Being told

    def _on_readable(self) -> None:
        try:
            for message in self._wire.receive():
                self._on_message(message)
        except WireBroken as error:
            self._stop_listening()
            if self._lent:
                log.warning("the gateway before this one has gone (%s); its journal says what it leaves", error)
                self._do(self._settle_by_journal())
            self._release_all()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_message(self, message: Message) -> None:
        """Raises: WireBroken."""
        if isinstance(message, Used):
            self._on_used(message)
        elif isinstance(message, Settled):
            lent = self._lent.pop(message.attempt_id, None)
            if lent is not None:
                lent.end(message.cost_nanos, message.tokens, message.at_us)
        elif isinstance(message, Grow):
            self._wire.send(Grown(self._may_grow(message)))
        elif isinstance(message, Shrunk):
            lent = self._lent.get(message.attempt_id)
            if lent is not None and lent.is_held and not lent.hold.resize(message.to_nanos, message.at_us):
                lent.hold.owe(message.to_nanos, message.at_us)
        elif isinstance(message, Passed):
            try:
                raw = self._wire.take_descriptor()
            except DescriptorLost as error:
                log.warning("a client's connection of the gateway before this one is lost: %s", error)
            else:
                self._do(self._go_on(raw, message))
        elif isinstance(message, Moved | Retired):
            self._on_last(message)

    def _on_used(self, used: Used) -> None:
        ask, parts = self._turns.get(used.name), self._parts
        if ask is None or parts is None:
            return
        parts.lanes.settled(ask, used.input_tokens, used.output_tokens)
        if not used.has_session:
            parts.lanes.release(ask)
            del self._turns[used.name]

    def _may_grow(self, grow: Grow) -> bool:
        lent = self._lent.get(grow.attempt_id)
        return lent is None or not lent.is_held or lent.hold.resize(grow.to_nanos, grow.at_us)

    async def _go_on(self, raw: socket.socket, passed: Passed) -> None:
        """Serve a client's connection from where it stands."""
        parts = self._parts
        if parts is None:
            raw.close()
            return
        connection = ClientConnection(parts, passed.peer, passed.unread, is_last=passed.is_piped)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: cast(asyncio.BaseProtocol, connection),  # by its methods
                raw,
            )
        except OSError as error:
            log.info("a connection that was passed on has ended: %s", error)

    def _on_last(self, message: Moved | Retired) -> None:
        if isinstance(message, Moved):  # it is told to another one from now on, who counts for it
            for lent in self._lent.values():
                lent.end(None, 0, 0)
            self._lent.clear()
        elif self._lent:  # it could not tell of them: nobody was there at that moment
            self._do(self._settle_by_journal())
        self._release_all()
        self._stop_listening()

    def _release_all(self) -> None:
        for ask in self._turns.values():
            if self._parts is not None:
                self._parts.lanes.release(ask)
        self._turns.clear()

    async def _settle_by_journal(self) -> None:
        """What a gateway that is dead has left is booked by its journal; what cannot be found stays held."""
        for _ in range(FIND_COSTS_TIMES):
            await asyncio.sleep(FIND_COSTS_SECONDS)
            if self._find_costs is None:
                return
            try:
                found = await asyncio.to_thread(self._find_costs, list(self._lent))
            except Exception:  # closed: what it may have cost stays held
                log.exception("what another gateway has left could not be read; it stays held for now")
                continue
            for attempt_id, (nanos, tokens, at_us) in found.items():
                self._lent.pop(attempt_id).end(nanos, tokens, at_us)
            if not self._lent:
                return
        log.error("%d attempts of another gateway are nowhere; what was held for them stays held", len(self._lent))

    def _stop_listening(self) -> None:
        if self._wire.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._wire)
            self._wire.close()

    def close(self) -> None:
        """Let go: this gateway ends."""
        for task in self._tasks:
            task.cancel()
        self._stop_listening()


def succeed(wires: Sequence[Wire]) -> list[Inheritance]:
    """Take the place of these. From here on until `enter` nobody admits anything.

    Raises:
        WireBroken: one does not answer.
    """
    found: list[Inheritance] = []
    for wire in wires:
        wire.send(Succeed(SPEAKS))
        estate = wire.wait()
        if not isinstance(estate, Estate):
            raise WireBroken("it does not say what it leaves")
        log.info("the gateway of %s gives way, with %d requests", estate.run_id, len(estate.requests))
        found.append(Inheritance(wire, estate))
    return found


def adopt(parts: Parts, ask: Ask, begun_at: float) -> None:
    """Give an ask the sessions that it has at another gateway, whatever the limits say by now; no bucket is touched."""
    parts.lanes.adopt(ask, begun_at)


def untold(_grant: Grant) -> None:
    """It never waits here."""
