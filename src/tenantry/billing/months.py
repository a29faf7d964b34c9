"""A month cut into stretches of days in which one set of terms counts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from fractions import Fraction
from itertools import pairwise

from tenantry.domain.plans import NEXT_MONTH, Terms, first_of_next_month, in_force, on_day
from tenantry.storage.records import PlanVersion, TenantPlan

_DAY = timedelta(days=1)
_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
_YEARS = range(2000, 9999)


class BadMonth(ValueError):
    """A month is written YYYY-MM, such as 2026-11."""


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month of the agency."""

    first: date

    @property
    def end(self) -> date:
        """The first day of the next."""
        return first_of_next_month(self.first)

    @property
    def days(self) -> int:
        return (self.end - self.first).days

    def __str__(self) -> str:
        return f"{self.first:%Y-%m}"


def read_month(text: str) -> Month:
    """Raises: BadMonth."""
    found = _MONTH.fullmatch(text)
    if found is None or int(found[1]) not in _YEARS or not 1 <= int(found[2]) <= 12:
        raise BadMonth(f"{text[:40]!r}: {(BadMonth.__doc__ or '').strip()}")
    return Month(date(int(found[1]), int(found[2]), 1))


def month_before(day: date) -> Month:
    """The last whole month before a day."""
    return Month((day.replace(day=1) - _DAY).replace(day=1))


@dataclass(frozen=True, slots=True)
class Stretch:
    """Days from `first` to before `end` with one set of terms; `terms` None: on no plan.

    A sum for a month is split over `base_days` from `base_first` on: those of the month, or those on this plan where
    the plan splits no fee. `owes_setup`: the set-up fee is due in it.
    """

    first: date
    end: date
    plan: str
    version_id: int
    terms: Terms | None
    slots: int | None
    is_trial: bool
    is_discounted: bool
    owes_setup: bool
    base_first: date
    base_days: int

    @property
    def days(self) -> int:
        return (self.end - self.first).days

    def is_of_one_run(self, before: Stretch) -> bool:
        """Whether the terms of the stretch before it go on: other slots, or the end of a discount, part no included
        usage, as at the gateway (domain/allowances.py).
        """
        same = (self.plan, self.version_id, self.is_trial)
        return before.end == self.first and (before.plan, before.version_id, before.is_trial) == same

    def share(self, whole: int) -> int:
        """Its part of what a whole month costs. The parts of a month add up to the whole, to the nano-dollar."""
        before, until = (self.first - self.base_first).days, (self.end - self.base_first).days
        return rounded(Fraction(whole * until, self.base_days)) - rounded(Fraction(whole * before, self.base_days))


def runs_of(stretches: Sequence[Stretch]) -> list[list[Stretch]]:
    """Stretches on which the same terms go on, put together."""
    runs: list[list[Stretch]] = []
    for one in stretches:
        if runs and one.is_of_one_run(runs[-1][-1]):
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs


def rounded(exact: Fraction) -> int:
    """To a whole number, half up."""
    return (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)


@dataclass(frozen=True, slots=True)
class Sold:
    """What a tenant was put on, and every version of those plans, each in the order in which it was made."""

    assigned: Sequence[TenantPlan]
    versions: Sequence[PlanVersion]

    def stretches(self, month: Month) -> list[Stretch]:
        """The month from its first day to its last."""
        cuts = sorted({month.first, month.end, *(day for day in self._cuts() if month.first < day < month.end)})
        found: list[Stretch] = []
        for first, end in pairwise(cuts):
            one = self._stretch(first, end, month)
            if found and _goes_on(found[-1], one):
                found[-1] = replace(found[-1], end=end)
            else:
                found.append(one)
        return [_based(one, found) for one in found]

    def first_day(self) -> date | None:
        """Of the tenant's first plan."""
        days = [one.first_day for one in in_force(one.dated for one in self.assigned) if one.what.plan is not None]
        return days[0] if days else None

    def trial_end(self) -> date | None:
        """The first day after the trial of the tenant's first plan; that plan's first day where it has none."""
        first = self.first_day()
        if first is None:
            return None
        terms = self._on(first)[1]
        return first + timedelta(days=terms.terms.trial_days if terms is not None else 0)

    def _on(self, day: date) -> tuple[TenantPlan | None, PlanVersion | None]:
        on = on_day((one.dated for one in self.assigned), day)
        if on is None or on.plan is None:
            return None, None
        versions = [one.dated for one in self.versions if one.plan == on.plan]
        return on, on_day(versions, day)

    def _cuts(self) -> Iterator[date]:
        for one in self.assigned:
            yield one.from_day
        for version in self.versions:
            if version.from_day is not None:
                yield version.from_day
            if version.terms.discount_until is not None:
                yield date.fromisoformat(version.terms.discount_until) + _DAY
        trial_end = self.trial_end()
        if trial_end is not None:
            yield trial_end

    def _stretch(self, first: date, end: date, month: Month) -> Stretch:
        on, version = self._on(first)
        terms = version.terms if version is not None else None
        trial_end = self.trial_end()
        until = terms.discount_until if terms is not None else None
        return Stretch(
            first,
            end,
            on.plan or "" if on is not None else "",
            version.version_id if version is not None else 0,
            terms,
            on.slots if on is not None else None,
            terms is not None and trial_end is not None and first < trial_end,
            terms is not None and terms.discount_percent != "0" and (until is None or first.isoformat() <= until),
            terms is not None and trial_end == first,
            month.first,
            month.days,
        )


def _goes_on(before: Stretch, one: Stretch) -> bool:
    """Whether nothing begins with `one`: what is included must not be split on a day on which nothing changes."""
    return replace(before, first=one.first, end=one.end, owes_setup=one.owes_setup) == one and not one.owes_setup


def _based(one: Stretch, all_of_them: Sequence[Stretch]) -> Stretch:
    """A plan that splits no fee is owed whole, over the days of the month on which it counts."""
    if one.terms is None or one.terms.changes != NEXT_MONTH:
        return one
    same = [other for other in all_of_them if other.version_id == one.version_id]
    days = sum(other.days for other in same)
    # Days between them on another plan do not count: what came before is put together.
    before = sum(other.days for other in same if other.first < one.first)
    return replace(one, base_first=one.first - timedelta(days=before), base_days=days)
