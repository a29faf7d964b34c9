"""A storm: gateways, a control, organizations and a ledger under faults, in virtual hours; promises after every event.

A storm is made of chapters of a day, each a world of its own from a seed of its own: `7.13` is chapter 13 of seed 7,
and repeats alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tenantry.domain.prices import PriceTable
from tenantry.simulation.faults import FAULTS
from tenantry.simulation.fleet import Fleet
from tenantry.simulation.fleet_faults import FLEET_FAULTS
from tenantry.simulation.fleet_promises import FleetPromises
from tenantry.simulation.gateway import Wants
from tenantry.simulation.promises import PromiseBroken, Promises
from tenantry.simulation.upstream import Weather
from tenantry.simulation.world import World

CHAPTER_HOURS = 24
# A day of a fleet has three times the events of another one: their leases are renewed all the time.
FLEET_EVERY = 4
# In each hour some minutes are busy; all that is under way has ended, and is booked, before the next begin.
EPISODE_SECONDS = 90.0
# Chores go on until every fault of them is over.
CHORES_SECONDS = 130.0
TOLD_LINES = 24
MIDNIGHT_SECONDS = 1_800.0
MODEL = "claude-haiku-5-5"

# What can be planted, to see that a promise notices; `tests/unit/simulation` does.
PLANTS = (
    "hold-skipped",
    "settle-without-releasing",
    "session-kept",
    "forward-before-journal",
    "end-not-written",
    "booked-again",
    "lease-not-checked",
    "live-owner-ignored",
    "kept-blindly",
    "doubt-not-held",
    "ceiling-not-written",
)


@dataclass(slots=True)
class Report:
    """What a storm came to. `broken`: the promise that does not hold, and `trace` what led there."""

    seed: str
    hours: int = 0
    requests: int = 0
    events: int = 0
    outcomes: Counter[str] = field(default_factory=Counter[str])
    faults: Counter[str] = field(default_factory=Counter[str])
    broken: str = ""
    trace: list[str] = field(default_factory=list[str])

    def as_json(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "hours": self.hours,
            "requests": self.requests,
            "events": self.events,
            "outcomes": dict(self.outcomes.most_common()),
            "faults": dict(self.faults.most_common()),
            "broken": self.broken or None,
            "trace": self.trace,
        }

    def add(self, other: Report) -> None:
        self.hours += other.hours
        self.requests += other.requests
        self.events += other.events
        self.outcomes += other.outcomes
        self.faults += other.faults
        self.broken, self.trace = other.broken, other.trace
        if other.broken:
            self.seed = other.seed


class Storm:
    """One chapter."""

    def __init__(self, seed: str, prices: PriceTable, planted: frozenset[str] = frozenset()) -> None:
        self.report = Report(seed)
        self.world, self.promises = _make_world(seed, prices, planted)
        self.faults = FAULTS | FLEET_FAULTS if isinstance(self.world, Fleet) else FAULTS
        self.world.begin()
        self.world.on_death = self.promises.forget
        self.world.clock.after_each = self.promises.check

    def run(self, hours: int = CHAPTER_HOURS) -> Report:
        """The first `hours` of its day."""
        report = self.report
        try:
            for hour in range(min(hours, CHAPTER_HOURS)):
                self._episode(is_midnight=hour == CHAPTER_HOURS - 1)
                self.world.clock.run((hour + 1) * 3600.0)
                self._make_quiet()
                report.hours += 1
        except PromiseBroken as error:
            report.broken = f"{error} (at {self.world.clock.now:.3f} s)"
            report.trace = list(self.world.trace)[-TOLD_LINES:]
        report.events, report.requests = self.world.clock.events, self.world.requests
        report.outcomes += self.world.outcomes
        return report

    def _episode(self, *, is_midnight: bool) -> None:
        """A busy while: requests of all, and faults between them; the last one around midnight, where periods turn."""
        random, clock = self.world.random, self.world.clock
        offset = MIDNIGHT_SECONDS - EPISODE_SECONDS / 2 if is_midnight else random.uniform(2.0, 2_000.0)
        self.world.busy_until = clock.now + offset + EPISODE_SECONDS + CHORES_SECONDS
        clock.call_later(offset - 1.0, self.world.begin_chores)
        for slug in self.world.clients:
            for _ in range(random.randint(0, 30)):
                at = offset + random.uniform(0.0, EPISODE_SECONDS)
                leaves = random.uniform(0.05, 20.0) if random.random() < 0.06 else None
                clock.call_later(at, self._asker(slug, self._draw(), leaves))
        for _ in range(random.randint(0, 4)):
            name = random.choice(list(self.faults))
            clock.call_later(offset + random.uniform(0.0, EPISODE_SECONDS), self._fault(name))

    def _asker(self, slug: str, wants: Wants, leaves: float | None) -> Callable[[], None]:
        return lambda: self.world.ask(slug, wants, leaves)

    def _fault(self, name: str) -> Callable[[], None]:
        def happens() -> None:
            self.report.faults[name] += 1
            self.world.tell(f"fault: {name}")
            self.faults[name](self.world)

        return happens

    def _draw(self) -> Wants:
        random = self.world.random
        is_stream = random.random() < 0.5
        most = random.choice((256, 1_024, 4_096))
        answer = min(most, 1 + int(random.expovariate(1 / 400)))
        return Wants(MODEL, random.randint(10, 4_000), answer, most, is_stream)

    def _make_quiet(self) -> None:
        """Whatever was wrong is well again; all that is left is booked, and looked at."""
        self.world.control_works = True
        for organization in self.world.surroundings.organizations.values():
            organization.weather = Weather.FAIR
        for host in self.world.hosts.values():
            host.disk_works, host.write_seconds = True, 0.0
            self.world.see_store(host, True)
            self.world.set_disk(host)
        self.world.clock.run(self.world.clock.now + 1.0)
        self.world.ledger.drain(self.world.control_us())
        self.promises.check_quiet()
        self.world.ledger.forget_rows()


def _make_world(seed: str, prices: PriceTable, planted: frozenset[str]) -> tuple[World, Promises]:
    """Every fourth chapter has gateways that share their tenants."""
    if int(seed.rpartition(".")[2]) % FLEET_EVERY == 1:
        fleet = Fleet(seed, prices, planted)
        return fleet, FleetPromises(fleet)
    world = World(seed, prices, planted)
    return world, Promises(world)


def run_storm(
    seed: str,
    hours: int,
    prices: PriceTable,
    planted: frozenset[str] = frozenset(),
    came: Callable[[float], None] | None = None,
) -> Report:
    """Chapters until `hours` have passed, or a promise is broken. A seed with a point in it is one chapter."""
    if "." in seed:
        return Storm(seed, prices, planted).run(hours)
    total = Report(seed)
    chapters = max(1, -(-hours // CHAPTER_HOURS))
    for chapter in range(chapters):
        total.add(Storm(f"{seed}.{chapter}", prices, planted).run())
        if came is not None:
            came((chapter + 1) / chapters)
        if total.broken:
            break
    return total
