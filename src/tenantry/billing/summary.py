"""What a week was: of one tenant for itself, or of all for the agency. JSON that says all it needs.

A tenant's has its own usage at list price, as its budgets and invoices count it; nothing of other tenants, and nothing
of what the agency earns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, case, func, select

from tenantry.billing.usage import ADJUSTED, plain_row
from tenantry.domain.attempts import RUNAWAY_LOOP
from tenantry.domain.budgets import amount_at
from tenantry.domain.periods import DAY, WEEK, Period, next_period, period_of, previous_period
from tenantry.domain.proof import is_of_proof
from tenantry.ledger.rollup import MODEL_CHARS_MAX, TOKEN_CLASSES, WAS_UNPRICED
from tenantry.storage.caps import read_budgets
from tenantry.storage.tables import ledger, usage_rollup

FORMAT = 1
TENANT, AGENCY = "tenant", "agency"
# What a reader looks at; the rest is summed.
TOP_MAX = 5
_INPUTS = ("input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "cache_read_tokens")
_SUMS = ("attempts", *TOKEN_CLASSES, "cost_nanos", "saved_nanos")


@dataclass(frozen=True, slots=True)
class Sums:
    """Of one tenant, key and model in a week."""

    tenant_id: str
    key_id: str
    model: str
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    list_nanos: int
    unpriced: int
    saved_nanos: int


def last_week(at_us: int, zone: ZoneInfo) -> Period:
    """The last whole week before an instant."""
    return previous_period(period_of(WEEK, at_us, zone), zone)


def read_week(connection: Connection, week: Period, tenant_id: str | None = None) -> list[Sums]:
    """Of one tenant, or of all, the isolation proof's own included."""
    columns = usage_rollup.c
    key = (columns.tenant_id, columns.key_id, columns.model)
    # What corrections take from it is of the weeks of their attempts, and they are booked in any.
    unpriced = case((columns.outcome == ADJUSTED, 0), else_=columns.unpriced)
    query = (
        select(*key, func.sum(unpriced), *(func.sum(columns[name]) for name in _SUMS))
        .where(columns.quarter_us >= week.start_us, columns.quarter_us < week.end_us)
        .group_by(*key)
        .order_by(*key)
    )
    if tenant_id is not None:
        query = query.where(columns.tenant_id == tenant_id)
    found: list[Sums] = []
    rows = [plain_row(row) for row in connection.execute(query)]
    priced = _first_prices(connection, week) if any(row[3] for row in rows) else {}
    for tenant, key_id, model, without_price, *values in rows:
        known = dict(zip(_SUMS, map(int, values), strict=True))
        found.append(
            Sums(
                tenant,
                key_id,
                model,
                known["attempts"],
                sum(known[name] for name in _INPUTS),
                known["cache_read_tokens"],
                known["output_tokens"],
                known["cost_nanos"],
                int(without_price) - priced.get((tenant, key_id, model), 0),
                known["saved_nanos"],
            )
        )
    return found


def _first_prices(connection: Connection, week: Period) -> dict[tuple[str, str, str], int]:
    """How many attempts of a week corrections have given their first price since, by tenant, key and model."""
    adjustment, attempt = ledger.alias("adjustment"), ledger.alias("attempt")
    columns = attempt.c
    model = func.substr(func.coalesce(columns.model_served, columns.model_requested), 1, MODEL_CHARS_MAX).label("model")
    key = (columns.tenant_id, columns.key_id, model)
    query = (
        select(*key, func.count())
        .select_from(adjustment.join(attempt, columns.attempt_id == adjustment.c.adjusts))
        .where(adjustment.c.adjusts.is_not(None), adjustment.c.error == WAS_UNPRICED)
        .where(columns.ended_at_us >= week.start_us, columns.ended_at_us < week.end_us)
        .group_by(*key)
    )
    return {(tenant, key_id, name): int(count) for tenant, key_id, name, count in connection.execute(query)}


def without_proof(some: Iterable[Sums]) -> tuple[list[Sums], list[Sums]]:
    """Of clients, and of the isolation proof's own tenants."""
    clients: list[Sums] = []
    proof: list[Sums] = []
    for one in some:
        (proof if is_of_proof(one.tenant_id) else clients).append(one)
    return clients, proof


def totals(some: Iterable[Sums]) -> dict[str, int]:
    """As JSON values."""
    names = ("requests", "input_tokens", "cached_tokens", "output_tokens", "list_nanos", "unpriced", "saved_nanos")
    found: dict[str, int] = dict.fromkeys(names, 0)
    for one in some:
        for name in names:
            found[name] += getattr(one, name)
    return found


def top(some: Iterable[Sums], name_of: Callable[[Sums], str]) -> list[dict[str, Any]]:
    """The dearest, by name; what is beyond them together as the last, without a name."""
    by_name: defaultdict[str, list[Sums]] = defaultdict(list)
    for one in some:
        by_name[name_of(one)].append(one)
    rows: list[dict[str, Any]] = [{"name": name, **totals(own)} for name, own in by_name.items()]
    rows.sort(key=lambda row: (-row["list_nanos"], -row["requests"], row["name"]))
    shown, rest = rows[:TOP_MAX], rows[TOP_MAX:]
    if rest:
        names = {row["name"] for row in rest}
        left = [one for one in some if name_of(one) in names]
        shown.append({"name": None, "others": len(rest), **totals(left)})
    return shown


def budgets_of(connection: Connection, tenant_id: str, week: Period, zone: ZoneInfo) -> list[dict[str, Any]]:
    """Each budget of the tenant with what was spent of it up to the week's end; of days, the dearest of the week."""
    found: list[dict[str, Any]] = []
    budget = read_budgets(connection, [tenant_id]).get((tenant_id, ""))
    for cap in budget.caps if budget is not None else ():
        periods = _days(week, zone) if cap.period == DAY else [period_of(cap.period, week.end_us - 1, zone)]
        spent = {
            one.label: _spent(connection, tenant_id, one.start_us, min(one.end_us, week.end_us)) for one in periods
        }
        label = max(spent, key=lambda label: spent[label])
        amount = amount_at(cap, week.end_us - 1)
        row = {"period": cap.period, "label": label, "spent_nanos": spent[label], "amount_nanos": amount}
        found.append(row | {"mode": budget.mode if budget is not None else ""})
    return found


def _days(week: Period, zone: ZoneInfo) -> list[Period]:
    found = [period_of(DAY, week.start_us, zone)]
    while found[-1].end_us < week.end_us:
        found.append(next_period(found[-1], zone))
    return found


def _spent(connection: Connection, tenant_id: str, start_us: int, end_us: int) -> int:
    columns = usage_rollup.c
    here = (columns.tenant_id == tenant_id, columns.quarter_us >= start_us, columns.quarter_us < end_us)
    return int(connection.execute(select(func.sum(columns.cost_nanos)).where(*here)).scalar() or 0)


def head_of(kind: str, week: Period, zone: ZoneInfo, locale: str) -> dict[str, Any]:
    """What every summary begins with."""
    first = date.fromisocalendar(int(week.label[:4]), int(week.label[-2:]), 1)
    return {
        "format": FORMAT,
        "kind": kind,
        "week": week.label,
        "first": first.isoformat(),
        "last": (first + timedelta(days=6)).isoformat(),
        "time_zone": zone.key,
        "locale": locale,
    }


def usage_of(now: Sequence[Sums], before: Sequence[Sums]) -> dict[str, Any]:
    return {"usage": totals(now), "week_before": totals(before), "models": top(now, lambda one: one.model)}


# Budgets from here on are told as nearly used up; the last of the alerts' own thresholds before all of it.
_NEARLY_PERCENT = 90
# Below it caching pays for what repeats: the API's own guide begins with 1,024 tokens that are sent again.
_CACHED_PERCENT_MIN = 10
_INPUT_TOKENS_MIN = 1_000_000
_BY_BUDGET = ("budget", "key.budget")
# Refusals that no larger tier would end; the others are limits (domain/errors.py, docs/limits.md).
_NO_LIMITS = (
    *("object_id", "key_not_active", "tenant_disabled", "no_credential", "upstream_down", "upstream_spend_cap"),
    *("budget_in_use", RUNAWAY_LOOP),
)


def advice_for_tenant(summary: Mapping[str, Any], contact: str) -> list[str]:
    """What its reader can do, the most pressing first."""
    found: list[str] = []
    ask = f"Ask {contact}" if contact else "Ask whoever gave you your key"
    refused: Mapping[str, int] = {one["reason"]: one["count"] for one in summary["refusals"]}
    for one in summary["budgets"]:
        if one["amount_nanos"] and one["spent_nanos"] * 100 >= one["amount_nanos"] * _NEARLY_PERCENT:
            found.append(
                f"The budget of the {one['period']} {one['label']} is nearly or wholly used. {ask} to raise it."
            )
    if any(reason in _BY_BUDGET for reason in refused):
        found.append(
            f"Requests were refused because a budget was reached. {ask} for more, or wait for its next period."
        )
    if any(reason not in (*_BY_BUDGET, *_NO_LIMITS) for reason in refused):
        found.append(
            f"Requests were refused at a limit: repeat one after its retry-after. {ask} for a larger tier if it "
            "is so every week."
        )
    found += _advice_on_caching(summary["usage"])
    return found


def _advice_on_caching(usage: Mapping[str, int]) -> list[str]:
    enough = usage["input_tokens"] >= _INPUT_TOKENS_MIN
    if enough and usage["cached_tokens"] * 100 < usage["input_tokens"] * _CACHED_PERCENT_MIN:
        return [
            "Little of the input was read from the cache. Mark what repeats with cache_control: it costs a tenth then."
        ]
    return []


def advice_for_agency(summary: Mapping[str, Any]) -> list[str]:
    """What the agency can do, with the command."""
    found = [
        f"{one['tenant']} is under water in {summary['margin']['month']}: "
        + (f"plan {one['fits']} would cover its cost" if one["fits"] else "no plan that there is would cover its cost")
        + f" (tenantry plans simulate {one['tenant']} --plan PLAN)."
        for one in summary["margin"]["under_water"]
    ]
    for model in summary["unpriced"]:
        # The name is a client's text, and no part of what somebody may copy into a shell.
        found.append(f"{model} has no price: what it costs is on no bill (tenantry prices list).")
    for one in summary["refused"]:
        if any(reason in _BY_BUDGET for reason in one["reasons"]):
            found.append(f"{one['tenant']} was refused at its budget (tenantry budget show {one['tenant']}).")
        elif any(reason not in _NO_LIMITS for reason in one["reasons"]):
            found.append(f"{one['tenant']} was refused at its limits (tenantry tenants show {one['tenant']}).")
    if summary["without_plan"]:
        names = ", ".join(summary["without_plan"])
        found.append(f"On no plan, and paid by you: {names} (tenantry plans assign TENANT PLAN).")
    return found
