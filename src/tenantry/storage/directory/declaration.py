"""Changes that a file of tenants asks for, and no command does: whole tiers, marks, off-boarding."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from tenantry.domain.directory import KeyStatus, TenantStatus
from tenantry.domain.keys import is_slug
from tenantry.domain.limits import Limits
from tenantry.storage.columns import now_utc
from tenantry.storage.directory.alert_targets import read_thresholds_of
from tenantry.storage.directory.changes import DirectoryError, refuse_used
from tenantry.storage.directory.plans import PlanChanges
from tenantry.storage.directory.portal import delete_portal
from tenantry.storage.directory.tiers import TierChanges
from tenantry.storage.tables import (
    alert_deliveries,
    alert_targets,
    alert_thresholds,
    alerts,
    audit_log,
    budget_raises,
    budgets,
    gateway_keys,
    meta,
    plans,
    tenant_hosts,
    tenant_slots,
    tenants,
    tiers,
    usage_rollup,
)
from tenantry.storage.versions import NOTHING, tenant_touched, tier_touched

_LEFT_FILE = "left_keys_file"
# The action in the audit log; of one that was deleted it is the last that says which slug it had.
OFFBOARDED = "tenant.offboard"
_MARKED = {"tier": tiers, "plan": plans}


class DeclarationChanges(PlanChanges, TierChanges):
    """Changes that come from a declaration. Whoever calls them has checked the whole of it."""

    def put_tier(self, name: str, limits: Limits) -> None:
        """Make a tier have exactly these limits. Raises: DirectoryError: the name is malformed."""
        if not is_slug(name):
            raise DirectoryError(f"{name!r} is not a tier's name: use a-z, 0-9 and inner hyphens")
        with self._engine.begin() as connection:
            row = connection.execute(select(tiers).where(tiers.c.name == name)).first()
            if row is None:
                self._insert(connection, name, limits)
            else:
                stored = json.dumps(limits.as_json())
                connection.execute(update(tiers).where(tiers.c.name == name).values(limits=stored))
            connection.execute(update(tiers).where(tiers.c.name == name).values(declared=True))
            before = json.loads(row.limits) if row is not None else None
            detail = {"before": before, "after": limits.as_json()}
            self._record(connection, "tier.set", name, detail, tier_touched(name))

    def remove_tier(self, name: str) -> None:
        """Raises: DirectoryError: a tenant is on it."""
        with self._engine.begin() as connection:
            refuse_used(connection, tenants.c.tier == name, f"tier {name}")
            before = self._tier(connection, name).limits.as_json()
            connection.execute(delete(tiers).where(tiers.c.name == name))
            self._record(connection, "tier.remove", name, {"before": before, "after": None}, tier_touched(name))

    def list_declared(self) -> list[tuple[str, str]]:
        """Tiers and plans that a file of tenants declared: their kind and name."""
        with self._engine.connect() as connection:
            return [
                (kind, name)
                for kind, table in _MARKED.items()
                for name in connection.execute(select(table.c.name).where(table.c.declared)).scalars()
            ]

    def list_tenant_budgets(self) -> dict[str, dict[str, int]]:
        """Budgets of whole tenants: nano-dollars by internal id and period."""
        found: dict[str, dict[str, int]] = {}
        with self._engine.connect() as connection:
            for row in connection.execute(select(budgets).where(budgets.c.key_id == "")):
                found.setdefault(row.tenant_id, {})[row.period] = row.amount_nanos
        return found

    def list_thresholds(self) -> dict[str, tuple[int, ...]]:
        """Own thresholds of tenants, by internal id."""
        with self._engine.connect() as connection:
            return read_thresholds_of(connection)

    def forget_declared_tier(self, name: str) -> None:
        """Take the mark of a file from a tier; it stays as it is."""
        with self._engine.begin() as connection:
            connection.execute(update(tiers).where(tiers.c.name == name).values(declared=False))
            detail = {"before": {"declared": True}, "after": {"declared": False}}
            self._record(connection, "tier.set", name, detail, NOTHING)

    def note_left_file(self, part: Path | None) -> None:
        """Where keys that are being made lie until they are put in their place; None: they are.

        It is kept in the transaction that makes them, so that a kill between the two leaves word of it.
        """
        with self._engine.begin() as connection:
            connection.execute(delete(meta).where(meta.c.name == _LEFT_FILE))
            if part is not None:
                connection.execute(insert(meta).values(name=_LEFT_FILE, value=str(part.absolute())))

    def find_left_file(self) -> Path | None:
        """What `note_left_file` has noted last."""
        with self._engine.connect() as connection:
            kept = connection.execute(select(meta.c.value).where(meta.c.name == _LEFT_FILE)).scalar()
        return Path(kept) if kept is not None else None

    def offboard_tenant(self, slug: str, delete_data: bool) -> None:
        """Revoke every key of a tenant and disable it, or delete it.

        The ledger and the audit log keep their rows: they are the books, and chained.

        Raises:
            NotInDirectory: no such tenant.
        """
        with self._engine.begin() as connection:
            row = self._tenant(connection, slug)
            own = gateway_keys.c.tenant_id == row.tenant_id
            self._end_plan(connection, row.tenant_id, slug)
            delete_portal(connection, row.tenant_id)
            if delete_data:
                self._delete_alerts(connection, row.tenant_id)
                for table in (budgets, budget_raises, gateway_keys, tenant_slots, tenant_hosts):
                    connection.execute(delete(table).where(table.c.tenant_id == row.tenant_id))
                connection.execute(delete(tenants).where(tenants.c.tenant_id == row.tenant_id))
            else:
                for table in (tenant_slots, tenant_hosts):
                    connection.execute(delete(table).where(table.c.tenant_id == row.tenant_id))
                connection.execute(
                    update(gateway_keys)
                    .where(own, gateway_keys.c.status == KeyStatus.ACTIVE.value)
                    .values(status=KeyStatus.REVOKED.value, revoked_at=now_utc())
                )
                gone = {"status": TenantStatus.DISABLED.value, "declared": False, "plan": None}
                connection.execute(update(tenants).where(tenants.c.tenant_id == row.tenant_id).values(gone))
            before = {"name": row.name, "tier": row.tier, "status": row.status, "tenant_id": row.tenant_id}
            after = None if delete_data else {"status": TenantStatus.DISABLED.value, "keys": "revoked"}
            detail = {"before": before, "after": after}
            self._record(connection, OFFBOARDED, slug, detail, tenant_touched(row.tenant_id))

    def list_deleted(self) -> dict[str, str]:
        """Tenants that were deleted after they had used anything: the slug by internal id, in the order of deletion."""
        query = select(audit_log.c.object, audit_log.c.detail).where(audit_log.c.action == OFFBOARDED)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(audit_log.c.audit_id)).all()
            told = [(slug, json.loads(detail)) for slug, detail in rows]
            deleted = {str(one["before"]["tenant_id"]): str(slug) for slug, one in told if one["after"] is None}
            return {id_: slug for id_, slug in deleted.items() if _has_used(connection, id_)}

    def _delete_alerts(self, connection: Connection, tenant_id: str) -> None:
        """What was raised about a tenant, what waits to be delivered, and where it went."""
        raised = select(alerts.c.alert_id).where(alerts.c.tenant_id == tenant_id)
        own = select(alert_targets.c.target_id).where(alert_targets.c.tenant_id == tenant_id)
        connection.execute(
            delete(alert_deliveries).where(
                alert_deliveries.c.alert_id.in_(raised) | alert_deliveries.c.target_id.in_(own)
            )
        )
        for table in (alerts, alert_targets, alert_thresholds):
            connection.execute(delete(table).where(table.c.tenant_id == tenant_id))


def _has_used(connection: Connection, tenant_id: str) -> bool:
    query = select(usage_rollup.c.tenant_id).where(usage_rollup.c.tenant_id == tenant_id).limit(1)
    return connection.execute(query).first() is not None
