"""Which cells move to which gateway: where one ends, where one comes, and where a directory links what two own.

A gateway decides for itself what of its own it gives away, by what all say they have to do. Load counts the tenants
that asked for something in the last minute, and their sessions. Pure: `gateway/balancing.py` asks and does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

# Who has a quarter more to do than its share gives something away; below that, moving costs more than it gains.
OVER_NUMERATOR: Final = 5
OVER_DIVISOR: Final = 4
# Nor where it has hardly anything to do: a handful of tenants is no load for anybody.
LOAD_MIN: Final = 8


def spread(groups: Mapping[str, int], heirs: Mapping[str, int]) -> dict[str, str]:
    """Who gets what of a gateway that ends: the heaviest first, each to who has least to do by then. By load."""
    loads, found = dict(heirs), dict[str, str]()
    if not loads:
        return found
    for name in sorted(groups, key=lambda one: (-groups[one], one)):
        heir = min(loads, key=lambda one: (loads[one], one))
        found[name] = heir
        loads[heir] += groups[name]
    return found


def to_give(me: str, groups: Mapping[str, int], loads: Mapping[str, int]) -> tuple[str, str] | None:
    """What this gateway gives away now, and to whom; None: it keeps all.

    Only who has most to do gives, one thing at a time, so that not all give to a new one at once; and no more than half
    of what it has more to do than the other one, which therefore never has a reason to give it back.
    """
    others = {name: load for name, load in loads.items() if name != me}
    mine = sum(groups.values())
    if not others or mine < LOAD_MIN or any((load, name) > (mine, me) for name, load in others.items()):
        return None
    if mine * (len(others) + 1) * OVER_DIVISOR < (mine + sum(others.values())) * OVER_NUMERATOR:
        return None
    heir = min(others, key=lambda one: (others[one], one))
    most = (mine - others[heir]) // 2
    fitting = [name for name, load in groups.items() if 0 < load <= most]
    return (max(fitting, key=lambda one: (groups[one], one)), heir) if fitting else None


def joins(me: str, sides: Mapping[str, int]) -> str | None:
    """To whom this gateway gives its side of what a directory links; None: it waits, or there is no other side.

    `sides`: the tenants of each owner's part. The smaller moves to the larger; of equal ones, by name.
    """
    if me not in sides:
        return None
    largest = max(sides, key=lambda one: (sides[one], one))
    return None if largest == me else largest


def group_loads(groups: Collection[tuple[str, ...]], by_cell: Mapping[str, int]) -> dict[str, int]:
    """What moves together, by the name of its first cell."""
    return {group[0]: sum(by_cell.get(cell, 0) for cell in group) for group in groups}
