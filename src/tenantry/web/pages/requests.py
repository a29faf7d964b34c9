"""The explorer of the ledger, one request's story, and the selection as a file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tenantry.control.figures.requests import (
    FIELDS,
    OUTCOMES,
    PROOF_ONLY,
    as_text,
    csv_of,
    find_requests,
    place_of,
    read_asked,
)
from tenantry.control.figures.story import story_of
from tenantry.control.refused_views import whose_words
from tenantry.control.site import Site
from tenantry.domain.proof import is_of_proof
from tenantry.domain.roles import Principal
from tenantry.ledger.explorer import Place
from tenantry.ledger.refused import find_refused
from tenantry.storage.vault import SecretUnreadable
from tenantry.web.pages.showing import audit_read, figures_of, query, seen_scope, show
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.tokens import site_of

PAGE_ROWS: Final = 50
# Longer than any id, ours or an upstream's.
ID_CHARS_MAX: Final = 128
# Two of the largest numbers, concealed, have 107.
_PLACE_CHARS_MAX: Final = 128
_PLACE: Final = "place behind a page of requests"


def list_requests(request: Request, principal: Principal) -> Response:
    site, scope = site_of(request), seen_scope(request, principal)
    wanted_id = query(request, "id")["id"]
    if wanted_id:
        return see_other(f"/requests/{quote(wanted_id[:ID_CHARS_MAX], safe='')}")
    asked = read_asked(query(request, *FIELDS), scope, site.settings.zone)
    audit_read(request, principal, "requests", asked.typed["tenant"] or None)
    now_us = time.time_ns() // 1000
    behind = _place(site, request.query_params.get("behind", ""))
    found = find_requests(site, figures_of(request).days, asked.wanted, behind, now_us, PAGE_ROWS)
    filters = _filters(asked.typed)
    return show(
        request,
        principal,
        "requests",
        typed=asked.typed,
        problems=asked.problems,
        found=found,
        outcomes=OUTCOMES,
        tenants=sorted(scope.tenants),
        filters=filters,
        next_path=_path("/requests", filters, behind=_concealed(site, found.page.next)) if found.page.next else None,
        first_path=_path("/requests", filters) if behind is not None else None,
        csv_path=_path("/requests.csv", filters),
        proof_path=_path("/requests", {**filters, "proof": PROOF_ONLY}),
        is_of_proof=is_of_proof,
        keys={one.key_id: one.label for one in site.directory.list_keys(asked.typed["tenant"])}
        if asked.typed["tenant"] in scope.tenants
        else {},
        is_whole=principal.tenants is None,
    )


def _place(site: Site, told: str) -> Place | None:
    """Where a page goes on; none where it was made up."""
    try:
        return place_of(site.vault.reveal(told[:_PLACE_CHARS_MAX], _PLACE))
    except SecretUnreadable:
        return None


def _concealed(site: Site, place: Place) -> str:
    """A place has the number of a row, which would tell who sees one client alone how many the site has."""
    return site.vault.conceal(as_text(place), _PLACE)


def _filters(typed: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in typed.items() if text}


def _path(path: str, filters: Mapping[str, str], **more: str) -> str:
    told = {**filters, **more}
    return f"{path}?{urlencode(told)}" if told else path


def download_csv(request: Request, principal: Principal) -> Response:
    site, scope = site_of(request), seen_scope(request, principal)
    asked = read_asked(query(request, *FIELDS), scope, site.settings.zone)
    if asked.problems:
        words = "; ".join(f"{name}: {problem}" for name, problem in asked.problems.items())
        raise HTTPException(400, words)
    audit_read(request, principal, "export", asked.typed["tenant"] or None, selection=_filters(asked.typed))
    headers = {"content-disposition": 'attachment; filename="requests.csv"', "x-accel-buffering": "no"}
    return StreamingResponse(csv_of(site, asked.wanted), media_type="text/csv; charset=utf-8", headers=headers)


def show_story(request: Request, principal: Principal) -> Response:
    """Of a request of a tenant that may be seen: what others' requests are, nobody is told, not even that they are."""
    site, scope = site_of(request), seen_scope(request, principal)
    wanted = str(request.path_params["request_id"])
    chapters = [one for one in story_of(site, wanted) if scope.is_whole or one.row["tenant"] in scope.tenants]
    if not chapters:
        return _refused(request, principal, wanted)
    slug = str(chapters[0].row["tenant"])
    audit_read(request, principal, "request", slug if slug in scope.tenants else None, asked=wanted)
    costs = [one.row["cost_nanos"] for one in chapters if one.row["cost_nanos"] is not None]
    return show(
        request,
        principal,
        "story",
        chapters=chapters,
        first=chapters[0].row,
        slug=slug,
        is_there=slug in scope.tenants,
        total_nanos=sum(costs) if costs else None,
        attempts=sum(not one.row["adjusts"] for one in chapters),
        is_whole=scope.is_whole,
    )


def _refused(request: Request, principal: Principal, wanted: str) -> Response:
    """One that has no row because the gateway refused it."""
    site, scope = site_of(request), seen_scope(request, principal)
    found = find_refused(site.engine, wanted)
    if found is None or not scope.sees(found.tenant_id):
        words = "there is no such request in the ledger, nor among the newest that were refused"
        raise HTTPException(404, words)
    slug = scope.slug_of(found.tenant_id)
    audit_read(request, principal, "refusals", slug, asked=wanted)
    labels = {one.key_id: one.label for one in site.directory.list_keys(slug)} if slug is not None else {}
    return show(
        request,
        principal,
        "refused",
        refused=found,
        slug=slug,
        label=labels.get(found.key_id, ""),
        whose=whose_words(found.status),
    )
