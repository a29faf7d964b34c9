"""What would help: for the limits that were worst in the way, the next larger one, found by running it all again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tenantry.domain.budgets import Budget
from tenantry.domain.limits import SHIPPED_SESSIONS
from tenantry.domain.money import format_usd
from tenantry.domain.prices import PriceTable
from tenantry.simulation.capacity import plan_capacity
from tenantry.simulation.figures import Figures, Obstacles
from tenantry.simulation.scenario import Scenario

# Each is a run of its own.
ADVICE_MAX = 3
# What held nobody up for as long as this is not worth a change.
WORTH_SECONDS = 5.0

_SIZES = sorted(SHIPPED_SESSIONS.values())
_WORDS = {
    "sessions_max": "sessions",
    "requests_per_minute": "requests a minute",
    "input_tokens_per_minute": "input tokens a minute",
    "output_tokens_per_minute": "output tokens a minute",
}


@dataclass(frozen=True, slots=True)
class Advice:
    """A change, and what it does: p99 of the wait (seconds) and refusals of whom it is for, before and after."""

    what: str
    whom: str
    wait_before: float
    wait_after: float
    refused_before: int
    refused_after: int
    cost_before_nanos: int
    cost_after_nanos: int

    @property
    def helps(self) -> bool:
        return self.refused_after < self.refused_before or self.wait_after < self.wait_before * 0.9

    def __str__(self) -> str:
        told = f"{self.what}: p99 wait {self.wait_before:.1f} s → {self.wait_after:.1f} s"
        return f"{told}, refused {self.refused_before:,} → {self.refused_after:,}"

    def as_json(self) -> dict[str, Any]:
        return {
            "change": self.what,
            "whom": self.whom,
            "helps": self.helps,
            "wait_p99_seconds": [round(self.wait_before, 3), round(self.wait_after, 3)],
            "refused": [self.refused_before, self.refused_after],
            "cost_nanos": [self.cost_before_nanos, self.cost_after_nanos],
        }


def advise(
    scenario: Scenario, figures: Figures, prices: PriceTable, came: Callable[[float], None] | None = None
) -> list[Advice]:
    """At most three changes, each simulated alone, and all of them together. `came` is told how much is done."""
    found: list[Advice] = []
    wanted = [one for one in figures.ranked if one.refused or one.seconds >= WORTH_SECONDS][:ADVICE_MAX]
    together, concerned = scenario, set[str]()
    for number, obstacle in enumerate(wanted):
        change = _change(scenario, obstacle)
        if change is not None:
            what, changed, slugs = change
            again = plan_capacity(changed, prices, _part(came, number, len(wanted) + 1))
            found.append(_compare(what, obstacle.whose, slugs, figures, again))
            on_top = _change(together, obstacle)
            together = on_top[1] if on_top is not None else together
            concerned.update(slugs)
    if len(found) > 1:  # what each of them does alone says little where one limit stands behind another
        again = plan_capacity(together, prices, _part(came, len(wanted), len(wanted) + 1))
        found.append(_compare("all of these together", "", sorted(concerned), figures, again))
    return found


def _part(came: Callable[[float], None] | None, number: int, parts: int) -> Callable[[float], None] | None:
    return None if came is None else lambda share: came((number + share) / parts)


def _change(scenario: Scenario, obstacle: Obstacles) -> tuple[str, Scenario, list[str]] | None:
    """The change in words, the scenario with it, and the tenants that it is for."""
    whose, limit = obstacle.whose, obstacle.limit
    if obstacle.scope == "budget":
        period = limit.removeprefix("budget_")
        budget = scenario.tenants[whose].budget
        caps = tuple(
            replace(cap, amount_nanos=cap.amount_nanos * 2) if cap.period == period else cap for cap in budget.caps
        )
        amounts = [cap.amount_nanos for cap in budget.caps if cap.period == period]
        if not amounts:
            return None
        words = f"{whose}: {period}'s budget {format_usd(amounts[0])} → {format_usd(amounts[0] * 2)}"
        return words, scenario.with_budget(whose, Budget(caps, budget.mode)), [whose]
    if limit not in _WORDS:
        return None
    if whose in scenario.tenants and obstacle.scope == "tenant":
        before = getattr(scenario.tenants[whose].limits, limit)
        after = _larger(limit, before)
        changes = {limit: after, **_burst(scenario.tenants[whose].limits, limit)}
        return f"{whose}: {before:,} → {after:,} {_WORDS[limit]}", scenario.with_limits(whose, changes), [whose]
    if whose in scenario.organizations:
        limits = scenario.organizations[whose].limits
        before = getattr(limits, limit)
        if before is None:
            return None
        after = before * 2
        slugs = [slug for slug, plan in scenario.tenants.items() if plan.organization == whose]
        words = f"organization {whose}: {before:,} → {after:,} {_WORDS[limit]}"
        return words, scenario.with_capacity(whose, {limit: after, **_burst(limits, limit)}), slugs
    return None


def _burst(limits: Any, limit: str) -> dict[str, int]:
    return {"request_burst": limits.request_burst * 2} if limit == "requests_per_minute" else {}


def _larger(limit: str, before: int) -> int:
    """The sessions of the next tier that ships; twice as much of everything else."""
    if limit == "sessions_max":
        return next((size for size in _SIZES if size > before), before * 2)
    return before * 2


def _compare(what: str, whom: str, slugs: list[str], before: Figures, after: Figures) -> Advice:
    old, new = ([figures.tenants[slug] for slug in slugs] for figures in (before, after))
    return Advice(
        what,
        whom,
        max(one.wait(0.99) for one in old),
        max(one.wait(0.99) for one in new),
        sum(one.refused for one in old),
        sum(one.refused for one in new),
        sum(one.cost_nanos for one in old),
        sum(one.cost_nanos for one in new),
    )
