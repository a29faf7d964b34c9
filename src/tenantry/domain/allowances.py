"""What a tenant's plan lets it use: the included usage of a month, where its terms block or throttle beyond it.

A month is cut into windows of days on which the same terms count, as its bill is (`billing/months.py`), and each has
its part of what is included. A property test (`test_allowances.py`) holds both to the same parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from tenantry.domain.periods import DAY, period_of, read_period
from tenantry.domain.plans import BILL, NEXT_MONTH, Dated, Terms, first_of_next_month, on_day

# The kind of the period, and of the cap, that a plan sets.
PLAN: Final = "plan"


@dataclass(frozen=True, slots=True)
class Window:
    """Days on which one set of terms counts, from `start_us` to before `end_us`; `plan` is "" on days without one.

    `nanos` or `tokens` are included, both None where usage is without a bound; what happens beyond is `overage`'s.
    """

    start_us: int
    end_us: int
    plan: str
    overage: str
    nanos: int | None
    tokens: int | None
    throttle_tier: str | None


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive days with the same terms, in trial or out of it."""

    first: date
    end: date
    plan: str
    version: int
    terms: Terms | None
    is_trial: bool

    @property
    def days(self) -> int:
        return (self.end - self.first).days


@dataclass(frozen=True, slots=True)
class Sold:
    """A plan's terms by the day from which they count, in the order in which they were set."""

    plan: str
    versions: tuple[Dated[Terms], ...]


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent in the month of `day` before it: of the days on which a window begins, and that are past."""

    day: date
    nanos: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """A tenant's plans by the day from which it is on them, in the order in which that was said, and their terms.

    `booked_tokens`: what it has used by now of the day and the month, where its plans count tokens: an account of them
    that begins now begins with it.
    """

    assigned: tuple[Dated[str | None], ...]
    sold: tuple[Sold, ...]
    before: tuple[Spent, ...] = ()
    booked_tokens: tuple[tuple[str, int], ...] = ()

    @property
    def counts_tokens(self) -> bool:
        """Whether any of the terms includes a number of tokens, and bounds by it."""
        return any(is_bounded(one.what) and one.what.included_tokens for sold in self.sold for one in sold.versions)

    def window(self, at_us: int, zone: ZoneInfo) -> Window:
        """The one that holds `at_us`, in the agency's time zone; without a bound where overage is billed."""
        return self._find(at_us, zone, is_bounded)

    def included(self, at_us: int, zone: ZoneInfo) -> Window:
        """The same with what is included also where overage is billed."""
        return self._find(at_us, zone, has_number)

    def _find(self, at_us: int, zone: ZoneInfo, counts: Callable[[Terms], bool]) -> Window:
        day = date.fromisoformat(period_of(DAY, at_us, zone).label)
        runs = self._runs(day.replace(day=1))
        run = next(one for one in runs if one.first <= day < one.end)
        start_us, end_us = start_of(run.first, zone), start_of(run.end, zone)
        terms = run.terms
        if terms is None or not counts(terms):
            return Window(start_us, end_us, run.plan, BILL, None, None, None)
        by_tokens = bool(terms.included_tokens)
        share = _share(terms.included_tokens if by_tokens else terms.included_nanos, run, runs)
        nanos, tokens = (None, share) if by_tokens else (share, None)
        return Window(start_us, end_us, run.plan, terms.overage, nanos, tokens, terms.throttle_tier)

    def spent_before(self, start_us: int, zone: ZoneInfo) -> Spent | None:
        """What was spent in the month before a window that begins then; None: not known."""
        return next((one for one in self.before if start_of(one.day, zone) == start_us), None)

    def starts(self, today: date) -> list[date]:
        """The days of this month, today's among them, on which a window begins, but for the first of the month."""
        first = today.replace(day=1)
        return [one.first for one in self._runs(first) if first < one.first <= today]

    def _runs(self, first: date) -> list[_Run]:
        """The month that begins on `first`, in runs."""
        end = first_of_next_month(first)
        days = sorted({first, *(day for day in self._cuts() if first < day < end)})
        runs: list[_Run] = []
        for day, until in zip(days, [*days[1:], end], strict=True):
            run = self._run(day, until)
            last = runs[-1] if runs else None
            if last is not None and _is_same(last, run):
                runs[-1] = _Run(last.first, until, run.plan, run.version, run.terms, run.is_trial)
            else:
                runs.append(run)
        return runs

    def _run(self, day: date, until: date) -> _Run:
        plan = on_day(self.assigned, day)
        found = self._terms(plan, day)
        trial_end = self._trial_end()
        if plan is None or found is None:
            return _Run(day, until, "", 0, None, is_trial=False)
        is_trial = trial_end is not None and day < trial_end
        return _Run(day, until, plan, found[0], found[1], is_trial)

    def _terms(self, plan: str | None, day: date) -> tuple[int, Terms] | None:
        """The terms of a plan that count on a day, and their number among its versions."""
        for one in self.sold:
            if one.plan == plan:
                numbered = [Dated(each.from_day, number) for number, each in enumerate(one.versions)]
                number = on_day(numbered, day)
                return None if number is None else (number, one.versions[number].what)
        return None

    def _cuts(self) -> Iterator[date]:
        for one in self.assigned:
            if one.from_day is not None:
                yield one.from_day
        for sold in self.sold:
            for each in sold.versions:
                if each.from_day is not None:
                    yield each.from_day
        trial_end = self._trial_end()
        if trial_end is not None:
            yield trial_end

    def _trial_end(self) -> date | None:
        """The first day after the trial, which is that of the tenant's first plan."""
        first = first_day_on_a_plan(self.assigned)
        if first is None:
            return None
        found = self._terms(on_day(self.assigned, first), first)
        return first + timedelta(days=found[1].trial_days) if found is not None else first


def has_number(terms: Terms) -> bool:
    """Whether there is a number of what is included."""
    return not terms.fair_use and bool(terms.included_nanos or terms.included_tokens)


def is_bounded(terms: Terms) -> bool:
    """Whether what is beyond the included is blocked or throttled; fair use has no number to be beyond."""
    return terms.overage != BILL and has_number(terms)


def first_day_on_a_plan(assigned: Sequence[Dated[str | None]]) -> date | None:
    """The first day on which a tenant was on any plan, by what counts now."""
    days = sorted(one.first_day for one in assigned)
    return next((day for day in days if on_day(assigned, day) is not None), None)


def start_of(day: date, zone: ZoneInfo) -> int:
    """The first instant of a day, in unix microseconds."""
    return read_period(day.isoformat(), zone).start_us


def _is_same(one: _Run, other: _Run) -> bool:
    return (one.plan, one.version, one.is_trial) == (other.plan, other.version, other.is_trial)


def _share(whole: int, run: _Run, runs: Sequence[_Run]) -> int:
    """A run's part of what a whole month includes, as the bill has it: the parts add up to the whole."""
    first = runs[0].first
    before, days = (run.first - first).days, (first_of_next_month(first) - first).days
    if run.terms is not None and run.terms.changes == NEXT_MONTH:
        # No part is split off: all of it belongs to the days of the month on which these terms count.
        same = [one for one in runs if (one.plan, one.version) == (run.plan, run.version)]
        days = sum([one.days for one in same])
        before = sum([one.days for one in same if one.first < run.first])
    return _rounded(whole * (before + run.days), days) - _rounded(whole * before, days)


def _rounded(numerator: int, denominator: int) -> int:
    """To a whole number, half up."""
    return (2 * numerator + denominator) // (2 * denominator)
