"""What asks for a turn, and the way that it takes: lanes of tenant and key, and a capacity with its queue."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from tenantry.domain.admission import Grant, Lane
from tenantry.domain.directory import Credential, GatewayKey, Tenant
from tenantry.domain.fair_queue import FairQueue
from tenantry.domain.flows import Flow, Sub

# The quarter that English text and code come to (reference 3.4); corrected when the answer tells the usage.
BYTES_PER_TOKEN: Final = 4


class Shared(FairQueue["Ask"]):
    """One capacity, and those that wait for it. That of free routes has no `capacity`: only own limits count."""

    __slots__ = ("capacity", "models", "name", "used_at")

    def __init__(
        self, name: str, stirred: list[FairQueue[Ask]], capacity: Lane | None, is_shared: bool, now: float
    ) -> None:
        super().__init__(stirred, math.inf if capacity is None else capacity.sessions_max, is_shared)
        self.name = name
        self.capacity = capacity
        self.used_at = now  # when its last way was made
        self.models: dict[str, Lane] = {}  # by undated id

    def lane_of(self, model: str) -> Lane | None:
        """What it can take for a model, where that is known."""
        lane = self.models.get(model)
        return lane if lane is not None or not self.models else self.models.get(undated(model))


class Way:
    """The lanes of a tenant, key and credential. Good while `generation` is that of the register."""

    __slots__ = ("credential", "flow", "generation", "key", "lanes", "shared", "tenant")

    def __init__(
        self,
        generation: int,
        credential: Credential | None,
        tenant: Lane,
        key: Lane | None,
        shared: Shared,
        flow: Flow[Ask],
    ) -> None:
        self.generation = generation
        self.credential = credential
        self.tenant = tenant
        self.key = key
        self.shared = shared
        self.flow = flow
        self.lanes: tuple[Lane, ...] = tuple(lane for lane in (tenant, key, shared.capacity) if lane is not None)


class Ask(Grant):
    """One request that wants to go upstream, and what it was given. `credential` is None for what costs nothing: that
    has a lane of its own.

    `on_grant` is called when a request that had to wait gets its turn; `queue` is not None until then. `asked_at`: when
    a request that has to wait has begun to, seconds of the loop.
    """

    __slots__ = ("asked_at", "credential", "is_new", "key", "model", "on_grant", "queue", "sub", "tenant", "way")

    def __init__(
        self,
        tenant: Tenant,
        key: GatewayKey,
        credential: Credential | None,
        model: str,
        input_tokens: int,
        on_grant: Callable[[Grant], None],
        way: Way | None = None,
    ) -> None:
        # What `Grant` begins with, without a call: an ask is made for each request.
        self.input_tokens = input_tokens
        self.output_tokens = 0
        self.lanes = ()
        self.begun_at = self.asked_at = 0.0
        self.is_open = False
        self.tenant = tenant
        self.key = key
        self.credential = credential
        self.model = model
        self.on_grant = on_grant
        self.way = way
        self.queue: Shared | None = None
        self.sub: Sub[Ask] | None = None  # where it stands in the queue
        self.is_new = True

    @property
    def grant(self) -> Grant | None:
        """What it was given, once it was."""
        return self if self.lanes else None


def capacity_name(credential: Credential | None) -> str:
    """Whose capacity a request uses: a credential's, or its organization's when that is declared."""
    if credential is None:
        return ""
    upstream = credential.upstream
    return upstream.upstream_id if upstream.shares_capacity else credential.credential_id


def capacities_of(tenant: Tenant) -> list[str]:
    """What its requests draw on, the first one first; nothing, where it has no credential."""
    return [capacity_name(one) for one in (tenant.credential, tenant.fallback) if one is not None]


@lru_cache(maxsize=1024)
def undated(model: str) -> str:
    """Dated and undated ids are one model (reference 5.6)."""
    return model[:-9] if model[-9:-8] == "-" and model[-8:].isdigit() else model
