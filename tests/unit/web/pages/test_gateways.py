"""Gateways, cells and control processes on a page: who lives, who grants for whom, what is in doubt; and moving."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import insert, update
from starlette.applications import Starlette

from tenantry.control.controls import ControlView
from tenantry.control.site import Site
from tenantry.domain.roles import Role
from tenantry.ledger.live import LiveGateway
from tenantry.storage.cell_tables import cells
from tenantry.storage.cells import CellStore
from tenantry.storage.columns import now_utc
from tenantry.storage.directory import DirectoryError
from tenantry.storage.directory.gateways import LIVES
from tenantry.storage.tables import journals
from tenantry.web.pages import gateways
from tests.browser import Browser, add_person, signed_in
from tests.gateways import make_gateways


@pytest.fixture
def store(site: Site) -> CellStore:
    return make_gateways(site, "acme")


def move_path(site: Site) -> str:
    (cell,) = site.directory.list_cells()
    return f"/gateways/cells/{cell.name}/move"


def seen_to(store: CellStore, to: str) -> None:
    """What the owner does to give a cell has tests of its own."""
    with store.engine.begin() as connection:
        connection.execute(update(cells).values(gateway_id=to, wanted_by=None))


def test_a_gateway_that_is_by_itself_shares_nothing_and_the_page_says_so(app: Starlette, site: Site) -> None:
    shown = signed_in(app, site).get("/gateways").shown
    assert "One gateway serves by itself" in shown
    assert "Control processes" in shown


def test_who_lives_what_it_owns_and_what_of_the_dead_is_in_doubt_is_shown(
    app: Starlette, site: Site, store: CellStore
) -> None:
    shown = signed_in(app, site).get("/gateways").shown
    assert "gw-a lives machine-1 127.0.0.1:3101" in shown
    assert "#ab" not in shown, "what proves an address is no part of it"
    assert "sandbox gw-a" in shown
    assert "gw-dead on machine-0 has ended, and its journal is not booked to its end: of the $2.00" in shown
    assert "tenantry gateways forget gw-dead" in shown


def test_what_was_removed_is_no_cell_and_no_client_of_a_gateway(site: Site, store: CellStore) -> None:
    def owned() -> tuple[int, int]:
        return next((one.cells, one.tenants) for one in site.directory.list_gateways() if one.gateway_id == "gw-a")

    assert owned() == (1, 1)
    site.directory.remove_tenant("acme", None, "left")
    with site.engine.begin() as connection:
        connection.execute(insert(cells).values(name="crd_gone", gateway_id="gw-a", epoch=1, since_us=0))
    assert owned() == (1, 0)
    assert [one.capacity for one in site.directory.list_cells()] == ["sandbox"]


def test_one_that_serves_by_itself_where_there_were_several_is_not_nobody(
    app: Starlette, site: Site, store: CellStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.end(["gw-a", "gw-b"])
    assert "nobody is served until" in signed_in(app, site).get("/gateways").shown
    live = [LiveGateway("gw-lone", None, None, 0.0)]
    monkeypatch.setattr(gateways, "health_everywhere", lambda *_: live)
    shown = signed_in(app, site).get("/gateways").shown
    assert "gw-lone serves by itself, and grants for every client" in shown
    assert "nobody is served until" not in shown
    assert "who gets the next request" not in shown


def test_a_control_that_has_ended_does_nothing(
    app: Starlette, site: Site, store: CellStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = ControlView("ctl_1", "machine-1", 77, "http://127.0.0.1:3001", None, "ended", False, False)
    monkeypatch.setattr(gateways, "list_controls", lambda *_: [ended])
    assert "stands by" not in signed_in(app, site).get("/gateways").shown
    monkeypatch.setattr(gateways, "list_controls", lambda *_: [replace(ended, state="lives")])
    assert "stands by" in signed_in(app, site).get("/gateways").shown


def test_nothing_is_in_doubt_of_who_was_booked_to_the_end_and_of_who_was_declared_lost(
    app: Starlette, site: Site, store: CellStore
) -> None:
    site.directory.forget_gateway("gw-dead")
    shown = signed_in(app, site).get("/gateways").shown
    assert "Declared lost" in shown
    assert "journal is not booked" not in shown
    store.end(["gw-b"])
    with site.engine.begin() as connection:
        values = {"run_id": "gw-b", "file_number": 0, "offset": 0, "seq": 0, "head_hash": "", "damaged_lines": 0}
        values["closed_at"] = now_utc()
        connection.execute(insert(journals).values(values))
    shown = signed_in(app, site).get("/gateways").shown
    assert "1 earlier one, ended and booked" in shown
    assert "journal is not booked" not in shown


def test_a_cell_is_moved_and_the_page_follows_until_its_owner_has_seen_to_it(
    app: Starlette, site: Site, store: CellStore
) -> None:
    browser = signed_in(app, site)
    asked = browser.get(move_path(site))
    assert 'value="gw-b"' in asked.text
    assert 'value="gw-a"' not in asked.text, "it has it already"
    page = browser.follow(browser.post(move_path(site), {"to": "gw-b"}))
    assert "sandbox goes to gw-b as soon as gw-a sees to it" in page.shown
    assert "sandbox gw-a goes to gw-b" in page.shown
    assert 'hx-get="/parts/gateways' in page.text
    (line,) = site.directory.newest_audit(1, action="cell.move")
    assert line.actor == "web:ana"
    seen_to(store, "gw-b")
    after = browser.get("/parts/gateways")
    assert "sandbox gw-b" in after.shown
    assert "hx-get" not in after.text


def test_nobody_asks_for_a_move_that_the_audit_log_has_not(
    site: Site, store: CellStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(site.directory, "_audit", full)
    with pytest.raises(RuntimeError, match="full"):
        site.directory.move_cell("sandbox", "gw-b")
    assert store.wishes("gw-a") == []


def test_a_gateway_that_lives_is_not_declared_lost(site: Site, store: CellStore) -> None:
    with pytest.raises(DirectoryError, match="gw-a lives"):
        site.directory.forget_gateway("gw-a")
    assert site.directory.get_gateway("gw-a").state == LIVES


def test_a_move_that_cannot_be_is_refused_in_words_and_changes_nothing(
    app: Starlette, site: Site, store: CellStore
) -> None:
    browser = signed_in(app, site)
    browser.get(move_path(site))
    for to in ("", "gw-a", "gw-dead", "gw-nobody"):
        answer = browser.post(move_path(site), {"to": to})
        assert answer.status == 422, to
        assert 'role="alert"' in answer.text, to
    assert browser.get("/gateways/cells/crd_none/move").status == 404
    viewer = signed_in(app, site, add_person(site, "vera", Role.VIEWER))
    assert "/move" not in viewer.get("/gateways").text
    assert viewer.post(move_path(site), {"to": "gw-b"}).status == 403
    assert store.wishes("gw-a") == []


def test_cells_are_found_by_their_name_their_clients_and_their_owner_and_many_are_cut_short(
    app: Starlette, site: Site, store: CellStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser: Browser = signed_in(app, site)
    for typed, is_there in (("SAND", True), ("acme", True), ("gw-a", True), ("globex", False)):
        assert ("sandbox gw-a" in browser.get(f"/gateways?q={typed}").shown) is is_there, typed
    assert "None is so" in browser.get("/gateways?q=globex").shown
    monkeypatch.setattr(gateways, "CELLS_SHOWN", 0)
    assert "sandbox gw-a" not in browser.get("/gateways").shown
