"""What a new tenant is told to be, beside its limits: whom to write to, and what it may cost."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, insert, update

from tenantry.storage.columns import now_utc
from tenantry.storage.directory.changes import Changes
from tenantry.storage.tables import budgets, tenants


class TermChanges(Changes):
    """Changes to the terms of a tenant."""

    def set_first_terms(self, slug: str, contact: str | None, amounts: Mapping[str, int]) -> None:
        """A tenant's contact, and its budgets by period (day, week, month) in nano-dollars. Setting them again is safe.

        Raises:
            NotInDirectory: no such tenant.
        """
        with self._engine.begin() as connection:
            row = self._tenant(connection, slug)
            connection.execute(update(tenants).where(tenants.c.tenant_id == row.tenant_id).values(contact=contact))
            for period, nanos in amounts.items():
                here = (budgets.c.tenant_id == row.tenant_id) & (budgets.c.key_id == "") & (budgets.c.period == period)
                connection.execute(delete(budgets).where(here))
                connection.execute(
                    insert(budgets).values(
                        tenant_id=row.tenant_id, key_id="", period=period, amount_nanos=nanos, created_at=now_utc()
                    )
                )
            self._record(connection, "tenant.terms", slug, {"contact": contact, "budgets": dict(amounts)})
