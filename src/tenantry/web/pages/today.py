"""The first page: money, health, and who needs attention."""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.figures.today import TENANTS_SHOWN, Today, today_figures
from tenantry.control.pricing import price_table
from tenantry.control.site import Site
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
        cures=_cures(site, figures) if principal.may(Permission.PRICES_CHANGE) else {},
    )


def _cures(site: Site, figures: Today) -> dict[str, tuple[str, str]]:
    """What is done about a model without a price, by the words of the concern: a label and a path."""
    found: dict[str, tuple[str, str]] = {}
    for one in figures.concerns:
        if not one.models:
            continue
        table = price_table(site)
        lacking = [model for model in one.models if table.of(model) is None]
        if lacking:
            found[one.words] = ("Set its price", f"/prices/new?model={quote(lacking[0], safe='')}")
        else:
            found[one.words] = ("It has a price: book it", "/recompute")
    return found
