"""How the portal and the status page look: the agency's name, logo and colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.control.invoicing import agency_details
from tenantry.control.site import Site
from tenantry.domain.portal import PortalVisit
from tenantry.storage.directory import Directory
from tenantry.web.pages.marks import MARKS, Clock
from tenantry.web.pages_base.rendering import render
from tenantry.web.tokens import address_of, site_of

BRAND_SHEET: Final = "/portal/brand.css"
# Of the sheet: another colour is seen within five minutes.
_SHEET_SECONDS: Final = 300
_NAMELESS: Final = "Claude gateway"


@dataclass(frozen=True, slots=True)
class Brand:
    """`logo`: a data: URL, or None."""

    name: str
    logo: str | None
    contact: str


def brand_of(site: Site) -> Brand:
    """What the settings say, or else the agency's billing details."""
    details = agency_details(site)
    return Brand(site.settings.portal_name or details.name or _NAMELESS, details.logo, site.settings.contact)


def show(
    request: Request, template: str, status: int = 200, *, visit: PortalVisit | None = None, **values: Any
) -> Response:
    """A page of the portal, or one for everybody."""
    site = site_of(request)
    clock, brand = Clock(site.settings.zone), brand_of(site)
    common: dict[str, Any] = MARKS | {
        "at": clock.at,
        "ago": clock.ago,
        "zone": site.settings.time_zone,
        "brand": brand,
        "site_name": brand.name,
        "brand_sheet": BRAND_SHEET,
        "visit": visit,
        "has_status": site.settings.status_page,
    }
    return render(request, f"portal/{template}.html.j2", status, **(common | values))


def acting_for(request: Request, visit: PortalVisit) -> Directory:
    """The directory, on behalf of who came by the link."""
    return site_of(request).directory.acting_as(visit.actor, address_of(request))


def brand_route() -> Route:
    """The colour, as a sheet of its own: the policy of our pages knows no inline style."""

    async def endpoint(request: Request) -> Response:
        body = f":root {{ --tenantry-brand: {site_of(request).settings.portal_colour}; }}\n"
        headers = {"content-type": "text/css; charset=utf-8", "cache-control": f"public, max-age={_SHEET_SECONDS}"}
        return Response(body, headers=headers)

    return Route(BRAND_SHEET, endpoint, methods=("GET",))
