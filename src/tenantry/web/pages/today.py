"""The first page: money, health, and who needs attention."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.figures.today import TENANTS_SHOWN, today_figures
from tenantry.domain.roles import Permission, Principal
from tenantry.web.pages.showing import figures_of, seen_scope, show
from tenantry.web.tokens import site_of


def show_today(request: Request, principal: Principal) -> Response:
    return _shown(request, principal, "today")


def show_figures(request: Request, principal: Principal) -> Response:
    """The part of the page that changes, for htmx."""
    return _shown(request, principal, "today_figures")


def _shown(request: Request, principal: Principal, template: str) -> Response:
    site, scope = site_of(request), seen_scope(request, principal)
    with_site = principal.may(Permission.SITE_READ)
    figures = today_figures(site, figures_of(request).days, scope, with_site=with_site)
    margins = figures_of(request).margins.find() if principal.may(Permission.MARGIN_READ) else None
    return show(
        request,
        principal,
        template,
        today=figures,
        scope=scope,
        margins=margins,
        sees_margins=principal.may(Permission.MARGIN_READ),
        tenants_shown=TENANTS_SHOWN,
        with_site=with_site,
        is_whole=principal.tenants is None,
    )
