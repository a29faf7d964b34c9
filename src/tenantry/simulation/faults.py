"""What goes wrong in a storm: each fault by its name, done to the world, and undone after a while."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from tenantry.simulation.upstream import Weather

if TYPE_CHECKING:
    from tenantry.simulation.storm import Storm


def _kill(storm: Storm) -> None:
    storm.crash(storm.any_host(), storm.random.uniform(0.2, 20.0))


def _kill_twice(storm: Storm) -> None:
    host = storm.any_host()
    storm.crash(host, 0.5)
    storm.clock.call_later(storm.random.uniform(0.6, 3.0), lambda: storm.crash(host, 1.0))


def _weather(storm: Storm) -> None:
    organization = storm.random.choice(list(storm.site.organizations.values()))
    organization.weather = storm.random.choice([one for one in Weather if one is not Weather.FAIR])
    storm.tell(f"{organization.name} is {organization.weather.value}")

    def clears() -> None:
        organization.weather = Weather.FAIR

    storm.for_a_while(storm.random.uniform(1.0, 60.0), clears)


def _reset(storm: Storm) -> None:
    storm.random.choice(list(storm.site.organizations.values())).reset_all()


def _jump(storm: Storm) -> None:
    """The clock of a machine is set, and set right again after a moment, or never."""
    host, random = storm.any_host(), storm.random
    by_us = int(random.choice((-1, 1)) * random.choice((0.5, 3.0, 60.0, 3_600.0, 86_400.0, 40 * 86_400.0)) * 1e6)
    storm.tell(f"the clock of {host.name} is set by {by_us / 1e6:.0f} s")

    def set_by(moved_us: int) -> None:
        host.skew_us += moved_us
        if host.gateway is not None:
            host.gateway.skew_us = host.skew_us

    set_by(by_us)
    storm.for_a_while(random.choice((4.0, 60.0)), lambda: set_by(-by_us))


def _slow_disk(storm: Storm) -> None:
    host = storm.any_host()
    host.write_seconds = storm.random.choice((0.02, 0.5, 3.0, 20.0))
    storm.set_disk(host)

    def recovers() -> None:
        host.write_seconds = 0.0
        storm.set_disk(host)

    storm.for_a_while(storm.random.uniform(2.0, 40.0), recovers)


def _full_disk(storm: Storm) -> None:
    host = storm.any_host()
    host.disk_works = False
    storm.set_disk(host)

    def recovers() -> None:
        host.disk_works = True
        storm.set_disk(host)

    storm.for_a_while(storm.random.uniform(1.0, 30.0), recovers)


def _control_dies(storm: Storm) -> None:
    """In the middle of a drain: rows are booked, and how far it had come is not."""
    storm.ledger.drain(storm.control_us(), dies_after=storm.random.randint(0, 5))
    storm.control_works = False

    def begins() -> None:
        storm.control_works = True

    storm.for_a_while(storm.random.uniform(0.5, 60.0), begins)


def _partition(storm: Storm) -> None:
    """A gateway is cut off from the store: it hears of no change, and none can begin."""
    host = storm.any_host()
    host.sees_store = False

    def heals() -> None:
        host.sees_store = True

    storm.for_a_while(storm.random.uniform(1.0, 60.0), heals)


def _change_budget(storm: Storm) -> None:
    # What is in flight without a budget is not held, and one that is set then does not hold it (decision 0003): so a
    # tenant of a storm has one from its beginning, or never.
    slug = storm.random.choice([slug for slug, client in storm.clients.items() if client.tenant.budget.caps] or ["a"])
    if not storm.clients[slug].tenant.budget.caps:
        return
    tenant = replace(storm.clients[slug].tenant, budget=storm.draw_budget())
    storm.change(slug, tenant, is_noticed=storm.random.random() < 0.5)


def _change_limits(storm: Storm) -> None:
    slug = storm.random.choice(list(storm.clients))
    tenant = storm.clients[slug].tenant
    limits = tenant.limits.with_changes(
        {"sessions_max": storm.random.choice((1, 2, 5, 20)), "weight": storm.random.choice((1, 2, 5))}
    )
    storm.change(slug, replace(tenant, limits=limits), is_noticed=storm.random.random() < 0.5)


FAULTS: dict[str, Callable[[Storm], None]] = {
    "gateway killed": _kill,
    "gateway killed twice": _kill_twice,
    "weather": _weather,
    "connections reset": _reset,
    "clock set": _jump,
    "slow disk": _slow_disk,
    "disk full": _full_disk,
    "control killed": _control_dies,
    "store away": _partition,
    "budget changed": _change_budget,
    "limits changed": _change_limits,
}
