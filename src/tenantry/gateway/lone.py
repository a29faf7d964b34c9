"""A gateway that serves by itself counts for all tenants: nobody may grant beside it (decision 0021).

Where `gateway_processes` is raised from one, the first of the new gateways takes its place, and counts what it is in
the middle of. The others know nothing of that: they begin when it is over.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from tenantry.domain.cells import AmongOthers
from tenantry.gateway.handover import socket_name
from tenantry.ledger.journal import is_alive
from tenantry.storage.controls import ControlStore
from tenantry.storage.leases import LeaseStore, joined_of

log = logging.getLogger("tenantry.gateway")

LOOK_SECONDS: Final = 0.2
# A gateway that is starting has a journal before it is one of several, and its control tells of journals each second:
# who is still alone after so long is that, or takes long to read a large ledger.
STARTING_SECONDS: Final = 10.0


def require_alone(engine: Engine, journal_dir: Path) -> None:
    """Who grants by itself counts budgets and limits anew, so no gateway of another machine may grant beside it.

    Those whose journals are here are this machine's: they are replaced, or dead.

    Raises: AmongOthers.
    """
    others = [one for one in LeaseStore(engine).live() if not (journal_dir / one).is_dir()]
    if others:
        raise AmongOthers(
            f"gateway {others[0]} of another machine grants on this store: put `cluster = true` into tenantry.toml, so "
            "that they share limits and budgets, and start again. If it is not there any more, its lease runs out soon"
        )


async def require_nobody_alone(engine: Engine, journal_dir: Path, seconds: float = STARTING_SECONDS) -> None:
    """The same, asked by one of several: nobody of another machine may grant by itself, as far as its control tells.

    Raises: AmongOthers; the store's own errors.
    """
    now = asyncio.get_running_loop().time
    until = now() + seconds
    while found := await asyncio.to_thread(_find_lone_elsewhere, engine, journal_dir):
        if now() >= until:
            machine, gateway = found
            raise AmongOthers(
                f"gateway {gateway} of the machine {machine} grants by itself on this store: put `cluster = true` into "
                "its tenantry.toml and restart it there, or stop it, and start this one again"
            )
        await asyncio.sleep(LOOK_SECONDS)


def _find_lone_elsewhere(engine: Engine, journal_dir: Path) -> tuple[str, str] | None:
    """A machine and its gateway."""
    found = ControlStore(engine).list_lone_machines()
    return next((one for one in found if not (journal_dir / one[1]).is_dir()), None)


async def wait_for_lone(engine: Engine, journal_dir: Path, port: int) -> None:
    """Return when no gateway of `port` serves by itself, or ends what it did so. Raises: the store's own errors."""
    is_told = False
    while (found := await asyncio.to_thread(find_lone, engine, journal_dir, port)) is not None:
        if not is_told:
            log.info("gateway %s ends what it began when it was by itself; this one serves when it has", found)
            is_told = True
        await asyncio.sleep(LOOK_SECONDS)


def find_lone(engine: Engine, journal_dir: Path, port: int) -> str | None:
    """One that lives and has never joined the others; who does, does so before it can be asked."""
    alive = [path.parent.name for path in journal_dir.glob(f"*/{socket_name(port)}") if is_alive(path.parent)]
    if not alive:
        return None
    with engine.connect() as connection:
        joined = joined_of(connection, alive)
    return next((one for one in alive if one not in joined), None)
