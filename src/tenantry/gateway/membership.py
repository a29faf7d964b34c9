"""A gateway as one of several: what it asks the store for, and where the others reach it (decision 0021).

Loaded where a site has several gateways alone; one that is by itself starts without it.
"""

from __future__ import annotations

import socket
from collections.abc import Coroutine, Sequence
from typing import Any

from sqlalchemy import Engine

from tenantry.domain.owners import Cells
from tenantry.gateway.claiming import Claimer, Site
from tenantry.gateway.peers.listening import PeerServer, serve_peers
from tenantry.gateway.peers.proofs import derive_peer_key
from tenantry.gateway.process import GatewayProcess
from tenantry.storage.cells import CellStore


class Membership:
    """From `join` to `leave`."""

    def __init__(self, claimer: Claimer, server: PeerServer) -> None:
        self._claimer = claimer
        self._server = server

    def chores(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What is done by the clock, by name."""
        claimer = self._claimer
        return {
            "the lease": claimer.keep_lease(),
            "claims of cells": claimer.claim(),
            "ceilings": claimer.raise_ceilings(),
            "what others have left": claimer.review(),
        }

    def accept_no_more(self) -> None:
        """Other gateways bring nothing new."""
        self._server.close()

    async def leave(self) -> None:
        await self._claimer.leave()
        self._claimer.close()


async def join(
    gateway: GatewayProcess, cells: Cells, engine: Engine, run_id: str, seat: int, predecessors: Sequence[str]
) -> Membership:
    """Be there for the other gateways, and own what `predecessors` (the runs that this one takes over) did.

    `seat`: which gateway it is of those that share a port.

    Raises: OSError: nothing can listen where other gateways are to reach it.
    """
    parts = gateway.parts
    settings = parts.settings
    site = Site(engine, settings.data_dir / "journal", parts.prices)
    claimer = Claimer(parts, cells, CellStore(engine), site, run_id)
    cells.ring = claimer.ring
    gateway.followers.append(claimer.apply)
    port = settings.peer_port and settings.peer_port + 2 * seat
    server = await serve_peers(parts, derive_peer_key(parts.pepper), run_id, settings.peer_host, port)
    await claimer.begin(server.address, socket.gethostname(), predecessors)
    return Membership(claimer, server)
