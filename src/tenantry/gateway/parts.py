"""What a request may need of its process: made once at the start, passed to who needs it, never changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tenantry.domain.directory import Snapshot
from tenantry.domain.hosts import HostRule
from tenantry.domain.lanes import Lanes
from tenantry.domain.owners import Cells
from tenantry.domain.prices import PriceTable
from tenantry.domain.till import Till
from tenantry.gateway.bodies import Bodies
from tenantry.gateway.deadlines import Deadlines
from tenantry.gateway.health import Health
from tenantry.gateway.peers.calling import Peers
from tenantry.gateway.policy import Policies
from tenantry.gateway.population import Population
from tenantry.gateway.recorder import Recorder
from tenantry.gateway.tallies import Tallies
from tenantry.gateway.telling import Telling
from tenantry.gateway.upstream import Pools
from tenantry.settings import GatewaySettings


class Latest:
    """The newest snapshot of the directory; replaced whole when the directory changes."""

    __slots__ = ("snapshot",)

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot


@dataclass(frozen=True, slots=True)
class Clock:
    """`now`: the event loop's time in seconds, which never goes back. `wall_us`: unix microseconds.

    `call_soon` calls something in the next turn of the loop, `call_later` after so many seconds of its time.
    """

    now: Callable[[], float]
    wall_us: Callable[[], int]
    call_soon: Callable[[Callable[[], None]], object]
    call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle]


@dataclass(frozen=True, slots=True)
class Parts:
    """See DESIGN 2. Only `latest`, `population` and the counters inside the parts ever change.

    `cells`, `peers`: what this gateway owns, where several serve; None where it is the only one.
    """

    settings: GatewaySettings
    pepper: bytes
    host_rule: HostRule
    version_default: bytes
    prices: PriceTable
    clock: Clock
    latest: Latest
    population: Population
    deadlines: Deadlines
    lanes: Lanes
    till: Till
    health: Health
    recorder: Recorder
    tallies: Tallies
    policies: Policies
    pools: Pools
    telling: Telling
    bodies: Bodies
    cells: Cells | None
    peers: Peers | None
