"""The audit log: who changed or read what, from where, and when."""

from __future__ import annotations

from typing import Any, Final

from tenantry.control.views import View
from tenantry.domain.roles import Permission
from tenantry.domain.values import value
from tenantry.storage.audit import AuditEntry
from tenantry.web.api.changes import Name
from tenantry.web.api.operations import Call, operation
from tenantry.web.api.paging import Page, Paged, next_page, read_cursor
from tenantry.web.api.requests import Time


@value
class AuditView(View):
    """`before` and `after` of a change; `row_hash` chains the line to `prev_hash`."""

    id: int
    at: str
    actor: str
    origin: str
    action: str
    object: str
    tenant: str | None
    before: Any
    after: Any
    detail: dict[str, Any]
    prev_hash: str
    row_hash: str


class AuditQuery(Paged):
    """`tenant`: what is about this one. `since`: from then on."""

    tenant: Name | None = None
    actor: Name | None = None
    action: Name | None = None
    since: Time | None = None


@operation("GET", "/audit", Permission.AUDIT_READ)
def list_audit(call: Call, query: AuditQuery) -> Page[AuditView]:
    """List lines of the audit log, the newest first."""
    after = read_cursor(call, query)
    before_id = int(after[0]) if after is not None else None
    rows = call.site.directory.newest_audit(
        query.limit + 1, query.tenant, query.actor, query.action, before_id, query.since
    )
    page: Page[AuditEntry] = next_page(call, query, rows, lambda one: one.audit_id)
    return Page([AuditView(**one.as_json()) for one in page.data], page.next)


@value
class ProblemsView(View):
    """How many there are, and what is wrong with them."""

    count: int
    problems: list[str]


@operation("GET", "/audit-verification", Permission.AUDIT_READ)
def verify_audit(call: Call) -> ProblemsView:
    """Follow the chain of the audit log to its sealed end."""
    return ProblemsView(*call.site.directory.verify_audit())


OPERATIONS: Final = (list_audit, verify_audit)
