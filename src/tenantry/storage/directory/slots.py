"""Slots: endpoints of a tenant with keys and a lane of their own, as many as its plan has or as were agreed on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from tenantry.domain.directory import KeyStatus
from tenantry.domain.keys import is_slug
from tenantry.domain.limits import KEY_LIMITS, as_json, exceeds
from tenantry.domain.money import format_usd
from tenantry.domain.near import did_you_mean
from tenantry.domain.plans import Terms, on_day
from tenantry.storage.columns import now_utc
from tenantry.storage.directory.changes import AlreadyThere, DirectoryError, NotInDirectory
from tenantry.storage.directory.plans import PlanChanges, assigned_plans, plan_versions_of
from tenantry.storage.directory.tiers import TierChanges
from tenantry.storage.records import SlotRecord, read_changes, read_slot
from tenantry.storage.tables import gateway_keys, tenant_slots, tenants
from tenantry.storage.versions import tenant_touched


@dataclass(frozen=True, slots=True)
class SlotAllowance:
    """How many slots a tenant may have today; None: no plan says a number. `agreed`: beside its plan's own number."""

    slots_max: int | None
    plan: str | None
    agreed: bool
    terms: Terms | None

    def beyond(self, count: int) -> int:
        """How many of so many slots are beyond it."""
        return 0 if self.slots_max is None else max(0, count - self.slots_max)

    def words(self, slug: str) -> str:
        """The number and where it is from, as a sentence of which the tenant is the subject."""
        if self.slots_max is None:
            where = f"plan {self.plan} says no number" if self.plan else "no plan says a number"
            return f"{slug} may have any number of slots: {where}"
        many = f"{self.slots_max} slot{'s' if self.slots_max != 1 else ''}"
        return f"{slug} may have {many}, {'agreed on beside' if self.agreed else 'by'} plan {self.plan}"


class SlotChanges(PlanChanges, TierChanges):
    """Changes to slots."""

    def add_slot(self, slug: str, name: str, limits: Mapping[str, Any] | None = None) -> SlotRecord:
        """A new slot of a tenant, with limits of its own within the tenant's. `limits` has been read by `read_limits`.

        Raises:
            NotInDirectory: no such tenant.
            AlreadyThere: it has one of that name.
            DirectoryError: a name or limit that cannot be, or one slot more than the tenant may have.
        """
        own = dict(limits or {})
        with self._engine.begin() as connection:
            tenant = self._tenant(connection, slug)
            if not is_slug(name):
                raise DirectoryError(f"{name!r} is not a slot's name: use a-z, 0-9 and inner hyphens")
            there = slots_of(connection, tenant.tenant_id)
            if name in there:
                raise AlreadyThere(f"{slug} has a slot {name} already; `tenantry keys issue {slug} --slot {name}`")
            self._require_room(connection, tenant, sorted(there))
            self._check_slot_limits(connection, tenant, own)
            values = {"tenant_id": tenant.tenant_id, "name": name, "created_at": now_utc()}
            connection.execute(insert(tenant_slots).values(limits=_stored(own), **values))
            after = {"limits": json.loads(_stored(own))}
            self._tell_slot(connection, "slot.add", tenant, name, None, after)
            return self._slot_record(connection, tenant, name)

    def set_slot(
        self, slug: str, name: str, limits: Mapping[str, Any], inherit: Sequence[str] | None = ()
    ) -> SlotRecord:
        """Give a slot these limits; those that `inherit` names are the tenant's again, with None all others.

        Raises:
            NotInDirectory, DirectoryError: as `add_slot`.
        """
        with self._engine.begin() as connection:
            tenant = self._tenant(connection, slug)
            before = _slot(connection, tenant, name)
            kept = {} if inherit is None else read_changes(before.limits)
            own = {key: one for key, one in kept.items() if key not in (inherit or ())} | dict(limits)
            self._check_slot_limits(connection, tenant, own)
            stored = _stored(own)
            if stored != before.limits:
                where = (tenant_slots.c.tenant_id == tenant.tenant_id, tenant_slots.c.name == name)
                connection.execute(update(tenant_slots).where(*where).values(limits=stored))
                was, now = {"limits": json.loads(before.limits)}, {"limits": json.loads(stored)}
                self._tell_slot(connection, "slot.set", tenant, name, was, now)
            return self._slot_record(connection, tenant, name)

    def remove_slot(self, slug: str, name: str) -> int:
        """Take a slot away and revoke its keys; how many those are. What was used by them stays known as the slot's.

        Raises: NotInDirectory.
        """
        with self._engine.begin() as connection:
            tenant = self._tenant(connection, slug)
            before = _slot(connection, tenant, name)
            of_it = (gateway_keys.c.tenant_id == tenant.tenant_id, gateway_keys.c.slot == name)
            done = connection.execute(
                update(gateway_keys)
                .where(*of_it, gateway_keys.c.status == KeyStatus.ACTIVE.value)
                .values(status=KeyStatus.REVOKED.value, revoked_at=now_utc())
            )
            where = (tenant_slots.c.tenant_id == tenant.tenant_id, tenant_slots.c.name == name)
            connection.execute(delete(tenant_slots).where(*where))
            was = {"limits": json.loads(before.limits), "keys": done.rowcount}
            self._tell_slot(connection, "slot.remove", tenant, name, was, None)
            return done.rowcount

    def list_slots(self, slug: str | None = None) -> list[SlotRecord]:
        """Slots by tenant and name. Raises: NotInDirectory."""
        query = _listed()
        with self._engine.connect() as connection:
            if slug is not None:
                self._tenant(connection, slug)
                query = query.where(tenants.c.slug == slug)
            return [read_slot(row) for row in connection.execute(query)]

    def slot_allowance(self, slug: str) -> SlotAllowance:
        """How many slots a tenant may have today. Raises: NotInDirectory."""
        with self._engine.connect() as connection:
            return self._allowance(connection, self._tenant(connection, slug).tenant_id)

    def _allowance(self, connection: Connection, tenant_id: str) -> SlotAllowance:
        today = self.today()
        on = on_day([one.dated for one in assigned_plans(connection, tenant_id)], today)
        if on is None or on.plan is None:
            return SlotAllowance(None, None, False, None)
        version = on_day([one.dated for one in plan_versions_of(connection, on.plan)], today)
        terms = version.terms if version is not None else Terms()
        slots_max = on.slots if on.slots is not None else terms.slots
        return SlotAllowance(slots_max, on.plan, on.slots is not None, terms)

    def _require_room(self, connection: Connection, tenant: Row[*tuple[Any, ...]], there: Sequence[str]) -> None:
        allowance = self._allowance(connection, tenant.tenant_id)
        if allowance.slots_max is None or len(there) < allowance.slots_max:
            return
        slug, terms = tenant.slug, allowance.terms
        each = ""
        if terms is not None and terms.extra_slot_nanos and terms.slots is not None:
            each = f", at {format_usd(terms.extra_slot_nanos)} a month for each beyond {terms.slots}"
        raise DirectoryError(
            f"{allowance.words(slug)}, and has {len(there)}: {', '.join(there)}. "
            f"`tenantry plans assign {slug} {allowance.plan} --slots {len(there) + 1}` agrees on one more{each}; "
            f"`tenantry slots remove {slug} NAME` frees one"
        )

    def _check_slot_limits(self, connection: Connection, tenant: Row[*tuple[Any, ...]], own: Mapping[str, Any]) -> None:
        foreign = [name for name in own if name not in KEY_LIMITS]
        if foreign:
            raise DirectoryError(f"{foreign[0]} belongs to a tenant; a slot may have {', '.join(KEY_LIMITS)}")
        most = self._tier(connection, tenant.tier).limits.with_changes(read_changes(tenant.limits))
        problems = exceeds(own, most, "slot")
        if problems:
            raise DirectoryError("\n".join(problems))

    def _tell_slot(
        self,
        connection: Connection,
        action: str,
        tenant: Row[*tuple[Any, ...]],
        name: str,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
    ) -> None:
        detail = {"tenant": tenant.slug, "before": before, "after": after}
        self._record(connection, action, f"{tenant.slug}.{name}", detail, tenant_touched(tenant.tenant_id))

    def _slot_record(self, connection: Connection, tenant: Row[*tuple[Any, ...]], name: str) -> SlotRecord:
        where = (tenant_slots.c.tenant_id == tenant.tenant_id, tenant_slots.c.name == name)
        return read_slot(connection.execute(_listed().where(*where)).one())


def slots_of(connection: Connection, tenant_id: str) -> set[str]:
    """The names of a tenant's slots."""
    return set(connection.execute(select(tenant_slots.c.name).where(tenant_slots.c.tenant_id == tenant_id)).scalars())


def require_slot(connection: Connection, tenant: Row[*tuple[Any, ...]], name: str) -> None:
    """Raises: NotInDirectory: the tenant has no such slot."""
    _slot(connection, tenant, name)


def _slot(connection: Connection, tenant: Row[*tuple[Any, ...]], name: str) -> Row[*tuple[Any, ...]]:
    where = (tenant_slots.c.tenant_id == tenant.tenant_id, tenant_slots.c.name == name)
    row = connection.execute(select(tenant_slots).where(*where)).first()
    if row is None:
        there = sorted(slots_of(connection, tenant.tenant_id))
        rest = f"it has {', '.join(there)}" if there else f"it has none; `tenantry slots add {tenant.slug} {name}`"
        raise NotInDirectory(f"{tenant.slug} has no slot {name!r}; {did_you_mean(name, there, rest)}")
    return row


def _listed() -> Any:
    works = (gateway_keys.c.status == KeyStatus.ACTIVE.value) & (
        gateway_keys.c.expires_at.is_(None) | (gateway_keys.c.expires_at > now_utc())
    )
    keys = (
        select(func.count())
        .where(gateway_keys.c.tenant_id == tenant_slots.c.tenant_id, gateway_keys.c.slot == tenant_slots.c.name, works)
        .scalar_subquery()
    )
    return (
        select(tenant_slots, tenants.c.slug, keys.label("keys"))
        .join(tenants, tenants.c.tenant_id == tenant_slots.c.tenant_id)
        .order_by(tenants.c.slug, tenant_slots.c.name)
    )


def _stored(limits: Mapping[str, Any]) -> str:
    return json.dumps({name: as_json(value) for name, value in limits.items()})
