"""Pages from templates. Whatever a template shows is escaped: names come from clients and upstreams."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from tenantry.domain.people import Session
from tenantry.domain.printable import stamp
from tenantry.web.pages_base.forms import CSRF_FIELD, csrf_of
from tenantry.web.pages_base.navigation import seen_by
from tenantry.web.pages_base.static import static_url
from tenantry.web.pages_base.words import browser_name, when
from tenantry.web.tokens import site_of

SITE_NAME: Final = "Tenantry"
# Their errors lead nobody to the control room.
_OF_CLIENTS: Final = ("/portal", "/status")
# What browsers answer to the redirect of a form with: a GET (RFC 9110 15.4.4).
SEE_OTHER: Final = 303


class SeeOther(Response):
    """Goes on at a path of ours, where `notice` is shown once."""

    def __init__(self, path: str, notice: str | None = None) -> None:
        super().__init__(status_code=SEE_OTHER, headers={"location": path})
        self.notice = notice


def see_other(path: str, notice: str | None = None) -> SeeOther:
    """The answer to a form that did something."""
    return SeeOther(path, notice)


@cache
def environment() -> Environment:
    made = Environment(
        loader=PackageLoader("tenantry.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(stamp=stamp, when=when, browser=browser_name)
    return made


def render(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page, or a part of one that htmx asked for. In a thread: what the page is to say once comes from the store."""
    session: Session | None = getattr(request.state, "session", None)
    notice = site_of(request).directory.take_notice(session.session_id) if session is not None else None
    return _page(request, template, status, {"notice": notice} | values)


def render_error(request: Request, status: int, title: str, detail: str) -> Response:
    """A page about what went wrong, which asks the store for nothing."""
    template = "portal/error.html.j2" if request.url.path.startswith(_OF_CLIENTS) else "error.html.j2"
    return _page(request, template, status, {"notice": None, "status": status, "title": title, "detail": detail})


def _page(request: Request, template: str, status: int, values: dict[str, Any]) -> Response:
    session: Session | None = getattr(request.state, "session", None)
    secret: str | None = getattr(request.state, "secret", None)
    principal = session.person.principal if session is not None else None
    csrf = csrf_of(secret) if secret is not None else ""
    common: dict[str, Any] = {
        "me": principal,
        "csrf": csrf,
        "csrf_field": lambda: Markup('<input type="hidden" name="{}" value="{}">').format(CSRF_FIELD, csrf),
        "navigation": seen_by(principal) if principal is not None else [],
        "path": request.url.path,
        "site_name": SITE_NAME,
        "static": static_url,
    }
    text = environment().get_template(template).render(common | values)
    return HTMLResponse(text, status, {"cache-control": "no-store"})
