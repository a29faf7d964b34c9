"""The proof of isolation: run, watched, downloaded."""

from __future__ import annotations

from dataclasses import replace

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.isolation.prover import Prover
from tenantry.control.isolation.report import as_html
from tenantry.control.isolation.stage import NOT_COVERED, PROVES
from tenantry.domain.roles import Principal
from tenantry.web.pages.showing import show
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.signin.sessions import acting
from tenantry.web.tokens import site_of


def show_isolation(request: Request, principal: Principal) -> Response:
    return _shown(request, principal, "isolation")


def show_progress(request: Request, principal: Principal) -> Response:
    """The part that changes, for htmx."""
    return _shown(request, principal, "isolation_run")


def _shown(request: Request, principal: Principal, template: str) -> Response:
    run = _prover(request).last()
    earlier = site_of(request).directory.newest_audit(5, action="isolation.verify")
    return show(
        request, principal, template, run=run, proves=list(PROVES.values()), not_covered=NOT_COVERED, earlier=earlier
    )


def start(request: Request, principal: Principal) -> Response:
    site = replace(site_of(request), directory=acting(request, principal))
    is_begun = _prover(request).start(site, principal.name, is_quick=posted(request).get("how") == "quick")
    return see_other("/isolation", None if is_begun else "A proof runs already.")


def download_report(request: Request, _principal: Principal) -> Response:
    run = _prover(request).last()
    if run is None or run.report is None:
        raise HTTPException(404, "there is no report: run the proof first")
    headers = {
        "content-type": "text/html; charset=utf-8",
        "content-disposition": f'attachment; filename="isolation-{run.report.run}.html"',
    }
    return Response(as_html(run.report), headers=headers)


def _prover(request: Request) -> Prover:
    return request.app.state.prover
