"""What clients, upstreams and people may call themselves does nothing on any page, and in no header."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.applications import Starlette

from tenantry.control.site import Site
from tenantry.domain.alerts import unpriced_alert
from tenantry.ledger.outbox import Outbox
from tenantry.storage.directory.tenants import TenantChange
from tenantry.web.app import control_app
from tests.browser import signed_in
from tests.unit.ledger.books import START_US, attempt, book
from tests.unit.web.pages.conftest import make_site
from tests.unit.web.pages.test_every_page import PAGES

EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus='alert(1)",
    "</title><svg/onload=alert(1)>",
    "{{7*7}}${7*7}",
    "javascript:alert(1)",
)
# Moves what stands around it (CVE-2021-42574).
OVERRIDE = "gnp.\u202etxt"


class Looked(HTMLParser):
    """Whatever could run on a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag in ("script", "style", "iframe", "object", "embed", "base") and not values.get("src", "").startswith(
            "/static/"
        ):
            self.found.append(f"<{tag} {values}>")
        if tag == "img" and not values.get("src", "").startswith(("/static/", "data:")):
            self.found.append(f"<img {values}>")
        for name, value in values.items():
            if name.startswith("on") or name == "style":
                self.found.append(f"{name}={value}")
            if name in ("href", "src", "action", "formaction") and not value.startswith(("/", "#", "data:image/")):
                self.found.append(f"{name}={value}")


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("evil")
    site = make_site(folder)
    directory, attempts = site.directory, []
    for number, words in enumerate((*EVIL, OVERRIDE)):
        slug = f"evil-{number}"
        tenant_id = directory.create_tenant(slug, words, "standard")
        if words.isprintable():
            directory.set_tenant(slug, TenantChange(contact=words))
            directory.bind_credential(slug, "sandbox")
        key = directory.issue_key(slug, words if words.isprintable() else "")
        attempts.append(attempt(number, START_US + number, tenant_id, key=key.key_id, model_served=words, error=words))
        Outbox(site.engine).raise_alert(unpriced_alert(words, _month()), START_US)
        directory.acting_as(f"web:{words}", words).audit(words[:60], words[:60], {"x": words})
    book(site.engine, folder, attempts)
    yield site
    site.engine.dispose()


def _month() -> object:
    from zoneinfo import ZoneInfo

    from tenantry.domain.periods import MONTH, period_of

    return period_of(MONTH, START_US, ZoneInfo("UTC"))


@pytest.fixture(scope="module")
def evil_app(evil: Site) -> Starlette:
    return control_app(evil)


def test_no_page_has_anything_that_runs(evil_app: Starlette, evil: Site) -> None:
    browser = signed_in(evil_app, evil)
    own = [
        f"/tenants/evil-{number}{rest}" for number in range(len(EVIL)) for rest in ("", "/details", "/guide", "/budget")
    ]
    stories = [f"/requests/req_{number}" for number in range(len(EVIL) + 1)]
    asked = [
        f"/requests?model={words}&key={words}&tenant={words}&from={words}"
        for words in ("%3Cscript%3E", "%22%3E%3Cimg%20src=x%3E")
    ]
    for path in (
        *PAGES,
        *own,
        *stories,
        *asked,
        "/tenants?q=%22%3E%3Cscript%3E",
        "/audit?actor=%3Cscript%3Ealert(1)%3C/script%3E",
    ):
        if path == "/settings":
            continue
        answer = browser.get(path)
        assert answer.status in (200, 400, 404), (path, answer.shown[-500:])
        looked = Looked()
        looked.feed(answer.text)
        assert not looked.found, (path, looked.found)
        assert "\u202e" not in answer.text or path.startswith("/audit?"), path


def test_a_notice_and_a_form_that_is_wrong_show_what_was_typed_and_run_nothing(evil_app: Starlette, evil: Site) -> None:
    browser = signed_in(evil_app, evil)
    for path, fields in (
        (
            "/provision",
            {"name": EVIL[1], "slug": EVIL[0], "month": EVIL[2], "credential": "sandbox", "contact": EVIL[3]},
        ),
        ("/tenants/acme/limits", {"tier": "standard", "sessions_max": EVIL[1]}),
        ("/tenants/acme/budget", {"month": EVIL[1]}),
        ("/tenants/acme/keys/new", {"label": "x", "expires_days": EVIL[1]}),
    ):
        answer = browser.post(path, fields)
        assert answer.status == 422, (path, answer.status, answer.shown[-500:])
        looked = Looked()
        looked.feed(answer.text)
        assert not looked.found, (path, looked.found)
        assert "alert(1)" in answer.text


@pytest.mark.parametrize("name", ["x%0d%0aset-cookie:%20a=b", "../../master.key", "..%2f..%2fmaster.key"])
def test_no_name_gets_into_a_header_or_out_of_a_folder(evil_app: Starlette, evil: Site, name: str) -> None:
    browser = signed_in(evil_app, evil)
    for path in (
        f"/exports/file/{name}",
        f"/invoices/{name}/file/html",
        f"/tenants/{name}/guide.md",
        f"/requests/{name}",
    ):
        answer = browser.get(path)
        assert answer.status in (404, 405), path
        assert not any(header == "set-cookie" and "a=b" in value for header, value in answer.headers)


def test_a_form_that_is_sent_to_another_place_stays_here(evil_app: Starlette, evil: Site, tmp_path: Path) -> None:
    answer = signed_in(evil_app, evil).post("/tiers", {"name": "//evil.example/x"})
    assert answer.status == 303
    assert answer.location == "/tiers"
