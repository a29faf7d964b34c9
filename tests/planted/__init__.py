"""Faults to be planted into a gateway, one at a time, from outside: the program has no switch for any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

Plant = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """`plant` puts it in. `group` of the isolation proof has to see it, in a check whose title holds `seen`."""

    plant: Plant
    group: str
    seen: str


FAULTS: dict[str, Fault] = {}


def caught_by(group: str, seen: str) -> Callable[[Plant], Plant]:
    """What has to see a fault; it is known by the name of the function."""

    def known(plant: Plant) -> Plant:
        FAULTS[plant.__name__] = Fault(plant, group, seen)
        return plant

    return known


def faults_of(module: ModuleType) -> list[str]:
    """The names of those that a module plants."""
    return [name for name, fault in FAULTS.items() if fault.plant.__module__ == module.__name__]
