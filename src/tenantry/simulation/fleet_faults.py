"""What goes wrong between gateways that share their tenants, beside what does with each of them (`faults.py`)."""

from __future__ import annotations

from collections.abc import Callable

from tenantry.simulation.fleet import MACHINES, Fleet
from tenantry.simulation.world import World


def _on_fleet(fault: Callable[[Fleet], None]) -> Callable[[World], None]:
    def happens(world: World) -> None:
        if isinstance(world, Fleet):
            fault(world)

    return happens


def _stop(fleet: Fleet) -> None:
    fleet.stop(fleet.any_host(), fleet.random.choice((0.3, 3.0, 12.0, 40.0)))


def _store_away(fleet: Fleet) -> None:
    """From all of them, as when PostgreSQL is restarted, or hangs."""
    for host in fleet.hosts.values():
        fleet.see_store(host, False)

    def heals() -> None:
        for host in fleet.hosts.values():
            fleet.see_store(host, True)

    fleet.for_a_while(fleet.random.choice((2.0, 8.0, 45.0)), heals)


def _answers_lost(fleet: Fleet) -> None:
    """What is asked of the store is done, and often nobody hears of it."""
    lines = list(fleet.lines.values())
    for line in lines:
        line.loss = fleet.random.choice((0.2, 0.7))

    def heals() -> None:
        for line in lines:
            line.loss = 0.0

    fleet.for_a_while(fleet.random.uniform(5.0, 40.0), heals)


def _store_slow(fleet: Fleet) -> None:
    line = fleet.random.choice(list(fleet.lines.values()))
    line.slow_seconds = fleet.random.choice((0.1, 1.0, 6.0))

    def heals() -> None:
        line.slow_seconds = 0.0

    fleet.for_a_while(fleet.random.uniform(5.0, 40.0), heals)


def _gateways_cut(fleet: Fleet) -> None:
    one, other = fleet.random.sample(list(MACHINES), 2)
    fleet.tell(f"{one} and {other} do not reach each other")
    fleet.cut_off(one, other, fleet.random.uniform(0.5, 30.0))


def _machine_lost(fleet: Fleet) -> None:
    machine = fleet.random.choice([*MACHINES.values()])
    is_forgotten = fleet.random.random() < 0.3
    fleet.tell(f"machine {machine} is off{', and declared lost' if is_forgotten else ''}")
    fleet.lose_machine(machine, fleet.random.uniform(5.0, 60.0), is_forgotten=is_forgotten)


def _leave(fleet: Fleet) -> None:
    fleet.leave(fleet.any_host(), fleet.random.uniform(0.1, 20.0))


def _change_credential(fleet: Fleet) -> None:
    fleet.change_credential(fleet.random.choice(list(fleet.clients)), fleet.random.choice(("shared", "learned")))


def _change_fallback(fleet: Fleet) -> None:
    slug = fleet.random.choice(list(fleet.clients))
    other = "learned" if fleet.clients[slug].organization == "shared" else "shared"
    fleet.change_fallback(slug, fleet.random.choice((other, other, None)))


FLEET_FAULTS: dict[str, Callable[[World], None]] = {
    name: _on_fleet(fault)
    for name, fault in (
        ("gateway stopped", _stop),
        ("store away from all", _store_away),
        ("answers of the store lost", _answers_lost),
        ("store slow", _store_slow),
        ("gateways cut off", _gateways_cut),
        ("machine lost", _machine_lost),
        ("gateway leaves", _leave),
        ("credential changed", _change_credential),
        ("fallback changed", _change_fallback),
    )
}
