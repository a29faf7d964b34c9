"""Two clients with rows, and what must never be told to either."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette

from tenantry.control.people.passwords import Passwords
from tenantry.control.site import Site, open_site
from tenantry.settings import load_settings
from tenantry.storage.directory.tenants import TenantChange
from tenantry.web.app import control_app
from tests.browser import Browser
from tests.template import copy_data
from tests.unit.ledger.books import MODEL, Attempt, attempt, book
from tests.unit.web.pages.conftest import make_site

# Whatever is of others or of the agency alone has such a word in it.
CANARY = "canary"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of such a site, to be copied."""
    folder = tmp_path_factory.mktemp("filled")
    made = make_site(folder)
    fill(made, folder)
    made.engine.dispose()
    return folder


@pytest.fixture
def site(filled: Path, tmp_path: Path) -> Iterator[Site]:
    copy_data(filled / "data", tmp_path / "data")
    environ = {"TENANTRY_DATA_DIR": str(tmp_path / "data"), "TENANTRY_TIME_ZONE": "Europe/Berlin"}
    made = open_site(load_settings(None, environ))
    yield made
    made.engine.dispose()


def fill(site: Site, folder: Path) -> None:
    """Rows of this month; names and labels of the other client, of credentials and of plans are canaries."""
    directory, now_us = site.directory, time.time_ns() // 1000
    directory.add_credential("canary-credential", "sk-ant-api03-" + "c" * 40, "anthropic", shared=True)
    directory.bind_credential("acme", "canary-credential")
    directory.create_tenant("canary-corp", "Canary Corp", "standard")
    directory.issue_key("canary-corp", "canary key")
    directory.put_plan("canary-plan", {"fee_nanos": 79 * 10**9, "markup_percent": "37"})
    directory.set_tenant("acme", TenantChange(plan="canary-plan", contact="canary-contact"))
    rows: list[Attempt] = []
    for number, (slug, model) in enumerate((("acme", MODEL), ("canary-corp", "claude-canary"))):
        tenant, key = directory.get_tenant(slug), directory.list_keys(slug)[0]
        rows.append(attempt(number, now_us + number, tenant.tenant_id, key=key.key_id, model_served=model))
    book(site.engine, folder, rows)


@pytest.fixture
def app(site: Site) -> Starlette:
    """With passwords that take less memory and time than those of a real one."""
    made = control_app(site)
    made.state.passwords = Passwords(memory_kib=64, passes=1)
    return made


def link_for(site: Site, slug: str = "acme", *, invoices: bool = True) -> str:
    """The path of a new link."""
    return f"/portal/open?link={site.directory.issue_portal_link(slug, 30, shows_invoices=invoices)[1]}"


def come_by(app: Starlette, path: str) -> Browser:
    """A browser that has opened a link."""
    browser = Browser(app)
    assert browser.get(path).status == 303
    return browser
