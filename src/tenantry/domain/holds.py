"""Money that is reserved before it is spent: spent + held never passes a hard budget (DESIGN 4.5, 4.9).

An account counts what one holder (a tenant, or one of its keys) has spent in the current day, week and month, and what
is held by requests in flight. The ledger books an attempt in the period in which it ended, so at the end of a period
what was spent starts at 0 again while open holds go on, and settle in the new one.

Times are unix microseconds, passed in. What was spent belongs to the period in which it was, whichever comes next: a
clock that is wrong for a moment, forward or back, throws nothing away, for what was spent is found again in its period.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from zoneinfo import ZoneInfo

from tenantry.domain.allowances import PLAN, Allowance, Window
from tenantry.domain.budgets import Budget, Cap, amount_at
from tenantry.domain.ceilings import Ceiling
from tenantry.domain.periods import DAY, MONTH, Period, period_of
from tenantry.domain.plans import BLOCK, THROTTLE
from tenantry.domain.values import value

# All are counted, whatever is capped: a cap that is set later is right at once.
_KINDS: Final = ("day", "week", "month")
# Of each kind, beside the current one: the period before, and those that a clock which is being set may show.
PERIODS_KEPT_MAX: Final = 4
# What an account counts: money, or tokens of all classes.
NANOS: Final = "nanos"
TOKENS: Final = "tokens"
# In the place of a period, where not a budget is short but what was taken of it beforehand: more is being asked for.
CEILING: Final = "ceiling"
# What may be spent where nothing is capped: a billion dollars, more than any sum of costs (`COST_NANOS_MAX` each).
NO_CAP_NANOS: Final = 10**18


@value
class Short:
    """Why money was refused. `wanted_nanos` did not fit: `missing_nanos` are lacking under the holder's cap.

    Of several caps in the way it is the one that resets last: before that, the request cannot fit. One that refuses
    goes before one that only tells (`is_hard`), and of equals that where more is missing, for it is the lower one.
    `plan` names the plan whose included usage it is, "" for a budget; `unit` is what is counted.
    """

    holder: str
    period: str
    amount_nanos: int
    spent_nanos: int
    held_nanos: int
    wanted_nanos: int
    missing_nanos: int
    resets_at_us: int
    is_hard: bool = True
    plan: str = ""
    unit: str = NANOS

    @property
    def fits_later(self) -> bool:
        """It would fit if every request in flight turned out to cost nothing: only their end will tell."""
        return self.spent_nanos + self.wanted_nanos <= self.amount_nanos

    @property
    def left_nanos(self) -> int:
        return max(0, self.amount_nanos - self.spent_nanos - self.held_nanos)


class Account:
    """The counters of one holder. `holder` is what messages call it, such as `tenant acme`.

    `spent` is by period kind (day, week, month) of the periods that hold `at_us`; what is not told is 0. What was spent
    in other periods is kept beside it, for those used last.
    `excess_nanos` is what was billed above what had been held, ever: the only way past a hard budget.

    Nearly every question is about now, and what is spent counts in all three periods alike. So it is added up in one
    number, and all caps are one number too: from `starts_us` until before `ends_us` nothing else decides, and no more
    than `most_nanos` may be spent since then and held (`take_plainly`, `settle_plainly`). `bounds` counts how often
    that was decided anew.

    Where a plan blocks or throttles what is beyond the included (`allowance`), its windows are periods too, and what
    each includes is a cap: `budget` has it beside those that were set by command. An account of tokens counts those in
    the place of nano-dollars, in windows alone; `tokens` is a tenant's, where its plan includes tokens.

    Where several gateways serve, one has a `ceiling`: what it has taken of the budget beforehand. `used_nanos` counts
    against that, and what is held for gateways that cannot be asked (`unknown_nanos`) does not: those have taken it.
    """

    __slots__ = (
        "_allowance",
        "_at_us",
        "_before_nanos",
        "_declared",
        "_others",
        "_spent",
        "_window",
        "bounds",
        "budget",
        "ceiling",
        "ends_us",
        "excess_nanos",
        "held_nanos",
        "holder",
        "is_hard",
        "most_nanos",
        "periods",
        "since_nanos",
        "starts_us",
        "tokens",
        "unit",
        "unknown_nanos",
        "zone",
    )

    def __init__(
        self,
        holder: str,
        budget: Budget,
        zone: ZoneInfo,
        spent: Mapping[str, int],
        at_us: int,
        allowance: Allowance | None = None,
        unit: str = NANOS,
    ) -> None:
        self.holder = holder
        self.zone = zone
        self.held_nanos = 0
        self.bounds = 0
        self.excess_nanos = 0
        self.unknown_nanos = 0
        self.ceiling: Ceiling | None = None
        self._before_nanos = 0  # spent since it was opened, but for `since_nanos`
        self._at_us = at_us
        self.periods: dict[str, Period] = {kind: period_of(kind, at_us, zone) for kind in _KINDS}
        self._spent = {kind: spent.get(kind, 0) for kind in _KINDS}
        self.since_nanos = 0
        self._others: dict[tuple[str, int], int] = {}  # by kind and start, the longest unused first
        self.unit = unit
        self.tokens: Account | None = None
        self.budget = self._declared = budget
        self.is_hard = budget.mode != "soft"
        self._allowance: Allowance | None = None
        self._window: Window | None = None
        self._allow(allowance)
        self._bound()

    @property
    def spent(self) -> dict[str, int]:
        """What has been spent in the current periods, by kind."""
        return {kind: nanos + self.since_nanos for kind, nanos in self._spent.items()}

    def _bound(self) -> None:
        """From when until when no period and no amount changes, and what may be spent and held in that time."""
        self._gather()
        starts_us = max([period.start_us for period in self.periods.values()])
        ends_us = min([period.end_us for period in self.periods.values()])
        most = NO_CAP_NANOS
        for cap in self.budget.caps:
            for more in cap.raises:
                for edge_us in (more.from_us, more.until_us):
                    if edge_us <= self._at_us:
                        starts_us = max(starts_us, edge_us)
                    else:
                        ends_us = min(ends_us, edge_us)
            most = min(most, self.amount(cap) - self._spent[cap.period])
        if self.ceiling is not None:
            most = min(most, self.ceiling.mark + self.unknown_nanos - self._before_nanos)
        self.bounds += 1
        self.starts_us, self.ends_us, self.most_nanos = starts_us, ends_us, most

    def _gather(self) -> None:
        for kind in self._spent:
            self._spent[kind] += self.since_nanos
        self._before_nanos += self.since_nanos
        self.since_nanos = 0

    def apply(self, budget: Budget, at_us: int, allowance: Allowance | None = None) -> None:
        """Go on under another budget and plan. What is spent and held stays, even above a lowered amount."""
        self.advance(at_us)
        self._gather()
        self._declared = budget
        self.is_hard = budget.mode != "soft"
        self._allow(allowance)
        self._bound()

    def _allow(self, allowance: Allowance | None) -> None:
        """Go on with what plans include. A window that goes on keeps what was spent in it."""
        self._allowance = allowance
        if allowance is None:
            self.periods.pop(PLAN, None)
            self._spent.pop(PLAN, None)
            self._window = None
        else:
            window = self._window = allowance.window(self._at_us, self.zone)
            known = self.periods.get(PLAN)
            self.periods[PLAN] = Period(PLAN, window.plan, window.start_us, window.end_us)
            if known is None or known.start_us != window.start_us:
                # Less may have been spent since than in the month: what is not known is no more money.
                self._spent[PLAN] = self._spent_since(window.start_us, self._spent[MONTH])
        self._cap_plan()

    def _cap_plan(self) -> None:
        """The budget that was set, and what the plan includes now. It has a cap also while that is without a bound:
        whoever asks whether money is to be held asks once, and the next window may have one."""
        window, declared = self._window, self._declared
        if window is None:
            self.budget = declared
            return
        amount = window.nanos if self.unit == NANOS else window.tokens
        cap = Cap(PLAN, NO_CAP_NANOS if amount is None else amount, declared.plan_raises)
        self.budget = Budget((*declared.caps, cap), declared.mode, declared.plan_raises)

    def _spent_since(self, start_us: int, otherwise: int) -> int:
        """What was spent since a day began on which a window does, of this month."""
        for kind in (MONTH, DAY):
            if self.periods[kind].start_us == start_us:
                return self._spent[kind]
        allowance = self._allowance
        before = allowance.spent_before(start_us, self.zone) if allowance is not None else None
        if before is None:
            return otherwise
        return max(0, self._spent[MONTH] - (before.nanos if self.unit == NANOS else before.tokens))

    @property
    def throttle_tier(self) -> str | None:
        """The tier that is left of the tenant's limits when the included is used up, where the plan throttles."""
        window = self._window
        return window.throttle_tier if window is not None and window.overage == THROTTLE else None

    def is_beyond(self, at_us: int) -> bool:
        """Whether all that the plan includes now has been spent."""
        self.advance(at_us)
        if self._window is None:
            return False
        return self._spent[PLAN] + self.since_nanos >= self.amount(self.budget.caps[-1])

    def _find_period(self, kind: str, at_us: int) -> Period:
        allowance = self._allowance
        if kind != PLAN or allowance is None:
            return period_of(kind, at_us, self.zone)
        window = allowance.window(at_us, self.zone)
        return Period(PLAN, window.plan, window.start_us, window.end_us)

    def move(self, zone: ZoneInfo) -> None:
        """Go on in another time zone: the current periods keep what was spent, and end when the zone says.

        The ledger knows what was spent in the zone's own periods; a caller that can ask it makes a new account.
        """
        self._gather()
        self.zone = zone
        self.periods = {kind: period_of(kind, self._at_us, zone) for kind in _KINDS}
        self._others.clear()
        self._allow(self._allowance)
        self._bound()

    def advance(self, at_us: int) -> None:
        """Go on in the periods that `at_us` lies in."""
        self._at_us = at_us
        if not self.starts_us <= at_us < self.ends_us:
            self._turn(at_us)

    def _turn(self, at_us: int) -> None:
        self._gather()
        for kind, period in list(self.periods.items()):  # a plan's window comes last: the others say what was spent
            spent = self._spent[kind]
            if not period.start_us <= at_us < period.end_us:
                found = self.periods[kind] = self._find_period(kind, at_us)
                begins_with = self._spent_since(found.start_us, 0) if kind == PLAN else 0
                self._spent[kind] = self._others.pop((kind, found.start_us), begins_with)
                self._keep(kind, period.start_us, spent)
                if kind == PLAN and self._allowance is not None:
                    self._window = self._allowance.window(at_us, self.zone)
                    self._cap_plan()
        self._bound()

    def _keep(self, kind: str, start_us: int, nanos: int) -> None:
        others = self._others
        others.pop((kind, start_us), None)
        others[kind, start_us] = nanos
        same = [key for key in others if key[0] == kind]
        if len(same) > PERIODS_KEPT_MAX:
            del others[same[0]]

    def learn(self, periods: Mapping[str, Period], spent: Mapping[str, int]) -> None:
        """What the ledger says of some periods: news where the account has not been in them."""
        for kind, period in periods.items():
            if period.start_us != self.periods[kind].start_us and (kind, period.start_us) not in self._others:
                self._keep(kind, period.start_us, spent.get(kind, 0))

    def amount(self, cap: Cap) -> int:
        """What the cap allows now, in nano-dollars."""
        return amount_at(cap, self._at_us) if cap.raises else cap.amount_nanos

    def short_of(self, more_nanos: int, wanted_nanos: int, at_us: int) -> Short | None:
        """What is in the way of holding `more_nanos` for a request that wants `wanted_nanos` in all."""
        self.advance(at_us)
        if self.since_nanos + self.held_nanos + more_nanos <= self.most_nanos:
            return None
        found: Short | None = None
        held = self.held_nanos
        for cap in self.budget.caps:
            amount, spent = self.amount(cap), self._spent[cap.period] + self.since_nanos
            missing = spent + held + more_nanos - amount
            if missing <= 0:
                continue
            resets, plan, is_hard = self.periods[cap.period].end_us, "", self.is_hard
            if cap.period == PLAN and self._window is not None:
                plan, is_hard = self._window.plan, self._window.overage == BLOCK
            if found is None or (is_hard, resets, missing) > (found.is_hard, found.resets_at_us, found.missing_nanos):
                found = Short(
                    self.holder,
                    cap.period,
                    amount,
                    spent,
                    held,
                    wanted_nanos,
                    missing,
                    resets,
                    is_hard,
                    plan,
                    self.unit,
                )
        if self.ceiling is not None and (found is None or not found.is_hard):
            return self._short_of_ceiling(self.ceiling, more_nanos, wanted_nanos) or found
        return found

    # What is taken beforehand

    @property
    def is_limited(self) -> bool:
        """Whether anything of it refuses, so that it has to be known what was spent wherever it was."""
        if self.is_hard and self._declared.caps:
            return True
        return self._window is not None and self._window.overage == BLOCK

    @property
    def used_nanos(self) -> int:
        """What was spent since it was opened, and is held by requests."""
        return self._before_nanos + self.since_nanos + self.held_nanos - self.unknown_nanos

    @property
    def spent_here(self) -> int:
        """What was spent since it was opened."""
        return self._before_nanos + self.since_nanos

    def left_nanos(self, at_us: int) -> int:
        """What may be held beside what is, under all that refuses."""
        self.advance(at_us)
        left = NO_CAP_NANOS
        for cap in self.budget.caps:
            refuses = self.is_hard if cap.period != PLAN or self._window is None else self._window.overage == BLOCK
            if refuses:
                left = min(left, self.amount(cap) - self._spent[cap.period] - self.since_nanos - self.held_nanos)
        return max(0, left)

    def limit_by(self, ceiling: Ceiling | None) -> None:
        """Spend and hold no more than is taken; None: it is nobody's business any more."""
        self.ceiling = ceiling
        self._bound()

    def taken(self, nanos: int, at_us: int) -> None:
        """So much was taken of it, in all since it was opened."""
        if self.ceiling is not None:
            self.ceiling.take(nanos, self.used_nanos, self.left_nanos(at_us))
            self._bound()

    def lower_ceiling(self, nanos: int) -> None:
        """No more than that is taken of it from now on."""
        if self.ceiling is not None:
            self.ceiling.lower(nanos)
            self._bound()

    def _short_of_ceiling(self, ceiling: Ceiling, more_nanos: int, wanted_nanos: int) -> Short | None:
        used = self.used_nanos
        if used + more_nanos <= ceiling.mark or more_nanos <= 0:
            return None
        missing = used + more_nanos - ceiling.taken
        ceiling.ask(max(0, missing))
        if missing <= 0:
            return None
        spent = self._before_nanos + self.since_nanos
        return Short(
            self.holder,
            CEILING,
            ceiling.taken,
            spent,
            used - spent,
            wanted_nanos,
            missing,
            self._at_us,
            unit=self.unit,
        )

    def doubt(self, nanos: int) -> None:
        """So much more, or less, may have been spent by gateways that cannot be asked."""
        self.unknown_nanos += nanos
        self.held_nanos += nanos
        self._bound()

    def find(self, spent: Mapping[str, int], at_us: int) -> None:
        """So much was found at `at_us` to have been spent by such a gateway, by kinds of the periods that hold that.

        Less than 0, where it had counted as spent before anybody knew.
        """
        self.advance(at_us)
        for kind in self._spent:
            more = spent.get(MONTH if kind == PLAN else kind, 0)
            if more < 0 and kind == PLAN and self.periods[kind].start_us != self.periods[MONTH].start_us:
                continue  # what was less in the month may have been so before the window began
            self._spent[kind] += more
        self._bound()

    def begin_again(self, spent: Mapping[str, int], at_us: int, since_nanos: int) -> None:
        """Go on from what the ledger and the journals say by now; `since_nanos` was spent here since they were read."""
        self._gather()
        self._at_us = at_us
        self.periods = {kind: period_of(kind, at_us, self.zone) for kind in _KINDS}
        self._spent = {kind: spent.get(kind, 0) + since_nanos for kind in _KINDS}
        self._others.clear()
        self._allow(self._allowance)
        self._bound()

    def utilization(self, at_us: int) -> tuple[int, str, int] | None:
        """(percent spent, rounded down, period, end of the period) of the cap that is nearest to its end; None: no cap.

        More than 100 is told as it is.
        """
        self.advance(at_us)
        most: tuple[int, str, int] | None = None
        for cap in self.budget.caps:
            amount = self.amount(cap)
            if amount >= NO_CAP_NANOS:
                continue
            spent = self._spent[cap.period] + self.since_nanos
            percent = spent * 100 // amount if amount > 0 else 100
            if most is None or percent > most[0]:
                most = (percent, cap.period, self.periods[cap.period].end_us)
        return most

    def told_until_nanos(self) -> int:
        """Up to where `since_nanos` may go before the percentage of any cap is another."""
        found = NO_CAP_NANOS
        for cap in self.budget.caps:
            amount, spent = self.amount(cap), self._spent[cap.period]
            if 0 < amount < NO_CAP_NANOS:
                percent = (spent + self.since_nanos) * 100 // amount
                found = min(found, -(-(percent + 1) * amount // 100) - spent)
        return found

    def spend(self, cost_nanos: int, at_us: int) -> None:
        """Count what was spent without a hold: a correction, or an attempt of before the start."""
        self.advance(at_us)
        self.since_nanos += cost_nanos

    def exceed(self, nanos: int) -> None:
        """So much more was billed, or is owed, than had been held: that is to be known wherever it counts."""
        self.excess_nanos += nanos
        if self.ceiling is not None:
            self.ceiling.ask(0)

    def correct(self, nanos: int, counted_at_us: int) -> None:
        """Count a correction of what was spent at `counted_at_us`, in those periods that hold it and are known."""
        for kind, period in self.periods.items():
            if period.start_us <= counted_at_us < period.end_us:
                self._spent[kind] += nanos
                continue
            start_us = self._find_period(kind, counted_at_us).start_us
            known = self._others.get((kind, start_us))
            if known is not None:
                self._others[kind, start_us] = known + nanos
            elif start_us > period.start_us:  # it has begun, and nobody has asked since
                self._keep(kind, start_us, nanos)
        self._bound()


class Hold:
    """Money reserved in every account that a request touches. It ends once: settled, or void.

    `over`: a soft budget is passed. `short`: why the last `extend` or `resize` was refused.
    """

    __slots__ = ("_accounts", "held_nanos", "is_open", "over", "short")

    def __init__(self, accounts: Sequence[Account], held_nanos: int, over: bool) -> None:
        self._accounts = accounts
        self.held_nanos = held_nanos
        self.over = over
        self.is_open = True
        self.short: Short | None = None

    def extend(self, more_nanos: int, at_us: int) -> bool:
        """Hold more, in all accounts or in none. False: it does not fit, or the hold has ended."""
        if more_nanos < 0:
            raise ValueError("a hold is extended by what is more; resize makes it smaller")
        if not self.is_open:
            return False
        for account in self._accounts:
            short = account.short_of(more_nanos, self.held_nanos + more_nanos, at_us)
            if short is None:
                continue
            if short.is_hard and more_nanos > 0:
                self.short = short
                return False
            self.over = True
        self._add(more_nanos)
        return True

    def resize(self, to_nanos: int, at_us: int) -> bool:
        """Hold exactly this much; less always fits."""
        if to_nanos < 0:
            raise ValueError("a hold cannot be below 0")
        more = to_nanos - self.held_nanos
        if more > 0 or not self.is_open:
            return self.extend(max(0, more), at_us)
        self._add(more)
        return True

    def owe(self, nanos: int, at_us: int) -> bool:
        """Hold no less than what is owed already. False: it does not fit, and is held all the same."""
        more = nanos - self.held_nanos
        if more <= 0 or not self.is_open or self.extend(more, at_us):
            return True
        self._add(more)
        for account in self._accounts:
            account.exceed(more)
        return False

    def settle(self, cost_nanos: int, at_us: int) -> bool:
        """Replace the hold by what it really cost. False: it had ended already, and nothing happens.

        A cost above the hold is counted in full: it has been billed. It may take the account over its amount, which
        refuses the next request.
        """
        if not self.is_open:
            return False
        if cost_nanos < 0:
            raise ValueError("nothing costs less than 0")
        held = self.held_nanos
        self._end()
        for account in self._accounts:
            account.spend(cost_nanos, at_us)
            if cost_nanos > held:
                account.exceed(cost_nanos - held)
        return True

    def void(self) -> bool:
        """Give the money back. False: the hold had ended already."""
        if not self.is_open:
            return False
        self._end()
        return True

    def _end(self) -> None:
        self._add(-self.held_nanos)
        self.is_open = False

    def _add(self, nanos: int) -> None:
        self.held_nanos += nanos
        for account in self._accounts:
            account.held_nanos += nanos


def take_plainly(own: Account, of_key: Account, nanos: int, at_us: int) -> bool:
    """Reserve `nanos` in both accounts where nothing is in the way; False: nothing has been done, and `place` decides.

    The whole decision for nearly every request, in one look at numbers: so nothing is called, and nothing is made. A
    property test (`test_holds.py`) holds it equal to `place`.
    """
    if (
        own.starts_us <= at_us < own.ends_us
        and of_key.starts_us <= at_us < of_key.ends_us
        and own.since_nanos + own.held_nanos + nanos <= own.most_nanos
        and of_key.since_nanos + of_key.held_nanos + nanos <= of_key.most_nanos
    ):
        own.held_nanos += nanos
        of_key.held_nanos += nanos
        return True
    return False


def settle_plainly(own: Account, of_key: Account, held_nanos: int, cost_nanos: int, at_us: int) -> bool:
    """Replace what is held in both accounts by what it cost; False: nothing was done, and `Hold.settle` decides."""
    if cost_nanos <= held_nanos and own.starts_us <= at_us < own.ends_us and of_key.starts_us <= at_us < of_key.ends_us:
        own.held_nanos -= held_nanos
        own.since_nanos += cost_nanos
        of_key.held_nanos -= held_nanos
        of_key.since_nanos += cost_nanos
        return True
    return False


def place(accounts: Sequence[Account], amount_nanos: int, at_us: int) -> Hold | Short:
    """Reserve `amount_nanos` in all accounts, or in none and say which is short."""
    if amount_nanos < 0:
        raise ValueError("a hold cannot be below 0")
    over = False
    worst: Short | None = None
    for account in accounts:
        short = account.short_of(amount_nanos, amount_nanos, at_us)
        if short is None:
            continue
        if not short.is_hard:
            over = True
        elif worst is None or short.resets_at_us > worst.resets_at_us:
            worst = short
    if worst is not None:
        return worst
    for account in accounts:
        account.held_nanos += amount_nanos
    return Hold(accounts, amount_nanos, over)
