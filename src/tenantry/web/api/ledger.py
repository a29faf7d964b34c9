"""The ledger proved and corrected. No row of it is ever edited."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from msgspec import Meta
from sqlalchemy.exc import SQLAlchemyError

from tenantry.control.ledger_work import (
    QuarantinedView,
    RecomputedAll,
    quarantined_views,
    recomputed,
    scope_of,
    verification_view,
)
from tenantry.control.pricing import price_table
from tenantry.control.tasks import Progress, TaskView
from tenantry.control.views import View
from tenantry.domain.prices import PriceTable
from tenantry.domain.roles import Permission
from tenantry.domain.values import value
from tenantry.ledger.quarantine import resolve
from tenantry.ledger.verification import verify
from tenantry.storage.prices import load_prices
from tenantry.web.answers import Refused
from tenantry.web.api.changes import MonthText, Name
from tenantry.web.api.operations import Call, Struct, operation
from tenantry.web.api.paging import Page, Paged, page_of
from tenantry.web.api.site import VERIFICATION
from tenantry.web.tokens import tasks_of

# A price file of the largest size that the command line reads, and what says how it is meant.
_RECOMPUTATION_BYTES_MAX: Final = 2_000_000


class LedgerUnreadable(Exception):
    """The ledger cannot be read; the message says why."""


@operation(
    "POST", "/ledger/verification", Permission.LEDGER_CORRECT, status=202, located="/tasks/{task_id}", is_atomic=False
)
def start_ledger_verification(call: Call) -> TaskView:
    """Begin to follow every chain of rows to its end and compare the sums; the task's result says what was found."""
    engine = call.site.engine

    def work(progress: Progress) -> dict[str, Any]:
        try:
            return verification_view(verify(engine, progress.came))
        except SQLAlchemyError as error:
            raise LedgerUnreadable(f"the ledger cannot be read: {str(error).splitlines()[0]}") from None

    return tasks_of(call.request).start(VERIFICATION, call.principal.actor, work, (LedgerUnreadable,))


@operation("GET", "/ledger/quarantine", Permission.LEDGER_CORRECT)
def list_quarantine(call: Call, query: Paged) -> Page[QuarantinedView]:
    """List lines of journals that could not be booked."""
    return page_of(call, query, quarantined_views(call.site), lambda one: one.line_id)


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
    """`prices`: a price file of your own, whose version `price_version` is; without one, the prices of now.

    `book`: book the differences as adjustments; without it, nothing is changed.
    """

    price_version: Annotated[str, Meta(min_length=1, max_length=32)]
    prices: dict[str, Any] | None = None
    tenant: Name | None = None
    month: MonthText | None = None
    book: bool = False


@operation(
    "POST",
    "/ledger/recomputation",
    Permission.LEDGER_CORRECT,
    is_atomic=False,
    body_bytes_max=_RECOMPUTATION_BYTES_MAX,
)
def recompute_ledger(call: Call, body: Recomputation) -> RecomputedAll:
    """Say what other prices would change of what was booked; or book it."""
    if body.prices is None:
        table, where = price_table(call.site), "the prices of now have"
    else:
        table, where = PriceTable.load(json.dumps(body.prices).encode()), "the price file has"
    if table.version != body.price_version:
        raise Refused(409, f"there are no prices {body.price_version!r}: {where} version {table.version!r}")
    return recomputed(call.site, table, scope_of(call.site, body.tenant, body.month), book=body.book)


OPERATIONS: Final = (start_ledger_verification, list_quarantine, resolve_quarantine, recompute_ledger)
