"""What goes wrong in a storm: each fault by its name, done to the world, and undone after a while."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tenantry.simulation.upstream import Weather
from tenantry.simulation.world import World


def _kill(world: World) -> None:
    world.crash(world.any_host(), world.random.uniform(0.2, 20.0))


def _kill_twice(world: World) -> None:
    host = world.any_host()
    world.crash(host, 0.5)
    world.clock.call_later(world.random.uniform(0.6, 3.0), lambda: world.crash(host, 1.0))


def _weather(world: World) -> None:
    organization = world.random.choice(list(world.surroundings.organizations.values()))
    organization.weather = world.random.choice([one for one in Weather if one is not Weather.FAIR])
    world.tell(f"{organization.name} is {organization.weather.value}")

    def clears() -> None:
        organization.weather = Weather.FAIR

    world.for_a_while(world.random.uniform(1.0, 60.0), clears)


def _reset(world: World) -> None:
    world.random.choice(list(world.surroundings.organizations.values())).reset_all()


def _jump(world: World) -> None:
    """The clock of a machine is set, and set right again after a moment, or never."""
    host, random = world.any_host(), world.random
    by_us = int(random.choice((-1, 1)) * random.choice((0.5, 3.0, 60.0, 3_600.0, 86_400.0, 40 * 86_400.0)) * 1e6)
    if not world.is_jump_fair(host, by_us):
        by_us = 500_000
    world.tell(f"the clock of {host.name} is set by {by_us / 1e6:.0f} s")

    def set_by(moved_us: int) -> None:
        host.skew_us += moved_us
        if host.gateway is not None:
            host.gateway.skew_us = host.skew_us

    set_by(by_us)
    world.for_a_while(random.choice((4.0, 60.0)), lambda: set_by(-by_us))


def _slow_disk(world: World) -> None:
    host = world.any_host()
    host.write_seconds = world.random.choice((0.02, 0.5, 3.0, 20.0))
    world.set_disk(host)

    def recovers() -> None:
        host.write_seconds = 0.0
        world.set_disk(host)

    world.for_a_while(world.random.uniform(2.0, 40.0), recovers)


def _full_disk(world: World) -> None:
    host = world.any_host()
    host.disk_works = False
    world.set_disk(host)

    def recovers() -> None:
        host.disk_works = True
        world.set_disk(host)

    world.for_a_while(world.random.uniform(1.0, 30.0), recovers)


def _control_dies(world: World) -> None:
    """In the middle of a drain: rows are booked, and how far it had come is not."""
    world.ledger.drain(world.control_us(), dies_after=world.random.randint(0, 5))
    world.control_works = False

    def begins() -> None:
        world.control_works = True

    world.for_a_while(world.random.uniform(0.5, 60.0), begins)


def _partition(world: World) -> None:
    """A gateway is cut off from the store: it hears of no change, and none can begin."""
    host = world.any_host()
    world.see_store(host, False)

    def heals() -> None:
        world.see_store(host, True)

    world.for_a_while(world.random.uniform(1.0, 60.0), heals)


def _change_budget(world: World) -> None:
    # What is in flight without a budget is not held, and one that is set then does not hold it (decision 0003): so a
    # tenant of a storm has one from its beginning, or never.
    slug = world.random.choice([slug for slug, client in world.clients.items() if client.tenant.budget.caps] or ["a"])
    if not world.clients[slug].tenant.budget.caps:
        return
    tenant = replace(world.clients[slug].tenant, budget=world.draw_budget())
    world.change(slug, tenant, is_noticed=world.random.random() < 0.5)


def _change_limits(world: World) -> None:
    slug = world.random.choice(list(world.clients))
    tenant = world.clients[slug].tenant
    limits = tenant.limits.with_changes(
        {"sessions_max": world.random.choice((1, 2, 5, 20)), "weight": world.random.choice((1, 2, 5))}
    )
    world.change(slug, replace(tenant, limits=limits), is_noticed=world.random.random() < 0.5)


FAULTS: dict[str, Callable[[World], None]] = {
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
