"""Who gets into a portal: by a link that works, into the one that it is of, and nowhere else."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from starlette.applications import Starlette
from starlette.routing import Route

from tenantry.control.offboarding import delete_tenant
from tenantry.control.portal_links import portal_password_hash
from tenantry.control.site import Site
from tenantry.domain.directory import TenantStatus
from tenantry.domain.portal import LINK_DAYS, SESSION_HOURS
from tenantry.storage.columns import now_utc
from tenantry.storage.directory import DirectoryError
from tenantry.storage.portal_tables import portal_links, portal_sessions
from tests.browser import Browser, signed_in
from tests.unit.web.portal.conftest import come_by, link_for

OPEN = {"/portal/open", "/portal/brand.css"}
WORDS = "a few good words"


def portal_paths(app: Starlette, site: Site, method: str) -> list[str]:
    """Each of the portal's routes, about what acme has."""
    key_id = site.directory.list_keys("acme")[0].key_id
    found = [one for one in app.routes if isinstance(one, Route) and method in (one.methods or ())]
    paths = [one.path for one in found if one.path.startswith("/portal") and one.path not in OPEN]
    filled = {"{key_id}": key_id, "{form}": "html", "{name}": "x.csv", "{number:path}": "INV-1"}
    for name, value in filled.items():
        paths = [one.replace(name, value) for one in paths]
    return paths


def test_a_link_opens_the_portal_and_is_gone_from_the_address(app: Starlette, site: Site) -> None:
    browser, link = Browser(app), link_for(site)
    answer = browser.get(link)
    assert (answer.status, answer.location) == (303, "/portal")
    assert answer.header("referrer-policy") == "no-referrer"
    (cookie,) = answer.cookies_set
    assert "HttpOnly" in cookie
    assert "Path=/portal" in cookie
    page = browser.get("/portal")
    assert page.status == 200
    token = link.partition("=")[2]
    assert token not in page.text + cookie
    assert [one.action for one in site.directory.list_audit(2)] == ["portal.open", "portal.link"]
    with site.engine.connect() as connection:
        kept = connection.execute(portal_links.select()).one()
    assert token.encode() not in kept.token_digest


def test_over_tls_the_cookie_is_only_sent_over_tls(app: Starlette, site: Site) -> None:
    answer = Browser(app, scheme="https").get(link_for(site))
    (cookie,) = answer.cookies_set
    assert cookie.startswith("__Secure-tenantry-portal=")
    assert "Secure" in cookie


def test_without_a_visit_each_page_and_form_is_refused(app: Starlette, site: Site) -> None:
    for browser in (Browser(app), signed_in(app, site), Browser(app, cookies={"tenantry-portal": "x" * 43})):
        for path in portal_paths(app, site, "GET"):
            answer = browser.get(path)
            assert answer.status == 401, path
            assert "Open your link" in answer.shown
            assert "/signin" not in answer.text
        for path in portal_paths(app, site, "POST"):
            assert browser.post(path).status in (401, 403), path


def test_a_session_of_the_one_place_is_none_of_the_other(app: Starlette, site: Site) -> None:
    portal, room = come_by(app, link_for(site)), signed_in(app, site)
    secret = portal.cookies["tenantry-portal"]
    assert Browser(app, cookies={"tenantry": secret}).get("/tenants").status == 303
    assert portal.get("/tenants/acme").status == 303
    assert portal.get("/api/v1/tenants").status == 401
    assert Browser(app, cookies={"tenantry-portal": room.cookies["tenantry"]}).get("/portal").status == 401
    bearer = {"authorization": f"Bearer {secret}"}
    assert portal.ask("GET", "/api/v1/tenants", bearer).status == 401


def test_a_form_wants_the_token_of_its_own_visit(app: Starlette, site: Site) -> None:
    site.directory.set_portal("acme", may_rotate=True)
    browser, other = come_by(app, link_for(site)), come_by(app, link_for(site))
    browser.get("/portal")
    stale = browser.token
    other.get("/portal")
    before = len(site.directory.list_audit())
    for path in portal_paths(app, site, "POST"):
        for token in ("", "0" * 64, other.token):
            assert browser.post(path, {"csrf": token}).status == 403, path
        assert browser.post(path, {"csrf": stale}, **{"sec-fetch-site": "cross-site"}).status == 403, path
    assert len(site.directory.list_audit()) == before


def test_a_link_that_was_revoked_lets_out_who_came_by_it(app: Starlette, site: Site) -> None:
    link, other = link_for(site), link_for(site)
    browser, stays = come_by(app, link), come_by(app, other)
    made = site.directory.list_portal_links("acme")
    by_token = next(one for one in made if one.opened_at == min(two.opened_at for two in made if two.opened_at))
    site.directory.revoke_portal_link("acme", by_token.link_id)
    assert browser.get("/portal").status == 401
    assert Browser(app).get(link).status == 410
    assert stays.get("/portal").status == 200
    with pytest.raises(DirectoryError):
        site.directory.revoke_portal_link("globex", made[0].link_id)
    assert [one.state for one in site.directory.list_portal_links("acme")].count("active") == 1


def test_a_link_and_a_visit_end_by_themselves(app: Starlette, site: Site) -> None:
    link = link_for(site)
    browser = come_by(app, link)
    with site.engine.begin() as connection:
        old = now_utc() - timedelta(hours=SESSION_HOURS)
        connection.execute(update(portal_sessions).values(created_at=old))
    assert browser.get("/portal").status == 401
    again = come_by(app, link)
    assert again.get("/portal").status == 200
    with site.engine.begin() as connection:
        connection.execute(update(portal_links).values(expires_at=now_utc()))
    assert again.get("/portal").status == 401
    assert Browser(app).get(link).status == 410
    assert [one.state for one in site.directory.list_portal_links("acme")] == ["expired"]


def test_who_leaves_is_out_though_the_cookie_is_played_again(app: Starlette, site: Site) -> None:
    browser = come_by(app, link_for(site))
    browser.get("/portal")
    kept = dict(browser.cookies)
    assert "You have left" in browser.post("/portal/leave").shown
    assert "tenantry-portal" not in browser.cookies
    assert Browser(app, cookies=kept).get("/portal").status == 401


def test_each_opening_is_a_session_of_its_own(app: Starlette, site: Site) -> None:
    link = link_for(site)
    browser = Browser(app, cookies={"tenantry-portal": "fixed-by-somebody"})
    browser.get(link)
    first = browser.cookies["tenantry-portal"]
    assert first != "fixed-by-somebody"
    browser.get(link)
    assert browser.cookies["tenantry-portal"] != first
    assert Browser(app, cookies={"tenantry-portal": first}).get("/portal").status == 401


def test_what_is_no_link_opens_nothing(app: Starlette) -> None:
    for token in ("", "x", "x" * 4000, "%00", "../../x", "%f0%9f%92%a9"):
        answer = Browser(app).get(f"/portal/open?link={token}")
        assert answer.status == 410
        assert answer.cookies_set == []


def test_a_password_is_asked_for_and_guesses_are_slowed_down(app: Starlette, site: Site) -> None:
    early = come_by(app, link_for(site))
    site.directory.set_portal("acme", password_hash=portal_password_hash(app.state.passwords, WORDS, "acme"))
    assert early.get("/portal").location == "/portal/password", "a visit from before the password"
    browser = come_by(app, link_for(site))
    for path in portal_paths(app, site, "GET"):
        if path != "/portal/password":
            assert browser.get(path).location == "/portal/password", path
    assert browser.post("/portal/exports/make").status in (303, 405)
    before = browser.cookies["tenantry-portal"]
    assert browser.fill("/portal/password", {"password": "wrong words here"}).status == 422
    assert browser.get("/portal").status == 303
    assert browser.fill("/portal/password", {"password": WORDS}).location == "/portal"
    assert browser.cookies["tenantry-portal"] != before
    assert browser.get("/portal").status == 200
    assert Browser(app, cookies={"tenantry-portal": before}).get("/portal").status == 401
    site.directory.set_portal("acme", password_hash=portal_password_hash(app.state.passwords, WORDS + "!", "acme"))
    assert browser.get("/portal").location == "/portal/password", "another password asks again"
    statuses = [early.fill("/portal/password", {"password": "guess"}).status for _ in range(30)]
    assert statuses[0] == 422
    assert statuses[-1] == 429
    site.directory.set_portal("acme", password_hash="")
    assert browser.get("/portal").status == 200


def test_a_disabled_client_still_sees_what_it_used_and_changes_nothing(app: Starlette, site: Site) -> None:
    site.directory.set_portal("acme", may_rotate=True)
    browser = come_by(app, link_for(site))
    site.directory.set_tenant_status("acme", TenantStatus.DISABLED)
    page = browser.get("/portal")
    assert "paused" in page.shown
    assert "/rotate" not in page.text
    key_id = site.directory.list_keys("acme")[0].key_id
    assert browser.post(f"/portal/keys/{key_id}/rotate", {"grace": "24h", "once": "1"}).status == 403
    assert len(site.directory.list_keys("acme")) == 1


def test_a_deleted_client_has_no_portal_nor_has_who_gets_its_name(app: Starlette, site: Site, tmp_path: Path) -> None:
    link = link_for(site)
    browser = come_by(app, link)
    delete_tenant(site, "acme", tmp_path / "statements")
    site.directory.create_tenant("acme", "Another", "standard")
    assert browser.get("/portal").status == 401
    assert Browser(app).get(link).status == 410
    assert site.directory.list_portal_links("acme") == []


def test_days_that_cannot_be_are_refused(site: Site) -> None:
    for days in (0, -1, 367):
        with pytest.raises(DirectoryError, match="1 to 366 days"):
            site.directory.issue_portal_link("acme", days, shows_invoices=True)
    made, _ = site.directory.issue_portal_link("acme", LINK_DAYS, shows_invoices=False)
    assert (made.state, made.shows_invoices) == ("active", False)


def test_the_control_room_makes_a_link_shows_it_once_and_takes_it_back(app: Starlette, site: Site) -> None:
    room = signed_in(app, site)
    made = room.fill("/tenants/acme/portal", {"days": "7", "once": "mark"})
    link = made.text.partition('class="secret">')[2].partition("<")[0]
    assert link.startswith("http://127.0.0.1:3001/portal/open?link=")
    assert link not in room.get("/tenants/acme/portal").text
    assert room.post("/tenants/acme/portal", {"days": "7", "once": "mark"}).status == 303, "sent again"
    (found,) = site.directory.list_portal_links("acme")
    browser = come_by(app, link.removeprefix("http://127.0.0.1:3001"))
    assert room.post("/tenants/acme/portal", {"days": "a"}).status == 422
    assert room.post("/tenants/acme/portal/terms", {"password": "short"}).status == 422
    assert room.post("/tenants/acme/portal/terms", {"may_rotate": "on", "password": WORDS}).status == 303
    assert browser.get("/portal").location == "/portal/password"
    assert room.post("/tenants/acme/portal/terms", {"no_password": "on"}).status == 303
    assert browser.get("/portal").status == 200
    assert room.post(f"/tenants/globex/portal/links/{found.link_id}/revoke").status == 303
    assert browser.get("/portal").status == 200, "a link is revoked as the client's whose it is"
    assert room.post(f"/tenants/acme/portal/links/{found.link_id}/revoke").status == 303
    assert browser.get("/portal").status == 401
