"""The ledger proved and corrected. No row of it is ever edited."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from tenantry.control.pricing import price_table
from tenantry.control.tasks import TaskView
from tenantry.control.views import View
from tenantry.domain.printable import stamp
from tenantry.domain.roles import Permission
from tenantry.domain.values import value
from tenantry.ledger.adjustments import Scope, book_adjustments, recompute
from tenantry.ledger.quarantine import list_quarantined, resolve
from tenantry.ledger.usage import month_bounds_us
from tenantry.ledger.verification import verify
from tenantry.storage.prices import load_prices
from tenantry.web.answers import Refused
from tenantry.web.api.changes import MonthText, Name
from tenantry.web.api.operations import Call, Struct, operation
from tenantry.web.api.paging import Page, Paged, page_of
from tenantry.web.api.site import tasks_of


@operation(
    "POST", "/ledger/verification", Permission.LEDGER_CORRECT, status=202, located="/tasks/{task_id}", is_atomic=False
)
def start_ledger_verification(call: Call) -> TaskView:
    """Begin to follow every chain of rows to its end and compare the sums; the task's result says what was found."""
    engine = call.site.engine

    def work(_tell: object) -> dict[str, Any]:
        found = verify(engine, lambda share: None)
        return asdict(found) | {"ok": not found.fault_count}

    return tasks_of(call).start("ledger verification", call.principal.actor, work)


@value
class QuarantinedView(View):
    """A line of a journal that could not be booked, and what a budget counts for it."""

    line_id: int
    found_at: str
    run_id: str
    reason: str
    attempt_id: str | None
    tenant_id: str | None
    nanos: int
    line: str


@operation("GET", "/ledger/quarantine", Permission.LEDGER_CORRECT)
def list_quarantine(call: Call, query: Paged) -> Page[QuarantinedView]:
    """List lines of journals that could not be booked."""
    found = [
        QuarantinedView(**{**asdict(one), "found_at": stamp(one.found_at)})  # pyright: ignore[reportArgumentType] -- by name
        for one in list_quarantined(call.site.engine)
    ]
    return page_of(call, query, sorted(found, key=lambda one: one.line_id), lambda one: one.line_id)


class Resolution(Struct):
    """retry: book those that can be booked now; settle: the others too, at what was held for them."""

    how: Literal["retry", "settle"]


@value
class ResolvedView(View):
    booked: int
    dropped: int
    left: int


@operation("POST", "/ledger/quarantine", Permission.LEDGER_CORRECT, is_atomic=False)
def resolve_quarantine(call: Call, body: Resolution) -> ResolvedView:
    """Book lines that are in quarantine."""
    engine = call.site.engine
    done = resolve(engine, load_prices(engine), time.time_ns() // 1000, at_bound=body.how == "settle")
    call.site.directory.audit("ledger.quarantine", body.how, asdict(done))
    return ResolvedView(**asdict(done))


class Recomputation(Struct):
    """`book`: book the differences as adjustments; without it, nothing is changed."""

    price_version: Annotated[str, Meta(min_length=1, max_length=32)]
    tenant: Name | None = None
    month: MonthText | None = None
    book: bool = False


@value
class RecomputedView(View):
    tenant: str
    model: str
    attempts: int
    before_nanos: int
    after_nanos: int
    difference_nanos: int
    unpriced: int


@value
class RecomputedAll(View):
    """`booked`: adjustments that were booked."""

    price_version: str
    changes: list[RecomputedView]
    difference_nanos: int
    booked: int


@operation("POST", "/ledger/recomputation", Permission.LEDGER_CORRECT, is_atomic=False)
def recompute_ledger(call: Call, body: Recomputation) -> RecomputedAll:
    """Say what the prices of now would change of what was booked; or book it."""
    site = call.site
    table = price_table(site)
    if table.version != body.price_version:
        raise Refused(409, f"the prices have version {table.version!r} now, not {body.price_version!r}")
    tenant_id = site.directory.get_tenant(body.tenant).tenant_id if body.tenant is not None else None
    bounds = month_bounds_us(body.month, site.settings.zone) if body.month is not None else (None, None)
    scope = Scope(tenant_id, *bounds)
    found = recompute(site.engine, table, scope)
    booked = 0
    if body.book and found:
        booked = book_adjustments(site.engine, table, scope)
        told = {"price_version": table.version, "rows": booked}
        site.directory.announce("ledger.adjusted", tenant_id or "all", told)
    slugs = {row.tenant_id: row.slug for row in site.directory.list_tenants()}
    changes = [
        RecomputedView(
            slugs.get(one.tenant_id, one.tenant_id),
            one.model,
            one.attempts,
            one.before_nanos,
            one.after_nanos,
            one.after_nanos - one.before_nanos,
            one.unpriced,
        )
        for one in found
    ]
    return RecomputedAll(table.version, changes, sum(one.difference_nanos for one in changes), booked)


OPERATIONS: Final = (start_ledger_verification, list_quarantine, resolve_quarantine, recompute_ledger)
