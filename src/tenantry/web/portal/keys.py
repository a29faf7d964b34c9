"""A client rotates a key of its own, where the agency allows it; the new one is shown once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.client_guide import guide_facts
from tenantry.domain.durations import BadDuration, read_duration
from tenantry.domain.portal import PortalVisit
from tenantry.storage.directory import DirectoryError
from tenantry.storage.records import KeyRecord
from tenantry.web.pages.showing import first_time, new_mark
from tenantry.web.pages.snippets import snippets
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.portal.door import HOME
from tenantry.web.portal.pages import tenant_of_visit
from tenantry.web.portal.showing import acting_for, show
from tenantry.web.tokens import site_of

GRACES: Final = ("24h", "7d", "1h", "0")


def ask_rotate(request: Request, visit: PortalVisit) -> Response:
    return _form(request, visit, _key_of(request, visit), GRACES[0], {})


def rotate(request: Request, visit: PortalVisit) -> Response:
    key, form = _key_of(request, visit), posted(request)
    grace = form.get("grace")
    try:
        stops_at = datetime.now(UTC) + read_duration(grace)
    except (BadDuration, OverflowError):
        return _form(request, visit, key, grace, {"grace": "Choose one of them."})
    if grace not in GRACES:
        return _form(request, visit, key, grace, {"grace": "Choose one of them."})
    if not first_time(request, form.get("once")):
        return see_other(f"{HOME}#keys")
    try:
        new = acting_for(request, visit).rotate_key(key.key_id, stops_at)
    except DirectoryError:
        words = "This key does not work any more, or is being replaced already."
        return _form(request, visit, key, grace, {"form": words})
    facts = guide_facts(site_of(request), visit.slug)
    return show(
        request,
        "key_shown",
        visit=visit,
        here="usage",
        label=key.label or key.key_id,
        key=new.text,
        endpoint=facts.endpoint,
        grace=grace,
        snippets=snippets(facts.endpoint, new.text, facts.model),
    )


def _key_of(request: Request, visit: PortalVisit) -> KeyRecord:
    """A key of its own. Raises: HTTPException: not allowed, or not one."""
    tenant = tenant_of_visit(request, visit)
    if not visit.terms.may_rotate or tenant.status != "active":
        raise HTTPException(403, "keys are changed by your agency: ask there for another one")
    for one in site_of(request).directory.list_keys(tenant.slug):
        if one.key_id == str(request.path_params["key_id"]):
            return one
    raise HTTPException(404, "there is no such key")


def _form(request: Request, visit: PortalVisit, key: KeyRecord, grace: str, problems: Mapping[str, str]) -> Response:
    return show(
        request,
        "key_rotate",
        422 if problems else 200,
        visit=visit,
        here="usage",
        key=key,
        grace=grace,
        graces=GRACES,
        grace_problem=problems.get("grace", ""),
        refused=problems.get("form"),
        once=new_mark(),
    )
