"""A site with some clients, keys, budgets and rows; nothing runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette

from tenantry.control.site import Site, ensure_sandbox_credential, open_site
from tenantry.settings import load_settings
from tenantry.storage.directory.tenants import TenantChange
from tenantry.web.app import control_app
from tests.template import init_from_template


def make_site(folder: Path) -> Site:
    settings = load_settings(None, {"TENANTRY_DATA_DIR": str(folder / "data"), "TENANTRY_TIME_ZONE": "Europe/Berlin"})
    init_from_template(settings)
    made = open_site(settings)
    ensure_sandbox_credential(made, "http://127.0.0.1:1", "sandbox-canary-shared")
    for slug, month in (("acme", 50), ("globex", None)):
        made.directory.create_tenant(slug, slug.title(), "standard")
        made.directory.bind_credential(slug, "sandbox")
        made.directory.issue_key(slug, "website")
        if month is not None:
            made.directory.set_tenant(slug, TenantChange(budgets={"month": month * 10**9}))
    return made


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path)
    yield made
    made.engine.dispose()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same for tests that change nothing."""
    made = make_site(tmp_path_factory.mktemp("site"))
    yield made
    made.engine.dispose()


@pytest.fixture
def app(site: Site) -> Starlette:
    return control_app(site)


@pytest.fixture(scope="module")
def shared_app(shared: Site) -> Starlette:
    return control_app(shared)
