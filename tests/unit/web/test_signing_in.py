"""In and out: passwords, sessions, one-time links, as a browser sees them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette

from tenantry.control.people.passwords import Passwords
from tenantry.control.site import Site, open_site
from tenantry.domain.roles import Role
from tenantry.settings import load_settings
from tenantry.web.app import control_app
from tests.browser import Browser, add_person, signed_in
from tests.template import init_from_template

PASSWORD = "correct horse battery"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    settings = load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path / "data")})
    init_from_template(settings)
    made = open_site(settings)
    yield made
    made.engine.dispose()


@pytest.fixture
def app(site: Site) -> Starlette:
    made = control_app(site)
    made.state.passwords = Passwords(memory_kib=64, passes=1)
    return made


def owner(app: Starlette, site: Site) -> Browser:
    """The first owner, who has just come through the one-time link."""
    token = site.directory.issue_first_link()
    browser = Browser(app)
    answer = browser.fill(
        f"/welcome?link={token}", {"link": token, "name": "Ana", "password": PASSWORD, "again": PASSWORD}
    )
    assert (answer.status, answer.location) == (303, "/account")
    return browser


def test_the_first_link_makes_an_owner_who_signs_in_again_by_password(app: Starlette, site: Site) -> None:
    browser = owner(app, site)
    person = site.directory.find_person("ana")
    assert person is not None
    assert (person.role, person.status) == (Role.OWNER, "active")
    assert site.directory.issue_first_link() is None
    browser.get("/signin/again")
    assert browser.post("/signout").location == "/signin"
    assert browser.cookies.keys() == {"tenantry-visit"}
    answer = browser.fill("/signin?next=/people", {"name": "ANA ", "password": PASSWORD, "next": "/people"})
    assert (answer.status, answer.location) == (303, "/people")


def test_a_session_opens_a_page_and_no_session_leads_to_where_one_signs_in(app: Starlette, site: Site) -> None:
    assert signed_in(app, site).get("/signin/again").status == 200
    answer = Browser(app).get("/signin/again?next=/x")
    assert (answer.status, answer.location) == (303, "/signin")
    answer = Browser(app).ask("GET", "/signin/again", {"hx-request": "true"})
    assert (answer.status, answer.header("hx-redirect")) == (401, "/signin")


def test_a_form_without_the_token_of_its_session_does_nothing(app: Starlette, site: Site) -> None:
    browser = signed_in(app, site)
    other = signed_in(app, site, add_person(site, "ben"))
    for token in ("", "0" * 64, other.token):
        answer = browser.post("/signout", {"csrf": token})
        assert answer.status == 403
    assert browser.get("/signin/again").status == 200
    assert browser.post("/signout").status == 303
    assert browser.get("/signin/again").status == 303
