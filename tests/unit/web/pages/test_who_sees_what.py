"""Every route of the pages x every role, also confined to one client: what may not be done is refused and not shown."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update
from starlette.applications import Starlette

from tenantry.control.site import Site
from tenantry.domain.roles import ALLOWED, OF_ONE_TENANT, Permission, Role
from tenantry.storage.columns import now_utc
from tenantry.storage.people_tables import people_sessions
from tenantry.storage.tables import exports
from tenantry.web.pages import routes
from tests.browser import Browser, add_person, signed_in
from tests.unit.ledger.books import attempt, book

Kept = tuple[str, str, Permission]


@pytest.fixture(scope="module")
def table() -> list[Kept]:
    """Every route: method, path, permission."""
    kept: list[Kept] = []

    def keep(method: str) -> Callable[..., None]:
        def make(path: str, _handler: Any, permission: Permission, **_more: Any) -> None:
            kept.append((method, path, permission))

        return make

    patch = pytest.MonkeyPatch()
    patch.setattr(routes, "page", keep("GET"))
    patch.setattr(routes, "form", keep("POST"))
    routes.page_routes()
    patch.undo()
    return kept


def filled(path: str, site: Site, slug: str = "acme") -> str:
    key_id = site.directory.list_keys(slug)[0].key_id
    found = {
        "slug": slug,
        "key_id": key_id,
        "name": "standard",
        "request_id": "req_x",
        "form": "md",
        "slot": "writer",
        "number:path": "INV-1",
    }
    for name, value in found.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def asked(browser: Browser, method: str, path: str) -> int:
    return (browser.get(path) if method == "GET" else browser.post(path)).status


@pytest.mark.parametrize("role", list(Role))
def test_a_role_may_what_its_row_of_the_table_says(
    shared_app: Starlette, shared: Site, table: list[Kept], role: Role
) -> None:
    browser = signed_in(shared_app, shared, add_person(shared, f"p-{role}", role))
    for method, path, permission in table:
        if path == "/settings" and role is not Role.VIEWER:  # `doctor` takes a second
            continue
        if permission not in ALLOWED[role]:
            assert asked(browser, method, filled(path, shared)) == 403, (method, path)
        elif method == "GET":
            assert asked(browser, method, filled(path, shared)) != 403, (method, path)


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.BILLING, Role.VIEWER])
def test_who_looks_after_one_client_gets_at_no_other(
    shared_app: Starlette, shared: Site, table: list[Kept], role: Role
) -> None:
    browser = signed_in(shared_app, shared, add_person(shared, f"s-{role}", role, frozenset({"acme"})))
    for method, path, permission in table:
        if path == "/settings" and role is not Role.VIEWER:  # `doctor` takes a second
            continue
        if "{slug}" in path:
            assert asked(browser, method, filled(path, shared, "globex")) == 404, (method, path)
        elif permission not in OF_ONE_TENANT or permission not in ALLOWED[role]:
            assert asked(browser, method, filled(path, shared)) == 403, (method, path)
        elif method == "GET":
            answer = browser.get(filled(path, shared))
            assert "globex" not in answer.text.lower(), (path, answer.shown)


def test_who_looks_after_one_client_changes_no_tier_and_makes_no_client(shared_app: Starlette, shared: Site) -> None:
    browser = signed_in(shared_app, shared, add_person(shared, "sam", Role.OPERATOR, frozenset({"acme"})))
    before = shared.directory.get_tier("standard")
    assert browser.post("/tiers/standard", {"sessions_max": "99"}).status == 403
    assert browser.post("/tiers", {"name": "mine"}).status == 403
    assert browser.post("/provision", {"name": "New", "credential": "sandbox"}).status == 403
    assert shared.directory.get_tier("standard") == before
    assert len(shared.directory.list_tenants()) == 2


def test_a_key_of_another_client_is_not_there_under_ones_own(shared_app: Starlette, shared: Site) -> None:
    browser = signed_in(shared_app, shared, add_person(shared, "sue", Role.OPERATOR, frozenset({"acme"})))
    foreign = shared.directory.list_keys("globex")[0].key_id
    for what in ("rotate", "revoke"):
        assert browser.get(f"/tenants/acme/keys/{foreign}/{what}").status == 404
        assert browser.post(f"/tenants/acme/keys/{foreign}/{what}", {"grace": "0", "once": "x"}).status == 404
    assert shared.directory.list_keys("globex")[0].status.value == "active"


def test_margins_and_actions_are_shown_to_those_alone_who_may(shared_app: Starlette, shared: Site) -> None:
    owner = signed_in(shared_app, shared)
    viewer = signed_in(shared_app, shared, add_person(shared, "vera", Role.VIEWER))
    assert "Plans bring this month" in owner.get("/").shown
    assert "Plans bring this month" not in viewer.get("/").shown
    assert "Margin" not in viewer.get("/tenants").shown
    page = viewer.get("/tenants/acme").text
    for path in ("/disable", "/keys/new", "/limits", "/credential", "/rotate"):
        assert f'href="/tenants/acme{path}' not in page
    assert "/rotate" not in page
    assert "Provision" not in viewer.get("/tenants").shown


def test_what_changes_anything_needs_more_than_to_look(table: list[Kept]) -> None:
    """Beside the table of routes, which a test of roles would follow whatever it said."""
    forms = {path: permission for method, path, permission in table if method == "POST"}
    assert [path for path, one in forms.items() if one.endswith(".read")] == ["/audit/verify"]
    wanted = {
        "keys": Permission.KEYS_CHANGE,
        "slots": Permission.KEYS_CHANGE,
        "limits": Permission.LIMITS_CHANGE,
        "tiers": Permission.LIMITS_CHANGE,
        "budget": Permission.BUDGETS_CHANGE,
        "credential": Permission.CREDENTIALS_CHANGE,
        "credentials": Permission.CREDENTIALS_CHANGE,
        "plan": Permission.PLANS_CHANGE,
        "plans": Permission.PLANS_CHANGE,
        "alerts": Permission.ALERTS_CHANGE,
        "details": Permission.TENANTS_CHANGE,
        "disable": Permission.TENANTS_CHANGE,
        "enable": Permission.TENANTS_CHANGE,
        "provision": Permission.TENANTS_CHANGE,
        "isolation": Permission.PROOF_RUN,
        "cells": Permission.GATEWAYS_CHANGE,
        "prices": Permission.PRICES_CHANGE,
        "recompute": Permission.LEDGER_CORRECT,
        "invoices": Permission.INVOICES_ISSUE,
        "invoice": Permission.INVOICES_ISSUE,
        "billing": Permission.INVOICES_ISSUE,
    }
    for path, permission in forms.items():
        for word in set(path.split("/")) & set(wanted):
            assert permission is wanted[word], path


def test_what_is_the_agencys_own_is_looked_at_by_who_may_see_it(table: list[Kept]) -> None:
    """Beside the table of routes, as above: what clients pay, what is earned, who holds which key."""
    wanted = {
        "margins": {Permission.MARGIN_READ},
        "plan-simulation": {Permission.MARGIN_READ},
        "invoices": {Permission.INVOICES_READ, Permission.INVOICES_ISSUE},
        "invoice": {Permission.INVOICES_READ},
        "billing": {Permission.INVOICES_READ, Permission.INVOICES_ISSUE},
        "recompute": {Permission.LEDGER_CORRECT},
        "credentials": {Permission.CREDENTIALS_READ, Permission.CREDENTIALS_CHANGE},
        "audit": {Permission.AUDIT_READ},
        "isolation": {Permission.PROOF_RUN},
        "portal": {Permission.TENANTS_CHANGE},
        "keys": {Permission.KEYS_CHANGE},
        "slots": {Permission.KEYS_CHANGE},
    }
    looked = [(path, permission) for method, path, permission in table if method == "GET"]
    words = {path: set(re.split(r"[/.]", path)) & set(wanted) for path, _ in looked}
    assert {word for some in words.values() for word in some} == set(wanted)
    for path, permission in looked:
        for word in words[path]:
            assert permission in wanted[word], path


def test_a_request_of_another_client_is_not_there(app: Starlette, site: Site, tmp_path: Path) -> None:
    now_us = time.time_ns() // 1000
    ids = {slug: site.directory.get_tenant(slug).tenant_id for slug in ("acme", "globex")}
    book(site.engine, tmp_path, [attempt(number, now_us, one) for number, one in enumerate(ids.values())])
    browser = signed_in(app, site, add_person(site, "sia", Role.VIEWER, frozenset({"acme"})))
    assert browser.get("/requests/req_0").status == 200
    for name in ("req_1", "att_1", "req_up_1"):
        answer = browser.get(f"/requests/{name}")
        assert answer.status == 404
        assert answer.shown.replace(name, "") == browser.get("/requests/req_9").shown.replace("req_9", "")
    assert signed_in(app, site).get("/requests/req_1").status == 200


def test_what_is_dangerous_is_done_by_who_has_just_shown_that_it_is_them(app: Starlette, site: Site) -> None:
    """Whoever finds an open browser gets at no upstream's key, and lets nobody in."""
    browser = signed_in(app, site)
    add_person(site, "ben", Role.VIEWER)
    with site.engine.begin() as connection:
        connection.execute(update(people_sessions).values(proved_at=now_utc() - timedelta(hours=1)))
    paths = ["/credentials/new", "/credentials/sandbox/replace", "/people"]
    paths += [f"/people/ben/{what}" for what in ("link", "change", "disable", "enable", "totp-off", "delete")]
    paths += ["/account/totp/new", "/account/totp/off", "/account/recovery"]
    for path in paths:
        answer = browser.post(path, {"name": "eve", "role": "owner", "secret": "sandbox-canary-two"})
        assert (answer.status, answer.location.partition("?")[0]) == (303, "/signin/again"), path
    assert {one.name for one in site.directory.list_people()} == {"ana", "ben"}


def test_an_export_is_had_by_who_sees_its_client(app: Starlette, site: Site) -> None:
    ids = {slug: site.directory.get_tenant(slug).tenant_id for slug in ("acme", "globex")} | {"all": ""}
    folder = site.settings.data_dir / "exports"
    folder.mkdir(exist_ok=True)
    with site.engine.begin() as connection:
        for slug, tenant_id in ids.items():
            (folder / f"{slug}.csv").write_text(slug)
            values = {"period": "2026-10", "tenant_id": tenant_id, "file_name": f"{slug}.csv", "row_count": 1}
            values |= {"cost_nanos": 1, "sha256": "0" * 64, "written_at": now_utc()}
            connection.execute(insert(exports).values(values))
    own = signed_in(app, site, add_person(site, "sia", Role.OPERATOR, frozenset({"acme"})))
    names = ("acme", "globex", "all", "none")
    assert [own.get(f"/exports/file/{name}.csv").status for name in names] == [200, 404, 404, 404]
    made = [
        own.get(f"/exports/make?period=2026-10&form=csv{more}").status
        for more in ("&tenant=acme", "&tenant=globex", "")
    ]
    assert made == [200, 404, 404]
    owner = signed_in(app, site)
    assert [owner.get(f"/exports/file/{name}.csv").status for name in names] == [200, 200, 200, 404]
