"""Every page of the portal. None of them has a permission of the control room: a link is all that leads here."""

from __future__ import annotations

from starlette.routing import Route

from tenantry.web.portal import keys, pages
from tenantry.web.portal.door import HOME, portal_form, portal_page
from tenantry.web.portal.entering import entering_routes
from tenantry.web.portal.showing import brand_route


def portal_routes() -> list[Route]:
    rotation = f"{HOME}/keys/{{key_id}}/rotate"
    return [
        brand_route(),
        *entering_routes(),
        portal_page(HOME, pages.show_home),
        portal_page(f"{HOME}/guide", pages.show_guide),
        portal_page(f"{HOME}/guide.{{form}}", pages.download_guide),
        portal_page(f"{HOME}/papers", pages.show_papers),
        portal_page(f"{HOME}/exports/make", pages.make_export),
        portal_page(f"{HOME}/exports/file/{{name}}", pages.download_export),
        portal_page(f"{HOME}/invoices/{{number:path}}/{{form}}", pages.download_invoice),
        portal_page(rotation, keys.ask_rotate),
        portal_form(rotation, keys.rotate),
    ]
