"""What owners do about others."""

from __future__ import annotations

import re

import pytest
from starlette.applications import Starlette

from tenantry.control.site import Site
from tenantry.domain.roles import Role
from tests.browser import Browser, add_person, signed_in


def test_an_owner_invites_somebody_by_a_link_that_is_shown_once(app: Starlette, site: Site) -> None:
    site.directory.create_tenant("acme", "Acme", "standard")
    browser = signed_in(app, site)
    browser.get("/people")
    filled = {"name": "Ben", "email": "Ben@Agency.example", "role": "operator", "scope": "some", "tenant": ["acme"]}
    answer = browser.post("/people", filled)
    found = re.search(r"http://127\.0\.0\.1:3001(/welcome\?link=[\w-]+)", answer.text)
    assert found is not None
    assert Browser(app).get(found[1]).status == 200
    (ben,) = [one for one in site.directory.list_people() if one.name == "ben"]
    assert (ben.role, ben.email, ben.tenants, ben.status) == (
        Role.OPERATOR,
        "ben@agency.example",
        frozenset({"acme"}),
        "invited",
    )
    assert "ben" in browser.get("/people").shown
    assert found[1].partition("=")[2] not in browser.get("/people").text


@pytest.mark.parametrize(
    ("filled", "said"),
    [
        ({"name": "ana"}, "somebody with ana already"),
        ({"name": "b c"}, "A name has"),
        ({"email": "nothing"}, "is not an e-mail address"),
        ({"role": "god"}, "Choose a role"),
        ({"role": "owner", "scope": "some", "tenant": ["acme"]}, "An owner is one for all tenants"),
        ({"scope": "some"}, "Name one tenant at least"),
        ({"scope": "some", "tenant": ["nobody"]}, "There is no tenant"),
    ],
)
def test_an_invitation_that_cannot_be_is_refused_in_words_and_keeps_what_was_typed(
    app: Starlette, site: Site, filled: dict[str, object], said: str
) -> None:
    browser = signed_in(app, site)
    browser.get("/people")
    answer = browser.post("/people", {"name": "cleo", "role": "viewer"} | filled)
    assert answer.status == 422
    assert said in answer.shown
    assert len(site.directory.list_people()) == 1


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.BILLING, Role.VIEWER])
def test_whoever_is_no_owner_sees_and_changes_nobody(app: Starlette, site: Site, role: Role) -> None:
    add_person(site)
    browser = signed_in(app, site, add_person(site, "ben", role))
    for path in ("/people", "/people/ana"):
        assert browser.get(path).status == 403
    browser.get("/account")
    for path in ("/people", *(f"/people/ana/{what}" for what in ("link", "change", "disable", "totp-off", "delete"))):
        assert browser.post(path, {"name": "x", "role": "owner"}).status == 403
    assert {one.name: one.role for one in site.directory.list_people()} == {"ana": Role.OWNER, "ben": role}
    assert "/people" not in browser.get("/account").text


def test_a_session_of_somebody_who_is_disabled_ends_at_once(app: Starlette, site: Site) -> None:
    browser = signed_in(app, site)
    ben = signed_in(app, site, add_person(site, "ben", Role.OPERATOR))
    assert ben.get("/account").status == 200
    browser.get("/people/ben")
    assert browser.post("/people/ben/disable").location == "/people/ben"
    assert ben.get("/account").status == 303
    browser.get("/people/ben")
    assert browser.post("/people/ben/enable").status == 303
    assert ben.get("/account").status == 303, "it does not come back"


def test_another_role_ends_the_sessions_with_the_old_one(app: Starlette, site: Site) -> None:
    browser = signed_in(app, site)
    ben = signed_in(app, site, add_person(site, "ben"))
    browser.get("/people/ben")
    answer = browser.post("/people/ben/change", {"role": "viewer", "scope": "all", "email": ""})
    assert "is changed" in browser.follow(answer).shown
    assert ben.get("/people").status == 303
    changed = next(row for row in site.directory.list_audit() if row.action == "person.change")
    assert changed.actor == "web:ana"
    assert changed.origin == "127.0.0.1"


def test_the_last_owner_stays_one(app: Starlette, site: Site) -> None:
    browser = signed_in(app, site)
    site.directory.invite_person("ben", Role.OWNER)  # has not come yet
    browser.get("/people/ana")
    for what in ("disable", "delete", "change"):
        answer = browser.post(f"/people/ana/{what}", {"role": "viewer", "scope": "all"})
        assert answer.status == 422
        assert "Somebody has to be owner" in answer.shown
    assert browser.get("/people").status == 200


def test_a_tenant_that_takes_an_old_name_is_not_seen_by_who_saw_the_old_one(site: Site) -> None:
    site.directory.create_tenant("acme", "Acme", "standard")
    person = add_person(site, "ben", Role.VIEWER, frozenset({"acme"}))
    assert person.tenants == frozenset({"acme"})
    site.directory.remove_tenant("acme", None, "a test")
    site.directory.create_tenant("acme", "Another", "standard")
    found = site.directory.find_person("ben")
    assert found is not None
    assert found.tenants == frozenset()
