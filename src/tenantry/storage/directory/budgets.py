"""Budgets of tenants and keys: set, raised for a while, removed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from tenantry.domain.budgets import Budget
from tenantry.domain.money import BadAmount, check_amount
from tenantry.storage.caps import BUDGET_MODES, BUDGET_PERIODS, read_budgets
from tenantry.storage.columns import new_id, now_utc
from tenantry.storage.directory.changes import Changes, DirectoryError, NotInDirectory
from tenantry.storage.tables import budget_raises, budgets, gateway_keys, tenants
from tenantry.storage.versions import tenant_touched


class BudgetChanges(Changes):
    """Changes to budgets."""

    def set_budgets(
        self, slug: str, amounts: Mapping[str, int | None], mode: str | None = None, key_id: str = ""
    ) -> None:
        """Set what a tenant (or one of its keys) may cost in a day, week or month; None removes it, and the rest stays.

        Nothing is written when it is so already. `mode` is the tenant's: hard refuses what does not fit, soft only
        tells.

        Raises:
            NotInDirectory: no such tenant, or no such key of it.
            DirectoryError: a period, amount or mode that cannot be.
        """
        _check(amounts, mode)
        with self._engine.begin() as connection:
            tenant = self._tenant(connection, slug)
            if key_id:
                _require_key(connection, tenant.tenant_id, key_id, slug)
            here = (budgets.c.tenant_id == tenant.tenant_id) & (budgets.c.key_id == key_id)
            before = {row.period: row.amount_nanos for row in connection.execute(select(budgets).where(here))}
            changed = {period: nanos for period, nanos in amounts.items() if before.get(period) != nanos}
            mode_after = mode if mode is not None else tenant.budget_mode
            if not changed and mode_after == tenant.budget_mode:
                return
            for period, nanos in changed.items():
                connection.execute(delete(budgets).where(here, budgets.c.period == period))
                if nanos is not None:
                    connection.execute(
                        insert(budgets).values(
                            tenant_id=tenant.tenant_id,
                            key_id=key_id,
                            period=period,
                            amount_nanos=nanos,
                            created_at=now_utc(),
                        )
                    )
            connection.execute(
                update(tenants).where(tenants.c.tenant_id == tenant.tenant_id).values(budget_mode=mode_after)
            )
            after = {period: nanos for period, nanos in (before | changed).items() if nanos is not None}
            detail = {"key": key_id, "before": before, "after": after, "mode": [tenant.budget_mode, mode_after]}
            self._record(connection, "budget.set", slug, detail, tenant_touched(tenant.tenant_id))

    def raise_budget(self, slug: str, period: str, amount_nanos: int, until: datetime) -> str:
        """More money on top of a tenant's budget, from now until `until`; the raise's id.

        Raises:
            NotInDirectory: no such tenant.
            DirectoryError: there is no budget of that period, or the amount or the time cannot be.
        """
        _check({period: amount_nanos}, None)
        now = now_utc()
        if until <= now:
            raise DirectoryError(f"a raise must end in the future, not at {until.isoformat()}")
        raise_id = new_id("rse")
        with self._engine.begin() as connection:
            tenant = self._tenant(connection, slug)
            has_it = (budgets.c.tenant_id == tenant.tenant_id) & (budgets.c.key_id == "") & (budgets.c.period == period)
            if connection.execute(select(budgets).where(has_it)).first() is None:
                raise DirectoryError(
                    f"{slug} has no budget by {period} to raise; set one with `tenantry budget set {slug} --{period}`"
                )
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

    def list_budgets(self, slug: str) -> dict[str, Budget]:
        """A tenant's budget under "", and those of its keys by id. "" is always there.

        Raises:
            NotInDirectory: no such tenant.
        """
        with self._engine.connect() as connection:
            tenant = self._tenant(connection, slug)
            found = read_budgets(connection, [tenant.tenant_id])
        return {key_id: budget for (_, key_id), budget in sorted(found.items())}


def _check(amounts: Mapping[str, int | None], mode: str | None) -> None:
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


def _require_key(connection: Connection, tenant_id: str, key_id: str, slug: str) -> None:
    here = (gateway_keys.c.tenant_id == tenant_id) & (gateway_keys.c.key_id == key_id)
    if connection.execute(select(gateway_keys).where(here)).first() is None:
        raise NotInDirectory(f"{slug} has no key {key_id!r}; `tenantry keys list {slug}` names them by id (`key_...`)")
