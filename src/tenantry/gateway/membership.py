"""A gateway as one of several: what it asks the store for, and where the others reach it (decision 0021).

Loaded where a site has several gateways alone; one that is by itself starts without it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from sqlalchemy import Engine

from tenantry.domain.owners import Cells
from tenantry.gateway.asking import Asking, Fault
from tenantry.gateway.balancing import Balancer
from tenantry.gateway.claiming import Claimer
from tenantry.gateway.leftovers import Books, Leftovers
from tenantry.gateway.moving import Mover
from tenantry.gateway.peers.calling import Peers
from tenantry.gateway.peers.listening import PeerServer, serve_peers
from tenantry.gateway.process import GatewayProcess
from tenantry.gateway.raising import Raiser
from tenantry.gateway.receiving import Receiver
from tenantry.storage.cells import CellStore

# Who has begun to send a request when this gateway ends is passed on when it is whole.
HAND_OVER_SECONDS_MAX: Final = 5.0
LOOK_SECONDS: Final = 0.02


class Membership:
    """From `begin` to `leave`."""

    def __init__(self, gateway: GatewayProcess, cells: Cells, peers: Peers, engine: Engine, run_id: str) -> None:
        parts, store = gateway.parts, CellStore(engine)
        books = Books(engine, parts.settings.data_dir / "journal", parts.prices)
        self._asking = asking = Asking()
        self._raiser = Raiser(parts, cells, store, run_id, asking)
        self._leftovers = Leftovers(parts, cells, store, books, self._raiser, asking, run_id)
        self._claimer = Claimer(parts, cells, store, books, run_id, asking, self._raiser, self._leftovers)
        guests = self._leftovers.guests
        self._mover = Mover(parts, cells, store, self._claimer, guests, self._raiser, asking, run_id)
        self._balancer = Balancer(parts, cells, store, self._claimer, self._mover, asking, run_id)
        self._receiver = Receiver(parts, cells, self._leftovers, peers.machine)
        self._claimer.taken = self._receiver.taken
        self._receiver.pass_on, self._mover.pass_back = self._mover.ask_owner, self._receiver.pass_back
        self._parts = parts
        self._now = parts.clock.now
        self._peers = peers
        self._run_id = run_id
        self._server: PeerServer | None = None
        self.has_handed_over = False  # others grant for all that this gateway did
        cells.ring = self._claimer.ring
        gateway.followers.append(self._claimer.apply)

    async def begin(self, seat: int, predecessors: Sequence[str]) -> None:
        """Be there for the other gateways, and own what `predecessors` did. Raises: OSError, the store's own errors."""
        settings = self._parts.settings
        port = settings.peer_port and settings.peer_port + 2 * seat
        hear = self._receiver.hear
        self._server = await serve_peers(self._parts, self._peers, self._run_id, settings.peer_host, port, hear)
        await self._claimer.begin(self._server.address, socket.gethostname(), predecessors)

    def chores(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What is done by the clock, by name."""
        return {
            "the lease": self._claimer.keep_lease(),
            "claims of cells": self._claimer.claim(),
            "ceilings": self._raiser.run(),
            "what others have left": self._leftovers.review(),
            "what has stayed here of cells that moved": self._mover.tell(),
            "cells that are to move": self._mover.follow_wishes(),
            "the balance of cells": self._balancer.run(),
        }

    def accept_no_more(self) -> None:
        """Other gateways bring nothing new."""
        if self._server is not None:
            self._server.close()

    async def give_away(self, seconds: float) -> None:
        """This gateway ends: what it owns is others' before it refuses anybody, where there are others."""
        self._receiver.takes = False
        fault = Fault("cells could not be given away; they are claimed when this gateway has ended", self._now)
        with fault.noted():  # open: who comes is refused, and asks another one again
            async with asyncio.timeout(seconds):
                await self._balancer.give_away()

    async def hand_over(self, seconds: float, close_listener: Callable[[], None]) -> None:
        """What this gateway owns is others', and who is connected is passed on to them, before it refuses anybody.

        Who connects meanwhile is served as before, until `close_listener`.
        """
        parts = self._parts
        await self.give_away(seconds)
        close_listener()
        if parts.cells is None or parts.cells.tenure.cells:
            return  # there is nobody else
        self.has_handed_over = True
        parts.population.is_stopping = True  # answers from now on are the last ones of their connections
        for connection in list(parts.population.connections):
            connection.stop_when_idle()
        until = parts.clock.now() + min(seconds, HAND_OVER_SECONDS_MAX)
        while parts.population.connections and parts.clock.now() < until:  # noqa: ASYNC110 -- none tells of its end
            await asyncio.sleep(LOOK_SECONDS)

    async def leave(self) -> None:
        self._mover.close()
        self._receiver.close()
        await self._claimer.leave()


async def join(
    gateway: GatewayProcess, cells: Cells, engine: Engine, run_id: str, seat: int, predecessors: Sequence[str]
) -> Membership | None:
    """Be there for the other gateways, and own what `predecessors` (the runs that this one takes over) did.

    `seat`: which gateway it is of those that share a port.

    Raises: OSError: nothing can listen where other gateways are to reach it.
    """
    peers = gateway.parts.peers
    if peers is None:
        return None
    membership = Membership(gateway, cells, peers, engine, run_id)
    await membership.begin(seat, predecessors)
    return membership
