"""One-time links: who follows one, and how often."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import update
from starlette.applications import Starlette

from tenantry.control.site import Site
from tenantry.domain.people import FIRST_LINK_HOURS
from tenantry.domain.roles import Role
from tenantry.storage.columns import now_utc
from tenantry.storage.people_tables import people_links
from tests.browser import Answer, Browser, add_person, signed_in

PASSWORD = "correct horse battery"


def follow(browser: Browser, token: str, name: str = "ana", password: str = PASSWORD, again: str = "") -> Answer:
    filled = {"link": token, "name": name, "password": password, "again": again or password}
    return browser.fill(f"/welcome?link={token}", filled)


def first(site: Site) -> str:
    token = site.directory.issue_first_link()
    assert token is not None
    return token


def test_the_first_link_makes_an_owner_once(app: Starlette, site: Site) -> None:
    token, browser = first(site), Browser(app)
    assert "You become the first owner" in browser.get(f"/welcome?link={token}").shown
    answer = follow(browser, token, "Ana")
    assert (answer.status, answer.location) == (303, "/account")
    person = site.directory.find_person("ana")
    assert person is not None
    assert (person.role, person.tenants, person.status) == (Role.OWNER, None, "active")
    assert browser.follow(answer).status == 200
    assert Browser(app).get(f"/welcome?link={token}").status == 410
    assert follow(Browser(app), token, "mallory").status in (403, 410)
    assert site.directory.issue_first_link() is None
    assert [row.action for row in reversed(site.directory.list_audit()) if row.action.startswith("person")] == [
        "person.link",
        "person.first",
        "person.password",
        "person.sign_in",
    ]
    assert token not in str(site.directory.list_audit())


def test_of_two_who_follow_a_link_at_once_one_is_let_in(app: Starlette, site: Site) -> None:
    token, answers, ready = first(site), list[Answer](), threading.Barrier(2)

    def run(name: str) -> None:
        browser = Browser(app)
        browser.get(f"/welcome?link={token}")
        ready.wait()
        answers.append(browser.post("/welcome", {"link": token, "name": name, "password": PASSWORD, "again": PASSWORD}))

    threads = [threading.Thread(target=run, args=(name,)) for name in ("ana", "ben")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [303, 410]
    assert len(site.directory.list_people()) == 1


def test_another_link_takes_the_place_of_the_first(app: Starlette, site: Site) -> None:
    before, after = first(site), first(site)
    assert Browser(app).get(f"/welcome?link={before}").status == 410
    assert Browser(app).get(f"/welcome?link={after}").status == 200


def test_a_link_ends(app: Starlette, site: Site) -> None:
    token = first(site)
    with site.engine.begin() as connection:
        row = connection.execute(people_links.select()).one()
        assert row.expires_at - row.created_at == timedelta(hours=FIRST_LINK_HOURS)
        assert token.encode() not in row.token_digest
        connection.execute(update(people_links).values(expires_at=now_utc() - timedelta(seconds=1)))
    assert Browser(app).get(f"/welcome?link={token}").status == 410


@pytest.mark.parametrize(
    ("password", "again", "said"),
    [
        ("short", "", "12 characters at least"),
        ("x" * 257, "", "256 characters at most"),
        ("q1w2e3r4t5y6", "", "those that guessers try first"),
        ("PasswordPassword", "", "those that guessers try first"),
        ("aaaaaaaaaaaaab", "", "those that guessers try first"),
        ("abc123abc123abc123", "", "those that guessers try first"),
        ("ana.of.agency", "", "must not be your name"),
        (PASSWORD, "correct horse batter", "are not the same"),
    ],
)
def test_a_password_that_is_refused_leaves_the_link_as_it_was(
    app: Starlette, site: Site, password: str, again: str, said: str
) -> None:
    token = first(site)
    answer = follow(Browser(app), token, "ana.of.agency", password, again)
    assert answer.status == 422
    assert said in answer.shown
    assert f'name="password" value="{password}"' not in answer.text
    assert site.directory.list_people() == []
    assert follow(Browser(app), token).status == 303


def test_a_name_that_cannot_be_is_refused_in_words(app: Starlette, site: Site) -> None:
    token = first(site)
    for name in ("", "a b", "<script>", "a" * 65, "\u202eevil", "-a", "ana\r\nset-cookie: x"):
        answer = follow(Browser(app), token, name)
        assert answer.status == 422
        assert "begins with a letter or number" in answer.shown
        assert "<script>" not in answer.text


def test_an_invitation_lets_somebody_in_with_the_role_that_it_was_made_for(app: Starlette, site: Site) -> None:
    site.directory.create_tenant("acme", "Acme", "standard")
    token = site.directory.invite_person("ben", Role.VIEWER, "ben@agency.example", ["acme"])
    browser = Browser(app)
    assert "Welcome, ben" in browser.get(f"/welcome?link={token}").shown
    assert follow(browser, token, "somebody.else").status == 303
    person = site.directory.find_person("ben")
    assert person is not None
    assert (person.role, person.tenants, person.status) == (Role.VIEWER, frozenset({"acme"}), "active")
    assert site.directory.find_person("somebody.else") is None
    assert browser.get("/people").status == 403


def test_a_reset_ends_every_session_and_does_not_pass_the_second_factor(app: Starlette, site: Site) -> None:
    person = add_person(site)
    site.directory.new_second_factor(person, "A" * 32)
    site.directory.confirm_second_factor(person)
    before = signed_in(app, site, person)
    token = site.directory.issue_reset_link("ana")
    assert before.get("/account").status == 200, "until it is used, all is as it was"
    browser = Browser(app)
    answer = follow(browser, token)
    assert answer.location.startswith("/signin/totp")
    assert before.get("/account").status == 303
    assert browser.get("/account").status == 303


def test_a_link_of_somebody_who_was_disabled_meanwhile_does_nothing(app: Starlette, site: Site) -> None:
    token = site.directory.invite_person("ben", Role.VIEWER)
    site.directory.disable_person("ben")
    assert Browser(app).get(f"/welcome?link={token}").status == 410
