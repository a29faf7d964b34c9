"""Signing in through a real OpenID provider, a process of its own on loopback (oidc-provider-mock, on Authlib)."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from starlette.applications import Starlette

from tenantry.control.people.passwords import Passwords
from tenantry.control.site import Site, open_site
from tenantry.domain.roles import Role
from tenantry.settings import load_settings
from tenantry.web.app import control_app
from tenantry.web.token_guesses import ADDRESS_GUESSES
from tests.browser import Answer, Browser, add_person
from tests.stack import free_ports, listens, wait_for
from tests.template import init_from_template

SECRET = "a client's secret, 100%"
USERS = [
    {"sub": "ana-1", "email": "Ana@agency.example", "email_verified": True},
    {"sub": "ana-2", "email": "ana@agency.example", "email_verified": True},
    {"sub": "ben-1", "email": "ben@agency.example", "email_verified": False},
    {"sub": "cleo-1", "email": "cleo@agency.example", "email_verified": True, "groups": ["staff", "agency-admins"]},
    {"sub": "dora-1", "preferred_username": "dora", "groups": ["staff"]},
]


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    (port,) = free_ports(1)
    users = [word for user in USERS for word in ("--user-claims", json.dumps(user))]
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "-H", "127.0.0.1", "-p", str(port), *users]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: listens(port), 60, "the provider")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture
def site(tmp_path: Path, issuer: str) -> Iterator[Site]:
    file = tmp_path / "client.secret"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    settings = load_settings(
        None,
        {
            "TENANTRY_DATA_DIR": str(tmp_path / "data"),
            "TENANTRY_OIDC_ISSUER": issuer,
            "TENANTRY_OIDC_CLIENT_ID": "tenantry",
            "TENANTRY_OIDC_CLIENT_SECRET_FILE": str(file),
            "TENANTRY_OIDC_ROLES": "groups:agency-admins=operator",
        },
    )
    init_from_template(settings)
    made = open_site(settings)
    yield made
    made.engine.dispose()


@pytest.fixture
def app(site: Site) -> Starlette:
    made = control_app(site)
    made.state.passwords = Passwords(memory_kib=64, passes=1)
    return made


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def at_provider(place: str, sub: str) -> str:
    """Signs in at the provider; where it sends the browser back to, as a path of ours."""
    opener, form = urllib.request.build_opener(_Stay), urllib.parse.urlencode({"sub": sub}).encode()
    with pytest.raises(HTTPError) as caught:
        opener.open(place, form, timeout=30)
    caught.value.close()
    assert caught.value.code == 302
    parts = urllib.parse.urlsplit(caught.value.headers["location"])
    assert (parts.scheme, parts.netloc) == ("http", "127.0.0.1:3001")
    return f"{parts.path}?{parts.query}"


def through(browser: Browser, sub: str, path: str = "/signin/oidc?next=/account") -> Answer:
    return browser.get(at_provider(browser.get(path).location, sub))


def test_whoever_was_invited_by_a_verified_address_comes_in(app: Starlette, site: Site) -> None:
    site.directory.invite_person("ana", Role.OWNER, "ana@agency.example")
    browser = Browser(app)
    assert "Sign in through 127.0.0.1" in browser.get("/signin").shown
    answer = through(browser, "ana-1")
    assert (answer.status, answer.location) == (303, "/account")
    assert browser.follow(answer).status == 200
    person = site.directory.find_person("ana")
    assert person is not None
    assert (person.status, person.has_oidc, person.has_password) == ("active", True, False)
    assert site.directory.has_owner()
    assert [row.action for row in site.directory.list_audit() if row.action == "person.oidc"] == ["person.oidc"]
    answer = through(Browser(app), "ana-2")
    assert answer.status == 422, "another with the same address is somebody else, once she has come"
    assert "nobody here has invited you" in answer.shown


@pytest.mark.parametrize("sub", ["ben-1", "dora-1", "somebody@else.example"])
def test_whoever_was_not_invited_stays_out(app: Starlette, site: Site, sub: str) -> None:
    site.directory.invite_person("ben", Role.OWNER, "ben@agency.example")
    browser = Browser(app)
    answer = through(browser, sub)
    assert answer.status == 422
    assert "nobody here has invited you" in answer.shown
    assert "tenantry" not in browser.cookies
    assert [one.name for one in site.directory.list_people()] == ["ben"]


def test_a_claim_gives_a_role_where_the_settings_say_so(app: Starlette, site: Site) -> None:
    for _ in range(2):
        assert through(Browser(app), "cleo-1").location == "/account"
    (cleo,) = site.directory.list_people()
    assert (cleo.name, cleo.role) == ("cleo@agency.example", Role.OPERATOR)
    site.directory.disable_person(cleo.name)
    assert through(Browser(app), "cleo-1").status == 422


def test_an_answer_is_taken_once_and_from_the_browser_that_asked(app: Starlette, site: Site) -> None:
    site.directory.invite_person("ana", Role.VIEWER, "ana@agency.example")
    browser, other = Browser(app), Browser(app)
    back = at_provider(browser.get("/signin/oidc").location, "ana-1")
    other.get("/signin/oidc")
    for sender in (other, Browser(app)):
        answer = sender.get(back)
        assert answer.status == 422
        assert "belongs to no sign-in of this browser" in answer.shown
    kept = dict(browser.cookies)
    assert browser.get(back).status == 303
    assert "tenantry-oidc" not in browser.cookies
    assert browser.get(back).status == 422
    replayed = Browser(app, cookies={"tenantry-oidc": kept["tenantry-oidc"]}).get(back)
    assert replayed.status == 422, "the provider takes a code once"


def test_what_the_provider_refuses_is_told(app: Starlette) -> None:
    browser = Browser(app)
    asked = urllib.parse.parse_qs(urllib.parse.urlsplit(browser.get("/signin/oidc").location).query)
    answer = browser.get(f"/signin/oidc/done?error=access_denied&state={asked['state'][0]}")
    assert answer.status == 422
    assert "did not let you in (access_denied)" in answer.shown
    assert "tenantry" not in browser.cookies


def test_an_answer_of_another_provider_is_refused(app: Starlette) -> None:
    """RFC 9207: which provider answers."""
    browser = Browser(app)
    asked = urllib.parse.parse_qs(urllib.parse.urlsplit(browser.get("/signin/oidc").location).query)
    answer = browser.get(f"/signin/oidc/done?code=x&state={asked['state'][0]}&iss=https://evil.example")
    assert "comes from another provider" in answer.shown


def test_a_code_of_another_sign_in_is_refused(app: Starlette, site: Site) -> None:
    """Code injection: PKCE and the nonce bind a code to the browser that asked for it."""
    site.directory.invite_person("ana", Role.VIEWER, "ana@agency.example")
    stolen = urllib.parse.parse_qs(at_provider(Browser(app).get("/signin/oidc").location, "ana-1"))
    code = next(value[0] for name, value in stolen.items() if name.endswith("code"))
    mallory = Browser(app)
    own = urllib.parse.parse_qs(urllib.parse.urlsplit(mallory.get("/signin/oidc").location).query)
    answer = mallory.get(f"/signin/oidc/done?{urllib.parse.urlencode({'code': code, 'state': own['state'][0]})}")
    assert answer.status == 422
    assert "tenantry" not in mallory.cookies


def test_who_has_no_password_shows_the_provider_again_that_it_is_them(app: Starlette, site: Site) -> None:
    site.directory.invite_person("ana", Role.OWNER, "ana@agency.example")
    add_person(site, "cleo")
    browser = Browser(app)
    through(browser, "ana-1")
    page = browser.get("/signin/again?next=/people")
    assert 'type="password"' not in page.text
    assert "/signin/oidc/again?next=/people" in page.text
    place = browser.get("/signin/oidc/again?next=/people").location
    asked = urllib.parse.parse_qs(urllib.parse.urlsplit(place).query)
    assert (asked["prompt"], asked["max_age"]) == (["login"], ["0"])
    answer = browser.get(at_provider(place, "ana-1"))
    assert (answer.status, answer.location) == (303, "/people")
    answer = browser.get(at_provider(browser.get("/signin/oidc/again").location, "cleo-1"))
    assert answer.status == 422
    assert "somebody else" in answer.shown


def test_a_page_of_another_site_uses_up_nobodys_guesses_and_ends_no_sign_in(app: Starlette, site: Site) -> None:
    """Pictures in it may have the address that the provider sends people back to."""
    site.directory.invite_person("ana", Role.OWNER, "ana@agency.example")
    browser = Browser(app)
    back = at_provider(browser.get("/signin/oidc").location, "ana-1")
    for number in range(2 * ADDRESS_GUESSES):
        answer = browser.get(f"/signin/oidc/done?code=x&state={number}")
        assert "belongs to no sign-in of this browser" in answer.shown
    assert browser.get(back).status == 303


@pytest.mark.parametrize("is_fresh", [True, False])
def test_a_session_at_the_provider_alone_opens_nothing_dangerous(app: Starlette, site: Site, is_fresh: bool) -> None:
    """Whoever finds an open browser comes in once more by two clicks, and has shown nothing."""
    site.directory.invite_person("ana", Role.OWNER, "ana@agency.example")
    provider, browser = app.state.provider, Browser(app)
    redeem = provider.redeem

    def told_so(*given: Any, **more: Any) -> Any:
        return replace(redeem(*given, **more), is_fresh=is_fresh)

    provider.redeem = told_so
    browser.follow(through(browser, "ana-1"))
    told = browser.post("/account/totp/new").location
    assert told == ("/account/totp" if is_fresh else "/signin/again?next=/account/totp/new")


def test_a_provider_that_is_not_there_keeps_nobody_with_a_password_out(site: Site, app: Starlette) -> None:
    add_person(site, hashed=app.state.passwords.hash("correct horse battery"))
    (free,) = free_ports(1)
    app.state.provider.issuer = f"http://127.0.0.1:{free}"
    browser = Browser(app)
    answer = browser.get("/signin/oidc")
    assert answer.status == 422
    assert "does not work: the provider cannot be asked" in answer.shown
    assert browser.post("/signin", {"name": "ana", "password": "correct horse battery"}).status == 303
