"""The audit log: who changed or read what, from where."""

from __future__ import annotations

import json
from typing import Any, Final, cast

from starlette.requests import Request
from starlette.responses import Response

from tenantry.domain.roles import Principal
from tenantry.storage.audit import AuditEntry
from tenantry.web.pages.showing import query, rows_path, seen_scope, show
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.tokens import site_of

PAGE_ROWS: Final = 100


def list_audit(request: Request, principal: Principal) -> Response:
    directory, typed = site_of(request).directory, query(request, "tenant", "actor", "action", "before")
    before = int(typed["before"]) if typed["before"].isascii() and typed["before"].isdigit() else None
    if before is not None and len(typed["before"]) > 18:
        before = None
    found = directory.newest_audit(
        PAGE_ROWS + 1, typed["tenant"] or None, typed["actor"] or None, typed["action"] or None, before
    )
    more = found[PAGE_ROWS - 1].audit_id if len(found) > PAGE_ROWS else None
    filters = {name: typed[name] for name in ("tenant", "actor", "action") if typed[name]}
    return show(
        request,
        principal,
        "audit",
        entries=[(one, what_of(one)) for one in found[:PAGE_ROWS]],
        typed=typed,
        older=rows_path(**filters, before=more).replace("/requests", "/audit") if more is not None else None,
        filters=filters,
        tenants=sorted(seen_scope(request, principal).tenants),
    )


def verify(request: Request, _principal: Principal) -> Response:
    count, problems = site_of(request).directory.verify_audit()
    if problems:
        return see_other("/audit", f"The chain is broken: {'; '.join(problems[:3])}")
    return see_other("/audit", f"{count:,} entries, each follows the one before; the newest is sealed.")


def what_of(entry: AuditEntry) -> list[str]:
    """What changed, a line each."""
    told = entry.as_json()
    before, after = told["before"], told["after"]
    if isinstance(before, dict) and isinstance(after, dict):
        was, now = cast("dict[str, Any]", before), cast("dict[str, Any]", after)
        names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
        return [f"{name}: {_short(was.get(name))} → {_short(now.get(name))}" for name in names]
    if isinstance(after, dict):
        return [f"{name}: {_short(one)}" for name, one in cast("dict[str, Any]", after).items()]
    if before is not None or after is not None:
        return [f"{_short(before)} → {_short(after)}"]
    return [f"{name}: {_short(one)}" for name, one in cast("dict[str, Any]", told["detail"]).items() if one is not None]


def _short(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:119] + "…"
