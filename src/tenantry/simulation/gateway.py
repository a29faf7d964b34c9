"""One gateway of a simulated site: the parts of `domain/` that a gateway's process has, under simulated time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, AttemptProgress
from tenantry.domain.breaker import Breakers
from tenantry.domain.ceilings import ENVELOPE_NANOS_MIN
from tenantry.domain.directory import Change, Credential, GatewayKey, Tenant
from tenantry.domain.envelopes import Envelopes
from tenantry.domain.lanes import Lanes
from tenantry.domain.opening import Opening
from tenantry.domain.prices import PriceTable
from tenantry.domain.standing import Standing
from tenantry.domain.suspense import Suspense
from tenantry.domain.till import Till
from tenantry.domain.wall import WallClock
from tenantry.simulation.clock import Clock, Timer
from tenantry.simulation.disk import Journal
from tenantry.simulation.owning import Owning
from tenantry.simulation.upstream import Organization

# As the gateway's chores look (docs/architecture.md, "Beside requests").
WALL_LOOK_SECONDS = 0.5
STREAM_LOOK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Client:
    """A tenant with its key, as the directory has them, and the organization that its credential is of."""

    tenant: Tenant
    key: GatewayKey
    organization: str

    @property
    def credential(self) -> Credential:
        found = self.tenant.credential
        assert found is not None  # noqa: S101 -- a simulated tenant has one
        return found


@dataclass(slots=True)
class Wants:
    """What a client asks for, and how large its answer will be."""

    model: str
    prompt_tokens: int
    answer_tokens: int
    max_tokens: int
    is_stream: bool
    cached_tokens: int = 0  # of the prompt, read from the upstream's cache


class Surroundings:
    """What all gateways of a world share: time, prices, organizations."""

    def __init__(self, clock: Clock, random: Random, prices: PriceTable, zone: ZoneInfo, start_us: int) -> None:
        self.clock = clock
        self.random = random
        self.prices = prices
        self.zone = zone
        self.start_us = start_us
        self.organizations: dict[str, Organization] = {}
        # Told of each turn that a gateway gives, and of what it books: nano-dollars of a tenant, in unix microseconds.
        self.on_turn: Callable[[Gateway, Client], None] | None = None
        self.on_booked: Callable[[Gateway, str, int, int], None] | None = None


@dataclass(slots=True)
class Faults:
    """What is planted in a gateway, to see that the promises notice: never set but by who tests the simulation."""

    planted: frozenset[str] = field(default_factory=frozenset[str])

    def has(self, name: str) -> bool:
        return name in self.planted


class Gateway:
    """One run of a gateway. `journal` is None where nobody looks at it: every beginning then counts as written.

    `skew_us`: how wrong the machine's clock is. `own` makes what it is beside other gateways; None: it is alone.
    """

    def __init__(
        self,
        name: str,
        surroundings: Surroundings,
        opening: Opening,
        make_journal: Callable[[Callable[[], int]], Journal] | None = None,
        skew_us: int = 0,
        planted: frozenset[str] = frozenset(),
        own: Callable[[Gateway], Owning] | None = None,
        envelope_nanos: int = ENVELOPE_NANOS_MIN,
    ) -> None:
        self.name = name
        self.surroundings = surroundings
        self.skew_us = skew_us
        self.faults = Faults(planted)
        clock = surroundings.clock
        self.wall = WallClock(lambda: int(clock.now * 1e9), self.told_us)
        self.journal = make_journal(self.wall.now_us) if make_journal is not None else None
        self.lanes = Lanes(clock.read, self.call_later)
        self.clients: dict[str, Client] = {}  # as it has heard of them, by slug, where there are several gateways
        self.ownership = own(self) if own is not None else None
        asked = self.ownership.cells.asked if self.ownership is not None else None
        self.till = Till(surroundings.prices, surroundings.zone, opening, asked, envelope_nanos)
        self.suspense = Suspense(self.till)
        self.envelopes = Envelopes(self.till, name)
        self.calls: dict[Any, None] = {}  # those that have not ended, in their order
        self.is_dead = False
        self.is_stopping = False
        self.busy_until = math.inf  # when what is done by the clock rests
        self.stopped_until = 0.0  # when its process, which was stopped (SIGSTOP), goes on
        self.number = 0
        self.turns: Counter[str] = Counter()  # had by each tenant, and at each upstream
        self._standings: dict[str, Standing] = {}
        self._shut: dict[str, Breakers] = {}
        self._breakers: dict[str, Breakers] = {}

    def told_us(self) -> int:
        """What the machine's clock tells, right or wrong."""
        return self.surroundings.start_us + int(self.surroundings.clock.now * 1e6) + self.skew_us

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """A timer that dies with the process, and stops with it."""

        def due() -> None:
            if timer.call is not None:  # else it was cancelled while the process was stopped
                call()

        timer = self.surroundings.clock.call_later(seconds, lambda: self.do(due))
        return timer

    def do(self, call: Callable[[], None]) -> None:
        """Now; or when its process goes on, or never."""
        if self.is_dead:
            return
        late = self.stopped_until - self.surroundings.clock.now
        if late > 0:
            self.surroundings.clock.call_later(late, lambda: self.do(call))
        else:
            call()

    def is_busy(self) -> bool:
        """Whether what is done by the clock goes on."""
        return self.surroundings.clock.now < self.busy_until

    def is_unsent(self, tenant_id: str) -> bool:
        """Whether nothing of a tenant goes upstream from here."""
        return all(call.is_unsent for call in self.calls if call.client.tenant.tenant_id == tenant_id)

    def flush(self) -> bool:
        """What has ended here stands in the journal, where it is read. False: it cannot be written."""
        return self.journal is None or self.journal.flush()

    def standing(self, credential: Credential) -> Standing:
        found = self._standings.get(credential.credential_id)
        if found is None:
            name = credential.upstream.name
            breakers = self._breakers.setdefault(name, Breakers(name, self._shut))
            found = self._standings[credential.credential_id] = Standing(credential, breakers)
            found.breaker.used_at = self.surroundings.clock.now
        return found

    def next_id(self) -> str:
        self.number += 1
        return f"{self.name}_{self.number}"

    def apply(self, change: Change) -> None:
        """What the directory says now has arrived."""
        if self.ownership is not None:
            ids = change.snapshot.tenants if change.tenants is None else change.tenants
            self.ownership.link({one: change.snapshot.tenants[one] for one in ids})
        self.lanes.apply(change)
        self.till.apply(change, self.wall.now_us())

    def look_at_wall(self, reopened: Callable[[int], Opening]) -> None:
        """As `gateway/chores.py` does about twice a second: a step of the clock that stays is followed."""
        moved_us = self.wall.look()
        if moved_us is not None:
            self.till.reopen(reopened(self.wall.now_us() + moved_us))
            self.wall.move(moved_us)

    # The journal

    def write_begin(self, event: AttemptBegun, then: Callable[[bool], None]) -> None:
        if self.journal is None:
            then(True)
        elif self.faults.has("forward-before-journal"):
            self.journal.begin(event, lambda _: None)
            then(True)
        else:
            self.journal.begin(event, lambda written: self.do(lambda: then(written)))

    def write_progress(self, event: AttemptProgress) -> None:
        if self.journal is not None:
            self.journal.progress(event)

    def write_end(self, event: AttemptEnded) -> None:
        if self.journal is not None and not self.faults.has("end-not-written"):
            self.journal.end(event)

    def learn(
        self, credential: Credential, model: str, fields: Mapping[bytes, bytes], retry_after: float | None
    ) -> None:
        self.lanes.learn(credential, model, fields, retry_after)
