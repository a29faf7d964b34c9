"""Plans, whose terms are versions with dates, and since when a tenant is on which. Nothing that counted is changed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from tenantry.domain.allowances import is_bounded
from tenantry.domain.keys import is_slug
from tenantry.domain.near import did_you_mean
from tenantry.domain.plans import (
    NEXT_MONTH,
    BadTerms,
    Terms,
    check_terms,
    day_of_change,
    first_of_next_month,
    in_force,
    on_day,
    read_terms,
)
from tenantry.storage.billing_tables import plan_versions, tenant_plans
from tenantry.storage.columns import aware, now_utc
from tenantry.storage.directory.changes import Changes, DirectoryError, NotInDirectory, refuse_used
from tenantry.storage.directory.invoices import last_billed_day
from tenantry.storage.records import PlanVersion, TenantPlan
from tenantry.storage.tables import plans, tenants, tiers
from tenantry.storage.versions import NOTHING, Touched, tenant_touched

SLOTS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a tenant is put on. `from_day` None: as the plan says. `slots` None: those of the plan."""

    plan: str | None
    from_day: date | None = None
    slots: int | None = None


class PlanChanges(Changes):
    """Changes to plans and to who is on them."""

    def put_plan(self, name: str, terms: Mapping[str, Any], from_day: date | None = None) -> None:
        """Make a plan that a file declares have exactly these terms, from a day on. Raises: as `set_plan`."""
        with self._engine.begin() as connection:
            self._put(connection, name, read_terms(terms), from_day, True)

    def set_plan(self, name: str, terms: Terms, from_day: date | None = None) -> date | None:
        """A plan has these terms from a day on; that day, None for the beginning. Without one, as the plan says.

        Raises:
            DirectoryError: a name or terms that cannot be, or a day on which this plan does not change.
        """
        with self._engine.begin() as connection:
            return self._put(connection, name, terms, from_day, False)

    def _put(
        self, connection: Connection, name: str, terms: Terms, from_day: date | None, is_declared: bool
    ) -> date | None:
        if not is_slug(name):
            raise DirectoryError(f"{name!r} is not a plan's name: use a-z, 0-9 and inner hyphens")
        try:
            check_terms(terms)
        except BadTerms as error:
            raise DirectoryError(f"plan {name}: {error}") from None
        self._require_tier(connection, terms)
        versions = plan_versions_of(connection, name)
        before = versions[-1].terms if versions else None
        if terms.surcharges is None:  # not said: as it was, and of prices that are new, so
            known = before.surcharges if before is not None else None
            terms = replace(terms, surcharges=True if known is None and terms.prices else known)
        self._note(connection, name, is_declared)
        found: date | None = None
        if before != terms or from_day is not None:
            found = self._day_of_version(connection, name, versions, from_day)
            values = {"plan": name, "from_day": found.isoformat() if found else "", "actor": self._actor}
            stored = json.dumps(terms.as_json(), sort_keys=True)
            connection.execute(insert(plan_versions).values(terms=stored, created_at=now_utc(), **values))
        detail = {
            "before": before.as_json() if before is not None else None,
            "after": terms.as_json(),
            "from": found.isoformat() if found else None,
        }
        touched = self._bounded(connection, name) if _bounds(before) or _bounds(terms) else NOTHING
        self._record(connection, "plan.set", name, detail, touched)
        return found

    def _require_tier(self, connection: Connection, terms: Terms) -> None:
        """Raises: DirectoryError: there is no such tier to throttle to."""
        wanted = terms.throttle_tier
        names = sorted(connection.execute(select(tiers.c.name)).scalars()) if wanted is not None else []
        if wanted is not None and wanted not in names:
            meant = did_you_mean(wanted, names, f"there are: {', '.join(names)}")
            raise DirectoryError(f"throttle_tier: there is no tier {wanted!r}; {meant}")

    def _bounded(self, connection: Connection, name: str) -> Collection[Touched]:
        """Whose included usage these terms are, at some time: gateways hold it."""
        query = select(tenants.c.tenant_id).join(tenant_plans, tenant_plans.c.tenant_id == tenants.c.tenant_id)
        ids = connection.execute(query.where(tenant_plans.c.plan == name).distinct()).scalars()
        return [one for tenant_id in ids for one in tenant_touched(tenant_id)]

    def _note(self, connection: Connection, name: str, is_declared: bool) -> None:
        is_there = connection.execute(select(plans.c.name).where(plans.c.name == name)).first() is not None
        if not is_there:
            connection.execute(insert(plans).values(name=name, declared=is_declared, created_at=now_utc()))
        elif is_declared:
            connection.execute(update(plans).where(plans.c.name == name).values(declared=True))

    def _day_of_version(
        self, connection: Connection, name: str, versions: Sequence[PlanVersion], from_day: date | None
    ) -> date | None:
        if not versions:
            return from_day
        _refuse_billed(
            connection, {one.tenant_id for one in assigned_plans(connection, None) if one.plan == name}, from_day
        )
        if not self._is_used(connection, name):
            return from_day or self.today()
        rule = _rule_on(versions, self.today())
        _require_day(name, rule, from_day)
        return from_day or day_of_change(rule, self.today())

    def _is_used(self, connection: Connection, name: str) -> bool:
        """Whether a tenant is on it, or is to be; also one of which another plan was said for a later day."""
        said = connection.execute(select(tenants.c.slug).where(tenants.c.plan == name).limit(1)).first()
        if said is not None:
            return True
        by_tenant: defaultdict[str, list[TenantPlan]] = defaultdict(list)
        for one in assigned_plans(connection, None):
            by_tenant[one.tenant_id].append(one)
        standing = (on_day([one.dated for one in some], self.today()) for some in by_tenant.values())
        return any(one is not None and one.plan == name for one in standing)

    def remove_plan(self, name: str) -> None:
        """Raises: DirectoryError: a tenant is on it, or there is none of that name."""
        with self._engine.begin() as connection:
            refuse_used(connection, tenants.c.plan == name, f"plan {name}")
            before = self._plan(connection, name)[-1].terms
            connection.execute(delete(plans).where(plans.c.name == name))
            self._record(connection, "plan.remove", name, {"before": before.as_json(), "after": None}, NOTHING)

    def list_plans(self) -> dict[str, Terms]:
        """The terms that were set last of each plan, also where they count from a later day on."""
        with self._engine.connect() as connection:
            newest = (
                select(func.max(plan_versions.c.version_id))
                .join(plans, plans.c.name == plan_versions.c.plan)
                .group_by(plan_versions.c.plan)
            )
            rows = connection.execute(
                select(plan_versions).where(plan_versions.c.version_id.in_(newest)).order_by(plan_versions.c.plan)
            )
            return {row.plan: _version(row).terms for row in rows}

    def list_plan_versions(self, name: str | None = None) -> list[PlanVersion]:
        """Every version in the order in which they were made. Raises: NotInDirectory: there is no such plan."""
        with self._engine.connect() as connection:
            return self._plan(connection, name) if name is not None else plan_versions_of(connection, None)

    def assign_plan(self, slug: str, agreed: Agreed) -> date | None:
        """Put a tenant on a plan, or with None take it off; the day from which that counts. None: it is so already.

        Raises:
            NotInDirectory: no such tenant or plan.
            DirectoryError: a day on which the plan does not change.
        """
        with self._engine.begin() as connection:
            row = self._tenant(connection, slug)
            if agreed.plan is not None:
                self._plan(connection, agreed.plan)
            _refuse_billed(connection, [row.tenant_id], agreed.from_day)
            stood = assigned_plans(connection, row.tenant_id)
            last = stood[-1] if stood else None
            is_same = last is not None and (last.plan, last.slots) == (agreed.plan, agreed.slots)
            if agreed.from_day is None and (is_same or (last is None and agreed.plan is None)):
                return None
            connection.execute(update(tenants).where(tenants.c.tenant_id == row.tenant_id).values(plan=agreed.plan))
            day = self._assign(connection, row.tenant_id, slug, agreed)
            detail = {
                "before": {"plan": last.plan if last else None, "slots": last.slots if last else None},
                "after": {"plan": agreed.plan, "slots": agreed.slots, "from": day.isoformat()},
            }
            self._record(connection, "tenant.plan", slug, detail, tenant_touched(row.tenant_id))
            return day

    def list_tenant_plans(self, tenant_id: str | None = None) -> list[TenantPlan]:
        """Which tenant was put on which plan, in the order in which that was done."""
        with self._engine.connect() as connection:
            return assigned_plans(connection, tenant_id)

    def _assign(self, connection: Connection, tenant_id: str, slug: str, agreed: Agreed) -> date:
        stood = assigned_plans(connection, tenant_id)
        leaves = on_day([one.dated for one in stood], self.today())
        versions = plan_versions_of(connection, leaves.plan) if leaves is not None and leaves.plan else []
        rule = _rule_on(versions, self.today())
        _require_day(leaves.plan if leaves is not None else "", rule, agreed.from_day)
        day = agreed.from_day or day_of_change(rule, self.today())
        self._put_assigned(connection, [(tenant_id, slug, replace(agreed, from_day=day))])
        return day

    def _end_plan(self, connection: Connection, tenant_id: str, slug: str) -> None:
        """A tenant that leaves owes the rest of the month where its plan says so, else this day as the last."""
        stood = [one.dated for one in assigned_plans(connection, tenant_id)]
        now = on_day(stood, self.today())
        rule = _rule_on(plan_versions_of(connection, now.plan), self.today()) if now is not None and now.plan else ""
        next_day = self.today() + timedelta(days=1)
        day = first_of_next_month(self.today()) if rule == NEXT_MONTH else next_day
        then = on_day(stood, day)
        is_over = then is None or then.plan is None
        if is_over and all(one.what.plan is None for one in in_force(stood) if one.first_day > day):
            return
        self._put_assigned(connection, [(tenant_id, slug, Agreed(None, day))])

    def _put_assigned(self, connection: Connection, all_agreed: Sequence[tuple[str, str, Agreed]]) -> None:
        """What was agreed with tenants, by internal id and slug, each with its day."""
        values = [
            {
                "tenant_id": tenant_id,
                "slug": slug,
                "plan": agreed.plan,
                "slots": agreed.slots,
                "from_day": agreed.from_day.isoformat(),
                "actor": self._actor,
                "created_at": now_utc(),
            }
            for tenant_id, slug, agreed in all_agreed
            if agreed.from_day is not None
        ]
        if values:
            connection.execute(insert(tenant_plans), values)

    def _plan(self, connection: Connection, name: str) -> list[PlanVersion]:
        names = connection.execute(select(plans.c.name).order_by(plans.c.name)).scalars().all()
        if name not in names:
            meant = did_you_mean(name, names, "`tenantry plans list` names them")
            raise NotInDirectory(f"there is no plan {name!r}; {meant}")
        return plan_versions_of(connection, name)


def _bounds(terms: Terms | None) -> bool:
    return terms is not None and is_bounded(terms)


def _rule_on(versions: Sequence[PlanVersion], day: date) -> str:
    found = on_day([one.dated for one in versions], day)
    return found.terms.changes if found is not None else ""


def _require_day(plan: str | None, rule: str, day: date | None) -> None:
    if rule == NEXT_MONTH and day is not None and day.day != 1:
        raise DirectoryError(
            f"plan {plan} changes with a month: the day must be the first of one, not {day.isoformat()}"
        )


def _refuse_billed(connection: Connection, tenant_ids: Collection[str], day: date | None) -> None:
    """What was billed is not changed after it. Raises: DirectoryError."""
    last = last_billed_day(connection, tenant_ids) if day is not None else None
    if day is not None and last is not None and day < first_of_next_month(last):
        raise DirectoryError(
            f"{last:%Y-%m} is billed already: the day must be {first_of_next_month(last).isoformat()} or later, "
            "or its invoices be credited first (`tenantry invoices credit`)"
        )


def plan_versions_of(connection: Connection, name: str | None) -> list[PlanVersion]:
    """Every version of a plan, or of all, in the order in which they were made."""
    query = select(plan_versions).order_by(plan_versions.c.version_id)
    if name is not None:
        query = query.where(plan_versions.c.plan == name)
    return [_version(row) for row in connection.execute(query)]


def _version(row: Any) -> PlanVersion:
    terms = read_terms(json.loads(row.terms))
    return PlanVersion(row.version_id, row.plan, _day(row.from_day), terms, row.actor, aware(row.created_at))


def assigned_plans(connection: Connection, tenant_id: str | None) -> list[TenantPlan]:
    """What a tenant was put on, or every one, in the order in which that was done."""
    query = select(tenant_plans).order_by(tenant_plans.c.change_id)
    if tenant_id is not None:
        query = query.where(tenant_plans.c.tenant_id == tenant_id)
    return [
        TenantPlan(row.tenant_id, row.slug, row.plan, date.fromisoformat(row.from_day), row.slots, row.actor)
        for row in connection.execute(query)
    ]


def _day(text: str) -> date | None:
    return date.fromisoformat(text) if text else None
