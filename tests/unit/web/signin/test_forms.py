"""What a form has to bring, where one goes on afterwards, and what every answer tells the browser."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import quote

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from tenantry.control.site import Site
from tenantry.web.pages_base import forms
from tenantry.web.pages_base.forms import FORM_BYTES_MAX
from tenantry.web.pages_base.navigation import ENTRIES
from tenantry.web.signin.places import own_path, with_next
from tests.browser import Browser, add_person, signed_in

OPEN_PAGES = {"/signin", "/signin/totp", "/welcome", "/signin/oidc", "/signin/oidc/done"}
OF_PROGRAMS = ("/api/", "/metrics", "/healthz", "/tls/ask", "/static/")
# They have a door of their own: tests/unit/web/portal.
OF_CLIENTS = ("/portal", "/status")


def paths(app: Starlette, method: str) -> list[str]:
    """Of pages and forms, with somebody's name in the place of a parameter."""
    found = [one for one in app.routes if isinstance(one, Route) and method in (one.methods or ())]
    return [one.path.replace("{name}", "ben") for one in found if not one.path.startswith(OF_PROGRAMS + OF_CLIENTS)]


def test_every_page_but_the_open_ones_leads_to_the_sign_in(app: Starlette) -> None:
    found = paths(app, "GET")
    assert len(found) >= 9
    for path in found:
        answer = Browser(app).get(path)
        if path in OPEN_PAGES:
            assert not answer.location.startswith("/signin?"), path
        else:
            assert (answer.status, answer.location.partition("?")[0]) == (303, "/signin"), path


def test_every_form_wants_the_token_of_its_own_session(app: Starlette, site: Site) -> None:
    add_person(site, "ben")
    browser, other = signed_in(app, site), signed_in(app, site)
    stale = browser.token
    other.get("/account")
    visitor = Browser(app)
    visitor.get("/signin")
    found = paths(app, "POST")
    assert len(found) >= 15
    before = [row for row in site.directory.list_audit() if row.action != "person.sign_in"]
    for path in found:
        sender = visitor if path in OPEN_PAGES else browser
        for token in ("", "0" * 64, other.token, "\xe9", stale if sender is visitor else visitor.token):
            answer = sender.post(path, {"csrf": token, "name": "ben", "password": "x", "session": "others"})
            assert answer.status == 403, (path, token)
        nothing = Browser(app).post(path, {"csrf": other.token})
        assert nothing.status in (303, 403), path
    assert [row for row in site.directory.list_audit() if row.action != "person.sign_in"] == before


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:3001"},
    ],
)
def test_a_form_of_another_site_does_nothing_though_its_token_is_right(
    app: Starlette, site: Site, headers: dict[str, str]
) -> None:
    browser = signed_in(app, site)
    assert browser.post("/signout", **headers).status == 403
    assert browser.get("/account").status == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:3001", 303),
        ("http://127.0.0.1:3002", 403),
        ("https://127.0.0.1:3001", 403),
        ("https://evil.example", 403),
        ("null", 403),
        (None, 303),
    ],
)
def test_a_browser_that_tells_no_site_tells_its_origin(
    app: Starlette, site: Site, origin: str | None, status: int
) -> None:
    browser = signed_in(app, site)
    headers = {"content-type": "application/x-www-form-urlencoded"} | ({"origin": origin} if origin else {})
    assert browser.ask("POST", "/signout", headers, f"csrf={browser.token}".encode()).status == status


def test_what_is_no_form_is_refused(app: Starlette, site: Site) -> None:
    browser = signed_in(app, site)
    own = {"sec-fetch-site": "same-origin", "x-csrf-token": browser.token, "accept": "text/html"}
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert browser.ask("POST", "/signout", own | {"content-type": "application/json"}, b"{}").status == 415
    assert browser.ask("POST", "/signout", own | form, b"a=" + b"x" * FORM_BYTES_MAX).status == 413
    assert browser.ask("POST", "/signout", own | form, b"&".join([b"a=1"] * 2000)).status == 400
    assert browser.ask("POST", "/signout", own | form, b"\xff\xfe").status == 400
    assert browser.ask("POST", "/signout", own | form, b"").status == 303, "the header is enough, as htmx sends it"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/people", "/people"),
        ("/people?x=1&y=%2F%2Fevil", "/people?x=1&y=%2F%2Fevil"),
        ("/a//b", "/a//b"),
        (None, "/"),
        ("", "/"),
        ("people", "/"),
        ("//evil.example", "/"),
        ("///evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("/\n/evil.example", "/"),
        (" //evil.example", "/"),
        ("https://evil.example", "/"),
        ("https:evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("data:text/html,x", "/"),
        ("/%0d%0aset-cookie:x=1", "/%0d%0aset-cookie:x=1"),
        ("/\r\nset-cookie: x=1", "/"),
        ("/p\u0430th", "/"),
        ("/" + "x" * 600, "/"),
        ("http://127.0.0.1:3001/people", "/"),
        ("/[::1]", "/[::1]"),
        ("//[::1", "/"),
        ("/signin", "/"),
        ("/signin?next=/signin", "/"),
        ("/signout", "/"),
        ("/welcome?link=x", "/"),
    ],
)
def test_one_goes_on_at_a_path_of_this_site_and_nowhere_else(text: str | None, path: str) -> None:
    assert own_path(text) == path
    assert with_next("/signin", text or "") == ("/signin" if path == "/" else f"/signin?next={quote(path, safe='/')}")


def test_a_form_that_names_another_site_to_go_on_at_leads_to_the_first_page(app: Starlette, site: Site) -> None:
    add_person(site, hashed=app.state.passwords.hash("correct horse battery"))
    for text in ("//evil.example", "/\\evil.example", "https://evil.example", "/\r\nset-cookie: x=1"):
        browser = Browser(app)
        assert f'value="{text}"' not in browser.get(f"/signin?next={quote(text)}").text
        answer = browser.post("/signin", {"name": "ana", "password": "correct horse battery", "next": text})
        assert (answer.status, answer.location) == (303, "/")


def test_every_answer_tells_the_browser_what_it_may_do(app: Starlette, site: Site) -> None:
    add_person(site, "ben")
    browser = signed_in(app, site)
    visitor = Browser(app)
    found = [*paths(app, "GET"), "/healthz", "/nothing", "/api/v1/tenants", "/static/nothing.css", "/static/"]
    for asker in (browser, visitor, Browser(app, host="evil.example"), Browser(app, scheme="https", host="localhost")):
        for path in found:
            answer = asker.get(path)
            policy = answer.header("content-security-policy") or ""
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';"), path
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert "*" not in policy
            assert answer.header("x-content-type-options") == "nosniff"
            assert answer.header("referrer-policy") == "no-referrer"
            assert answer.header("cross-origin-opener-policy") == "same-origin"
            assert answer.header("cross-origin-resource-policy") == "same-origin"
            assert "camera=()" in (answer.header("permissions-policy") or "")
            assert answer.header("cache-control") == "no-store", path
            assert (answer.header("strict-transport-security") is not None) == (asker.scheme == "https"), path
            assert [name for name, _ in answer.headers].count("cache-control") == 1


def test_no_page_has_a_script_or_a_style_of_its_own(app: Starlette, site: Site) -> None:
    add_person(site, "ben")
    browser = signed_in(app, site)
    pages = [Browser(app).get("/signin"), Browser(app).get("/welcome?link=x")]
    pages += [browser.get(path) for path in ("/account", "/people", "/people/ben", "/signin/again", "/nothing")]
    for answer in pages:
        text = answer.text.lower()
        assert "<style" not in text
        assert " style=" not in text
        assert "<script>" not in text
        assert "javascript:" not in text
        assert " onclick=" not in text
        assert "//" not in text.replace("http://www.w3.org/2000/svg", "").replace("<!doctype", "").replace(
            "http://127.0.0.1:3001", ""
        )
        for part in ("<html lang=", "<title>", '<main id="content"', 'name="viewport"'):
            assert part in text
        assert text.count("<h1>") == 1


def test_whatever_somebody_is_called_is_shown_and_never_run(app: Starlette, site: Site) -> None:
    site.directory.create_tenant("acme", "<script>alert(1)</script>", "standard")
    browser = signed_in(app, site)
    browser.get("/people")
    for text in ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}"):
        answer = browser.post("/people", {"name": text, "email": text, "role": text})
        assert answer.status == 422
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        assert "49" not in answer.shown


def test_each_entry_of_the_navigation_is_a_page(app: Starlette) -> None:
    known = paths(app, "GET")
    assert all(entry.path in known for entry in ENTRIES)


def test_a_form_that_does_not_come_is_not_waited_for(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "FORM_SECONDS_MAX", 0.1)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return await asyncio.sleep(0.01, {"type": "http.request", "body": b"a", "more_body": True})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/signin",
        "raw_path": b"/signin",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"accept", b"text/html")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 3001),
        "scheme": "http",
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
        "root_path": "",
    }
    asyncio.run(asyncio.wait_for(app(scope, receive, send), 10))
    assert sent[0]["status"] == 408


def test_a_nul_is_refused_wherever_it_comes(app: Starlette, site: Site) -> None:
    visitor, browser = Browser(app), signed_in(app, site)
    visitor.get("/signin")
    for name in ("\0", "an\0a"):
        assert visitor.fill("/signin", {"name": name, "password": "x"}).status == 400
    for path in paths_with_names(app):
        assert browser.get(path.replace("{}", "an\0a")).status == 404, path
    for path in ("/audit?actor=%00ana", "/requests?q=%00", "/gateways?q=%00"):
        assert browser.get(path).status == 200, path


def paths_with_names(app: Starlette) -> list[str]:
    found = [one.path for one in app.routes if isinstance(one, Route) and "GET" in (one.methods or ())]
    return [re.sub(r"{[^}]+}", "{}", one) for one in found if "{" in one]
