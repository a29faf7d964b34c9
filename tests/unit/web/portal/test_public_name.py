"""Under the name that the internet reaches there is the portal and the status page alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from tenantry.control.site import Site
from tenantry.settings import SettingsError, load_settings
from tenantry.sign_in_settings import read_networks
from tenantry.web.app import control_app
from tenantry.web.hosts import is_public
from tests.browser import Browser
from tests.unit.web.portal.conftest import link_for

PUBLIC = "portal.agency.example"


@pytest.fixture
def public(site: Site) -> Starlette:
    made = replace(site.settings, portal_url=f"https://{PUBLIC}", status_page=True)
    return control_app(replace(site, settings=made))


def test_the_public_name_answers_what_is_public_and_nothing_else(public: Starlette, site: Site) -> None:
    outside = Browser(public, scheme="https", host=PUBLIC)
    assert outside.get(link_for(site)).status == 303
    assert outside.get("/portal").status == 200
    assert outside.get("/status").status == 200
    for one in public.routes:
        assert isinstance(one, Route)
        path = one.path.partition("{")[0]
        if not is_public(path):
            for name in (PUBLIC, PUBLIC.upper(), f"{PUBLIC}:443", f"{PUBLIC}."):
                assert Browser(public, scheme="https", host=name).get(path).status == 404, path
    assert Browser(public).get("/signin").status == 200, "the control room is where it was"


def test_a_path_that_only_looks_public_is_not(public: Starlette) -> None:
    outside = Browser(public, scheme="https", host=PUBLIC)
    for path in ("/portal/../signin", "/portal/%2e%2e/signin", "//signin", "/statusx", "/portalx", "/static/../signin"):
        assert outside.get(path).status in (401, 404), path


@pytest.mark.parametrize("said", ["control.agency.example", "localhost"])
def test_what_a_client_says_of_the_name_through_a_proxy_does_not_open_the_rest(site: Site, said: str) -> None:
    """nginx passes on whatever `X-Forwarded-Host` a client sends, unless it is told to replace it."""
    urls = {"portal_url": f"https://{PUBLIC}", "control_url": "https://control.agency.example"}
    made = replace(site.settings, **urls, control_tls_proxy=read_networks("127.0.0.1"))
    app = control_app(replace(site, settings=made))
    told = {"x_forwarded_proto": "https", "x_forwarded_host": said}
    for path in ("/signin", "/healthz", "/tls/ask", "/api/v1/tenants"):
        assert Browser(app, host=PUBLIC).get(path, **told).status == 404, path
    assert Browser(app, host="127.0.0.1:3001").get("/signin", **told).status == 200, "a proxy that names itself"


@pytest.mark.parametrize("colour", ["#ffff00", "#fff", "red", "#1d4ed8;}", "url(x)", "#12345g"])
def test_a_colour_that_cannot_be_read_on_is_refused(colour: str) -> None:
    with pytest.raises(SettingsError, match="portal_colour"):
        load_settings(None, {"TENANTRY_PORTAL_COLOUR": colour})


def test_a_portal_without_tls_is_refused() -> None:
    with pytest.raises(SettingsError, match="portal_url: http://portal"):
        load_settings(None, {"TENANTRY_PORTAL_URL": "http://portal.agency.example"})
