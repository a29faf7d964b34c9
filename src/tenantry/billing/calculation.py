"""A month's bill: lines in whole nano-dollars, rounded once to what can be paid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from tenantry.billing.corrections import Corrected
from tenantry.billing.months import Month, Stretch, rounded, runs_of
from tenantry.billing.phrases import phrase
from tenantry.billing.rating import CORRECTION, MINIMUM, SETUP, Included, Line, stretch_lines
from tenantry.billing.usage import Used
from tenantry.domain.money import NANOS_PER_USD


@dataclass(frozen=True, slots=True)
class Bill:
    """The lines of a month, and the usage they are of.

    `rows` and `list_nanos` are all ledger rows of it: each is on exactly one line. `used` is the month's own; what was
    booked in it for earlier months is `corrected`, with lines of its own; `corrected_cost_nanos` of it the agency pays.
    """

    month: Month
    stretches: Sequence[Stretch]
    lines: Sequence[Line]
    used: Sequence[Used]
    corrected: Sequence[Corrected] = ()
    corrected_cost_nanos: int = 0

    @property
    def all_used(self) -> list[Used]:
        """The usage of all rows that were booked in the month, corrections on the day of their booking."""
        return [*self.used, *(one.used(one.booked) for one in self.corrected)]

    @property
    def correction_lines(self) -> list[Line]:
        return [one for one in self.lines if one.kind == CORRECTION]

    @property
    def alone(self) -> Bill:
        """Without corrections of earlier months."""
        return replace(
            self, lines=[one for one in self.lines if one.kind != CORRECTION], corrected=(), corrected_cost_nanos=0
        )

    @property
    def net_nanos(self) -> int:
        return sum(one.nanos for one in self.lines)

    @property
    def rows(self) -> int:
        return sum(one.rows for one in self.lines)

    @property
    def list_nanos(self) -> int:
        return sum(one.list_nanos for one in self.lines)


def calculate(month: Month, stretches: Sequence[Stretch], used: Sequence[Used]) -> Bill:
    """The bill of a month. `used` is cut where the stretches are; each sum belongs to that of its first day."""
    lines: list[Line] = []
    for run in runs_of(stretches):
        left = Included(run)
        for stretch in run:
            lines += stretch_lines(stretch, [one for one in used if stretch.first <= one.first < stretch.end], left)
    return Bill(month, stretches, [*lines, *_minimum(stretches, lines)], used)


def _minimum(stretches: Iterable[Stretch], lines: Iterable[Line]) -> list[Line]:
    """What is missing to the least that a month costs, beside the set-up."""
    least = sum(one.share(one.terms.minimum_nanos) for one in stretches if one.terms is not None and not one.is_trial)
    missing = least - sum(one.nanos for one in lines if one.kind != SETUP)
    return [Line(MINIMUM, phrase("minimum"), missing)] if missing > 0 and least else []


def in_minor_units(nanos: Sequence[int], rate: Fraction, digits: int) -> list[int]:
    """Amounts in the smallest unit of a currency that has `digits` decimal places, at `rate` of it for a dollar.

    Each running sum is rounded, half up, and a line is the difference of two: so the lines add up to the exact total
    rounded once, and each is less than one unit away from its exact amount.
    """
    each = rate * 10**digits / NANOS_PER_USD
    found: list[int] = []
    total = before = 0
    for one in nanos:
        total += one
        now = rounded(total * each)
        found.append(now - before)
        before = now
    return found
