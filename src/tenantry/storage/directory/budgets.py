"""Budgets of tenants and keys: set, raised for a while, removed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from tenantry.domain.allowances import PLAN, Window
from tenantry.domain.budgets import Budget
from tenantry.domain.money import BadAmount, check_amount
from tenantry.storage.allowances import read_allowances
from tenantry.storage.caps import BUDGET_MODES, BUDGET_PERIODS, read_budgets
from tenantry.storage.columns import new_id, now_utc
from tenantry.storage.directory.changes import Changes, DirectoryError, NotInDirectory
from tenantry.storage.tables import budget_raises, budgets, gateway_keys
from tenantry.storage.versions import tenant_touched


@dataclass(frozen=True, slots=True)
class Caps:
    """Amounts by period, in nano-dollars, of a tenant or a key, before and after a change."""

    before: Mapping[str, int]
    after: Mapping[str, int]


class BudgetChanges(Changes):
    """Changes to budgets. Those of a tenant are set by `set_tenant`."""

    def set_key_budgets(self, slug: str, key_id: str, amounts: Mapping[str, int | None]) -> None:
        """Set what one key of a tenant may cost in a day, week or month; None removes it, and the rest stays.

        Nothing is written when it is so already.

        Raises:
            NotInDirectory: no such tenant, or no such key of it.
            DirectoryError: a period or amount that cannot be.
        """
        check_budgets(amounts)
        with self._engine.begin() as connection:
            tenant = self._tenant(connection, slug)
            _require_key(connection, tenant.tenant_id, key_id, slug)
            caps = put_caps(connection, tenant.tenant_id, key_id, amounts)
            if caps.after != caps.before:
                detail = {"key": key_id, "before": dict(caps.before), "after": dict(caps.after)}
                self._record(connection, "budget.set", slug, detail, tenant_touched(tenant.tenant_id))

    def raise_budget(self, slug: str, period: str, amount_nanos: int, until: datetime) -> str:
        """More money on top of a tenant's budget, from now until `until`; the raise's id.

        With `PLAN` as the period on top of what its plan includes, where that blocks or throttles. It is not billed.

        Raises:
            NotInDirectory: no such tenant.
            DirectoryError: there is no budget of that period, or no such plan; or the amount or the time cannot be.
        """
        check_budgets({"month" if period == PLAN else period: amount_nanos})
        now = now_utc()
        if until <= now:
            raise DirectoryError(f"a raise must end in the future, not at {until.isoformat()}")
        raise_id = new_id("rse")
        with self._engine.begin() as connection:
            tenant = self._tenant(connection, slug)
            self._require_raisable(connection, tenant.tenant_id, slug, period)
            connection.execute(
                insert(budget_raises).values(
                    raise_id=raise_id,
                    tenant_id=tenant.tenant_id,
                    period=period,
                    amount_nanos=amount_nanos,
                    created_at=now,
                    until=until,
                )
            )
            detail = {"raise": raise_id, "period": period, "amount_nanos": amount_nanos, "until": until.isoformat()}
            self._record(connection, "budget.raise", slug, detail, tenant_touched(tenant.tenant_id))
        return raise_id

    def _require_raisable(self, connection: Connection, tenant_id: str, slug: str, period: str) -> None:
        """Raises: DirectoryError."""
        window = self._window(connection, tenant_id)
        is_by_plan = window is not None and window.nanos is not None
        if period == PLAN:
            if not is_by_plan:
                raise DirectoryError(f"{slug} is on no plan today that includes an amount of dollars and no more")
            return
        has_it = (budgets.c.tenant_id == tenant_id) & (budgets.c.key_id == "") & (budgets.c.period == period)
        if connection.execute(select(budgets).where(has_it)).first() is None:
            cure = f"set one with `tenantry budget set {slug} --{period}`"
            if is_by_plan and window is not None:
                cure = f"`--period {PLAN}` raises what plan {window.plan} includes"
            raise DirectoryError(f"{slug} has no budget by {period} to raise; {cure}")

    def plan_window(self, slug: str) -> Window | None:
        """What a tenant's plan includes now, and until when; None where none of its plans bounds usage.

        Raises:
            NotInDirectory: no such tenant.
        """
        with self._engine.connect() as connection:
            return self._window(connection, self._tenant(connection, slug).tenant_id)

    def _window(self, connection: Connection, tenant_id: str) -> Window | None:
        zone = self._zone
        found = read_allowances(connection, [tenant_id], self.today(), zone).get(tenant_id)
        return found.window(time.time_ns() // 1000, zone) if found is not None else None

    def list_budgets(self, slug: str) -> dict[str, Budget]:
        """A tenant's budget under "", and those of its keys by id. "" is always there.

        Raises:
            NotInDirectory: no such tenant.
        """
        with self._engine.connect() as connection:
            tenant = self._tenant(connection, slug)
            found = read_budgets(connection, [tenant.tenant_id])
        return {key_id: budget for (_, key_id), budget in sorted(found.items())}


def check_budgets(amounts: Mapping[str, int | None], mode: str | None = None) -> None:
    """Raises: DirectoryError: a period, amount or mode that cannot be."""
    for period, nanos in amounts.items():
        if period not in BUDGET_PERIODS:
            raise DirectoryError(f"a budget is for a {', a '.join(BUDGET_PERIODS)}, not a {period!r}")
        try:
            if nanos is not None:
                check_amount(nanos)
        except BadAmount as error:
            raise DirectoryError(f"the budget by {period}: {error}") from None
    if mode is not None and mode not in BUDGET_MODES:
        raise DirectoryError(f"a budget's mode is {' or '.join(BUDGET_MODES)}, not {mode!r}")


def put_caps(connection: Connection, tenant_id: str, key_id: str, amounts: Mapping[str, int | None]) -> Caps:
    """Write the amounts that differ; None takes one away, and the rest stays. `key_id` is "" for the tenant's own."""
    here = (budgets.c.tenant_id == tenant_id) & (budgets.c.key_id == key_id)
    before = {row.period: row.amount_nanos for row in connection.execute(select(budgets).where(here))}
    changed = {period: nanos for period, nanos in amounts.items() if before.get(period) != nanos}
    for period, nanos in changed.items():
        connection.execute(delete(budgets).where(here, budgets.c.period == period))
        if nanos is not None:
            values = {"tenant_id": tenant_id, "key_id": key_id, "period": period, "amount_nanos": nanos}
            connection.execute(insert(budgets).values(created_at=now_utc(), **values))
    after = {period: nanos for period, nanos in (before | changed).items() if nanos is not None}
    return Caps(before, after)


def _require_key(connection: Connection, tenant_id: str, key_id: str, slug: str) -> None:
    here = (gateway_keys.c.tenant_id == tenant_id) & (gateway_keys.c.key_id == key_id)
    if connection.execute(select(gateway_keys).where(here)).first() is None:
        raise NotInDirectory(f"{slug} has no key {key_id!r}; `tenantry keys list {slug}` names them by id (`key_...`)")
