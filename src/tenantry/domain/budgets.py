"""Budgets: what a tenant or a key may spend in a day, a week or a month."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Raise:
    """More money for a while: from `from_us` until before `until_us`, in unix microseconds."""

    amount_nanos: int
    from_us: int
    until_us: int


@dataclass(frozen=True, slots=True)
class Cap:
    """The most that may be spent in each `period`: day, week or month, or what counts by a plan at a time."""

    period: str
    amount_nanos: int
    raises: tuple[Raise, ...]


@dataclass(frozen=True, slots=True)
class Budget:
    """Every cap holds at once. `mode`: hard refuses what does not fit, soft only says so.

    `plan_raises` are on top of what the tenant's plan includes, where that blocks or throttles.
    """

    caps: tuple[Cap, ...]
    mode: str
    plan_raises: tuple[Raise, ...] = ()


def amount_at(cap: Cap, at_us: int) -> int:
    """What the cap allows at that time, raises included."""
    amount = cap.amount_nanos
    for more in cap.raises:
        if more.from_us <= at_us < more.until_us:
            amount += more.amount_nanos
    return amount
