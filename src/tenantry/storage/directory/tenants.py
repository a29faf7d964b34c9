"""Tenants: made, listed, changed, switched off."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tenantry.domain.directory import Disconnect, TenantStatus
from tenantry.domain.keys import is_slug
from tenantry.domain.limits import Limits, as_json
from tenantry.storage.billing_tables import tenant_plans
from tenantry.storage.client_hosts import read_hosts
from tenantry.storage.columns import new_id, now_utc
from tenantry.storage.directory.budgets import BudgetChanges, Caps, check_budgets, put_caps
from tenantry.storage.directory.changes import AlreadyThere, DirectoryError
from tenantry.storage.directory.hosts import check_hosts, put_hosts, require_free
from tenantry.storage.directory.plans import Agreed, PlanChanges
from tenantry.storage.directory.portal import delete_portal
from tenantry.storage.directory.tiers import TierChanges
from tenantry.storage.many import rows_where
from tenantry.storage.records import TenantRecord, read_changes, read_tenant
from tenantry.storage.tables import (
    alert_deliveries,
    alert_targets,
    alert_thresholds,
    budget_raises,
    budgets,
    credentials,
    gateway_keys,
    tenant_hosts,
    tenant_slots,
    tenants,
    tiers,
)
from tenantry.storage.versions import credential_touched, tenant_touched

DISCONNECTS = tuple(one.value for one in Disconnect)
STATUSES = tuple(one.value for one in TenantStatus)
# A line on a page; a mailbox has 254 characters at most (RFC 5321 4.5.3.1.3).
CONTACT_CHARACTERS_MAX = 300
# It becomes a header field of every request (reference 10.3); the column holds 64.
_USER_PROFILE = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Columns of which an empty text takes the value away, and those that always have one.
_MAY_BE_EMPTY = ("user_profile_id", "contact", "disconnect", "plan")
# What a tenant has that nothing was said about.
_DEFAULTS: dict[str, Any] = {
    "status": TenantStatus.ACTIVE.value,
    "limits": "{}",
    "user_profile_id": None,
    "plan": None,
    "contact": None,
    "budget_mode": "hard",
    "disconnect": Disconnect.DRAIN.value,
    "declared": False,
    "offboard": "keep",
}
_NEVER_EMPTY = ("name", "status", "offboard", "declared", "budget_mode")


@dataclass(frozen=True, slots=True)
class TenantChange:
    """What `set_tenant` is to change; None leaves things as they are, an empty text takes them away.

    `limits` are overrides that have been read by `read_limits`; `inherit` names those that go back to the tier's, and
    with `only_limits` all that are not among `limits` do. `disconnect` says what becomes of an answer whose client
    left: `drain` reads the rest, `cancel` does not. `budgets` are nano-dollars by day, week and month, None takes one
    away; `budget_mode` hard refuses what does not fit, soft only tells. `offboard` says what becomes of the tenant when
    it leaves the file that `declared` it. `keys_follow`: keys that would have more than the tenant are changed in the
    same transaction, and whoever asks has checked that. `hosts` are all the names of the client's own; none in it takes
    them away.
    """

    tier: str | None = None
    limits: Mapping[str, Any] | None = None
    inherit: Sequence[str] = ()
    only_limits: bool = False
    keys_follow: bool = False
    user_profile_id: str | None = None
    contact: str | None = None
    disconnect: str | None = None
    name: str | None = None
    status: str | None = None
    plan: str | None = None
    offboard: str | None = None
    declared: bool | None = None
    budgets: Mapping[str, int | None] = field(default_factory=dict[str, int | None])
    budget_mode: str | None = None
    hosts: Sequence[str] | None = None

    def columns(self) -> dict[str, str | bool | None]:
        """The columns beside tier and limits, by name.

        Raises:
            DirectoryError: a value cannot be.
        """
        if self.user_profile_id and not _USER_PROFILE.fullmatch(self.user_profile_id):
            raise DirectoryError(f"{self.user_profile_id!r} is not a user profile's id, such as uprof_01...")
        if self.contact and not (len(self.contact) <= CONTACT_CHARACTERS_MAX and self.contact.isprintable()):
            raise DirectoryError(f"a contact is one line of {CONTACT_CHARACTERS_MAX} characters at most")
        if self.disconnect is not None and self.disconnect not in DISCONNECTS:
            raise DirectoryError(f"disconnect must be {' or '.join(DISCONNECTS)}, not {self.disconnect!r}")
        if self.status is not None and self.status not in STATUSES:
            raise DirectoryError(f"a tenant's status is {' or '.join(STATUSES)}, not {self.status!r}")
        check_budgets(self.budgets, self.budget_mode)
        check_hosts(self.hosts or ())
        taken_away = {name: getattr(self, name) or None for name in _MAY_BE_EMPTY if getattr(self, name) is not None}
        return taken_away | {name: getattr(self, name) for name in _NEVER_EMPTY if getattr(self, name) is not None}


@dataclass(frozen=True, slots=True)
class NewTenant:
    """A tenant to be made. `change` is what differs from one that nothing was said about."""

    slug: str
    name: str
    tier: str
    change: TenantChange = TenantChange()
    tenant_id: str = field(default_factory=lambda: new_id("tnt"))


class TenantChanges(BudgetChanges, PlanChanges, TierChanges):
    """Changes to tenants."""

    def create_tenant(self, slug: str, name: str, tier: str, tenant_id: str | None = None) -> str:
        """A new tenant; its id. `tenant_id` is given only where it has to be known before, as for a probe.

        Raises:
            AlreadyThere, NotInDirectory, DirectoryError: as `create_tenants`.
        """
        one = NewTenant(slug, name, tier, tenant_id=tenant_id or new_id("tnt"))
        self.create_tenants([one])
        return one.tenant_id

    def create_tenants(self, new: Sequence[NewTenant]) -> None:
        """New tenants, each with a line of audit, and with one more where it is changed at once.

        Raises:
            AlreadyThere: a slug is taken.
            NotInDirectory: no such tier.
            DirectoryError: a slug is malformed, or a value cannot be.
        """
        with self._engine.begin() as connection:
            slugs = [one.slug for one in new]
            taken = {row.slug for row in rows_where(connection, (tenants.c.slug,), tenants.c.slug, slugs)}
            for tier in {one.tier for one in new}:
                self._tier(connection, tier)
            rows = [_new_row(one, taken) for one in new]
            amounts = [
                {"tenant_id": one.tenant_id, "key_id": "", "period": period, "amount_nanos": nanos}
                for one in new
                for period, nanos in one.change.budgets.items()
                if nanos is not None
            ]
            hosts = [{"host": host, "tenant_id": one.tenant_id} for one in new for host in one.change.hosts or ()]
            require_free(connection, hosts)
            try:
                for table, values in ((tenants, rows), (budgets, amounts)):
                    if values:
                        connection.execute(insert(table), [{**one, "created_at": now_utc()} for one in values])
                if hosts:
                    connection.execute(insert(tenant_hosts), hosts)
            except IntegrityError:
                raise AlreadyThere("there is a tenant of that slug already, or no such plan") from None
            self._put_first_plans(connection, [one for one in new if one.change.plan])
            for one, row in zip(new, rows, strict=True):
                detail = {"before": None, "after": {"name": one.name, "tier": one.tier}}
                self._record(connection, "tenant.create", one.slug, detail, tenant_touched(one.tenant_id))
                self._tell_first_change(connection, one, row)

    def _put_first_plans(self, connection: Connection, new: Sequence[NewTenant]) -> None:
        today = self.today()
        agreed = [(one.tenant_id, one.slug, Agreed(one.change.plan, today)) for one in new]
        self._put_assigned(connection, agreed)

    def _tell_first_change(self, connection: Connection, one: NewTenant, row: Mapping[str, Any]) -> None:
        shown = {**row, "limits": json.loads(row["limits"])}
        stood: dict[str, Any] = {**_DEFAULTS, "limits": {}}
        after = {name: shown[name] for name, value in stood.items() if shown[name] != value}
        before = {name: stood[name] for name in after}
        if one.change.hosts:
            before["hosts"], after["hosts"] = [], sorted(one.change.hosts)
        caps = Caps({}, {period: nanos for period, nanos in one.change.budgets.items() if nanos is not None})
        self._tell_change(connection, one.slug, one.tenant_id, before, after, caps)

    def set_tenant(self, slug: str, change: TenantChange) -> Limits:
        """The one door through which a tenant is changed, with one line of audit; the limits in force then.

        Nothing is written when it is so already.

        Raises:
            NotInDirectory: no such tenant or tier.
            DirectoryError: a value cannot be, or a key of the tenant would have more than the tenant.
        """
        columns = change.columns()
        with self._engine.begin() as connection:
            row = self._tenant(connection, slug)
            own = {**({} if change.only_limits else read_changes(row.limits)), **(change.limits or {})}
            for name in change.inherit:
                own.pop(name, None)
            tier = self._tier(connection, change.tier or row.tier)
            limits = tier.limits.with_changes(own)
            if not change.keys_follow:
                self._check_keys(connection, row.tenant_id, limits)
            stored = {"tier": tier.name, "limits": {name: as_json(value) for name, value in own.items()}, **columns}
            stood: dict[str, Any] = {name: getattr(row, name) for name in stored} | {"limits": json.loads(row.limits)}
            after: dict[str, Any] = {name: value for name, value in stored.items() if stood[name] != value}
            before = {name: stood[name] for name in after}
            if after:
                written = {name: json.dumps(value) if name == "limits" else value for name, value in after.items()}
                connection.execute(update(tenants).where(tenants.c.tenant_id == row.tenant_id).values(written))
            if change.hosts is not None:
                stood_hosts, hosts = put_hosts(connection, row.tenant_id, change.hosts)
                if stood_hosts != hosts:
                    before["hosts"], after["hosts"] = stood_hosts, hosts
            if "plan" in after:
                self._assign(connection, row.tenant_id, slug, Agreed(change.plan or None))
            caps = put_caps(connection, row.tenant_id, "", change.budgets)
            self._tell_change(connection, row.slug, row.tenant_id, before, after, caps)
        return limits

    def _tell_change(
        self,
        connection: Connection,
        slug: str,
        tenant_id: str,
        before: dict[str, Any],
        after: dict[str, Any],
        caps: Caps,
    ) -> None:
        """One line, under the word for what was changed where it is one thing."""
        for period in sorted(caps.before.keys() | caps.after.keys()):
            if caps.before.get(period) != caps.after.get(period):
                before[f"{period}_nanos"], after[f"{period}_nanos"] = caps.before.get(period), caps.after.get(period)
        if not after:
            return
        action = "tenant.set"
        if after.keys() == {"status"}:
            action = f"tenant.{after['status']}"
        elif all(name == "budget_mode" or name.endswith("_nanos") for name in after):
            action = "budget.set"
        self._record(connection, action, slug, {"before": before, "after": after}, tenant_touched(tenant_id))

    def set_tenant_status(self, slug: str, status: TenantStatus) -> None:
        """Raises: NotInDirectory."""
        self.set_tenant(slug, TenantChange(status=status.value, keys_follow=True))

    def set_budgets(
        self, slug: str, amounts: Mapping[str, int | None], mode: str | None = None, key_id: str = ""
    ) -> None:
        """What a tenant may cost, or one of its keys; see `TenantChange`. `mode` is always the tenant's.

        Raises:
            NotInDirectory: no such tenant, or no such key of it.
            DirectoryError: a period, amount or mode that cannot be.
        """
        if key_id:
            self.set_key_budgets(slug, key_id, amounts)
        if mode is not None or not key_id:
            own: Mapping[str, int | None] = {} if key_id else amounts
            self.set_tenant(slug, TenantChange(budgets=own, budget_mode=mode, keys_follow=True))

    def get_tenant(self, slug: str) -> TenantRecord:
        """Raises: NotInDirectory."""
        with self._engine.connect() as connection:
            self._tenant(connection, slug)
            row = connection.execute(_listed().where(tenants.c.slug == slug)).one()
            return read_tenant(row, read_hosts(connection, [row.tenant_id]))

    def has_tenant(self, slug: str) -> bool:
        with self._engine.connect() as connection:
            return connection.execute(select(tenants.c.slug).where(tenants.c.slug == slug)).first() is not None

    def list_tenants(self) -> list[TenantRecord]:
        with self._engine.connect() as connection:
            hosts = read_hosts(connection)
            return [read_tenant(row, hosts) for row in connection.execute(_listed())]

    def find_host(self, host: str) -> str | None:
        """The slug of the tenant whose own name this is; None: nobody's."""
        with self._engine.connect() as connection:
            query = select(tenants.c.slug).join(tenant_hosts, tenant_hosts.c.tenant_id == tenants.c.tenant_id)
            return connection.execute(query.where(tenant_hosts.c.host == host)).scalar()

    def remove_tenant(self, slug: str, credential_id: str | None, reason: str) -> None:
        """Undo a provisioning that failed: the tenant, its keys, and the credential that was made for it."""
        with self._engine.begin() as connection:
            row = self._tenant(connection, slug)
            own_targets = select(alert_targets.c.target_id).where(alert_targets.c.tenant_id == row.tenant_id)
            connection.execute(delete(alert_deliveries).where(alert_deliveries.c.target_id.in_(own_targets)))
            for table in (
                alert_targets,
                alert_thresholds,
                budget_raises,
                budgets,
                gateway_keys,
                tenant_slots,
                tenant_hosts,
                tenant_plans,
            ):
                connection.execute(delete(table).where(table.c.tenant_id == row.tenant_id))
            delete_portal(connection, row.tenant_id)
            connection.execute(delete(tenants).where(tenants.c.tenant_id == row.tenant_id))
            touched = tenant_touched(row.tenant_id)
            if credential_id is not None:
                connection.execute(delete(credentials).where(credentials.c.credential_id == credential_id))
                touched += credential_touched(credential_id)
            before = {"name": row.name, "tier": row.tier}
            detail = {"before": before, "after": None, "reason": reason}
            self._record(connection, "tenant.rollback", slug, detail, touched)


def _new_row(one: NewTenant, taken: set[str]) -> dict[str, Any]:
    """The row of a new tenant, whose slug is taken from then on."""
    if not is_slug(one.slug):
        raise DirectoryError(f"{one.slug!r} is not a slug: use a-z, 0-9 and inner hyphens, 63 characters at most")
    if one.slug in taken:
        raise AlreadyThere(
            f"there is a tenant {one.slug} already: `tenantry tenants show {one.slug}` shows it; "
            f"`tenantry keys issue {one.slug}` gives it another key"
        )
    taken.add(one.slug)
    limits = {name: as_json(value) for name, value in (one.change.limits or {}).items()}
    known = {"tenant_id": one.tenant_id, "slug": one.slug, "name": one.name, "tier": one.tier}
    return _DEFAULTS | known | {"limits": json.dumps(limits)} | one.change.columns()


def _listed() -> Select[*tuple[Any, ...]]:
    spare = credentials.alias("spare")
    return (
        select(
            tenants,
            tiers.c.limits.label("tier_limits"),
            credentials.c.name.label("credential"),
            spare.c.name.label("fallback"),
        )
        .join(tiers, tiers.c.name == tenants.c.tier)
        .outerjoin(credentials, credentials.c.credential_id == tenants.c.credential_id)
        .outerjoin(spare, spare.c.credential_id == tenants.c.fallback_credential_id)
        .order_by(tenants.c.slug)
    )
