"""A request that the gateway refused is found by its id: on the pages, in the API and by command."""

from __future__ import annotations

import json
import os
import time

import pytest
from starlette.applications import Starlette

from tenantry.control.site import Site
from tenantry.domain.attempts import RefusedRequest, Tally
from tenantry.domain.roles import Role
from tenantry.ledger.refused import keep_refused
from tests.browser import add_person, signed_in
from tests.spawner import run


@pytest.fixture
def refused(site: Site) -> RefusedRequest:
    [key] = site.directory.list_keys("acme")
    tenant_id = site.directory.get_tenant("acme").tenant_id
    at_us = time.time_ns() // 1000
    told = RefusedRequest("req_0a", tenant_id, key.key_id, at_us, 429, "billing_error", "key.budget", "<b>model</b>")
    nobody = RefusedRequest("req_0b", "", "", at_us, 401, "authentication_error", "", "")
    foreign = RefusedRequest("req_0d", "", "", at_us, 403, "permission_error", "", "")
    with site.engine.begin() as connection:
        keep_refused(connection, [Tally([], [], [told, nobody, foreign])])
    return told


def test_the_page_of_requests_finds_it_by_its_id(app: Starlette, site: Site, refused: RefusedRequest) -> None:
    browser = signed_in(app, site)
    assert browser.get("/requests?id=%20req_0a").location == "/requests/req_0a"
    page = browser.get("/requests/req_0a")
    for words in ("acme , key website", "key.budget", "429", "nothing went upstream", "<b>model</b>"):
        assert words in page.shown
    assert "<b>model</b>" not in page.text
    assert 'href="/tenants/acme/budget"' in page.text
    assert "nobody's key" in browser.get("/requests/req_0b").shown
    foreign = browser.get("/requests/req_0d").shown
    assert "a key of another client than the request names" in foreign
    assert "nobody's key" not in foreign
    missing = browser.get("/requests/req_0c")
    assert missing.status == 404
    assert "nor among the newest that were refused" in missing.shown


def test_who_looks_after_another_client_is_told_of_none(app: Starlette, site: Site, refused: RefusedRequest) -> None:
    of_globex = signed_in(app, site, add_person(site, "g@example.org", Role.OPERATOR, ["globex"]))
    assert [of_globex.get(f"/requests/{name}").status for name in ("req_0a", "req_0b", "req_0c")] == [404] * 3
    of_acme = signed_in(app, site, add_person(site, "a@example.org", Role.OPERATOR, ["acme"]))
    assert of_acme.get("/requests/req_0a").status == 200
    assert of_acme.get("/requests/req_0b").status == 404


def test_the_command_says_why(site: Site, refused: RefusedRequest) -> None:
    settings = site.settings
    environ = os.environ | {"TENANTRY_DATA_DIR": str(settings.data_dir), "TENANTRY_STORE_URL": settings.store_url}
    told = run("ledger", "show", "req_0a", "--json", env=environ, cwd=site.settings.data_dir)
    assert json.loads(told.stdout)["reason"] == "key.budget"
    said = run("ledger", "show", "req_0b", env=environ, cwd=site.settings.data_dir)
    assert "nobody (no key of this site)" in said.stdout
    foreign = run("ledger", "show", "req_0d", env=environ, cwd=site.settings.data_dir)
    assert "a key of another client than the request names" in foreign.stdout
    assert run("ledger", "show", "req_0c", env=environ, cwd=site.settings.data_dir).returncode == 1
