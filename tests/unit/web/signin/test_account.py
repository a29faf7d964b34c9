"""What somebody does about themselves."""

from __future__ import annotations

import re
import time

from starlette.applications import Starlette

from tenantry.control.people import totp
from tenantry.control.site import Site
from tenantry.domain.people import Person
from tests.browser import Browser, add_person, signed_in

PASSWORD, OTHER = "correct horse battery", "staple correct horse"


def test_a_second_factor_is_turned_on_by_a_code_and_off_again(app: Starlette, site: Site) -> None:
    browser, elsewhere = signed_in(app, site), signed_in(app, site)
    browser.get("/account")
    page = browser.follow(browser.post("/account/totp/new"))
    assert "<svg" in page.text
    assert "style=" not in page.text
    found = re.search(r'class="secret">([A-Z2-7 ]+)<', page.text)
    assert found is not None
    secret = found[1].replace(" ", "")
    assert browser.post("/account/totp", {"code": "123"}).status == 422
    answer = browser.post("/account/totp", {"code": totp.code_at(secret, totp.step_at(time.time()))})
    assert answer.text.count("<li><code>") == 10
    person = site.directory.find_person("ana")
    assert person is not None
    assert person.has_second_factor
    assert elsewhere.get("/account").status == 303, "whoever else is signed in shows the code too"
    with site.engine.connect() as connection:
        assert secret not in repr(connection.exec_driver_sql("SELECT * FROM people_totp").all())
    browser.get("/account")
    assert browser.post("/account/totp/off").location == "/account"
    person = site.directory.find_person("ana")
    assert person is not None
    assert not person.has_second_factor
    changes = [row.detail for row in site.directory.list_audit() if row.action == "person.totp"]
    assert len(changes) == 2


def test_a_new_password_ends_every_other_session(app: Starlette, site: Site) -> None:
    person = add_person(site, hashed=app.state.passwords.hash(PASSWORD))
    browser, elsewhere = signed_in(app, site, person), signed_in(app, site, person)
    before = browser.cookies["tenantry"]
    filled = {"current": "wrong", "password": OTHER, "again": OTHER}
    browser.get("/account")
    assert "is another one" in browser.post("/account/password", filled).shown
    answer = browser.post("/account/password", filled | {"current": PASSWORD})
    assert "Your password is changed" in browser.follow(answer).shown
    assert browser.cookies["tenantry"] != before
    assert elsewhere.get("/account").status == 303
    assert Browser(app).fill("/signin", {"name": "ana", "password": PASSWORD}).status == 422
    assert Browser(app).fill("/signin", {"name": "ana", "password": OTHER}).status == 303


def test_somebody_sees_and_ends_their_own_sessions_and_no_others(app: Starlette, site: Site) -> None:
    browser, elsewhere = signed_in(app, site), signed_in(app, site)
    ben = signed_in(app, site, add_person(site, "ben"))
    (foreign,) = site.directory.list_sessions(_person(site, "ben"))
    assert browser.get("/account").text.count('name="session" value="ses_') == 2
    browser.post("/account/sessions", {"session": foreign.session_id})
    assert ben.get("/account").status == 200
    browser.post("/account/sessions", {"session": "others"})
    assert elsewhere.get("/account").status == 303
    assert browser.get("/account").status == 200
    (own,) = site.directory.list_sessions(_person(site, "ana"))
    browser.get("/account")
    browser.post("/account/sessions", {"session": own.session_id})
    assert browser.get("/account").status == 303


def _person(site: Site, name: str) -> Person:
    found = site.directory.find_person(name)
    assert found is not None
    return found
