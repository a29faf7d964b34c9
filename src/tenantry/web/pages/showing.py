"""What every page of the control room is shown with."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.figures.days import DaySums
from tenantry.control.figures.margin_history import MarginHistory
from tenantry.control.figures.margins import RememberedMargins
from tenantry.control.figures.scope import Scope, scope_of
from tenantry.control.site import Site
from tenantry.domain.roles import Permission, Principal
from tenantry.storage.directory import NotInDirectory
from tenantry.storage.records import TenantRecord
from tenantry.web.pages.marks import MARKS, Clock
from tenantry.web.pages_base.rendering import render
from tenantry.web.routing import SLUG
from tenantry.web.signin.sessions import acting
from tenantry.web.tokens import site_of

# Under which forms that were sent are known for a day, beside the answers of the API; nobody has that name.
_FORM: Final = "form:"
_MARK_CHARS_MAX: Final = 64


class Figures:
    """What pages remember between two requests."""

    def __init__(self, site: Site) -> None:
        self.days = DaySums(site.settings.zone)
        self.margins = RememberedMargins(site, self.days)
        self.history = MarginHistory(site)


def new_mark() -> str:
    """For a form whose answer is shown once, such as a new key."""
    return secrets.token_hex(8)


def first_time(request: Request, mark: str) -> bool:
    """Whether a form was not sent before, to this or another control: a page that is loaded anew does nothing again."""
    return bool(mark) and site_of(request).directory.claim_answer(_FORM, mark[:_MARK_CHARS_MAX], b"")


def figures_of(request: Request) -> Figures:
    return request.app.state.figures


def show(request: Request, principal: Principal, template: str, status: int = 200, **values: Any) -> Response:
    """A page. `may` asks for a permission, for the tenant that the page is about, if any."""
    site = site_of(request)
    slug = request.path_params.get(SLUG)

    def may(name: str, of: str | None = slug) -> bool:
        return principal.may(Permission(name), of)

    clock = Clock(site.settings.zone)
    common: dict[str, Any] = MARKS | {
        "may": may,
        "at": clock.at,
        "ago": clock.ago,
        "hour": clock.hour,
        "zone": site.settings.time_zone,
        "rows_path": rows_path,
    }
    forms = {name: _Fields(values.pop(name, {})) for name in ("problems", "typed")}
    return render(request, f"pages/{template}.html.j2", status, **(common | forms | values))


class _Fields(dict[str, str]):
    """What was typed into a form, or what is wrong with it: "" for a field of which there is nothing."""

    def __missing__(self, name: str) -> str:
        return ""


def rows_path(**wanted: object) -> str:
    """The page of the rows behind a number; `from_` stands for the word that Python keeps for itself."""
    filters = {name.rstrip("_"): str(one) for name, one in wanted.items() if one not in (None, "")}
    return f"/requests?{urlencode(filters)}" if filters else "/requests"


def seen_scope(request: Request, principal: Principal) -> Scope:
    """The tenants that somebody may see."""
    return scope_of(site_of(request), principal.tenants)


def tenant_of(request: Request) -> TenantRecord:
    """The tenant that the path names. Raises: HTTPException 404."""
    try:
        return site_of(request).directory.get_tenant(str(request.path_params[SLUG]))
    except NotInDirectory as error:
        raise HTTPException(404, str(error)) from None


def require_whole_site(principal: Principal) -> None:
    """Raises: HTTPException 403: it is for somebody who is not confined to some tenants."""
    if principal.tenants is not None:
        raise HTTPException(403, f"{principal.name} looks after some tenants, and this is the whole site's")


def audit_read(request: Request, principal: Principal, what: str, slug: str | None, **detail: object) -> None:
    """Reading is told to the audit log, before the page is shown."""
    acting(request, principal).audit(f"read.{what}", slug or "*", {"tenant": slug, **detail})


def query(request: Request, *names: str) -> Mapping[str, str]:
    return {name: request.query_params.get(name, "").replace("\0", "").strip() for name in names}
