"""Every client's invoice of a month as a task: begun on a page, looked at until it has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenantry.billing.months import Month
from tenantry.control.invoice_views import amount_of
from tenantry.control.invoicing import Passed, issue_all, list_clients
from tenantry.control.site import Site
from tenantry.control.tasks import PROGRESS_LINES_MAX, TaskView, Work

ISSUING: Final = "issue of invoices"


@dataclass(frozen=True, slots=True)
class Came:
    """How far a task has come."""

    done: int
    of: int


def issuing_work(site: Site, month: Month) -> Work:
    """What the task does: who has an invoice is passed by, so that it can be begun again after anything."""

    def work(tell: Callable[[str], None]) -> dict[str, Any]:
        clients = list_clients(site)
        each = len(clients) // PROGRESS_LINES_MAX + 1
        passed: list[dict[str, Any]] = []
        for done, one in enumerate(issue_all(site, month, clients), 1):
            passed.append(told(one, one.issued.document if one.issued is not None else None))
            if done % each == 0 or done == len(clients):
                tell(f"{done} of {len(clients)}")
        return {"month": str(month), "clients": passed}

    return work


def came(task: TaskView) -> Came | None:
    """None: it has said nothing yet."""
    if not task.progress:
        return None
    done, _, of = task.progress[-1].partition(" of ")
    return Came(int(done), int(of))


def told(passed: Passed, document: Mapping[str, Any] | None) -> dict[str, Any]:
    """What became of a client, or would."""
    return {
        "tenant": passed.slug,
        "number": document.get("number") if document else passed.standing,
        "is_new": document is not None,
        "total": amount_of(document, document["total_minor"]) if document else None,
        "why_not": passed.why,
        "failed": passed.failed,
    }
