"""A gateway that serves by itself counts for all tenants: nobody may grant beside it (decision 0021).

Where `gateway_processes` is raised from one, the first of the new gateways takes its place, and counts what it is in
the middle of. The others know nothing of that: they begin when it is over.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, select

from tenantry.domain.cells import AmongOthers
from tenantry.gateway.handover import socket_name
from tenantry.ledger.journal import is_alive
from tenantry.storage.cell_tables import gateways
from tenantry.storage.leases import LeaseStore

log = logging.getLogger("tenantry.gateway")

LOOK_SECONDS: Final = 0.2


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
        query = select(gateways.c.gateway_id).where(gateways.c.gateway_id.in_(alive))
        joined = {*connection.execute(query).scalars()}
    return next((one for one in alive if one not in joined), None)
